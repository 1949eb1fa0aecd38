"""Who is answering which conversation, as far as this process knows. Keeps names and digests, never a text."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from routed_ollama import _fork
from routed_ollama.types import Candidate

_MOST = 10_000
"""Conversations that are remembered; the one that was silent longest is forgotten first."""


def fingerprint(text: str, tool_calls: Sequence[Any] = ()) -> str:
    """Return what a message of a model is known by, for frameworks whose messages do not say who wrote them.

    Args:
        text: the message's text.
        tool_calls: names and arguments, of whatever a framework hands over; the order of arguments is no matter.

    Example:
        >>> fingerprint("4") == fingerprint("4", [["add", {"a": 2}]])
        False
    """
    plain = json.dumps([text, _ordered(tool_calls)], default=str)
    return hashlib.blake2b(plain.encode("utf-8"), digest_size=16).hexdigest()


def _ordered(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {"": sorted([str(key), json.dumps(_ordered(each), default=str)] for key, each in value.items())}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_ordered(each) for each in value]
    return value


class Conversations:
    """Remembers the model that is answering, by session or by the fingerprint of its last message.

    Example:
        >>> known = Conversations()
        >>> known.note("session of Ann", Candidate("llama3.1:8b", "http://127.0.0.1:11434"))
        >>> known.of("session of Ann").model, known.of("another")
        ('llama3.1:8b', None)
    """

    def __init__(self) -> None:
        self._by_key: OrderedDict[str, Candidate] = OrderedDict()
        self._lock = threading.Lock()
        _fork.register(self)

    def note(self, key: str, candidate: Candidate) -> None:
        """Note who answered."""
        with self._lock:
            self._by_key[key] = candidate
            self._by_key.move_to_end(key)
            if len(self._by_key) > _MOST:
                self._by_key.popitem(last=False)

    def of(self, key: str) -> Candidate | None:
        """Return who answered last; None when unknown."""
        return self._by_key.get(key)

    def before_fork(self, timeout: float) -> None:
        """Nothing to bring to rest: what is noted is noted in one step."""

    def after_fork_in_parent(self) -> None:
        """Nothing was stopped."""

    def after_fork_in_child(self) -> None:
        """Let go of a lock that another of the parent's threads may have held."""
        self._lock = threading.Lock()
