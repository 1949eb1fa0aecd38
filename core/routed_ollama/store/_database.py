"""Everything that touches the SQLite file: open and migrate, write, read, diagnose, set aside. No threads, no policy.

Connections live for one call each, so none is open while a process forks, and a file that was replaced is noticed.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import fields
from enum import Enum, auto
from pathlib import Path
from typing import Any

from routed_ollama.store._base import Change, Judged, Recorded, Saved
from routed_ollama.store._migrations import CREATE_LOG, LOG, MIGRATIONS
from routed_ollama.types import Outcome, OutcomeKind, TaskType

_LOG = logging.getLogger("routed_ollama")

_COLUMNS = tuple(field.name for field in fields(Outcome))
_INSERT = f"INSERT INTO outcome ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 (names)
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM outcome WHERE at >= ? ORDER BY at DESC, id DESC LIMIT ?"  # noqa: S608
_JUDGE = """
UPDATE outcome SET quality = ?
WHERE id = (SELECT id FROM outcome WHERE request_id = ? AND kind = 'ok' ORDER BY id DESC LIMIT 1)
"""
_SAVE = "INSERT OR REPLACE INTO state (key, value, saved_at) VALUES (?, ?, ?)"
_FORGET_OLD = "DELETE FROM outcome WHERE at < ?"
_FORGET_MANY = "DELETE FROM outcome WHERE id <= (SELECT id FROM outcome ORDER BY id DESC LIMIT 1 OFFSET ?)"

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


class NotOursError(Exception):
    """The file is a sound database that is to be left alone."""


ERRORS = (sqlite3.Error, NotOursError)
"""What `connect` and the rest raise for trouble with the file, besides ``OSError``."""


class Trouble(Enum):
    """What is wrong with a file."""

    DAMAGED = auto()
    BUSY = auto()
    UNUSABLE = auto()


def connect(path: Path, busy: float) -> sqlite3.Connection:
    """Open, creating folder and tables where they are missing.

    Args:
        path: the file.
        busy: seconds to wait for other processes' locks.

    Raises:
        NotOursError: another program's database, or one written by a newer version.
        sqlite3.Error, OSError: see `diagnose`.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    connection = sqlite3.connect(path, timeout=busy, isolation_level=None)
    try:
        missing = _missing_migrations(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if missing:
            _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _missing_migrations(connection: sqlite3.Connection) -> list[int]:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if LOG not in tables:
        if tables:
            raise NotOursError("is a database of another program")
        return list(MIGRATIONS)
    applied = {number for (number,) in connection.execute(f"SELECT number FROM {LOG}")}  # noqa: S608 (a constant)
    if unknown := applied - MIGRATIONS.keys():
        raise NotOursError(f"was written by a newer version of routed-ollama (its migration {max(unknown)} is unknown)")
    return [number for number in MIGRATIONS if number not in applied]


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    with connection:  # commits, or rolls back
        connection.execute(CREATE_LOG)
        for number in _missing_migrations(connection):  # another process may have been quicker
            name, statements = MIGRATIONS[number]
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"INSERT INTO {LOG} VALUES (?, ?, ?)", (number, name, time.time()))  # noqa: S608 (a constant)


def write(
    connection: sqlite3.Connection, changes: Iterable[Change], now: float, limits: tuple[float, int] | None = None
) -> None:
    """Write changes in one transaction; one that can never be written is left out and logged.

    Args:
        connection: from `connect`.
        changes: what to write.
        now: UTC seconds.
        limits: forget outcomes older than this many seconds, and all but this many of the newest.
    """
    connection.execute("BEGIN IMMEDIATE")
    with connection:  # commits, or rolls back
        for change in changes:
            try:
                connection.execute(*_statement(change, now))
            except _UNFIT as error:
                _LOG.warning("%s could not be kept: %s", type(change).__name__, error)
        if limits is not None:
            max_age, max_outcomes = limits
            connection.execute(_FORGET_OLD, (now - max_age,))
            connection.execute(_FORGET_MANY, (max_outcomes,))


def _statement(change: Change, now: float) -> tuple[str, tuple[Any, ...]]:
    match change:
        case Recorded(outcome):
            return _INSERT, tuple(_value(name, getattr(outcome, name), now) for name in _COLUMNS)
        case Judged(request_id, quality):
            return _JUDGE, (quality, request_id)
        case Saved(key, text):
            return _SAVE, (key, text, now)


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
    values["was_resident"] = None if values["was_resident"] is None else bool(values["was_resident"])
    values["estimated"] = bool(values["estimated"])
    return Outcome(**values)


def read_state(connection: sqlite3.Connection, key: str) -> str | None:
    """The text kept for a key."""
    row = connection.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def diagnose(error: Exception) -> Trouble:
    """What an error of SQLite or of the system says about the file."""
    code = getattr(error, "sqlite_errorcode", None)
    match None if code is None else code & 0xFF:  # the low byte is the kind, the rest its detail
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return Trouble.DAMAGED
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Trouble.BUSY
        case _:
            return Trouble.UNUSABLE


def set_aside(path: Path) -> Path | None:
    """Rename a damaged file, with its ``-wal`` and ``-shm``, so that a new one can be begun. Nothing is deleted.

    Returns:
        The new name; ``None`` when the file is sound after all, or another process was quicker.

    Raises:
        OSError: it cannot be renamed.
    """
    try:
        seen = path.stat().st_ino
        if _is_sound(path) or path.stat().st_ino != seen:
            return None
    except FileNotFoundError:
        return None
    aside = _unused_name(path)
    for suffix in ("-wal", "-shm", ""):  # the file itself last: a new one must not meet the old one's log
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def _is_sound(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path, timeout=1.0)) as connection:
            return bool(connection.execute("PRAGMA integrity_check(1)").fetchone()[0] == "ok")
    except sqlite3.Error as error:
        return diagnose(error) is not Trouble.DAMAGED


def _unused_name(path: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    name, count = f"{path.name}.corrupt-{stamp}", 1
    while path.with_name(name).exists():
        count += 1
        name = f"{path.name}.corrupt-{stamp}-{count}"
    return path.with_name(name)
