"""All that a choice rests on, as a table that a person can check. Pure: worked out from the recommendation alone.

Every number has its source beside it: what it was calculated from, and whether that was observed or taken for granted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from routed_ollama._counterfactuals import FORMATS, Counterfactual, counterfactuals
from routed_ollama._reasoning import share
from routed_ollama._tables import Table, as_html, as_text
from routed_ollama._weights import weights_of
from routed_ollama.catalog import folded
from routed_ollama.performance import PRIOR_SUCCESS, PRIOR_SUCCESS_WEIGHT, prior_judgements
from routed_ollama.priors import Grade, evidence_of
from routed_ollama.scoring import HEALTH, Pace, ScoringSettings, needed, pace_of
from routed_ollama.types import (
    Candidate,
    Grounds,
    ModelCapability,
    ModelInfo,
    ModelScore,
    Prediction,
    Recommendation,
    TaskCharacteristics,
)

_NO_SIZE: Final = re.compile(r"\d{10,}")
"""Digits that are the size of nothing, as the catalog reads names."""
_GRADES: Final[Mapping[Grade, str]] = {
    "measured": "others ran it in {}",
    "sparse": "others ran it in {} alone",
    "reported": "its maker's own figures in {}",
    "sibling": "what others of its family do",
    "curve": "what models of its size, date and lineage do",
    "unknown": "its name tells nothing of it",
}


class Gate(NamedTuple):
    """What became of a model before any score."""

    candidate: Candidate
    outcome: str
    """``passed``, ``refused``, or ``waived``: closed for its health alone, and ranked all the same in a panic."""
    gate: str = ""
    """Which gate closed."""
    reason: str = ""


class Component(NamedTuple):
    """A part of a model's score. The contributions of a model's parts sum to its total."""

    candidate: Candidate
    name: str
    value: float
    weight: float
    contribution: float
    source: str
    """What the value was calculated from."""


class Evidence(NamedTuple):
    """What stands behind a figure."""

    candidate: Candidate
    name: str
    value: float
    unit: str
    """``share`` (0..1), ``percent`` (a share, shown as such), ``of 10``, or ``s``."""
    basis: str
    """``prior``, ``configured``, ``prior and own`` (observations of this model), or ``now`` (its state just then)."""
    observations: float | None
    """How many of its own there are, faded as they grow old; None where nothing is counted."""
    source: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a recommendation is what it is. ``str()`` gives it as text, a notebook shows it as tables.

    Attributes:
        request_id: of the recommendation.
        reasoning: the choice in a sentence.
        task: what the analysis of the prompt found.
        settings: weights and wishes.
        pace: how quality and time are mixed for this request.
        gates: what became of each model before any score.
        components: of each model that was scored, best first, the parts of its score.
        evidence: of each, what its figures rest on.
        totals: each model's score, best first.
        margin: how far the chosen model is ahead of the runner-up; below 0 where an order that was asked for decided,
            None where there is no runner-up.
        would_change: each single change that would have led to another choice: switches, then amounts, nearest first.
    """

    request_id: str
    reasoning: str
    task: TaskCharacteristics
    settings: ScoringSettings
    pace: Pace
    gates: tuple[Gate, ...]
    components: tuple[Component, ...]
    evidence: tuple[Evidence, ...]
    totals: tuple[tuple[Candidate, float], ...]
    margin: float | None
    would_change: tuple[Counterfactual, ...]

    def __str__(self) -> str:
        return as_text(self._lines(), self._tables())

    def _repr_html_(self) -> str:
        """Show it as tables in a notebook."""
        return as_html(self._lines(), self._tables())

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        settings, task = self.settings, self.task
        return {
            "request_id": self.request_id,
            "reasoning": self.reasoning,
            "task": {
                "task_type": task.task_type.value,
                "confidence": task.confidence,
                "complexity": task.complexity.value,
                "prompt_tokens": task.prompt_tokens,
                "output_tokens": task.output_tokens,
                "needs": list(needed(task)),
                "capabilities": {capability.value: weight for capability, weight in task.capabilities.items()},
                "mathematics": task.mathematics,
            },
            "settings": {
                "weights": {name: getattr(settings, name) for name in ("capability", "performance", "health")},
                "prefer": settings.prefer,
                "margin": settings.margin,
                **{f"{name}_for_request": value for name, value in self.pace._asdict().items()},
            },
            "gates": list(map(_plain, self.gates)),
            "components": list(map(_plain, self.components)),
            "evidence": list(map(_plain, self.evidence)),
            "totals": [{**candidate._asdict(), "total": total} for candidate, total in self.totals],
            "margin": self.margin,
            "would_change": list(map(_plain, self.would_change)),
        }

    def _lines(self) -> Iterator[str]:
        task, settings, pace = self.task, self.settings, self.pace
        yield self.reasoning
        needs = ", ".join(needed(task)) or "nothing in particular"
        yield (
            f"Request: {task.task_type} (confidence {task.confidence:.2f}), {task.complexity} complexity, about "
            f"{task.prompt_tokens} tokens long, about {task.output_tokens} expected; needs {needs}."
        )
        yield (
            f"Preference: {settings.prefer}: performance = success x ({pace.share:.2f} x quality / 10 + "
            f"{1.0 - pace.share:.2f} x time); time = ({pace.patience:.1f} + {pace.fastest:.1f}) / "
            f"({pace.patience:.1f} + seconds)."
        )
        if pace.guess < 1.0:
            rest = f"as the {pace.usual:.1f} s that others were seen to take" if pace.usual else "as no time at all"
            yield f"Of reading and writing that nobody has timed {pace.guess:.2f} counts as guessed, the rest {rest}."
        if self.margin is not None:
            (_, first), (runner_up, second) = self.totals[:2]
            yield f"Margin: {share(first)} - {share(second)} = {share(self.margin)} ahead of {runner_up.model}."

    def _tables(self) -> Iterator[Table]:
        label = _labels(gate.candidate for gate in self.gates)
        gates = [[label(g.candidate), g.outcome, g.gate, g.reason] for g in self.gates]
        yield Table("Gates", ("model", "outcome", "gate", "reason"), gates)
        head = ("model", "part", "value", "weight", "contribution", "from")
        yield Table("Score", head, list(self._score_rows(label)), frozenset({"value", "weight", "contribution"}))
        behind = [
            [label(e.candidate), e.name, FORMATS[e.unit].format(e.value), e.basis, _counted(e.observations), e.source]
            for e in self.evidence
        ]
        numbers = frozenset({"value", "own observations"})
        yield Table("Evidence", ("model", "of", "value", "basis", "own observations", "from"), behind, numbers)
        changes = [[change.words(label), label(change.chosen)] for change in self.would_change]
        yield Table("What would have changed the choice", ("change", "chosen instead"), changes)

    def _score_rows(self, label: Callable[[Candidate], str]) -> Iterator[tuple[str, ...]]:
        for candidate, total in self.totals:
            for part in self.components:
                if part.candidate == candidate:
                    figures = map(share, (part.value, part.weight, part.contribution))
                    yield (label(candidate), part.name, *figures, part.source)
            yield label(candidate), "total", "", "", share(total), "the sum"


