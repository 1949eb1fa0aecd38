"""When another model than the best is tried, and which: bounded, and only where somebody judges what comes of it.

A model that is never asked is never known. So a small share of decisions may go to another one, if knowing it better is
worth what that costs (the knowledge gradient: Frazier, Powell and Dayanik 2008; over several marks at once as in
KG(*), Frazier and Powell 2010), and it is not much slower. What is worth most is a cold arm that is expected to be
nearly as good; one that is surely worse is worth nothing, and when all are known well enough nothing is tried.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import erf, exp, pi, sqrt
from typing import Final

from routed_ollama._learning import MARKS_OF_PRIOR, NOISE, Learnt
from routed_ollama.performance import PerformanceHistory
from routed_ollama.types import NO_NEEDS, Candidate, CircuitState, ModelScore, TaskCharacteristics

_HORIZON: Final = 3_000
"""Requests for which it is of use to know a model better: weeks of work with it, until the next one is installed. With
1,000 less is explored, and a wrong default is kept longer."""
_FAR: Final = 0.1
"""How much less often a model may be expected to answer, of 1, that is tried all the same."""
_SLOWER: Final = 3.0
"""How many times as long as the best it may be expected to take, loading included."""


class Explorer:
    """Says at which decisions another model than the best may be tried. The same sequence always gives the same.

    A decision is one only where a person has judged since the last: what nobody judges teaches nothing, so it is never
    explored.

    Args:
        share: of decisions, 0..1.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._chance = random.Random(0)  # noqa: S311 (no secret; the same in every run)
        self._seen = 0

    def due(self, marks: int) -> bool:
        """Return whether this decision may explore.

        Args:
            marks: that persons have given so far.
        """
        if not self._share or marks <= self._seen:
            return False
        self._seen = marks
        return self._chance.random() < self._share


def tried(ranked: Sequence[ModelScore], task: TaskCharacteristics, history: PerformanceHistory) -> Candidate | None:
    """Return the model that is most worth trying, of those that cost little time; None when none is."""
    best, *others = ranked
    if best.prediction is None:
        return None
    found, most, usual = None, 0.0, _expected(best, history.learnt(best.candidate, task.task_type))
    for score in others:
        info, expected = score.info, score.prediction
        if info is None or expected is None or expected.grounds is None or score.circuit is not CircuitState.CLOSED:
            continue
        able = info.flags_known or task.needs == NO_NEEDS
        answers = expected.success_rate >= best.prediction.success_rate - _FAR
        if able and answers and expected.seconds <= _SLOWER * best.prediction.seconds:
            learnt = history.learnt(score.candidate, task.task_type)
            worth = worth_trying(_expected(score, learnt) - usual, learnt.error)
            if worth > most:
                found, most = score.candidate, worth
    return found


def _expected(score: ModelScore, learnt: Learnt) -> float:
    """Return how good a model is expected to be, all that was learnt of it counted in full."""
    grounds = score.prediction.grounds if score.prediction is not None else None
    return score.capability + learnt.deviation - (grounds.learnt if grounds is not None else 0.0)


def worth_trying(better: float, error: float) -> float:
    """Return what trying a model gains, less what it costs, in answers; 0 or less: it is not worth it.

    It is tried so often that its marks tell as much as the prior did. Each time costs what it is expected to be worse.
    What they tell moves the expectation by chance, and where that comes out above the best, the next requests gain.

    Args:
        better: how much better than the best it is expected to be, 0..1; below 0: worse.
        error: standard deviation of that.

    Example:
        >>> worth_trying(-0.02, 0.08) > 0 > worth_trying(-0.02, 0.01)
        True
    """
    spread = error**2 / sqrt(error**2 + NOISE / MARKS_OF_PRIOR)
    by = better / spread
    chosen = spread * exp(-by * by / 2.0) / sqrt(2.0 * pi) + better * (1.0 + erf(by / sqrt(2.0))) / 2.0
    return _HORIZON * chosen - MARKS_OF_PRIOR * max(-better, 0.0)
