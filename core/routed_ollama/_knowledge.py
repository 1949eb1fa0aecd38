"""What a router knows and how it learns: catalog, history, circuits, store, and the monitor that keeps them fresh.

Blocks only for what nothing is known of; everything else is asked off the request's way.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final, Protocol

from routed_ollama import _fork
from routed_ollama._exploring import Explorer
from routed_ollama._views import InFlight, Scope, Views
from routed_ollama._waiting import Waits
from routed_ollama.catalog import Catalog, HostView
from routed_ollama.config import RouterConfig
from routed_ollama.contexts import SERVER_DEFAULT, ContextSizes
from routed_ollama.conversations import Conversations
from routed_ollama.fallback import MEANINGS, Attempt, FailureKind
from routed_ollama.health import (
    CircuitBoard,
    CircuitSettings,
    HealthMonitor,
    Looks,
    health_words,
    in_thread,
    wait_for_enough,
)
from routed_ollama.performance import PerformanceHistory
from routed_ollama.store import Store
from routed_ollama.types import (
    Candidate,
    CircuitState,
    HealthStatus,
    ModelInfo,
    Outcome,
    OutcomeKind,
)

_WARM_START = 5_000
"""Outcomes of earlier processes that a new one learns from."""

SHARE_SECONDS: Final = 1.0
"""Seconds between two exchanges with the processes that share the store. What one finds out (a circuit opens) is stored
within milliseconds; a process that has made its first decision knows it at most this much later, and the time that
reading the store takes."""


class Clock(Protocol):
    """What is needed of a clock; the module ``time`` is one."""

    def time(self) -> float:
        """Return UTC seconds."""
        ...

    def monotonic(self) -> float:
        """Return seconds that only grow."""
        ...


class Knowledge:
    """Everything that is known of hosts and models.

    Args:
        catalog: the hosts and their models.
        config: thresholds, intervals, whether to learn.
        store: what outlives the process.
        clock: seconds.
        offline: whether there is no server to ask.
    """

    def __init__(
        self, catalog: Catalog, config: RouterConfig, store: Store, clock: Clock, *, offline: bool = False
    ) -> None:
        health = config.health
        circuits = CircuitSettings(health.failure_threshold, health.recovery_timeout, health.max_recovery_timeout)
        self.catalog = catalog
        self.store = store
        self.offline = offline
        self.history = PerformanceHistory(clock.time)
        self.explorer = Explorer(config.routing.explore)
        self._shares = store.persistent and not offline
        self.sharing = HealthMonitor(self._share, SHARE_SECONDS, "routed-ollama-share", at_end=self._leave)
        self.circuits = CircuitBoard(
            circuits, clock.time, self._circuit_changed, self.sharing.poke if self._shares else None
        )
        self.views = Views(catalog, self.history, self.circuits, config.routing.memory_share)
        self.waits = Waits(catalog, clock.monotonic)
        self.conversations = Conversations()
        self.circuit_listeners: list[Callable[[Candidate, CircuitState], None]] = []
        self.contexts = ContextSizes(self._context_grown)
        self.monitor = HealthMonitor(self._look, health.interval)
        self._looks = Looks(self._look_at)
        self._config = config
        self.clock = clock
        self._warm = False
        self._warming = threading.Lock()
        self._looked_at = clock.monotonic() - config.health.refresh
        self._enough: tuple[object, Scope | None] = (None, None)
        self._digests: dict[Candidate, str] = {}
        self._lost: dict[str, float] = {}
        """Hosts that could not be reached since they were last seen, and the monotonic seconds of when that was."""
        _fork.register(self)

    def close(self) -> None:
        """Write what is still to be written, end the monitor and close the connections."""
        self.monitor.stop()
        self.waits.close()
        self.sharing.stop()
        self.circuits.leave()
        if self._shares:
            self._share()
        self.store.close()
        for host in self.catalog.hosts.values():
            host.close()

    def unknown(self, scope: Scope | None) -> list[str]:
        """Hosts that must be asked before a decision: never heard of, or without a model that was named.

        And all of them while none is known to be there: one that has come back is to be seen at once, with the models
        that it has now. But none that is being asked already where others can serve: it joins when it answers.
        """
        if self.offline:
            return []
        if not self._warm:
            return list(self.catalog.hosts)
        views = self.catalog.views
        if all(view.error or url in self._lost for url, view in views.items()):
            return list(views)
        silent = [url for url, view in views.items() if view.seen_at is None]
        known = len(silent) < len(views)
        if not known:
            ask = silent
        elif self._config.health.interval:  # the monitor asks them, off the request's way; but those it has yet to meet
            ask = [url for url in silent if not views[url].error]
        else:
            ask = [url for url in silent if self.circuits.allows(Candidate("", url))]
        if known and self._looks.under_way(ask) and self._can_serve(scope):
            ask = [url for url in ask if not self._looks.under_way([url])]
        if known and scope is not None and not self.views.of(scope):
            moment = self.clock.monotonic()
            ask += [url for url, view in views.items() if view.seen_at is not None and moment - view.seen_at > 1.0]
        return ask

    def ensure(self, scope: Scope | None) -> None:
        """See that there is something to decide on; blocks only for what nothing is known of."""
        snapshot = self.catalog.views
        if snapshot is not self._enough[0] or scope != self._enough[1]:
            if ask := self.unknown(scope):
                self.warm_up()  # first, or what was true of a host long ago would hide what it says now
                self._refresh_for(scope, ask)
            else:
                self.warm_up()  # where no server is asked, names and a store are all there is
                self._enough = (snapshot, scope)
        if self._shares:
            self.sharing.start()
        if self.offline or not self._config.health.interval:
            return
        if not self.monitor.running or self.clock.monotonic() - self._looked_at > self._config.health.refresh:
            self.monitor.poke()

    async def aensure(self, scope: Scope | None) -> None:
        """Async form of ``ensure``: what must be asked first is asked off the event loop."""
        if self.unknown(scope):
            await asyncio.wrap_future(in_thread(self.ensure, scope))
        else:
            self.ensure(scope)

    def late(self) -> set[Future[None]]:
        """Return the first looks at hosts that a request went on without; one that nobody can serve waits for them."""
        return self._looks.under_way(url for url, view in self.catalog.views.items() if not view.seen_at)

    def warm_up(self) -> None:
        """Learn what earlier processes left in the store; does nothing the second time."""
        if self._warm:
            return
        with self._warming:
            if self._warm:
                return
            self.circuits.take(self.store.load_state("circuits") or {}, self.catalog.hosts)
            self.contexts.load(self.store.load_state("contexts") or {})
            self.history.replay(self.store.outcomes(limit=_WARM_START))
            self._warm = True

    def refresh(self, urls: Sequence[str]) -> None:
        """Ask hosts what they have and hold in memory, all at once, and wait for the answers of all of them."""
        self._looked_at = self.clock.monotonic()
        for look in self._looks.begin(urls).values():
            look.result()

    def _refresh_for(self, scope: Scope | None, urls: Sequence[str]) -> None:
        """Ask hosts for a request, which goes on when it can be served; who answers later joins then."""
        self._looked_at = self.clock.monotonic()
        given_up = {url for url in urls if not self.circuits.allows(Candidate("", url))}
        for url in wait_for_enough(self._looks.begin(urls), lambda: self._can_serve(scope), given_up):
            self.catalog.note_silent(url)

    def _can_serve(self, scope: Scope | None) -> bool:
        """Whether a host that is there has a model of a scope which can chat."""
        there = (view for view in self.views.of(scope) if view.resident is not None and view.reachable)
        return any(view.barred is None and view.info.host not in self._lost for view in there)

    def _look_at(self, url: str) -> None:
        """Ask a host what it has and take that in. Never raises for what the host does."""
        began = self.clock.monotonic()
        view = self.catalog.refresh(url)
        if view.error:
            self.circuits.failure(Candidate("", url))
        elif self._lost.get(url, began) <= began:  # else it was lost after it had said this
            self.circuits.success(Candidate("", url))
            self._lost.pop(url, None)
            for name, residency in view.resident.items():
                self.contexts.note_allocated(Candidate(name, url), residency.context_length)
            if self._config.routing.learn:
                self._note_digests(view)

    def _note_digests(self, view: HostView) -> None:
        """Begin anew with models that were replaced since they were last seen: what was judged is another's."""
        for info in view.models.values():
            if info.digest and self._digests.setdefault(info.candidate, info.digest) != info.digest:
                self._digests[info.candidate] = info.digest
                self.history.forget_quality(info.candidate)

    def _look(self) -> None:
        """What the monitor does: asks every host what it has and holds in memory. Loads nothing, never raises."""
        with contextlib.suppress(RuntimeError):  # the interpreter is ending: no thread can be started any more
            self.refresh(list(self.catalog.hosts))

    def context_window(self, candidate: Candidate) -> int:
        """Return how many tokens a model takes without being loaded anew, as of the last look.

        That is what it was grown to, else what it was loaded with, else what its server was last seen to give it by
        default, else what Ollama does.
        """
        for info in self.catalog.find(candidate.model, [candidate.host]):
            return self.contexts.window(info, allocated=self.catalog.allocated_context(info))
        return SERVER_DEFAULT

    def record(self, outcome: Outcome) -> None:
        """Learn what became of an attempt: history, circuits and store. Never raises for what it is told.

        Args:
            outcome: what became of it.
        """
        self.warm_up()  # first, or what is stored now would be learned twice, and what was stored be overwritten
        candidate = Candidate(outcome.model, outcome.host)
        kind = _kind(outcome.failure)
        if outcome.kind is OutcomeKind.OK:
            self.circuits.success(candidate)
            self._lost.pop(outcome.host, None)
            for info in self.catalog.find(outcome.model, [outcome.host]):
                self.catalog.note_used(info)
                if self._config.routing.learn:
                    self.history.learn_machine(info, outcome)
        elif kind is not None:
            self._blame(candidate, kind)
            if not MEANINGS[kind].blames_model:
                return
        if self._config.routing.learn and outcome.kind is not OutcomeKind.CANCELLED:
            self.history.record(outcome)
            self.store.record(outcome)

    def _blame(self, candidate: Candidate, kind: FailureKind) -> None:
        meaning = MEANINGS[kind]
        if meaning.blames_host:
            self._lost[candidate.host] = self.clock.monotonic()
            self._enough = (None, None)
            self.circuits.failure(Candidate("", candidate.host))
        elif not meaning.unwell:
            self.circuits.success(candidate)
        elif meaning.blames_model:
            self.circuits.failure(candidate, at_once=meaning.opens)
        if kind is FailureKind.MISSING:
            for info in self.catalog.find(candidate.model, [candidate.host]):
                self.catalog.forget(info)

    def _circuit_changed(self, candidate: Candidate, state: CircuitState) -> None:
        if not self._shares:  # else the board asks for an exchange by itself
            self.store.update_state("circuits", self.circuits.merge)
        for listener in tuple(self.circuit_listeners):
            listener(candidate, state)

    def _context_grown(self) -> None:
        if self._shares:
            self.sharing.poke()
        else:
            self.store.update_state("contexts", self._merge_contexts)

    def _share(self) -> None:
        """Exchange circuits and sizes of context with the processes that share the store. Never raises."""
        self.circuits.take(self.store.update_state("circuits", self.circuits.merge), self.catalog.hosts)
        largest = self.store.update_state("contexts", self._merge_contexts)
        mine = self.contexts.export()
        self.contexts.load({key: size for key, size in largest.items() if size != mine.get(key)})

    def _leave(self) -> None:
        """What the thread that exchanges does before its last time, when the process ends."""
        self.circuits.leave()

    def _merge_contexts(self, stored: Mapping[str, Any] | None) -> dict[str, Any]:
        """Contexts only grow: were each process to ask for its own, each would have the model loaded anew."""
        merged = dict(stored or {})
        for key, size in self.contexts.export().items():
            merged[key] = max(size, merged[key]) if type(merged.get(key)) is int else size
        return merged

    def before_fork(self, timeout: float) -> None:
        """Nothing to bring to rest: what is known changes in single steps."""

    def after_fork_in_parent(self) -> None:
        """Nothing was stopped."""

    def after_fork_in_child(self) -> None:
        """Let go of locks that the parent's threads may hold, and of the requests that run there."""
        for part in (self, self.catalog, self.history, self.contexts, *self.catalog.hosts.values()):
            _fork.renew_locks(part)
        self.views.in_flight = InFlight()

    def started(self, attempt: Attempt) -> None:
        """Note that an attempt began."""
        self.views.in_flight.add(attempt.candidate, 1)
        self.waits.started(attempt.allowance.bounds)

    def settled(self, attempt: Attempt, session: str = "") -> None:
        """Note that an attempt ended; what it says of the model comes through the framework's callbacks."""
        if session and attempt.kind is None:
            self.conversations.note(session, attempt.candidate)
        self.views.in_flight.add(attempt.candidate, -1)
        self.waits.settled(attempt.allowance.bounds, attempt.kind)
        if attempt.kind is None:
            self.contexts.note_answered(attempt.candidate, attempt.allowance.num_ctx)
            # The last look may have been while it answered; the next may be when it was asked for that by number.
            self.contexts.note_allocated(attempt.candidate, self.catalog.allocated_context(attempt.info))
        if attempt.kind is not None and not MEANINGS[attempt.kind].blames_model:
            self.circuits.release(attempt.candidate)

    def health(self, info: ModelInfo) -> HealthStatus:
        """Return a model's health in a word."""
        outcomes, recent, usual = self.history.recent(info.candidate)
        return HealthStatus(health_words(self.circuits.state(info.candidate), outcomes, recent, usual))


def _kind(name: str | None) -> FailureKind | None:
    try:
        return FailureKind(name) if name else None
    except ValueError:  # an outcome of another version
        return FailureKind.SERVER
