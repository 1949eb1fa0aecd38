"""A loopback proxy before an Ollama server that cuts streamed answers short: the one fault no server makes on request.

Law: what passes is passed on unchanged and at once (status, headers, every byte of every body); a client that leaves
has left upstream too, and the other way round. The only thing that is ever done to an answer is to end its connection.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, Self

import h11
import httpx

__all__ = ["CuttingProxy"]

_READ_BYTES = 65536
_CONNECT_SECONDS = 10.0
_OF_ONE_CONNECTION = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"expect", b"host"},
)
"""Headers that concern one connection, not the message (RFC 9110, 7.6.1); the other connection gets its own."""
_LINGER_ZERO = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class CuttingProxy:
    """Stands before an Ollama server and, when armed, cuts streamed ``/api/chat`` answers after some lines.

    A context manager; it runs in a thread of its own and may be used from any. Until it is armed, and when it has cut
    as often as it was told to, everything passes. An answer that ends by itself before the place of the cut passes too.

    Args:
        upstream_url: base URL of the server behind it. One that cannot be reached is reported to clients as a 502.
        cut_after_chunks: arm it at once: cut after so many lines of a streamed answer.
        times: how many answers to cut.
        model: cut this model's answers only.
        reset: end the connection with a TCP reset, as a crashed machine does, instead of a close, as a crashed process
            does. What is still under way when it comes may be lost with it.

    Example:
        >>> with CuttingProxy("http://127.0.0.1:11434", cut_after_chunks=5) as proxy:  # doctest: +SKIP
        ...     client = ollama.Client(host=proxy.url)
    """

    def __init__(
        self,
        upstream_url: str,
        *,
        cut_after_chunks: int | None = None,
        times: int = 1,
        model: str | None = None,
        reset: bool = False,
    ) -> None:
        self._upstream = httpx.URL(upstream_url.rstrip("/"))
        self._reset = reset
        self._orders = _Orders()
        self._thread: threading.Thread | None = None
        self._url = ""
        self._port = 0
        self._stop: Callable[[], object]
        if cut_after_chunks is not None:
            self.arm(cut_after_chunks, model, times=times)

    @property
    def url(self) -> str:
        """Base URL for clients.

        Raises:
            RuntimeError: the proxy does not run.
        """
        if self._thread is None:
            raise RuntimeError("the proxy does not run; use it in a with statement")
        return self._url

    @property
    def cuts(self) -> int:
        """How many answers it has cut."""
        return self._orders.cuts

    def arm(self, after_chunks: int, model: str | None = None, *, times: int = 1) -> None:
        """Cut the next answers. Replaces what was ordered before; an answer under way is cut as well.

        Args:
            after_chunks: how many lines of the stream still reach the client.
            model: whose answers; every model's when left out. ``llama3`` means ``llama3:latest``, as in Ollama.
            times: how many answers.

        Raises:
            ValueError: a negative number.
        """
        if after_chunks < 0 or times < 0:
            raise ValueError(f"after_chunks and times count from 0, not {after_chunks} and {times}")
        self._orders.give(_Order(after_chunks, times, None if model is None else _full_name(model)))

    def start(self) -> Self:
        """Listen on a free loopback port; again after it was closed, on the same. What entering the context does."""
        if self._thread is None:
            listening: Future[tuple[str, Callable[[], object]]] = Future()
            self._thread = threading.Thread(target=self._run, args=(listening,), name="cutting-proxy", daemon=True)
            self._thread.start()
            self._url, self._stop = listening.result()
            self._port = httpx.URL(self._url).port or 0
        return self

    def close(self) -> None:
        """End every connection and stop. Safe to call twice."""
        if self._thread is not None:
            self._stop()
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, listening: Future[tuple[str, Callable[[], object]]]) -> None:
        try:
            asyncio.run(self._serve(listening))
        except OSError as error:  # no port, or httpx cannot read its certificates
            self._thread = None
            listening.set_exception(error)

    async def _serve(self, listening: Future[tuple[str, Callable[[], object]]]) -> None:
        """All of its life, in its thread."""
        loop, stop, tasks = asyncio.get_running_loop(), asyncio.Event(), set[asyncio.Task[None]]()
        # Every exchange has a connection of its own upstream: one that was cut must not be used again.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        timeout = httpx.Timeout(None, connect=_CONNECT_SECONDS)  # how long an answer may take is the client's affair
        async with httpx.AsyncClient(timeout=timeout, limits=limits) as client:

            def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                upstream = _Upstream(client, self._upstream)
                task = loop.create_task(_Connection(reader, writer, upstream, self._orders, reset=self._reset).serve())
                tasks.add(task)
                task.add_done_callback(tasks.discard)

            server = await asyncio.start_server(connected, "127.0.0.1", self._port)
            host, port = server.sockets[0].getsockname()
            listening.set_result((f"http://{host}:{port}", partial(loop.call_soon_threadsafe, stop.set)))
            await stop.wait()
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class _Order:
    after_lines: int
    times: int
    model: str | None


class _Orders:
    """What is to be cut, given from any thread and carried out in the proxy's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._order: _Order | None = None
        self.cuts = 0

    def give(self, order: _Order) -> None:
        with self._lock:
            self._order = order

    def take(self, model: str, lines: int) -> bool:
        """Whether an answer that has come so far is to be cut here; if so, it counts as cut."""
        with self._lock:
            order = self._order
            if order is None or not order.times or lines < order.after_lines or order.model not in {None, model}:
                return False
            self._order = replace(order, times=order.times - 1)
            self.cuts += 1
            return True


