"""The plan: whom to ask next, for every way in which models can fail. Properties first, then the cases worth naming."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed_ollama import (
    MEANINGS,
    AllModelsFailedError,
    Attempt,
    AttemptPlan,
    Candidate,
    EmptyAnswerError,
    FailureKind,
    HostUnreachableError,
    InvalidAnswerError,
    ModelInfo,
    ModelScore,
    NoModelError,
    OutcomeKind,
    Recommendation,
    RefusedAnswerError,
    RepetitiveAnswerError,
    TaskCharacteristics,
    TruncatedStreamError,
)
from routed_ollama.fallback import Allowance, Choice
from routed_ollama.testing import FakeClock
from routed_ollama.transport import Timeouts


class ResponseError(Exception):
    """The shape of the official client's: a text and a status."""

    def __init__(self, error: str, status_code: int) -> None:
        super().__init__(error)
        self.error = error
        self.status_code = status_code


ERRORS: dict[FailureKind, Callable[[], BaseException]] = {
    FailureKind.CANCELLED: asyncio.CancelledError,
    FailureKind.CALLER: lambda: ResponseError("json: cannot unmarshal string", 400),
    FailureKind.MISSING: lambda: ResponseError("model 'x' not found", 404),
    FailureKind.UNSUPPORTED: lambda: ResponseError("x does not support tools", 400),
    FailureKind.CONTEXT: lambda: ResponseError("the input length exceeds the context length", 400),
    FailureKind.UNAUTHORIZED: lambda: ResponseError("unauthorized", 401),
    FailureKind.BUSY: lambda: ResponseError("server busy, please try again.  maximum pending requests exceeded", 503),
    FailureKind.OUT_OF_MEMORY: lambda: ResponseError("model requires more system memory (9 GiB) than ...", 500),
    FailureKind.LOAD: lambda: ResponseError("llama runner process has terminated: exit status 2", 500),
    FailureKind.CRASHED: lambda: ResponseError("model runner has unexpectedly stopped", 500),
    FailureKind.SERVER: lambda: ResponseError("internal error", 500),
    FailureKind.REJECTED: lambda: ResponseError("model is required", 400),
    FailureKind.UNREACHABLE: lambda: httpx.ConnectError("refused"),
    FailureKind.DISCONNECTED: lambda: httpx.ReadError("reset"),
    FailureKind.DEADLINE: lambda: httpx.ReadTimeout("silence"),
    FailureKind.TRUNCATED: lambda: TruncatedStreamError("no done"),
    FailureKind.EMPTY: lambda: EmptyAnswerError("nothing"),
    FailureKind.INVALID: lambda: InvalidAnswerError("not as asked"),
    FailureKind.REFUSED: lambda: RefusedAnswerError("no"),
    FailureKind.REPEATING: lambda: RepetitiveAnswerError("again and again", size=3),
    FailureKind.GARBLED: lambda: json.JSONDecodeError("no", "<", 0),
}
TRANSIENT = {kind for kind, meaning in MEANINGS.items() if meaning.try_again_last}
FINAL = {kind for kind, meaning in MEANINGS.items() if not meaning.go_on}


def choice(model: str, host: str = "http://one", *, size: int = 0, resident: bool | None = None) -> Choice:
    return Choice(ModelInfo(model, host=host, size=size), resident)


def plan_of(choices: Sequence[Choice], **options: Any) -> AttemptPlan:
    scores = tuple(ModelScore(one.candidate, 0.5, 0.5, 0.5, 1.0) for one in choices)
    recommendation = Recommendation("request", TaskCharacteristics(), scores, reason="because")
    return AttemptPlan(choices, recommendation, FakeClock(), **options)


@dataclass
class Walk:
    """What came of walking a plan: who was asked and how each failed (None: answered), and how it ended."""

    asked: list[tuple[Attempt, FailureKind | None]] = field(default_factory=list)
    raised: list[BaseException] = field(default_factory=list)
    answered: bool = False
    error: BaseException | None = None

    @property
    def names(self) -> list[str]:
        return [attempt.model for attempt, _ in self.asked]


Script = Callable[[Candidate, int], FailureKind | None]


