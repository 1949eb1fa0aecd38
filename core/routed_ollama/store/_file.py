"""What happens when the history file cannot be used: repaired by setting it aside, waited for, or replaced by memory.

Not safe for several threads by itself: the store lets one in at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from routed_ollama.store._base import Change, decode_state, say_once
from routed_ollama.store._memory import MemoryStore
from routed_ollama.types import Outcome

if TYPE_CHECKING:
    import sqlite3

_T = TypeVar("_T")

_FORGET_EVERY = 1_000
"""Changes between two looks for outcomes that are to be forgotten."""

_REPAIRS = 3
"""How often one call sets a damaged file aside before it gives the place up."""

_PAUSE = 0.05
"""Seconds between two tries where SQLite itself does not wait for a lock."""


class HistoryFile:
    """A history file, or the memory that takes its place.

    Args:
        path: the file, absolute.
        max_outcomes: how many outcomes are kept.
        max_age: seconds after which an outcome is forgotten.
        patience: seconds another process may keep the file locked.
        clock: UTC seconds.
    """

    def __init__(
        self, path: Path, *, max_outcomes: int, max_age: float, patience: float, clock: Callable[[], float]
    ) -> None:
        self.path = path
        self.memory: MemoryStore | None = None
        self._max_outcomes = max_outcomes
        self._max_age = max_age
        self._patience = patience
        self._clock = clock
        self._until_forgetting = 0

    def write(self, changes: Sequence[Change]) -> None:
        """Write changes, all or none; into memory where the file cannot be used."""
        self._until_forgetting -= len(changes)
        forget = self._until_forgetting < 0
        if forget:
            self._until_forgetting = _FORGET_EVERY
        limits = (self._max_age, self._max_outcomes) if forget else None

        def to_file(connection: sqlite3.Connection) -> None:
            _database().write(connection, changes, self._clock(), limits)

        def to_memory(memory: MemoryStore) -> None:
            for change in changes:
                memory.apply(change)

        self._use(to_file, to_memory)

    def outcomes(self, since: float | None, limit: int | None) -> list[Outcome]:
        """The newest ``limit`` outcomes since a time, oldest first."""
        horizon = max(since or 0.0, self._clock() - self._max_age)
        return self._use(
            lambda connection: _database().read_outcomes(connection, horizon, limit),
            lambda memory: memory.outcomes(since, limit),
        )

    def load_state(self, key: str) -> dict[str, Any] | None:
        """The state kept for a key."""
        return self._use(
            lambda connection: decode_state(_database().read_state(connection, key)),
            lambda memory: memory.load_state(key),
        )

    def _use(self, file: Callable[[sqlite3.Connection], _T], memory: Callable[[MemoryStore], _T]) -> _T:
        """Do something with the file, mending it where that is possible; otherwise with memory."""
        database = _database()
        give_up_at = time.monotonic() + self._patience
        repairs = 0
        while self.memory is None:
            try:
                with closing(database.connect(self.path, self._patience / 2)) as connection:
                    return file(connection)
            except (*database.ERRORS, OSError) as error:
                trouble = database.diagnose(error)
                if trouble is database.Trouble.DAMAGED and repairs < _REPAIRS:
                    repairs += 1
                    self._set_aside()
                elif trouble is database.Trouble.BUSY and time.monotonic() < give_up_at:
                    time.sleep(_PAUSE)
                else:
                    self._give_up(str(error))
        return memory(self.memory)

    def _set_aside(self) -> None:
        try:
            aside = _database().set_aside(self.path)
        except OSError as error:
            self._give_up(f"is damaged and cannot be renamed: {error}")
            return
        if aside is not None:
            say_once(
                f"aside {aside}",
                f"The history in {self.path} was damaged: it is now {aside.name}, and a new one was begun.",
            )

    def _give_up(self, why: str) -> None:
        self.memory = MemoryStore(max_outcomes=self._max_outcomes, max_age=self._max_age, clock=self._clock)
        say_once(
            f"memory {self.path}",
            f"History cannot be kept in {self.path} ({why}), so this process keeps it in memory. "
            "Make the file usable, or name another with store=, or store='memory' to be content with that.",
        )


def _database() -> ModuleType:
    """The module that imports sqlite3, which takes longer than the rest of the store: only when a file is needed."""
    from routed_ollama.store import _database as module  # noqa: PLC0415 (see above)

    return module
