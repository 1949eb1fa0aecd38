"""Transports that ask the server for a stream where a whole answer is wanted, and hand over one joined JSON answer.

A whole answer comes as one body at its end, so nothing can be told before: a model that hangs looks like one that
writes a long answer. As a stream each phase can be bounded. The client notices no difference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

import httpx
from pydantic_core import from_json

from routed_ollama.errors import TruncatedStreamError

_STREAM: Final = re.compile(rb'"stream":\s*(true|false)')
"""In JSON a quote inside of text is escaped, and the official client writes this key before any nested object: the
first is the request's own, a later one may be the argument of a tool."""
_PATHS: Final = ("/api/chat", "/api/generate")
_TEXTS: Final = ("content", "thinking", "response")
_OF_THE_BODY: Final = frozenset({"content-type", "content-length", "content-encoding", "transfer-encoding"})
"""Headers that say how the stream was sent, and nothing of what is handed over."""
_OF_THE_STREAM: Final = frozenset({"network_stream", "reason_phrase"})
"""Extensions of httpx's that are true of the stream alone."""

answer_heard: ContextVar[Callable[[str | None, str | None], None] | None] = ContextVar(
    "routed_ollama_answer_heard", default=None
)
"""Is told text and reasoning of each line of an answer that is being joined; what it raises ends the answer. Set around
the call that sends."""


def _as_stream(request: httpx.Request) -> httpx.Request | None:
    """Return the request that asks for a stream; None for one that is to be sent as it is."""
    if request.method != "POST" or not request.url.path.endswith(_PATHS):
        return None
    found = _STREAM.search(request.read())  # a redirected request comes with its body unread
    if found is None or found[1] != b"false":
        return None
    body = request.content[: found.start(1)] + b"true" + request.content[found.end(1) :]
    headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"content-length"]
    return httpx.Request(request.method, request.url, headers=headers, content=body, extensions=request.extensions)


def _parsed(line: bytes) -> Any:
    """Return what a line says, several times as fast as ``json`` does; what is wrong with it, that tells."""
    try:
        return from_json(line, cache_strings="keys")
    except ValueError:
        return json.loads(line)


class _Joiner:
    """Adds up the lines of a stream."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._hear = answer_heard.get()
        self._texts: dict[str, list[str]] = {}
        self._calls: list[Any] = []
        self._logprobs: list[Any] = []
        self._message: dict[str, Any] | None = None
        self._last: dict[str, Any] = {}

    @property
    def over(self) -> bool:
        """Whether the last line is here: what happens to the connection after it breaks nothing."""
        return self._last.get("done") is True or "error" in self._last

    def feed(self, data: bytes) -> None:
        first, *lines = data.split(b"\n")
        self._rest.append(first)
        for line in lines:
            self._line(b"".join(self._rest))
            self._rest = [line]

    def _line(self, line: bytes) -> None:
        if not line.strip() or "error" in self._last:
            return
        part = _parsed(line)
        self._message = part.get("message") or self._message
        said = part.get("message") or part  # `/api/generate` has no message around them
        if self._hear is not None:
            self._hear(said.get("content"), said.get("thinking"))
        for name in _TEXTS:
            if said.get(name):
                self._texts.setdefault(name, []).append(said[name])
        self._calls += said.get("tool_calls") or []
        self._logprobs += part.get("logprobs") or []
        self._last = part

    def response(self, response: httpx.Response, request: httpx.Request) -> httpx.Response:
        """Return the whole answer, or the error that the server would have given instead of one."""
        if not self.over:
            self._line(b"".join(self._rest))
        if not self.over:
            raise TruncatedStreamError("The answer ended before its last line (no `done`).")
        headers = [(name, value) for name, value in response.headers.multi_items() if name not in _OF_THE_BODY]
        extensions = {name: value for name, value in response.extensions.items() if name not in _OF_THE_STREAM}
        status = httpx.codes.INTERNAL_SERVER_ERROR if "error" in self._last else httpx.codes.OK
        body = self._last if status == httpx.codes.INTERNAL_SERVER_ERROR else self._whole()
        return httpx.Response(status, headers=headers, json=body, request=request, extensions=extensions)

    def _whole(self) -> dict[str, Any]:
        """Return the last line with what all lines said."""
        texts = {name: "".join(parts) for name, parts in self._texts.items()}
        logprobs = {"logprobs": self._logprobs} if self._logprobs else {}
        if self._message is None:
            return {**self._last, "response": "", **texts, **logprobs}
        calls = {"tool_calls": self._calls} if self._calls else {}
        return {**self._last, "message": {**self._message, "content": "", **texts, **calls}, **logprobs}


class JoinedTransport(httpx.BaseTransport):
    """Asks for a stream and hands over a whole answer.

    Args:
        transport: what sends; it bounds the phases.
    """

    def __init__(self, transport: httpx.BaseTransport) -> None:
        self._inner = transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send; an answer that was to be whole is joined.

        Raises:
            TruncatedStreamError: the stream ended without its last line.
            json.JSONDecodeError: a line is no JSON.
            httpx.TransportError: the connection broke, or a bound ran out, before the last line.
        """
        streamed = _as_stream(request)
        if streamed is None:
            return self._inner.handle_request(request)
        response = self._inner.handle_request(streamed)
        if response.status_code != httpx.codes.OK:
            return response
        joiner = _Joiner()
        try:
            for data in response.iter_bytes():
                joiner.feed(data)
        except httpx.TransportError:
            if not joiner.over:
                raise
        finally:
            response.close()
        return joiner.response(response, request)

    def close(self) -> None:
        """Close the transport below."""
        self._inner.close()


class AsyncJoinedTransport(httpx.AsyncBaseTransport):
    """`JoinedTransport` for async clients.

    Args:
        transport: what sends; it bounds the phases.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._inner = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send; an answer that was to be whole is joined.

        Raises:
            TruncatedStreamError: the stream ended without its last line.
            json.JSONDecodeError: a line is no JSON.
            httpx.TransportError: the connection broke, or a bound ran out, before the last line.
        """
        streamed = _as_stream(request)
        if streamed is None:
            return await self._inner.handle_async_request(request)
        response = await self._inner.handle_async_request(streamed)
        if response.status_code != httpx.codes.OK:
            return response
        joiner = _Joiner()
        try:
            async for data in response.aiter_bytes():
                joiner.feed(data)
        except httpx.TransportError:
            if not joiner.over:
                raise
        finally:
            await response.aclose()
        return joiner.response(response, request)

    async def aclose(self) -> None:
        """Close the transport below."""
        await self._inner.aclose()
