"""What a person names as a store may be there already: what is not ours stays as it is, a lock costs a bounded wait.

A damaged history is set aside (``test_store.py``); here is what must not be.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from routed_ollama import Router
from routed_ollama.errors import ConfigurationError, RoutedOllamaWarning
from routed_ollama.store import MemoryStore, SQLiteStore, open_store
from routed_ollama.store._kind import MAGIC
from routed_ollama.store._open import default_path
from routed_ollama.types import Outcome, OutcomeKind


def outcome(number: int) -> Outcome:
    return Outcome("a:8b", "http://one", OutcomeKind.OK, at=2e9 + number, request_id=f"r{number}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.db"


@contextmanager
def told() -> Iterator[list[str]]:
    """What is warned of."""
    found: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield found
    found += [str(one.message) for one in caught if issubclass(one.category, RoutedOllamaWarning)]


def history(path: Path, count: int = 50) -> None:
    store = SQLiteStore(path)
    for number in range(count):
        store.record(outcome(number))
    store.close()


def database(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


# Files of others

STRANGERS = {
    "a text": (b"Dear diary,\n", "is a text, and no history"),
    "a long text": ("Grüße, ".encode() * 20_000, "is a text, and no history"),
    "a dump of a history": (b"CREATE TABLE routed_ollama_migrations (number INTEGER);\n", "is a text, and no history"),
    "JSON": (json.dumps({"models": ["a:8b"]}).encode(), "is JSON, and no history"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is a PNG image"),
    "a model": (b"GGUF\x03\0\0\0", "is a model in GGUF"),
    "bytes": (bytes(range(255, 0, -1)) * 300, "is no SQLite database"),
    "UTF-16": ("Dear diary".encode("utf-16"), "is no SQLite database"),
    "a disk's image": (bytes(32_768) + b"\x01CD001\x01" + bytes(90_000), "is no SQLite database"),
    "an empty disk": (bytes(200_000), "is no SQLite database"),
    "a damaged database of another program": (
        MAGIC + bytes(80) + b"CREATE TABLE moz_places (url TEXT)" + b"\xff" * 5_000,
        "is a damaged database of another program",
    ),
}


@pytest.mark.parametrize(("content", "words"), STRANGERS.values(), ids=STRANGERS)
def test_a_file_of_somebody_elses_is_an_error_and_stays_as_it_is(path: Path, content: bytes, words: str) -> None:
    path.write_bytes(content)
    path.chmod(0o644)
    before = path.stat()
    for spec in (path, str(path), f"sqlite:///{path}"):
        with pytest.raises(ConfigurationError, match=words) as raised:
            open_store(spec)
        assert str(path) in str(raised.value)
        assert "name a file that is not there yet" in str(raised.value)
    assert (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns) == (
        content,
        before.st_mode,
        before.st_mtime_ns,
    )
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208 (nothing beside it)


@pytest.mark.parametrize(("content", "words"), STRANGERS.values(), ids=STRANGERS)
def test_a_store_that_meets_one_later_leaves_it_alone_and_keeps_to_memory(
    path: Path, content: bytes, words: str
) -> None:
    store = open_store(path)
    path.write_bytes(content)
    path.chmod(0o644)
    mode = path.stat().st_mode
    with told() as warned:
        store.record(outcome(1))
        assert store.outcomes() == [outcome(1)]
        store.close()
    assert len(warned) == 1
    assert words in warned[0]
    assert (path.read_bytes(), path.stat().st_mode) == (content, mode)
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208 (nothing beside it)


FOREIGN = {
    "tables": "CREATE TABLE customer (name TEXT)",
    "a view": "CREATE VIEW one AS SELECT 1",
    "its mark": "PRAGMA application_id = 252006673",
    "its version": "PRAGMA user_version = 3",
}


@pytest.mark.parametrize("statement", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_another_programs_database_gets_no_tables_of_ours(path: Path, statement: str, mode: str) -> None:
    database(path, f"PRAGMA journal_mode = {mode}", statement)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="is a database of another program"):
        open_store(path)
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208 (nothing beside it)
    with told() as warned:
        store = SQLiteStore(path)  # who makes one by hand is warned
        store.record(outcome(1))
        assert store.flush()
        assert not store.persistent
        store.close()
    assert len(warned) == 1
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208 (nothing beside it)


def test_a_database_of_another_program_that_crashed_is_not_mended_by_a_look(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE customer (name TEXT)")
        connection.commit()
        crashed = path.with_name("crashed.db")
        for part in ("", "-wal"):
            shutil.copy(f"{path}{part}", f"{crashed}{part}")
    before = [Path(f"{crashed}{part}").read_bytes() for part in ("", "-wal")]
    with pytest.raises(ConfigurationError, match="is a database of another program"):
        open_store(crashed)
    assert [Path(f"{crashed}{part}").read_bytes() for part in ("", "-wal")] == before


def test_a_database_that_is_still_empty_may_be_used(path: Path) -> None:
    database(path, "PRAGMA journal_mode = WAL", "CREATE TABLE a (b)", "DROP TABLE a")
    history(path, 1)
    assert open_store(path).outcomes() == [outcome(0)]


def test_a_folder_is_none(path: Path) -> None:
    path.mkdir()
    with pytest.raises(ConfigurationError, match="is a folder"):
        open_store(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file_is_neither_opened_nor_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    os.mkfifo("pipe")
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind("socket")
        for name, words in (("pipe", "a named pipe"), ("socket", "a socket"), (os.devnull, "a device")):
            mode = Path(name).stat().st_mode
            with pytest.raises(ConfigurationError, match=f"is {words}"):
                open_store(name)
            with told() as warned:
                store = SQLiteStore(name)
                store.record(outcome(1))
                assert store.outcomes() == [outcome(1)]
                store.close()
            assert f"(is {words})" in warned[0]
            assert Path(name).stat().st_mode == mode
    assert sorted(os.listdir()) == ["pipe", "socket"]  # noqa: PTH208 (nothing beside them)


def test_a_router_says_so_before_it_asks_anything(path: Path) -> None:
    path.write_text('{"needed": true}')
    with pytest.raises(ConfigurationError, match=r"store: .*mine\.db is JSON, and no history\. It was left as it is"):
        Router.from_models(["a:8b"], store=str(path))


def test_a_damaged_default_history_is_set_aside_whatever_it_holds(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("platformdirs.user_state_path", lambda *_, **__: tmp_path)
    default_path().write_text("Dear diary")
    store = open_store(str(default_path()))
    with told() as warned:
        store.record(outcome(1))
        assert store.outcomes() == [outcome(1)]
        store.close()
    assert "was damaged" in warned[0]
    assert [file.read_text() for file in tmp_path.glob("history.sqlite3.corrupt-*")] == ["Dear diary"]


def test_a_copy_of_a_default_store_opens_what_the_default_opens(tmp_path: Path, monkeypatch: Any) -> None:
    """By its location, as a router in another process does; a default that is in the way is no person's mistake."""
    monkeypatch.setattr("platformdirs.user_state_path", lambda *_, **__: tmp_path)
    default_path().mkdir()
    assert open_store(open_store().location).location == str(default_path())


