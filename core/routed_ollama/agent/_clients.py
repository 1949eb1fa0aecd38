"""The official clients that an agent's attempts are sent through: one pair per server, their waits bounded by phase.

The only module of the core that knows the official client, and it imports it when the first agent is made.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from routed_ollama import _fork
from routed_ollama.clients import ClientSettings

if TYPE_CHECKING:
    from ollama import AsyncClient, Client

_MISSING = (
    'An agent talks to Ollama through its official client. Install it with: pip install "routed-ollama[agent]" '
    "(or pip install ollama)."
)


class Clients:
    """Makes and keeps the clients of each server.

    Args:
        settings: what they are made from.

    Raises:
        ImportError: the official client is not installed; says how to install it.
    """

    def __init__(self, settings: ClientSettings) -> None:
        try:
            import ollama  # noqa: PLC0415 (see the module's law)
        except ModuleNotFoundError as error:
            if error.name != "ollama":
                raise
            raise ImportError(_MISSING, name="ollama") from None
        self._ollama = ollama
        self._settings = settings
        self._sync: dict[str, Client] = {}
        self._async: dict[str, AsyncClient] = {}
        self._lock = threading.Lock()
        _fork.owns_locks(self)

    def sync_client(self, host: str) -> Client:
        """Return the client for a server."""
        with self._lock:
            client = self._sync.get(host)
            if client is None:
                client = self._sync[host] = self._ollama.Client(host, **self._settings.arguments(host, async_=False))
                weakref.finalize(self, client.close)
            return client

    def async_client(self, host: str) -> AsyncClient:
        """Return the async client for a server; its connections belong to the loop that runs."""
        with self._lock:
            client = self._async.get(host)
            if client is None:
                client = self._async[host] = self._ollama.AsyncClient(
                    host, **self._settings.arguments(host, async_=True)
                )
            return client

    def close(self) -> None:
        """Close the sync connections; the next request opens new ones."""
        with self._lock:
            clients, self._sync = list(self._sync.values()), {}
        for client in clients:
            client.close()  # type: ignore[no-untyped-call]

    async def aclose(self) -> None:
        """Close all connections, those of the running loop included."""
        self.close()
        with self._lock:
            clients, self._async = list(self._async.values()), {}
        for client in clients:
            await client.close()  # type: ignore[no-untyped-call]
