"""``Recommendation.explain()``: every figure adds up and has a source, and what would have changed the choice does."""

from __future__ import annotations

import copy
import json
import math
import pickle
import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routed_ollama import (
    Candidate,
    CircuitState,
    Message,
    ModelCapability,
    ModelInfo,
    ModelScore,
    Needs,
    Outcome,
    OutcomeKind,
    PerformanceHistory,
    Recommendation,
    Router,
    TaskCharacteristics,
    TaskType,
    score_models,
)
from routed_ollama._counterfactuals import Counterfactual
from routed_ollama._learning import MARKS_OF_UNMEASURED
from routed_ollama.cli import main
from routed_ollama.scoring import HEALTH, ModelView, ScoringSettings, pace_of, performances, rank_again
from routed_ollama.testing import ScriptedModel

CODING = TaskCharacteristics(
    task_type=TaskType.CODING,
    prompt_tokens=500,
    output_tokens=200,
    capabilities={ModelCapability.CODE_GENERATION: 0.7, ModelCapability.ACCURACY: 0.3},
)
CLOSED, HALF_OPEN, OPEN = CircuitState.CLOSED, CircuitState.HALF_OPEN, CircuitState.OPEN
HOSTILE = "<b>\x1b[2J\u202ex:8b"


def view(name: str, skill: float = 0.5, *, host: str = "http://one", **fields: Any) -> ModelView:
    flags = fields.pop("flags", frozenset({"completion"}))
    described = ModelInfo(
        name,
        host,
        parameters=fields.pop("parameters", 8.0),
        size=fields.pop("size", 5_000_000_000),
        flags=flags,
        flags_known=True,
        capabilities=dict.fromkeys(ModelCapability, skill),
    )
    return ModelView(described, **fields)


class Case:
    """Everything that a choice is made from, so that it can be made again with one thing changed."""

    def __init__(self, views: list[ModelView], task=CODING, history=None, **wishes: Any) -> None:
        self.views, self.task, self.wishes = views, task, ScoringSettings(**wishes)
        self.history = history or PerformanceHistory()

    def choose(self, wishes: ScoringSettings | None = None, **changed: Callable[[ModelView], ModelView]) -> Any:
        views = [changed.get("each", lambda one: one)(one) for one in self.views]
        return score_models(views, self.task, wishes or self.wishes, self.history, request_id="r")


def explained(*views: ModelView, **wishes: Any):
    return Case(list(views), **wishes).choose().explain()


def changes(explanation, name: str) -> list[Counterfactual]:
    return [change for change in explanation.would_change if change.name == name]


# Any choice

views_of_any_kind = st.lists(
    st.builds(
        lambda name, skill, size, circuit, resident, busy, success, tools: view(
            f"{name}:8b",
            skill,
            parameters=size,
            size=int(size * 6e8),
            circuit=circuit,
            resident=resident,
            in_flight=busy,
            recent_success=success,
            flags=frozenset({"completion", "tools"} if tools else {"completion"}),
        ),
        st.sampled_from("abcdef"),
        st.floats(0, 1),
        st.sampled_from([1.0, 3.0, 8.0, 70.0]),
        st.sampled_from([CLOSED, CLOSED, CLOSED, HALF_OPEN, OPEN]),
        st.sampled_from([True, False, None]),
        st.integers(0, 2),
        st.integers(0, 20).map(lambda n: n / 20),
        st.booleans(),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda one: one.info.name,
)
outcomes = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from(list(OutcomeKind)), st.one_of(st.none(), st.floats(0, 10))),
    max_size=12,
)
names = st.sampled_from(["a:8b", "b:8b", "c:8b"])
wishes_of_any_kind = st.fixed_dictionaries(
    {"prefer": st.sampled_from(["balanced", "quality", "speed"])},
    optional={
        "preferred": names,
        "sticky": st.builds(Candidate, names, st.sampled_from(["", "http://one"])),
        "first": st.lists(names, max_size=1),
        "leading": st.lists(names, min_size=1, max_size=2).map(lambda some: {TaskType.CODING: some}),
        "margin": st.sampled_from([0.0, 0.05, 0.2]),
    },
)


