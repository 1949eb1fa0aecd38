"""A local Ollama server: its protocol, its scheduling and its errors, over models that are scripted or real.

One background thread runs one event loop, and all of the server's state lives there. What callers may touch from other
threads is the facade below.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from routed_ollama.testing.catalog import Catalog
from routed_ollama.testing.clock import Clock, SystemClock
from routed_ollama.testing.engine import Engine
from routed_ollama.testing.faults import INFERENCE, ActiveFault, Fault, FaultBook
from routed_ollama.testing.names import parse_name
from routed_ollama.testing.routes import Api, Settings
from routed_ollama.testing.scheduler import Limits
from routed_ollama.testing.scripted import ScriptedModel
from routed_ollama.testing.wire import Connection, Exchange, Received

_T = TypeVar("_T")
_STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request that arrived."""

    method: str
    path: str
    body: Any = None
    """As JSON, or None where there is none or it is malformed."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""
    raw: bytes = b""
    at: float = 0.0
    """``time.monotonic()``, seconds."""

    @property
    def model(self) -> str | None:
        """The model it names."""
        name = self.body.get("model") if isinstance(self.body, Mapping) else None
        return name if isinstance(name, str) else None


class OllamaServer:
    """A local Ollama server, for tests and for machines without Ollama.

    Args:
        models: what is installed: names (scripted models that answer sensibly) and engines, mixed.
        host: address to listen on.
        port: port to listen on; 0: one that is free.
        version: what ``/api/version`` says; from ``0.30.0`` on it behaves as those versions do.
        max_loaded_models: how many models are in memory at most (``OLLAMA_MAX_LOADED_MODELS``).
        num_parallel: how many requests a model answers at once (``OLLAMA_NUM_PARALLEL``).
        max_queue: how many requests may wait for a model to be loaded (``OLLAMA_MAX_QUEUE``).
        keep_alive: seconds an idle model stays in memory; ``math.inf``: for ever (``OLLAMA_KEEP_ALIVE``).
        load_timeout: seconds after which a load is given up (``OLLAMA_LOAD_TIMEOUT``).
        context_length: tokens of context for a request that asks for none (``OLLAMA_CONTEXT_LENGTH``).
        memory: bytes of memory; a model that needs more cannot be loaded. 0: enough.
        clock: what tells the time; a :class:`~routed_ollama.testing.FakeClock` makes loads, speeds and keep-alive
            pass when the test says so.

    Example:
        >>> import httpx
        >>> with OllamaServer(models=["llama3.1:8b"]) as server:
        ...     body = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "Hi"}], "stream": False}
        ...     httpx.post(f"{server.url}/api/chat", json=body).json()["message"]["content"]
        'You asked: Hi'
    """

    def __init__(
        self,
        models: Iterable[str | Engine] = (),
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        version: str = "0.24.0",
        max_loaded_models: int = 3,
        num_parallel: int = 1,
        max_queue: int = 512,
        keep_alive: float = 300.0,
        load_timeout: float = 300.0,
        context_length: int = 4096,
        memory: int = 0,
        clock: Clock | None = None,
    ) -> None:
        limits = Limits(
            max_loaded=max_loaded_models,
            num_parallel=num_parallel,
            max_queue=max_queue,
            keep_alive=keep_alive,
            load_timeout=load_timeout,
        )
        self._settings = Settings(version=version, num_ctx=context_length, memory=memory, limits=limits)
        self._clock = clock or SystemClock()
        self._host = host
        self._port = port
        self._catalog = Catalog()
        self._faults = FaultBook()
        self._requests: list[RecordedRequest] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._api: Api | None = None
        self._listener: asyncio.Server | None = None
        self._reserved: socket.socket | None = None
        self._connections: set[Connection] = set()
        for model in models:
            self.add_model(model)

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen. Nothing happens when it already does.

        Raises:
            OSError: the port is taken.
        """
        if self._thread is not None:
            return self
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(self._loop,), name="ollama-server", daemon=True)
        self._thread.start()
        try:
            self._call(self._open())
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop as a server that is ended does: streams are cut, models unloaded, the port is free again."""
        thread, loop = self._thread, self._loop
        if thread is None or loop is None:
            return
        self._call(self._close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_STOP_SECONDS)
        self._thread = self._loop = self._api = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)

    @property
    def url(self) -> str:
        """Base URL, without a trailing slash."""
        return f"http://{self._host}:{self.port}"

    @property
    def port(self) -> int:
        """The port it listens on; kept when it is stopped and started again."""
        return self._port

    # -- models -------------------------------------------------------------------------------------------------------

    def add_model(self, model: str | Engine) -> None:
        """Install a model; one of the same name is replaced."""
        engine = ScriptedModel(model) if isinstance(model, str) else model
        if isinstance(engine, ScriptedModel):
            engine.clock = self._clock
            for fault in engine.faults:
                self.fail(engine.card.name, fault)
        self._catalog.add(engine, self._clock.time())

    def remove_model(self, name: str) -> None:
        """Delete a model and unload it.

        Raises:
            KeyError: it is not installed.
        """
        installed = self._catalog.remove(name)
        if self._api is not None:
            self._call(self._api.scheduler.unload(installed.card.weights))

    def unload(self, name: str) -> None:
        """Unload a model: now, or as soon as nobody uses it.

        Raises:
            KeyError: it is not installed.
        """
        if self._api is not None:
            self._call(self._api.scheduler.unload(self._catalog.get(name).card.weights))

    @property
    def resident(self) -> tuple[str, ...]:
        """Names of the models in memory, in the order in which they were loaded."""
        return tuple(each.card.name for each in self._api.scheduler.residents) if self._api else ()

    @property
    def loads(self) -> dict[str, int]:
        """How often each model was loaded since the start."""
        return dict(self._api.scheduler.loads) if self._api else {}

    # -- faults -------------------------------------------------------------------------------------------------------

    def fail(
        self,
        model: str | None,
        fault: Fault | str,
        *,
        times: int | None = None,
        after_chunks: int = 1,
        seconds: float | None = None,
        text: str = "",
        endpoints: Iterable[str] = INFERENCE,
    ) -> ActiveFault:
        """Let something go wrong, from the next request on.

        Args:
            model: which model it is for; None: all.
            fault: what goes wrong.
            times: how often; None: until it is cleared.
            after_chunks: for faults in the middle of an answer, how many chunks come before.
            seconds: for ``SLOW_LOAD``, how much longer loading takes; None: for ever.
            text: instead of the usual error text.
            endpoints: which paths it is for; by default chat and generate.

        Returns:
            The fault as it is set; it counts its ``hits``, and as a context manager it is cleared at the end.

        Raises:
            ValueError: ``REFUSE`` for one model, or for a number of times: who refuses does not see who asks.
        """
        active = ActiveFault(
            Fault(fault),
            model=None if model is None else parse_name(model).key,
            times=times,
            after_chunks=after_chunks,
            seconds=seconds,
            text=text,
            endpoints=frozenset(endpoints),
        )
        if active.fault is not Fault.REFUSE:
            return self._faults.add(active)
        if model is not None or times is not None:
            raise ValueError("REFUSE is for the whole server until it is cleared; RESET is for one model or a number")
        self._faults.add(active)
        active.on_clear = self._reopen
        if self._api is not None:
            self._call(self._refuse())
        return active

    def heal(self, model: str | None = None) -> None:
        """Clear all faults of a model, or with None all there are. Requests that hang stay as they are."""
        self._faults.clear(None if model is None else parse_name(model).key)

    # -- what has happened --------------------------------------------------------------------------------------------

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """What has arrived so far, in order."""
        with self._changed:
            return tuple(self._requests)

    def forget_requests(self) -> None:
        """Start :attr:`requests` anew."""
        with self._changed:
            self._requests.clear()

    def wait_for_request(
        self, matches: Callable[[RecordedRequest], bool] | None = None, *, count: int = 1, timeout: float = 10.0
    ) -> RecordedRequest:
        """Wait until so many requests have arrived.

        Args:
            matches: which ones count; None: all.
            count: how many.
            timeout: seconds to wait at most.

        Returns:
            The last of them.

        Raises:
            TimeoutError: they did not come.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                found = [each for each in self._requests if matches is None or matches(each)]
                if len(found) >= count:
                    return found[count - 1]
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"{len(found)} of {count} requests came within {timeout} s")

    def wait_until(self, condition: Callable[[], bool], timeout: float = 10.0) -> None:
        """Wait until something is true of the server.

        Args:
            condition: what is asked, again and again; for example ``lambda: not server.resident``.
            timeout: seconds to wait at most.

        Raises:
            TimeoutError: it did not come true.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not true within {timeout} s")
            time.sleep(0.002)

    # -- inside -------------------------------------------------------------------------------------------------------

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do something in the server's loop and wait for it."""
        if self._loop is None:
            work.close()
            raise RuntimeError("the server is not running")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self) -> None:
        self._api = Api(self._settings, self._catalog, self._faults, self._clock)
        self._reserved = self._bound_socket()
        await self._listen()

    def _bound_socket(self) -> socket.socket:
        """A socket that holds the port without listening: who connects is refused, and nobody else can take it."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            if sys.platform != "win32":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self._host, self._port))
        except BaseException:
            sock.close()
            raise
        self._port = sock.getsockname()[1]
        return sock

    async def _listen(self) -> None:
        sock, self._reserved = self._reserved, None
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: Connection(self._handle, self._connections), sock=sock, backlog=512
        )

    async def _refuse(self) -> None:
        """Stop listening but keep the port; connections that wait for a request are closed."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            self._reserved = self._bound_socket()
        for connection in tuple(self._connections):
            if connection.idle:
                connection.close_after()

    def _reopen(self) -> None:
        if self._api is not None:
            self._call(self._listen_again())

    async def _listen_again(self) -> None:
        if self._listener is None:
            await self._listen()

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        if self._reserved is not None:
            self._reserved.close()
        self._listener = self._reserved = None
        for connection in tuple(self._connections):
            await connection.stop()
        if self._api is not None:
            await self._api.scheduler.close()

    async def _handle(self, exchange: Exchange) -> None:
        record = _recorded(exchange.received)
        with self._changed:
            self._requests.append(record)
            self._changed.notify_all()
        assert self._api is not None  # noqa: S101 - connections exist only while it does
        await self._api.handle(exchange, record.model)


def _recorded(received: Received) -> RecordedRequest:
    try:
        body = json.loads(received.body) if received.body else None
    except (ValueError, RecursionError):
        body = None
    return RecordedRequest(received.method, received.path, body, received.headers, received.body, received.at)
