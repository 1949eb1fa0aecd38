"""Which bound is in force on one request, at any moment. No I/O: the transports ask, and wait.

A response goes through three waits: for the headers, for the first byte of the body, for each further one. httpx knows
one read bound for all of them. So the bound is handed down in two ways: in the request's ``timeout`` extension, which
every transport reads before it waits for the headers; and, for HTTP/1 bodies, where httpcore looks it up only once, by
standing in for the connection's ``read`` while that body is on the way.

How long the first byte is waited for may change meanwhile: requests ahead move on, a model turns out to be loading. So
that bound is a number that knows its watch (`Wait`), and a connection that knows of such numbers (``_reads``) asks
anew when it has run out. To any other it is a number like another.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

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

_AGAIN: Final = 0.1
"""Seconds between two tries of a server that refuses connections because it is being restarted."""

GRACE: Final = 0.05
"""Seconds in which what has come already is taken in spite of a bound that ran out: an event loop that was busy with
other things, its user's perhaps, hears of the time first."""

_TICK = 0.02
"""Seconds by which a clock may lag behind a timer that has fired (Windows ticks every 15.6 ms)."""


_LOOKS: Final = (0.5, 0.75, 1.0)
"""Shares of a wait after which it is interrupted: twice to find out how things are, then to decide by what is known."""


class Wait(float):
    """A bound on the wait for an answer's first byte that knows who may lengthen it."""

    __slots__ = ("watch",)
    watch: Watch


class OurTimeout(dict[str, float | None]):
    """A ``timeout`` extension that remembers the client's own, for redirects and logins send the request again."""

    def __init__(self, watch: Watch, client: Mapping[str, float | None], bounds: Mapping[str, float | None]) -> None:
        super().__init__(bounds)
        self.watch: Watch | None = watch
        self.client = client

    def over(self) -> None:
        """Let go of the watch, which holds this one, too: nobody waits any more."""
        self.watch = None
        self["read"] = self.client.get("read")


class Watch:
    """Bounds the waits of one request and names the bound that ran out."""

    __slots__ = ("_begun", "_between", "_bounds", "_client", "_first", "_request", "_stand_in", "_started", "_timeout")

    def __init__(self, bounds: Bounds, request: httpx.Request) -> None:
        given = request.extensions.get("timeout") or {}
        client: Mapping[str, float | None] = given.client if isinstance(given, OurTimeout) else given
        patience = bounds.patience
        self._client = client
        self._bounds = bounds
        self._request = request
        self._started = bounds.marks.sent_at = bounds.clock()
        self._first = _tighter(bounds.first, client.get("read"))
        self._between = _tighter(bounds.between, client.get("read"))
        self._begun = False
        self._stand_in: _StandIn | None = None
        self._timeout = OurTimeout(
            self,
            client,
            {
                "connect": self._within_total(_tighter(bounds.connect, client.get("connect"))),
                "read": self._patient(self._within_total(self._first)),
                "write": self._within_total(_tighter(bounds.first, client.get("write"))),
                "pool": self._within_total(_tighter(patience.pool if patience else bounds.first, client.get("pool"))),
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
        marks = self._bounds.marks
        marks.first_byte_at = marks.last_byte_at = self._bounds.clock()
        self._timeout["read"] = self._within_total(self._between)

    def waits(self) -> Iterator[float]:
        """Yield how long to wait for the first byte, again and again, until it was waited for long enough."""
        bounds, patience = self._bounds, self._bounds.patience
        assert patience is not None  # noqa: S101 (for the type checker: only then is there a `Wait`)
        since = bounds.marks.waits_since
        if since is None:
            since = bounds.marks.waits_since = bounds.clock()
        waited, reached = bounds.clock() - since, -math.inf
        while (until := self._allowed(patience.allowed(since), since)) > reached:
            for point in _points(waited, until):
                wait = max(point - waited, _LEAST)
                yield wait
                waited = max(waited + wait, bounds.clock() - since)  # a clock that stands still must not hold it up
                if point < until:
                    patience.look()
            reached = self._first = until
            if self._allowed(patience.allowed(since), since) <= reached:
                yield GRACE  # what is here already is taken, and what others have heard is noted

    def refused(self) -> float | None:
        """Return how many seconds to wait before a server that refused the connection is tried again; None: not."""
        patience, clock = self._bounds.patience, self._bounds.clock
        total = self._bounds.total
        if patience is None or patience.returns() <= _AGAIN or (total is not None and clock() + _AGAIN >= total):
            return None
        return _AGAIN

    def ended(self) -> None:
        """The response is being closed: its connection may go to another request."""
        if self._stand_in is not None:
            self._stand_in.leave()
            self._stand_in = None
        self._timeout.over()

    def body_bound(self) -> float | None:
        """Seconds that the next read of the body may wait."""
        if self._begun:
            self._bounds.marks.last_byte_at = self._bounds.clock()  # what came was read and handed on
            return self._between if self._bounds.total is None else self._within_total(self._between)
        left = self._bounds.first
        if left is not None:
            left = max(self._started + left - self._bounds.clock(), _LEAST)
        return self._patient(self._within_total(_tighter(left, self._client.get("read"))))

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
        patience = self._bounds.patience
        phase = "load" if self._bounds.loads or (patience is not None and patience.loads) else "first_token"
        own = self._first is not None and self._first == self._client.get("read")
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

    def _patient(self, bound: float | None) -> float | None:
        """Return a bound on the wait for the first byte as one that may be lengthened, where somebody can tell."""
        if bound is None or self._bounds.patience is None:
            return bound
        wait = Wait(bound)
        wait.watch = self
        return wait

    def _allowed(self, seconds: float, since: float) -> float:
        """Return how long a wait may last in all: what the client allows of it, and what is left of the total."""
        bounds, own = self._bounds, self._client.get("read")
        left = seconds if own is None else min(seconds, own)
        return left if bounds.total is None else min(left, bounds.total - since)

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


def _points(waited: float, until: float) -> list[float]:
    """Return when a wait is interrupted, in seconds since it began."""
    left = until - waited
    return [until] if left <= _LEAST else [waited + share * left for share in _LOOKS[:-1]] + [until]


def _tighter(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