def history_of(seen) -> PerformanceHistory:
    history = PerformanceHistory()
    for name, kind, quality in seen:
        outcome = Outcome(f"{name}:8b", "http://one", kind, TaskType.CODING, 2.0, quality=quality)
        history.record(
            replace(
                outcome, output_tokens=50, output_seconds=1.0, load_seconds=3.0, prompt_tokens=9, prompt_seconds=0.1
            )
        )
    return history


cases = st.builds(
    lambda views, seen, wishes, needs: Case(
        views, replace(CODING, needs=Needs(tools=needs)), history_of(seen), **wishes
    ),
    views_of_any_kind,
    outcomes,
    wishes_of_any_kind,
    st.booleans(),
)


@given(cases)
def test_the_contributions_of_each_model_sum_to_its_score(case: Case) -> None:
    found = case.choose()
    explanation = found.explain()
    for score in found.scores:
        parts = [part for part in explanation.components if part.candidate == score.candidate]
        assert sum(part.contribution for part in parts) == pytest.approx(score.total, abs=1e-12)
        assert all(part.contribution == pytest.approx(part.value * part.weight) for part in parts)
        assert all(part.source for part in parts)
    assert [candidate for candidate, _ in explanation.totals] == [score.candidate for score in found.scores]
    totals = [total for _, total in explanation.totals]
    assert explanation.margin == (totals[0] - totals[1] if len(totals) > 1 else None)


@given(cases)
def test_each_model_has_one_gate_and_each_figure_a_source(case: Case) -> None:
    found = case.choose()
    explanation = found.explain()
    assert sorted(gate.candidate for gate in explanation.gates) == sorted(one.info.candidate for one in case.views)
    closed = [gate for gate in explanation.gates if gate.outcome != "passed"]
    assert all(gate.gate and gate.reason for gate in closed)
    assert found.panic == any(gate.outcome == "waived" for gate in closed)
    assert all(each.source and each.basis for each in explanation.evidence)
    for each in explanation.evidence:
        assert ("own" in each.basis) == bool(each.observations)


@given(cases)
def test_the_same_ranking_comes_of_ranking_again(case: Case) -> None:
    found = case.choose()
    if found.scores:
        again = rank_again(found.scores, case.task.task_type, case.wishes)
        assert again == found.scores


@settings(max_examples=150)
@given(cases)
def test_each_change_that_is_told_of_changes_the_choice(case: Case) -> None:
    found = case.choose()
    for change in found.explain().would_change:
        assert change.chosen != found.scores[0].candidate
        assert chosen_after(case, found, change) == change.chosen, change


def chosen_after(case: Case, found: Recommendation, change: Counterfactual) -> Candidate:
    """Make the choice again with that change: from the beginning where it can be made there, else from the scores."""
    name, then = change.name, change.then

    def changing(**fields: Any) -> Callable[[ModelView], ModelView]:
        return lambda one: one._replace(**fields) if one.info.candidate == change.candidate else one

    if name.startswith("weights."):
        return case.choose(weighing(case.wishes, name.removeprefix("weights."), float(then or 0))).scores[0].candidate
    if name == "health":
        score = next(one for one in found.scores if one.candidate == change.candidate)
        if factor := HEALTH[score.circuit]:
            return case.choose(each=changing(recent_success=float(then or 0) / factor)).scores[0].candidate
    if name in {"resident", "wait", "circuit"}:
        field = {"resident": "resident", "wait": "in_flight", "circuit": "circuit"}[name]
        value = {"wait": 0, "resident": then, "circuit": CircuitState(then) if name == "circuit" else None}[name]
        return case.choose(each=changing(**{field: value})).scores[0].candidate
    if name in {"prefer", "preferred", "sticky", "margin", "first", "leading"}:
        empty: dict[str, Any] = {"first": (), "leading": {}}
        return case.choose(replace(case.wishes, **{name: empty.get(name, then)})).scores[0].candidate
    return best_of(case, found, change)


