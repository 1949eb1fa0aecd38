"""The transports that bound each phase of an answer, and hold it to its measure. They wrap a real one.

Without bounds of time the measure alone is taken (see ``_guard``): no other server, no more bytes than an answer has.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Final, Self, cast

import httpx

from routed_ollama.errors import RoutedOllamaError
from routed_ollama.transport._bounds import attempt_bounds
from routed_ollama.transport._guard import Meter, check_redirect, meter_of, prepare
from routed_ollama.transport._watch import Watch


class PhaseTransport(httpx.BaseTransport):
    """Bounds the phases of requests that are sent while `attempt_bounds` is set.

    Args:
        transport: what really sends.
        owned: whether it is closed with this one; a user's own, which others may use as well, is not.

    Example:
        >>> transport = PhaseTransport(httpx.MockTransport(lambda request: httpx.Response(204)))
        >>> with httpx.Client(transport=transport) as client:
        ...     client.get("http://127.0.0.1/").status_code
        204
    """

    def __init__(self, transport: httpx.BaseTransport, *, owned: bool = True) -> None:
        self._inner = transport
        self._owned = owned

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send, within the bounds of the attempt.

        Raises:
            DeadlineExceededError: a bound ran out; it is an `httpx.TimeoutException` as well.
            RedirectedError: the server sends the request on to another one.
            InvalidAnswerError: the answer is beyond measure; raised while it is read, too.
        """
        prepare(request)
        watch = _watch(request)
        try:
            response = self._inner.handle_request(request)
        except httpx.TimeoutException as error:
            if watch is None or (named := watch.error(error)) is None:
                raise
            raise named from error
        return self._admitted(request, response, watch)

    def _admitted(self, request: httpx.Request, response: httpx.Response, watch: Watch | None) -> httpx.Response:
        try:
            check_redirect(request, response)
            meter = meter_of(response)
        except RoutedOllamaError:
            response.close()
            raise
        raw = cast("httpx.SyncByteStream", response.stream)
        if watch is None:
            response.stream = _MeteredStream(raw, meter)
        else:
            watch.answered(response)
            response.stream = _PhaseStream(raw, watch, meter)
        return response

    def close(self) -> None:
        """Close the wrapped transport, if it is owned."""
        if self._owned:
            self._inner.close()

    def __enter__(self) -> Self:
        if self._owned:
            self._inner.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        if self._owned:
            self._inner.__exit__(exc_type, exc_value, traceback)


class AsyncPhaseTransport(httpx.AsyncBaseTransport):
    """`PhaseTransport` for async clients.

    Args:
        transport: what really sends.
        owned: whether it is closed with this one.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, *, owned: bool = True) -> None:
        self._inner = transport
        self._owned = owned

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send, within the bounds of the attempt.

        Raises:
            DeadlineExceededError: a bound ran out; it is an `httpx.TimeoutException` as well.
            RedirectedError: the server sends the request on to another one.
            InvalidAnswerError: the answer is beyond measure; raised while it is read, too.
        """
        prepare(request)
        watch = _watch(request)
        try:
            response = await self._inner.handle_async_request(request)
        except httpx.TimeoutException as error:
            if watch is None or (named := watch.error(error)) is None:
                raise
            raise named from error
        return await self._admitted(request, response, watch)

    async def _admitted(self, request: httpx.Request, response: httpx.Response, watch: Watch | None) -> httpx.Response:
        try:
            check_redirect(request, response)
            meter = meter_of(response)
        except RoutedOllamaError:
            await response.aclose()
            raise
        raw = cast("httpx.AsyncByteStream", response.stream)
        if watch is None:
            response.stream = _AsyncMeteredStream(raw, meter)
        else:
            watch.answered(response)
            response.stream = stream = _AsyncPhaseStream(raw, watch, meter)
            watch.closed_by(stream.aclose)
        return response

    async def aclose(self) -> None:
        """Close the wrapped transport, if it is owned."""
        if self._owned:
            await self._inner.aclose()

    async def __aenter__(self) -> Self:
        if self._owned:
            await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        if self._owned:
            await self._inner.__aexit__(exc_type, exc_value, traceback)


def _watch(request: httpx.Request) -> Watch | None:
    """Return what bounds a request's waits; None outside of an attempt."""
    bounds = attempt_bounds.get()
    if bounds is None:
        return None
    watch = Watch(bounds, request)
    watch.check_total()
    return watch


_OVER: Final = httpx.ByteStream(b"")


class _MeteredStream(httpx.SyncByteStream):
    def __init__(self, raw: httpx.SyncByteStream, meter: Meter) -> None:
        self._raw = raw
        self._meter = meter

    def __iter__(self) -> Iterator[bytes]:
        feed = self._meter.feed
        for chunk in self._raw:
            yield from feed(chunk)

    def close(self) -> None:
        self._raw.close()


class _PhaseStream(_MeteredStream):
    def __init__(self, raw: httpx.SyncByteStream, watch: Watch, meter: Meter) -> None:
        super().__init__(raw, meter)
        self._watch = watch

    def __iter__(self) -> Iterator[bytes]:
        watch, feed = self._watch, self._meter.feed
        chunks = iter(self._raw)
        try:
            for chunk in chunks:
                watch.begun()
                watch.check_total()
                yield from feed(chunk)
                break
            bounded, counts, count = watch.has_total, self._meter.counts_only, self._meter.count
            for chunk in chunks:
                if bounded:
                    watch.check_total()
                if counts:
                    count(chunk)
                    yield chunk
                else:
                    yield from feed(chunk)
        except httpx.TimeoutException as error:
            self.close()
            if (named := watch.error(error)) is None:
                raise
            raise named from error

    def close(self) -> None:
        self._watch.ended()
        super().close()
        self._raw = _OVER  # httpx keeps responses until the next garbage collection: let that be all it keeps


class _AsyncMeteredStream(httpx.AsyncByteStream):
    def __init__(self, raw: httpx.AsyncByteStream, meter: Meter) -> None:
        self._raw = raw
        self._meter = meter

    async def __aiter__(self) -> AsyncIterator[bytes]:
        feed = self._meter.feed
        async for chunk in self._raw:
            for piece in feed(chunk):
                yield piece

    async def aclose(self) -> None:
        await self._raw.aclose()


class _AsyncPhaseStream(_AsyncMeteredStream):
    def __init__(self, raw: httpx.AsyncByteStream, watch: Watch, meter: Meter) -> None:
        super().__init__(raw, meter)
        self._watch = watch

    async def __aiter__(self) -> AsyncIterator[bytes]:
        watch, feed = self._watch, self._meter.feed
        chunks = aiter(self._raw)
        try:
            async for chunk in chunks:
                watch.begun()
                watch.check_total()
                for piece in feed(chunk):
                    yield piece
                break
            bounded, counts, count = watch.has_total, self._meter.counts_only, self._meter.count
            async for chunk in chunks:
                if bounded:
                    watch.check_total()
                if counts:
                    count(chunk)
                    yield chunk
                else:
                    for piece in feed(chunk):
                        yield piece
        except httpx.TimeoutException as error:
            await self.aclose()
            if (named := watch.error(error)) is None:
                raise
            raise named from error

    async def aclose(self) -> None:
        self._watch.ended()
        await super().aclose()
        self._raw = _OVER
