"""Clocks: the system's, and one that a test moves by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A callback that is due at some time."""

    def cancel(self) -> None:
        """Forget it; harmless when it has already run."""
        ...


class Clock(Protocol):
    """What tells the time and wakes sleepers."""

    def time(self) -> float:
        """UTC seconds since 1970."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        ...

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call back in the running event loop after so many seconds."""
        ...


class SystemClock:
    """The time as it passes."""

    def time(self) -> float:
        """UTC seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        return time.monotonic()

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call back in the running event loop after so many seconds."""
        return asyncio.get_running_loop().call_later(delay, callback)


class FakeClock:
    """A clock that stands still until it is moved. Safe to move from any thread.

    Args:
        at: UTC seconds at which it starts; :meth:`monotonic` starts at 0.

    Example:
        >>> clock = FakeClock(at=1000.0)
        >>> clock.advance(2.5)
        >>> clock.time(), clock.monotonic()
        (1002.5, 2.5)
    """

    def __init__(self, at: float = 1_700_000_000.0) -> None:
        self._start = at
        self._now = 0.0
        self._lock = threading.RLock()
        self._timers: list[tuple[float, int, _FakeTimer]] = []
        self._order = itertools.count()

    def __call__(self) -> float:
        """The same as :meth:`monotonic`, for what takes a clock as a function."""
        return self.monotonic()

    def time(self) -> float:
        """UTC seconds since 1970."""
        with self._lock:
            return self._start + self._now

    def monotonic(self) -> float:
        """Seconds since it was made."""
        with self._lock:
            return self._now

    @property
    def pending(self) -> int:
        """How many calls are still to come; a test that moves the clock step by step waits for the next one here."""
        with self._lock:
            return sum(timer.waits for _, _, timer in self._timers)

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call back once the clock was moved so far.

        Inside an event loop the call is made there; without one, by whoever moves the clock.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        timer = _FakeTimer(callback, loop)
        with self._lock:
            heapq.heappush(self._timers, (self._now + max(0.0, delay), next(self._order), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Move the clock forward and make every call that falls due, in order.

        Raises:
            ValueError: seconds is negative.
        """
        if seconds < 0:
            raise ValueError(f"a clock does not go back: {seconds}")
        with self._lock:
            end = self._now + seconds
            while self._timers and self._timers[0][0] <= end:
                due, _, timer = heapq.heappop(self._timers)
                self._now = max(self._now, due)
                timer.fire()
            self._now = end


class _FakeTimer:
    """A callback of a fake clock."""

    __slots__ = ("_callback", "_loop")

    def __init__(self, callback: Callable[[], object], loop: asyncio.AbstractEventLoop | None) -> None:
        self._callback: Callable[[], object] | None = callback
        self._loop = loop

    @property
    def waits(self) -> bool:
        """Whether it is neither due nor cancelled."""
        return self._callback is not None

    def cancel(self) -> None:
        """Forget it."""
        self._callback = None

    def fire(self) -> None:
        """Make the call, in the loop that asked for it."""
        if self._callback is None:
            return
        if self._loop is None:
            self._run()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._run)

    def _run(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


async def sleep(clock: Clock, seconds: float) -> None:
    """Sleep by that clock; not at all when there is nothing to wait for."""
    if seconds <= 0:
        return
    woken = asyncio.Event()
    timer = clock.call_later(seconds, woken.set)
    try:
        await woken.wait()
    finally:
        timer.cancel()