def weighing(wishes: ScoringSettings, name: str, value: float) -> ScoringSettings:
    """As a configuration says it: one weight is another, and all are then normalised."""
    weights = {part: getattr(wishes, part) for part in ("capability", "performance", "health")}
    weights[name] = value * (1 - weights[name]) / (1 - value) if value < 1 else 1e9
    total = sum(weights.values())
    return replace(wishes, **{part: weight / total for part, weight in weights.items()})


def best_of(case: Case, found: Recommendation, change: Counterfactual) -> Candidate:
    """The highest score when one figure is another and the rest is as it is."""
    expected = {score.candidate: score.prediction for score in found.scores}
    values = {score.candidate: score for score in found.scores}
    candidate, wanted = change.candidate, {change.name: change.then}
    assert candidate is not None
    if change.name in {"quality", "success_rate", "seconds"}:
        expected[candidate] = expected[candidate]._replace(**wanted)
        worth = performances(expected.values(), pace_of(case.wishes, case.task, expected.values()))
        values = {one: values[one]._replace(performance=part) for one, part in zip(expected, worth, strict=True)}
    else:
        values[candidate] = values[candidate]._replace(**wanted)
    return max(
        values,
        key=lambda each: (
            0.4 * values[each].capability
            + 0.4 * values[each].performance
            + 0.2 * values[each].health
            + values[each].preference
        ),
    )


@given(cases)
def test_a_step_less_would_not_have_sufficed(case: Case) -> None:
    found = case.choose()
    for change in found.explain().would_change:
        if change.name not in {"capability", "performance", "health"}:
            continue
        now, then = float(change.now or 0), float(change.then or 0)
        short = round(then - math.copysign(0.001, then - now), 3)
        if (short - now) * (then - now) > 0:  # else the first step suffices
            weight = {"capability": 0.4, "performance": 0.4, "health": 0.2}[change.name]
            by = {change.candidate: weight * (short - now)}
            totals = [score.total + by.get(score.candidate, 0.0) for score in found.scores]
            assert totals[0] >= max(totals) - 1e-6


@given(cases)
def test_switches_come_first_and_then_the_nearest_amounts(case: Case) -> None:
    told = case.choose().explain().would_change
    kinds = [change.kind for change in told]
    assert kinds == sorted(kinds, reverse=True)
    efforts = [abs(float(c.then or 0) - float(c.now or 0)) for c in told if c.name in {"capability", "performance"}]
    assert efforts == sorted(efforts)


def numbers_in(text: str, case: Case) -> set[str]:
    for one in case.views:
        text = text.replace(one.info.name, "")
    return set(re.findall(r"\d+(?:\.\d+)?", text))


def check_numbers(case: Case) -> str:
    found = case.choose()
    if found.scores:
        tables = str(found.explain()).replace(found.reasoning, "")
        assert numbers_in(found.reasoning, case) <= numbers_in(tables, case)
    return found.reasoning


@given(cases)
def test_the_sentence_names_no_number_that_is_not_explained(case: Case) -> None:
    check_numbers(case)


SEEN = [("a", OutcomeKind.OK, 8.765), ("b", OutcomeKind.OK, 1.234), ("b", OutcomeKind.OK, 2.345)]
FAILED = [("a", OutcomeKind.OK, None), ("b", OutcomeKind.FAILED, None)]


@pytest.mark.parametrize(
    ("case", "decided"),
    [
        (Case([view("a:8b", 0.678), view("b:8b", 0.567)]), "capability"),
        (Case([view("a:8b"), view("b:8b")], history=history_of(SEEN * 40)), "quality"),
        (Case([view("a:8b"), view("b:8b")], history=history_of(FAILED)), "success"),
        (Case([view("a:8b"), view("b:8b", resident=False)]), "to load it"),
        (Case([view("a:8b"), view("b:8b", in_flight=3)]), "until it is free"),
        (Case([view("a:8b"), view("b:8b", recent_success=0.85)]), "health"),
        (Case([view("a:8b"), view("b:8b")]), "scores as much as"),
        (Case([view("a:8b", 0.499), view("b:8b")], preferred="a:8b", margin=0.034), "which counts 0.034"),
    ],
)
def test_whatever_decided_its_numbers_are_explained(case: Case, decided: str) -> None:
    assert decided in check_numbers(case)


