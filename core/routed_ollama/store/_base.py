"""What a store is, and the words a store's parts speak with each other. No I/O."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from routed_ollama.errors import RoutedOllamaWarning
from routed_ollama.types import Outcome

MAX_OUTCOMES = 50_000
"""How many outcomes are kept; at about 200 bytes each, 10 MB."""

MAX_AGE = 90 * 86_400.0
"""Seconds after which an outcome is forgotten: models and drivers change, so older speeds tell little."""

EARLY_FEEDBACK = 3_600.0
"""Seconds that a judgement waits for its outcome, which another process, or a stream that goes on, may bring later."""

FLUSH_SECONDS = 10.0
"""How long `flush` waits unless told otherwise."""

_LOG = logging.getLogger("routed_ollama")
_said: set[str] = set()


Merge = Callable[[dict[str, Any] | None], Mapping[str, Any]]
"""Makes a new state of the one that is kept, ``None`` when none is."""


class Store(Protocol):
    """Where history and small state live. Numbers and names only: no prompt, no answer, no credential.

    An object of your own with these members can be given wherever a store is asked for. No method may raise for I/O,
    and `record`, `record_feedback` and `save_state` may not wait for it either.
    """

    @property
    def persistent(self) -> bool:
        """Whether what is written outlives the process, as far as is known: a file is opened when first used."""

    @property
    def location(self) -> str:
        """Where that is, for people; for a persistent store, what `open_store` opens it by. No credentials."""

    def record(self, outcome: Outcome) -> None:
        """Keep what became of an attempt."""

    def record_feedback(self, request_id: str, quality: float) -> None:
        """Set the quality (0 to 10) of the attempt that answered a request."""

    def outcomes(self, since: float | None = None, limit: int | None = None) -> list[Outcome]:
        """The newest ``limit`` outcomes since a time (UTC seconds), oldest first; those just recorded included."""

    def load_state(self, key: str) -> dict[str, Any] | None:
        """What `save_state` was last given for a key; ``None`` when nothing was."""

    def save_state(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a small mapping of JSON values. Raises ``TypeError`` for others."""

    def update_state(self, key: str, merge: Merge) -> dict[str, Any]:
        """Replace the state of a key by what ``merge`` makes of it, as one step among all who share the store.

        This is how processes, or machines, share a state without losing each other's changes. It waits for I/O, so it
        is not for a request's way. A key is either saved or updated, not both.

        Args:
            key: the state's name.
            merge: called with what is kept, in a transaction. It may be called again when another was quicker, and must
                bear being given what it gave before: a store that was out of reach may have forgotten it.

        Returns:
            What is kept now, as JSON tells it.
        """

    def flush(self, timeout: float | None = FLUSH_SECONDS) -> bool:
        """Wait, ``timeout`` seconds at most, until all is written; whether it is."""

    def close(self) -> None:
        """Flush and let go of everything. A closed store opens itself again when it is used."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """An outcome to be kept."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Judged:
    """A quality to be set."""

    request_id: str
    quality: float


@dataclass(frozen=True, slots=True)
class Saved:
    """A state to be kept, as JSON."""

    key: str
    text: str


Change = Recorded | Judged | Saved
"""What a writer is given to write."""


def encode_state(value: Mapping[str, Any]) -> str:
    """State as text; ``TypeError`` for what JSON cannot hold."""
    return json.dumps(dict(value), separators=(",", ":"))


def decode_state(text: str | None) -> dict[str, Any] | None:
    """State from text; ``None`` for text that holds none."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def say_once(key: str, message: str) -> None:
    """Warn, once in this process for a key."""
    if key not in _said:
        _said.add(key)
        say(message)


def say(message: str) -> None:
    """Warn. Where warnings are errors it is logged: a store does not raise."""
    try:
        warnings.warn(message, RoutedOllamaWarning, stacklevel=2)
    except RoutedOllamaWarning:
        _LOG.warning("%s", message)
