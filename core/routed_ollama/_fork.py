"""What a process that forks must tidy up: whoever owns locks, threads or connections registers here.

A child of ``os.fork`` has one thread and a copy of everything else: locks that other threads held stay held for ever,
writer threads are gone, sockets are shared with the parent. Objects that own such things say here what to do about it.
Windows has no fork; there this module does nothing.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final, Protocol

_PAUSE: Final = 5.0
"""Seconds a fork may wait for one object to come to rest: on a slow disk, for a batch that is being written."""

_LOCKS: Final[dict[type, Callable[[], Any]]] = {
    type(threading.Lock()): threading.Lock,
    type(threading.RLock()): threading.RLock,
}


class SurvivesFork(Protocol):
    """Something that can be brought to rest before a fork and put in order after it."""

    def before_fork(self, timeout: float) -> None:
        """Come to rest, waiting for ``timeout`` seconds at most."""

    def after_fork_in_parent(self) -> None:
        """Go on as before."""

    def after_fork_in_child(self) -> None:
        """Forget what belongs to the parent."""


_registered: weakref.WeakSet[SurvivesFork] = weakref.WeakSet()
_owners: weakref.WeakSet[object] = weakref.WeakSet()
_forking = threading.RLock()
"""Held over a fork: two threads may fork at once, and what one brought to rest the other must not set going."""


def register(survivor: SurvivesFork) -> None:
    """Have an object told about forks for as long as it lives."""
    _registered.add(survivor)


def renew_locks(owner: object) -> None:
    """In a child, give an object new locks for those that are its attributes, which a thread of the parent may hold.

    For objects whose locks only keep threads apart: what they protect must be whole at any moment.

    Example:
        >>> class Counter:
        ...     def __init__(self) -> None:
        ...         self.lock = threading.Lock()
        >>> counter = Counter()
        >>> _ = counter.lock.acquire()
        >>> renew_locks(counter)
        >>> counter.lock.locked()
        False
    """
    for name, value in list(vars(owner).items()):
        make = _LOCKS.get(type(value))
        if make is not None:
            setattr(owner, name, make())


def owns_locks(owner: object) -> None:
    """Have an object's locks renewed in every child, see ``renew_locks``, for as long as it lives."""
    _owners.add(owner)


def at_worker_end(method: weakref.WeakMethod[Callable[..., object]], *args: object) -> None:
    """Have a method called when this process ends, where it is a worker of `multiprocessing`.

    Such workers leave by ``os._exit`` without what ``atexit`` registered (CPython, ``Popen._launch``), but not without
    what `multiprocessing.util.Finalize` did. Other processes have ``atexit`` and need nothing.
    """
    util = sys.modules.get("multiprocessing.util")
    process = sys.modules.get("multiprocessing.process")
    if util is None or process is None or process.parent_process() is None:
        return

    def end() -> None:
        if (bound := method()) is not None:
            bound(*args)

    util.Finalize(None, end, exitpriority=0)


def _before() -> None:
    _forking.acquire()
    for survivor in list(_registered):
        survivor.before_fork(_PAUSE)


def _after_in_parent() -> None:
    try:
        for survivor in list(_registered):
            survivor.after_fork_in_parent()
    finally:
        _forking.release()


def _after_in_child() -> None:
    global _forking  # noqa: PLW0603 (the child's own)
    _forking = threading.RLock()
    for owner in list(_owners):
        renew_locks(owner)
    for survivor in list(_registered):
        survivor.after_fork_in_child()


if hasattr(os, "register_at_fork"):  # pragma: no branch (false on Windows only, which cannot fork)
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
