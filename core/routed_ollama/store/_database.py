"""Everything that speaks SQL with the history file: open and migrate, write, read, diagnose. No threads, no policy.

Connections live for one call each, so none is open while a process forks, and a file that was replaced is noticed.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import fields
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import Any

from routed_ollama.store._base import (
    EARLY_FEEDBACK,
    Change,
    Judged,
    Merge,
    Recorded,
    Saved,
    decode_state,
    encode_state,
)
from routed_ollama.store._kind import ForeignError, NotOursError, no_file, stranger
from routed_ollama.store._migrations import CREATE_LOG, LOG, MIGRATIONS
from routed_ollama.store._place import damaged, inode, keep_private, made, set_aside, signature
from routed_ollama.types import Outcome, OutcomeKind, TaskType

__all__ = [
    "ERRORS",
    "NotOursError",
    "Trouble",
    "connect",
    "diagnose",
    "objection",
    "read_outcomes",
    "read_state",
    "set_aside",
    "signature",
    "update_state",
    "write",
]

_LOG = logging.getLogger("routed_ollama")

_COLUMNS = tuple(field.name for field in fields(Outcome))
_INSERT = f"INSERT INTO outcome ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 (names)
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM outcome WHERE at >= ? ORDER BY at DESC, id DESC LIMIT ?"  # noqa: S608
_JUDGE = """
UPDATE outcome SET quality = ?, judged = 1
WHERE id = (SELECT id FROM outcome WHERE request_id = ? AND kind = 'ok' ORDER BY id DESC LIMIT 1)
"""
_SAVE = "INSERT OR REPLACE INTO state (key, value, saved_at) VALUES (?, ?, ?)"
_EARLY = "INSERT OR REPLACE INTO feedback (request_id, quality, at) VALUES (?, ?, ?)"
_READ_EARLY = "SELECT quality FROM feedback WHERE request_id = ?"
_DROP_EARLY = "DELETE FROM feedback WHERE request_id = ?"
_FORGET_EARLY = "DELETE FROM feedback WHERE at < ?"
_FORGET_OLD = "DELETE FROM outcome WHERE at < ?"
_FORGET_MANY = "DELETE FROM outcome WHERE id <= (SELECT id FROM outcome ORDER BY id DESC LIMIT 1 OFFSET ?)"

_FIGURES = tuple(
    field.name for field in fields(Outcome) if {"int", "float", "bool"} & set(str(field.type).split(" | "))
)

_WAIT = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_READONLY_DBMOVED}
)
"""What passes when other processes have done their part: a lock, a race for the log's locks, a file just replaced."""

_UNFIT = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    AttributeError,
    OverflowError,
    TypeError,
    ValueError,
)
"""What a change raises that can never be written, whatever the state of the file."""


_TEXT = partial(str, encoding="utf-8", errors="replace")
"""Reads text that a failing disk made unreadable, too: SQLite itself does not notice, and the rest is still good."""


class MovedError(Exception):
    """The file was removed or replaced after it was opened, so nothing must be written to what was opened."""


ERRORS = (sqlite3.Error, UnicodeDecodeError, NotOursError, MovedError)
"""What `connect` and the rest raise for trouble with the file, besides ``OSError``."""


class Trouble(Enum):
    """What is wrong with a file."""

    DAMAGED = auto()
    BUSY = auto()
    UNUSABLE = auto()
    FOREIGN = auto()


class Connection(sqlite3.Connection):
    """A connection that knows which file it opened."""

    path: Path
    inode: int

    def begin(self) -> None:
        """Begin to write; raises `MovedError` where that would be in vain."""
        self.execute("BEGIN IMMEDIATE")
        if inode(self.path) != self.inode:
            self.rollback()
            raise MovedError(f"{self.path.name} was moved")


def connect(path: Path, busy: float) -> Connection:
    """Open, creating folder and tables where they are missing.

    Args:
        path: the file.
        busy: seconds to wait for other processes' locks.

    Raises:
        NotOursError: no file, another program's database, or one written by a newer version. It was not changed.
        sqlite3.Error, OSError: see `diagnose`.
    """
    status = made(path)
    if what := no_file(status):
        raise ForeignError(what)
    connection = sqlite3.connect(path, timeout=busy, isolation_level=None, factory=Connection)
    connection.path, connection.inode = path, status.st_ino
    connection.text_factory = _TEXT
    try:
        missing = _missing_migrations(connection)
        keep_private(path, status)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if missing:
            _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _missing_migrations(connection: sqlite3.Connection) -> list[int]:
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if LOG not in names:
        marks = (
            "application_id",
            "user_version",
        )  # with which programs mark their own: one without tables is theirs, too
        if names or any(connection.execute(f"PRAGMA {mark}").fetchone()[0] for mark in marks):
            raise ForeignError("is a database of another program")
        return list(MIGRATIONS)
    applied = {number for (number,) in connection.execute(f"SELECT number FROM {LOG}")}  # noqa: S608 (a constant)
    if unknown := applied - MIGRATIONS.keys():
        raise NotOursError(f"was written by a newer version of routed-ollama (its migration {max(unknown)} is unknown)")
    return [number for number in MIGRATIONS if number not in applied]


