"""What happens when the history file cannot be used: repaired by setting it aside, waited for, or replaced by memory.

One thread at a time has the file open, for one call, and lets go of it between two tries, so that a process that forks
finds it closed: SQLite must not be carried through a fork.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from routed_ollama import _fork
from routed_ollama.store._base import Change, Judged, Merge, Recorded, Saved, decode_state, say, say_once
from routed_ollama.store._kind import no_file
from routed_ollama.store._memory import MemoryStore
from routed_ollama.types import Outcome

if TYPE_CHECKING:
    from routed_ollama.store._database import Connection
    from routed_ollama.store._place import Signature

_T = TypeVar("_T")

_FORGET_EVERY = 1_000
"""Changes between two looks for outcomes that are to be forgotten."""

_TRIES = 3
"""How often one call sets a damaged file aside, or tries one that cannot be used, before it gives the place up."""

_PAUSE = 0.05
"""Seconds between two tries."""

_SLICE = 0.25
"""Seconds SQLite waits for a lock in one try; a fork waits for one try to end."""

_RETRY = 60.0
"""Seconds until a place that was given up is tried again: disks get space, locks are let go of."""

_KEPT = 10_000
"""Changes kept for the time when the file can be used again; at about 1 KB each, 10 MB."""

_NAMES: Final = {Recorded: "outcome", Judged: "judgement", Saved: "state"}

_LOG = logging.getLogger("routed_ollama")

_ghosts: set[Path] = set()
"""Files that were open when this process was forked: SQLite would take the parent's locks on them for its own."""


