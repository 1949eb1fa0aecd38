"""Learning from judgements: they move the choice by as much as they tell, and never hurt before they tell something."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routed_ollama import Candidate, Catalog, Outcome, OutcomeKind, Router, RouterConfig, TaskType
from routed_ollama._exploring import Explorer, worth_trying
from routed_ollama._learning import KEPT, Judge, Marks
from routed_ollama.testing import ScriptedModel

POOL = ("llama3.1:8b", "qwen2.5:7b", "gemma2:9b", "mistral:7b")
PROMPTS = (
    "Write a Python function that merges two sorted lists",
    "Why does this traceback say KeyError: 'user'?",
    "Plan the migration of our database to a new host",
    "What is the capital of Peru?",
)
GOOD, OTHER = Candidate("good:8b", ""), Candidate("other:8b", "")

marks = st.floats(0, 1)
kinds = st.sampled_from(TaskType)
judges = st.sampled_from(get_args(Judge))
pasts = st.lists(st.tuples(st.sampled_from([GOOD, OTHER]), kinds, marks, marks, judges), max_size=30)


def router(models: tuple[str, ...] = POOL, **options: Any) -> Router:
    return Router.from_models(models, store="memory", **{"config": RouterConfig(), **options})


def judge(routed: Router, requests: int, worth: dict[str, float], seed: int = 0) -> Counter[str]:
    """Ask, and mark the answer right or wrong by how good the model is; return who was chosen."""
    chance, chosen = random.Random(seed), Counter()  # noqa: S311 (no secret)
    for number in range(requests):
        found = routed.recommend_model(PROMPTS[number % len(PROMPTS)])
        chosen[found.model] += 1
        right = chance.random() < worth.get(found.model, 0.5)
        assert routed.record_feedback(found.request_id, 10.0 if right else 0.0)
    return chosen


def learnt_from(past: list[tuple[Candidate, TaskType, float, float, Judge]]) -> Marks:
    found = Marks()
    for candidate, kind, mark, expected, by in past:
        found.learn(candidate, kind, mark, expected=expected, by=by)
    return found


def ahead(found: Marks, kind: TaskType) -> float:
    """By how much what was learnt puts the one model before the other."""
    return found.of(GOOD, kind).shift - found.of(OTHER, kind).shift


# What a mark does


@given(pasts, kinds, marks, marks, st.floats(0, 1))
def test_a_better_mark_never_lowers_what_is_thought_of_a_model(past, kind, expected, mark, more) -> None:
    worse, better = learnt_from(past), learnt_from(past)
    worse.learn(GOOD, kind, mark, expected=expected)
    better.learn(GOOD, kind, mark + (1 - mark) * more, expected=expected)
    for asked in TaskType:
        low, high = worse.of(GOOD, asked), better.of(GOOD, asked)
        assert high.deviation >= low.deviation - 1e-9
        assert ahead(better, asked) >= ahead(worse, asked) - 1e-9
        assert (
            high.deviation - better.of(OTHER, asked).deviation
            >= low.deviation - worse.of(OTHER, asked).deviation - 1e-9
        )
    assert better.offset(kind) >= worse.offset(kind) - 1e-9


@given(pasts)
def test_no_more_counts_between_two_models_than_was_learnt_of_both(past) -> None:
    found = learnt_from(past)
    for kind in TaskType:
        good, other = found.of(GOOD, kind), found.of(OTHER, kind)
        difference = good.deviation - other.deviation
        if {each[0] for each in past} == {GOOD, OTHER}:
            assert abs(ahead(found, kind)) <= abs(difference) + 1e-12
            assert ahead(found, kind) * difference >= -1e-12
        for learnt in (good, other):
            assert 0 < learnt.error <= Marks().of(GOOD, kind).error + 1e-12


def test_the_more_marks_the_more_they_count_and_the_surer_it_is() -> None:
    found, counted, errors = Marks(), [], []
    for _ in range(300):
        found.learn(OTHER, TaskType.CODING, 0.4, expected=0.5)
        found.learn(GOOD, TaskType.CODING, 0.8, expected=0.5)
        counted.append(ahead(found, TaskType.CODING))
        errors.append(found.of(GOOD, TaskType.CODING).error)
    assert counted[0] == 0.0, "one mark tells nothing against the model that was asked first"
    assert counted == sorted(counted)
    assert errors == sorted(errors, reverse=True)
    assert 0.2 < counted[-1] < 0.4, "of the 0.4 between them, what the priors do not outweigh"


def test_the_model_that_does_the_work_is_left_for_more_than_its_rival_must_show_to_be_left() -> None:
    """Two models that were marked alike: whoever was asked more needs the smaller lead to stay before the other."""

    def lead(mark: float) -> float:
        found = Marks()
        for candidate, marked, times in ((OTHER, 0.5, 300), (GOOD, mark, 40)):
            for _ in range(times):
                found.learn(candidate, TaskType.CODING, marked, expected=0.5)
        return ahead(found, TaskType.CODING)

    assert lead(0.52) == 0.0, "it may be a lucky streak"
    assert lead(0.48) < 0.0, "nothing speaks for leaving the other"
    assert lead(0.8) > 0.0


def test_what_is_said_of_one_model_leaves_those_that_nobody_judged_where_they_were() -> None:
    found = learnt_from([(GOOD, TaskType.CODING, 0.9, 0.5, "person")] * 50)
    assert found.of(GOOD, TaskType.CODING).shift > 0.0
    assert found.of(OTHER, TaskType.CODING) == Marks().of(OTHER, TaskType.CODING)


def test_hard_tasks_speak_little_against_the_only_model_that_was_asked() -> None:
    found = Marks()
    for _ in range(500):
        found.learn(GOOD, TaskType.CODING, 0.1, expected=0.6)
    assert found.offset(TaskType.CODING) < -0.4
    assert found.of(GOOD, TaskType.CODING).deviation > -0.1, "a fifth of what is missing"


def test_a_model_can_be_good_at_one_thing() -> None:
    found = Marks()
    for _ in range(400):
        for kind, mark in ((TaskType.CODING, 0.9), (TaskType.PLANNING, 0.4)):
            found.learn(GOOD, kind, mark, expected=0.5)
            found.learn(OTHER, kind, 0.5, expected=0.5)
    assert found.of(GOOD, TaskType.CODING).deviation > found.of(GOOD, TaskType.TESTING).deviation
    assert found.of(GOOD, TaskType.TESTING).deviation > found.of(GOOD, TaskType.PLANNING).deviation


def test_what_is_long_past_fades() -> None:
    found = Marks()
    for mark in (0.1, 0.9):
        for _ in range(3 * round(1 / (1 - KEPT))):
            found.learn(GOOD, TaskType.CODING, mark, expected=0.5)
            found.learn(OTHER, TaskType.CODING, 0.5, expected=0.5)
    assert found.of(GOOD, TaskType.CODING).shift > 0.1


@pytest.mark.parametrize("hint", ["looks", "form"])
def test_hints_tell_failures_but_not_good_from_better(hint: Judge) -> None:
    hinted, judged = Marks(), Marks()
    for _ in range(200):
        for found, by in ((hinted, hint), (judged, "person")):
            found.learn(GOOD, TaskType.CODING, 0.97, expected=0.3, by=by)
            found.learn(OTHER, TaskType.CODING, 0.97, expected=0.9, by=by)
    assert ahead(hinted, TaskType.CODING) == pytest.approx(0.0, abs=0.001)
    assert ahead(judged, TaskType.CODING) > 0.1
    for _ in range(200):
        hinted.learn(OTHER, TaskType.CODING, 0.1, expected=0.9, by=hint)
    assert ahead(hinted, TaskType.CODING) > 0.1
    assert hinted.given == 0


@given(pasts, kinds, marks, marks)
def test_a_second_judgement_takes_the_place_of_the_first(past, kind, first, second) -> None:
    changed, once = learnt_from(past), learnt_from(past)
    changed.learn(GOOD, kind, first, expected=0.5)
    changed.learn(GOOD, kind, second, expected=0.5, instead=first)
    once.learn(GOOD, kind, second, expected=0.5)
    assert changed.given == once.given
    # the offset was worked out once more, so it has come nearer to where both arrive
    assert changed.of(GOOD, kind).deviation == pytest.approx(once.of(GOOD, kind).deviation, abs=0.05)


def test_the_prior_of_a_model_that_nobody_measured_counts_for_less() -> None:
    found = Marks()
    found.unmeasured(GOOD)
    assert found.of(GOOD, TaskType.CODING).error > found.of(OTHER, TaskType.CODING).error
    for _ in range(50):
        for candidate in (GOOD, OTHER):
            found.learn(candidate, TaskType.CODING, 0.9, expected=0.5)
            found.learn(Candidate("third:8b", ""), TaskType.CODING, 0.5, expected=0.5)
    assert found.of(GOOD, TaskType.CODING).deviation > found.of(OTHER, TaskType.CODING).deviation > 0.0


@pytest.mark.parametrize(("model", "known"), [("llama3.1:8b", True), ("nobody/knows-this", False)])
def test_a_history_knows_whose_prior_is_measured(model: str, *, known: bool) -> None:
    with router((model,)) as routed:
        candidate = routed.recommend_model(PROMPTS[0]).scores[0].candidate
        unsure = routed._known.history.learnt(candidate, TaskType.CODING).error
    assert (unsure == Marks().of(GOOD, TaskType.CODING).error) == known


# What it does to the choice


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(PROMPTS), st.permutations(POOL))
def test_without_history_the_order_is_that_of_the_priors(prompt, pool) -> None:
    with router(tuple(pool), prefer="quality") as routed:
        found = routed.recommend_model(prompt)
        strengths = {info.name: info.capabilities for name in pool for info in Catalog.of_names(pool).find(name)}
    weighed = {
        name: sum(weight * strengths[name][capability] for capability, weight in found.task.capabilities.items())
        for name in pool
    }
    assert [score.candidate.model for score in found.scores] == sorted(pool, key=lambda name: -weighed[name])


def test_feedback_alone_teaches_which_model_is_better() -> None:
    with router() as routed:
        first = routed.recommend_model(PROMPTS[0]).model
        rival = next(name for name in routed.recommend_model(PROMPTS[0]).fallbacks)
        judge(routed, 1500, {first: 0.3, rival: 0.8})
        late = judge(routed, 300, {first: 0.3, rival: 0.8}, seed=1)
    assert late.most_common(1)[0][0] == rival


def test_a_model_that_is_always_wrong_is_left_soon_though_another_that_is_wrong_must_be_tried_too() -> None:
    with router() as routed:
        ranked = [score.candidate.model for score in routed.recommend_model(PROMPTS[-1]).scores]
        worth = dict.fromkeys(POOL, 0.0) | {ranked[2]: 1.0}
        judge(routed, 600, worth)
        late = judge(routed, 100, worth, seed=1)
    assert late[ranked[2]] >= 90


def test_the_strongest_is_kept_when_marks_agree_with_the_priors() -> None:
    with router(config=RouterConfig.model_validate({"routing": {"explore": 0}})) as routed:
        before = [routed.recommend_model(prompt).model for prompt in PROMPTS]
        judge(routed, 400, dict.fromkeys(POOL, 0.2))
        assert [routed.recommend_model(prompt).model for prompt in PROMPTS] == before


def test_feedback_is_of_the_model_that_answered_where_that_is_known() -> None:
    with router() as routed:
        found = routed.recommend_model(PROMPTS[0])
        other = found.fallbacks[0]
        routed.record(Outcome(other, "", OutcomeKind.OK, TaskType.CODING, 1.0, request_id=found.request_id))
        assert routed.record_feedback(found.request_id, 9.0)
        assert routed.performance()[other].quality_score == 9.0
        assert found.model not in routed.performance()


def test_a_request_that_nobody_made_cannot_be_judged() -> None:
    with router() as routed:
        assert not routed.record_feedback("unheard of", 5.0)
        assert routed.performance() == {}


def test_a_judgement_that_is_changed_counts_once() -> None:
    with router() as routed:
        found = routed.recommend_model(PROMPTS[0])
        for quality in (1.0, 3.0, 8.0):
            assert routed.record_feedback(found.request_id, quality)
        assert routed.performance()[found.model].quality_score == pytest.approx(8.0)


def test_only_so_many_requests_are_remembered() -> None:
    with router(POOL[:2]) as routed:
        ids = [routed.recommend_model("Hello").request_id for _ in range(10_001)]
        assert not routed.record_feedback(ids[0], 5.0)
        assert routed.record_feedback(ids[1], 5.0)
        assert routed.record_feedback(ids[-1], 5.0)


def test_answers_got_elsewhere_teach_too() -> None:
    with router() as routed:
        first, rival = (score.candidate.model for score in routed.recommend_model(PROMPTS[0]).scores[:2])
        for _ in range(200):
            routed.record_performance(first, task_type="coding", response_time=1.0, quality_score=2.0)
            routed.record_performance(rival, task_type="coding", response_time=1.0, quality_score=9.0)
        assert routed.recommend_model(PROMPTS[0]).model != first


@pytest.mark.parametrize("told", ["with the answer", "afterwards"])
def test_what_persons_said_counts_as_much_after_a_restart(tmp_path, told) -> None:
    def opened() -> Router:
        return Router.from_models(POOL, store=tmp_path / "history.sqlite3", config=RouterConfig())

    with opened() as routed:
        first, rival = routed.recommend_model(PROMPTS[0]).scores[:2]
        for number in range(200):
            for score, mark in ((first, 2.0), (rival, 9.0)):
                model, given = score.candidate.model, {"quality": mark, "judged": True}
                identifier = f"{model} {number}"
                if told == "afterwards":
                    given = {"quality": 8.5, "request_id": identifier}
                routed.record(Outcome(model, "", OutcomeKind.OK, TaskType.CODING, 1.0, at=time.time(), **given))
                assert told == "with the answer" or routed.record_feedback(identifier, mark)
        learned = routed.recommend_model(PROMPTS[0])
    assert learned.model == rival.candidate.model
    with opened() as again:
        found = again.recommend_model(PROMPTS[0])
    assert found.model == rival.candidate.model
    # what heuristics had thought of the answers before is not kept beside what a person said
    assert [s.capability for s in found.scores] == pytest.approx([s.capability for s in learned.scores], abs=0.15)


def test_no_word_of_a_prompt_is_remembered() -> None:
    with router() as routed:
        routed.recommend_model("Zanzibarquux: write a function")
        assert "anzibarqu" not in repr(vars(routed._known.history))


# Frozen


def test_a_frozen_router_learns_from_nothing() -> None:
    with router(learn=False) as routed:
        before = [routed.recommend_model(prompt) for prompt in PROMPTS]
        for found in before * 30:
            assert not routed.record_feedback(found.request_id, 0.0)
            routed.record_performance(found.model, response_time=1.0, quality_score=0.0, tokens_per_second=1.0)
        after = [routed.recommend_model(prompt) for prompt in PROMPTS]
    assert [found.scores for found in after] == [found.scores for found in before]
    assert not any(found.settings.explored for found in after)


# Exploration


@pytest.mark.parametrize("share", [0.0, 0.06, 0.5, 1.0])
def test_the_share_that_may_be_explored_is_bounded(share: float) -> None:
    explorer = Explorer(share)
    due = [explorer.due(mark) for mark in range(1, 20_001)]
    assert sum(due) / len(due) == pytest.approx(share, abs=0.01)
    again = Explorer(share)
    assert [again.due(mark) for mark in range(1, 20_001)] == due
    assert not any(again.due(20_000) for _ in range(100)), "nobody judged since"


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.001, 0.1), st.floats(0.001, 0.1))
def test_what_may_win_more_is_more_worth_trying(one, other, sure, unsure) -> None:
    worse, better = sorted((-abs(one), -abs(other)))
    least, most = sorted((sure, unsure))
    assert worth_trying(worse, most) <= worth_trying(better, most) + 1e-6
    assert worth_trying(worse, least) <= worth_trying(worse, most) + 1e-6
    assert worth_trying(-1.0, most) < 0


def test_exploring_ends_when_the_others_are_known_to_be_worse() -> None:
    with router(config=RouterConfig.model_validate({"routing": {"explore": 1}})) as routed:
        best = routed.recommend_model(PROMPTS[0]).model
        worth = dict.fromkeys(POOL, 0.2) | {best: 0.5}
        early, late = judge(routed, 400, worth), judge(routed, 400, worth, seed=1)
    assert early[best] < late[best]
    assert late[best] >= 395


def test_what_nobody_judges_is_not_explored() -> None:
    with router(config=RouterConfig.model_validate({"routing": {"explore": 1}})) as routed:
        assert {routed.recommend_model(PROMPTS[0]).model for _ in range(50)} == {
            routed.recommend_model(PROMPTS[0]).model
        }


def explored(models: tuple[str, ...] = POOL, **hints: Any) -> Counter[str]:
    """Who is tried when every decision after a judgement may try somebody."""
    found: Counter[str] = Counter()
    with router(models, config=RouterConfig.model_validate({"routing": {"explore": 1}})) as routed:
        for _ in range(60):
            asked = routed.recommend_model(PROMPTS[-1], **hints)
            tried = asked.settings.explored
            if tried is not None:
                assert asked.model == tried.model
                assert "now and then" in asked.reason
                assert str(asked.explain())
                found[tried.model] += 1
            routed.record_feedback(asked.request_id, 5.0)
    return found


def test_a_model_that_may_be_as_good_is_tried_and_the_reason_says_so() -> None:
    assert explored()


@pytest.mark.parametrize(
    ("models", "hints"),
    [
        (("qwen2.5:7b", "tinyllama:1.1b"), {}),
        (("llama3.1:8b", "llama3.1:70b"), {"prefer": "speed"}),
        (POOL, {"first": ("mistral:7b",)}),
        (POOL, {"preferred": "mistral:7b"}),
        (POOL, {"sticky": Candidate("mistral:7b", "")}),
    ],
    ids=["far below", "much slower", "first", "preferred", "sticky"],
)
def test_nobody_is_tried_who_is_far_below_or_slow_or_where_somebody_is_wanted(models, hints) -> None:
    assert not explored(models, **hints)


# What is installed


def test_a_model_that_was_replaced_begins_anew(ollama_server: Any) -> None:
    server = ollama_server(models=["llama3.1:8b", "gemma2:9b"])
    with Router(base_url=server.url, store="memory", config=RouterConfig()) as routed:
        judged = routed.recommend_model(PROMPTS[0])
        assert routed.record_feedback(judged.request_id, 2.0)
        routed.health_check_all_models()
        assert routed.performance()[judged.model].quality_score == 2.0
        server.remove_model(judged.model)
        server.add_model(ScriptedModel(judged.model, digest="another"))
        routed.health_check_all_models()
        assert routed.performance()[judged.model].quality_score == 0.0
        grounds = next(
            score.prediction.grounds
            for score in routed.recommend_model(PROMPTS[0]).scores
            if score.candidate.model == judged.model
        )
        assert (grounds.judged, grounds.learnt) == (0.0, 0.0)