@given(cases)
def test_what_is_explained_is_plain_json_and_the_same_each_time(case: Case) -> None:
    found = case.choose()
    told = found.explain().to_dict()
    assert json.loads(json.dumps(told)) == told
    assert found.explain() == found.explain()
    if found.scores:
        assert pickle.loads(pickle.dumps(found)).explain().to_dict() == told  # noqa: S301 (our own)
        assert copy.deepcopy(found).explain().to_dict() == told


# What a person reads


def test_what_would_have_sufficed_is_told_to_the_next_step() -> None:
    explanation = explained(view("a:8b", 0.6), view("b:8b", 0.5))
    needed = (explanation.margin or 0) / 0.4
    more, less = math.ceil((0.5 + needed) * 1000) / 1000, math.floor((0.6 - needed) * 1000) / 1000
    assert {change.words() for change in changes(explanation, "capability")} == {
        f"capability of b:8b at {more:.3f} or more (now 0.500)",
        f"capability of a:8b at {less:.3f} or less (now 0.600)",
    }


@pytest.mark.parametrize(
    ("best", "rival", "wishes", "name", "words"),
    [
        (view("a:8b", resident=True), view("b:8b", 0.501, resident=False), {}, "resident", "b:8b in memory"),
        (view("a:8b", resident=True), view("b:8b", 0.499, resident=True), {}, "resident", "a:8b not in memory"),
        (view("a:8b"), view("b:8b", 0.51, in_flight=2), {}, "wait", "b:8b idle"),
        (view("a:8b"), view("b:8b", 0.49), {}, "circuit", "circuit of a:8b half open (now closed)"),
        (view("a:8b"), view("b:8b", 0.51, circuit=HALF_OPEN), {}, "circuit", "circuit of b:8b closed (now half open)"),
        (view("a:8b"), view("b:8b", 0.49), {}, "preferred", "b:8b the preferred model (now none)"),
        (view("a:8b", 0.49), view("b:8b"), {"preferred": "a:8b"}, "preferred", "no preferred model (now a:8b)"),
        (view("a:8b", 0.49), view("b:8b"), {"preferred": "a:8b"}, "margin", "margin at 0.006 or less (now 0.050)"),
        (
            view("a:8b", 0.49),
            view("b:8b"),
            {"sticky": Candidate("a:8b", "")},
            "sticky",
            "a conversation that nobody is answering (now a:8b)",
        ),
        (
            view("a:8b", 0.1),
            view("b:8b"),
            {"leading": {TaskType.CODING: ["a:8b"]}},
            "leading",
            "no model that leads for this task (now a:8b)",
        ),
        (view("a:8b", 0.1), view("b:8b"), {"first": ["a:8b"]}, "first", "no model that was asked for first (now a:8b)"),
        (view("a:70b", 0.9, parameters=70.0), view("b:1b", 0.6, parameters=1.0), {}, "prefer", "prefer=speed"),
        (view("a:8b", 0.9), view("b:8b", 0.1), {}, "weights.health", ""),
    ],
)
def test_each_sort_of_change(best: ModelView, rival: ModelView, wishes: dict[str, Any], name: str, words: str) -> None:
    explanation = explained(best, rival, **wishes)
    assert explanation.totals[0][0] == best.info.candidate
    told = changes(explanation, name)
    if not words:
        assert told == []
    else:
        assert any(words in change.words() for change in told)
        assert all(change.chosen == rival.info.candidate for change in told)


def test_a_weight_that_would_have_sufficed_is_told_with_the_others_in_proportion() -> None:
    explanation = explained(view("a:8b", 0.6), view("b:8b", 0.5, recent_success=1.0), view("c:8b", 0.4))
    assert changes(explanation, "weights.capability") == []
    shaky = explained(view("a:8b", 0.9, recent_success=0.5), view("b:8b", 0.5))
    (weight,) = changes(shaky, "weights.health")
    assert weight.words().startswith("weight of health at 0.")
    assert weight.words().endswith("or more (now 0.200), the others in proportion")


def test_where_an_order_was_asked_for_no_figure_would_have_changed_it() -> None:
    explanation = explained(view("a:8b", 0.1), view("b:8b", 0.9), first=["a:8b"])
    assert explanation.margin is not None
    assert explanation.margin < 0
    assert [change.name for change in explanation.would_change] == ["first"]


