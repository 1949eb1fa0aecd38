"""Which models are in memory, and who waits for what: Ollama's scheduler, in one event loop.

The rules (ollama v0.24.0 server/sched.go, and the recordings):

* A request whose model is resident with the wanted settings takes it at once; all others stand in one queue, first
  come first served, bounded by ``max_queue``. One of them is served at a time, so one that waits for a busy model to
  leave makes all others behind it wait; requests for resident models pass by.
* When there is no room, the victim is an idle model, else any; among those the one with the shortest keep-alive, then
  the lowest key. A busy victim is waited for.
* Models with the same weights share a runner. Other settings, or a runner that died, mean loading again.
* A request takes a slot of the runner only after it was scheduled: that wait is bounded by nothing.
* A client that leaves while its model loads aborts the load.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from routed_ollama.testing.clock import Clock, Timer, sleep
from routed_ollama.testing.duration import LONGEST_SECONDS
from routed_ollama.testing.engine import Engine, LoadSettings, ModelCard, Runner

DEFAULT_KEEP_ALIVE = 300.0
DEFAULT_MAX_QUEUE = 512
DEFAULT_MAX_LOADED = 3
DEFAULT_LOAD_TIMEOUT = 300.0
"""All four from ollama v0.24.0 envconfig/config.go, in seconds and requests; the third is three per GPU, or three."""


class QueueFullError(Exception):
    """As many requests wait as may."""


class LoadTimedOutError(Exception):
    """A load was given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the scheduler keeps to; seconds and counts."""

    max_loaded: int = DEFAULT_MAX_LOADED
    num_parallel: int = 1
    max_queue: int = DEFAULT_MAX_QUEUE
    keep_alive: float = DEFAULT_KEEP_ALIVE
    load_timeout: float = DEFAULT_LOAD_TIMEOUT
    memory: int = 0
    """Bytes for all models together; 0: any number."""


@dataclass(eq=False, slots=True)
class Resident:
    """A model in memory."""

    name: str
    """By which it was loaded; aliases share it."""
    key: str
    card: ModelCard
    settings: LoadSettings
    wanted: LoadSettings
    """As they were asked for: what later requests are compared with."""
    runner: Runner
    keep_alive: float
    slots: asyncio.Semaphore
    users: int = 0
    expires_at: float | None = None
    """UTC seconds; None until it was idle for the first time."""
    leaving: bool = False
    """Unload it as soon as it is idle, whatever its keep-alive."""
    closing: bool = False
    timer: Timer | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def bytes(self) -> int:
        """What it takes of the memory."""
        return self.card.resident_bytes(self.settings.num_ctx)

    @property
    def keep_alive_seconds(self) -> float:
        """How long it stays when it becomes idle; for ever is 292 years, as Go counts them."""
        return min(self.keep_alive, LONGEST_SECONDS)

    @property
    def order(self) -> tuple[bool, float, str]:
        """The lowest is unloaded first."""
        return (self.users > 0, self.keep_alive, self.key)


class Listed(NamedTuple):
    """What ``/api/ps`` says of a model, which may still be loading."""

    name: str
    card: ModelCard
    settings: LoadSettings
    expires_at: float
    """UTC seconds."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a request wants in memory."""

    name: str
    """The model's, as listed."""
    engine: Engine
    settings: LoadSettings
    wanted: LoadSettings
    """As asked for: what is compared with other requests."""
    keep_alive: float | None
    """Seconds; None: whatever is usual."""

    @property
    def key(self) -> str:
        """What models that share a runner have in common."""
        return self.engine.card.weights


class _Ticket(NamedTuple):
    """A request in the queue."""

    demand: Demand
    place: asyncio.Future[Resident]


