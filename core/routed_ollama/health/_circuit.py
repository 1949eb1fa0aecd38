"""One circuit: its states, what moves it between them, and which of two accounts of it is right. Pure.

The states and what moves a circuit between them are the table ``_TRANSITIONS``; nothing else changes a state.

Several processes may hold accounts of the same circuit. Each change that concerns the others gets a version: the time,
or just after the version it follows where the clock says otherwise (a hybrid logical clock). The account with the
highest version is right, whoever is asked and in whatever order they meet: a maximum needs no order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any, Final, Self

from routed_ollama.types import CircuitState

LEASE_SECONDS: Final = 120.0
"""How long a half-open circuit waits for the request it let through before it lets another try."""

TURN_SECONDS: Final = 60.0
"""How long a half-open circuit waits for a process whose turn it is to send a request at all."""

MARGIN_SECONDS: Final = 5.0
"""How long before its turn is over a process stops using it: longer than it takes to tell the others that it does."""


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

    A half-open circuit has a ``holder``, the process whose turn it is to try, until ``lease_until``: first the one that
    opened it. ``trying`` says whether it does. Once the lease is over, whoever wants to try must claim it where the
    processes meet (`claimed`); alone, it may just take it.

    Example:
        >>> circuit = Circuit()
        >>> for _ in range(3):
        ...     circuit = circuit.failed("me", now=0.0, settings=CircuitSettings())
        >>> circuit.state.value, circuit.seen_at(31.0).state.value
        ('open', 'half_open')
    """

    state: CircuitState = CircuitState.CLOSED
    failures: int = 0
    """In a row, as far as this process knows."""
    openings: int = 0
    """Without a success between."""
    retry_at: float = 0.0
    """Clock seconds at which an open circuit becomes half open."""
    lease_until: float = 0.0
    """Clock seconds until which nobody but the holder may try."""
    holder: str = ""
    trying: bool = False
    """Whether the holder's one request is under way."""
    wanted: str = ""
    """Who else would like to try."""
    version: float = 0.0
    """When it last changed in a way that concerns other processes; 0 if never."""

    def seen_at(self, now: float) -> Circuit:
        """Return it as it is at a time: an open one whose recovery time is over is half open."""
        if self.state is CircuitState.OPEN and now >= self.retry_at:
            return _moved(self, Signal.RECOVERY)
        return self

    def lets(self, who: str, now: float, *, alone: bool) -> bool:
        """Whether a request of a process may pass now.

        Args:
            who: the process.
            now: clock seconds.
            alone: whether no other process can have a lease.
        """
        circuit = self.seen_at(now)
        if circuit.state is not CircuitState.HALF_OPEN:
            return circuit.state is CircuitState.CLOSED
        if now >= circuit.lease_until:
            return alone
        return circuit.holder == who and not circuit.trying and (alone or now < circuit.lease_until - MARGIN_SECONDS)

    def tried_by(self, who: str, now: float) -> bool:
        """Whether the one request that may pass is that process's, and under way."""
        return self.trying and self.holder == who and now < self.lease_until

    def still_tried(self, who: str, until: float, now: float) -> Circuit:
        """Return it with a try that was under way before whoever gave this account had heard of it."""
        return replace(_after(self, now), holder=who, trying=True, wanted="", lease_until=until)

    def leased(self, who: str, now: float) -> Circuit:
        """Return it with a half-open circuit's one request under way."""
        circuit = self.seen_at(now)
        if circuit.state is not CircuitState.HALF_OPEN:
            return circuit
        return _given(circuit, who, now, LEASE_SECONDS, trying=True)

    def released(self, who: str, now: float) -> Circuit:
        """Return it with the turn unused: the request that was under way ended and says nothing."""
        circuit = self.seen_at(now)
        if not circuit.tried_by(who, now):
            return circuit
        return _given(circuit, who, max(now, circuit.retry_at), TURN_SECONDS)

    def resigned(self, who: str, now: float) -> Circuit:
        """Return it without a turn of a process that ends."""
        if self.state is CircuitState.CLOSED or self.holder != who:
            return self
        return replace(_after(self, now), lease_until=0.0, holder="", trying=False)

    def claimed(self, who: str, now: float, *, wants: bool) -> Circuit:
        """Return it after a process has come by where all processes meet, one at a time.

        Its own turn that it does not use goes to the one who wants it; a turn that is over, to the process itself if it
        wants to try, again and again until it has; else it says that it wants to.

        Args:
            who: the process.
            now: clock seconds.
            wants: whether it has had a request that it could not let through.
        """
        circuit = self.seen_at(now)
        if circuit.state is not CircuitState.HALF_OPEN or (circuit.trying and now < circuit.lease_until):
            return self
        if now >= circuit.lease_until:
            return _given(circuit, who, now, TURN_SECONDS) if wants else self
        if circuit.holder != who:
            return replace(_after(circuit, now), wanted=who) if wants and not circuit.wanted else self
        return _given(circuit, circuit.wanted, now, TURN_SECONDS) if circuit.wanted else self

    def succeeded(self, now: float) -> Circuit:
        """Return it after a request that went well."""
        if self.state is CircuitState.CLOSED:
            return replace(self, failures=0)
        after = _moved(_after(self, now), Signal.SUCCESS)
        return Circuit(after.state, version=after.version)

    def failed(self, who: str, *, now: float, settings: CircuitSettings, at_once: bool = False) -> Circuit:
        """Return it after a request that failed.

        Args:
            who: the process that asked; if the circuit opens, the first turn to try again is its.
            now: clock seconds.
            settings: threshold and recovery times.
            at_once: open it whatever the threshold (memory ran out, say).
        """
        circuit = self.seen_at(now)
        if circuit.state is CircuitState.OPEN:
            return circuit.released(who, now)  # late news
        if circuit.tried_by(circuit.holder, now) and circuit.holder != who:
            return circuit  # what comes of the try, the one who tries will tell
        circuit = replace(circuit, failures=circuit.failures + 1)
        reached = at_once or circuit.failures >= settings.failure_threshold
        after = _moved(circuit, Signal.THRESHOLD if reached else Signal.FAILURE)
        if after.state is not CircuitState.OPEN:
            return after
        pause = min(settings.recovery_timeout * 2.0 ** min(self.openings, 30), settings.max_recovery_timeout)
        opened = replace(_after(after, now), openings=self.openings + 1, retry_at=now + pause)
        return replace(opened, holder=who, trying=False, wanted="", lease_until=opened.retry_at + TURN_SECONDS)

    def sane(self, now: float, longest: float) -> Circuit:
        """Return it with times that can be: whoever set them may have had a wrong clock.

        Args:
            now: clock seconds.
            longest: seconds a rest may last.
        """
        retry_at = min(self.retry_at, now + longest)
        lease_until = min(self.lease_until, now + longest + LEASE_SECONDS)
        if (retry_at, lease_until) == (self.retry_at, self.lease_until):
            return self
        return replace(_after(self, now), retry_at=retry_at, lease_until=lease_until)

    def newer(self, other: Circuit) -> Circuit:
        """Return the account that is right of the two; for two of the same version, everybody chooses the same."""
        return max(self, other, key=Circuit._order)

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @classmethod
    def of_plain(cls, entry: Any) -> Self | None:
        """Return what `plain` gave; None for what cannot be read. What only a newer version knows is left out."""
        if not isinstance(entry, Mapping):
            return None
        try:
            known = {field.name: _READ[field.name](entry[field.name]) for field in fields(cls)}
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        return cls(**known)

    def _order(self) -> tuple[Any, ...]:
        return self.version, self.retry_at, self.lease_until, self.trying, self.holder, self.wanted, self.openings


def _moved(circuit: Circuit, signal: Signal) -> Circuit:
    return replace(circuit, state=_TRANSITIONS.get((circuit.state, signal), circuit.state))


def _after(circuit: Circuit, now: float) -> Circuit:
    return replace(circuit, version=max(now, math.nextafter(circuit.version, math.inf)))


def _given(circuit: Circuit, who: str, now: float, seconds: float, *, trying: bool = False) -> Circuit:
    return replace(_after(circuit, now), holder=who, trying=trying, wanted="", lease_until=now + seconds)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


_READ: Final[Mapping[str, Any]] = {
    "state": CircuitState,
    "failures": lambda value: int(_number(value)),
    "openings": lambda value: int(_number(value)),
    "retry_at": _number,
    "lease_until": _number,
    "holder": _text,
    "trying": _flag,
    "wanted": _text,
    "version": _number,
}
