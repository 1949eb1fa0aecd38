"""Circuits against a simple model of them, health in words, and the monitor's life."""

from __future__ import annotations

import gc
import json
import os
import threading
import weakref
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from routed_ollama import Candidate, CircuitState, HealthMonitor
from routed_ollama.health import Circuit, CircuitBoard, CircuitSettings, health_words
from routed_ollama.testing import FakeClock

A = Candidate("a:latest", "http://one")
B = Candidate("b:latest", "http://one")
C = Candidate("a:latest", "http://two")
ONE, TWO = Candidate("", "http://one"), Candidate("", "http://two")
SETTINGS = CircuitSettings(failure_threshold=3, recovery_timeout=30.0, max_recovery_timeout=100.0)
LEASE = 120.0
CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


class Expected:
    """A circuit as a person would describe it."""

    def __init__(self) -> None:
        self.failures = self.openings = 0
        self.opened_until: float | None = None
        self.leased_until = 0.0

    def state(self, now: float) -> CircuitState:
        if self.opened_until is None:
            return CLOSED
        return OPEN if now < self.opened_until else HALF_OPEN

    def lets_pass(self, now: float) -> bool:
        state = self.state(now)
        return state is CLOSED or (state is HALF_OPEN and now >= self.leased_until)

    def fail(self, now: float, threshold: int, first_pause: float, longest: float) -> None:
        state = self.state(now)
        self.failures += 1
        self.leased_until = 0.0
        if state is HALF_OPEN or (state is CLOSED and self.failures >= threshold):
            self.opened_until = now + min(first_pause * 2**self.openings, longest)
            self.openings += 1


