"""Circuits against a simple model of them, circuits that processes share, health in words, and the monitor's life."""

from __future__ import annotations

import gc
import json
import os
import random
import threading
import weakref
from functools import reduce
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from routed_ollama import Candidate, CircuitState, HealthMonitor
from routed_ollama.health import Circuit, CircuitBoard, CircuitSettings, health_words
from routed_ollama.testing import FakeClock

A = Candidate("a:latest", "http://one")
B = Candidate("b:latest", "http://one")
C = Candidate("a:latest", "http://two")
ONE, TWO = Candidate("", "http://one"), Candidate("", "http://two")
HOSTS = ["http://one", "http://two"]
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
        self.board.leave()
        self.changes.clear()
        stored = json.loads(json.dumps(self.board.merge(None)))
        self.board = CircuitBoard(SETTINGS, self.clock.time, lambda *change: self.changes.append(change))
        self.board.take(stored, HOSTS)
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
            assert state is OPEN or state is not last.get(key, CLOSED)
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
    assert circuits.merge(None) == {}


def opened_at(now: float, **values: Any) -> dict[str, Any]:
    """A stored circuit that a process opened at that time."""
    return {**Circuit().failed("other", now=now, settings=SETTINGS, at_once=True).plain(), **values}


@pytest.mark.parametrize(
    "entry",
    [
        None,
        ["open", 3, 1, 50.0],
        {"state": "open"},
        opened_at(0.0, state="ajar"),
        opened_at(0.0, failures="many"),
        opened_at(0.0, openings=float("inf")),
        opened_at(0.0, retry_at=float("nan")),
        opened_at(0.0, version=True),
        opened_at(0.0, holder=3),
        opened_at(0.0, trying="yes"),
    ],
    ids=str,
)
def test_what_cannot_be_read_of_a_stored_state_is_left_out(entry: Any) -> None:
    circuits = board(FakeClock(at=0.0))
    circuits.take({"a:latest\nhttp://one": entry, "b:latest\nhttp://one": opened_at(0.0, future="x")}, HOSTS)
    assert circuits.state(A) is CLOSED
    assert circuits.state(B) is OPEN
    assert list(circuits.merge({"a:latest\nhttp://one": entry})) == ["b:latest\nhttp://one"]


def test_circuits_of_servers_that_are_not_asked_are_left_to_those_who_ask_them() -> None:
    clock = FakeClock(at=0.0)
    circuits = board(clock)
    stored = {"f\nhttp://elsewhere": opened_at(0.0)}
    circuits.take(stored, HOSTS)
    assert circuits.all_closed
    assert circuits.merge(stored) == stored


def test_a_stored_rest_never_lasts_longer_than_any_rest_may() -> None:
    """The clock was wrong when it was stored; and what is stored is put right, or it would be taken over for ever."""
    clock = FakeClock(at=0.0)
    circuits = board(clock)
    stored = {"a:latest\nhttp://one": opened_at(0.0, retry_at=1e12, lease_until=1e12, trying=True, version=1e12)}
    for _ in range(50):
        circuits.take(stored, HOSTS)
        stored = circuits.merge(stored)
        clock.advance(SETTINGS.max_recovery_timeout / 10)
    assert circuits.acquire(A)


def test_what_is_long_ago_is_forgotten() -> None:
    clock = FakeClock(at=0.0)
    told: list[tuple[Candidate, CircuitState]] = []
    circuits = board(clock, on_change=lambda *change: told.append(change))
    circuits.failure(ONE)
    circuits.success(ONE)
    circuits.failure(A, at_once=True)
    stored = circuits.merge(None)
    assert len(stored) == 2
    clock.advance(90_000.0)
    assert circuits.merge(stored) == {}
    circuits.take(stored, HOSTS)
    assert circuits.all_closed
    assert told[-1] == (A, CLOSED)


def test_failures_that_opened_nothing_are_counted_on_whatever_was_exchanged() -> None:
    clock = FakeClock(at=0.0)
    circuits = board(clock)
    circuits.failure(A, at_once=True)
    circuits.success(A)
    for _ in range(3):
        clock.advance(5_000.0)
        circuits.failure(A)
        circuits.take(circuits.merge(None), HOSTS)
    assert circuits.state(A) is OPEN


