"""Who waits at which server for what: what makes a wait legitimate, and when it is one no longer.

A request that is not answered yet may be behind others in its model's slot, or behind the loading of a model, its own
or another. As long as these move on, it waits for its turn and for nothing else; its own time begins when the server
was last seen to do something for those ahead. Behind others of its own model it is given up with them, for if they hear
nothing the model is dead; behind another model it has its own time after that one was given up. What other programs do
is seen in the list of what is in memory, which is asked for while there is still time, and in how long earlier requests
have waited with nobody of this process ahead.

Reads memory only; the asking is done by a thread of its own.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final
from weakref import WeakSet

from routed_ollama import _fork
from routed_ollama.catalog import Catalog
from routed_ollama.errors import RoutedOllamaError
from routed_ollama.fallback import FailureKind
from routed_ollama.health import HealthMonitor
from routed_ollama.performance import Faded
from routed_ollama.transport import Marks, Timeouts
from routed_ollama.types import Candidate

_SAME: Final = 0.01
"""Seconds by which two accounts of when a model will be unloaded may differ and still be the same."""
_BROKE_OFF: Final = frozenset({FailureKind.DISCONNECTED, FailureKind.TRUNCATED})


class Turn:
    """One attempt's wait for its first token; what the transport asks (`transport.Patience`).

    Args:
        waits: who else waits.
        candidate: the model and its host.
        timeouts: as they are for this model.
        loads: whether the model must first be brought into memory, as far as is known.
        prompt: seconds that reading the prompt may take.
        marks: what happens on the wire.
        alone: whether no other server could answer instead.
    """

    def __init__(
        self,
        waits: Waits,
        candidate: Candidate,
        timeouts: Timeouts,
        *,
        loads: bool,
        prompt: float,
        marks: Marks,
        alone: bool,
    ) -> None:
        self._waits = waits
        self._timeouts = timeouts
        self._listed: float | None = None
        self._was_absent = False
        self.load_began: float | None = None
        self.candidate = candidate
        self.marks = marks
        self.loads = loads
        self.prompt = prompt
        self.alone = alone
        self.number: float = math.inf
        self.ahead = 0

    @property
    def allowance(self) -> float:
        """Seconds that its first token may take once its turn has come."""
        first, load = self._timeouts.first_token, self._timeouts.load if self.loads else 0.0
        return math.inf if first is None or load is None else first + load + self.prompt

    def gives_up(self, alive: float) -> float:
        """Return when it will be given up if nothing comes any more; minus infinity if it is not with the server.

        Args:
            alive: when the server was last seen to do something for others.
        """
        marks, between = self.marks, self._timeouts.between_tokens
        if marks.last_byte_at is not None:
            return math.inf if between is None else marks.last_byte_at + between
        if self.load_began is not None:
            return self.load_began + self.allowance
        return -math.inf if marks.waits_since is None else max(marks.waits_since, alive) + self.allowance

    @property
    def queues(self) -> bool:
        """Whether its model is to be loaded and, as far as is known, something else comes first."""
        return self.loads and self.load_began is None

    @property
    def pool(self) -> float | None:
        """Seconds to wait for a connection of the client's own pool: others of this process have them."""
        queue = self._timeouts.queue
        return None if queue is None else queue * max(self.ahead, 1)

    def allowed(self, since: float) -> float:
        """Return how many seconds a wait that began then may last in all, as things are now."""
        queue = self._timeouts.queue
        most = math.inf if queue is None else self.allowance + queue * max(self.ahead, 1)
        return min(self._waits.until(self, since) - since, most)

    def look(self) -> None:
        """Have the server asked what it has in memory."""
        self._waits.look(self)

    def returns(self) -> float:
        """Return for how many seconds its server, which refuses connections, is still worth trying."""
        restart = math.inf if self._timeouts.restart is None else self._timeouts.restart
        ago = self._waits.broke_off(self) if self.alone else None
        return 0.0 if ago is None else restart - ago

    def listed(self, expires_at: float | None, at: float) -> None:
        """Take what a server says of when the model will be unloaded.

        While a model is idle that is a certain moment. It moves while one is being loaded, and in the first use after.

        Args:
            expires_at: UTC seconds; None: it is not in memory, and nobody brings it there.
            at: when the server was asked.
        """
        before, self._listed = self._listed, expires_at
        if expires_at is None:
            self.loads, self._was_absent, self.load_began = True, True, None
            return
        if before is not None and abs(expires_at - before) > _SAME:
            self.loads = True
        if self.queues:
            self.load_began = at if self._was_absent else self.marks.waits_since