class Circuits(RuleBasedStateMachine):
    """Anything may happen to the circuits of three models on two hosts, in any order and at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock(at=0.0)
        self.changes: list[tuple[Candidate, CircuitState]] = []
        self.board = CircuitBoard(SETTINGS, self.clock.time, lambda *change: self.changes.append(change))
        self.expected = {key: Expected() for key in (A, B, C, ONE, TWO)}

    @staticmethod
    def circuits_of(candidate: Candidate) -> tuple[Candidate, Candidate]:
        return candidate, Candidate("", candidate.host)

    @rule(candidate=st.sampled_from([A, B, C]), at_once=st.booleans())
    def a_model_fails(self, candidate: Candidate, at_once: bool) -> None:
        self.board.failure(candidate, at_once=at_once)
        self.expected[candidate].fail(self.clock.time(), 1 if at_once else 3, 30.0, 100.0)

    @rule(host=st.sampled_from([ONE, TWO]))
    def a_host_fails(self, host: Candidate) -> None:
        self.board.failure(host)
        self.expected[host].fail(self.clock.time(), 1, 5.0, 60.0)

    @rule(candidate=st.sampled_from([A, B, C, ONE, TWO]))
    def a_request_goes_well(self, candidate: Candidate) -> None:
        self.board.success(candidate)
        for key in self.circuits_of(candidate):
            self.expected[key] = Expected()

    @rule(candidate=st.sampled_from([A, B, C]))
    def leave_is_asked_for(self, candidate: Candidate) -> None:
        now = self.clock.time()
        passes = all(self.expected[key].lets_pass(now) for key in self.circuits_of(candidate))
        assert self.board.allows(candidate) is passes
        assert self.board.acquire(candidate) is passes
        for key in self.circuits_of(candidate) if passes else ():
            if self.expected[key].state(now) is HALF_OPEN:
                self.expected[key].leased_until = now + LEASE

    @rule(candidate=st.sampled_from([A, B, C]))
    def leave_is_given_back(self, candidate: Candidate) -> None:
        self.board.release(candidate)
        for key in self.circuits_of(candidate):
            self.expected[key].leased_until = 0.0

    @rule(seconds=st.sampled_from([0.5, 5.0, 30.0, 60.0, LEASE]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @precondition(lambda self: not any(each.leased_until for each in self.expected.values()))
    @rule()
    def another_process_takes_over(self) -> None:
        stored = json.loads(json.dumps(self.board.export()))
        self.board = CircuitBoard(SETTINGS, self.clock.time, lambda *change: self.changes.append(change))
        self.board.load(stored, ["http://one", "http://two"])
        for expected in self.expected.values():
            if expected.opened_until is None:  # failures that opened nothing are not worth keeping
                expected.failures = 0

    @invariant()
    def states_are_as_described(self) -> None:
        now = self.clock.time()
        worst = [OPEN, HALF_OPEN, CLOSED]
        for key, expected in self.expected.items():
            assert self.board.get(key).state is expected.state(now), key
        for candidate in (A, B, C):
            states = [self.expected[key].state(now) for key in self.circuits_of(candidate)]
            assert self.board.state(candidate) is min(states, key=worst.index)

    @invariant()
    def each_change_told_is_a_change(self) -> None:
        last: dict[Candidate, CircuitState] = {}
        for key, state in self.changes:
            assert state is OPEN or (state is CLOSED and last[key] is OPEN)
            last[key] = state


Circuits.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_circuits_do_what_a_person_expects_of_them = Circuits.TestCase


def board(clock: FakeClock, **options: Any) -> CircuitBoard:
    return CircuitBoard(SETTINGS, clock.time, **options)


def test_a_model_rests_longer_each_time_it_fails_its_trial_but_not_for_ever() -> None:
    clock = FakeClock(at=0.0)
    circuits = board(clock)
    pauses = []
    circuits.failure(A, at_once=True)
    for _ in range(4):
        assert not circuits.allows(A)
        pauses.append(circuits.get(A).retry_at - clock.time())
        clock.advance(pauses[-1])
        assert circuits.acquire(A)
        circuits.failure(A)
    assert pauses == [30.0, 60.0, 100.0, 100.0]


def test_a_trial_whose_end_is_never_told_does_not_block_the_model_for_ever() -> None:
    clock = FakeClock(at=0.0)
    circuits = board(clock)
    circuits.failure(A, at_once=True)
    clock.advance(30.0)
    assert [circuits.acquire(A), circuits.acquire(A)] == [True, False]
    clock.advance(LEASE)
    assert circuits.acquire(A)


def test_of_many_threads_one_gets_the_trial() -> None:
    clock = FakeClock(at=0.0)
    circuits = board(clock)
    circuits.failure(ONE)
    clock.advance(5.0)
    ready, got = threading.Barrier(8), []

    def ask(candidate: Candidate) -> None:
        ready.wait()
        got.append(circuits.acquire(candidate))

    threads = [threading.Thread(target=ask, args=((A, B)[number % 2],)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False] * 7 + [True]


def test_a_rest_that_is_prolonged_is_told_so_that_it_can_be_kept() -> None:
    clock = FakeClock(at=0.0)
    told: list[tuple[Candidate, CircuitState]] = []
    circuits = board(clock, on_change=lambda *change: told.append(change))
    circuits.failure(ONE)
    clock.advance(5.0)
    circuits.failure(ONE)
    circuits.success(A)
    assert told == [(ONE, OPEN), (ONE, OPEN), (ONE, CLOSED)]
    assert circuits.export() == {}
    assert circuits.all_closed


def test_a_late_failure_of_a_model_that_rests_already_does_not_prolong_its_rest() -> None:
    clock = FakeClock(at=0.0)
    circuits = board(clock)
    circuits.failure(A, at_once=True)
    clock.advance(10.0)
    circuits.failure(A)
    assert circuits.get(A).retry_at == 30.0


def test_a_board_where_nothing_ever_failed_costs_nothing() -> None:
    circuits = board(FakeClock())
    circuits.success(A)
    circuits.release(A)
    assert circuits.acquire(A)
    assert circuits.allows(A)
    assert circuits.state(A) is CLOSED
    assert circuits.export() == {}


def test_what_cannot_be_read_of_a_stored_state_is_left_out() -> None:
    clock = FakeClock(at=0.0)
    circuits = board(clock)
    circuits.load(
        {
            "a:latest\nhttp://one": ["open", 3, 1, 50.0],
            "b:latest\nhttp://one": ["ajar", 3, 1, 50.0],
            "c\nhttp://one": ["open"],
            "d\nhttp://one": None,
            "e\nhttp://one": ["open", "many", 1, 50.0],
            "f\nhttp://elsewhere": ["open", 3, 1, 50.0],
        },
        ["http://one"],
    )
    assert circuits.state(A) is OPEN
    assert list(circuits.export()) == ["a:latest\nhttp://one"]


def test_a_stored_rest_never_lasts_longer_than_any_rest_may() -> None:
    clock = FakeClock(at=0.0)
    circuits = board(clock)
    circuits.load({"a:latest\nhttp://one": ["open", 3, 1, 1e12]}, ["http://one"])  # the clock was wrong
    clock.advance(SETTINGS.max_recovery_timeout)
    assert circuits.allows(A)


def test_a_success_closes_whatever_was_open() -> None:
    circuit = Circuit().failed(now=0.0, settings=SETTINGS, at_once=True)
    assert circuit.state is OPEN
    assert circuit.succeeded() == Circuit()


@pytest.mark.parametrize(
    ("state", "outcomes", "recent", "usual", "word"),
    [
        (CLOSED, [], None, None, "healthy"),
        (CLOSED, [True] * 9 + [False], None, None, "healthy"),
        (CLOSED, [True] * 8 + [False] * 2, None, None, "degraded"),
        (CLOSED, [False] * 20 + [True] * 20, None, None, "healthy"),
        (CLOSED, [True], 2.9, 1.0, "healthy"),
        (CLOSED, [True], 3.0, 1.0, "degraded"),
        (CLOSED, [True], 3.0, None, "healthy"),
        (HALF_OPEN, [True] * 20, None, None, "degraded"),
        (OPEN, [True] * 20, None, None, "unhealthy"),
    ],
)
def test_health_in_words(state: CircuitState, outcomes: list[bool], recent, usual, word: str) -> None:
    assert health_words(state, outcomes, recent, usual) == word


# The monitor

WAIT = 10.0


class Owner:
    """What a monitor works for: notes each look."""

    def __init__(self, interval: float) -> None:
        self.looked = threading.Semaphore(0)
        self.looks = 0
        self.monitor = HealthMonitor(self.look, interval)

    def look(self) -> None:
        self.looks += 1
        self.looked.release()

    def wait(self) -> bool:
        return self.looked.acquire(timeout=WAIT)


@pytest.fixture
def owner():
    one = Owner(interval=0)
    yield one
    one.monitor.stop()


def thread_of(monitor: HealthMonitor) -> threading.Thread:
    thread = monitor._thread
    assert thread is not None
    return thread


def test_a_monitor_begins_with_its_first_use_and_looks_in_the_background(owner: Owner) -> None:
    assert not owner.monitor.running
    owner.monitor.start()
    assert owner.monitor.running
    assert thread_of(owner.monitor).daemon
    assert thread_of(owner.monitor) is not threading.current_thread()
    owner.monitor.poke()
    assert owner.wait()


def test_starting_twice_is_starting_once(owner: Owner) -> None:
    owner.monitor.start()
    first = thread_of(owner.monitor)
    owner.monitor.start()
    assert thread_of(owner.monitor) is first


def test_two_that_start_it_at_once_start_it_once(owner: Owner, watched_lock) -> None:
    owner.monitor._lock = watched_lock
    before = set(threading.enumerate())
    watched_lock.held_until_met(owner.monitor.start)
    assert owner.monitor.running
    new = {thread for thread in threading.enumerate() if thread.name == "routed-ollama-health"} - before
    assert new == {thread_of(owner.monitor)}


def test_without_an_interval_it_looks_only_when_poked(owner: Owner) -> None:
    owner.monitor.start()
    for looks in (1, 2):
        owner.monitor.poke()
        assert owner.wait()
        assert owner.looks == looks
    assert not owner.looked.acquire(blocking=False)


def test_with_an_interval_it_looks_by_itself() -> None:
    owner = Owner(interval=0.001)
    owner.monitor.start()
    assert owner.wait()
    assert owner.wait()
    owner.monitor.stop()


def test_stopping_ends_the_thread_for_good(owner: Owner) -> None:
    owner.monitor.start()
    thread = thread_of(owner.monitor)
    owner.monitor.stop()
    thread.join(WAIT)
    assert not thread.is_alive()
    assert not owner.monitor.running
    owner.monitor.poke()
    assert not owner.monitor.running
    assert owner.looks == 0


def test_a_monitor_does_not_keep_its_owner_and_ends_with_it() -> None:
    owner = Owner(interval=0)
    owner.monitor.poke()
    assert owner.wait()
    thread, gone = thread_of(owner.monitor), weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None
    thread.join(WAIT)
    assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_in_a_forked_process_it_begins_anew(owner: Owner) -> None:
    owner.monitor.poke()
    assert owner.wait()
    child = os.fork()
    if child == 0:
        fine = not owner.monitor.running
        owner.monitor.poke()
        os._exit(0 if fine and owner.wait() else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert owner.monitor.running