def test_a_success_closes_whatever_was_open() -> None:
    circuit = Circuit().failed("me", now=0.0, settings=SETTINGS, at_once=True)
    assert circuit.state is OPEN
    assert circuit.succeeded(1.0) == Circuit(version=1.0)


# Several processes


class Processes:
    """Boards of several processes with one store between them."""

    def __init__(self, count: int = 3) -> None:
        self.clock = FakeClock(at=1e9)
        self.stored: dict[str, Any] = {}
        self.due: set[int] = set()
        self.boards = [self.begun(number) for number in range(count)]

    def begun(self, number: int) -> CircuitBoard:
        made = CircuitBoard(SETTINGS, self.clock.time, share=lambda: self.due.add(number))
        made.take(self.stored, HOSTS)
        return made

    def exchange(self, number: int) -> None:
        self.due.discard(number)
        for _ in range(2):  # a store may call it again
            merged = json.loads(json.dumps(self.boards[number].merge(self.stored)))
        self.stored = merged
        self.boards[number].take(self.stored, HOSTS)

    def settle(self) -> None:
        """Have all of them exchange until nobody has anything to tell, and everybody has heard it."""
        before: dict[str, Any] | None = None
        while self.due or before != self.stored:
            before = self.stored
            for number in range(len(self.boards)):
                self.exchange(number)


def test_what_one_process_opened_the_others_know_after_an_exchange() -> None:
    two = Processes(2)
    two.boards[0].failure(A, at_once=True)
    assert two.due == {0}
    two.settle()
    assert [each.state(A) for each in two.boards] == [OPEN, OPEN]
    two.boards[1].success(A)
    two.settle()
    assert [each.state(A) for each in two.boards] == [CLOSED, CLOSED]


def test_what_is_thought_out_of_date_closes_nothing_that_was_opened_since() -> None:
    three = Processes(3)
    three.boards[0].failure(A, at_once=True)
    three.settle()
    three.clock.advance(1.0)
    three.boards[1].success(A)  # and exchanges only after the next failure was told
    three.clock.advance(1.0)
    three.boards[2].failure(A, at_once=True)
    three.clock.advance(30.0)
    three.boards[2].failure(A)
    three.exchange(2)
    three.exchange(1)
    three.settle()
    assert [each.state(A) for each in three.boards] == [OPEN] * 3


def test_a_clock_that_goes_back_does_not_make_what_comes_later_earlier() -> None:
    two = Processes(2)
    two.boards[0].failure(A, at_once=True)
    two.boards[1] = CircuitBoard(SETTINGS, FakeClock(at=two.clock.time() - 3_600.0).time, share=lambda: None)
    two.settle()
    two.boards[1].success(A)
    two.settle()
    assert [each.state(A) for each in two.boards] == [CLOSED, CLOSED]


def test_the_process_that_opened_a_circuit_is_the_first_to_try_and_the_only_one() -> None:
    two = Processes(2)
    two.boards[0].failure(A, at_once=True)
    two.settle()
    two.clock.advance(30.0)
    assert two.boards[1].acquire(A) is False
    assert two.boards[0].acquire(A) is True
    two.settle()
    assert [each.acquire(A) for each in two.boards] == [False, False]
    two.boards[0].success(A)
    two.settle()
    assert [each.acquire(A) for each in two.boards] == [True, True]


def test_a_process_that_wants_to_try_gets_the_turn_of_one_that_does_not() -> None:
    two = Processes(2)
    two.boards[0].failure(A, at_once=True)
    two.settle()
    two.clock.advance(30.0)
    assert two.boards[1].acquire(A) is False
    two.settle()
    assert [each.acquire(A) for each in two.boards] == [False, True]


@pytest.mark.parametrize("trying", [False, True], ids=["before its try", "in its try"])
def test_the_turn_of_a_process_that_died_is_over_after_a_while(trying: bool) -> None:
    two = Processes(2)
    two.boards[0].failure(A, at_once=True)
    two.clock.advance(30.0)
    assert not trying or two.boards[0].acquire(A)
    two.exchange(0)
    two.exchange(1)
    two.clock.advance(LEASE if trying else LEASE / 2)
    assert two.boards[1].allows(A)
    assert two.boards[1].acquire(A) is False, "it must ask first"
    two.exchange(1)
    assert two.boards[1].acquire(A) is True


