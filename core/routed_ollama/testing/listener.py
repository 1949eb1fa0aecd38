"""The server's port: listening, refusing, and all the connections that came in through it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

from routed_ollama.testing.wire import Connection, Handler

_BACKLOG = 512


class Listener:
    """A port that is listened on, or held so that nobody else takes it while whoever connects is refused.

    Everything but the construction happens in one event loop.
    """

    def __init__(self, host: str, port: int, handler: Handler) -> None:
        self.host = host
        self.port = port
        """0 until it is first bound."""
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._held: socket.socket | None = None
        self._connections: set[Connection] = set()

    async def listen(self) -> None:
        """Accept connections.

        Raises:
            OSError: the port is taken.
        """
        sock, self._held = self._held or self._bound(), None
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self._handler, self._connections), sock=sock, backlog=_BACKLOG
        )

    async def refuse(self) -> None:
        """Accept no connections, and close those that wait for a request. Answers on their way are finished."""
        self._close_server()
        if self._held is None:
            with contextlib.suppress(OSError):  # some systems let nobody bind while old connections last: then not held
                self._held = self._bound()
        for connection in tuple(self._connections):
            if connection.idle:
                connection.close_after()

    async def close(self) -> None:
        """Let go of the port and cut every connection."""
        self._close_server()
        if self._held is not None:
            self._held.close()
            self._held = None
        # All at once, as when a process ends: one that is still open must not take a request meanwhile.
        await asyncio.gather(*(connection.stop() for connection in tuple(self._connections)))
        await asyncio.sleep(0)
        for connection in tuple(self._connections):
            connection.abort()  # whoever does not read what was sent

    def _close_server(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _bound(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        # The protocol is named because asyncio turns Nagle's algorithm off only where it is.
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            # Elsewhere it lets a port be used again at once; on Windows it would let two servers share one.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(sys.platform != "win32"))
            sock.bind((self.host, self.port))
        except BaseException:
            sock.close()
            raise
        self.port = sock.getsockname()[1]
        return sock