def test_a_sole_model_has_no_margin_and_nothing_to_change() -> None:
    explanation = explained(view("a:8b"), view("b:8b", circuit=OPEN))
    assert (explanation.margin, explanation.would_change) == (None, ())
    assert [(gate.outcome, gate.gate) for gate in explanation.gates] == [("passed", ""), ("refused", "circuit")]


def test_in_a_panic_the_gates_that_were_overlooked_are_told() -> None:
    explanation = explained(view("a:8b", circuit=OPEN), view("b:8b", reachable=False))
    assert {(gate.candidate.model, gate.outcome, gate.gate) for gate in explanation.gates} == {
        ("a:8b", "waived", "circuit"),
        ("b:8b", "waived", "reachable"),
    }


def test_nobody_can_serve_and_that_is_explained_too() -> None:
    explanation = explained(view("a:8b"), task=replace(CODING, needs=Needs(vision=True)))
    assert (explanation.components, explanation.margin) == ((), None)
    assert "does not support vision" in str(explanation)


def test_evidence_tells_observations_from_what_is_taken_for_granted() -> None:
    history = history_of([("a", OutcomeKind.OK, 9.0), ("a", OutcomeKind.OK, None), ("a", OutcomeKind.FAILED, None)])
    explanation = Case([view("a:8b"), view("b:8b")], history=history).choose().explain()
    found = {(each.candidate.model, each.name): each for each in explanation.evidence}
    assert found["b:8b", "quality"].basis == "prior"
    assert found["b:8b", "quality"].observations == 0
    assert f"counts as {MARKS_OF_UNMEASURED} judgements" in found["b:8b", "quality"].source
    assert found["a:8b", "quality"].basis == "prior and own"
    assert found["a:8b", "quality"].observations == 1
    assert 2.9 < found["a:8b", "success"].observations < 3
    assert found["a:8b", "writing"].basis == "prior and own"
    assert found["b:8b", "writing"].basis == "prior"


def test_capabilities_from_the_configuration_are_said_to_be() -> None:
    config = {"model_capabilities": {"llama3.1:8b": {"code_generation": 0.9}, "gemma2": ["reasoning"]}}
    with Router.from_models(["llama3.1:8b", "gemma2", "phi3:mini"], config=config) as router:
        explanation = router.recommend_model("Write a function").explain()
    basis = {e.candidate.model: (e.basis, e.source) for e in explanation.evidence if e.name == "capability"}
    assert basis["llama3.1:8b"][0] == basis["gemma2:latest"][0] == "configured"
    assert "code_generation" in basis["llama3.1:8b"][1]
    assert basis["phi3:mini"][0] == "prior"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("llama3.1:8b", "shipped prior, measured: others ran it in "),
        ("me/llama3.1-pirate:8b", "shipped prior, sibling: "),
        ("some-model:7b", "shipped prior, curve: "),
        ("some-model", "shipped prior, unknown: "),
        (f"x:{'9' * 400}b", "shipped prior, "),
    ],
)
def test_a_prior_tells_the_grade_of_its_evidence(name: str, words: str) -> None:
    with Router.from_models([name]) as router:
        explanation = router.recommend_model("Hello").explain()
    (source,) = [each.source for each in explanation.evidence if each.name == "capability"]
    assert source.startswith(words)


def test_the_whole_of_it_as_text() -> None:
    explanation = explained(view("a:8b", 0.6), view("b:8b", 0.5), view("c:8b", circuit=OPEN))
    text = str(explanation)
    assert text.startswith(explanation.reasoning)
    for heading in ("Gates", "Score", "Evidence", "What would have changed the choice"):
        assert f"\n{heading}\n" in text
    first, second = (f"{total:.3f}" for _, total in explanation.totals)
    assert f"Margin: {first} - {second} = {explanation.margin:.3f} ahead of b:8b." in text
    assert "0.70 x 0.60 code_generation + 0.30 x 0.60 accuracy" in text


