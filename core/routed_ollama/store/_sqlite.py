"""History in an SQLite file, written off the request's way. Where the file cannot be used, memory takes its place."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from routed_ollama.store._base import (
    FLUSH_SECONDS,
    MAX_AGE,
    MAX_OUTCOMES,
    Judged,
    Merge,
    Recorded,
    Saved,
    encode_state,
)
from routed_ollama.store._file import HistoryFile
from routed_ollama.store._writer import EXIT_SECONDS, Writer
from routed_ollama.types import Outcome

_PATIENCE = 5.0
"""Seconds another process may keep the file locked before memory is used: what `sqlite3` itself waits unless told
otherwise. A batch is written in milliseconds; what holds a lock for longer is no store of ours, and has no set end."""

_CATCH_UP = 2.0
"""Seconds a reader waits for what is still queued."""


class SQLiteStore:
    """History in a file that several processes may share.

    Nothing is opened before it is first used. A damaged history is set aside under another name with a warning, and a
    new one begun. What cannot be used (read-only, locked for long, of a newer version, of another program, no database)
    is left alone with a warning, and memory used instead; the file is tried again each minute, and when the store is
    closed. A copy, or one that went through pickle, opens the same file, and so does a forked process.

    A process that is killed loses what it recorded in the last quarter of a second, and nothing else. One that ends
    while another keeps the file locked says what it could not write.

    Args:
        path: the file; its folder is made.
        max_outcomes: how many outcomes are kept.
        max_age: seconds after which an outcome is forgotten.
        patience: seconds another process may keep the file locked.
        clock: UTC seconds.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = SQLiteStore(Path(folder) / "history.sqlite3")
        ...     store.save_state("contexts", {"llama3.1:8b": 8192})
        ...     print(store.load_state("contexts"))
        ...     store.close()
        {'llama3.1:8b': 8192}
    """

    def __init__(
        self,
        path: str | Path,
        *,
        max_outcomes: int = MAX_OUTCOMES,
        max_age: float = MAX_AGE,
        patience: float = _PATIENCE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._options: dict[str, Any] = {
            "max_outcomes": max_outcomes,
            "max_age": max_age,
            "patience": patience,
            "clock": clock,
        }
        self._file = HistoryFile(Path(path).absolute(), **self._options)
        self._writer = Writer(self._file.write, ended=self._file.leave)
        weakref.finalize(self, self._writer.close, EXIT_SECONDS)  # when it is collected, or at the latest at exit

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.location!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **self._options), (str(self._file.path),)

    @property
    def persistent(self) -> bool:
        """Whether the file is used, as far as is known: it is opened when first needed."""
        return self._file.memory is None

    def objection(self) -> str | None:
        """Return what is at the path, in words, where it is certain that it is no history.

        Nothing is made or changed. A store that is used all the same leaves the file alone and keeps to memory.
        """
        return self._file.objection()

    @property
    def location(self) -> str:
        """The file's path, or ``memory`` where it cannot be used."""
        return str(self._file.path) if self._file.memory is None else self._file.memory.location

    def record(self, outcome: Outcome) -> None:
        """Keep what became of an attempt: queued at once, written within about a second."""
        self._writer.put(Recorded(outcome))

    def record_feedback(self, request_id: str, quality: float) -> None:
        """Set the quality (0 to 10) of the attempt that answered a request."""
        self._writer.put(Judged(request_id, quality))

    def outcomes(self, since: float | None = None, limit: int | None = None) -> list[Outcome]:
        """The newest ``limit`` outcomes since a time (UTC seconds), oldest first."""
        self._writer.flush(_CATCH_UP)
        return self._file.outcomes(since, limit)

    def load_state(self, key: str) -> dict[str, Any] | None:
        """What `save_state` was last given for a key, by whichever process."""
        self._writer.flush(_CATCH_UP)
        return self._file.load_state(key)

    def save_state(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a small mapping of JSON values.

        Raises:
            TypeError: a value that JSON cannot hold.
        """
        self._writer.put(Saved(key, encode_state(value)))

    def update_state(self, key: str, merge: Merge) -> dict[str, Any]:
        """Replace the state of a key by what ``merge`` makes of it, as one step among all processes. Waits for I/O.

        Raises:
            TypeError: a value that JSON cannot hold.
        """
        return self._file.update_state(key, merge)

    def flush(self, timeout: float | None = FLUSH_SECONDS) -> bool:
        """Wait, ``timeout`` seconds at most, until all is on disk; whether it is."""
        return self._writer.flush(timeout)

    def close(self) -> None:
        """Flush and end the thread; another process's lock is waited for ``patience`` seconds at most.

        What could not be written is said in a `RoutedOllamaWarning`. A store that is used again starts it again.
        """
        self._writer.close(FLUSH_SECONDS)