def walk(plan: AttemptPlan, script: Script) -> Walk:
    found = Walk()
    try:
        for attempt in plan:
            kind = script(attempt.candidate, sum(a.candidate == attempt.candidate for a, _ in found.asked))
            found.asked.append((attempt, kind))
            with attempt:
                if kind is not None:
                    found.raised.append(ERRORS[kind]())
                    raise found.raised[-1]  # noqa: TRY301 (stands for the adapter's send)
                attempt.commit()
                found.answered = True
                return found
        found.error = plan.exhausted()
    except BaseException as error:  # noqa: BLE001 (whatever ends a walk is what is looked at)
        found.error = error
    return found


def fails(**kinds: FailureKind | None) -> Script:
    return lambda candidate, _again: kinds[candidate.model]


HOSTS = ["http://one", "http://two"]
choices_strategy = st.lists(
    st.builds(
        choice,
        st.sampled_from("abcd"),
        st.sampled_from(HOSTS),
        size=st.integers(0, 3),
        resident=st.sampled_from([True, False, None]),
    ),
    min_size=1,
    max_size=7,
    unique_by=lambda one: one.candidate,
)


@st.composite
def scenarios(draw: st.DrawFn) -> tuple[list[Choice], dict[tuple[Candidate, int], FailureKind | None], set[Candidate]]:
    """A ranking, what each candidate says the first and the second time, and whose circuits refuse."""
    choices = draw(choices_strategy)
    # Failures of their own weight: otherwise most walks end at the first answer or cancellation.
    kinds = st.one_of(
        st.sampled_from([k for k in FailureKind if k not in FINAL]), st.sampled_from([*FailureKind, None])
    )
    script = {(one.candidate, again): draw(kinds) for one in choices for again in (0, 1)}
    return choices, script, draw(st.sets(st.sampled_from([one.candidate for one in choices])))


@given(scenarios(), st.none() | st.integers(1, 5))
def test_each_candidate_is_asked_once_and_again_only_after_a_passing_failure(scenario, max_attempts) -> None:
    choices, script, refused = scenario
    plan = plan_of(choices, admit=lambda candidate: candidate not in refused, max_attempts=max_attempts)
    found = walk(plan, lambda candidate, again: script[candidate, again])
    seen: dict[Candidate, FailureKind | None] = {}
    again: list[Candidate] = []
    for attempt, kind in found.asked:
        if attempt.candidate in seen:
            assert seen[attempt.candidate] in TRANSIENT
            again.append(attempt.candidate)
        elif again:  # a first try after a second one: only where a circuit had said no before
            assert attempt.candidate in refused
        seen[attempt.candidate] = kind
    assert len(again) == len(set(again))
    assert max_attempts is None or len(found.asked) <= max_attempts
    assert [attempt.number for attempt, _ in found.asked] == list(range(1, len(found.asked) + 1))


@given(scenarios())
def test_a_walk_ends_with_the_first_answer_cancellation_or_callers_mistake(scenario) -> None:
    choices, script, refused = scenario
    plan = plan_of(choices, admit=lambda candidate: candidate not in refused)
    found = walk(plan, lambda candidate, again: script[candidate, again])
    kinds = [kind for _, kind in found.asked]
    ending = [kind is None or kind in FINAL for kind in kinds]
    assert not any(ending[:-1])
    assert found.answered == (kinds[-1] is None)
    if kinds[-1] in FINAL:
        assert found.error is found.raised[-1]
    outcomes = {None: OutcomeKind.OK, FailureKind.CANCELLED: OutcomeKind.CANCELLED}
    assert [r.outcome for r in plan.records] == [outcomes.get(kind, OutcomeKind.FAILED) for kind in kinds]
    assert [(r.model, r.host) for r in plan.records] == [attempt.candidate for attempt, _ in found.asked]


@given(scenarios())
def test_nothing_that_could_have_answered_is_left_unasked_without_a_reason(scenario) -> None:
    choices, script, refused = scenario
    found = walk(
        plan_of(choices, admit=lambda candidate: candidate not in refused),
        lambda candidate, again: script[candidate, again],
    )
    kinds = [kind for _, kind in found.asked]
    if kinds[-1] is None or kinds[-1] in FINAL:
        return
    asked = {attempt.candidate for attempt, _ in found.asked}
    unreachable = {attempt.host for attempt, kind in found.asked if kind is FailureKind.UNREACHABLE}
    full = {
        attempt.host: min(a.info.size for a, k in found.asked if k is kind and a.host == attempt.host and a.info.size)
        for attempt, kind in found.asked
        if kind is FailureKind.OUT_OF_MEMORY and attempt.info.size
    }
    for one in choices:
        too_large = one.info.host in full and one.info.size >= full[one.info.host]
        assert one.candidate in asked or one.info.host in unreachable or too_large