def test_a_process_that_ends_leaves_its_turn_to_the_others() -> None:
    two = Processes(2)
    two.boards[0].failure(A, at_once=True)
    two.boards[0].leave()
    two.exchange(0)
    two.exchange(1)
    two.clock.advance(30.0)
    two.boards[1].acquire(A)
    two.exchange(1)
    assert two.boards[1].acquire(A) is True
    assert two.boards[0].acquire(A) is True, "who left is alone"


def test_a_turn_that_is_waited_for_is_kept_until_a_request_comes() -> None:
    """Where requests are rare, the turn would otherwise be over each time one comes."""
    two = Processes(2)
    two.boards[0].failure(A, at_once=True)
    two.exchange(0)
    two.exchange(1)
    two.clock.advance(200.0)
    assert two.boards[1].acquire(A) is False
    for _ in range(100):
        two.exchange(1)
        two.clock.advance(10.0)
    two.exchange(1)
    assert two.boards[1].acquire(A) is True


def test_a_request_that_says_nothing_gives_back_no_turn_of_another_process() -> None:
    two = Processes(2)
    two.boards[0].failure(A, at_once=True)
    two.clock.advance(30.0)
    assert two.boards[0].acquire(A) is True
    two.settle()
    two.boards[1].release(A)
    two.settle()
    assert [each.acquire(A) for each in two.boards] == [False, False]
    two.boards[0].release(A)
    assert two.boards[0].acquire(A) is True


def test_late_news_of_one_process_do_not_begin_another_rest_while_another_process_tries() -> None:
    two = Processes(2)
    two.boards[0].failure(A, at_once=True)
    two.clock.advance(30.0)
    assert two.boards[0].acquire(A) is True
    two.settle()
    two.boards[1].failure(A)
    two.settle()
    two.clock.advance(60.0)
    assert [each.acquire(A) for each in two.boards] == [False, False]
    two.boards[0].failure(A)
    two.settle()
    assert [each.state(A) for each in two.boards] == [OPEN, OPEN]


def test_news_of_a_process_that_has_not_heard_of_a_try_do_not_end_it() -> None:
    two = Processes(2)
    two.boards[0].failure(A, at_once=True)
    two.settle()
    two.clock.advance(30.0)
    assert two.boards[0].acquire(A) is True
    two.boards[1].failure(A)
    two.settle()
    assert [each.state(A) for each in two.boards] == [OPEN, OPEN]
    two.clock.advance(60.0)
    assert [each.state(A) for each in two.boards] == [HALF_OPEN, HALF_OPEN]
    assert [each.acquire(A) for each in two.boards] == [False, False]
    two.boards[0].release(A)
    assert two.boards[0].acquire(A) is True


def test_a_turn_that_is_given_away_is_not_used_even_if_that_was_not_stored() -> None:
    two = Processes(2)
    two.boards[0].failure(A, at_once=True)
    two.settle()
    two.clock.advance(30.0)
    two.boards[1].acquire(A)
    two.exchange(1)
    two.boards[0].merge(two.stored)  # and the store fails
    assert two.boards[0].acquire(A) is False


def test_many_refused_requests_ask_for_one_exchange() -> None:
    asked: list[None] = []
    clock = FakeClock(at=0.0)
    circuits = CircuitBoard(SETTINGS, clock.time, share=lambda: asked.append(None))
    circuits.failure(A, at_once=True)
    clock.advance(100.0)
    del asked[:]
    assert not any(circuits.acquire(A) for _ in range(50))
    assert len(asked) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_the_turn_of_a_process_is_not_its_childs() -> None:
    circuits = CircuitBoard(SETTINGS, FakeClock(at=0.0).time, share=lambda: None)
    clock = FakeClock(at=0.0)
    circuits._clock = clock.time
    circuits.failure(A, at_once=True)
    clock.advance(30.0)
    circuits._lock.acquire()  # as another thread of the parent might
    child = os.fork()
    if child == 0:
        os._exit(int(circuits.acquire(A)))
    circuits._lock.release()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "the child took the parent's turn"
    assert circuits.acquire(A) is True


