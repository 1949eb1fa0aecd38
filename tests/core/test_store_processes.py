"""Many processes with one history: nothing is lost but what was in flight when one was killed, and nothing breaks.

The processes are real ones: this file's ``WORKER``, which does what its first argument says.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from routed_ollama import Message, Router, owns_locks
from routed_ollama.store import SQLiteStore
from routed_ollama.testing import OllamaServer, ScriptedModel
from routed_ollama.types import Outcome, OutcomeKind

WAIT = 60.0
IN_FLIGHT = 2.0
"""Seconds of work that a killed process may lose here. What is promised is one; this machine may be busy."""

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

WORKER = '''
import atexit, multiprocessing, os, sys, threading, time, warnings
from routed_ollama import FailureKind, Message, Router
from routed_ollama.store import SQLiteStore
from routed_ollama.types import Candidate, Outcome, OutcomeKind

def outcome(name, number=0, at=None, **values):
    return Outcome(name, "h", OutcomeKind.OK, at=at or 2e9 + number, request_id=f"{name}-{number}", **values)

def say(*words):
    print(*words, flush=True)

def ready():
    """Wait until everybody is."""
    say("ready")
    sys.stdin.readline()

def one_more(kept):
    return {"count": (kept or {}).get("count", 0) + 1}

def write(path, name, count):
    """Outcomes, feedback before and after them, and a count that all processes share."""
    store = SQLiteStore(path)
    ready()
    for number in range(int(count)):
        if number % 20 == 0:
            store.record_feedback(f"{name}-{number}", 5.0)
        store.record(outcome(name, number))
        if number % 20 == 10:
            store.record_feedback(f"{name}-{number}", 5.0)
        if number % 50 == 0:
            store.update_state("counter", one_more)
    assert store.persistent

def go_on(path, name):
    """Record one outcome after the other, and say of some which, until somebody puts an end to it."""
    store = SQLiteStore(path)
    ready()
    number = 0
    while True:
        store.record(outcome(name, number, at=time.time()))
        if number % 20 == 0:  # the pipe holds what is said until it is read
            say(number, time.time())
        number += 1
        time.sleep(0.002)

def mend(folder, name):
    """Come upon damaged files, at the same time as others."""
    for path in sorted(os.listdir(folder)):
        store = SQLiteStore(os.path.join(folder, path, "history.sqlite3"))
        ready()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for number in range(5):
                store.record(outcome(name, number))
                assert store.flush()
        say(store.persistent, *(type(each.message).__name__ for each in caught))

def end(path, how):
    """Record, and end in one way or another, without closing anything."""
    store = SQLiteStore(path)
    if how == "atexit":
        atexit.register(lambda: store.record(outcome("x", 2)))
    store.record(outcome("x", 1))
    if how == "thread":
        thread = threading.Thread(target=lambda: (store.record(outcome("x", 2)), sys.exit(3)))
        thread.start()
        thread.join()
    if how == "exit":
        sys.exit(0)
    if how in multiprocessing.get_all_start_methods():
        work = multiprocessing.get_context(how).Process(target=store.record, args=(outcome("x", 2),))
        work.start()
        work.join()

def preload(path, count):
    """As a server does that is made ready once and then forks its workers; they serve, and so does it."""
    store = SQLiteStore(path)
    store.record(outcome("parent", 0))
    children = []
    for worker in range(int(count)):
        store.record(outcome("parent", worker + 1))
        child = os.fork()
        if child == 0:
            for number in range(200):
                store.record(outcome(f"child{worker}", number))
                if number % 50 == 0:
                    assert store.outcomes(limit=1), "it reads as well"
            sys.exit(0)
        children.append(child)
    say([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])

def fork_in_a_wait(path):
    """Fork while the writer waits for a lock that somebody else has."""
    store = SQLiteStore(path)
    store.record(outcome("parent", 0))
    ready()  # it is locked now
    while store.flush(0.1):
        store.record(outcome("parent", 1))
    child = os.fork()
    store.record(outcome("child" if child == 0 else "parent", 9))
    say("forked")
    while not store.flush():
        pass
    assert store.persistent
    if child:
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

def fork_in_a_write(path):
    """Fork while another thread has the file open, and does not come to an end."""
    from routed_ollama import _fork
    _fork._PAUSE = 0.05
    store = SQLiteStore(path)
    store.record(outcome("parent", 0))
    store.flush()
    inside, go = threading.Event(), threading.Event()
    def stay(connection):
        inside.set()
        go.wait()
    thread = threading.Thread(target=store._file._once, args=(stay,))
    thread.start()
    inside.wait()
    child = os.fork()
    if child == 0:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for each in (store, SQLiteStore(path)):  # a new object is in the same process
                each.record(outcome("child", 0))
                assert [one.model for one in each.outcomes()] == ["child"]
                assert not each.persistent
        os._exit(0 if len(caught) == 1 else 1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    go.set()
    thread.join()
    say(status, store.persistent, [each.model for each in store.outcomes()])

def masked(parent, *masks):
    """Make histories under some umasks, and show how they can be read while they are open."""
    for mask in masks:
        folder = os.path.join(parent, mask, "made", "anew")
        os.umask(int(mask, 8))
        def look(connection):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO state VALUES ('a', '{}', 0)")
            say(*sorted({oct(os.stat(os.path.join(folder, name)).st_mode & 0o777) for name in os.listdir(folder)}),
                len(os.listdir(folder)), oct(os.stat(folder).st_mode & 0o777))
        SQLiteStore(os.path.join(folder, "history.sqlite3"))._file._once(look)

def limited(path):
    """A disk that is full, and has space again."""
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    store = SQLiteStore(path)
    store._file._retry = 0.0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number in range(3_000):
            store.record(outcome("m" * 100, number))
            if number % 200 == 0:
                store.flush()
        store.flush()
    say(len(caught), store.persistent, len(store.outcomes()) < 3_000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.record(outcome("m", 3_000))
    store.flush()
    say(store.persistent, len(store.outcomes()))

def router_of(url, path):
    config = {"health": {"interval": 0, "recovery_timeout": 2.0}}
    return Router(["a:1b", "b:1b"], base_url=url, store=path, config=config)

def routed(url, path, how):
    """A router that is used, and then also by another process, begun while its threads are in the middle of things."""
    router = Router(base_url=url, store=path)
    router.recommend_model("hi")
    known = router._known
    parts = known.history, known.catalog, known.contexts, known.circuits, known.views.in_flight
    held = [part._lock for part in (*parts, *known.catalog.hosts.values())] + [known._warming]
    busy, go = threading.Event(), threading.Event()
    def work():
        for lock in held:
            lock.acquire()
        busy.set()
        go.wait()
        for lock in held:
            lock.release()
    threading.Thread(target=work).start()
    busy.wait()
    other = multiprocessing.get_context(how).Process(target=serve, args=(router, "a:1b"))
    other.start()
    other.join(30)
    say(other.exitcode)
    go.set()
    serve(router, "b:1b")

def serve(router, model):
    """Decide, refresh and learn. What became of the other model may be known here already, or not yet."""
    assert model in [score.candidate.model for score in router.recommend_model("hi").scores]
    assert router.health_check_all_models()[model] == "healthy"
    router.record_performance(model, response_time=1.0)
    router.record(Outcome(model, router.host, OutcomeKind.FAILED, failure=FailureKind.OUT_OF_MEMORY.value))
    assert router.health_check_all_models()[model] == "unhealthy"

def blame(url, path):
    """Find a model out of order, and end at once."""
    router = router_of(url, path)
    router.recommend_model("hi")
    router.record(Outcome("a:1b", url, OutcomeKind.FAILED, failure=FailureKind.OUT_OF_MEMORY.value))
    say("blamed")

def follow(url, path):
    """Say what is thought of a model, whenever that changes; and ask whether it may be tried."""
    router = router_of(url, path)
    router.recommend_model("hi")
    said = None
    ready()
    while said != "tried":
        state = router._known.circuits.state(Candidate("a:1b", url)).value
        if state == "half_open" and next(iter(router.plan([Message("user", "hi")], first=["a:1b"]))).model == "a:1b":
            state = "tried"
        if state != said:
            said = state
            say(said)
        time.sleep(0.01)
    sys.stdin.readline()
    os._exit(0)  # as one that crashes in its trial

if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
'''

Start = Callable[..., "Worker"]


class Worker(subprocess.Popen[str]):
    """A process that does one of the things above."""

    def __init__(self, script: Path, *arguments: object) -> None:
        # newer Pythons warn of any fork; and a child lets go of its parent's connections without closing them
        options = ["-W", "error", "-W", "ignore::DeprecationWarning", "-W", "ignore::ResourceWarning"]
        super().__init__(
            [sys.executable, *options, str(script), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        """What it says next."""
        assert self.stdout is not None
        return self.stdout.readline().strip()

    def go(self) -> None:
        """Have one that is ready go on."""
        assert self.stdin is not None
        self.stdin.write("\n")
        self.stdin.flush()

    def lines(self) -> list[str]:
        """All that it says until it ends, which it must, and well."""
        out, err = self.communicate(timeout=WAIT)
        assert (self.returncode, err) == (0, "")
        return out.splitlines()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    script = tmp_path / "worker.py"
    script.write_text(WORKER, encoding="utf-8")
    workers: list[Worker] = []

    def begin(*arguments: object) -> Worker:
        workers.append(Worker(script, *arguments))
        return workers[-1]

    yield begin
    for worker in workers:
        if worker.poll() is None:
            worker.kill()
        worker.communicate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.sqlite3"


def together(workers: list[Worker]) -> list[Worker]:
    """Let workers go on at the same moment, all of them ready."""
    assert [worker.line() for worker in workers] == ["ready"] * len(workers)
    for worker in workers:
        worker.go()
    return workers


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    """What a database says, which must be sound; nothing where it has not been begun yet."""
    if not path.exists():
        return []
    with closing(sqlite3.connect(path, timeout=WAIT)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        begun = connection.execute("SELECT 1 FROM sqlite_master").fetchone()
        return connection.execute(query).fetchall() if begun else []


def numbers(path: Path) -> dict[str, list[int]]:
    """Which numbers are kept of each worker, in their order."""
    kept: dict[str, list[int]] = {}
    for name, request in rows(path, "SELECT model, request_id FROM outcome ORDER BY id"):
        kept.setdefault(name, []).append(int(request.rpartition("-")[2]))
    return kept


def test_four_processes_begin_and_write_one_history_and_nothing_is_lost(path: Path, start: Start) -> None:
    workers = together([start("write", path, f"w{number}", 1_000) for number in range(4)])
    seen = [0]
    with closing(SQLiteStore(path)) as store:
        while any(worker.poll() is None for worker in workers):
            seen.append(len(store.outcomes()))
        assert [worker.lines() for worker in workers] == [[]] * 4
        assert store.persistent
        assert store.load_state("counter") == {"count": 4 * 20}
    assert seen == sorted(seen)
    assert numbers(path) == {f"w{number}": list(range(1_000)) for number in range(4)}
    assert rows(path, "SELECT count(*) FROM outcome WHERE quality = 5.0") == [(4 * 100,)]
    assert rows(path, "SELECT * FROM feedback") == []


@pytest.mark.parametrize(("ending", "turns"), [("SIGKILL", 2), ("SIGTERM", 1)])
def test_a_killed_process_loses_what_was_in_flight_and_harms_nothing(
    path: Path, start: Start, ending: str, turns: int
) -> None:
    if not hasattr(signal, ending):
        pytest.skip("this system has other signals")
    chance = random.Random(7)  # noqa: S311 (moments, no secrets)
    for turn in range(turns):
        workers = {f"{turn}{number}": start("go_on", path, f"{turn}{number}") for number in range(4)}
        together(list(workers.values()))
        for name, worker in workers.items():
            time.sleep(chance.uniform(0.05, 0.4))
            killed_at = time.time()
            worker.send_signal(getattr(signal, ending))
            out, _ = worker.communicate(timeout=WAIT)
            said = [line.split() for line in out.splitlines() if line.count(" ") == 1]
            kept = numbers(path).get(name, [])
            assert kept == list(range(len(kept))), "what comes first is written first, and whole"
            lost = [float(at) for number, at in said if int(number) >= len(kept)]
            assert all(at > killed_at - IN_FLIGHT for at in lost)
    with closing(SQLiteStore(path)) as store:
        store.record(Outcome("after", "h", OutcomeKind.OK, request_id="after-0"))
        assert store.flush()
        assert store.persistent
    assert numbers(path)["after"] == [0]


def test_four_processes_that_find_the_same_damage_set_it_aside_once(tmp_path: Path, start: Start) -> None:
    damaged = [tmp_path / "states" / f"{number}" / "history.sqlite3" for number in range(5)]
    for number, each in enumerate(damaged):
        each.parent.mkdir(parents=True)
        each.write_bytes(b"rubbish %d" % number)
    workers = [start("mend", tmp_path / "states", f"w{number}") for number in range(4)]
    for number, each in enumerate(damaged):
        together(workers)
        said = [worker.line() for worker in workers]
        assert sorted(said) == ["True", "True", "True", "True RoutedOllamaWarning"], "one of them says so"
        (aside,) = each.parent.glob("*.corrupt-*")
        assert aside.read_bytes() == b"rubbish %d" % number
        assert numbers(each) == {f"w{number}": list(range(5)) for number in range(4)}
    assert [worker.lines() for worker in workers] == [[]] * 4


def test_a_history_that_is_removed_while_processes_write_is_begun_again(path: Path, start: Start) -> None:
    chance = random.Random(8)  # noqa: S311 (moments, no secrets)
    workers = together([start("go_on", path, f"w{number}") for number in range(2)])
    for _ in range(12):
        time.sleep(chance.uniform(0.02, 0.2))
        path.unlink(missing_ok=True)
    before = {name: kept[-1] for name, kept in numbers(path).items()}
    deadline = time.monotonic() + WAIT
    while not all(numbers(path).get(name, [-1])[-1] > before.get(name, -1) for name in ("w0", "w1")):
        assert time.monotonic() < deadline, "they do not write there any more"
        assert [worker.poll() for worker in workers] == [None] * 2
        time.sleep(0.05)
    for worker in workers:
        worker.kill()
        assert worker.communicate(timeout=WAIT)[1] == ""


@pytest.mark.parametrize(
    ("how", "kept"),
    [("exit", [1]), ("thread", [1, 2]), ("atexit", [1, 2]), ("spawn", [1, 2])]
    + [pytest.param(how, [1, 2], marks=forks) for how in ("fork", "forkserver")],
)
def test_a_process_that_ends_by_itself_loses_nothing(path: Path, start: Start, how: str, kept: list[int]) -> None:
    assert start("end", path, how).lines() == []
    assert sorted(numbers(path)["x"]) == kept


@forks
def test_workers_that_are_forked_from_a_process_that_writes_do_so_themselves(path: Path, start: Start) -> None:
    assert start("preload", path, 4).lines() == ["[0, 0, 0, 0]"]
    expected = {f"child{number}": list(range(200)) for number in range(4)}
    assert numbers(path) == {"parent": list(range(5)), **expected}


@forks
def test_a_fork_while_the_writer_waits_for_a_lock_harms_neither_process(path: Path, start: Start) -> None:
    worker = start("fork_in_a_wait", path)
    assert worker.line() == "ready"
    with closing(SQLiteStore(path)) as store:
        store.outcomes()
    with closing(sqlite3.connect(path, isolation_level=None, timeout=WAIT)) as other:
        other.execute("BEGIN IMMEDIATE")
        worker.go()
        assert [worker.line(), worker.line()] == ["forked", "forked"]
        other.execute("COMMIT")
    assert worker.lines() == ["0"]
    kept = numbers(path)
    assert kept["child"] == [9]
    assert (kept["parent"][0], kept["parent"][-1]) == (0, 9)


@forks
def test_a_child_that_was_forked_in_the_middle_of_a_write_keeps_its_own_in_memory(path: Path, start: Start) -> None:
    assert start("fork_in_a_write", path).lines() == ["0 True ['parent']"]


@pytest.mark.skipif(os.name != "posix", reason="modes are a matter of POSIX")
def test_a_history_is_the_users_alone_whatever_the_umask(tmp_path: Path, start: Start) -> None:
    said = start("masked", tmp_path, "000", "077", "777").lines()
    assert said == ["0o600 3 0o700"] * 3, "with its log and index"


@pytest.mark.skipif(sys.platform == "win32", reason="no limit to set on a file's size")
def test_what_memory_kept_while_a_disk_was_full_is_written_when_it_is_not(path: Path, start: Start) -> None:
    assert start("limited", path).lines() == ["1 False True", "True 3001"]


@pytest.mark.parametrize("how", ["spawn", pytest.param("fork", marks=forks)])
def test_a_router_goes_on_in_another_process_whatever_its_threads_were_at(path: Path, start: Start, how: str) -> None:
    with OllamaServer(["a:1b", "b:1b"]) as server:
        assert start("routed", server.url, path, how).lines() == ["0"]
        assert sorted(rows(path, "SELECT model, kind FROM outcome")) == [
            ("a:1b", "failed"),
            ("a:1b", "ok"),
            ("b:1b", "failed"),
            ("b:1b", "ok"),
        ]
        with closing(SQLiteStore(path)) as store:
            circuits = store.load_state("circuits") or {}
    assert [key.partition("\n")[0] for key, each in circuits.items() if each["state"] == "open"] == ["a:1b", "b:1b"]


def test_routers_with_one_history_ask_for_the_same_context(path: Path) -> None:
    """Else each would have the model loaded anew whenever it is asked after the other."""
    models = [ScriptedModel(name, context_length=131_072) for name in ("a:1b", "b:1b")]

    def asked_for(router: Router, model: str, words: int) -> int | None:
        plan = router.plan([Message("user", "word " * words)], scope=[model])
        return next(iter(plan)).allowance.num_ctx

    with (
        OllamaServer(models) as server,
        Router(base_url=server.url, store=path) as one,
        Router(base_url=server.url, store=path) as other,
    ):
        assert asked_for(other, "a:1b", 1) is None
        grown = {"a:1b": asked_for(one, "a:1b", 6_000), "b:1b": asked_for(other, "b:1b", 20_000)}
        assert None not in grown.values()
        for router in (one, other):
            for model, size in grown.items():
                server.wait_until(lambda: asked_for(router, model, 1) == size)  # noqa: B023 (called at once)


def test_a_circuit_that_one_process_opened_the_others_know_and_one_of_them_tries_it(path: Path, start: Start) -> None:
    with OllamaServer(["a:1b", "b:1b"]) as server:
        followers = [start("follow", server.url, path) for _ in range(3)]
        together(followers)
        assert [each.line() for each in followers] == ["closed"] * 3
        assert start("blame", server.url, path).lines() == ["blamed"]
        assert [each.line() for each in followers] == ["open"] * 3
        assert [each.line() for each in followers] == ["half_open"] * 3
        # the turn was that of a process that has ended, and left it to the others
        deadline = time.monotonic() + WAIT
        states: list[str] = []
        while "tried" not in states:
            assert time.monotonic() < deadline
            time.sleep(0.2)
            with closing(SQLiteStore(path)) as store:
                (circuit,) = (store.load_state("circuits") or {}).values()
            states = ["tried" if circuit["trying"] else "waiting"]
        time.sleep(2.0)  # longer than it takes to tell the others
        for each in followers:
            each.kill()
        said = [each.communicate()[0].split() for each in followers]
        assert sorted(said) == [[], [], ["tried"]]


@forks
def test_a_fork_while_a_thread_holds_a_lock_of_what_the_child_uses_does_not_hold_the_child_up() -> None:
    class Owner:
        def __init__(self) -> None:
            self.lock = threading.Lock()
            owns_locks(self)

    owner = Owner()
    with owner.lock:
        child = os.fork()
        if not child:
            os._exit(0 if owner.lock.acquire(timeout=5) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
