"""The only module that talks to Ollama outside an answer: what is installed, what is in memory, is it alive.

Everything here is bounded (seconds, not minutes; megabytes, not more), loads no model unless ``load`` is called, and
takes no server's word for granted: an answer of the wrong shape is an error that says so, a name that cannot be one
goes no further than here, and nobody is asked but the server that was named.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import weakref
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import httpx

from routed_ollama.config import normalize_host
from routed_ollama.errors import HostUnreachableError, RedirectedError, describe, escaped, refuse_elsewhere
from routed_ollama.types import Residency

_CONNECT_SECONDS: Final = 3.0
_READ_SECONDS: Final = 10.0
_SECONDS: Final = 15.0
"""For a whole answer, however slowly it drips."""
_LOAD_SECONDS: Final = 600.0
_MOST_BYTES: Final = 16 * 2**20
"""Of an answer. The longest known, of ``/api/show`` with templates and licence, takes half a megabyte."""
_MOST_MODELS: Final = 1_000
"""Of one server; at a gigabyte each, more than fit on its disk."""
_MOST_REDIRECTS: Final = 5
_LONGEST_NAME: Final = 600
"""Ollama takes 593 characters: 350 for a host, 80 for namespace, model and tag each (v0.24, types/model/name.go)."""
_LONGEST_TEXT: Final = 200
_LARGEST: Final = 2**62
_ERROR_BYTES: Final = 4096

_LOG = logging.getLogger("routed_ollama")
_until: ContextVar[float | None] = ContextVar("routed_ollama_ask_until", default=None)
"""Monotonic seconds at which the answer that is waited for must be complete."""


class _Answer(NamedTuple):
    status: int
    body: bytes

    @property
    def failed(self) -> bool:
        return httpx.codes.is_error(self.status)

    @property
    def words(self) -> str:
        """Its beginning, as it may be shown."""
        return escaped(self.body.decode("utf-8", errors="replace"), _LONGEST_TEXT)


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
        self._told = False

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
                )
                weakref.finalize(self, self._client.close)
            return self._client

    def close(self) -> None:
        """Close its connections; the next call opens new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        seconds: float | None = None,
    ) -> _Answer:
        client = self._http()
        request = client.build_request(
            method,
            path,
            json=body,
            headers={"Accept-Encoding": "identity"},
            timeout=httpx.Timeout(seconds or _READ_SECONDS, connect=_CONNECT_SECONDS),
            extensions={"trace": _bound_reads},
        )
        try:
            with _within(seconds or _SECONDS):
                response = _followed(client, request)
                try:
                    return _Answer(response.status_code, _body_of(response))
                finally:
                    response.close()
        except (httpx.HTTPError, httpx.StreamError, RedirectedError) as error:
            raise HostUnreachableError(f"{self.url} does not answer: {_why(error)}") from error

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        answer = self._ask(method, path, body)
        if answer.failed:
            url = urlsplit(self.url)
            lost = answer.status == httpx.codes.NOT_FOUND and url.path  # such as /v1, which other clients want
            hint = f"; by itself an Ollama server's address has no path: {url.scheme}://{url.netloc}" if lost else ""
            raise HostUnreachableError(f"{self.url}{path} answered {answer.status}: {answer.words}{hint}")
        try:
            data = json.loads(answer.body)
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise HostUnreachableError(f"{self.url} answers, but not like an Ollama server ({path}). Check base_url.")
        return data

    def version(self) -> str:
        """Return the server's version; raises ``HostUnreachableError`` when it does not answer."""
        return text_of(self._json("GET", "/api/version").get("version"))

    def tags(self) -> list[dict[str, Any]]:
        """Return the installed models as the server lists them, entries of the wrong shape left out.

        So are names that can be none, and what is beyond a thousand; that is logged, once.
        """
        return self._entries(self._json("GET", "/api/tags"))

    def show(self, model: str) -> dict[str, Any]:
        """Return what the server knows of one model."""
        return self._json("POST", "/api/show", {"model": model})

    def resident(self) -> list[Residency]:
        """Return the models in memory."""
        return [
            Residency(
                model=entry["name"],
                size=count_of(entry.get("size")),
                context_length=count_of(entry.get("context_length")),
                expires_at=_timestamp(entry.get("expires_at")),
            )
            for entry in self._entries(self._json("GET", "/api/ps"))
        ]

    def load(self, model: str, keep_alive: str | int | None = None) -> None:
        """Bring a model into memory and wait until it is there, for at most ten minutes.

        Raises:
            HostUnreachableError: the server did not answer, or could not load it.
        """
        body: dict[str, Any] = {"model": model, "messages": [], "stream": False}
        if keep_alive is not None:
            body["keep_alive"] = keep_alive
        answer = self._ask("POST", "/api/chat", body, seconds=_LOAD_SECONDS)
        if answer.failed:
            raise HostUnreachableError(f"{self.url} could not load {model}: {answer.words}")

    def _entries(self, data: Mapping[str, Any]) -> list[dict[str, Any]]:
        models = data.get("models")
        if not isinstance(models, list):
            return []
        named = [entry for entry in models if isinstance(entry, dict) and isinstance(entry.get("name"), str)]
        found = [entry for entry in named if _is_name(entry["name"])]
        self._tell([entry["name"] for entry in named if not _is_name(entry["name"])], len(found))
        return found[:_MOST_MODELS]

    def _tell(self, wrong: list[str], found: int) -> None:
        """Say once what is left out."""
        if self._told or not (wrong or found > _MOST_MODELS):
            return
        self._told = True
        if wrong:
            shown = escaped(wrong[0], 80)
            _LOG.warning(
                "%s lists %d names that can be none and are left out, such as '%s'", self.url, len(wrong), shown
            )
        if found > _MOST_MODELS:
            _LOG.warning("%s lists %d models; the first %d are used", self.url, found, _MOST_MODELS)


