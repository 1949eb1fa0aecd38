"""What has arrived at a server, for tests to look at and to wait for."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from routed_ollama.testing.wire import Received


class RecordedRequest:
    """A request that arrived."""

    def __init__(self, received: Received) -> None:
        self._received = received
        self.method = received.method
        self.path = received.path
        self.raw = received.body
        self.at = received.at
        """When its last byte arrived: ``time.monotonic()``, seconds."""

    @cached_property
    def body(self) -> Any:
        """As JSON, or None where there is none or it is malformed."""
        try:
            return json.loads(self.raw) if self.raw else None
        except (ValueError, RecursionError):
            return None

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """By name, in lower case."""
        return self._received.headers

    @property
    def model(self) -> str | None:
        """The model it names."""
        name = self.body.get("model") if isinstance(self.body, Mapping) else None
        return name if isinstance(name, str) else None

    def __repr__(self) -> str:
        return f"<{self.method} {self.path} model={self.model!r}>"


class RequestLog:
    """All requests in the order in which they arrived. Safe to use from any thread."""

    def __init__(self) -> None:
        self._requests: list[RecordedRequest] = []
        self._changed = threading.Condition()

    def add(self, request: RecordedRequest) -> None:
        """One has arrived."""
        with self._changed:
            self._requests.append(request)
            self._changed.notify_all()

    def all(self) -> tuple[RecordedRequest, ...]:
        """What has arrived so far."""
        with self._changed:
            return tuple(self._requests)

    def clear(self) -> None:
        """Forget them."""
        with self._changed:
            self._requests.clear()

    def wait(self, matches: Callable[[RecordedRequest], bool] | None, count: int, timeout: float) -> RecordedRequest:
        """Wait until so many that match have arrived, and give the last of them.

        Raises:
            TimeoutError: they did not come.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                found = [each for each in self._requests if matches is None or matches(each)]
                if len(found) >= count:
                    return found[count - 1]
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"{len(found)} of {count} requests came within {timeout} s")