def objection(path: Path) -> str | None:
    """Return what a file is in words, where it is certain that it is no history; it is only read.

    Who may only read leaves an empty log beside it; who may write takes it away, but would write what a log holds.
    """
    mode = "ro" if any(path.with_name(path.name + part).exists() for part in ("-wal", "-journal")) else "rw"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, timeout=0.0)) as connection:
            connection.text_factory = _TEXT
            _missing_migrations(connection)
    except ForeignError as error:
        return str(error)
    except (*ERRORS, OSError) as error:
        with suppress(OSError):
            return stranger(path) if damaged(error) else None
    return None


def _migrate(connection: Connection) -> None:
    connection.begin()
    with connection:  # commits, or rolls back
        connection.execute(CREATE_LOG)
        for number in _missing_migrations(connection):  # another process may have been quicker
            name, statements = MIGRATIONS[number]
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"INSERT INTO {LOG} VALUES (?, ?, ?)", (number, name, time.time()))  # noqa: S608 (a constant)


def write(
    connection: Connection, changes: Iterable[Change], now: float, limits: tuple[float, int] | None = None
) -> None:
    """Write changes in one transaction; one that can never be written is left out and logged.

    Args:
        connection: from `connect`.
        changes: what to write.
        now: UTC seconds.
        limits: forget outcomes older than this many seconds, and all but this many of the newest.
    """
    connection.begin()
    with connection:  # commits, or rolls back
        for change in changes:
            try:
                _apply(connection, change, now)
            except UnicodeDecodeError:  # of the file, not of the change: see `damaged`
                raise
            except _UNFIT as error:
                _LOG.warning("%s could not be kept: %s", type(change).__name__, error)
        if limits is not None:
            max_age, max_outcomes = limits
            connection.execute(_FORGET_EARLY, (now - EARLY_FEEDBACK,))
            connection.execute(_FORGET_OLD, (now - max_age,))
            connection.execute(_FORGET_MANY, (max_outcomes,))


def _apply(connection: Connection, change: Change, now: float) -> None:
    match change:
        case Recorded(outcome):
            connection.execute(_INSERT, tuple(_value(name, getattr(outcome, name), now) for name in _COLUMNS))
            if outcome.request_id and outcome.kind is OutcomeKind.OK:
                early = connection.execute(_READ_EARLY, (outcome.request_id,)).fetchone()
                if early is not None:
                    connection.execute(_JUDGE, (early[0], outcome.request_id))
                    connection.execute(_DROP_EARLY, (outcome.request_id,))
        case Judged(request_id, quality):
            if not connection.execute(_JUDGE, (quality, request_id)).rowcount:
                connection.execute(_EARLY, (request_id, quality, now))
        case Saved(key, text):
            connection.execute(_SAVE, (key, text, now))


def _value(name: str, value: Any, now: float) -> Any:
    if name == "at":
        return value or now
    return value.value if isinstance(value, Enum) else value


def read_outcomes(connection: sqlite3.Connection, since: float, limit: int | None) -> list[Outcome]:
    """The newest ``limit`` outcomes since a time, oldest first."""
    rows = connection.execute(_SELECT, (since, -1 if limit is None else limit)).fetchall()
    return [outcome for row in reversed(rows) if (outcome := _outcome(row)) is not None]


def _outcome(row: tuple[Any, ...]) -> Outcome | None:
    values = dict(zip(_COLUMNS, row, strict=True))
    try:
        values["kind"] = OutcomeKind(values["kind"])
        values["task_type"] = TaskType(values["task_type"])
    except ValueError:
        return None  # of a kind that only a newer version knows
    if any(isinstance(values[name], str | bytes) for name in _FIGURES):
        return None  # a failing disk's; it would be reckoned with
    for name in ("was_resident", "fits"):
        values[name] = None if values[name] is None else bool(values[name])
    values["estimated"], values["judged"] = bool(values["estimated"]), bool(values["judged"])
    return Outcome(**values)


def read_state(connection: sqlite3.Connection, key: str) -> str | None:
    """The text kept for a key."""
    row = connection.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def update_state(connection: Connection, key: str, merge: Merge, now: float) -> tuple[str | None, dict[str, Any]]:
    """Replace what is kept for a key by what ``merge`` makes of it, so that no other process's change is lost.

    Returns:
        The text that is kept now, and what it says. Nothing is written, and no lock taken, where nothing changes.
    """
    for locked in (False, True):
        if locked:
            connection.begin()
        with connection:  # commits, or rolls back
            before = read_state(connection, key)
            current = decode_state(before)
            text = encode_state(merge(current))
            value = decode_state(text) or {}
            if value == (current or {}):
                return before, value
            if locked:
                connection.execute(_SAVE, (key, text, now))
    return text, value


def diagnose(error: Exception) -> Trouble:
    """What an error of SQLite or of the system says about the file."""
    if isinstance(error, NotOursError):
        return Trouble.FOREIGN
    if isinstance(error, MovedError) or damaged(error):
        return Trouble.BUSY if isinstance(error, MovedError) else Trouble.DAMAGED
    code = getattr(error, "sqlite_errorcode", 0)
    if code & 0xFF in _WAIT or code in _WAIT:
        return Trouble.BUSY
    return Trouble.UNUSABLE
