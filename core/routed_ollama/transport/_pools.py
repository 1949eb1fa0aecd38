"""Connection pools that are built when first needed: one for each scheme, and for async code one for each event loop.

Building TLS settings costs tens of milliseconds, so plain HTTP never does; and a connection that was opened under one
event loop cannot be used, or even closed, under another. Where a loop tells nobody that it shuts down, no connection
outlives its answer. A server that is being restarted is tried again for as long as
the attempt's bounds say.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import warnings
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from weakref import WeakKeyDictionary

import anyio
import httpx

from routed_ollama import _fork
from routed_ollama.transport._reads import apatient, patient
from routed_ollama.transport._watch import OurTimeout

_Loop = asyncio.AbstractEventLoop


class PooledTransport(httpx.BaseTransport):
    """A sync transport that builds its pools on demand; usable again after `close`, by many threads, and after a fork.

    Args:
        build: makes the real transport for a URL's scheme.
    """

    def __init__(self, build: Callable[[str], httpx.BaseTransport]) -> None:
        self._build = build
        self._pools: dict[str, httpx.BaseTransport] = {}
        self._lock = threading.Lock()
        _fork.register(self)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send through the pool of the URL's scheme."""
        scheme = request.url.scheme
        pool = self._pools.get(scheme)
        if pool is None:
            with self._lock:
                pool = self._pools.get(scheme) or self._pools.setdefault(scheme, self._build(scheme))
        request.extensions = {"trace": patient, **request.extensions}
        while True:
            try:
                return pool.handle_request(request)
            except httpx.ConnectError:
                if (pause := _pause(request)) is None:
                    raise
            time.sleep(pause)

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()

    def before_fork(self, timeout: float) -> None:
        """Nothing to bring to rest: connections are in their users' hands."""

    def after_fork_in_parent(self) -> None:
        """Nothing was stopped."""

    def after_fork_in_child(self) -> None:
        """Let go of the parent's connections: two processes must not write to one."""
        self._lock = threading.Lock()
        with warnings.catch_warnings():  # safe here: a child begins with one thread
            warnings.simplefilter("ignore", ResourceWarning)
            self._pools = {}


class LoopPooledTransport(httpx.AsyncBaseTransport):
    """An async transport with pools of its own for each event loop, closed when their loop shuts down.

    So one client object works under several ``asyncio.run`` calls, and in several threads with a loop each. Under
    another async library there is one set of pools, as in httpx itself.

    Args:
        build: makes the real transport for a URL's scheme.
    """

    def __init__(self, build: Callable[[str], httpx.AsyncBaseTransport]) -> None:
        self._build = build
        self._by_loop: WeakKeyDictionary[_Loop, _LoopPools] = WeakKeyDictionary()
        self._loopless: _LoopPools | None = None
        self._lock = threading.Lock()
        _fork.register(self)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send through the running loop's pool for the URL's scheme."""
        pools = await self._pools_here()
        response = await self._sent(request, pools)
        # Pools that are collected close their connections; so a response that outlives its client keeps them.
        response.extensions = {**response.extensions, "routed_ollama_pools": pools}
        return response

    @staticmethod
    async def _sent(request: httpx.Request, pools: _LoopPools) -> httpx.Response:
        request.extensions = {"trace": apatient, **request.extensions}
        if pools.unattended:
            request.headers["Connection"] = "close"
        while True:
            try:
                return await pools.of(request.url.scheme).handle_async_request(request)
            except httpx.ConnectError:
                if (pause := _pause(request)) is None:
                    raise
            await anyio.sleep(pause)

    async def aclose(self) -> None:
        """Close the running loop's connections; those of other loops are closed when these shut down."""
        loop = _running_loop()
        with self._lock:
            pools = self._loopless if loop is None else self._by_loop.pop(loop, None)
            self._loopless = None if loop is None else self._loopless
        if pools is not None:
            await pools.aclose()

    async def _pools_here(self) -> _LoopPools:
        loop = _running_loop()
        if loop is None:
            self._loopless = self._loopless or _LoopPools(self._build)
            return self._loopless
        pools = self._by_loop.get(loop)
        if pools is None:
            pools = _LoopPools(self._build)
            with self._lock:
                for other in [other for other in self._by_loop if other.is_closed()]:
                    del self._by_loop[other]  # closed without shutting down, so nothing under it can be closed any more
                self._by_loop[loop] = pools
        await pools.attend()
        return pools

    def before_fork(self, timeout: float) -> None:
        """Nothing to bring to rest: connections are in their users' hands."""

    def after_fork_in_parent(self) -> None:
        """Nothing was stopped."""

    def after_fork_in_child(self) -> None:
        """The child's event loops are new ones, so it never meets the parent's connections."""
        self._lock = threading.Lock()


class _LoopPools:
    """The pools of one event loop, closed by whoever comes first: the client, or the loop when it shuts down."""

    def __init__(self, build: Callable[[str], httpx.AsyncBaseTransport]) -> None:
        self._build = build
        self._pools: dict[str, httpx.AsyncBaseTransport] = {}
        self._attendant: AsyncGenerator[None, None] | None = None
        self.unattended = False
        """Whether nobody is told when the loop shuts down."""

    def of(self, scheme: str) -> httpx.AsyncBaseTransport:
        pool = self._pools.get(scheme)
        if pool is None:
            pool = self._pools[scheme] = self._build(scheme)
        return pool

    async def attend(self) -> None:
        """Be there when the loop shuts down: it then closes every async generator that is under way.

        One that runs without the hooks by which it knows of them, as under `nest_asyncio`, does not; it often runs on
        when ``asyncio.run`` returns, and is never closed.
        """
        if self._attendant is not None:
            return
        self.unattended = sys.get_asyncgen_hooks().firstiter is None
        if not self.unattended:
            self._attendant = self._until_shutdown()
            await anext(self._attendant)

    async def aclose(self) -> None:
        if self._attendant is None:
            await self._close_pools()
        else:
            await self._attendant.aclose()

    async def _until_shutdown(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._attendant = None  # it refers to the loop, which is to be forgotten
            await self._close_pools()

    async def _close_pools(self) -> None:
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await pool.aclose()


def _pause(request: httpx.Request) -> float | None:
    """Return how many seconds to wait before a server that refused is tried again; None: it is not."""
    timeout = request.extensions.get("timeout")
    return timeout.watch.refused() if isinstance(timeout, OurTimeout) and timeout.watch is not None else None


def _running_loop() -> _Loop | None:
    with suppress(RuntimeError):
        return asyncio.get_running_loop()
    return None
