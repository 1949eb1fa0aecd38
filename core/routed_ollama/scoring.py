"""Which model is best for a request now: hard gates first, then the score, each with its reason. Pure.

Score = 40 % capability + 40 % performance + 20 % health (shares are configurable), plus what is preferred.

- Capability: what the task asks for, by what the model is good at (priors, configuration, and what judgements of its
  answers have shown beyond doubt).
- Performance: the prediction for this very request: success rate x (quality and time, mixed as preferred).
- Health: the circuit and the recent record. It can only order models that may be asked: a dead one is gated before.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter, mul
from typing import Final, NamedTuple

from routed_ollama._exploring import tried
from routed_ollama._frozen import FrozenDict
from routed_ollama._gates import ESTIMATE_SLACK, HEALTH_GATES, ModelView, doubtful, gate, lacking, needed, standing_bar
from routed_ollama._reasoning import ANSWERING, AS_ASKED, EXPLORED, PREFERRED, no_model_reason, sentence
from routed_ollama._weights import weights_of
from routed_ollama.catalog import folded
from routed_ollama.performance import PRIOR_RATE_WEIGHT, PerformanceHistory
from routed_ollama.types import (
    Candidate,
    CircuitState,
    ModelCapability,
    ModelScore,
    Prediction,
    Prefer,
    Recommendation,
    Refusal,
    TaskCharacteristics,
    TaskType,
)

__all__ = (
    "HEALTH",
    "TIE",
    "ModelView",
    "Pace",
    "ScoringSettings",
    "gate",
    "needed",
    "pace_of",
    "performances",
    "rank_again",
    "score_models",
    "standing_bar",
)

_PATIENCE: Final[Mapping[Prefer, float]] = {"speed": 4.0, "balanced": 15.0, "quality": 60.0}
"""Seconds after which an answer is worth half as much in time; counted from the fastest where speed is preferred."""
_QUALITY_SHARE: Final[Mapping[Prefer, float]] = {"speed": 0.25, "balanced": 0.55, "quality": 0.85}
_GUESS: Final[Mapping[Prefer, float]] = {"speed": 1.0, "balanced": 0.1, "quality": 0.0}
"""How far a time counts that nobody has seen. It is guessed from a model's size, for a machine that nobody knows: full
where speed is what is wanted; for the better answer nothing; between, it decides between models that are about equal:
even a guess of minutes against one of seconds is made up for by two hundredths of capability."""
TIE: Final = 1e-9
"""Scores nearer than this are taken to be equal: what comes first then is no matter of the figures."""
HEALTH: Final = {CircuitState.CLOSED: 1.0, CircuitState.HALF_OPEN: 0.5, CircuitState.OPEN: 0.0}


@dataclass(frozen=True, slots=True)
class ScoringSettings:
    """What a user wants of the choice.

    Attributes:
        capability, performance, health: shares; they sum to 1.
        prefer: the better answer, the faster one, or a mix.
        margin: what a preferred model is given on top, and so how much better another must be.
        leading: models that lead for a task type, in their order.
        preferred: the model that a user named as usual.
        sticky: the model that is answering the conversation.
        first: models that come first, always (named for this call; a conversation with tool calls).
        configured: what the configuration says models are good at, by name; a part of their capabilities already.
        explore: whether another model than the best may be tried, to learn how good it is.
        explored: the model that is tried.
    """

    capability: float = 0.4
    performance: float = 0.4
    health: float = 0.2
    prefer: Prefer = "balanced"
    margin: float = 0.05
    leading: Mapping[TaskType, Sequence[str]] = field(default_factory=FrozenDict)
    preferred: str | None = None
    sticky: Candidate | None = None
    first: Sequence[str] = ()
    configured: Mapping[str, Mapping[ModelCapability, float]] = field(default_factory=FrozenDict)
    explore: bool = False
    explored: Candidate | None = None


class Pace(NamedTuple):
    """How quality and time are mixed for one request."""

    share: float
    """What quality counts, 0..1; time counts the rest."""
    patience: float
    """Seconds after which an answer is worth half as much in time."""
    fastest: float
    """Seconds from which they are counted."""
    guess: float = 1.0
    """How far a time counts that was not observed, 0..1; the rest is taken to be as usual."""
    usual: float = 0.0
    """Seconds that reading and writing take those models whose times were observed; 0 before any was."""


def _scored(
    views: Sequence[ModelView], task: TaskCharacteristics, settings: ScoringSettings, history: PerformanceHistory
) -> list[ModelScore]:
    """Return each model's score for a request. The parts are 0..1 each; preferences come on top."""
    weights = weights_of(task)
    known, expected = [], []
    for view in views:
        info, resident, in_flight, circuit, recent, *_ = view
        prior = sum(map(mul, weights, info.skills))
        health = recent if circuit is CircuitState.CLOSED else HEALTH[circuit] * recent  # hashing an enum takes time
        prediction = history.predict(info, task, resident=resident, in_flight=in_flight, prior=prior)
        learnt = prediction.grounds.learnt if prediction.grounds is not None else 0.0
        known.append((info, resident, circuit, health, min(max(prior + learnt, 0.0), 1.0) if learnt else prior))
        expected.append(prediction)
    able, quick, well = settings.capability, settings.performance, settings.health
    bonus, notes = _NO_PREFERENCE
    plain = settings.preferred is None and settings.sticky is None
    scores = []
    worth = performances(expected, pace_of(settings, task, expected))
    for (info, resident, circuit, health, capability), prediction, performance in zip(
        known, expected, worth, strict=True
    ):
        total = able * capability + quick * performance + well * health
        candidate = info.candidate
        if not plain:
            bonus, notes = _preference(candidate, settings)
        scores.append(
            ModelScore(
                candidate,
                total + bonus,
                capability,
                performance,
                health,
                bonus,
                prediction,
                resident,
                notes,
                info,
                circuit,
            )
        )
    return scores