class _Place:
    """Finds the place of the cut in one streamed answer, which arrives in pieces that know nothing of lines."""

    def __init__(self, orders: _Orders, model: str) -> None:
        self._orders = orders
        self._model = model
        self._lines = 0
        self._begun = b""

    def find(self, piece: bytes) -> int | None:
        """How many bytes of a piece still pass before the cut; None: all of them, and it is not here."""
        passed = 0
        while not self._orders.take(self._model, self._lines):
            end = piece.find(b"\n", passed) + 1
            if not end:
                self._begun += piece[passed:]
                return None
            line, self._begun, passed = self._begun + piece[passed:end], b"", end
            if b'"done":true' in line:  # inside a text its quotes would be escaped
                return None
            self._lines += 1
        return passed


class _CutError(Exception):
    """The answer ends here."""


@dataclass(frozen=True, slots=True)
class _Upstream:
    client: httpx.AsyncClient
    url: httpx.URL

    async def send(self, request: h11.Request, body: bytes) -> httpx.Response:
        """Pass a request on; the answer's body is still to come."""
        url = self.url.copy_with(raw_path=self.url.raw_path.rstrip(b"/") + request.target)
        headers = _kept(request.headers.raw_items())
        return await self.client.send(
            httpx.Request(request.method.decode(), url, headers=headers, content=body), stream=True
        )


class _Connection:
    """One client's connection: its requests, one after another."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream: _Upstream,
        orders: _Orders,
        *,
        reset: bool,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._upstream = upstream
        self._orders = orders
        self._reset = reset
        self._http = h11.Connection(h11.SERVER)
        writer.transport.set_write_buffer_limits(high=0)  # so that drain() means: nothing is left to be sent

    async def serve(self) -> None:
        """Until the client leaves, either side breaks, or an answer is cut."""
        try:
            with suppress(OSError, h11.ProtocolError, httpx.TransportError, _CutError):
                while await self._exchange():
                    self._http.start_next_cycle()
        except asyncio.CancelledError:  # the proxy stops; a client that does not read must not hold it up
            self._writer.transport.abort()
            raise
        finally:
            self._writer.close()

    async def _exchange(self) -> bool:
        """One request and its answer. Returns whether another may follow on this connection."""
        request = await self._next_event()
        if not isinstance(request, h11.Request):
            return False
        body = b""
        while isinstance(data := await self._next_event(), h11.Data):
            body += data.data
        await self._while_client_stays(self._answer(request, body))
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _next_event(self) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await self._reader.read(_READ_BYTES))
        return event

    async def _while_client_stays(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work, and drop it when the client leaves: an answer for nobody is not to be generated."""
        answer = asyncio.create_task(work)
        departure = asyncio.create_task(self._reader.read(_READ_BYTES))
        try:
            await asyncio.wait({answer, departure}, return_when=asyncio.FIRST_COMPLETED)
            if departure.done():
                early = departure.result()
                if not early and not answer.done():
                    raise ConnectionResetError
                self._http.receive_data(early)  # the next request, sent before this one's answer
            await answer
        finally:
            for task in (answer, departure):
                task.cancel()
            await asyncio.gather(answer, departure, return_exceptions=True)

    async def _answer(self, request: h11.Request, body: bytes) -> None:
        try:
            response = await self._upstream.send(request, body)
        except httpx.TransportError as error:
            await self._unreachable(error)
            return
        place = _Place(self._orders, _model_of(body)) if _is_chat_stream(request, response) else None
        try:
            reason = response.extensions.get("reason_phrase", b"")
            headers = _kept(response.headers.raw)
            await self._send(h11.Response(status_code=response.status_code, headers=headers, reason=reason))
            async for piece in response.aiter_raw():
                if place is not None and (passing := place.find(piece)) is not None:
                    await self._send(h11.Data(data=piece[:passing]))
                    raise self._cut()
                await self._send(h11.Data(data=piece))
            await self._send(h11.EndOfMessage())
        finally:
            await response.aclose()

    async def _unreachable(self, error: httpx.TransportError) -> None:
        text = f"the proxy cannot reach {self._upstream.url.copy_with(userinfo=b'')}: {error}"
        body = json.dumps({"error": text}).encode()
        headers = [("content-type", "application/json; charset=utf-8"), ("content-length", str(len(body)))]
        await self._send(h11.Response(status_code=502, headers=headers))
        await self._send(h11.Data(data=body))
        await self._send(h11.EndOfMessage())

    def _cut(self) -> _CutError:
        if self._reset:
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            self._writer.transport.abort()
        return _CutError()

    async def _send(self, event: h11.Event) -> None:
        if data := self._http.send(event):
            self._writer.write(data)
            await self._writer.drain()


def _kept(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name.lower() not in _OF_ONE_CONNECTION]


def _is_chat_stream(request: h11.Request, response: httpx.Response) -> bool:
    path = request.target.partition(b"?")[0]
    return path == b"/api/chat" and response.headers.get("content-type", "").startswith("application/x-ndjson")


def _model_of(body: bytes) -> str:
    """The model that a request names; empty when it cannot be read, which is the server's affair."""
    try:
        return _full_name(str(json.loads(body)["model"]))
    except (ValueError, KeyError, TypeError):
        return ""


def _full_name(model: str) -> str:
    return model if ":" in model else f"{model}:latest"
