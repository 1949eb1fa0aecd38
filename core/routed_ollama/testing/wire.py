"""HTTP/1.1 on loopback, as Go's server speaks it. All bytes in and out pass here; nothing else touches a socket.

h11 keeps the protocol right; where a fault wants it broken, the transport is written to or torn down directly.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urlsplit

import h11

BUFFERED_BODY = 2048
"""Go's server sends a body up to this many bytes with its length and a longer one in chunks (``net/http`` server.go)."""

_LINGER_FORMAT = "hh" if sys.platform == "win32" else "ii"


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it arrived."""

    method: str
    path: str
    """Without the query."""
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Names in lower case."""
    body: bytes = b""
    at: float = 0.0
    """When its last byte arrived: ``time.monotonic()``, seconds."""


class Exchange:
    """One request and its answer. Everything written leaves at once; nothing waits in a buffer of ours."""

    __slots__ = ("_connection", "_head", "received", "started")

    def __init__(self, connection: Connection, received: Received) -> None:
        self._connection = connection
        self._head = b""
        self.received = received
        self.started = False
        """Whether anything of the answer was sent."""

    def respond(self, status: int, body: bytes, content_type: str, extra: Headers = ()) -> None:
        """Send a whole answer."""
        length = () if len(body) > BUFFERED_BODY else (("Content-Length", str(len(body))),)
        self._begin(status, (("Content-Type", content_type), *length, *extra))
        self.end(b"" if self.received.method == "HEAD" else body)

    def start_stream(self, content_type: str, status: int = HTTPStatus.OK) -> None:
        """Begin an answer in chunks; its head leaves with the first of them."""
        self._begin(status, (("Content-Type", content_type),))

    def write(self, data: bytes) -> None:
        """Send one chunk."""
        self._send(self._connection.encode(h11.Data(data=data)))

    def end(self, data: bytes = b"") -> None:
        """Send the last chunk, if there is one, and end the answer properly."""
        chunk = self._connection.encode(h11.Data(data=data)) if data else b""
        self._send(chunk + self._connection.encode(h11.EndOfMessage()))

    async def drain(self) -> None:
        """Wait while the client does not read."""
        await self._connection.writable()

    def reset(self) -> None:
        """Break the connection with a TCP reset."""
        self._connection.reset()

    def close_in_chunk(self, data: bytes) -> None:
        """Send the first half of a chunk, then close the connection in an orderly way, as a proxy that gives up does."""
        half = data[: max(1, len(data) // 2)]
        self._connection.close_after(self._head + b"%x\r\n" % len(data) + half if self.started or self._head else b"")

    def _begin(self, status: int, headers: Headers) -> None:
        response = h11.Response(
            status_code=status, reason=_REASONS.get(status, b""), headers=[*headers, ("Date", _http_date())]
        )
        self._head = self._connection.encode(response)

    def _send(self, data: bytes) -> None:
        self.started = True
        head, self._head = self._head, b""
        self._connection.write(head + data)


Headers = tuple[tuple[str, str], ...]
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}

Handler = Callable[[Exchange], Coroutine[Any, Any, None]]


class Connection(asyncio.Protocol):
    """One client's connection: requests one after the other, each handled by a task that ends when the client leaves."""

    def __init__(self, handler: Handler, register: set[Connection]) -> None:
        self._handler = handler
        self._register = register
        self._h11 = h11.Connection(h11.SERVER)
        self._transport: asyncio.Transport
        self._task: asyncio.Task[None] | None = None
        self._request: h11.Request | None = None
        self._body: list[bytes] = []
        self._resumed: asyncio.Event | None = None
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
        if self._resumed is not None:
            self._resumed.set()
        if self._task is not None:
            self._task.cancel()

    def eof_received(self) -> bool:
        """Asyncio's: the client sends nothing more. As in Go's server, that means that it has left."""
        return False

    def pause_writing(self) -> None:
        """Asyncio's: the client reads slower than we write."""
        self._resumed = asyncio.Event()

    def resume_writing(self) -> None:
        """Asyncio's: the client has caught up."""
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None

    def data_received(self, data: bytes) -> None:
        """Asyncio's: bytes from the client."""
        self._h11.receive_data(data)
        if self._task is None:
            self._advance()

    async def writable(self) -> None:
        """Wait until the client reads again."""
        if self._resumed is not None:
            await self._resumed.wait()

    def encode(self, event: h11.Event) -> bytes:
        """The bytes of one event."""
        return self._h11.send(event) or b""

    def write(self, data: bytes) -> None:
        """Send bytes at once; nothing once the connection is gone."""
        if data and not self._closed:
            self._transport.write(data)

    def reset(self) -> None:
        """Close with a TCP reset instead of an orderly end."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(_LINGER_FORMAT, 1, 0))
        self._closed = True
        self._transport.abort()

    def close_after(self, data: bytes = b"") -> None:
        """Write raw bytes and close in an orderly way, whatever the protocol still expected."""
        if data and not self._closed:
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
            self.write(self.encode(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")))

    def _dispatch(self) -> None:
        request = self._request
        assert request is not None  # noqa: S101 - h11 gives the end of a message after its head
        received = Received(
            method=request.method.decode("ascii"),
            path=unquote(urlsplit(request.target.decode("latin-1")).path),
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers},
            body=b"".join(self._body),
            at=time.monotonic(),
        )
        self._task = asyncio.get_running_loop().create_task(self._serve(Exchange(self, received)))

    async def _serve(self, exchange: Exchange) -> None:
        try:
            await self._handler(exchange)
        except asyncio.CancelledError:
            if not self._closed:  # the server is being stopped: what is unfinished stays unfinished
                self.close_after()
            raise
        finally:
            self._task = None
        if self._closed:
            return
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
            self._advance()
        else:
            self.close_after()

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