class Scheduler:
    """Loads models on demand and unloads them again."""

    def __init__(self, limits: Limits, clock: Clock, load: Callable[[Demand], Coroutine[Any, Any, Runner]]) -> None:
        self.limits = limits
        self.loads: Counter[str] = Counter()
        """Successful loads by the name that asked."""
        self._clock = clock
        self._load = load
        self._residents: dict[str, Resident] = {}
        self._queue: deque[_Ticket] = deque()
        self._loading: Demand | None = None
        self._unloaded = asyncio.Event()
        self._server: asyncio.Task[None] | None = None
        self._chores: set[asyncio.Task[None]] = set()

    @property
    def residents(self) -> tuple[Resident, ...]:
        """What is in memory, in the order in which it was loaded."""
        return tuple(self._residents.values())

    @property
    def loading(self) -> str | None:
        """Name of the model that is being loaded."""
        demand = self._loading  # looked at once: callers are in other threads
        return None if demand is None else demand.name

    def listed(self) -> list[Listed]:
        """What is in memory or on its way there, the one that stays longest first."""
        now = self._clock.time()
        found = [
            Listed(each.name, each.card, each.settings, each.expires_at or now + each.keep_alive_seconds)
            for each in self._residents.values()
        ]
        if self._loading is not None:
            loading = self._loading
            expires = now + min(self._stay(loading), LONGEST_SECONDS)
            found.append(Listed(loading.name, loading.engine.card, loading.settings, expires))
        return sorted(found, key=lambda each: -each.expires_at)

    async def acquire(self, demand: Demand) -> Resident:
        """A runner for a request, loaded if need be. Give it back with :meth:`release`.

        Raises:
            QueueFullError: too many wait already.
            LoadTimedOutError: loading took too long.
            LoadFailedError: it cannot be loaded.
        """
        resident = self._residents.get(demand.key)
        if resident is not None and self._fits(resident, demand.wanted):
            return self._use(resident, demand.keep_alive)
        if len(self._queue) >= self.limits.max_queue:
            raise QueueFullError
        place: asyncio.Future[Resident] = asyncio.get_running_loop().create_future()
        self._queue.append(_Ticket(demand, place))
        if self._server is None:
            self._server = asyncio.get_running_loop().create_task(self._serve())
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self.release(place.result())
            raise

    def release(self, resident: Resident) -> None:
        """A request is done with its runner."""
        resident.users -= 1
        if resident.users > 0 or resident.closing:
            return
        if resident.leaving or resident.keep_alive <= 0:
            self._chore(self._unload(resident))
        else:
            resident.expires_at = self._clock.time() + resident.keep_alive_seconds
            if resident.keep_alive < LONGEST_SECONDS:
                resident.timer = self._clock.call_later(
                    resident.keep_alive, lambda: self._chore(self._unload(resident))
                )

    async def unload(self, key: str) -> None:
        """Unload a model: now, or as soon as nobody uses it."""
        resident = self._residents.get(key)
        if resident is not None:
            resident.keep_alive = 0.0
            resident.expires_at = self._clock.time()
            if resident.users == 0:
                await self._unload(resident)

    async def close(self) -> None:
        """Stop everything and unload all."""
        if self._server is not None:
            self._server.cancel()
            await asyncio.wait({self._server})
        for ticket in self._queue:
            ticket.place.cancel()
        if self._chores:
            await asyncio.wait(self._chores)
        for resident in self.residents:
            await self._unload(resident)

    def _has_room(self, demand: Demand) -> bool:
        if len(self._residents) >= self.limits.max_loaded:
            return False
        needed = demand.engine.card.resident_bytes(demand.settings.num_ctx)
        taken = sum(each.bytes for each in self._residents.values())
        return not (self.limits.memory and taken and taken + needed > self.limits.memory)

    def _fits(self, resident: Resident, wanted: LoadSettings) -> bool:
        if resident.closing or not resident.runner.alive:
            return False
        return resident.wanted == wanted or (
            wanted.num_gpu < 0 and replace(resident.wanted, num_gpu=wanted.num_gpu) == wanted
        )

    def _use(self, resident: Resident, keep_alive: float | None) -> Resident:
        resident.users += 1
        if resident.timer is not None:
            resident.timer.cancel()
            resident.timer = None
        if keep_alive is not None:
            resident.keep_alive = keep_alive
        return resident

    async def _serve(self) -> None:
        """Serve the queue until it is empty."""
        while self._queue:
            await self._place(self._queue.popleft())
        self._server = None

    async def _place(self, ticket: _Ticket) -> None:
        """Make room, load, and hand over."""
        try:
            resident = await self._brought_in(ticket)
        except asyncio.CancelledError:
            ticket.place.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - whatever an engine raises belongs to the request that asked
            if not ticket.place.done():
                ticket.place.set_exception(error)
            return
        if resident is not None:
            ticket.place.set_result(self._use(resident, ticket.demand.keep_alive))

    async def _brought_in(self, ticket: _Ticket) -> Resident | None:
        """The model a request wants; None when its client has left meanwhile."""
        demand = ticket.demand
        while not ticket.place.done():
            resident = self._residents.get(demand.key)
            if resident is not None and self._fits(resident, demand.wanted):
                return resident
            if resident is None and self._has_room(demand):
                return await self._loaded(ticket)
            await self._evict(resident or min(self.residents, key=lambda each: each.order))
        return None

    async def _loaded(self, ticket: _Ticket) -> Resident | None:
        demand = ticket.demand
        self._loading = demand
        try:
            runner = await self._watched(ticket)
        finally:
            self._loading = None
        if runner is None:
            return None
        self.loads[demand.name] += 1
        resident = Resident(
            name=demand.name,
            key=demand.key,
            card=demand.engine.card,
            settings=demand.settings,
            wanted=demand.wanted,
            runner=runner,
            keep_alive=self._stay(demand),
            slots=asyncio.Semaphore(demand.settings.num_parallel),
        )
        self._residents[demand.key] = resident
        return resident

    async def _watched(self, ticket: _Ticket) -> Runner | None:
        """Load until it is loaded, given up, or nobody wants it any more (None)."""
        loop = asyncio.get_running_loop()
        load = loop.create_task(self._load(ticket.demand))
        too_late = loop.create_task(sleep(self._clock, self.limits.load_timeout))
        waiting: set[asyncio.Future[Any]] = {load, ticket.place, too_late}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (load, too_late):
                task.cancel()
            await asyncio.wait({load, too_late})
        if load.cancelled():
            if not ticket.place.done():
                raise LoadTimedOutError
            return None
        runner: Runner = load.result()
        if ticket.place.done():
            await runner.close()
            return None
        return runner

    def _stay(self, demand: Demand) -> float:
        return self.limits.keep_alive if demand.keep_alive is None else demand.keep_alive

    async def _evict(self, resident: Resident) -> None:
        """Unload a model, or wait until it or any other is unloaded."""
        resident.leaving = True
        if resident.users == 0:
            await self._unload(resident)
        else:
            self._unloaded.clear()
            await self._unloaded.wait()

    async def _unload(self, resident: Resident) -> None:
        if resident.timer is not None:
            resident.timer.cancel()
            resident.timer = None
        if resident.closing:
            await resident.gone.wait()
            return
        resident.closing = True
        try:
            await resident.runner.close()
        finally:
            del self._residents[resident.key]
            resident.gone.set()
            self._unloaded.set()

    def _chore(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that nobody waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
