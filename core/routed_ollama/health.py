"""A circuit per model and one per host, and the monitor that looks after them.

The states and what moves a circuit between them are the table ``_TRANSITIONS``; nothing else changes a state. A circuit
is closed (requests pass), open (none passes until its recovery time is over) or half open (one passes, as a lease that
expires, because an abandoned stream may report late or never).
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from routed_ollama.types import Candidate, CircuitState

_RECENT: Final = 20
"""Requests that "recent" means."""
_DEGRADED_SUCCESS: Final = 0.9
_DEGRADED_SLOWNESS: Final = 3.0
_LEASE_SECONDS: Final = 120.0
"""How long a half-open circuit waits for the request it let through before it lets another try."""


class Signal(StrEnum):
    """What can happen to a circuit."""

    SUCCESS = "success"
    FAILURE = "failure"
    THRESHOLD = "threshold"
    RECOVERY = "recovery"


_TRANSITIONS: Final[Mapping[tuple[CircuitState, Signal], CircuitState]] = {
    (CircuitState.CLOSED, Signal.THRESHOLD): CircuitState.OPEN,
    (CircuitState.OPEN, Signal.RECOVERY): CircuitState.HALF_OPEN,
    (CircuitState.OPEN, Signal.SUCCESS): CircuitState.CLOSED,
    (CircuitState.HALF_OPEN, Signal.SUCCESS): CircuitState.CLOSED,
    (CircuitState.HALF_OPEN, Signal.FAILURE): CircuitState.OPEN,
    (CircuitState.HALF_OPEN, Signal.THRESHOLD): CircuitState.OPEN,
}


@dataclass(frozen=True, slots=True)
class CircuitSettings:
    """When a circuit opens and how long it stays so.

    Attributes:
        failure_threshold: failures in a row that open it.
        recovery_timeout: seconds until the first half-open try; doubles at each opening that follows without a success.
        max_recovery_timeout: seconds the doubling stops at.
    """

    failure_threshold: int = 3
    recovery_timeout: float = 30.0
    max_recovery_timeout: float = 600.0


@dataclass(frozen=True, slots=True)
class Circuit:
    """One circuit, frozen: every method returns the next one.

    Example:
        >>> circuit = Circuit()
        >>> for _ in range(3):
        ...     circuit = circuit.failed(now=0.0, settings=CircuitSettings())
        >>> circuit.state.value, circuit.seen_at(31.0).state.value
        ('open', 'half_open')
    """

    state: CircuitState = CircuitState.CLOSED
    failures: int = 0
    """In a row."""
    openings: int = 0
    """Without a success between."""
    retry_at: float = 0.0
    """Clock seconds at which an open circuit becomes half open."""
    lease_until: float = 0.0
    """Clock seconds until which a half-open circuit's one request is under way."""

    def moved(self, signal: Signal, **changes: Any) -> Circuit:
        """Return it after a signal, in the state that the table says, with other fields changed."""
        return replace(self, state=_TRANSITIONS.get((self.state, signal), self.state), **changes)

    def seen_at(self, now: float) -> Circuit:
        """Return it as it is at a time: an open one whose recovery time is over is half open."""
        if self.state is CircuitState.OPEN and now >= self.retry_at:
            return self.moved(Signal.RECOVERY, lease_until=0.0)
        return self

    def allows(self, now: float) -> bool:
        """Whether a request may pass now."""
        circuit = self.seen_at(now)
        return circuit.state is CircuitState.CLOSED or (
            circuit.state is CircuitState.HALF_OPEN and now >= circuit.lease_until
        )

    def leased(self, now: float) -> Circuit:
        """Return it with a half-open circuit's one request under way."""
        circuit = self.seen_at(now)
        if circuit.state is CircuitState.HALF_OPEN:
            return replace(circuit, lease_until=now + _LEASE_SECONDS)
        return circuit

    def released(self) -> Circuit:
        """Return it without a request under way: that one ended and says nothing."""
        return replace(self, lease_until=0.0)

    def succeeded(self) -> Circuit:
        """Return it after a request that went well."""
        return self.moved(Signal.SUCCESS, failures=0, openings=0, retry_at=0.0, lease_until=0.0)

    def failed(self, *, now: float, settings: CircuitSettings, at_once: bool = False) -> Circuit:
        """Return it after a request that failed.

        Args:
            now: clock seconds.
            settings: threshold and recovery times.
            at_once: open it whatever the threshold (memory ran out, say).
        """
        circuit = replace(self.seen_at(now), failures=self.failures + 1, lease_until=0.0)
        reached = at_once or circuit.failures >= settings.failure_threshold
        after = circuit.moved(Signal.THRESHOLD if reached else Signal.FAILURE)
        if after.state is not CircuitState.OPEN or circuit.state is CircuitState.OPEN:
            return after
        pause = min(settings.recovery_timeout * 2.0 ** min(self.openings, 30), settings.max_recovery_timeout)
        return replace(after, openings=self.openings + 1, retry_at=now + pause)


