"""HTTP/1.1 on loopback, as Go's server speaks it. All bytes in and out pass here; nothing else touches a socket.

h11 reads; answers are framed here, because faults must be able to break the frame.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import h11

BUFFERED_BODY = 2048
"""Go's server sends a body of up to so many bytes with its length, a longer one in chunks (``net/http`` server.go)."""

_LINGER_FORMAT = "hh" if sys.platform == "win32" else "ii"


class Received(NamedTuple):
    """A request as it arrived."""

    method: str
    path: str
    """Without the query."""
    header_list: Iterable[tuple[bytes, bytes]]
    """Names in lower case."""
    body: bytes
    at: float
    """When its last byte arrived: ``time.monotonic()``, seconds."""

    @property
    def headers(self) -> dict[str, str]:
        """By name, in lower case."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self.header_list}


class Exchange:
    """One request and its answer. Everything written leaves at once; nothing waits in a buffer of ours."""

    __slots__ = ("_chunked", "_connection", "_head", "received", "started")

    def __init__(self, connection: Connection, received: Received, *, chunked: bool) -> None:
        self._connection = connection
        self._chunked = chunked
        self._head = b""
        self.received = received
        self.started = False
        """Whether anything of the answer was sent."""

    def respond(self, status: int, body: bytes, content_type: str, extra: Headers = ()) -> None:
        """Send a whole answer."""
        if len(body) > BUFFERED_BODY and self._chunked and self.received.method != "HEAD":
            self.start_stream(content_type, status)
            self.end(body)
            return
        head = _head(status, (("Content-Type", content_type), ("Content-Length", str(len(body))), *extra))
        self.started = True
        self._connection.write(head if self.received.method == "HEAD" else head + body)

    def start_stream(self, content_type: str, status: int = HTTPStatus.OK) -> None:
        """Begin an answer in chunks; its head leaves with the first. HTTP/1.0 ends it with the connection."""
        framing = ("Transfer-Encoding", "chunked") if self._chunked else ("Connection", "close")
        self._head = _head(status, (("Content-Type", content_type), framing))

    def send_head(self) -> None:
        """Send the head of an answer that was begun, before there is any chunk."""
        self._send(b"")

    def write(self, data: bytes) -> None:
        """Send one chunk."""
        self._send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self, data: bytes = b"") -> None:
        """Send the last chunk, if there is one, and end the answer properly."""
        if not self._chunked:
            self._send(data)
        else:
            self._send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n")

    async def drain(self) -> None:
        """Let others run; wait while the client does not read."""
        await self._connection.writable()

    def reset(self) -> None:
        """Break the connection with a TCP reset."""
        self._connection.reset()

    def close_in_chunk(self, data: bytes) -> None:
        """Send the first half of a chunk, then close the connection in an orderly way, as a proxy that gives up."""
        begun = self.started or self._head
        self._connection.close_after(self._head + b"%x\r\n%b" % (len(data), data[: len(data) // 2]) if begun else b"")

    def _send(self, data: bytes) -> None:
        self.started = True
        head, self._head = self._head, b""
        self._connection.write(head + data)


Headers = tuple[tuple[str, str], ...]
_REASONS = {status.value: status.phrase for status in HTTPStatus} | {499: "Client Closed Request"}


def _head(status: int, headers: Headers) -> bytes:
    """Status line and headers."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    return f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\n{lines}Date: {_http_date()}\r\n\r\n".encode("latin-1")


Handler = Callable[[Exchange], Coroutine[Any, Any, None]]