def pace_of(settings: ScoringSettings, task: TaskCharacteristics, expected: Iterable[Prediction]) -> Pace:
    """Return how quality and time are mixed for a request.

    Args:
        settings: what is preferred.
        task: how much a quick answer matters.
        expected: of each model.
    """
    prefer = settings.prefer
    share, patience, guess = _QUALITY_SHARE[prefer], _PATIENCE[prefer] * (1.5 - task.speed), _GUESS[prefer]
    if prefer == "speed":
        # Who wants speed wants the faster of two slow models, too; else minutes of difference could count for nothing.
        return Pace(share, patience, min((each.seconds for each in expected), default=0.0), guess)
    seen = took = 0.0
    for each in expected:
        if each.grounds is not None and each.grounds.written:
            observed = _observed(each.grounds.written)
            seen += observed
            took += observed * (each.prompt + each.output)
    return Pace(share, patience, 0.0, guess, took / seen if seen else 0.0)


def _observed(answers: float) -> float:
    return answers / (answers + PRIOR_RATE_WEIGHT)


def performances(expected: Iterable[Prediction], pace: Pace) -> list[float]:
    """Return the performance part of each model's score, 0..1, from what is expected of it.

    Observed times count in full. Of a time that is a guess, ``pace.guess`` counts as it is; for the rest the model is
    taken to be as fast as those that were observed, so that it is neither preferred nor avoided for a guess. What it
    must wait for, and that it must be loaded, is known and counts in either case.
    """
    share, patience, fastest, guess, usual = pace
    rest, best, unseen = 1.0 - share, patience + fastest, 1.0 - guess
    found = []
    for each in expected:
        time_score = best / (patience + each.seconds)
        if unseen:
            grounds = each.grounds
            unsure = unseen if grounds is None else unseen * (1.0 - _observed(grounds.written))
            time_score += unsure * (best / (patience + usual + each.wait + each.load) - time_score)
        found.append(each.success_rate * (share * each.quality / 10.0 + rest * time_score))
    return found


_NO_PREFERENCE: Final[tuple[float, tuple[str, ...]]] = (0.0, ())


