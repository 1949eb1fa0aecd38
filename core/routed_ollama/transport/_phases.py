"""The transports that bound each phase of an answer. They wrap a real one and add nothing to a request without bounds.

After the first byte of a body they only pass on, unless the whole answer is bounded: then each chunk is held against
that bound.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Self, cast

import httpx

from routed_ollama.transport._bounds import attempt_bounds
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
        """
        bounds = attempt_bounds.get()
        if bounds is None:
            return self._inner.handle_request(request)
        watch = Watch(bounds, request)
        watch.check_total()
        try:
            response = self._inner.handle_request(request)
        except httpx.TimeoutException as error:
            if (named := watch.error(error)) is None:
                raise
            raise named from error
        watch.answered(response)
        response.stream = _PhaseStream(cast("httpx.SyncByteStream", response.stream), watch)
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
        """
        bounds = attempt_bounds.get()
        if bounds is None:
            return await self._inner.handle_async_request(request)
        watch = Watch(bounds, request)
        watch.check_total()
        try:
            response = await self._inner.handle_async_request(request)
        except httpx.TimeoutException as error:
            if (named := watch.error(error)) is None:
                raise
            raise named from error
        watch.answered(response)
        response.stream = _AsyncPhaseStream(cast("httpx.AsyncByteStream", response.stream), watch)
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


class _PhaseStream(httpx.SyncByteStream):
    def __init__(self, raw: httpx.SyncByteStream, watch: Watch) -> None:
        self._raw = raw
        self._watch = watch

    def __iter__(self) -> Iterator[bytes]:
        watch = self._watch
        chunks = iter(self._raw)
        try:
            for chunk in chunks:
                watch.begun()
                watch.check_total()
                yield chunk
                break
            if watch.has_total:
                for chunk in chunks:
                    watch.check_total()
                    yield chunk
            else:
                yield from chunks
        except httpx.TimeoutException as error:
            self.close()
            if (named := watch.error(error)) is None:
                raise
            raise named from error

    def close(self) -> None:
        self._watch.ended()
        self._raw.close()


class _AsyncPhaseStream(httpx.AsyncByteStream):
    def __init__(self, raw: httpx.AsyncByteStream, watch: Watch) -> None:
        self._raw = raw
        self._watch = watch

    async def __aiter__(self) -> AsyncIterator[bytes]:
        watch = self._watch
        chunks = aiter(self._raw)
        try:
            async for chunk in chunks:
                watch.begun()
                watch.check_total()
                yield chunk
                break
            if watch.has_total:
                async for chunk in chunks:
                    watch.check_total()
                    yield chunk
            else:
                async for chunk in chunks:
                    yield chunk
        except httpx.TimeoutException as error:
            await self.aclose()
            if (named := watch.error(error)) is None:
                raise
            raise named from error

    async def aclose(self) -> None:
        self._watch.ended()
        await self._raw.aclose()
