"""All circuits of a router, and how processes that share a store agree on them.

Nothing here waits for I/O. `CircuitBoard.merge` and `CircuitBoard.take` are the two halves of an exchange that happens
off the requests' way; a decision reads what the last exchange brought. What one process finds out, the others know
when both have exchanged once: so the staleness is bounded by the interval of exchanges and the time one takes.

At most one process tries a half-open circuit at a time, as long as an exchange takes less than `MARGIN_SECONDS` and
less than a circuit rests. Rights are given up before they are told of, and used only when the store has them. What a
process that has not heard of a try finds out meanwhile may prolong the rest, but the one who tries says so again.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from typing import Any, Final

from routed_ollama import _fork
from routed_ollama.health._circuit import Circuit, CircuitSettings
from routed_ollama.types import Candidate, CircuitState

_REMEMBER_CLOSING: Final = 3_600.0
"""Seconds for which it is kept that a circuit closed, for processes that still think it open: they exchange often."""
_REMEMBER_OPENING: Final = 86_400.0
"""Seconds after which an open circuit that nobody tried is forgotten: the model is gone, or its trouble is."""
_CLOSED: Final = Circuit()


class CircuitBoard:
    """All circuits of a router, by model and host; safe to use from any thread, and after a fork.

    Args:
        settings: when circuits open.
        clock: seconds; the wall clock, so that states can be shared between processes.
        on_change: told of each change of state, with the key and the new state, whoever caused it.
        share: asks for an exchange soon, because others must know, or be asked; must not wait. None: no other process
            shares these circuits.

    Example:
        >>> ours, theirs = (CircuitBoard(CircuitSettings(), clock=lambda: 0.0, share=lambda: None) for _ in range(2))
        >>> model = Candidate("llama3.1:8b", "http://one")
        >>> ours.failure(model, at_once=True)
        >>> theirs.take(ours.merge(None), ["http://one"])
        >>> theirs.allows(model)
        False
    """

    def __init__(
        self,
        settings: CircuitSettings,
        clock: Callable[[], float],
        on_change: Callable[[Candidate, CircuitState], None] | None = None,
        share: Callable[[], None] | None = None,
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
        self._share = share
        self._circuits: dict[Candidate, Circuit] = {}
        self._closings: dict[Candidate, Circuit] = {}
        self._begin_anew()
        _fork.register(self)

    def _begin_anew(self) -> None:
        self._me = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._wanted: set[Candidate] = set()

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
        states = {self.get(key).state for key in _pair(candidate)}
        return next(s for s in (CircuitState.OPEN, CircuitState.HALF_OPEN, CircuitState.CLOSED) if s in states)

    def allows(self, candidate: Candidate) -> bool:
        """Whether both circuits are closed, or half open with nobody else's turn."""
        return not self._circuits or self._lets(candidate, alone=True)

    def _lets(self, candidate: Candidate, *, alone: bool) -> bool:
        now = self._clock()
        return all(self._circuits.get(key, _CLOSED).lets(self._me, now, alone=alone) for key in _pair(candidate))

    def acquire(self, candidate: Candidate) -> bool:
        """Take leave for one request; of a half-open circuit only one at a time gets it, among all processes.

        Where other processes may have a turn, one that is over must first be claimed by an exchange. So the first
        request that would like to try may be refused, and the next one gets it.
        """
        if not self._circuits:
            return True
        with self._lock:
            granted = self._lets(candidate, alone=self._share is None)
            told = self._use(candidate) if granted else self._want(candidate)
        self._tell(told)
        return granted

    def _use(self, candidate: Candidate) -> bool:
        now = self._clock()
        return self._put_all({key: self._circuits[key].leased(self._me, now) for key in self._of(candidate)})

    def _want(self, candidate: Candidate) -> bool:
        """Note that a request would have tried, were it this process's turn; whether that is new."""
        if self._share is None or self.state(candidate) is CircuitState.OPEN:
            return False
        half_open = {key for key in self._of(candidate) if self.get(key).state is CircuitState.HALF_OPEN}
        new = not half_open <= self._wanted
        self._wanted |= half_open
        return new

    def release(self, candidate: Candidate) -> None:
        """Give leave back after a request that says nothing (cancelled, the caller's own mistake)."""
        if not self._circuits:
            return
        with self._lock:
            now = self._clock()
            told = self._put_all({key: self._circuits[key].released(self._me, now) for key in self._of(candidate)})
        self._tell(told)

    def success(self, candidate: Candidate) -> None:
        """Note a request that went well: the model's and the host's circuits close."""
        if not self._circuits:
            return
        now = self._clock()
        for key in self._of(candidate):
            self._change(key, lambda circuit: circuit.succeeded(now))

    def failure(self, candidate: Candidate, *, at_once: bool = False) -> None:
        """Note a request that failed; for a host, pass ``Candidate("", host)``."""
        settings = self._settings_of(candidate)
        now = self._clock()
        self._change(candidate, lambda circuit: circuit.failed(self._me, now=now, settings=settings, at_once=at_once))

    def leave(self) -> None:
        """Give up every turn for the others to have, and be alone from now on."""
        with self._lock:
            self._share = None
            for key, circuit in list(self._circuits.items()):
                self._put(key, circuit.resigned(self._me, self._clock()))

    def merge(self, stored: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return what is to be stored, of what is stored and what is known here, as plain JSON values.

        To be called in a transaction, any number of times; its result is to be given to `take` once it is stored.
        Merging is commutative, associative and idempotent but for the turns, which are given one at a time by whoever
        is in the transaction.
        """
        with self._lock:
            now = self._clock()
            accounts = _read(stored)
            for key, circuit in (*self._closings.items(), *self._circuits.items()):
                if circuit.version:
                    accounts[key] = accounts.get(key, _CLOSED).newer(circuit)
            return {
                f"{key.model}\n{key.host}": self._claimed(key, circuit, now).plain()
                for key, circuit in accounts.items()
                if not _forgotten(circuit, now)
            }

    def _claimed(self, key: Candidate, circuit: Circuit, now: float) -> Circuit:
        if circuit.state is CircuitState.CLOSED:
            return replace(circuit, failures=0)
        after = circuit.claimed(self._me, now, wants=key in self._wanted)
        if circuit.holder == self._me != after.holder:  # given away: no longer to be used, whether it is stored or not
            self._wanted.discard(key)
            self._put(key, after)
        return after

    def take(self, stored: Mapping[str, Any], hosts: Container[str]) -> None:
        """Take over what other processes know better.

        Args:
            stored: circuits as they are stored; what cannot be read is left out.
            hosts: URLs whose circuits are of interest.
        """
        told, changed = False, []
        with self._lock:
            now = self._clock()
            for key, circuit in _read(stored).items():
                before = self._account(key)
                after = circuit.sane(now, self._settings_of(key).max_recovery_timeout)
                if key.host in hosts and before.newer(after) is not before:
                    if before.tried_by(self._me, now) and after.state is not CircuitState.CLOSED and not after.trying:
                        after = after.still_tried(self._me, before.lease_until, now)
                    told |= self._put(key, after) and after is not circuit
                    changed.append((key, before.seen_at(now).state, after.seen_at(now).state))
            for key, circuit in list(self._circuits.items()):
                if circuit.state is not CircuitState.CLOSED and _forgotten(circuit, now):
                    changed.append((key, self._circuits.pop(key).seen_at(now).state, CircuitState.CLOSED))
            self._closings = {key: each for key, each in self._closings.items() if not _forgotten(each, now)}
        self._tell(told)
        for key, old, new in changed:
            if old is not new and self._on_change is not None:
                self._on_change(key, new)

    def _change(self, key: Candidate, step: Callable[[Circuit], Circuit]) -> None:
        with self._lock:
            before = self._account(key).seen_at(self._clock())
            after = step(before)
            told = self._put(key, after)
        self._tell(told)
        if after.state is not before.state and self._on_change is not None:
            self._on_change(key, after.state)

    def _tell(self, told: bool) -> None:
        share = self._share
        if told and share is not None:
            share()

    def _put_all(self, circuits: Mapping[Candidate, Circuit]) -> bool:
        return any([self._put(key, circuit) for key, circuit in circuits.items()])  # noqa: C419 (all of them)

    def _put(self, key: Candidate, circuit: Circuit) -> bool:
        """Keep a circuit; whether others must know. The lock is held."""
        before = self._account(key)
        self._circuits.pop(key, None)
        self._closings.pop(key, None)
        if circuit.state is not CircuitState.CLOSED or circuit.failures:
            self._circuits[key] = circuit
        elif circuit.version:
            self._closings[key] = circuit
        if circuit.trying or circuit.state is not CircuitState.HALF_OPEN:
            self._wanted.discard(key)
        return circuit.version != before.version

    def _account(self, key: Candidate) -> Circuit:
        return self._circuits.get(key) or self._closings.get(key, _CLOSED)

    def _of(self, candidate: Candidate) -> list[Candidate]:
        return [key for key in _pair(candidate) if key in self._circuits]

    def _settings_of(self, key: Candidate) -> CircuitSettings:
        return self._settings if key.model else self._host_settings

    def before_fork(self, timeout: float) -> None:
        """Nothing to bring to rest: each change is made in one step."""

    def after_fork_in_parent(self) -> None:
        """Nothing was stopped."""

    def after_fork_in_child(self) -> None:
        """Be another one: the turns are the parent's."""
        self._begin_anew()


def _pair(candidate: Candidate) -> tuple[Candidate, Candidate]:
    return candidate, Candidate("", candidate.host)


def _forgotten(circuit: Circuit, now: float) -> bool:
    if circuit.state is CircuitState.CLOSED:
        return circuit.version < now - _REMEMBER_CLOSING
    return max(circuit.version, circuit.retry_at) < now - _REMEMBER_OPENING


def _read(stored: Mapping[str, Any] | None) -> dict[Candidate, Circuit]:
    accounts = {}
    for name, entry in (stored or {}).items():
        circuit = Circuit.of_plain(entry)
        if circuit is not None:
            model, _, host = name.rpartition("\n")
            accounts[Candidate(model, host)] = circuit
    return accounts
