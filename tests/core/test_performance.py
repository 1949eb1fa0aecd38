"""Predictions: what a model's past says of its next answer, and what a person reads of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed_ollama import (
    Candidate,
    ModelInfo,
    Outcome,
    OutcomeKind,
    PerformanceHistory,
    Prediction,
    TaskCharacteristics,
    TaskType,
)
from routed_ollama.performance import FADE, PRIOR_SUCCESS, prior_decode_rate, prior_load_seconds

HOST = "http://one"
MODEL = ModelInfo("a:8b", host=HOST, parameters=8.0, size=5_000_000_000)
TASK = TaskCharacteristics(prompt_tokens=500, output_tokens=200)


def ok(**values: Any) -> Outcome:
    return replace(Outcome("a:8b", HOST, OutcomeKind.OK, response_time=1.0), **values)


def failed(**values: Any) -> Outcome:
    return ok(kind=OutcomeKind.FAILED, **values)


def predict(history: PerformanceHistory, info: ModelInfo = MODEL, **options: Any) -> Prediction:
    return history.predict(info, options.pop("task", TASK), **{"resident": True, **options})


def test_a_resident_model_beats_an_equal_one_that_must_be_loaded() -> None:
    history = PerformanceHistory()
    resident, cold, unknown = (predict(history, resident=resident) for resident in (True, False, None))
    assert cold.seconds - resident.seconds == pytest.approx(cold.load)
    assert cold.load == pytest.approx(prior_load_seconds(MODEL.size))
    assert resident.load == unknown.load == 0.0


def test_the_parts_of_the_time_sum_to_the_whole() -> None:
    found = predict(PerformanceHistory(), resident=False, in_flight=2)
    assert found.seconds == pytest.approx(found.wait + found.load + found.prompt + found.output)
    assert found.wait == pytest.approx(2 * (found.prompt + found.output))


def test_larger_models_are_expected_to_be_slower_before_any_was_seen() -> None:
    history = PerformanceHistory()
    seconds = [predict(history, ModelInfo("x", parameters=size)).seconds for size in (1.0, 8.0, 70.0)]
    assert seconds == sorted(seconds)
    assert prior_load_seconds(1_000_000_000) < prior_load_seconds(0) < prior_load_seconds(40_000_000_000)


def test_few_samples_move_a_prediction_a_little_and_many_decide_it() -> None:
    history = PerformanceHistory()
    rates = []
    for _ in range(50):
        history.record(ok(output_tokens=1000, output_seconds=10.0))
        rates.append(TASK.output_tokens / predict(history, task=replace(TASK, task_type=TaskType.CODING)).output)
    prior = prior_decode_rate(8.0)
    assert prior < rates[0] < 70.0
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(100.0, rel=0.1)


def test_rates_are_all_tokens_by_all_seconds_so_that_a_short_answer_cannot_outweigh_a_long_one() -> None:
    history = PerformanceHistory()
    history.record(ok(output_tokens=1000, output_seconds=100.0))
    history.record(ok(output_tokens=1, output_seconds=0.001))
    told = history.performance()["a:8b"].tokens_per_second
    assert told == pytest.approx((1000 * FADE + 1) / (100 * FADE + 0.001))
    assert told < 11


def test_prefill_load_and_success_are_learned_too() -> None:
    history = PerformanceHistory()
    for _ in range(60):
        history.record(ok(prompt_tokens=1000, prompt_seconds=1.0, load_seconds=20.0))
    found = predict(history, resident=False)
    assert found.prompt == pytest.approx(0.5, rel=0.1)
    assert found.load == pytest.approx(20.0, rel=0.05)
    assert history.load_seconds(MODEL) == pytest.approx(found.load)
    assert found.success_rate > PRIOR_SUCCESS
    for _ in range(60):
        history.record(failed())
    assert predict(history).success_rate < 0.4


def test_the_load_duration_of_a_resident_model_is_no_load() -> None:
    history = PerformanceHistory()
    history.record(ok(load_seconds=0.2))  # as recorded of resident models
    history.record(ok(load_seconds=5.0, was_resident=True))  # it waited for something else
    assert history.load_seconds(MODEL) == pytest.approx(prior_load_seconds(MODEL.size))
    assert history.performance()["a:8b"].load_seconds == 0.0


def test_what_was_long_ago_counts_less_and_less() -> None:
    history = PerformanceHistory()
    for _ in range(100):
        history.record(failed())
    for _ in range(150):
        history.record(ok())
    assert predict(history).success_rate > 0.9
    assert history.performance()["a:8b"].success_rate > 0.94
    assert predict(history).samples <= 1 / (1 - FADE)


def test_success_and_quality_shrink_from_the_task_to_the_whole_record_to_the_prior() -> None:
    history = PerformanceHistory()
    assert predict(history, prior=0.8).quality == pytest.approx(8.0)
    for _ in range(200):
        history.record(ok(task_type=TaskType.CODING, quality=0.0, judged=True))
    coding = predict(history, prior=0.8, task=replace(TASK, task_type=TaskType.CODING)).quality
    other = predict(history, prior=0.8, task=replace(TASK, task_type=TaskType.PLANNING)).quality
    assert 0.0 < coding < other <= 8.0, "that the tasks are hard is said of this kind of task alone"


def test_the_length_of_answers_is_learned_by_task() -> None:
    history = PerformanceHistory()
    for _ in range(60):
        history.record(ok(task_type=TaskType.CODING, output_tokens=2000, output_seconds=20.0))
    coding = predict(history, task=replace(TASK, task_type=TaskType.CODING))
    other = predict(history, task=replace(TASK, task_type=TaskType.PLANNING))
    assert coding.output > 5 * other.output


def test_estimated_token_counts_teach_no_speed() -> None:
    history = PerformanceHistory()
    before = predict(history).output
    history.record(ok(output_tokens=10, output_seconds=100.0, estimated=True, task_type=TaskType.CODING))
    assert predict(history).output == pytest.approx(before)


def test_models_never_tried_are_judged_by_how_fast_their_machine_is() -> None:
    history = PerformanceHistory()
    other = ModelInfo("b:70b", host=HOST, parameters=70.0)
    elsewhere = replace(other, host="http://two")
    before = predict(history, other).output
    for _ in range(30):
        history.learn_machine(MODEL, ok(output_tokens=1000, output_seconds=1000 / (10 * prior_decode_rate(8.0))))
    history.learn_machine(MODEL, ok())
    assert predict(history, other).output == pytest.approx(before / 10, rel=0.05)
    assert predict(history, elsewhere).output == pytest.approx(before)


outcomes = st.builds(
    ok,
    kind=st.sampled_from([OutcomeKind.OK, OutcomeKind.FAILED]),
    task_type=st.sampled_from(TaskType),
    response_time=st.floats(0, 1e4),
    load_seconds=st.none() | st.floats(0, 600),
    prompt_tokens=st.none() | st.integers(0, 10**6),
    prompt_seconds=st.none() | st.floats(0, 1e4),
    output_tokens=st.none() | st.integers(0, 10**6),
    output_seconds=st.none() | st.floats(0, 1e4),
    quality=st.none() | st.floats(0, 10),
)


@given(st.lists(outcomes, max_size=20))
def test_a_cancelled_attempt_leaves_no_trace(past: list[Outcome]) -> None:
    with_it, without = PerformanceHistory(), PerformanceHistory()
    for outcome in past:
        without.record(outcome)
        with_it.record(outcome)
        with_it.record(replace(outcome, kind=OutcomeKind.CANCELLED, request_id="gone"))
    assert predict(with_it) == predict(without)
    assert with_it.performance() == without.performance()
    assert with_it.recent(MODEL.candidate) == without.recent(MODEL.candidate)
    assert not with_it.feedback("gone", 5)


@given(st.lists(outcomes, max_size=20), st.sampled_from(TaskType), st.floats(0, 1))
def test_whatever_happened_a_prediction_stays_in_bounds(past: list[Outcome], task_type: TaskType, prior: float) -> None:
    history = PerformanceHistory()
    history.replay(past)
    found = predict(history, task=replace(TASK, task_type=task_type), resident=False, prior=prior)
    assert 0.0 <= found.success_rate <= 1.0
    assert -1e-9 <= found.quality <= 10.0 + 1e-9
    assert min(found.wait, found.load, found.prompt, found.output) >= 0.0
    for told in history.performance().values():
        assert 0.0 <= told.success_rate <= 1.0 + 1e-9
        assert told.total_requests == len(past)


# What a person reads


def test_a_record_is_told_overall_by_task_and_by_host() -> None:
    history = PerformanceHistory()
    history.record(ok(task_type=TaskType.CODING, response_time=2.0, quality=8.0, at=100.0))
    history.record(ok(task_type=TaskType.PLANNING, response_time=4.0, host="http://two", at=50.0))
    history.record(failed(task_type=TaskType.CODING, at=200.0))
    history.record(ok(model="b:1b", at=10.0))
    assert set(history.performance()) == {"a:8b", "b:1b"}
    overall = history.performance()["a:8b"]
    assert overall.total_requests == 3
    assert overall.last_updated == 200.0
    assert 2.0 < overall.average_response_time < 4.0
    coding = history.performance(TaskType.CODING)
    assert set(coding) == {"a:8b"}
    assert coding["a:8b"].total_requests == 2
    assert coding["a:8b"].average_response_time == 2.0
    assert coding["a:8b"].quality_score == 8.0
    assert coding["a:8b"].success_rate == pytest.approx(FADE / (FADE + 1))
    assert history.performance(host="http://two")["a:8b"].average_response_time == 4.0
    assert history.performance(TaskType.TESTING) == {}


def test_without_a_record_nothing_is_told() -> None:
    history = PerformanceHistory()
    assert history.performance() == {}
    assert history.recent(MODEL.candidate) == ([], None, None)
    assert history.recent_success(MODEL.candidate) == 1.0


def test_a_record_of_failures_alone_has_no_times() -> None:
    history = PerformanceHistory()
    history.record(failed(response_time=99.0))
    told = history.performance()["a:8b"]
    assert (told.average_response_time, told.tokens_per_second, told.quality_score, told.success_rate) == (0, 0, 0, 0)


def test_the_recent_record_is_the_last_twenty() -> None:
    history = PerformanceHistory()
    for _ in range(20):
        history.record(failed())
    for _ in range(10):
        history.record(ok(response_time=1.0))
    assert history.recent_success(MODEL.candidate) == 0.5
    went_well, recent, usual = history.recent(MODEL.candidate)
    assert went_well == [False] * 10 + [True] * 10
    assert recent is None or recent == usual == 1.0
    for _ in range(5):
        history.record(ok(response_time=30.0))
    _, recent, usual = history.recent(MODEL.candidate)
    assert recent == 30.0
    assert usual is not None
    assert usual < 15.0


def test_a_persons_judgement_counts_for_the_model_and_the_task_that_answered() -> None:
    history = PerformanceHistory()
    history.record(ok(task_type=TaskType.CODING, request_id="r1"))
    history.record(failed(model="b:1b", request_id="r1"))
    assert history.feedback("r1", 9.0)
    assert history.performance()["a:8b"].quality_score == 9.0
    assert history.performance(TaskType.CODING)["a:8b"].quality_score == 9.0
    assert history.performance()["b:1b"].quality_score == 0.0
    assert not history.feedback("r2", 9.0)
    coding = replace(TASK, task_type=TaskType.CODING)
    before = predict(PerformanceHistory(), prior=0.5, task=coding).quality
    assert predict(history, prior=0.5, task=coding).quality > before


def test_only_so_many_answers_wait_for_a_judgement() -> None:
    history = PerformanceHistory()
    for number in range(10_001):
        history.record(ok(request_id=f"r{number}"))
    assert not history.feedback("r0", 5.0)
    assert history.feedback("r1", 5.0)
    assert history.feedback("r10000", 5.0)


def test_what_a_models_own_loads_and_tokens_take_is_known_once_they_were_seen() -> None:
    history = PerformanceHistory()
    assert (history.observed_load(MODEL), history.token_seconds(MODEL)) == (None, None)
    history.record(ok(load_seconds=2.0, output_tokens=100, output_seconds=5.0))
    history.record(ok(load_seconds=4.0, output_tokens=100, output_seconds=5.0))
    assert history.observed_load(MODEL) == pytest.approx(3.0, rel=0.02)
    assert history.token_seconds(MODEL) == pytest.approx(0.05)
    assert history.observed_load(ModelInfo("b:70b", host=HOST)) is None


def test_a_candidate_is_a_model_on_a_host() -> None:
    history = PerformanceHistory()
    history.record(failed())
    assert history.recent_success(Candidate("a:8b", HOST)) == 0.0
    assert history.recent_success(Candidate("a:8b", "http://two")) == 1.0