def _counted(observations: float | None) -> str:
    return "" if observations is None else f"{observations:.1f}"


def _labels(candidates: Iterable[Candidate]) -> Callable[[Candidate], str]:
    """Return what names a model in a table: with its host where there are several."""
    several = len({host for _, host in candidates}) > 1
    return lambda candidate: f"{candidate.model} at {candidate.host}" if several else candidate.model


def _plain(row: NamedTuple) -> dict[str, Any]:
    """Return a row as plain JSON values."""
    values = row._asdict()
    candidate = values.pop("candidate")
    plain = {"model": candidate.model, "host": candidate.host} if candidate else {"model": None, "host": None}
    if (chosen := values.pop("chosen", None)) is not None:
        values["chosen"] = chosen._asdict()
    return {**plain, **values}


def explain(recommendation: Recommendation) -> Explanation:
    """Return all that a recommendation rests on.

    Raises:
        ValueError: it was put together by hand, without the settings that it was scored with.
    """
    settings = recommendation.settings
    if settings is None:
        raise ValueError("This recommendation was not scored, so there is nothing to explain.")
    task, scores = recommendation.task, recommendation.scores
    waived = {refusal.candidate: refusal for refusal in recommendation.waived}
    passed = [Gate(score.candidate, "passed") for score in scores if score.candidate not in waived]
    return Explanation(
        request_id=recommendation.request_id,
        reasoning=recommendation.reasoning,
        task=task,
        settings=settings,
        pace=pace_of(settings, task, (s.prediction for s in scores if s.prediction is not None)),
        gates=(
            *passed,
            *(Gate(closed.candidate, "waived", closed.gate, closed.reason) for closed in recommendation.waived),
            *(Gate(closed.candidate, "refused", closed.gate, closed.reason) for closed in recommendation.refused),
        ),
        components=tuple(part for score in scores for part in _components(score, task, settings)),
        evidence=tuple(each for score in scores for each in _evidence(score, settings)),
        totals=tuple((score.candidate, score.total) for score in scores),
        margin=scores[0].total - scores[1].total if len(scores) > 1 else None,
        would_change=counterfactuals(scores, task, settings),
    )


def _components(score: ModelScore, task: TaskCharacteristics, settings: ScoringSettings) -> Iterator[Component]:
    sources = {
        "capability": _asked_and_able(score, task),
        "performance": _expected(score.prediction),
        "health": _health(score),
    }
    for name, source in sources.items():
        value, weight = getattr(score, name), getattr(settings, name)
        yield Component(score.candidate, name, value, weight, weight * value, source)
    if score.preference:
        source = f"{' and '.join(score.notes)}; {share(settings.margin)} each"
        yield Component(score.candidate, "preference", score.preference, 1.0, score.preference, source)