def _preference(candidate: Candidate, settings: ScoringSettings) -> tuple[float, tuple[str, ...]]:
    name, host = candidate
    bonus, notes = _NO_PREFERENCE
    if settings.preferred == name:
        bonus, notes = settings.margin, (PREFERRED,)
    sticky = settings.sticky
    if sticky is not None and sticky.model == name and sticky.host in {"", host}:
        bonus, notes = bonus + settings.margin, (*notes, ANSWERING)
    return bonus, notes


def score_models(
    views: Iterable[ModelView],
    task: TaskCharacteristics,
    settings: ScoringSettings,
    history: PerformanceHistory,
    *,
    request_id: str = "",
    began: float | None = None,
) -> Recommendation:
    """Rank the models for a request: those that cannot serve are refused with a reason, the others scored.

    When every model that could serve is refused for its health alone, all of those are ranked after all (panic mode).

    Args:
        views: the models as they are.
        task: the request.
        settings: what the user wants of the choice.
        history: what to expect of each.
        request_id: put into the result.
        began: ``time.perf_counter()`` at the beginning of the decision, of which this is the end.

    Example:
        >>> from routed_ollama.catalog import Catalog
        >>> infos = Catalog.of_names(["llama3.1:8b"]).find("llama3.1:8b")
        >>> score_models(map(ModelView, infos), TaskCharacteristics(), ScoringSettings(), PerformanceHistory()).model
        'llama3.1:8b'
    """
    resting: list[tuple[ModelView, Refusal]] = []
    able: list[ModelView] = []
    flags = needed(task)
    views, refused = doubtful(views, flags, settings.first)
    tokens = task.prompt_tokens / ESTIMATE_SLACK
    for view in views:
        info, _, _, circuit, _, _, reachable, barred = view
        fine = (  # the usual case, without a call: this runs for every model at every decision
            barred is None
            and reachable
            and circuit is CircuitState.CLOSED
            and (not info.context_length or tokens <= info.context_length)
            and (not flags or not info.flags_known or not lacking(info, flags))
        )
        refusal = None if fine else gate(view, task)
        if refusal is None:
            able.append(view)
        elif refusal.gate in HEALTH_GATES:
            resting.append((view, refusal))
        else:
            refused.append(refusal)
    unwell = tuple(refusal for _, refusal in resting)
    panic = not able and bool(resting)
    if panic:
        able = [view for view, _ in resting]
    else:
        refused.extend(unwell)
    ranked = _ranked(_scored(able, task, settings, history), task.task_type, settings)
    wanted = settings.first or settings.leading.get(task.task_type) or settings.preferred or settings.sticky
    if settings.explore and ranked and not panic and not wanted:
        settings = replace(settings, explored=tried(ranked, task, history))
        ranked = _ranked(list(ranked), task.task_type, settings)
    return Recommendation(
        request_id=request_id,
        task=task,
        scores=ranked,
        refused=tuple(refused),
        panic=panic,
        reason=_reason(ranked, refused, task, settings, panic=panic),
        decision_seconds=0.0 if began is None else time.perf_counter() - began,
        settings=settings,
        waived=unwell if panic else (),
    )


def rank_again(scores: Iterable[ModelScore], task_type: TaskType, settings: ScoringSettings) -> tuple[ModelScore, ...]:
    """Rank models anew by the parts of their scores: under other settings, or with a part that is another.

    Among equals those that come first in ``scores`` do so in the result.

    Args:
        scores: capability, performance, health and circuit of each; what else they hold is worked out anew.
        task_type: what the request asks for.
        settings: what the user wants of the choice.
    """
    anew = []
    for score in scores:
        _, _, capability, performance, health = score[:5]
        total = settings.capability * capability + settings.performance * performance + settings.health * health
        bonus, notes = _preference(score.candidate, settings)
        anew.append(score._replace(total=total + bonus, preference=bonus, notes=notes))
    return _ranked(anew, task_type, settings)