class Waits:
    """All the waits of a router.

    Args:
        catalog: the servers.
        clock: seconds that only grow.
    """

    def __init__(self, catalog: Catalog, clock: Callable[[], float]) -> None:
        self._catalog = catalog
        self._clock = clock
        self._looking = HealthMonitor(self._look, 0.0, "routed-ollama-wait")
        self._elsewhere: dict[Candidate, Faded] = {}
        self._answered: dict[Candidate, float] = {}
        self._left: dict[Candidate, float] = {}
        self._broke_off: dict[str, float] = {}
        self._begin_anew()
        _fork.register(self)

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[str, dict[Candidate, dict[Turn, None]]] = {}  # by server and model, in their order
        self._to_look: WeakSet[Turn] = WeakSet()
        self._numbers = 0

    def started(self, bounds: Any) -> None:
        """Note that an attempt with these bounds began."""
        turn = getattr(bounds, "patience", None)
        if isinstance(turn, Turn):
            with self._lock:
                self._numbers += 1
                turn.number = self._numbers
                there = self._turns.setdefault(turn.candidate.host, {})
                turn.ahead = sum(map(len, there.values()))
                there.setdefault(turn.candidate, {})[turn] = None

    def settled(self, bounds: Any, kind: FailureKind | None) -> None:
        """Note that an attempt with these bounds ended, and how it failed, if it did."""
        turn = getattr(bounds, "patience", None)
        if not isinstance(turn, Turn):
            return
        marks = turn.marks
        with self._lock:
            self._end(turn)
            self._left[turn.candidate] = self._clock()
            if marks.first_byte_at is not None:
                self._answered[turn.candidate] = self._clock()
            if kind in _BROKE_OFF:
                self._broke_off[turn.candidate.host] = self._clock()
            waited = marks.waits_since is not None and marks.first_byte_at is not None and not turn.loads
            if waited and kind is None and not turn.ahead:
                more = max(0.0, (marks.first_byte_at or 0.0) - (marks.waits_since or 0.0) - turn.prompt)
                self._elsewhere.setdefault(turn.candidate, Faded()).add(more)

    def _end(self, turn: Turn) -> None:
        me, host = turn.candidate, turn.candidate.host
        there = self._turns.get(host, {})
        there.get(me, {}).pop(turn, None)
        if not there.get(me):
            there.pop(me, None)
        if not there:
            self._turns.pop(host, None)

    def elsewhere(self, candidate: Candidate) -> float:
        """Return the seconds that a model's requests have lately waited with no other of this process ahead."""
        waits = self._elsewhere.get(candidate)
        return 0.0 if waits is None else waits.mean(0.0, 0.0)

    def broke_off(self, turn: Turn) -> float | None:
        """Return how many seconds ago a turn's server broke off an answer; None: never.

        One that refuses a connection while others wait for its answers is about to: they have not heard of it yet.
        """
        host = turn.candidate.host
        with self._lock:
            for turns in self._turns.get(host, {}).values():
                if any(other is not turn and other.marks.waits_since is not None for other in turns):
                    return 0.0
            at = self._broke_off.get(host)
        return None if at is None else self._clock() - at

    def until(self, turn: Turn, since: float) -> float:
        """Return until when the first token of a turn is waited for, as things are now.

        Args:
            turn: an attempt's.
            since: when its wait began.
        """
        me, host = turn.candidate, turn.candidate.host
        with self._lock:
            there = self._turns.get(host, {})
            mine = list(there.get(me, ()))
            signs = [since, turn.load_began or since, self._answered.get(me, since)]
            theirs: list[Turn] = []
            if turn.queues:  # for the loads ahead, and until a model has left; whoever gives up makes way
                others = [other for who, turns in there.items() if who != me for other in turns]
                theirs = [other for other in others if other.number < turn.number or not other.queues]
                signs += [at for who, at in self._left.items() if who.host == host and who != me]
        signs += [other.marks.last_byte_at or since for other in (*mine, *theirs) if other is not turn]
        alive = max(signs)
        until = [alive + turn.allowance]
        until += [other.gives_up(alive) for other in mine if other.number < turn.number]
        until += [other.gives_up(alive) + turn.allowance for other in theirs]
        return max(until)

    def look(self, turn: Turn) -> None:
        """Have a turn's server asked what it has in memory, off the caller's way."""
        with self._lock:
            self._to_look.add(turn)
        self._looking.poke()

    def _look(self) -> None:
        """Ask the servers of those who want to know. Loads nothing, never raises."""
        with self._lock:
            turns, self._to_look = list(self._to_look), WeakSet()
        hosts = {turn.candidate.host for turn in turns}
        if not hosts:
            return
        asked_at = self._clock()
        with suppress(RuntimeError), ThreadPoolExecutor(len(hosts), "routed-ollama-look") as pool:  # (ending)
            found = dict(zip(hosts, pool.map(self._in_memory, hosts), strict=True))
            for turn in turns:
                residents = found[turn.candidate.host]
                if residents is not None:
                    turn.listed(residents.get(turn.candidate.model), asked_at)

    def _in_memory(self, url: str) -> dict[str, float] | None:
        """Return when each model in a server's memory will be unloaded; None when it does not say."""
        host = self._catalog.hosts.get(url)
        try:
            return None if host is None else {entry.model: entry.expires_at for entry in host.resident()}
        except RoutedOllamaError:
            return None

    def close(self) -> None:
        """End the thread."""
        self._looking.stop()

    def before_fork(self, timeout: float) -> None:
        """Nothing to bring to rest: what is known changes in single steps."""

    def after_fork_in_parent(self) -> None:
        """Nothing was stopped."""

    def after_fork_in_child(self) -> None:
        """The parent's requests are none of the child's."""
        self._begin_anew()