@given(scenarios())
def test_a_host_out_of_reach_is_left_alone_and_nothing_larger_is_tried_where_memory_ran_out(scenario) -> None:
    choices, script, refused = scenario
    found = walk(
        plan_of(choices, admit=lambda candidate: candidate not in refused),
        lambda candidate, again: script[candidate, again],
    )
    for place, (attempt, kind) in enumerate(found.asked):
        later = [a for a, _ in found.asked[place + 1 :] if a.host == attempt.host]
        if kind is FailureKind.UNREACHABLE:
            assert later == []
        if kind is FailureKind.OUT_OF_MEMORY and attempt.info.size:
            assert all(a.choice.resident or not a.info.size or a.info.size < attempt.info.size for a in later)


@given(scenarios(), st.booleans())
def test_when_all_fail_the_error_lists_every_attempt_and_its_cause_is_the_last(scenario, sole: bool) -> None:
    choices, script, _ = scenario
    choices = choices[:1] if sole else choices
    plan = plan_of(choices, sole=sole)
    found = walk(plan, lambda candidate, again: script[candidate, again])
    if found.answered or found.error is found.raised[-1]:
        assert found.answered or sole or len(found.asked) == 1 or found.asked[-1][1] in FINAL
        return
    assert not sole
    assert found.error is not None
    assert found.error.__cause__ is found.raised[-1]
    if {kind for _, kind in found.asked} == {FailureKind.UNREACHABLE}:
        assert isinstance(found.error, HostUnreachableError)
        assert all(attempt.host in str(found.error) for attempt, _ in found.asked)
        return
    assert isinstance(found.error, AllModelsFailedError)
    assert [error for _, error in found.error.errors] == found.raised
    for attempt, _ in found.asked:
        assert f"{attempt.model} @ {attempt.host}: " in str(found.error)


# The cases worth naming


def test_a_sole_candidate_fails_with_its_own_exception_and_is_told_what_to_do_when_nobody_answers() -> None:
    found = walk(plan_of([choice("a")], sole=True), fails(a=FailureKind.UNREACHABLE))
    assert found.error is found.raised[0]
    assert str(found.error) == "refused"
    assert any("ollama serve" in note and "http://one" in note for note in found.error.__notes__)


def test_one_of_several_that_nobody_could_reach_is_an_error_that_names_the_host() -> None:
    found = walk(plan_of([choice("a"), choice("b")]), fails(a=FailureKind.UNREACHABLE))
    assert found.names == ["a"]
    assert isinstance(found.error, HostUnreachableError)
    assert "http://one" in str(found.error)
    assert "OLLAMA_HOST" in str(found.error)


def test_the_only_one_that_was_asked_of_several_fails_with_its_own_exception() -> None:
    found = walk(plan_of([choice("a"), choice("b")], max_attempts=1), fails(a=FailureKind.SERVER))
    assert found.names == ["a"]
    assert found.error is found.raised[0]


def test_a_runner_that_died_is_asked_once_more_after_all_others() -> None:
    found = walk(
        plan_of([choice("a"), choice("b")]),
        lambda candidate, again: None if (candidate.model, again) == ("a", 1) else FailureKind.CRASHED,
    )
    assert found.names == ["a", "b", "a"]
    assert found.answered


def test_a_full_queue_puts_those_last_who_would_wait_in_it() -> None:
    choices = [
        choice("a"),
        choice("b", resident=False),
        choice("c"),
        choice("d", resident=True),
        choice("e", "http://two", resident=False),
    ]
    kinds = dict.fromkeys("abcde", FailureKind.SERVER)
    found = walk(plan_of(choices), fails(**{**kinds, "a": FailureKind.BUSY}))
    assert found.names == ["a", "d", "e", "b", "c"]


