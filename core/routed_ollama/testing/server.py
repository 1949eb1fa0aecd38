"""A local Ollama server: its protocol, its scheduling and its errors, over models that are scripted or real.

One background thread runs one event loop, and all of the server's state lives there. What callers may touch from other
threads is the facade below.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Self

from routed_ollama.testing.catalog import Catalog
from routed_ollama.testing.clock import Clock, SystemClock
from routed_ollama.testing.engine import Engine
from routed_ollama.testing.faults import INFERENCE, ActiveFault, Fault, FaultBook
from routed_ollama.testing.listener import Listener
from routed_ollama.testing.names import parse_name
from routed_ollama.testing.recorded import RecordedRequest, RequestLog
from routed_ollama.testing.routes import Api, Settings
from routed_ollama.testing.scheduler import Limits
from routed_ollama.testing.scripted import ScriptedModel
from routed_ollama.testing.versions import Version
from routed_ollama.testing.wire import Exchange

_STOP_SECONDS = 10.0
_BACKLOG = 512


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
        memory: bytes of memory. Models leave to make room; one that needs more alone cannot be loaded. 0: enough.
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
            memory=memory,
        )
        self._settings = Settings(version=Version.parse(version), num_ctx=context_length, limits=limits)
        self._clock = clock or SystemClock()
        self._listener = Listener(host, port, self._handle)
        self._refusals = 0
        self._catalog = Catalog()
        self._faults = FaultBook()
        self._log = RequestLog()
        self._life = threading.RLock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._own: set[asyncio.Task[None]] = set()
        self._api = self._new_api()
        now = self._clock.time()
        for model in models:
            self._install(model, now)

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen. Nothing happens when it already does.

        Raises:
            OSError: the port is taken.
        """
        with self._life:
            if self._thread is not None:
                return self
            self._api = self._new_api()
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
        with self._life:
            thread, loop = self._thread, self._loop
            if thread is None or loop is None:
                return
            try:
                self._call(self._close())
            finally:
                loop.call_soon_threadsafe(loop.stop)
                thread.join(_STOP_SECONDS)
                self._thread = self._loop = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)

    def __repr__(self) -> str:
        return f"OllamaServer({self.url})"

    @property
    def url(self) -> str:
        """Base URL, without a trailing slash."""
        host = self._listener.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def port(self) -> int:
        """The port it listens on; kept when it is stopped and started again."""
        return self._listener.port

    # -- models -------------------------------------------------------------------------------------------------------

    def add_model(self, model: str | Engine) -> None:
        """Install a model; one of the same name is replaced."""
        self._install(model, self._clock.time())

    def remove_model(self, name: str) -> None:
        """Delete a model and unload it.

        Raises:
            KeyError: it is not installed.
        """
        installed = self._catalog.remove(name)
        self._call(self._api.scheduler.unload(installed.card.weights))

    def unload(self, name: str) -> None:
        """Unload a model: now, or as soon as nobody uses it.

        Raises:
            KeyError: it is not installed.
        """
        self._call(self._api.scheduler.unload(self._catalog.get(name).card.weights))

    def crash(self, name: str) -> None:
        """Let a model's runner die, as if it had been killed; what it is answering breaks off.

        Raises:
            KeyError: the model is not in memory.
        """
        weights = self._catalog.get(name).card.weights
        resident = next((each for each in self._api.scheduler.residents if each.key == weights), None)
        if resident is None:
            raise KeyError(f"{name} is not in memory")
        self._call(resident.runner.close())

    @property
    def loading(self) -> str | None:
        """Name of the model that is being loaded."""
        return self._api.scheduler.loading

    @property
    def resident(self) -> tuple[str, ...]:
        """Names of the models in memory, in the order in which they were loaded."""
        return tuple(each.name for each in self._api.scheduler.residents)

    @property
    def loads(self) -> dict[str, int]:
        """How often each model was loaded since the start."""
        return dict(self._api.scheduler.loads)

    # -- faults -------------------------------------------------------------------------------------------------------

    def fail(
        self,
        model: str | None,
        fault: Fault | str,
        *,
        times: int | None = None,
        after_chunks: int = 1,
        seconds: float | None = None,
        size: int | None = None,
        text: str = "",
        endpoints: Iterable[str] = INFERENCE,
    ) -> ActiveFault:
        """Let something go wrong, from the next request on.

        Args:
            model: which model it is for; None: all.
            fault: what goes wrong.
            times: how often; None: until it is cleared.
            after_chunks: for faults in the middle of an answer, how many chunks come before.
            seconds: for ``SLOW_LOAD`` how much longer loading takes, for ``STALL`` how long nothing comes; None: for
                ever. For ``DRIP`` the time between two chunks.
            size: bytes of a ``LONG_LINE``; tokens of its prompt that a ``PROMPT_CUT`` leaves.
            text: instead of the usual error text, or of the phrase that is repeated.
            endpoints: which paths it is for; by default chat and generate.

        Returns:
            The fault as it is set; it counts its ``hits``, and as a context manager it is cleared at the end.

        Raises:
            ValueError: ``REFUSE`` for one model, or for a number of times: who refuses does not see who asks.
        """
        active = ActiveFault(
            fault=Fault(fault),
            book=self._faults,
            model=None if model is None else parse_name(model).key,
            times=times,
            after_chunks=after_chunks,
            seconds=seconds,
            size=size,
            text=text,
            endpoints=frozenset(endpoints),
        )
        if active.fault is not Fault.REFUSE:
            return self._faults.add(active)
        if model is not None or times is not None:
            raise ValueError("REFUSE is for the whole server until it is cleared; RESET is for one model or a number")
        active.on_clear = lambda: self._refuse(-1)
        self._faults.add(active)
        self._refuse(+1)
        return active

    def heal(self, model: str | None = None) -> None:
        """Clear all faults of a model, or with None all there are. Requests that hang stay as they are."""
        self._faults.clear(None if model is None else parse_name(model).key)

    # -- what has happened --------------------------------------------------------------------------------------------

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """What has arrived so far, in order."""
        return self._log.all()

    def forget_requests(self) -> None:
        """Start :attr:`requests` anew."""
        self._log.clear()

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
        return self._log.wait(matches, count, timeout)

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
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    def _install(self, model: str | Engine, now: float) -> None:
        engine = ScriptedModel(model) if isinstance(model, str) else model
        if isinstance(engine, ScriptedModel):
            engine.clock = self._clock
            for fault in engine.faults:
                self.fail(engine.card.name, fault)
        self._catalog.add(engine, now)

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something in the server's loop and wait for it; a script, which runs there itself, does not wait.

        While the server does not run there is nothing to be done.
        """
        if self._loop is None:
            work.close()
        elif threading.current_thread() is self._thread:
            self._own.add(task := self._loop.create_task(work))
            task.add_done_callback(self._own.discard)
        else:
            asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _new_api(self) -> Api:
        return Api(self._settings, self._catalog, self._faults, self._clock)

    async def _open(self) -> None:
        await (self._listener.refuse() if self._refusals else self._listener.listen())

    async def _close(self) -> None:
        await self._listener.close()
        await self._api.scheduler.close()

    def _refuse(self, step: int) -> None:
        """One more or one fewer reason to refuse connections."""
        self._refusals += step
        self._call(self._listener.refuse() if self._refusals else self._listener.listen())

    async def _handle(self, exchange: Exchange) -> None:
        record = RecordedRequest(exchange.received)
        self._log.add(record)
        await self._api.handle(exchange, lambda: record.model)
