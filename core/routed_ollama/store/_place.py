"""The history file as a file: private to its user, known by its identity, set aside when it is damaged. No tables.

The file is never opened here but to make it: closing it would let go of every lock that SQLite holds on it in this
process (POSIX locks belong to the process, not to the descriptor).
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from routed_ollama.store._kind import NotOursError, stranger

_PARTS = ("-wal", "-shm", "")
"""SQLite's log and index, and the file itself last: a new one must not meet the old one's log."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_MENDING_SECONDS = 10.0
"""How long a process waits while another one mends the same file."""

_SETTLED = 2_000_000_000
"""Nanoseconds after which a time of change tells all: file systems count in steps of up to two seconds (FAT)."""

Signature = tuple[tuple[int, int, int], ...]
"""Inode, time of change and size of the file and its log."""


def made(path: Path) -> os.stat_result:
    """See that something is there, by making a file that only its user may read, whatever the umask.

    Raises:
        OSError: it cannot be made.
    """
    try:
        return path.stat()
    except FileNotFoundError:
        _make_folder(path.parent)
        with suppress(FileExistsError):  # another was quicker
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            path.chmod(0o600)  # a umask may have taken away even that
        return path.stat()


def keep_private(path: Path, status: os.stat_result) -> None:
    """See that only its user may read a file that is ours; ``-wal`` and ``-shm`` take their mode from it."""
    if os.name == "posix" and status.st_mode & _OTHERS:
        for part in _PARTS:
            with suppress(OSError):  # not there, or not ours
                _with_suffix(path, part).chmod(0o600)


def _make_folder(folder: Path) -> None:
    if folder.exists():
        return
    _make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        folder.chmod(0o700)


def inode(path: Path) -> int:
    """The inode of what bears that name now; 0 when nothing does."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def signature(path: Path) -> Signature | None:
    """What tells whether a file was written to; ``None`` where that cannot be told: missing, or changed just now."""
    found = []
    for part in ("", "-wal"):
        try:
            status = _with_suffix(path, part).stat()
        except OSError:
            if not part:
                return None
            continue
        if time.time_ns() - status.st_mtime_ns < _SETTLED:
            return None
        found.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found)


def set_aside(path: Path) -> Path | None:
    """Rename a damaged history, with its ``-wal`` and ``-shm``, so that a new one can be begun. Nothing is deleted.

    Returns:
        The new name; ``None`` when the file is sound after all, or another process was quicker.

    Raises:
        NotOursError: it is no history; nothing was done to it, and nothing put beside it.
        OSError: it cannot be renamed.
        sqlite3.Error: another process is mending it, and does not come to an end.
    """
    if not path.exists() or _is_sound(path):
        return None
    if (what := _stranger(path)) is not None:
        raise NotOursError(what)
    with _alone(path):
        if not path.exists() or _is_sound(path):
            return None
        keep_private(path, path.stat())
        aside = _unused_name(path)
        for part in _PARTS:
            with suppress(FileNotFoundError):  # SQLite removes its log and index when nobody needs them
                _with_suffix(path, part).rename(_with_suffix(aside, part))
        return aside


def _stranger(path: Path) -> str | None:
    try:
        return stranger(path)
    except FileNotFoundError:  # another process has just set it aside
        return None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from mending at the same time, by a lock that ends with its process: SQLite's own."""
    lock = _with_suffix(path, ".lock")
    made(lock)
    with closing(sqlite3.connect(lock, timeout=_MENDING_SECONDS, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield


def _is_sound(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path, timeout=1.0)) as connection:
            return bool(connection.execute("PRAGMA integrity_check(1)").fetchone()[0] == "ok")
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return not damaged(error)


def damaged(error: Exception) -> bool:
    """Whether an error says that the file is no sound database.

    SQLite's message on a broken schema may repeat its bytes, and `sqlite3` cannot read it: a ``UnicodeDecodeError``.
    """
    if isinstance(error, UnicodeDecodeError):
        return True
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the kind, the rest its detail
    return code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _unused_name(path: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    name, count = f"{path.name}.corrupt-{stamp}", 1
    while path.with_name(name).exists():
        count += 1
        name = f"{path.name}.corrupt-{stamp}-{count}"
    return path.with_name(name)


def _with_suffix(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