def test_mathematics_is_shown_in_the_place_of_the_reasoning_that_it_takes() -> None:
    weights = {ModelCapability.REASONING: 0.8, ModelCapability.ACCURACY: 0.2}
    task = replace(CODING, capabilities=weights, mathematics=0.75)
    calculating = view("a:8b", 0.5)
    calculating = calculating._replace(info=replace(calculating.info, mathematics=0.9))
    found = Case([calculating, view("b:8b", 0.6)], task).choose()
    explained = found.explain()
    (source,) = [c.source for c in explained.components if (c.candidate.model, c.name) == ("a:8b", "capability")]
    parts = dict(part.split(" x ")[::-1] for part in source.split(" + "))
    assert parts == {"0.50 reasoning": "0.20", "0.50 accuracy": "0.20", "0.90 mathematics": "0.60"}
    assert sum(float(weight) * float(said.split()[0]) for said, weight in parts.items()) == pytest.approx(0.74)
    assert found.scores[0].capability == pytest.approx(0.74)
    assert explained.to_dict()["task"]["mathematics"] == 0.75


def test_hosts_are_told_apart_where_there_are_several() -> None:
    text = str(explained(view("a:8b", 0.6), view("a:8b", 0.5, host="http://two")))
    assert "a:8b at http://one" in text
    assert "a:8b at http://two" in text


# What it must not do


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_nothing_in_it_steers_a_terminal_or_a_page() -> None:
    explanation = explained(view(HOSTILE, 0.6), view("b:8b", 0.5, host=HOSTILE), preferred=HOSTILE)
    assert not {"\x1b", "\u202e"} & set(str(explanation))
    page = Page(explanation._repr_html_())
    assert page.tags == {"p", "table", "caption", "tr", "th", "td"}
    assert not {"\x1b", "\u202e"} & set(page.text)
    assert "color:" not in explanation._repr_html_()


def test_no_word_of_a_prompt_is_in_it() -> None:
    with Router.from_models(["llama3.1:8b", "gemma2:9b"]) as router:
        found = router.recommend_model([Message("user", "Zanzibarquux: write a function")], preferred="gemma2:9b")
    told = [repr(found), str(found.explain()), json.dumps(found.explain().to_dict()), pickle.dumps(found).decode("l1")]
    assert not any("anzibarqu" in each for each in told)


def test_it_needs_no_router_any_more() -> None:
    with Router.from_models(["llama3.1:8b", "gemma2:9b"]) as router:
        found = router.recommend_model("Hello")
        before = found.explain().to_dict()
        router.record_performance("llama3.1:8b", response_time=1.0, quality_score=1.0)
    del router
    assert found.explain().to_dict() == before
    assert hash(found) == hash(copy.copy(found))


def test_it_cannot_be_changed() -> None:
    explanation = explained(view("a:8b"))
    with pytest.raises(FrozenInstanceError):
        explanation.margin = 1.0  # type: ignore[misc]


def test_a_ranking_that_nobody_scored_cannot_be_explained() -> None:
    by_hand = Recommendation("r", CODING, (ModelScore(Candidate("a:8b", ""), 0.5, 0.5, 0.5, 0.5),))
    with pytest.raises(ValueError, match="not scored"):
        by_hand.explain()


# Where it is asked for


def test_the_command_line_tells_all_that_a_choice_rests_on(ollama_server, capsys) -> None:
    server = ollama_server(
        models=["llama3.2:1b", "qwen2.5-coder:7b", ScriptedModel("bge-m3", capabilities=["embedding"])]
    )
    asked = ["recommend", "Write a Python function that sorts a list", "--host", server.url, "--explain"]
    assert main(asked) == 0
    shown = capsys.readouterr().out
    for words in ("cannot chat", "Score", "Evidence", "prior by its", "What would have changed the choice"):
        assert words in shown
    assert main([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["explanation"]["reasoning"] == told["reason"]
    gates = {gate["model"]: gate["outcome"] for gate in told["explanation"]["gates"]}
    assert gates == {"llama3.2:1b": "passed", "qwen2.5-coder:7b": "passed", "bge-m3:latest": "refused"}
    assert main([*asked[:-1], "--json"]) == 0
    assert "explanation" not in json.loads(capsys.readouterr().out)
