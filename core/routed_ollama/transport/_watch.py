"""Which bound is in force on one request, at any moment. No I/O: the transports ask, and wait.

A response goes through three waits: for the headers, for the first byte of the body, for each further one. httpx knows
one read bound for all of them. So the bound is handed down in two ways: in the request's ``timeout`` extension, which
every transport reads before it waits for the headers; and, for HTTP/1 bodies, where httpcore looks it up only once, by
standing in for the connection's ``read`` while that body is on the way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx

from routed_ollama.errors import DeadlineExceededError
from routed_ollama.transport._bounds import Bounds
from routed_ollama.transport._errors import (
    BetweenTokensDeadlineError,
    ConnectDeadlineError,
    FirstTokenDeadlineError,
    TotalDeadlineError,
)

_LEAST = 0.01
"""Seconds any wait is given: headers and first byte may come in two packets, and 0 would mean not to wait at all."""

_TICK = 0.02
"""Seconds by which a clock may lag behind a timer that has fired (Windows ticks every 15.6 ms)."""


class _OurTimeout(dict[str, float | None]):
    """A ``timeout`` extension that remembers the client's own, for redirects and logins send the request again."""

    def __init__(self, client: Mapping[str, float | None], bounds: Mapping[str, float | None]) -> None:
        super().__init__(bounds)
        self.client = client


class Watch:
    """Bounds the waits of one request and names the bound that ran out."""

    __slots__ = ("_begun", "_between", "_bounds", "_client", "_first", "_request", "_stand_in", "_started", "_timeout")

    def __init__(self, bounds: Bounds, request: httpx.Request) -> None:
        given = request.extensions.get("timeout") or {}
        self._client: Mapping[str, float | None] = given.client if isinstance(given, _OurTimeout) else given
        self._bounds = bounds
        self._request = request
        self._started = bounds.marks.sent_at = bounds.clock()
        self._first = _tighter(bounds.first, self._client.get("read"))
        self._between = _tighter(bounds.between, self._client.get("read"))
        self._begun = False
        self._stand_in: _StandIn | None = None
        self._timeout = _OurTimeout(
            self._client,
            {
                "connect": self._within_total(_tighter(bounds.connect, self._client.get("connect"))),
                "read": self._within_total(self._first),
                "write": self._within_total(_tighter(bounds.first, self._client.get("write"))),
                "pool": self._within_total(_tighter(bounds.first, self._client.get("pool"))),
            },
        )
        request.extensions = {**request.extensions, "timeout": self._timeout}

    @property
    def has_total(self) -> bool:
        """Whether each chunk has to be held against a total bound."""
        return self._bounds.total is not None

    def check_total(self) -> None:
        """Raise when the whole answer has taken longer than it may."""
        if self._bounds.total is not None and self._bounds.clock() >= self._bounds.total:
            raise self._total_error()

    def answered(self, response: httpx.Response) -> None:
        """The headers are here: bound the wait for the body."""
        version = response.extensions.get("http_version")
        stream = response.extensions.get("network_stream")
        if version in {b"HTTP/1.1", b"HTTP/1.0"} and hasattr(stream, "read") and hasattr(stream, "__dict__"):
            self._stand_in = _StandIn(stream, self.body_bound)
        elif version == b"HTTP/2":
            self._timeout["read"] = self.body_bound()  # looked up again at each read
        else:
            self._timeout["read"] = self._within_total(self._between)  # a transport of another kind; may look only once

    def closed_by(self, aclose: Callable[[], Awaitable[None]]) -> None:
        """Say how whoever leaves an async answer closes it."""
        self._bounds.marks.aclose = aclose

    def begun(self) -> None:
        """The first byte of the body is here: from now on silences are bounded."""
        self._begun = True
        self._bounds.marks.first_byte_at = self._bounds.clock()
        self._timeout["read"] = self._within_total(self._between)

    def ended(self) -> None:
        """The response is being closed: its connection may go to another request."""
        if self._stand_in is not None:
            self._stand_in.leave()
            self._stand_in = None

    def body_bound(self) -> float | None:
        """Seconds that the next read of the body may wait."""
        if self._begun:
            return self._between if self._bounds.total is None else self._within_total(self._between)
        left = self._bounds.first
        if left is not None:
            left = max(self._started + left - self._bounds.clock(), _LEAST)
        return self._within_total(_tighter(left, self._client.get("read")))

    def error(self, error: httpx.TimeoutException) -> httpx.TimeoutException | None:
        """The error that says which bound ran out; ``None`` where the given one does: pool, write, or named before."""
        if isinstance(error, DeadlineExceededError):
            return None
        if isinstance(error, httpx.ConnectTimeout):
            return self._connect_error()
        if not isinstance(error, httpx.ReadTimeout):
            return None
        if self._bounds.total is not None and self._bounds.clock() >= self._bounds.total - _TICK:
            return self._total_error()
        if self._begun:
            own = self._between != self._bounds.between
            return BetweenTokensDeadlineError.after("between_tokens", self._between or 0.0, self._request, own=own)
        phase = "load" if self._bounds.loads else "first_token"
        own = self._first != self._bounds.first
        return FirstTokenDeadlineError.after(phase, self._first or 0.0, self._request, own=own)

    def _connect_error(self) -> ConnectDeadlineError:
        seconds = self._timeout["connect"] or 0.0
        bound = _tighter(self._bounds.connect, self._client.get("connect"))
        phase = "connect" if seconds == bound else "total"
        own = phase == "connect" and bound != self._bounds.connect
        return ConnectDeadlineError.after(phase, seconds, self._request, own=own)

    def _total_error(self) -> TotalDeadlineError:
        seconds = (self._bounds.total or 0.0) - self._started
        return TotalDeadlineError.after("total", max(seconds, 0.0), self._request, own=False)

    def _within_total(self, bound: float | None) -> float | None:
        total = self._bounds.total
        return bound if total is None else _tighter(bound, max(total - self._bounds.clock(), _LEAST))


class _StandIn:
    """Stands in for ``read`` of one connection and bounds each call, whatever bound it is called with."""

    __slots__ = ("_bound", "_read", "_stream")

    def __init__(self, stream: Any, bound: Callable[[], float | None]) -> None:
        self._stream = stream
        self._read = stream.read
        self._bound = bound
        vars(stream)["read"] = self

    def __call__(self, max_bytes: int, timeout: float | None = None) -> Any:  # noqa: ARG002 (the connection's signature)
        return self._read(max_bytes, timeout=self._bound())

    def leave(self) -> None:
        """Give the connection its own ``read`` back."""
        vars(self._stream).pop("read", None)


def _tighter(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