class CircuitBoard:
    """All circuits of a router, by model and host; safe to use from any thread.

    Args:
        settings: when circuits open.
        clock: seconds; the wall clock, so that states can be shared between processes.
        on_change: told of each change of state, with the key and the new state.
    """

    def __init__(
        self,
        settings: CircuitSettings,
        clock: Callable[[], float],
        on_change: Callable[[Candidate, CircuitState], None] | None = None,
    ) -> None:
        self._settings = settings
        self._host_settings = replace(
            settings,
            failure_threshold=1,
            recovery_timeout=min(5.0, settings.recovery_timeout),
            max_recovery_timeout=60.0,
        )
        self._clock = clock
        self._on_change = on_change
        self._lock = threading.Lock()
        self._circuits: dict[Candidate, Circuit] = {}

    def get(self, candidate: Candidate) -> Circuit:
        """Return a model's circuit, or a host's for the candidate ``("", host)``, as it is now."""
        return self._circuits.get(candidate, _CLOSED).seen_at(self._clock())

    @property
    def all_closed(self) -> bool:
        """Whether no circuit has anything against it; lets the common case be quick."""
        return not self._circuits

    def state(self, candidate: Candidate) -> CircuitState:
        """Return the worse of the states of a model's circuit and its host's."""
        if not self._circuits:
            return CircuitState.CLOSED
        states = {self.get(candidate).state, self.get(Candidate("", candidate.host)).state}
        return next(s for s in (CircuitState.OPEN, CircuitState.HALF_OPEN, CircuitState.CLOSED) if s in states)

    def allows(self, candidate: Candidate) -> bool:
        """Whether both circuits let a request pass now."""
        if not self._circuits:
            return True
        now = self._clock()
        return all(self._circuits.get(key, _CLOSED).allows(now) for key in (candidate, Candidate("", candidate.host)))

    def acquire(self, candidate: Candidate) -> bool:
        """Take leave for one request; of a half-open circuit only one at a time gets it."""
        if not self._circuits:
            return True
        with self._lock:
            if not self.allows(candidate):
                return False
            for key in (candidate, Candidate("", candidate.host)):
                if key in self._circuits:
                    self._circuits[key] = self._circuits[key].leased(self._clock())
            return True

    def release(self, candidate: Candidate) -> None:
        """Give leave back after a request that says nothing (cancelled, the caller's own mistake)."""
        if not self._circuits:
            return
        with self._lock:
            for key in (candidate, Candidate("", candidate.host)):
                if key in self._circuits:
                    self._circuits[key] = self._circuits[key].released()

    def success(self, candidate: Candidate) -> None:
        """Note a request that went well: the model's and the host's circuits close."""
        if not self._circuits:
            return
        for key in (candidate, Candidate("", candidate.host)):
            if key in self._circuits:
                self._change(key, lambda circuit: circuit.succeeded())

    def failure(self, candidate: Candidate, *, at_once: bool = False) -> None:
        """Note a request that failed; for a host, pass ``Candidate("", host)``."""
        settings = self._settings if candidate.model else self._host_settings
        now = self._clock()
        self._change(candidate, lambda circuit: circuit.failed(now=now, settings=settings, at_once=at_once))

    def _change(self, key: Candidate, step: Callable[[Circuit], Circuit]) -> None:
        with self._lock:
            before = self._circuits.get(key, _CLOSED).seen_at(self._clock())
            after = step(before)
            if after == _CLOSED:
                self._circuits.pop(key, None)
            else:
                self._circuits[key] = after
        if after.state is not before.state and self._on_change is not None:
            self._on_change(key, after.state)

    def export(self) -> dict[str, Any]:
        """Return the circuits that are not closed, as plain JSON values."""
        return {
            f"{key.model}\n{key.host}": [c.state.value, c.failures, c.openings, c.retry_at]
            for key, c in list(self._circuits.items())
            if c.state is not CircuitState.CLOSED
        }

    def load(self, data: Mapping[str, Any], hosts: Container[str]) -> None:
        """Take over what ``export`` returned, in another process maybe.

        Args:
            data: circuits; what cannot be read is left out.
            hosts: URLs whose circuits are of interest.
        """
        latest = self._clock() + self._settings.max_recovery_timeout  # the clock may have been wrong at the time
        for name, entry in data.items():
            with contextlib.suppress(ValueError, TypeError):
                state, failures, openings, retry_at = entry
                model, _, host = name.partition("\n")
                if host not in hosts:
                    continue
                self._circuits[Candidate(model, host)] = Circuit(
                    CircuitState(state), int(failures), int(openings), min(latest, float(retry_at))
                )