def test_a_second_try_comes_after_those_who_wait_in_a_full_queue() -> None:
    choices = [choice("a", "http://two"), choice("b"), choice("c", resident=False)]
    found = walk(plan_of(choices), fails(a=FailureKind.CRASHED, b=FailureKind.BUSY, c=FailureKind.SERVER))
    assert found.names == ["a", "b", "c", "a"]


def test_where_memory_ran_out_smaller_models_other_hosts_and_unknown_sizes_are_tried() -> None:
    choices = [
        choice("a", size=8),
        choice("b", size=13),
        choice("c", size=8),
        choice("d", "http://two", size=70),
        choice("e"),
        choice("f", size=3),
    ]
    kinds = dict.fromkeys("abcdef", FailureKind.OUT_OF_MEMORY)
    assert walk(plan_of(choices), fails(**kinds)).names == ["a", "d", "e", "f"]
    unknown = [choice("a"), choice("b", size=13)]
    assert walk(plan_of(unknown), fails(**kinds)).names == ["a", "b"]


def test_when_every_circuit_says_no_all_are_tried_all_the_same() -> None:
    found = walk(plan_of([choice("a"), choice("b")], admit=lambda _: False), fails(a=FailureKind.SERVER, b=None))
    assert found.names == ["a", "b"]
    assert found.answered


def test_those_whose_circuit_says_no_come_after_those_whose_says_yes() -> None:
    plan = plan_of([choice("a"), choice("b")], admit=lambda candidate: candidate.model != "a")
    assert walk(plan, fails(a=FailureKind.SERVER, b=FailureKind.SERVER)).names == ["b", "a"]


def test_one_passed_over_is_left_alone_too_when_its_host_turns_out_to_be_gone() -> None:
    plan = plan_of([choice("a"), choice("b")], admit=lambda candidate: candidate.model != "a")
    assert walk(plan, fails(b=FailureKind.UNREACHABLE)).names == ["b"]


def test_no_circuit_is_asked_for_leave_that_will_not_be_used() -> None:
    asked: list[str] = []

    def admit(candidate: Candidate) -> bool:
        asked.append(candidate.model)
        return True

    walk(plan_of([choice("a"), choice("b")], max_attempts=1, admit=admit), fails(a=FailureKind.SERVER))
    assert asked == ["a"]


def test_with_nobody_to_ask_the_error_says_why() -> None:
    plan = plan_of([])
    assert list(plan) == []
    error = plan.exhausted()
    assert isinstance(error, NoModelError)
    assert str(error) == "because"
    plan.recommendation = Recommendation("r", TaskCharacteristics(), ())
    assert "No model can serve" in str(plan.exhausted())


def test_beginning_and_end_of_each_attempt_are_told() -> None:
    told: list[tuple[str, str, FailureKind | None]] = []
    plan = plan_of(
        [choice("a"), choice("b")],
        on_start=lambda attempt: told.append(("start", attempt.model, attempt.kind)),
        on_settled=lambda attempt: told.append(("settled", attempt.model, attempt.kind)),
    )
    walk(plan, fails(a=FailureKind.LOAD, b=None))
    assert told == [
        ("start", "a", None),
        ("settled", "a", FailureKind.LOAD),
        ("start", "b", None),
        ("settled", "b", None),
    ]


def test_the_route_is_plain_json_and_tells_every_attempt_with_its_times() -> None:
    clock = FakeClock()
    bounds = Timeouts().bounds(clock=clock)
    plan = plan_of([choice("a"), choice("b", "http://two")], allow=lambda *_: Allowance(bounds, bounds.marks))
    plan.clock = clock
    attempts = iter(plan)
    with next(attempts):
        clock.advance(2.0)
        raise ResponseError("model runner has unexpectedly stopped", 500)
    second = next(attempts)
    with second:
        bounds.marks.sent_at = clock()
        clock.advance(0.5)
        bounds.marks.first_byte_at = clock()
        second.load_seconds = 0.25
        route = second.route()
    assert route == plan.route()
    assert route == {
        "request_id": "request",
        "model": "b",
        "host": "http://two",
        "task_type": "general",
        "complexity": "medium",
        "score": 0.5,
        "reason": "because",
        "decision_seconds": 0.0,
        "attempts": [
            {
                "model": "a",
                "host": "http://one",
                "outcome": "failed",
                "error": "ResponseError: model runner has unexpectedly stopped",
                "seconds": 2.0,
                "load_seconds": None,
                "first_token_seconds": None,
            },
            {
                "model": "b",
                "host": "http://two",
                "outcome": "ok",
                "error": None,
                "seconds": 0.5,
                "load_seconds": 0.25,
                "first_token_seconds": 0.5,
            },
        ],
    }
    assert second.request_id == "request"
    assert (second.model, second.host) == second.candidate