class HistoryFile:
    """A history file, or the memory that takes its place while the file cannot be used.

    Args:
        path: the file, absolute.
        max_outcomes: how many outcomes are kept.
        max_age: seconds after which an outcome is forgotten.
        patience: seconds another process may keep the file locked.
        clock: UTC seconds.
        retry: seconds until a place that was given up is tried again.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_outcomes: int,
        max_age: float,
        patience: float,
        clock: Callable[[], float],
        retry: float = _RETRY,
    ) -> None:
        self.path = path
        self.memory: MemoryStore | None = None
        self._max_outcomes = max_outcomes
        self._max_age = max_age
        self._patience = patience
        self._clock = clock
        self._retry = retry
        self._retry_at = 0.0
        self._until_forgetting = 0
        self._kept: deque[Change] = deque(maxlen=_KEPT)
        self._why = ""
        """What was wrong with the file when it was last tried; empty when nothing was."""
        self._passes = False
        """Whether that is a lock, which others let go of."""
        self._told = 0
        """How many changes were said to be lost."""
        self._seen: dict[str, tuple[Signature, str | None]] = {}
        self._turn = threading.RLock()
        self._held = False
        self._open = 0
        _fork.register(self)

    def write(self, changes: Sequence[Change]) -> None:
        """Write changes, all or none; into memory where the file cannot be used."""
        self._until_forgetting -= len(changes)
        forget = self._until_forgetting < 0
        if forget:
            self._until_forgetting = _FORGET_EVERY
        limits = (self._max_age, self._max_outcomes) if forget else None

        def to_file(connection: Connection) -> None:
            _database().write(connection, changes, self._clock(), limits)

        def to_memory(memory: MemoryStore) -> None:
            with self._turn:
                self._kept.extend(changes)
            for change in changes:
                memory.apply(change)

        self._return()
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

    def update_state(self, key: str, merge: Merge) -> dict[str, Any]:
        """Replace the state kept for a key by what ``merge`` makes of it, as one step among all processes.

        The file is not opened where it was not written to since the last call, and ``merge`` changes nothing: what is
        updated every second must not keep a disk awake.
        """
        self._return()
        if self.memory is None and not self.path.exists() and not merge(None):
            return {}  # nothing to keep is no reason to make a file
        before = _database().signature(self.path) if self.memory is None else None
        signature, text = self._seen.get(key, (None, None))
        if before is not None and signature == before:
            current = decode_state(text) or {}
            if dict(merge(decode_state(text))) == current:
                return current

        def in_file(connection: Connection) -> dict[str, Any]:
            text: str | None
            value: dict[str, Any]
            text, value = _database().update_state(connection, key, merge, self._clock())
            if before is not None:
                self._seen[key] = before, text
            return value

        return self._use(in_file, lambda memory: memory.update_state(key, merge))

    def objection(self) -> str | None:
        """Return what is there in words, where it is certain that it is no history; nothing is made or changed."""
        try:
            status = self.path.stat()
        except (OSError, ValueError):
            return None
        if (what := no_file(status)) or not status.st_size or self.path in _ghosts:
            return what
        with self._opening():
            found: str | None = _database().objection(self.path)
            return found

    def leave(self, unwritten: Sequence[Change]) -> None:
        """Try a last time to write what memory kept for the file, and say what is lost with the process.

        Args:
            unwritten: changes that came too late to be written.
        """
        if self._kept and self._retry_at < float("inf"):
            self._retry_at = 0.0
            self._return()
        lost = [*(self._kept if self._passes else ()), *unwritten]
        told, self._told = self._told, len(lost)
        if len(lost) > told:
            say(
                f"The history in {self.path} lacks {_counted(lost)}, which could not be written "
                f"({self._why or 'the disk is slow'}) and will be lost when this process ends."
                f"{' See what keeps the file locked: another program, or a backup.' if self._passes else ''}"
            )

    def _use(self, file: Callable[[Connection], _T], memory: Callable[[MemoryStore], _T]) -> _T:
        """Do something with the file, mending it where that is possible; otherwise with memory."""
        give_up_at = time.monotonic() + self._patience
        tries: Counter[object] = Counter()
        if self.path in _ghosts and self.memory is None:
            self._give_up("this process was forked while another thread was writing it", for_good=True)
        while True:
            if (instead := self.memory) is not None:
                return memory(instead)
            try:
                return self._once(file)
            except (*_database().ERRORS, OSError) as error:
                trouble = _database().diagnose(error)
                tries[trouble] += 1
                self._recover(trouble, error, last=tries[trouble] >= _TRIES, late=time.monotonic() >= give_up_at)

    def _once(self, file: Callable[[Connection], _T]) -> _T:
        with self._opening(), closing(_database().connect(self.path, min(_SLICE, self._patience / 2))) as connection:
            done = file(connection)
        self._why, self._passes = "", False
        return done

    @contextmanager
    def _opening(self) -> Iterator[None]:
        """Have the file open, which no fork comes into the midst of."""
        with self._turn:
            self._open += 1
            try:
                yield
            finally:
                self._open -= 1

    def _recover(self, trouble: object, error: Exception, *, last: bool, late: bool) -> None:
        kinds = _database().Trouble
        self._why, self._passes = str(error), trouble is kinds.BUSY
        if trouble is kinds.DAMAGED and not last:
            self._set_aside()
        elif (trouble is kinds.BUSY and not late) or (trouble is kinds.UNUSABLE and not last):
            time.sleep(_PAUSE)
        else:
            self._give_up(str(error))

    def _set_aside(self) -> None:
        try:
            with self._opening():
                aside = _database().set_aside(self.path)
        except OSError as error:
            self._give_up(f"is damaged and cannot be renamed: {error}")
            return
        except _database().NotOursError as error:
            self._give_up(str(error))
            return
        except _database().ERRORS:
            return  # another process is at it
        if aside is not None:
            say_once(
                f"aside {aside}",
                f"The history in {self.path} was damaged: it is now {aside.name}, and a new one was begun.",
            )

    def _give_up(self, why: str, *, for_good: bool = False) -> None:
        with self._turn:
            self.memory = MemoryStore(max_outcomes=self._max_outcomes, max_age=self._max_age, clock=self._clock)
            self._retry_at = float("inf") if for_good else time.monotonic() + self._retry
        say_once(
            f"memory {self.path}",
            f"History cannot be kept in {self.path} ({why}), so this process keeps it in memory "
            f"{'until it ends' if for_good else 'until that is possible again, or it ends'}. "
            "Make the file usable, or name another with store=, or store='memory' to be content with that.",
        )

    def _return(self) -> None:
        """See whether a file that was given up can be used again, and write what memory kept for it."""
        with self._turn:
            if (self.memory is None and not self._kept) or time.monotonic() < self._retry_at:
                return
            try:
                self._once(lambda connection: _database().write(connection, tuple(self._kept), self._clock()))
            except (*_database().ERRORS, OSError) as error:
                self._why = str(error)
                self._retry_at = time.monotonic() + self._retry
            else:
                self._kept.clear()
                self.memory = None
                _LOG.info("History is kept in %s again.", self.path)

    def before_fork(self, timeout: float) -> None:
        """Let nobody have the file open."""
        self._held = self._turn.acquire(timeout=timeout)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._held:
            self._turn.release()

    def after_fork_in_child(self) -> None:
        """Go on with the file, unless a thread that is not here has it open."""
        self._turn = threading.RLock()
        self._kept.clear()  # the parent writes them
        if self._open:
            self._open = 0
            _ghosts.add(self.path)


def _counted(changes: Sequence[Change]) -> str:
    """Return how many changes there are of each kind, in words."""
    counts = Counter(_NAMES[type(change)] for change in changes)
    words = [f"{count:,} {name}{'s' if count > 1 else ''}" for name, count in counts.items()]
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _database() -> ModuleType:
    """The module that imports sqlite3, which takes longer than the rest of the store: only when a file is needed."""
    from routed_ollama.store import _database as module  # noqa: PLC0415 (see above)

    return module