_CLOSED: Final = Circuit()


class HealthMonitor:
    """A background thread that calls ``look`` every ``interval`` seconds, or sooner when poked.

    It starts on first use, holds its owner weakly, ends with the process or ``stop``, and starts again after a fork.

    Args:
        look: a bound method; the monitor ends when its object is gone. Must not raise.
        interval: seconds between two looks; 0 for none but when poked.
    """

    def __init__(self, look: Callable[[], None], interval: float) -> None:
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._look = weakref.WeakMethod(look, lambda _gone: self._wake.set())
        self._interval = interval
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = 0

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
            self._pid = os.getpid()
            self._thread = threading.Thread(
                target=_watch,
                args=(self._look, self._wake, self._stop, self._interval),
                name="routed-ollama-health",
                daemon=True,
            )
            self._thread.start()

    def poke(self) -> None:
        """Have it look now, off the caller's way."""
        self.start()
        self._wake.set()

    def stop(self) -> None:
        """End the thread for good; returns at once."""
        self._stop.set()
        self._wake.set()


def _watch(
    look: Callable[[], Callable[[], None] | None], wake: threading.Event, stop: threading.Event, interval: float
) -> None:
    while not stop.is_set():
        wake.wait(interval or None)
        wake.clear()
        method = look()
        if method is None:
            return
        if not stop.is_set():
            method()
        del method  # or the owner would be held while the thread waits


def health_words(
    state: CircuitState, outcomes: Iterable[bool], recent_seconds: float | None, usual_seconds: float | None
) -> str:
    """Return a model's health in a word.

    Args:
        state: of its circuit.
        outcomes: whether each recent request went well, newest last; the last 20 count.
        recent_seconds: its usual response time lately, in seconds per output token or whole, as the caller measures it.
        usual_seconds: the same over its whole record.

    Returns:
        ``unhealthy`` when the circuit is open; ``degraded`` when it is half open, under 90 % of recent requests went
        well or they took three times the usual time; else ``healthy``.

    Example:
        >>> health_words(CircuitState.CLOSED, [True] * 9 + [False] * 2, None, None)
        'degraded'
    """
    if state is CircuitState.OPEN:
        return "unhealthy"
    recent = list(outcomes)[-_RECENT:]
    poor = bool(recent) and sum(recent) / len(recent) < _DEGRADED_SUCCESS
    slow = bool(recent_seconds and usual_seconds and recent_seconds >= _DEGRADED_SLOWNESS * usual_seconds)
    return "degraded" if state is CircuitState.HALF_OPEN or poor or slow else "healthy"
