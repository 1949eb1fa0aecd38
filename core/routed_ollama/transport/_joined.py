"""Transports that ask the server for a stream where a whole answer is wanted, and hand over one joined JSON answer.

A whole answer comes as one body at its end, so nothing can be told before: a model that hangs looks like one that
writes a long answer. As a stream each phase can be bounded. The client notices no difference.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, cast

import httpx

from routed_ollama.errors import TruncatedStreamError

_WHOLE: Final = re.compile(rb'"stream":\s*false')
"""In JSON a quote inside of text is escaped, and the official client writes this key before any nested object."""
_PATHS: Final = ("/api/chat", "/api/generate")
_TEXTS: Final = ("content", "thinking")


def _as_stream(request: httpx.Request) -> httpx.Request | None:
    """Return the request that asks for a stream; None for one that is to be sent as it is."""
    if request.method != "POST" or not request.url.path.endswith(_PATHS):
        return None
    body, found = _WHOLE.subn(b'"stream":true', request.content, count=1)
    if not found:
        return None
    headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"content-length"]
    return httpx.Request(request.method, request.url, headers=headers, content=body, extensions=request.extensions)


class _Joiner:
    """Adds up the lines of a stream."""

    def __init__(self) -> None:
        self._rest = b""
        self._texts: dict[str, list[str]] = {}
        self._calls: list[Any] = []
        self._logprobs: list[Any] = []
        self._last: dict[str, Any] = {}

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line)

    def _line(self, line: bytes) -> None:
        if not line.strip() or "error" in self._last:
            return
        part = json.loads(line)
        message = part.get("message") or {}
        for name in _TEXTS:
            if message.get(name):
                self._texts.setdefault(name, []).append(message[name])
        if part.get("response"):
            self._texts.setdefault("response", []).append(part["response"])
        self._calls += message.get("tool_calls") or []
        self._logprobs += part.get("logprobs") or []
        self._last = part

    def response(self, response: httpx.Response, request: httpx.Request) -> httpx.Response:
        """Return the whole answer, or the error that the server would have given instead of one."""
        self._line(self._rest)
        whole = self._last
        if "error" in whole:
            return httpx.Response(500, json=whole, request=request)
        if whole.get("done") is not True:
            raise TruncatedStreamError("The answer ended before its last line (no `done`).")
        joined = {name: "".join(parts) for name, parts in self._texts.items()}
        if "response" in whole:
            whole["response"] = joined.pop("response", "")
        if "message" in whole:
            whole["message"] = {**whole["message"], "content": "", **joined}
            if self._calls:
                whole["message"]["tool_calls"] = self._calls
        if self._logprobs:
            whole["logprobs"] = self._logprobs
        return httpx.Response(200, json=whole, request=request, extensions=_kept(response))


def _kept(response: httpx.Response) -> dict[str, Any]:
    return {name: value for name, value in response.extensions.items() if name != "network_stream"}


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
        """
        streamed = _as_stream(request)
        if streamed is None:
            return self._inner.handle_request(request)
        response = self._inner.handle_request(streamed)
        if response.status_code != httpx.codes.OK:
            return response
        joiner = _Joiner()
        stream = cast("httpx.SyncByteStream", response.stream)
        try:
            for data in stream:
                joiner.feed(data)
        finally:
            stream.close()
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
        """
        streamed = _as_stream(request)
        if streamed is None:
            return await self._inner.handle_async_request(request)
        response = await self._inner.handle_async_request(streamed)
        if response.status_code != httpx.codes.OK:
            return response
        joiner = _Joiner()
        stream = cast("httpx.AsyncByteStream", response.stream)
        try:
            async for data in stream:
                joiner.feed(data)
        finally:
            await stream.aclose()
        return joiner.response(response, request)

    async def aclose(self) -> None:
        """Close the transport below."""
        await self._inner.aclose()