def _asked_and_able(score: ModelScore, task: TaskCharacteristics) -> str:
    """How much the task asks of each capability, by how much of it the model has, and what judgements have shown."""
    info, learnt = score.info, _learnt(score)
    if info is None:
        return "not known"
    named = zip((*ModelCapability, "mathematics"), weights_of(task), info.skills, strict=False)
    parts = [f"{weight:.2f} x {able:.2f} {name}" for name, weight, able in named if weight]
    asked = " + ".join(parts) or "the task asks for nothing in particular"
    return f"{asked}; {learnt:+.3f} by judgements of its answers" if learnt else asked


def _learnt(score: ModelScore) -> float:
    grounds = None if score.prediction is None else score.prediction.grounds
    return 0.0 if grounds is None else grounds.learnt


def _expected(prediction: Prediction | None) -> str:
    if prediction is None:
        return "not known"
    return (
        f"success {prediction.success_rate:.1%}, quality {prediction.quality:.2f} of 10, "
        f"time {prediction.seconds:.1f} s"
    )


def _health(score: ModelScore) -> str:
    factor = HEALTH[score.circuit]
    circuit = f"circuit {score.circuit.value.replace('_', ' ')}: {factor:.1f}"
    if not factor:
        return circuit
    seen = score.prediction is None or score.prediction.samples or score.health != factor
    return f"{circuit} x {score.health / factor:.1%} of its last requests went well" if seen else f"{circuit}, untried"


def _evidence(score: ModelScore, settings: ScoringSettings) -> Iterator[Evidence]:
    candidate, info, expected = score.candidate, score.info, score.prediction
    basis, source = _capability_basis(info, settings)
    grounds = (expected and expected.grounds) or Grounds(requests=0.0 if expected is None else expected.samples)
    learnt = grounds.learnt
    judged = grounds.judged if learnt else None
    basis = f"{basis} and own" if judged else basis
    yield Evidence(candidate, "capability", score.capability, "share", basis, judged, source)
    yield Evidence(candidate, "health", score.health, "share", "now", None, _health(score))
    if expected is None:
        return
    worth = "" if info is None else f", which counts as {prior_judgements(info)} judgements"
    prior = f"prior 10 x {share(score.capability - learnt)}{worth}, and how all models are judged at such tasks"
    yield _observed(candidate, "quality", expected.quality, "of 10", grounds.judged, prior)
    prior = f"prior {PRIOR_SUCCESS:.1%}, which counts as {PRIOR_SUCCESS_WEIGHT:g} observations"
    yield _observed(candidate, "success", expected.success_rate, "percent", grounds.requests, prior)
    parts = "the sum of waiting, loading, reading and writing"
    least = min(grounds.written, grounds.read)
    yield _observed(candidate, "time", expected.seconds, "s", least, parts)
    yield Evidence(candidate, "waiting", expected.wait, "s", "now", None, "requests that it is busy with")
    size = f"prior by its {info.size / 1e9:.1f} GB" if info and info.size else "prior for a size that is not known"
    if expected.load:
        yield _observed(candidate, "loading", expected.load, "s", grounds.loads, size)
    else:
        there = {True: "is in memory", False: "takes no time", None: "nobody can say whether it is in memory"}
        yield Evidence(candidate, "loading", expected.load, "s", "now", None, there[score.resident])
    size = (
        f"prior by its {info.parameters:g} billion parameters and the speed of its host"
        if info and info.parameters
        else "prior for a size that is not known"
    )
    yield _observed(candidate, "reading", expected.prompt, "s", grounds.read, size)
    yield _observed(candidate, "writing", expected.output, "s", grounds.written, size)


def _observed(candidate: Candidate, name: str, value: float, unit: str, own: float, source: str) -> Evidence:
    return Evidence(candidate, name, value, unit, "prior and own" if own else "prior", own, source)


def _capability_basis(info: ModelInfo | None, settings: ScoringSettings) -> tuple[str, str]:
    if info is None:
        return "prior", "not known"
    name = folded(info.name)
    configured = next((said for other, said in settings.configured.items() if folded(other) == name), None)
    if not configured:
        return "prior", _prior_of(info)
    names = ", ".join(configured)
    if len(configured) == len(ModelCapability):
        return "configured", f"model_capabilities: {names}"
    return "configured", f"model_capabilities: {names}; the others: {_prior_of(info)}"


def _prior_of(info: ModelInfo) -> str:
    """What the shipped numbers for a model rest on: the grade of their evidence, in words."""
    found = evidence_of(_NO_SIZE.sub("", info.name), family=info.family, parameters=info.parameters)
    count = found.independent or found.maker
    return f"shipped prior, {found.grade}: {_GRADES[found.grade].format(_benchmarks(count))}"


def _benchmarks(count: int) -> str:
    return f"{count} benchmark{'s' * (count != 1)}"
