"""What would have changed a choice: every single change is tried by ranking again. Pure and exact, nothing is guessed.

Two sorts. A *switch* is a fact that might be otherwise: a model in memory, an idle one, another preference. An *amount*
is a figure that would have had to be higher or lower, all else being as it is: to the next step that suffices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from math import ceil, floor
from typing import Any, Final, Literal, NamedTuple, get_args

from routed_ollama._frozen import FrozenDict
from routed_ollama.catalog import folded
from routed_ollama.scoring import HEALTH, TIE, ScoringSettings, pace_of, performances, rank_again
from routed_ollama.types import (
    Candidate,
    CircuitState,
    ModelScore,
    Prediction,
    Prefer,
    TaskCharacteristics,
)

_HOUR: Final = 3600.0
_COMPONENTS: Final = ("capability", "performance", "health")


class _Range(NamedTuple):
    unit: str
    step: float
    highest: float


FORMATS: Final = {"share": "{:z.3f}", "percent": "{:.1%}", "of 10": "{:.2f}", "s": "{:.1f} s"}
"""How a figure of each unit is shown."""
_EXPECTED: Final[Mapping[str, _Range]] = {
    "quality": _Range("of 10", 0.01, 10.0),
    "success_rate": _Range("percent", 0.001, 1.0),
    "seconds": _Range("s", 0.1, _HOUR),
}
"""What is expected of a model; each from 0."""
_ABSENT: Final = (None, False, 0.0)
_SWITCHES: Final[Mapping[tuple[str, bool], str]] = {
    ("resident", False): "{model} in memory",
    ("resident", True): "{model} not in memory",
    ("wait", True): "{model} idle (now busy for {now:.1f} s)",
    ("circuit", False): "circuit of {model} {then} (now {now})",
    ("prefer", False): "prefer={then} (now {now})",
    ("preferred", False): "{then} the preferred model (now {now})",
    ("preferred", True): "no preferred model (now {now})",
    ("sticky", True): "a conversation that nobody is answering (now {now})",
    ("leading", True): "no model that leads for this task (now {now})",
    ("first", True): "no model that was asked for first (now {now})",
}
"""Each switch in words, and whether it is then off."""


class Counterfactual(NamedTuple):
    """A single change that would have led to another choice."""

    kind: Literal["switch", "amount"]
    name: str
    """What is changed: ``capability``, ``weights.health``, ``seconds``, ``resident``, ``prefer``, ..."""
    candidate: Candidate | None
    """The model whose figure it is; None for a setting."""
    now: float | str | bool | None
    then: float | str | bool | None
    """The value that suffices; of an amount, the nearest one in steps of what is shown."""
    chosen: Candidate
    """The model that would have been chosen."""

    def words(self, label: Callable[[Candidate], str] = lambda candidate: candidate.model) -> str:
        """Return the change in words.

        Args:
            label: what names a model.

        Example:
            >>> one, other = Candidate("a", ""), Candidate("b", "")
            >>> Counterfactual("amount", "capability", other, 0.5, 0.7, other).words()
            'capability of b at 0.700 or more (now 0.500)'
        """
        whose = "" if self.candidate is None else label(self.candidate)
        if self.kind == "switch":
            now, then = (str(value).replace("_", " ") if self.name == "circuit" else value for value in self[3:5])
            return _SWITCHES[self.name, self.then in _ABSENT].format(model=whose, now=now or "none", then=then)
        before, enough = float(self.now or 0.0), float(self.then or 0.0)
        form = FORMATS[_EXPECTED[self.name].unit if self.name in _EXPECTED else "share"]
        at = f"at {form.format(enough)} or {'more' if enough > before else 'less'} (now {form.format(before)})"
        name = self.name.replace("success_rate", "success").replace("seconds", "time")
        if name.startswith("weights."):
            return f"weight of {name.removeprefix('weights.')} {at}, the others in proportion"
        return f"{name} of {whose} {at}" if whose else f"{name} {at}"


class _Choice(NamedTuple):
    """What is ranked again."""

    scores: Sequence[ModelScore]
    task: TaskCharacteristics
    settings: ScoringSettings

    def instead(self) -> Candidate | None:
        """Return who comes first in place of the first of ``scores``; None when nobody clearly does."""
        task_type = self.task.task_type
        ranked = rank_again(self.scores, task_type, self.settings)
        won, chosen = ranked[0], self.scores[0].candidate
        if won.candidate == chosen:
            return None
        before = next(score.total for score in ranked if score.candidate == chosen)
        listed = set(map(folded, (*self.settings.first, *self.settings.leading.get(task_type, ()))))
        return won.candidate if won.total - before > TIE or won.candidate.model.lower() in listed else None

    def expecting(self, changed: Mapping[Candidate, Prediction], settings: ScoringSettings | None = None) -> _Choice:
        """Return it with other predictions, and every performance worked out anew."""
        settings = settings or self.settings
        scores = [score._replace(prediction=changed.get(score.candidate, score.prediction)) for score in self.scores]
        expected = {score.candidate: score.prediction for score in scores if score.prediction is not None}
        worth = performances(expected.values(), pace_of(settings, self.task, expected.values()))
        performance = dict(zip(expected, worth, strict=True))
        scores = [s._replace(performance=performance.get(s.candidate, s.performance)) for s in scores]
        return _Choice(scores, self.task, settings)

    def scoring(self, changed: ModelScore) -> _Choice:
        """Return it with another score of one model."""
        scores = [changed if score.candidate == changed.candidate else score for score in self.scores]
        return self._replace(scores=scores)

    def wanting(self, **changed: Any) -> _Choice:
        """Return it with other settings."""
        return self._replace(settings=replace(self.settings, **changed))


class _Dial(NamedTuple):
    """A figure that can be turned up to a limit, or down to one."""

    name: str
    candidate: Candidate | None
    now: float
    step: float
    limit: float
    turned: Callable[[float], _Choice]


def counterfactuals(
    scores: Sequence[ModelScore], task: TaskCharacteristics, settings: ScoringSettings
) -> tuple[Counterfactual, ...]:
    """Return every single change that would have led to another choice: switches, then amounts, the smallest first.

    Args:
        scores: the ranking, best first.
        task: the request.
        settings: what it was ranked with.
    """
    if len(scores) <= 1:
        return ()
    choice = _Choice(scores, task, settings)
    amounts = [found for dial in _dials(choice) if (found := _turned(dial)) is not None]
    amounts.sort(key=_effort)
    return (*_switches(choice), *amounts)


def _effort(found: Counterfactual) -> float:
    """How far a figure is from the one that suffices, by the range it may have; of seconds, by the longer time."""
    now, then = float(found.now or 0.0), float(found.then or 0.0)
    if found.name == "seconds":
        return abs(then - now) / max(now, then)
    return abs(then - now) / (_EXPECTED[found.name].highest if found.name in _EXPECTED else 1.0)


def _turned(dial: _Dial) -> Counterfactual | None:
    """Turn a figure to the first step that changes the choice; None when none does.

    The figures for which a choice stays are an interval, for every score is linear in its parts and weights and falls
    with time. So halving finds its end.
    """
    if dial.turned(dial.limit).instead() is None:
        return None
    up = dial.limit > dial.now
    stays = floor(dial.now / dial.step) if up else ceil(dial.now / dial.step)
    changes = round(dial.limit / dial.step)
    while abs(changes - stays) > 1:
        middle = (stays + changes) // 2
        if dial.turned(_at(middle, dial.step)).instead() is None:
            stays = middle
        else:
            changes = middle
    then = _at(changes, dial.step)
    chosen = dial.turned(then).instead()
    return None if chosen is None else Counterfactual("amount", dial.name, dial.candidate, dial.now, then, chosen)


def _at(number: int, step: float) -> float:
    return round(number * step, 3)


def _dials(choice: _Choice) -> Iterator[_Dial]:
    best, rival = choice.scores[:2]
    for score, goes_up in ((best, False), (rival, True)):
        yield from _components(choice, score, up=goes_up)
        if score.prediction is not None:
            yield from _expectations(choice, score.candidate, score.prediction, better=goes_up)
    for name in _COMPONENTS:
        now = getattr(choice.settings, name)
        for limit in (0.0, 1.0):
            yield _Dial(f"weights.{name}", None, now, 0.001, limit, lambda v, n=name: _weighing(choice, n, v))  # type: ignore[misc]
    if any(score.preference for score in choice.scores):
        for limit in (0.0, 1.0):
            yield _Dial("margin", None, choice.settings.margin, 0.001, limit, lambda v: choice.wanting(margin=v))


def _components(choice: _Choice, score: ModelScore, *, up: bool) -> Iterator[_Dial]:
    for name in _COMPONENTS:

        def turned(value: float, name: str = name) -> _Choice:
            changed: dict[str, Any] = {name: value}
            return choice.scoring(score._replace(**changed))

        yield _Dial(name, score.candidate, getattr(score, name), 0.001, 1.0 if up else 0.0, turned)


def _expectations(choice: _Choice, candidate: Candidate, expected: Prediction, *, better: bool) -> Iterator[_Dial]:
    for name, (_, step, highest) in _EXPECTED.items():

        def turned(value: float, name: str = name) -> _Choice:
            changed: dict[str, Any] = {name: value}
            return choice.expecting({candidate: expected._replace(**changed)})

        rises = better != (name == "seconds")
        now = getattr(expected, name)
        yield _Dial(name, candidate, now, step, max(highest, now) if rises else 0.0, turned)


def _weighing(choice: _Choice, name: str, value: float) -> _Choice:
    """Give one weight a value; the others share what is left in the proportion they have."""
    settings = choice.settings
    others = [other for other in _COMPONENTS if other != name]
    held = sum(getattr(settings, other) for other in others)
    shares = {other: getattr(settings, other) / held if held else 1.0 / len(others) for other in others}
    return choice.wanting(**{name: value}, **{other: (1.0 - value) * each for other, each in shares.items()})


def _switches(choice: _Choice) -> Iterator[Counterfactual]:
    for name, candidate, now, then, changed in chain(_memory(choice), _circuits(choice), _wishes(choice)):
        chosen = changed.instead()
        if chosen is not None:
            yield Counterfactual("switch", name, candidate, now, then, chosen)


_Switch = tuple[str, Candidate | None, float | str | bool | None, float | str | bool | None, _Choice]


def _memory(choice: _Choice) -> Iterator[_Switch]:
    """The chosen model out of memory, any other in memory, any other idle."""
    for score in choice.scores:
        expected = score.prediction
        if expected is None:
            continue
        chosen = score is choice.scores[0]
        if chosen and score.resident and expected.grounds is not None and not expected.load:
            loads = expected._replace(load=expected.grounds.load_seconds)
            yield "resident", score.candidate, True, False, choice.expecting({score.candidate: _summed(loads)})
        if not chosen and expected.load:
            there = _summed(expected._replace(load=0.0))
            yield "resident", score.candidate, False, True, choice.expecting({score.candidate: there})
        if not chosen and expected.wait:
            free = _summed(expected._replace(wait=0.0))
            yield "wait", score.candidate, expected.wait, 0.0, choice.expecting({score.candidate: free})


def _summed(expected: Prediction) -> Prediction:
    return expected._replace(seconds=expected.wait + expected.load + expected.prompt + expected.output)


def _circuits(choice: _Choice) -> Iterator[_Switch]:
    """The chosen model on trial after failures; any other that is on trial, well again."""
    closed, trial = CircuitState.CLOSED, CircuitState.HALF_OPEN
    for score in choice.scores:
        now = score.circuit
        then = trial if score is choice.scores[0] else closed
        if now is not then and CircuitState.OPEN is not now:
            changed = score._replace(circuit=then, health=HEALTH[then] * score.health / HEALTH[now])
            yield "circuit", score.candidate, now.value, then.value, choice.scoring(changed)


def _wishes(choice: _Choice) -> Iterator[_Switch]:
    """What the user or the configuration wants, otherwise: one wish at a time."""
    settings = choice.settings
    rival = choice.scores[1].candidate
    for prefer in _others(get_args(Prefer), settings.prefer):
        changed = choice.expecting({}, replace(settings, prefer=prefer))
        yield "prefer", None, settings.prefer, prefer, changed
    if settings.preferred is not None:
        yield "preferred", None, settings.preferred, None, choice.wanting(preferred=None)
    if settings.preferred != rival.model:
        yield "preferred", None, settings.preferred, rival.model, choice.wanting(preferred=rival.model)
    if settings.sticky is not None:
        yield "sticky", None, settings.sticky.model, None, choice.wanting(sticky=None)
    leading = settings.leading.get(choice.task.task_type, ())
    if leading:
        yield "leading", None, ", ".join(leading), None, choice.wanting(leading=FrozenDict())
    if settings.first:
        yield "first", None, ", ".join(settings.first), None, choice.wanting(first=())


def _others(all_of: Iterable[Prefer], this: Prefer) -> Iterator[Prefer]:
    return (each for each in all_of if each != this)
