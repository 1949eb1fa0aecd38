"""The thread that looks after things while nobody asks."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable
from typing import Final

from routed_ollama import _fork

_EXIT_SECONDS: Final = 2.0
"""Seconds a process that ends waits for a last look."""

_with_end: weakref.WeakSet[HealthMonitor] = weakref.WeakSet()


class HealthMonitor:
    """A background thread that calls ``look`` every ``interval`` seconds, or sooner when poked.

    It starts on first use, holds its owner weakly, ends with the process or ``stop``, and starts again after a fork.

    Args:
        look: a bound method; the monitor ends when its object is gone. Must not raise.
        interval: seconds between two looks; 0 for none but when poked.
        name: of the thread.
        at_end: a bound method, called when the process ends, before a last look that is waited for, two seconds at
            most.
    """

    def __init__(
        self,
        look: Callable[[], None],
        interval: float,
        name: str = "routed-ollama-health",
        *,
        at_end: Callable[[], None] | None = None,
    ) -> None:
        self._look = weakref.WeakMethod(look, lambda _gone: self._wake.set())
        self._interval = interval
        self._name = name
        self._at_end = None if at_end is None else weakref.WeakMethod(at_end)
        self._stop = threading.Event()
        self._begin_anew()
        _fork.register(self)

    def _begin_anew(self) -> None:
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._waiting: list[threading.Event] = []
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    @property
    def running(self) -> bool:
        """Whether its thread is alive in this process."""
        return self._thread is not None and self._pid == os.getpid() and self._thread.is_alive()

    def start(self) -> None:
        """Start the thread if it does not run; does nothing after ``stop``."""
        if self._stop.is_set() or self.running:
            return
        with self._lock:
            if self.running:
                return
            self._thread = threading.Thread(
                target=_watch,
                args=(self._look, self._wake, self._stop, self._waiting, self._interval),
                name=self._name,
                daemon=True,
            )
            self._thread.start()
        if self._at_end is not None:
            _with_end.add(self)
            _fork.at_worker_end(weakref.WeakMethod(self.end))

    def poke(self) -> None:
        """Have it look now, off the caller's way."""
        self.start()
        self._wake.set()

    def end(self) -> None:
        """Do what is to be done when the process ends; nothing where the thread does not run."""
        at_end = self._at_end and self._at_end()
        if at_end is not None and self.running and not self._stop.is_set():
            at_end()
            looked = threading.Event()
            self._waiting.append(looked)
            self._wake.set()
            looked.wait(_EXIT_SECONDS)

    def stop(self) -> None:
        """End the thread for good; returns at once."""
        self._stop.set()
        self._wake.set()

    def before_fork(self, timeout: float) -> None:
        """Nothing to bring to rest: the thread looks on in the parent."""

    def after_fork_in_parent(self) -> None:
        """Nothing was stopped."""

    def after_fork_in_child(self) -> None:
        """Begin anew: a thread of the parent may hold what the old events are made of."""
        stopped, self._stop = self._stop.is_set(), threading.Event()
        if stopped:
            self._stop.set()
        self._begin_anew()


def _watch(
    look: Callable[[], Callable[[], None] | None],
    wake: threading.Event,
    stop: threading.Event,
    waiting: list[threading.Event],
    interval: float,
) -> None:
    while not stop.is_set():
        wake.wait(interval or None)
        wake.clear()
        method = look()
        if method is None:
            return
        told = waiting[:]
        if not stop.is_set():
            method()
        del method  # or the owner would be held while the thread waits
        for looked in told:
            looked.set()
            waiting.remove(looked)


@atexit.register
def _end_all() -> None:
    for monitor in list(_with_end):
        monitor.end()
