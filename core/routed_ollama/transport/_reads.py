"""Reads that may be lengthened while they wait: given a `Wait`, a connection asks anew when it has run out.

httpcore tells of each connection that opens through the extension ``trace``; from then on its ``read`` is ours. A read
that was interrupted has lost nothing: what comes later is still there for the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any

import httpcore

from routed_ollama.transport._watch import GRACE, Wait


def patient(event: str, info: Mapping[str, Any]) -> None:
    """Make a connection that opens one whose reads may be lengthened; for sync clients."""
    _changed(event, info, _sync_kind)


async def apatient(event: str, info: Mapping[str, Any]) -> None:
    """Async form of ``patient``."""
    _changed(event, info, _async_kind)


def _changed(event: str, info: Mapping[str, Any], kind: Callable[[type], type]) -> None:
    if event.endswith(("connect_tcp.complete", "start_tls.complete", "connect_unix_socket.complete")):
        stream = info.get("return_value")
        with suppress(TypeError):  # one that cannot be changed keeps the bounds that it is called with
            # Its class, for a function of its own would refer to it, and it to that: it would outlive its last user.
            stream.__class__ = kind(type(stream))


@cache
def _sync_kind(plain: Any) -> type:
    class Patient(plain):  # type: ignore[misc]
        def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            if type(timeout) is not Wait:
                found: bytes = super().read(max_bytes, timeout)
                return found
            late = httpcore.ReadTimeout()
            for seconds in timeout.watch.waits():
                try:
                    found = super().read(max_bytes, seconds)
                except httpcore.ReadTimeout as error:
                    late = error
                else:
                    return found
            raise late

    return Patient


@cache
def _async_kind(plain: Any) -> type:
    class Patient(plain):  # type: ignore[misc]
        async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 (httpcore's)
            if type(timeout) is not Wait:
                found: bytes
                try:
                    found = await super().read(max_bytes, timeout)
                except httpcore.ReadTimeout:
                    found = await super().read(max_bytes, GRACE)
                return found
            late = httpcore.ReadTimeout()
            for seconds in timeout.watch.waits():
                try:
                    found = await super().read(max_bytes, seconds)
                except httpcore.ReadTimeout as error:
                    late = error
                else:
                    return found
            raise late

    return Patient