class Connection(asyncio.Protocol):
    """A client's connection: requests one after the other, each handled by a task that ends when the client leaves."""

    def __init__(self, handler: Handler, register: set[Connection]) -> None:
        self._handler = handler
        self._register = register
        self._h11 = h11.Connection(h11.SERVER)
        self._transport: asyncio.Transport
        self._task: asyncio.Task[None] | None = None
        self._request: h11.Request | None = None
        self._body: list[bytes] = []
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._closed = False

    @property
    def idle(self) -> bool:
        """Whether it waits for a request."""
        return self._task is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's: the client has connected."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a stream server always gives
        self._transport = transport
        self._register.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Asyncio's: the connection is gone. Whoever still answers it is told to stop."""
        self._closed = True
        self._register.discard(self)
        self._flowing.set()
        if self._task is not None:
            self._task.cancel()

    def eof_received(self) -> bool:
        """Asyncio's: the client sends nothing more. As in Go's server, that means that it has left."""
        return False

    def pause_writing(self) -> None:
        """Asyncio's: the client reads slower than we write."""
        self._flowing.clear()

    def resume_writing(self) -> None:
        """Asyncio's: the client has caught up."""
        self._flowing.set()

    def data_received(self, data: bytes) -> None:
        """Asyncio's: bytes from the client."""
        self._h11.receive_data(data)
        if self._task is None:
            self._advance()

    async def writable(self) -> None:
        """Let others run, then wait until the client reads."""
        await asyncio.sleep(0)
        await self._flowing.wait()

    def write(self, data: bytes) -> None:
        """Send bytes at once; once the connection is gone they go nowhere."""
        self._transport.write(data)

    def reset(self) -> None:
        """Close with a TCP reset instead of an orderly end."""
        linger = struct.pack(_LINGER_FORMAT, 1, 0)
        with contextlib.suppress(OSError):  # it may be gone already
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.abort()

    def abort(self) -> None:
        """Close at once, whatever is still unsent."""
        self._closed = True
        self._transport.abort()

    def close_after(self, data: bytes = b"") -> None:
        """Write raw bytes and close in an orderly way, whatever the protocol still expected."""
        if data:
            self._transport.write(data)
        self._closed = True
        self._transport.close()

    def _advance(self) -> None:
        """Read what has arrived; start the handler once a request is complete."""
        try:
            while True:
                event = self._h11.next_event()
                if isinstance(event, h11.Request):
                    self._start_request(event)
                elif isinstance(event, h11.Data):
                    self._body.append(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    self._dispatch()
                    return
                else:  # more data is needed, or the client has closed
                    return
        except h11.RemoteProtocolError:
            self.close_after(
                b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
                b"Connection: close\r\n\r\n400 Bad Request"
            )

    def _start_request(self, request: h11.Request) -> None:
        self._request, self._body = request, []
        if self._h11.they_are_waiting_for_100_continue:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _dispatch(self) -> None:
        request = self._request
        assert request is not None  # noqa: S101 - h11 gives the end of a message after its head
        received = Received(
            method=request.method.decode("ascii"),
            path=unquote(urlsplit(request.target.decode("latin-1")).path),
            header_list=request.headers,
            body=b"".join(self._body),
            at=time.monotonic(),
        )
        self._task = asyncio.get_running_loop().create_task(
            self._serve(Exchange(self, received, chunked=request.http_version != b"1.0"))
        )

    async def _serve(self, exchange: Exchange) -> None:
        try:
            await self._handler(exchange)
        except BaseException:
            self.close_after()  # what is unfinished stays unfinished
            raise
        finally:
            self._task = None
        if self._closed:
            return
        if self._h11.their_state is not h11.DONE:  # the client asked to close after this one
            self.close_after()
            return
        rest, ended = self._h11.trailing_data
        self._h11 = h11.Connection(h11.SERVER)
        if rest and not ended:
            self._h11.receive_data(rest)
            self._advance()

    async def stop(self) -> None:
        """Stop answering and close."""
        task = self._task
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        self.close_after()


_date: tuple[int, str] = (0, "")


def _http_date() -> str:
    """The time as HTTP writes it; formatted once a second."""
    global _date  # noqa: PLW0603 - a cache of one entry
    now = int(time.time())
    if _date[0] != now:
        _date = (now, formatdate(now, usegmt=True))
    return _date[1]