def _is_name(text: str) -> bool:
    """Whether a text can be a model's name: not empty, not endless, and nothing in it steers a terminal."""
    return 0 < len(text) <= _LONGEST_NAME and text.isprintable()


def text_of(value: object) -> str:
    """Return a short text as a server said it; empty for anything else."""
    return value if isinstance(value, str) and len(value) <= _LONGEST_TEXT and value.isprintable() else ""


def count_of(value: object) -> int:
    """Return a count as a server said it; 0 for anything else."""
    return value if type(value) is int and 0 < value <= _LARGEST else 0


@contextmanager
def _within(seconds: float) -> Generator[None]:
    """Bound the answer that is asked for in the block."""
    token = _until.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _until.reset(token)


def _left() -> float | None:
    """Return how many seconds the answer may still take; None for one that is not bounded.

    Raises:
        httpx.ReadTimeout: none.
    """
    until = _until.get()
    left = None if until is None else until - time.monotonic()
    if left is not None and left <= 0:
        raise httpx.ReadTimeout("the answer was not complete in time")
    return left


def _bound_reads(event: str, info: Mapping[str, Any]) -> None:
    """Bound every read of a connection that opens by what is left: httpx bounds single ones, and headers may drip.

    httpcore tells of what it does through the extension ``trace``.
    """
    stream: Any = info.get("return_value")
    if not event.endswith(("connect_tcp.complete", "start_tls.complete")) or not hasattr(stream, "__dict__"):
        return
    read = stream.read

    def bounded(max_bytes: int, timeout: float | None = None) -> bytes:
        left = _left()
        found: bytes = read(max_bytes, timeout=timeout if left is None else min(left, timeout or left))
        return found

    vars(stream)["read"] = bounded


def _followed(client: httpx.Client, request: httpx.Request) -> httpx.Response:
    """Send a request and follow redirects that stay with the same server."""
    asked = request.url
    for _ in range(_MOST_REDIRECTS):
        response = client.send(request, stream=True, follow_redirects=False)
        if response.next_request is None:
            return response
        response.close()
        request = response.next_request
        refuse_elsewhere(asked, request.url)
    raise httpx.TooManyRedirects("it redirects again and again", request=request)


def _body_of(response: httpx.Response) -> bytes:
    """Return an answer's body; of an error's, the beginning.

    Raises:
        httpx.DecodingError: it is longer than any answer is, or packed although that was not asked for.
    """
    if response.headers.get("content-encoding", "identity") != "identity":
        raise httpx.DecodingError("the answer is compressed, which was not asked for", request=response.request)
    body = bytearray()
    for data in response.iter_bytes():
        body += data
        _left()
        if response.is_error and len(body) >= _ERROR_BYTES:
            break
        if len(body) > _MOST_BYTES:
            text = f"the answer is longer than {_MOST_BYTES // 2**20} MiB"
            raise httpx.DecodingError(text, request=response.request)
    return bytes(body)


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, RedirectedError) else describe(error)


def _credentials(url: str) -> httpx.BasicAuth | None:
    parsed = httpx.URL(url if "://" in url else f"http://{url}")
    return httpx.BasicAuth(parsed.username, parsed.password) if parsed.username or parsed.password else None


def _timestamp(value: object) -> float:
    try:
        return datetime.fromisoformat(text_of(value)).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0
