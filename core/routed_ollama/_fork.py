"""What a process that forks must tidy up: whoever owns locks, threads or connections registers here.

A child of ``os.fork`` has one thread and a copy of everything else: locks that other threads held stay held for ever,
writer threads are gone, sockets are shared with the parent. Objects that own such things say here what to do about it.
Windows has no fork; there this module does nothing.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

_PAUSE = 1.0
"""Seconds a fork may wait for one object to come to rest."""


class SurvivesFork(Protocol):
    """Something that can be brought to rest before a fork and put in order after it."""

    def before_fork(self, timeout: float) -> None:
        """Come to rest, waiting for ``timeout`` seconds at most."""

    def after_fork_in_parent(self) -> None:
        """Go on as before."""

    def after_fork_in_child(self) -> None:
        """Forget what belongs to the parent."""


_registered: weakref.WeakSet[SurvivesFork] = weakref.WeakSet()


def register(survivor: SurvivesFork) -> None:
    """Have an object told about forks for as long as it lives."""
    _registered.add(survivor)


def _before() -> None:
    for survivor in list(_registered):
        survivor.before_fork(_PAUSE)


def _after_in_parent() -> None:
    for survivor in list(_registered):
        survivor.after_fork_in_parent()


def _after_in_child() -> None:
    for survivor in list(_registered):
        survivor.after_fork_in_child()


if hasattr(os, "register_at_fork"):  # pragma: no branch (false on Windows only, which cannot fork)
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