def _ranked(scores: list[ModelScore], task_type: TaskType, settings: ScoringSettings) -> tuple[ModelScore, ...]:
    scores.sort(key=attrgetter("total"), reverse=True)
    leading = settings.leading.get(task_type, ())
    if leading:
        order = {folded(name): place for place, name in enumerate(leading)}
        last = len(order)
        closed = CircuitState.CLOSED
        scores.sort(key=lambda s: order.get(s.candidate.model.lower(), last) if s.circuit is closed else last)
        well = {score.candidate.model for score in scores if score.circuit is closed}
        _note(scores, f"leads for {task_type.value}", {name for name in well if name.lower() in order})
    if settings.first:
        first = {name: place for place, name in enumerate(settings.first)}
        scores.sort(key=lambda s: first.get(s.candidate.model, len(first)))
        answering = settings.sticky.model if settings.sticky is not None else None  # its score says so already
        _note(scores, AS_ASKED, first.keys() - {answering})
    if settings.explored is not None:
        scores.sort(key=lambda s: s.candidate != settings.explored)
        _note(scores, EXPLORED, {settings.explored.model})
    return tuple(scores)


def _note(scores: list[ModelScore], why: str, names: Container[str]) -> None:
    """Say of the first, if it is one of those names, why it is the first."""
    if scores and scores[0].candidate.model in names:
        scores[0] = scores[0]._replace(notes=(*scores[0].notes, why))


def _reason(
    ranked: Sequence[ModelScore],
    refused: Sequence[Refusal],
    task: TaskCharacteristics,
    settings: ScoringSettings,
    *,
    panic: bool,
) -> str:
    if not ranked:
        return no_model_reason(refused)
    decisive = "sole" if len(ranked) == 1 else _decisive(ranked, task, settings)
    return sentence(ranked, task, decisive, panic=panic)


def _decisive(ranked: Sequence[ModelScore], task: TaskCharacteristics, settings: ScoringSettings) -> str:
    """Name what put the first before the second: an order that was asked for, a preference, or a part of the score."""
    best = ranked[0]
    leading = settings.leading.get(task.task_type)
    for name, asked_for in (
        ("explored", best.candidate == settings.explored),
        ("first", best.candidate.model in settings.first),
        (
            "leading",
            leading and best.circuit is CircuitState.CLOSED and best.candidate.model.lower() in map(folded, leading),
        ),
    ):
        if asked_for:
            return name
    rival = ranked[1]
    if best.preference and best.total - best.preference <= rival.total + TIE:
        return "preference"
    if best.total == rival.total:
        return "order"
    able = settings.capability * (best.capability - rival.capability)
    quick = settings.performance * (best.performance - rival.performance)
    well = settings.health * (best.health - rival.health)
    if able >= quick and able >= well:
        learnt = _learnt(best) - _learnt(rival)
        return "quality" if learnt > best.capability - rival.capability - learnt else "capability"
    return "health" if well > quick else _of_performance(ranked, task, settings)


def _learnt(score: ModelScore) -> float:
    grounds = None if score.prediction is None else score.prediction.grounds
    return 0.0 if grounds is None else grounds.learnt


def _of_performance(ranked: Sequence[ModelScore], task: TaskCharacteristics, settings: ScoringSettings) -> str:
    """Name the expectation that counts most between the first and the second: which exchange would cost the most."""
    mine, other = ranked[0].prediction, ranked[1].prediction
    if mine is None or other is None:
        return "performance"
    pace = pace_of(settings, task, (s.prediction for s in ranked if s.prediction is not None))
    success, quality, seconds = mine.success_rate, mine.quality, mine.seconds
    wait, load, grounds = mine.wait, mine.load, mine.grounds
    by_quality, by_seconds, by_success = performances(
        (  # what else is predicted does not count, and replacing a field takes three times as long
            Prediction(seconds, wait, load, success_rate=success, quality=other.quality, grounds=grounds),
            Prediction(
                other.seconds, other.wait, other.load, success_rate=success, quality=quality, grounds=other.grounds
            ),
            Prediction(seconds, wait, load, success_rate=other.success_rate, quality=quality, grounds=grounds),
        ),
        pace,
    )
    if by_quality <= by_seconds and by_quality <= by_success:
        return "quality"
    return "seconds" if by_seconds <= by_success else "success"