class SharedCircuits(RuleBasedStateMachine):
    """Three processes; anything may happen to each; exchanges are as late as they may be, and processes die."""

    MODELS = (A, B)

    def __init__(self) -> None:
        super().__init__()
        self.all = Processes(3)
        self.trials: dict[tuple[Candidate, int], float] = {}
        """When each trial that has not ended may be taken for dead."""

    processes = st.integers(0, 2)
    models = st.sampled_from([A, B])

    @rule(number=processes, model=models, at_once=st.booleans())
    def a_model_fails(self, number: int, model: Candidate, at_once: bool) -> None:
        self.all.boards[number].failure(model, at_once=at_once)
        self.ended(number, model)

    @rule(number=processes, model=models)
    def a_request_goes_well(self, number: int, model: Candidate) -> None:
        if self.all.boards[number].get(model).state is not CLOSED:  # it closes, so a trial is one request of many
            self.all_ended(model)
        self.all.boards[number].success(model)
        self.ended(number, model)

    @rule(number=processes, model=models)
    def a_request_wants_to_pass(self, number: int, model: Candidate) -> None:
        circuits = self.all.boards[number]
        half_open = circuits.get(model).state is HALF_OPEN
        if circuits.acquire(model) and half_open:
            now = self.all.clock.time()
            others = {who: until for (key, who), until in self.trials.items() if key == model and until > now}
            assert not others, f"{number} tries while {others} do"
            self.trials[model, number] = now + LEASE

    @rule(number=processes, model=models)
    def a_trial_says_nothing(self, number: int, model: Candidate) -> None:
        if (model, number) in self.trials:
            self.all.boards[number].release(model)
            self.ended(number, model)

    def all_ended(self, model: Candidate) -> None:
        for number in range(3):
            self.ended(number, model)

    def ended(self, number: int, model: Candidate) -> None:
        self.trials.pop((model, number), None)

    @rule(number=processes)
    def one_exchanges(self, number: int) -> None:
        self.all.exchange(number)

    @rule(number=processes)
    def one_dies(self, number: int) -> None:
        for model in self.MODELS:
            self.ended(number, model)
        self.all.boards[number] = self.all.begun(number)

    @rule(seconds=st.sampled_from([0.5, 4.0, 32.0, 64.0, 128.0]), seed=st.integers(0, 5))
    def time_passes(self, seconds: float, seed: int) -> None:
        order = random.Random(seed).sample(range(3), 3)  # noqa: S311 (an order, no secret)
        for _ in range(max(1, int(seconds / 4.0))):
            self.all.clock.advance(min(seconds, 4.0))
            for number in order:
                self.all.exchange(number)

    @rule()
    def all_agree_once_all_have_exchanged(self) -> None:
        self.all.settle()
        for model in self.MODELS:
            assert len({each.get(model).state for each in self.all.boards}) == 1

    def teardown(self) -> None:
        """Whatever happened: each model is tried again by whoever has requests for it, within bounded time."""
        for model, number in [(model, number) for model in self.MODELS for number in range(3)]:
            waited = 0
            while not self.all.boards[number].acquire(model):
                self.time_passes(4.0, 0)
                waited += 4
                assert waited <= SETTINGS.max_recovery_timeout + 3 * LEASE
            self.all.boards[number].success(model)
            self.all.settle()


SharedCircuits.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
test_shared_circuits_are_tried_by_one_process_at_a_time_and_never_lost = SharedCircuits.TestCase

EVENTS = st.lists(st.tuples(st.sampled_from(["fail", "succeed", "lease", "release", "want"]), st.floats(0.0, 200.0)))


@settings(deadline=None)
@given(st.lists(EVENTS, min_size=2, max_size=4))
def test_accounts_of_a_circuit_are_joined_alike_in_any_order(histories: list[list[tuple[str, float]]]) -> None:
    def account(who: str, events: list[tuple[str, float]]) -> Circuit:
        circuit = Circuit()
        for event, now in sorted(events, key=lambda one: one[1]):
            circuit = {
                "fail": lambda c, at: c.failed(who, now=at, settings=SETTINGS, at_once=True),
                "succeed": lambda c, at: c.succeeded(at),
                "lease": lambda c, at: c.leased(who, at) if c.lets(who, at, alone=False) else c,
                "release": lambda c, at: c.released(who, at),
                "want": lambda c, at: c.claimed(who, at, wants=True),
            }[event](circuit, now)
        return circuit

    accounts = [account(str(number), events) for number, events in enumerate(histories)]
    joined = {reduce(Circuit.newer, order) for order in permutations(accounts)}
    assert len({(one.version, one.holder, one.lease_until, one.retry_at) for one in joined}) == 1
    (first, *_) = joined
    assert all(first.newer(one) == first or first.version == one.version for one in accounts)
    assert first.version == max(one.version for one in accounts)


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
