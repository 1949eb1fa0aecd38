"""The only module that talks to Ollama outside an answer: what is installed, what is in memory, is it alive.

Everything here is bounded (seconds, not minutes), loads no model unless ``load`` is called, and takes no server's word
for granted: an answer of the wrong shape is an error that says so.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import httpx

from routed_ollama.config import normalize_host
from routed_ollama.errors import HostUnreachableError, describe
from routed_ollama.types import Residency

_CONNECT_SECONDS: Final = 3.0
_READ_SECONDS: Final = 10.0
_LOAD_SECONDS: Final = 600.0


class OllamaHost:
    """One Ollama server.

    Args:
        url: base URL, with or without credentials (those go into a header and appear nowhere).
        client: makes the HTTP client on first use; gets the clean URL, headers and default timeout as keyword
            arguments. Adapters pass one that honours the user's proxy, certificates and transport.

    Example:
        >>> OllamaHost("http://user:secret@127.0.0.1:11434").url
        'http://127.0.0.1:11434'
    """

    def __init__(self, url: str, client: Callable[..., httpx.Client] = httpx.Client) -> None:
        self.url = normalize_host(url)
        self.auth = _credentials(url)
        self._make = client
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"OllamaHost({self.url!r})"

    @property
    def local(self) -> bool:
        """Whether it is this machine."""
        name = httpx.URL(self.url).host
        return name in {"localhost", "::1"} or name.startswith("127.")

    def _http(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                self._client = self._make(
                    base_url=self.url,
                    auth=self.auth,
                    timeout=httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
                    follow_redirects=True,
                )
                weakref.finalize(self, self._client.close)
            return self._client

    def close(self) -> None:
        """Close its connections; the next call opens new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            response = self._http().request(method, path, json=body)
        except httpx.HTTPError as error:
            raise HostUnreachableError(f"{self.url} does not answer: {describe(error)}") from error
        if response.is_error:
            raise HostUnreachableError(f"{self.url}{path} answered {response.status_code}: {response.text[:200]}")
        try:
            data = response.json()
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise HostUnreachableError(f"{self.url} answers, but not like an Ollama server ({path}). Check base_url.")
        return data

    def version(self) -> str:
        """Return the server's version; raises ``HostUnreachableError`` when it does not answer."""
        return str(self._json("GET", "/api/version").get("version", ""))

    def tags(self) -> list[dict[str, Any]]:
        """Return the installed models as the server lists them, entries of the wrong shape left out."""
        return _entries(self._json("GET", "/api/tags"))

    def show(self, model: str) -> dict[str, Any]:
        """Return what the server knows of one model."""
        return self._json("POST", "/api/show", {"model": model})

    def resident(self) -> list[Residency]:
        """Return the models in memory."""
        return [
            Residency(
                model=entry["name"],
                size=_int(entry.get("size")),
                context_length=_int(entry.get("context_length")),
                expires_at=_timestamp(entry.get("expires_at")),
            )
            for entry in _entries(self._json("GET", "/api/ps"))
        ]

    def load(self, model: str, keep_alive: str | int | None = None) -> None:
        """Bring a model into memory and wait until it is there, for at most ten minutes.

        Raises:
            HostUnreachableError: the server did not answer, or could not load it.
        """
        body: dict[str, Any] = {"model": model, "messages": [], "stream": False}
        if keep_alive is not None:
            body["keep_alive"] = keep_alive
        try:
            timeout = httpx.Timeout(_LOAD_SECONDS, connect=_CONNECT_SECONDS)
            response = self._http().post("/api/chat", json=body, timeout=timeout)
        except httpx.HTTPError as error:
            raise HostUnreachableError(f"{self.url} does not answer: {describe(error)}") from error
        if response.is_error:
            raise HostUnreachableError(f"{self.url} could not load {model}: {response.text[:200]}")


def _credentials(url: str) -> httpx.BasicAuth | None:
    parsed = httpx.URL(url if "://" in url else f"http://{url}")
    return httpx.BasicAuth(parsed.username, parsed.password) if parsed.username or parsed.password else None


def _entries(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    models = data.get("models")
    if not isinstance(models, list):
        return []
    return [entry for entry in models if isinstance(entry, dict) and isinstance(entry.get("name"), str)]


def _int(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _timestamp(value: object) -> float:
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except (ValueError, OverflowError):
        return 0.0
