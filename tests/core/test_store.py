"""History outlives the process, survives what happens to files, and never gets in a request's way."""

from __future__ import annotations

import copy
import dataclasses
import errno
import gc
import logging
import math
import os
import pickle
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from routed_ollama.errors import ConfigurationError, RoutedOllamaWarning
from routed_ollama.store import MemoryStore, SQLiteStore, Store, _database, open_store
from routed_ollama.store._base import EARLY_FEEDBACK, Recorded, Saved
from routed_ollama.store._migrations import LOG, MIGRATIONS
from routed_ollama.store._open import default_path
from routed_ollama.store._writer import Writer
from routed_ollama.testing import FakeClock
from routed_ollama.types import Outcome, OutcomeKind, TaskType

NOW = time.time()


def outcome(number: float = 0, **values: Any) -> Outcome:
    return Outcome(
        **{
            "model": f"model-{number}",
            "host": "http://127.0.0.1:11434",
            "kind": OutcomeKind.OK,
            "response_time": 1.5,
            "at": NOW + number,
            "request_id": f"r{number}",
            **values,
        }
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.sqlite3"


@pytest.fixture(params=["memory", "sqlite"])
def store(request, path: Path) -> Iterator[Store]:
    opened = open_store("memory" if request.param == "memory" else path)
    yield opened
    opened.close()


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[SQLiteStore]:
    store = SQLiteStore(path, **options)
    try:
        yield store
    finally:
        store.close()


# What every store does


def test_outcomes_come_back_whole_and_oldest_first(store: Store) -> None:
    full = Outcome(
        model="codellama:13b",
        host="http://gpu:11434",
        kind=OutcomeKind.FAILED,
        task_type=TaskType.CODING,
        response_time=2.5,
        load_seconds=1.25,
        first_token_seconds=0.5,
        prompt_tokens=12,
        prompt_seconds=0.1,
        output_tokens=34,
        output_seconds=2.0,
        total_seconds=2.25,
        quality=7.5,
        error="ReadTimeout",
        failure="deadline",
        request_id="r",
        was_resident=False,
        at=NOW - 1,
        estimated=True,
        judged=True,
        fits=False,
    )
    assert all(getattr(full, field.name) not in (None, field.default) for field in dataclasses.fields(full))
    store.record(outcome(1, was_resident=None))
    store.record(full)
    assert store.flush()
    assert store.outcomes() == [full, outcome(1, was_resident=None)]


def test_the_newest_are_given_when_not_all_are_wanted(store: Store) -> None:
    for number in range(5):
        store.record(outcome(number))
    assert [one.model for one in store.outcomes(limit=2)] == ["model-3", "model-4"]
    assert [one.model for one in store.outcomes(since=NOW + 3)] == ["model-3", "model-4"]
    assert store.outcomes(limit=0) == []
    assert len(store.outcomes(limit=99)) == 5


def test_an_outcome_without_a_time_is_of_now(store: Store) -> None:
    before = time.time()
    store.record(outcome(at=0.0))
    (kept,) = store.outcomes()
    assert before - 1 <= kept.at <= time.time() + 1


def test_feedback_reaches_the_attempt_that_answered(store: Store) -> None:
    store.record(outcome(1, kind=OutcomeKind.FAILED, request_id="same"))
    store.record(outcome(2, request_id="same"))
    store.record(outcome(3, request_id="other"))
    store.record_feedback("same", 9)
    store.record_feedback("unheard of", 1)
    assert [one.quality for one in store.outcomes()] == [None, 9, None]


def test_feedback_may_come_before_the_outcome_it_is_about(store: Store) -> None:
    """Of a stream that goes on, or of a request of another process, which writes a little later."""
    store.record_feedback("early", 3)
    store.record_feedback("early", 4)
    store.record(outcome(1, request_id="early", kind=OutcomeKind.FAILED))
    store.record(outcome(2, request_id="early"))
    store.record(outcome(3, request_id="early"))
    assert [one.quality for one in store.outcomes()] == [None, 4, None]


def test_feedback_on_nothing_is_not_kept_for_ever(path: Path) -> None:
    clock = FakeClock(at=NOW)
    memory = MemoryStore()
    for number in range(2_000):
        memory.record_feedback(f"r{number}", 5)
    assert len(memory._early) == 1_000
    with opened(path, clock=clock.time) as store:
        store.record_feedback("r", 5)
        store.flush()
        clock.advance(EARLY_FEEDBACK + 1)
    with opened(path, clock=clock.time) as store:
        store.record(outcome(1))
        store.flush()
        store.record(outcome(2, request_id="r"))
        assert [one.quality for one in store.outcomes()] == [None, None]


def test_a_state_is_updated_from_what_is_kept(store: Store) -> None:
    def one_more(kept: dict[str, Any] | None) -> dict[str, Any]:
        return {"count": (kept or {"count": 0})["count"] + 1, "who": ("a", "b")}

    assert store.update_state("counter", one_more) == {"count": 1, "who": ["a", "b"]}
    assert store.update_state("counter", one_more) == {"count": 2, "who": ["a", "b"]}
    assert store.load_state("counter") == {"count": 2, "who": ["a", "b"]}
    assert store.load_state("other") is None
    with pytest.raises(TypeError):
        store.update_state("counter", lambda kept: {"a": object()})
    with pytest.raises(ZeroDivisionError):
        store.update_state("counter", lambda kept: {"a": 1 // 0})
    assert store.load_state("counter") == {"count": 2, "who": ["a", "b"]}


def test_threads_that_update_a_state_lose_nothing(store: Store) -> None:
    def work() -> None:
        for _ in range(25):
            store.update_state("counter", lambda kept: {"count": (kept or {"count": 0})["count"] + 1})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.load_state("counter") == {"count": 100}


def test_state_is_a_snapshot(store: Store) -> None:
    assert store.load_state("circuits") is None
    value = {"a": {"state": "open", "failures": 3}}
    store.save_state("circuits", value)
    value["a"]["failures"] = 4
    store.load_state("circuits")["a"]["failures"] = 5  # type: ignore[index]
    assert store.load_state("circuits") == {"a": {"state": "open", "failures": 3}}
    store.save_state("circuits", {})
    assert store.load_state("circuits") == {}
    with pytest.raises(TypeError):
        store.save_state("circuits", {"a": object()})


def test_old_outcomes_and_too_many_are_forgotten(path: Path) -> None:
    for store in (
        MemoryStore(max_outcomes=3, max_age=100, clock=lambda: NOW),
        SQLiteStore(path, max_outcomes=3, max_age=100, clock=lambda: NOW),
    ):
        store.record(outcome(-101))
        store.record(outcome(-99))
        assert [one.model for one in store.outcomes()] == ["model--99"]
        for number in range(1, 1200):
            store.record(outcome(number / 10_000))
        kept = store.outcomes()
        store.close()
        assert 3 <= len(kept) <= 300
        assert kept[-1] == outcome(0.1199)


def test_forgetting_is_done_on_disk(path: Path) -> None:
    with opened(path) as store:
        for number in range(10):
            store.record(outcome(number))
    with opened(path, max_outcomes=4) as store:
        store.record(outcome(10))
        assert [one.model for one in store.outcomes()] == ["model-7", "model-8", "model-9", "model-10"]


# Files


class Opened:
    """Counts how often the file is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0
        connect = _database.connect

        def counted(path: Path, busy: float) -> Any:
            self.times += 1
            return connect(path, busy)

        monkeypatch.setattr(_database, "connect", counted)


def keep(kept: dict[str, Any] | None) -> dict[str, Any]:
    return kept or {}


def test_what_is_updated_every_second_does_not_keep_the_disk_awake(path: Path, monkeypatch) -> None:
    with opened(path) as store, opened(path) as other:
        store.update_state("a", lambda kept: {"b": 1})
        os.utime(path, (NOW - 60, NOW - 60))
        store.update_state("a", keep)
        count = Opened(monkeypatch)
        for _ in range(5):
            assert store.update_state("a", keep) == {"b": 1}
        assert count.times == 0
        other.update_state("a", lambda kept: {"b": 2})
        os.utime(path, (NOW - 30, NOW - 30))
        assert store.update_state("a", keep) == {"b": 2}, "somebody has written"
        assert store.update_state("a", lambda kept: {"b": kept["b"] + 1}) == {"b": 3}
        assert store.update_state("a", keep) == {"b": 3}


def test_what_is_not_worth_keeping_makes_no_file(path: Path) -> None:
    with opened(path) as store:
        assert store.update_state("a", keep) == {}
        assert not path.parent.exists()


def test_a_file_that_others_can_read_is_made_private(path: Path) -> None:
    if os.name != "posix":
        pytest.skip("modes are a matter of POSIX")
    with opened(path) as store:
        store.record(outcome(1))
    path.chmod(0o644)
    log = path.with_name(path.name + "-wal")
    log.touch()
    log.chmod(0o644)
    with opened(path) as store:
        assert store.outcomes() == [outcome(1)]
    assert path.stat().st_mode & 0o777 == 0o600
    assert not log.exists() or log.stat().st_mode & 0o777 == 0o600


def test_nothing_is_written_to_a_file_that_was_moved_while_it_was_open(path: Path) -> None:
    with opened(path) as store:
        store.record(outcome(1))
    with closing(_database.connect(path, 1.0)) as connection:
        path.rename(path.with_name("moved"))
        with opened(path) as store:
            store.record(outcome(2))
        with pytest.raises(_database.MovedError):
            _database.write(connection, [Recorded(outcome(3))], NOW)
    with opened(path) as store:
        assert store.outcomes() == [outcome(2)]
    with opened(path.with_name("moved")) as moved:
        assert moved.outcomes() == [outcome(1)]


def test_history_outlives_the_store_and_is_private_to_the_user(path: Path) -> None:
    with opened(path) as store:
        assert not path.parent.exists(), "a store must not touch the disk before it is used"
        store.record(outcome(1))
        store.save_state("contexts", {"m": 8192})
        assert store.flush()
        assert store.persistent
        assert store.location == str(path)
    assert sorted(file.name for file in path.parent.iterdir()) == ["history.sqlite3"], "a closed store leaves one file"
    if os.name == "posix":
        assert path.parent.stat().st_mode & 0o077 == 0
    with opened(path) as store:
        assert store.outcomes() == [outcome(1)]
        assert store.load_state("contexts") == {"m": 8192}


def test_a_closed_store_can_be_used_again(path: Path) -> None:
    store = SQLiteStore(path)
    store.record(outcome(1))
    store.close()
    store.close()
    store.record(outcome(2))
    assert len(store.outcomes()) == 2
    store.close()


def test_a_collected_store_writes_what_it_was_given(path: Path) -> None:
    store = SQLiteStore(path)
    store.record(outcome(1))
    del store
    gc.collect()
    with opened(path) as store:
        assert store.outcomes() == [outcome(1)]


def test_copies_and_pickles_share_the_file(path: Path) -> None:
    with opened(path, max_outcomes=7) as store:
        store.record(outcome(1))
        store.flush()
        for twin in (copy.deepcopy(store), pickle.loads(pickle.dumps(store))):  # noqa: S301 (our own bytes)
            assert repr(twin) == repr(store) == f"SQLiteStore({str(path)!r})"
            assert twin.outcomes() == [outcome(1)]
            assert twin._options == store._options
            twin.close()


def test_a_memory_stores_copy_begins_empty() -> None:
    store = MemoryStore()
    store.record(outcome(1))
    assert repr(store) == "MemoryStore()"
    assert not store.persistent
    assert copy.deepcopy(store).outcomes() == pickle.loads(pickle.dumps(store)).outcomes() == []  # noqa: S301


def test_the_tables_hold_every_field_of_an_outcome_and_were_logged(path: Path) -> None:
    with opened(path) as store:
        store.outcomes()
    with closing(sqlite3.connect(path)) as connection:
        columns = {row[1] for row in connection.execute("PRAGMA table_info(outcome)")}
        applied = connection.execute(f"SELECT number, name FROM {LOG}").fetchall()  # noqa: S608 (a constant)
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    assert columns == {"id"} | {field.name for field in dataclasses.fields(Outcome)}
    assert applied == [(number, name) for number, (name, _) in MIGRATIONS.items()]
    assert mode == "wal"


def test_a_file_of_an_older_version_is_migrated(path: Path) -> None:
    with opened(path) as store:
        store.record(outcome(1))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"DELETE FROM {LOG} WHERE number > 1")  # noqa: S608 (a constant)
        connection.execute("DROP TABLE state")
        connection.execute("DROP TABLE feedback")
        for column in ("judged", "fits"):
            connection.execute(f"ALTER TABLE outcome DROP COLUMN {column}")
        connection.commit()
    with opened(path) as store:
        store.save_state("a", {"b": 1})
        assert store.load_state("a") == {"b": 1}
        assert store.outcomes() == [outcome(1)]


def test_a_file_that_is_removed_is_begun_again(path: Path) -> None:
    with opened(path) as store:
        store.record(outcome(1))
        store.flush()
        shutil.rmtree(path.parent)
        store.record(outcome(2))
        assert store.outcomes() == [outcome(2)]


def test_what_only_a_newer_version_knows_is_passed_over(path: Path) -> None:
    with opened(path) as store:
        store.record(outcome(1))
        store.record(outcome(2))
        store.save_state("odd", {})
        store.save_state("list", {})
        store.flush()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE outcome SET kind = 'postponed' WHERE model = 'model-1'")
            connection.execute("UPDATE state SET value = 'not json' WHERE key = 'odd'")
            connection.execute("UPDATE state SET value = '[1]' WHERE key = 'list'")
            connection.commit()
        assert store.outcomes() == [outcome(2)]
        assert store.load_state("odd") is None
        assert store.load_state("list") is None


# Trouble


@contextmanager
def one_warning(words: str) -> Iterator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    ours = [str(warning.message) for warning in caught if issubclass(warning.category, RoutedOllamaWarning)]
    assert len(ours) == 1, ours
    assert words in ours[0]


def set_aside(path: Path) -> list[Path]:
    return sorted(path.parent.glob("history.sqlite3.corrupt-*"))


def begun_anew(path: Path) -> list[Path]:
    """The files that were set aside, without their logs and indexes."""
    return [file for file in set_aside(path) if not file.name.endswith(("-wal", "-shm"))]


@pytest.mark.parametrize("rubbish", [b"no database", b"SQLite format 3\0" + b"\xff" * 5000], ids=["text", "header"])
def test_a_damaged_file_is_set_aside_and_never_deleted(path: Path, rubbish: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(rubbish)
    path.with_name(path.name + "-wal").write_bytes(b"a log")
    path.with_name(path.name + "-shm").write_bytes(b"an index")
    with one_warning(f"{path} was damaged"), opened(path) as store:
        store.record(outcome(1))
        assert store.outcomes() == [outcome(1)]
        assert store.persistent
    kept = set_aside(path)
    assert [file.read_bytes() for file in kept if not file.name.endswith(("-wal", "-shm"))] == [rubbish]
    assert {file.name[-4:] for file in kept[1:]} <= {"-wal", "-shm"}


def damage(path: Path) -> None:
    """Overwrite every page but the first, as a failing disk would."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))


@pytest.mark.parametrize(
    ("left", "sound"),
    [(0, True), (50, False), (5_000, False), (-1, False)],
    ids=["to nothing", "in the header", "in the middle", "by a byte"],
)
def test_a_file_that_was_cut_is_begun_anew_and_set_aside_if_it_held_anything(
    path: Path, left: int, sound: bool
) -> None:
    with opened(path) as store:
        for number in range(50):
            store.record(outcome(number))
    os.truncate(path, left % path.stat().st_size)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with opened(path) as store:
            store.record(outcome(1))
            assert store.flush()
            kept = store.outcomes()
            assert store.persistent
    assert kept[-1:] == [outcome(1)] or outcome(1) in kept
    assert len(caught) == len(begun_anew(path)) <= (0 if sound else 1)


@pytest.mark.parametrize("seed", [0, 1, 2, 25, 30])  # with 25 and 30, SQLite's own message cannot be read
def test_a_file_with_rubbish_in_it_anywhere_stops_nothing(path: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 (places, no secrets)
    with opened(path) as store:
        for number in range(200):
            store.record(outcome(number, error="ReadTimeout", kind=OutcomeKind.FAILED))
        store.save_state("a", {"b": 1})
    content = bytearray(path.read_bytes())
    for _ in range(10):
        place = chance.randrange(100, len(content) - 40)
        content[place : place + 40] = chance.randbytes(40)
    path.write_bytes(content)
    with warnings.catch_warnings(record=True) as caught, opened(path) as store:
        warnings.simplefilter("always")
        for one in store.outcomes():
            assert isinstance(one.at, float)
            assert one.response_time is None or isinstance(one.response_time, int | float)
        store.load_state("a")
        store.record(outcome(999))
        assert store.flush()
        assert outcome(999) in store.outcomes()
        assert store.persistent
    assert len(caught) == len(begun_anew(path)) <= 1


def test_text_that_cannot_be_read_and_figures_that_are_none_spoil_nothing_else(path: Path) -> None:
    """What a failing disk may leave in a row, and SQLite does not notice."""
    with opened(path) as store:
        for number in range(4):
            store.record(outcome(number))
        store.flush()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE outcome SET host = CAST(x'61ff62' AS TEXT) WHERE model = 'model-1'")
            connection.execute("UPDATE outcome SET response_time = 'soon' WHERE model = 'model-2'")
            connection.execute("UPDATE outcome SET prompt_tokens = x'00ff' WHERE model = 'model-3'")
            connection.commit()
        assert [one.host for one in store.outcomes()] == ["http://127.0.0.1:11434", "a\ufffdb"]


def test_damage_that_shows_only_later_is_survived_by_readers_and_writers(path: Path) -> None:
    with opened(path) as store:
        for number in range(50):
            store.record(outcome(number))
        store.close()
        damage(path)
        with one_warning("was damaged"):
            assert store.outcomes() == []
        store.record(outcome(1))
        store.close()
        damage(path)
        with one_warning("was damaged"):
            store.record(outcome(2))
            assert store.flush()
        assert store.outcomes() == [outcome(2)]
        assert len(set_aside(path)) == 2


def test_an_earlier_file_that_was_set_aside_is_not_overwritten(path: Path) -> None:
    path.parent.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(3):
            path.write_bytes(b"rubbish %d" % number)
            with opened(path) as store:
                assert store.outcomes() == []
            path.unlink()
    assert {file.read_bytes() for file in set_aside(path)} == {b"rubbish 0", b"rubbish 1", b"rubbish 2"}


def test_two_processes_that_find_the_same_damage_set_it_aside_once(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"rubbish")
    stores = [SQLiteStore(path) for _ in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, store in enumerate(stores):
            store.record(outcome(number))
        assert all(store.flush() for store in stores)
        assert len(stores[0].outcomes()) == 4
    assert len(set_aside(path)) == 1
    for store in stores:
        store.close()


def test_a_sound_file_is_never_set_aside(path: Path) -> None:
    """Another process may have mended it between the damage and the look."""
    with opened(path) as store:
        store.record(outcome(1))
    assert _database.set_aside(path) is None
    assert _database.set_aside(path.with_name("nothing")) is None
    assert path.exists()
    assert set_aside(path) == []


def test_damage_that_cannot_be_found_means_memory(path: Path, tmp_path: Path) -> None:
    (tmp_path / "rubbish").write_bytes(b"rubbish")
    with (
        opened(path) as store,
        closing(sqlite3.connect(tmp_path / "rubbish")) as rubbish,
        one_warning("not a database"),
    ):
        store._file._use(lambda connection: rubbish.execute("SELECT 1 FROM t"), lambda memory: None)
    assert path.exists()
    assert set_aside(path) == []


def test_a_file_of_a_newer_version_is_left_alone(path: Path) -> None:
    with opened(path) as store:
        store.record(outcome(1))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"INSERT INTO {LOG} VALUES (999, 'from the future', 0)")  # noqa: S608 (a constant)
        connection.commit()
    before = path.read_bytes()
    with one_warning("was written by a newer version of routed-ollama (its migration 999 is unknown)"):
        with opened(path) as store:
            store.record(outcome(2))
            assert store.outcomes() == [outcome(2)]
            assert not store.persistent
            assert store.location == "memory"
        with opened(path) as store:  # said once for each file
            assert store.outcomes() == []
    assert path.read_bytes() == before


def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE outcome (mine TEXT)")
    before = path.read_bytes()
    with one_warning("is a database of another program"), opened(path) as store:
        store.record(outcome(1))
        store.record_feedback("r1", 8)
        store.save_state("a", {"b": 1})
        assert [one.quality for one in store.outcomes()] == [8]
        assert store.load_state("a") == {"b": 1}
    assert path.read_bytes() == before


def test_a_folder_in_the_files_place_means_memory(path: Path) -> None:
    path.mkdir(parents=True)
    with one_warning("(is a folder)"), opened(path) as store:
        store.record(outcome(1))
        assert store.outcomes() == [outcome(1)]


def test_a_place_that_cannot_be_written_means_memory(path: Path) -> None:
    path.parent.write_text("a file where the folder should be")
    with one_warning(str(path)), opened(path) as store:
        store.record(outcome(1))
        assert store.flush()
        assert store.outcomes() == [outcome(1)]
        assert not store.persistent


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_a_read_only_file_means_memory(path: Path) -> None:
    with opened(path) as store:
        store.record(outcome(1))
    path.chmod(0o400)
    path.parent.chmod(0o500)
    with one_warning("readonly"), opened(path) as store:
        store.record(outcome(2))
        assert store.outcomes() == [outcome(2)]
    path.parent.chmod(0o700)


def test_a_read_only_home_means_memory(path: Path, monkeypatch) -> None:
    def refuse(self: Path, **options: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with one_warning("Read-only file system"), opened(path) as store:
        store.record(outcome(1))
        assert store.outcomes() == [outcome(1)]
        assert repr(store) == "SQLiteStore('memory')"


def test_a_damaged_file_that_cannot_be_renamed_means_memory(path: Path, monkeypatch) -> None:
    path.parent.mkdir()
    path.write_bytes(b"rubbish")

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with one_warning("is damaged and cannot be renamed"), opened(path) as store:
        store.record(outcome(1))
        assert store.outcomes() == [outcome(1)]
    assert path.read_bytes() == b"rubbish"


FULL_DISK = """
import resource, sys, warnings
from routed_ollama.store import SQLiteStore
from routed_ollama.types import Outcome, OutcomeKind
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
store = SQLiteStore(sys.argv[1])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for number in range(5_000):
        store.record(Outcome("m" * 100, "h", OutcomeKind.OK, at=2e9 + number))
        if number % 100 == 0:
            store.flush()
    store.flush()
print(store.persistent, len(caught), [w.category.__name__ for w in caught], store.outcomes()[-1].at - 2e9)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit to set on a file's size")
def test_a_full_disk_means_memory(path: Path) -> None:
    done = subprocess.run(  # noqa: S603 (ourselves)
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "False 1 ['RoutedOllamaWarning'] 4999.0\n", done.stderr


def test_a_lock_is_waited_for(path: Path) -> None:
    with opened(path) as store:
        store.record(outcome(1))
        store.flush()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            store.record(outcome(2))
            assert store.flush(0.3) is False
            other.execute("COMMIT")
        assert store.flush()
        assert store.outcomes() == [outcome(1), outcome(2)]
        assert store.persistent


def test_a_lock_that_is_never_given_up_means_memory(path: Path) -> None:
    with opened(path, patience=0.2) as store:
        store.record(outcome(1))
        store.flush()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with one_warning("database is locked"):
                store.record(outcome(2))
                assert store.flush()
            assert store.outcomes() == [outcome(2)]
    with opened(path) as store:  # the one that was closed has tried a last time
        assert store.outcomes() == [outcome(1), outcome(2)]


def test_what_memory_kept_is_written_when_the_file_can_be_used_again(path: Path) -> None:
    with opened(path, patience=0.2) as store:
        store.record(outcome(1))
        store.flush()
        store._file._retry = 0.0
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with one_warning("until that is possible again"):
                store.record(outcome(2))
                store.record_feedback("r1", 7)
                store.record_feedback("r2", 8)
                assert store.flush()
            store.record(outcome(3))
            assert store.update_state("a", lambda kept: {"b": 1}) == {"b": 1}
            assert [one.model for one in store.outcomes()] == ["model-2", "model-3"]
            assert not store.persistent
        store.record(outcome(4))
        assert [(one.model, one.quality) for one in store.outcomes()] == [
            ("model-1", 7),
            ("model-2", 8),
            ("model-3", None),
            ("model-4", None),
        ]
        assert store.persistent
        assert store.location == str(path)


def test_a_place_that_was_given_up_is_not_tried_at_each_write(path: Path, monkeypatch) -> None:
    path.mkdir(parents=True)
    with one_warning("History cannot be kept"), opened(path) as store:
        store.record(outcome(1))
        store.flush()
        count = Opened(monkeypatch)
        store.record(outcome(2))
        assert store.outcomes() == [outcome(1), outcome(2)]
        assert count.times == 0


def test_a_reader_sees_what_is_there_while_another_process_writes(path: Path) -> None:
    with opened(path) as store:
        store.record(outcome(1))
        store.flush()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("DELETE FROM outcome")
            assert store.outcomes() == [outcome(1)]


def test_what_cannot_be_written_does_not_take_the_rest_with_it(path: Path, caplog) -> None:
    with opened(path) as store:
        store.record(outcome(1))
        store.record(outcome(2, model=None))
        store.record(outcome(3, prompt_tokens=2**70))
        store.record("no outcome at all")  # type: ignore[arg-type]
        store.record(outcome(4, error=object()))
        store.record(outcome(5, model="\udcff"))
        store.record(outcome(6, quality=math.nan))
        store.record(outcome(7))
        with caplog.at_level(logging.WARNING, "routed_ollama"):
            assert [one.model for one in store.outcomes()] == ["model-1", "model-6", "model-7"]
        assert caplog.text.count("could not be kept") == 5
        assert store.persistent


@pytest.mark.filterwarnings("error")
def test_where_warnings_are_errors_trouble_is_logged(path: Path, caplog) -> None:
    path.mkdir(parents=True)
    with opened(path) as store, caplog.at_level(logging.WARNING, "routed_ollama"):
        store.record(outcome(1))
        assert store.outcomes() == [outcome(1)]
    assert "keeps it in memory" in caplog.text


# The writer


def test_recording_waits_for_nothing(path: Path) -> None:
    with opened(path) as store:
        store.outcomes()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            begun = time.perf_counter()
            for number in range(1000):
                store.record(outcome(number))
            assert time.perf_counter() - begun < 2.0, "SQLite itself would wait for the lock"
        assert store.flush()
        assert len(store.outcomes()) == 1000


class Sink:
    """Takes batches, and waits where it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Event()

    def __call__(self, changes: Any) -> None:
        self.entered.set()
        self.go.wait(10)
        self.batches.append([change.key for change in changes])


def keys(*names: object) -> list[Saved]:
    return [Saved(str(name), "{}") for name in names]


def test_changes_are_written_together() -> None:
    sink = Sink()
    writer = Writer(sink, linger=60)
    for change in keys(*range(100)):
        writer.put(change)
    assert writer.flush(10)
    writer.close(10)
    assert sink.batches == [[str(number) for number in range(100)]]


def test_what_waits_too_long_is_given_up_oldest_first() -> None:
    sink = Sink()
    sink.go.clear()
    writer = Writer(sink, linger=0, capacity=3)
    writer.put(*keys("first"))
    assert sink.entered.wait(10)
    for change in keys(*range(5)):
        writer.put(change)
    assert writer.flush(0.05) is False
    sink.go.set()
    assert writer.flush(10)
    writer.close(10)
    assert sink.batches == [["first"], ["2", "3", "4"]]


def test_the_thread_ends_when_there_is_nothing_to_do_and_starts_again() -> None:
    sink = Sink()
    writer = Writer(sink, linger=0, idle=0.01)
    for name in ("a", "b"):
        writer.put(*keys(name))
        thread = writer._thread
        assert thread is not None
        assert thread.daemon
        thread.join(10)
        assert not thread.is_alive()
    assert sink.batches == [["a"], ["b"]]
    assert writer.flush(0)


def test_an_error_in_writing_does_not_end_the_thread(caplog) -> None:
    calls: list[int] = []

    def write(changes: Any) -> None:
        calls.append(len(changes))
        if len(calls) == 1:
            raise RuntimeError("unforeseen")

    writer = Writer(write, linger=0)
    for name in ("a", "b"):
        writer.put(*keys(name))
        assert writer.flush(10)
    writer.close(10)
    assert calls == [1, 1]
    assert "unforeseen" in caplog.text


def test_a_thread_that_cannot_be_started_costs_nothing_but_what_it_would_have_written(monkeypatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    sink = Sink()
    writer = Writer(sink, linger=0)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        writer.put(*keys("a"))
        assert writer.flush(10) is False
        writer.close(10)
    assert writer.flush(10)
    writer.close(10)
    assert sink.batches == [["a"]]


def test_what_is_left_when_no_thread_can_be_started_any_more_is_written_by_the_one_who_closes(monkeypatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    sink = Sink()
    writer = Writer(sink, linger=0)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    writer.put(*keys("a"))
    writer.close(10)
    assert sink.batches == [["a"]]


def test_a_writer_does_not_wait_for_itself() -> None:
    """A finalizer may run in any thread, the writer's own included."""
    results: list[bool] = []

    def write(changes: Any) -> None:
        writer.put(*keys("more")) if not results else None
        results.append(writer.flush(10))
        writer.close(10)

    writer = Writer(write, linger=0)
    writer.put(*keys("a"))
    assert writer.flush(10)
    writer.close(10)
    assert results[0] is False


# Processes


WRITING = """
import sys
from routed_ollama.store import open_store
from routed_ollama.types import Outcome, OutcomeKind
store = open_store(sys.argv[1])
for number in range(int(sys.argv[2])):
    store.record(Outcome("m", "h", OutcomeKind.OK, at=2e9 + number))
    if number % 10 == 0:
        store.flush()
"""


def test_several_processes_write_while_another_reads(path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", WRITING, str(path), "100"]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]  # noqa: S603 (ourselves)
    with opened(path) as store:
        seen = [0]
        while any(process.poll() is None for process in processes):
            seen.append(len(store.outcomes()))
        assert seen == sorted(seen)
        assert [process.communicate()[1] for process in processes] == [""] * 3
        assert len(store.outcomes()) == 300, "what was recorded last is written when the process ends"


FORKING = """
import os, sys
from routed_ollama.store import MemoryStore, open_store
from routed_ollama.types import Outcome, OutcomeKind
store, memory = open_store(sys.argv[1]), MemoryStore()
def record(name):
    for each in (store, memory):
        each.record(Outcome(name, "h", OutcomeKind.OK, at=2e9))
record("before")
child = os.fork()
if child == 0:
    record("child")
    names = [outcome.model for outcome in memory.outcomes()]
    assert names == ["before", "child"], names
    assert "child" in [outcome.model for outcome in store.outcomes()]
    sys.exit(0)
record("parent")
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), sorted(outcome.model for outcome in store.outcomes()))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_parent_and_child_of_a_fork_both_keep_their_own(path: Path) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 (ourselves)
    assert (done.stdout, done.stderr) == ("0 ['before', 'child', 'parent']\n", "")


def test_opening_a_store_loads_no_database_library(path: Path) -> None:
    code = "import sys, routed_ollama.store as s; s.open_store(sys.argv[1]); print(*sys.modules)"
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)  # noqa: S603 (ourselves)
    assert "routed_ollama.store._sqlite" in done.stdout.split()
    assert "routed_ollama.store._database" not in done.stdout.split(), "it imports sqlite3"


# What a person writes


def test_the_default_is_a_file_in_the_users_state_folder(tmp_path: Path, monkeypatch) -> None:
    if sys.platform not in {"win32", "darwin"}:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        assert default_path() == tmp_path / "routed-ollama" / "history.sqlite3"
    store = open_store()
    assert store.persistent
    assert store.location == str(default_path())


@pytest.mark.parametrize(
    "spec",
    ["memory", " memory ", "Memory", "MEMORY", ":Memory:", "Memory://", ":memory:", "sqlite:///:memory:", "sqlite://"],
)
def test_memory_by_name(spec: str) -> None:
    assert isinstance(open_store(spec), MemoryStore)


def test_files_by_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    expected = str(tmp_path / "h.db")
    for spec in (
        tmp_path / "h.db",
        expected,
        "h.db",
        "sqlite:///h.db",
        f"sqlite:///{expected}",
        "SQLite:///h.db",
        "~/h.db",
        Path("~/h.db"),
    ):
        assert open_store(spec).location == expected, spec


def test_a_store_of_ones_own_is_used_as_it_is() -> None:
    class Own(MemoryStore):
        pass

    own = Own()
    assert open_store(own) is own


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("redis://:secret@host/0", r"'redis://\.\.\.' needs the extra routed-ollama\[redis\]"),
        ("rediss://:secret@host/0", r"routed-ollama\[redis\]"),
        ("sqlite://secret", "needs three slashes"),
        ("sqlit:///secret", "did you mean 'sqlite://'"),
        ("mongodb://secret", "'mongodb://...' is of no known kind; give 'memory'"),
        ("  ", "is empty"),
        ("~nobody-of-this-name/secret", "cannot be found"),
        (object(), "an object of type object is no store: it lacks record, record_feedback"),
        (3, "an object of type int is no store"),
    ],
)
def test_what_names_no_store_is_an_error_without_its_secrets(spec: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as raised:
        open_store(spec)
    if "://" in str(spec):
        assert "secret" not in str(raised.value)


def is_a_store(store: Store) -> Store:
    """Only type-checked: both stores have the protocol's members."""
    return store


def test_both_stores_are_stores(path: Path) -> None:
    assert is_a_store(MemoryStore())
    assert is_a_store(SQLiteStore(path))
