"""Which model is chosen, and why: gates, scores, preferences, panic. Every decision says its reasons in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed_ollama import (
    Candidate,
    Catalog,
    CircuitState,
    ModelCapability,
    ModelInfo,
    Needs,
    Outcome,
    OutcomeKind,
    PerformanceHistory,
    Recommendation,
    TaskCharacteristics,
    TaskType,
    score_models,
)
from routed_ollama._reasoning import sentence
from routed_ollama.scoring import ModelView, ScoringSettings, gate, standing_bar

CHAT = frozenset({"completion"})
CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
CODING = TaskCharacteristics(
    task_type=TaskType.CODING,
    prompt_tokens=500,
    output_tokens=200,
    capabilities={ModelCapability.CODE_GENERATION: 0.7, ModelCapability.ACCURACY: 0.3},
)


def info(name: str, skill: float = 0.5, **values: Any) -> ModelInfo:
    known = {"host": "http://one", "flags": CHAT, "flags_known": True, "parameters": 8.0, "size": 5_000_000_000}
    return ModelInfo(name, capabilities=dict.fromkeys(ModelCapability, skill), **{**known, **values})


def view(name: str, skill: float = 0.5, **values: Any) -> ModelView:
    fields = {key: values.pop(key) for key in list(values) if key in ModelView._fields}
    described = info(name, skill, **values)
    named = fields.get("named", False)
    return ModelView(described, **{"barred": standing_bar(described, named=named), **fields})


def choose(*views: ModelView, task: TaskCharacteristics = CODING, **settings: Any) -> Recommendation:
    return score_models(views, task, ScoringSettings(**settings), PerformanceHistory(), request_id="r")


def order(recommendation: Recommendation) -> list[str]:
    return [score.candidate.model for score in recommendation.scores]


# Gates

NEEDS = {
    "tools": Needs(tools=True),
    "vision": Needs(vision=True),
    "thinking": Needs(thinking=True),
}


@pytest.mark.parametrize("flag", NEEDS)
def test_a_model_without_what_is_needed_is_not_asked(flag: str) -> None:
    task = replace(CODING, needs=NEEDS[flag])
    able = view("able:1b", skill=0.1, flags=frozenset({"completion", flag}))
    found = choose(view("other:8b"), able, task=task)
    assert order(found) == ["able:1b"]
    assert [(one.gate, one.reason) for one in found.refused] == [(flag, f"does not support {flag}")]


def test_what_no_server_could_say_refuses_nobody() -> None:
    task = replace(CODING, needs=Needs(tools=True, vision=True, thinking=True))
    assert order(choose(view("other:8b", flags=frozenset(), flags_known=False), task=task)) == ["other:8b"]


@pytest.mark.parametrize(
    ("values", "closed"),
    [
        ({"flags": frozenset({"embedding"})}, "completion"),
        ({"remote": True}, "remote"),
        ({"context_length": 400}, "context"),
        ({"reachable": False}, "reachable"),
        ({"circuit": OPEN}, "circuit"),
        ({"barred": standing_bar(info("x"), named=False, too_large=True)}, "memory"),
    ],
)
def test_each_gate_refuses_with_its_reason(values: dict[str, Any], closed: str) -> None:
    found = choose(view("best:70b", skill=1.0, **values), view("other:8b", skill=0.1))
    assert order(found) == ["other:8b"]
    (refusal,) = found.refused
    assert (refusal.candidate, refusal.gate) == (Candidate("best:70b", "http://one"), closed)
    assert refusal.reason


def test_the_context_gate_says_by_how_much_and_allows_for_an_estimate() -> None:
    refusal = gate(view("a:8b", context_length=400), CODING)
    assert refusal is not None
    assert "by 100" in refusal.reason
    assert gate(view("a:8b", context_length=417), CODING) is None
    assert gate(view("a:8b", context_length=0), CODING) is None


@pytest.mark.parametrize(
    "name",
    [
        "llama2:7b-text",
        "llama2:7b-text-q4_0",
        "llama2:text",
        "gemma:2b-text",
        "deepseek-coder:6.7b-base-q4_0",
        "x:base",
    ],
)
def test_a_base_model_is_left_out_unless_it_is_named(name: str) -> None:
    assert [one.gate for one in choose(view(name)).refused] == ["completion"]
    assert order(choose(view(name, named=True))) == [name]


@pytest.mark.parametrize("name", ["yi:34b-long-context", "sqlcoder:database", "text:8b", "hf.co/base/text:latest"])
def test_a_name_that_only_sounds_like_a_base_models_is_no_reason(name: str) -> None:
    assert order(choose(view(name))) == [name]


def test_what_looks_like_an_embedding_model_is_left_out_where_no_server_could_say() -> None:
    assert choose(view("nomic-embed-text:latest", flags_known=False)).scores == ()
    assert order(choose(view("nomic-embed-text:latest", flags_known=False, named=True))) == ["nomic-embed-text:latest"]
    assert order(choose(view("nomic-embed-chat:latest"))) == ["nomic-embed-chat:latest"]


def test_an_embedding_model_is_never_asked_even_when_named() -> None:
    found = choose(view("embedder:latest", flags=frozenset({"embedding"}), named=True), view("a:8b"))
    assert order(found) == ["a:8b"]


# A dead model can never win


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1),
            st.sampled_from(CircuitState),
            st.booleans(),
            st.sampled_from([True, False, None]),
            st.floats(0, 1),
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(["balanced", "quality", "speed"]),
    st.booleans(),
)
def test_no_score_and_no_preference_helps_a_dead_model_against_a_living_one(models, prefer, preferred: bool) -> None:
    views = [
        view(f"m{number}:8b", skill, circuit=circuit, reachable=reachable, resident=resident, recent_success=success)
        for number, (skill, circuit, reachable, resident, success) in enumerate(models)
    ]
    dead = {one.info.name for one in views if one.circuit is OPEN or not one.reachable}
    names = [one.info.name for one in views]
    found = choose(
        *views,
        prefer=prefer,
        preferred=names[0] if preferred else None,
        first=names[:1] if preferred else (),
        leading={TaskType.CODING: names[:1]} if preferred else {},
    )
    if len(dead) == len(views):
        assert found.panic
        assert set(order(found)) == dead
        assert "every model is unwell" in found.reason
    else:
        assert not found.panic
        assert set(order(found)) == set(names) - dead
        assert {one.candidate.model for one in found.refused} == dead


def test_panic_is_only_for_those_refused_for_health_alone() -> None:
    found = choose(
        view("blind:8b", circuit=OPEN),
        view("seeing:8b", flags=frozenset({"completion", "vision"}), circuit=OPEN),
        task=replace(CODING, needs=Needs(vision=True)),
    )
    assert found.panic
    assert order(found) == ["seeing:8b"]
    assert [one.gate for one in found.refused] == ["vision"]


# Scores


def test_the_score_is_forty_forty_twenty() -> None:
    (score,) = choose(view("a:8b", skill=0.7, recent_success=0.9)).scores
    assert score.capability == pytest.approx(0.7)
    assert score.health == pytest.approx(0.9)
    assert score.total == pytest.approx(0.4 * 0.7 + 0.4 * score.performance + 0.2 * 0.9)


@pytest.mark.parametrize(("mathematics", "first"), [(0.0, "reasons:8b"), (0.4, "reasons:8b"), (1.0, "calculates:8b")])
def test_as_far_as_the_task_is_mathematics_it_counts_instead_of_reasoning(mathematics: float, first: str) -> None:
    task = replace(CODING, capabilities={ModelCapability.REASONING: 1.0}, mathematics=mathematics)
    found = choose(view("reasons:8b", 0.6, mathematics=0.5), view("calculates:8b", 0.5, mathematics=0.6), task=task)
    assert order(found)[0] == first
    for score in found.scores:
        assert score.info is not None
        *_, skill = score.info.skills
        reasoning = score.info.capabilities[ModelCapability.REASONING]
        assert score.capability == pytest.approx((1 - mathematics) * reasoning + mathematics * skill)


def test_a_model_of_which_nobody_says_how_it_calculates_does_as_well_as_it_reasons() -> None:
    task = replace(CODING, capabilities={ModelCapability.REASONING: 1.0}, mathematics=1.0)
    assert choose(view("a:8b", 0.7), task=task).scores[0].capability == 0.7


def test_weights_can_be_chosen() -> None:
    (score,) = choose(view("a:8b", skill=0.7), capability=1.0, performance=0.0, health=0.0).scores
    assert score.total == pytest.approx(0.7)


def test_the_more_able_of_two_equals_comes_first() -> None:
    assert order(choose(view("weak:8b", 0.4), view("strong:8b", 0.8))) == ["strong:8b", "weak:8b"]


def test_the_one_in_memory_of_two_equals_comes_first() -> None:
    assert order(choose(view("cold:8b", resident=False), view("warm:8b", resident=True))) == ["warm:8b", "cold:8b"]


def test_the_idle_one_of_two_equals_comes_first() -> None:
    assert order(choose(view("busy:8b", in_flight=3), view("idle:8b"))) == ["idle:8b", "busy:8b"]


def test_one_on_trial_comes_after_its_equal() -> None:
    assert order(choose(view("trial:8b", circuit=HALF_OPEN), view("well:8b"))) == ["well:8b", "trial:8b"]


def test_one_that_failed_lately_comes_after_its_equal() -> None:
    assert order(choose(view("shaky:8b", recent_success=0.5), view("well:8b"))) == ["well:8b", "shaky:8b"]


def test_preferring_quality_or_speed_changes_the_choice() -> None:
    models = view("large:70b", 0.75, parameters=70.0), view("small:1b", 0.5, parameters=1.0)
    short = replace(CODING, prompt_tokens=50, output_tokens=20)
    assert order(choose(*models, task=short, prefer="quality"))[0] == "large:70b"
    assert order(choose(*models, task=short, prefer="speed"))[0] == "small:1b"


def test_a_time_that_is_a_guess_decides_between_equals_alone() -> None:
    small, large = view("small:2b", 0.5, parameters=2.0), view("large:70b", 0.5, parameters=70.0)
    assert order(choose(small, large))[0] == "small:2b"
    better = view("large:70b", 0.53, parameters=70.0)
    assert order(choose(small, better))[0] == "large:70b"
    assert order(choose(small, better, prefer="speed"))[0] == "small:2b"
    equal = view("large:70b", 0.5001, parameters=70.0)
    assert order(choose(small, equal, prefer="quality"))[0] == "large:70b"


def test_a_load_counts_though_nobody_knows_how_long_it_takes() -> None:
    loaded, other = view("loaded:8b", 0.5, resident=True), view("other:8b", 0.55, resident=False)
    assert order(choose(loaded, other))[0] == "loaded:8b"
    assert order(choose(loaded, other._replace(resident=True)))[0] == "other:8b"


def test_times_that_were_observed_count_the_more_the_more_there_are() -> None:
    history, ahead = PerformanceHistory(), []
    slow, quick = view("slow:8b", 0.55), view("quick:8b", 0.5)
    for _ in range(20):
        found = score_models([slow, quick], CODING, ScoringSettings(), history)
        totals = {score.candidate.model: score.total for score in found.scores}
        ahead.append(totals["quick:8b"] - totals["slow:8b"])
        for name, seconds in (("slow:8b", 60.0), ("quick:8b", 2.0)):
            history.record(
                Outcome(
                    name,
                    "http://one",
                    OutcomeKind.OK,
                    TaskType.CODING,
                    seconds,
                    output_tokens=200,
                    output_seconds=seconds,
                )
            )
    assert ahead[0] < 0 < ahead[-1]
    assert ahead == sorted(ahead)


def test_a_model_that_was_never_timed_is_taken_to_be_as_fast_as_the_others() -> None:
    history = PerformanceHistory()
    for _ in range(20):
        history.record(
            Outcome(
                "strong:8b", "http://one", OutcomeKind.OK, TaskType.CODING, 60.0, output_tokens=200, output_seconds=60.0
            )
        )
    views = [view("strong:8b", 0.55), view("untimed:8b", 0.5)]
    assert order(score_models(views, CODING, ScoringSettings(), history))[0] == "strong:8b"


def test_history_outweighs_what_was_thought_before() -> None:
    history = PerformanceHistory()
    for _ in range(100):
        history.record(Outcome("a:8b", "http://one", OutcomeKind.OK, TaskType.CODING, 1.0, quality=1.0))
        history.record(Outcome("b:8b", "http://one", OutcomeKind.OK, TaskType.CODING, 1.0, quality=9.0))
    found = score_models([view("a:8b", 0.6), view("b:8b", 0.5)], CODING, ScoringSettings(), history)
    assert order(found) == ["b:8b", "a:8b"]


# Preferences


def test_the_preferred_model_answers_unless_another_is_better_by_the_margin() -> None:
    slightly, clearly = view("other:8b", 0.52), view("other:8b", 0.9)
    usual = view("usual:8b", 0.5)
    assert order(choose(usual, slightly))[0] == "other:8b"
    found = choose(usual, slightly, preferred="usual:8b")
    assert order(found)[0] == "usual:8b"
    assert "the preferred model" in found.reason
    assert found.scores[0].preference == 0.05
    assert order(choose(usual, clearly, preferred="usual:8b"))[0] == "other:8b"
    assert order(choose(usual, clearly, preferred="usual:8b", margin=0.5))[0] == "usual:8b"


def test_a_conversation_stays_with_its_model_on_its_host() -> None:
    here, there = view("a:8b", host="http://one"), view("a:8b", host="http://two")
    other = view("b:8b", 0.52)
    found = choose(other, here, there, sticky=Candidate("a:8b", "http://two"))
    assert found.scores[0].candidate == ("a:8b", "http://two")
    assert "is answering this conversation" in found.reason
    anywhere = choose(other, here, there, sticky=Candidate("a:8b", ""))
    assert anywhere.scores[0].candidate.model == "a:8b"
    both = choose(other, here, preferred="a:8b", sticky=Candidate("a:8b", ""))
    assert both.scores[0].preference == pytest.approx(0.1)


def test_where_only_the_preference_differs_it_is_what_decided():
    chosen = choose(view("a:8b"), view("b:8b"), preferred="b:8b")
    assert chosen.model == "b:8b"
    assert "is the preferred model" in chosen.reasoning


def test_the_models_of_a_tasks_list_lead_in_its_order() -> None:
    views = [view("best:8b", 1.0), view("second:8b", 0.1), view("first:latest", 0.1)]
    leading = {TaskType.CODING: ["first", "second:8b"]}
    found = choose(*views, leading=leading)
    assert order(found) == ["first:latest", "second:8b", "best:8b"]
    assert "leads for coding" in found.reason
    planning = replace(CODING, task_type=TaskType.PLANNING)
    assert order(choose(*views, leading=leading, task=planning))[0] == "best:8b"


def test_one_of_a_tasks_list_is_passed_over_only_when_it_cannot_or_is_not_well() -> None:
    leading = {TaskType.CODING: ["first:8b", "second:8b"]}
    best, first, second = view("best:8b", 1.0), view("first:8b", 0.1), view("second:8b", 0.1, recent_success=0.0)
    assert order(choose(best, first._replace(circuit=OPEN), second, leading=leading)) == ["second:8b", "best:8b"]
    on_trial = choose(best, first._replace(circuit=HALF_OPEN), second, leading=leading)
    assert order(on_trial) == ["second:8b", "best:8b", "first:8b"]
    none = choose(best, first._replace(circuit=HALF_OPEN), leading=leading)
    assert "leads" not in none.reason


def test_those_named_for_this_call_come_first_always() -> None:
    views = [view("best:8b", 1.0), view("led:8b"), view("named:8b", 0.0)]
    found = choose(*views, first=["named:8b"], leading={TaskType.CODING: ["led:8b"]})
    assert order(found) == ["named:8b", "led:8b", "best:8b"]
    assert "comes first, as asked" in found.reason


# Reasons


def test_a_decision_gives_every_reason_in_words() -> None:
    found = choose(
        view("a:8b", 0.9, resident=True),
        view("b:8b", 0.2, resident=False),
        view("c:8b", circuit=OPEN),
        preferred="a:8b",
    )
    assert found.reasoning == found.reason
    for words in ("a:8b for this coding prompt of medium complexity", "is better at what is asked than b:8b"):
        assert words in found.reason
    first, second = found.scores
    assert "in memory" in first.reasons
    assert "preference +0.05" in first.reasons
    assert any(reason.startswith("must be loaded first") for reason in second.reasons)
    assert any(reason.startswith("expected ") and "success" in reason for reason in second.reasons)
    assert {"capability 0.20", "health 1.00"} <= set(second.reasons)
    assert (found.model, found.host, found.fallbacks) == ("a:8b", "http://one", ("b:8b",))


EQUAL = view("b:8b", 0.5)


@pytest.mark.parametrize(
    ("best", "rival", "settings", "words"),
    [
        (view("a:8b", 0.9), EQUAL, {}, "is better at what is asked than b:8b (capability 0.900 against 0.500)"),
        (view("a:8b", resident=True), view("b:8b", resident=False), {}, "expected to answer sooner than b:8b ("),
        (view("a:8b"), view("b:8b", resident=False), {}, "20.5 s of them to load it"),
        (view("a:8b"), view("b:8b", in_flight=1), {}, "of them until it is free"),
        (view("a:8b"), view("b:8b", recent_success=0.5), {}, "better record of late than b:8b (health 1.000 against"),
        (view("a:8b"), EQUAL, {}, "it scores as much as b:8b (0."),
        (view("a:8b", host="http://two"), view("a:8b", recent_success=0.5), {}, "than the one at http://one (health"),
        (view("a:8b", 0.48), EQUAL, {"preferred": "a:8b"}, "it is the preferred model, which counts 0.050"),
        (view("a:8b", 0.9), EQUAL, {"preferred": "a:8b"}, "better at what is asked"),
        (view("a:8b", 0.1), EQUAL, {"first": ["a:8b"]}, "complexity: it comes first, as asked."),
        (view("a:8b", 0.1), EQUAL, {"leading": {TaskType.CODING: ["a:8b"]}}, "complexity: it leads for coding."),
        (
            view("a:8b", 0.1),
            EQUAL,
            {"first": ["a:8b"], "sticky": Candidate("a:8b", "")},
            "it is answering this conversation.",
        ),
        (view("a:8b"), view("b:8b", circuit=OPEN), {}, "it is the only model that can serve it."),
        (view("a:8b", 0.9, circuit=OPEN), view("b:8b", circuit=OPEN), {}, "; every model is unwell, so all are tried."),
    ],
)
def test_the_sentence_names_what_decided(best, rival, settings, words) -> None:
    reason = choose(best, rival, **settings).reason
    assert words in reason
    assert reason.startswith("a:8b for this coding prompt")


def test_scores_that_look_the_same_are_not_held_against_each_other() -> None:
    first, second = choose(view("a:8b", 0.9), view("b:8b", 0.2)).scores
    near = [
        first._replace(total=0.6252, preference=0.05, notes=("the preferred model",)),
        second._replace(total=0.6249),
    ]
    said = {decisive: sentence(near, CODING, decisive, panic=False) for decisive in ("capability", "preference")}
    assert said["capability"].endswith("and scores almost the same (0.625).")
    assert said["preference"].endswith("and with that scores 0.625, almost the same as b:8b.")


def test_what_is_learned_of_answers_is_named_when_it_decides() -> None:
    history = PerformanceHistory()
    for _ in range(60):
        for model, quality in (("a:8b", 9.0), ("b:8b", 4.0)):
            outcome = Outcome(model, "http://one", OutcomeKind.OK, TaskType.CODING, 1.0, quality=quality, judged=True)
            history.record(outcome)
    found = score_models([view("a:8b"), view("b:8b")], CODING, ScoringSettings(), history)
    assert "is expected to answer better than b:8b (quality " in found.reason
    for _ in range(40):
        history.record(Outcome("b:8b", "http://one", OutcomeKind.FAILED, TaskType.CODING, 1.0))
    found = score_models([view("a:8b", 0.2), view("b:8b")], CODING, ScoringSettings(), history)
    assert "is expected to fail less often than b:8b (success " in found.reason


def test_with_no_model_the_reason_says_what_to_install() -> None:
    found = choose()
    assert (found.model, found.host, found.fallbacks) == ("", "", ())
    assert "ollama pull" in found.reason
    blind = choose(view("a:8b"), task=replace(CODING, needs=Needs(vision=True)))
    assert "a:8b: does not support vision" in blind.reason
    assert "ollama pull llama3.2-vision" in blind.reason
    assert "Shorten the prompt" in choose(view("a:8b", context_length=100)).reason
    assert "name one" in choose(view("a:8b", remote=True)).reason


def test_a_long_list_of_refusals_is_cut_to_a_screen() -> None:
    found = choose(*(view(f"m{number}:8b", remote=True) for number in range(11)))
    assert len(found.refused) == 11
    assert "and 3 more" in found.reason


# The same again

views_strategy = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.floats(0, 1), st.sampled_from([True, False, None])),
    min_size=1,
    max_size=6,
    unique_by=lambda one: one[0],
)


@given(views_strategy)
def test_the_same_models_prompt_and_settings_give_the_same_choice(models) -> None:
    views = [view(f"{name}:8b", skill, resident=resident) for name, skill, resident in models]
    assert choose(*views) == choose(*views)
    totals = [one.total for one in choose(*views).scores]
    assert totals == sorted(totals, reverse=True)


def test_speed_is_preferred_on_a_slow_machine_too() -> None:
    """With nothing but priors a 70B model takes minutes where a 1B model takes seconds."""
    catalog = Catalog.of_names(["llama3.1:70b", "llama3.2:1b"])
    views = [ModelView(model) for name in ("llama3.1:70b", "llama3.2:1b") for model in catalog.find(name)]
    assert choose(*views, prefer="speed").model == "llama3.2:1b"
    assert choose(*views, prefer="quality").model == "llama3.1:70b"


def test_names_alone_are_enough_for_a_recommendation() -> None:
    catalog = Catalog.of_names(["codellama:13b", "tinyllama:1.1b"])
    views = [ModelView(model) for name in ("codellama:13b", "tinyllama:1.1b") for model in catalog.find(name)]
    assert choose(*views, prefer="quality").model == "codellama:13b"
