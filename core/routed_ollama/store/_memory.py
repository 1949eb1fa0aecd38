"""A store that ends with the process."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from routed_ollama import _fork
from routed_ollama.store._base import (
    FLUSH_SECONDS,
    MAX_AGE,
    MAX_OUTCOMES,
    Change,
    Judged,
    Merge,
    Recorded,
    Saved,
    decode_state,
    encode_state,
)
from routed_ollama.types import Outcome, OutcomeKind

_MOST_EARLY = 1_000
"""Judgements that may wait for their outcomes."""


class MemoryStore:
    """History in memory. A copy, or one that went through pickle, begins empty: a history has one owner.

    Args:
        max_outcomes: how many outcomes are kept.
        max_age: seconds after which an outcome is forgotten.
        clock: UTC seconds.

    Example:
        >>> store = MemoryStore()
        >>> store.save_state("circuits", {"llama3.1:8b": "closed"})
        >>> store.load_state("circuits")
        {'llama3.1:8b': 'closed'}
    """

    persistent = False
    location = "memory"

    def __init__(
        self, *, max_outcomes: int = MAX_OUTCOMES, max_age: float = MAX_AGE, clock: Callable[[], float] = time.time
    ) -> None:
        self._max_age = max_age
        self._clock = clock
        self._outcomes: deque[Outcome] = deque(maxlen=max_outcomes)
        self._answers: dict[str, int] = {}
        """Which of all outcomes so far, by number, answered a request that is still kept."""
        self._count = 0
        self._states: dict[str, str] = {}
        self._early: OrderedDict[str, float | None] = OrderedDict()
        self._lock = threading.RLock()  # a signal may come in the middle, and its handler may use the store
        self._held = False
        _fork.register(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def __reduce__(self) -> tuple[type[MemoryStore], tuple[()]]:
        return type(self), ()

    def record(self, outcome: Outcome) -> None:
        """Keep what became of an attempt."""
        kept = outcome if outcome.at else replace(outcome, at=self._clock())
        with self._lock:
            if self._early and kept.request_id is not None and kept.kind is OutcomeKind.OK:
                early = self._early.pop(kept.request_id, None)
                kept = kept if early is None else replace(kept, quality=early, judged=True)
            if self._outcomes and len(self._outcomes) == self._outcomes.maxlen:
                self._let_go(self._outcomes[0])
            self._outcomes.append(kept)
            self._count += 1
            if kept.request_id is not None and kept.kind is OutcomeKind.OK:
                self._answers[kept.request_id] = self._count

    def record_feedback(self, request_id: str, quality: float) -> None:
        """Set the quality (0 to 10) of the attempt that answered a request."""
        with self._lock:
            if (number := self._answers.get(request_id)) is not None:
                back = self._count - number + 1
                self._outcomes[-back] = replace(self._outcomes[-back], quality=quality, judged=True)
                return
            self._early[request_id] = quality
            if len(self._early) > _MOST_EARLY:
                self._early.popitem(last=False)

    def _let_go(self, oldest: Outcome) -> None:
        number = self._count - len(self._outcomes) + 1
        if oldest.request_id is not None and self._answers.get(oldest.request_id) == number:
            del self._answers[oldest.request_id]

    def outcomes(self, since: float | None = None, limit: int | None = None) -> list[Outcome]:
        """The newest ``limit`` outcomes since a time (UTC seconds), oldest first."""
        horizon = max(self._clock() - self._max_age, since or 0.0)
        with self._lock:
            kept = sorted((outcome for outcome in self._outcomes if outcome.at >= horizon), key=lambda one: one.at)
        return kept if limit is None else list(islice(kept, max(len(kept) - limit, 0), None))

    def load_state(self, key: str) -> dict[str, Any] | None:
        """What `save_state` was last given for a key, as a copy."""
        return decode_state(self._states.get(key))

    def save_state(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a small mapping of JSON values."""
        self._states[key] = encode_state(value)

    def update_state(self, key: str, merge: Merge) -> dict[str, Any]:
        """Replace the state of a key by what ``merge`` makes of it, as one step."""
        with self._lock:
            text = self._states[key] = encode_state(merge(decode_state(self._states.get(key))))
        return decode_state(text) or {}

    def apply(self, change: Change) -> None:
        """Make a change that was meant for a file."""
        match change:
            case Recorded(outcome):
                self.record(outcome)
            case Judged(request_id, quality):
                self.record_feedback(request_id, quality)
            case Saved(key, text):
                self._states[key] = text

    def flush(self, timeout: float | None = FLUSH_SECONDS) -> bool:  # noqa: ARG002 (a store's signature)
        """Nothing is ever pending."""
        return True

    def close(self) -> None:
        """Nothing to let go of."""

    def before_fork(self, timeout: float) -> None:
        """Let nobody be in the middle of a change."""
        self._held = self._lock.acquire(timeout=timeout)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._held:
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Go on with what was there: a child's memory is its own."""
        self._lock = threading.RLock()
