"""Which call goes where, and what happens to those that go nowhere (gin's router, as Ollama sets it up)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from routed_ollama.testing import calls, errors
from routed_ollama.testing.answers import Answerer
from routed_ollama.testing.catalog import Catalog, list_body, look_up, ps_body, show_body
from routed_ollama.testing.clock import Clock, sleep
from routed_ollama.testing.engine import LoadFailedError, OutOfMemoryError, Runner
from routed_ollama.testing.errors import ApiError
from routed_ollama.testing.faults import AT_ARRIVAL, AT_LOAD, ActiveFault, Fault, FaultBook
from routed_ollama.testing.lines import JSON, dumps
from routed_ollama.testing.names import parse_name
from routed_ollama.testing.scheduler import Demand, Limits, Scheduler
from routed_ollama.testing.versions import Version
from routed_ollama.testing.wire import Exchange

_log = logging.getLogger(__name__)
TEXT = "text/plain; charset=utf-8"
PLAIN = "text/plain"
_PATHS: dict[str, tuple[str, ...]] = {
    "/": ("GET", "HEAD"),
    "/api/version": ("GET", "HEAD"),
    "/api/tags": ("GET", "HEAD"),
    "/api/ps": ("GET",),
    "/api/show": ("POST",),
    "/api/chat": ("POST",),
    "/api/generate": ("POST",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a server is, as opposed to what it has installed."""

    version: Version
    num_ctx: int = 4096
    """Context of a request that asks for none, in tokens."""
    limits: Limits = field(default_factory=Limits)


class Api:
    """The endpoints, over one catalog and one scheduler. Everything runs in one event loop."""

    def __init__(self, settings: Settings, catalog: Catalog, faults: FaultBook, clock: Clock) -> None:
        self.settings = settings
        self.scheduler = Scheduler(settings.limits, clock, self._load)
        self._catalog = catalog
        self._faults = faults
        self._clock = clock
        self._answerer = Answerer(
            catalog, self.scheduler, faults, clock, version=settings.version, num_ctx=settings.num_ctx
        )
        self._bodies: dict[str, Callable[[Exchange], dict[str, Any]]] = {
            "/api/version": lambda _: {"version": settings.version.text},
            "/api/tags": lambda _: list_body(catalog, llama_server=settings.version.llama_server),
            "/api/ps": lambda _: ps_body(self.scheduler.listed()),
            "/api/show": self._show,
        }

    async def handle(self, exchange: Exchange, model: Callable[[], str | None]) -> None:
        """Answer one call.

        Args:
            exchange: the call.
            model: tells what its body says under ``model``; asked only when a fault is set.
        """
        path = exchange.received.path
        try:
            if not await self._arrived(exchange, path, model):
                return
            if path in {"/api/chat", "/api/generate"}:
                await self._answerer.answer(exchange, "chat" if path == "/api/chat" else "generate")
            elif path == "/":
                exchange.respond(200, b"Ollama is running", TEXT)
            else:
                exchange.respond(200, dumps(self._bodies[path](exchange)), JSON)
        except ApiError as error:
            exchange.respond(error.status, dumps({"error": error.text}), JSON)
        except Exception as error:  # noqa: BLE001 - a script's own mistake must be seen, not waited for
            _log.exception("%s %s failed", exchange.received.method, path)
            text = f"{type(error).__name__}: {error}"
            if exchange.started:
                exchange.end(dumps({"error": text}) + b"\n")
            else:
                exchange.respond(500, dumps({"error": text}), JSON)

    async def _arrived(self, exchange: Exchange, path: str, model: Callable[[], str | None]) -> bool:
        """Whether a call may go on to its endpoint."""
        methods = _PATHS.get(path)
        method = exchange.received.method
        if methods is None:
            self._nowhere(exchange, path)
            return False
        if method not in methods:
            exchange.respond(405, b"405 method not allowed", PLAIN, (("Allow", ", ".join(methods)),))
            return False
        if not self._faults:
            return True
        active = self._faults.take(AT_ARRIVAL, _key(model()), path)
        return active is None or await self._refuse(exchange, active, model() or "")

    @staticmethod
    def _nowhere(exchange: Exchange, path: str) -> None:
        if path != "/" and path.rstrip("/") in _PATHS:
            status = 301 if exchange.received.method == "GET" else 307
            exchange.respond(status, b"", TEXT, (("Location", path.rstrip("/")),))
        else:
            exchange.respond(404, b"404 page not found", PLAIN)

    @staticmethod
    async def _refuse(exchange: Exchange, active: ActiveFault, model: str) -> bool:
        """Let a fault that strikes at arrival strike."""
        if active.fault is Fault.RESET:
            exchange.reset()
            return False
        if active.fault is Fault.HANG_BEFORE_HEADERS:
            await asyncio.Event().wait()
        if active.fault is Fault.BUSY:
            raise ApiError(503, active.text or errors.QUEUE_FULL)
        if active.fault is Fault.NOT_FOUND:
            raise errors.not_found(model)
        raise ApiError(500, active.text or "internal server error")

    async def _load(self, demand: Demand) -> Runner:
        """Load a model, unless a fault or a lack of memory prevents it."""
        active = self._faults.take(AT_LOAD, _key(demand.name))
        needed = demand.engine.card.resident_bytes(demand.settings.num_ctx)
        available = self.settings.limits.memory
        if active is not None and active.fault is Fault.SLOW_LOAD:
            await (asyncio.Event().wait() if active.seconds is None else sleep(self._clock, active.seconds))
        elif active is not None and active.fault is Fault.LOAD_ERROR:
            raise LoadFailedError(active.text or "exit status 2")
        elif active is not None:
            raise OutOfMemoryError(active.text, needed=needed, available=available or needed // 2)
        if available and needed > available:
            raise OutOfMemoryError(needed=needed, available=available)
        return await demand.engine.load(demand.settings)

    def _show(self, exchange: Exchange) -> dict[str, Any]:
        fields, _ = calls.decode(exchange.received.body, calls.SHOW)
        name = fields.get("model") or fields.get("name") or ""
        return show_body(look_up(self._catalog, name, required=ApiError(400, "model is required")), fields)


def _key(model: str | None) -> str | None:
    """A model's key for the book of faults."""
    with contextlib.suppress(ValueError):
        return parse_name(model).key if model else None
    return None