# Damaged files of ours, by any name


def cut(path: Path, size: int) -> None:
    os.truncate(path, size)


def zeroed(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.write(bytes(min(size, path.stat().st_size)))


@pytest.mark.parametrize(
    ("harm", "size"),
    [(cut, 0), (cut, 10), (cut, 50), (cut, 5_000), (zeroed, 16), (zeroed, 512), (zeroed, 4_096), (zeroed, 1_000_000)],
)
def test_a_history_that_a_crash_damaged_is_set_aside_and_begun_anew(path: Path, harm: Any, size: int) -> None:
    history(path)
    harm(path, size)
    path.chmod(0o644)
    left = path.read_bytes()
    with told() as warned:
        store = open_store(path)
        store.record(outcome(99))
        assert store.flush()
        assert store.outcomes()[-1] == outcome(99)
        assert store.persistent
        store.close()
    aside = [file for file in path.parent.glob("mine.db.corrupt-*") if not file.name.endswith(("-wal", "-shm"))]
    assert [file.read_bytes() for file in aside] == ([left] if left else [])
    assert len(warned) == len(aside)
    assert all(stat.S_IMODE(file.stat().st_mode) & 0o077 == 0 for file in aside) or os.name != "posix"


# Names


def test_a_file_of_the_name_memory_can_be_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_store("Memory"), MemoryStore)
    assert open_store("./Memory").location == open_store(Path("Memory")).location == str(tmp_path / "Memory")
    assert os.listdir() == []  # noqa: PTH208 (nothing is made)


# Locks


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """As a tool or a backup locks it: not even reading is possible."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        yield


def test_what_a_lock_kept_from_being_written_is_said_when_the_store_is_closed(path: Path) -> None:
    history(path, 1)
    store = SQLiteStore(path, patience=0.2)
    with locked(path), told() as warned:
        store.record(outcome(1))
        store.record(outcome(2))
        store.record_feedback("r1", 7)
        store.save_state("a", {"b": 1})
        store.close()
    kept, lost = warned
    assert "keeps it in memory" in kept
    assert f"The history in {path} lacks 2 outcomes, 1 judgement and 1 state, which could not be written" in lost
    assert "(database is locked)" in lost
    assert "See what keeps the file locked" in lost


def test_it_is_said_once_and_written_when_the_lock_is_gone(path: Path) -> None:
    history(path, 1)
    store = SQLiteStore(path, patience=0.2)
    with locked(path), told() as warned:
        store.record(outcome(1))
        store.close()
        store.close()
    assert len(warned) == 2
    with told() as warned:
        store.record(outcome(2))
        store.close()
    assert warned == []
    assert [one.at - 2e9 for one in SQLiteStore(path).outcomes()] == [0, 1, 2]


def test_a_store_named_by_a_locked_file_is_opened_all_the_same(path: Path) -> None:
    history(path, 1)
    with locked(path):
        store = open_store(path)
    assert store.outcomes() == [outcome(0)]


ENDING = """
import sys
from routed_ollama.store import SQLiteStore
from routed_ollama.types import Outcome, OutcomeKind
store = SQLiteStore(sys.argv[1])
store.record(Outcome("a:8b", "http://one", OutcomeKind.OK, at=2e9))
"""


def test_a_process_that_ends_while_the_file_is_locked_says_what_it_could_not_write(path: Path) -> None:
    history(path, 1)
    with locked(path):
        done = subprocess.run(  # noqa: S603 (ourselves)
            [sys.executable, "-c", ENDING, str(path)], capture_output=True, text=True, timeout=60, check=True
        )
    assert "lacks 1 outcome, which could not be written (database is locked)" in done.stderr
    assert "Traceback" not in done.stderr