def test_a_route_without_attempts_names_no_model() -> None:
    route = plan_of([choice("a")]).route()
    assert (route["model"], route["host"], route["score"], route["attempts"]) == ("", "", None, [])


@pytest.mark.parametrize(("sent_at", "kind"), [(None, FailureKind.CALLER), (1.0, FailureKind.GARBLED)])
def test_an_unknown_error_is_judged_by_whether_the_request_had_left(sent_at, kind) -> None:
    bounds = Timeouts().bounds()
    bounds.marks.sent_at = sent_at
    plan = plan_of([choice("a")], allow=lambda *_: Allowance(bounds, bounds.marks))
    error = KeyError("message")
    assert next(iter(plan)).judge(error) is kind


def context_choice(model: str, context: int) -> Choice:
    return Choice(ModelInfo(model, host="http://one", context_length=context))


def test_after_a_context_that_was_too_short_longer_ones_come_first_and_are_given() -> None:
    choices = [
        context_choice("a", 8192),
        context_choice("b", 4096),
        context_choice("c", 131072),
        context_choice("d", 0),
    ]
    plan = plan_of(choices)
    given = []
    plan.allow = lambda _choice, least: given.append(least) or Allowance()
    kinds = {"a": FailureKind.CONTEXT, "c": FailureKind.EMPTY, "d": FailureKind.EMPTY, "b": None}
    assert walk(plan, fails(**kinds)).names == ["a", "c", "d", "b"]
    assert given[0] == 0
    assert all(context > 4096 for context in given[1:])


def test_a_model_with_too_little_context_is_asked_again_where_it_can_have_more() -> None:
    script = {0: FailureKind.CONTEXT, 1: None}
    found = walk(plan_of([context_choice("a", 8192)]), lambda _candidate, again: script[again])
    assert (found.names, found.answered) == (["a", "a"], True)
    found = walk(plan_of([context_choice("a", 4096)]), lambda _candidate, again: script[again])
    assert (found.names, found.answered) == (["a"], False)


@pytest.mark.parametrize(
    ("left", "options", "mendable"),
    [
        ("b", {}, True),
        ("", {}, False),
        ("b", {"max_attempts": 1}, False),
    ],
)
def test_a_failure_is_mendable_while_another_model_is_left(left, options, mendable) -> None:
    for attempt in plan_of([choice(name) for name in f"a{left}"], **options):
        assert (attempt.mendable, attempt.replaceable_whole) == (mendable, mendable)
        break


@pytest.mark.parametrize(
    ("options", "said", "mendable"),
    [
        ({}, "some text", True),
        ({"mid_stream": "raise"}, "some text", False),
        ({"joinable": False}, "some text", False),
        ({"joinable": False}, "", True),
    ],
)
def test_once_something_was_handed_out_only_what_can_be_joined_is_mendable(options, said, mendable) -> None:
    for attempt in plan_of([choice("a"), choice("b")], **options):
        attempt.handed_out = lambda: said
        attempt.commit()
        assert (attempt.mendable, attempt.replaceable_whole) == (mendable, False)
        attempt.replaceable = True
        assert attempt.mendable == (options.get("mid_stream") != "raise")
        break


def test_what_was_repeated_is_gone_on_from_once_and_the_seam_is_where_it_was_handed_out() -> None:
    plan, said = plan_of([choice("a"), choice("b"), choice("c")]), "Well: na na na n"
    attempts = iter(plan)
    first = next(attempts)
    with first:
        first.handed_out = lambda: said
        first.commit()
        raise RepetitiveAnswerError("again and again", size=3)
    second = next(attempts)
    assert second.continues == "Well: n"
    with second:
        second.mark_seam()
        second.handed_out = lambda: second.continues + "o more"
        raise TruncatedStreamError("no done")
    third = next(attempts)
    third.mark_seam()
    assert third.continues == "Well: no more"
    assert plan.continued_at == [len(said), len(said) + len("o more")]
