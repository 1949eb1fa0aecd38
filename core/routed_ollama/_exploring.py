"""When another model than the best is tried, and which: bounded, and only where somebody judges what comes of it.

A model that is never asked is never known. So a small share of decisions goes to the one of which most may be hoped
(the upper confidence bound, as in UCB1), if it is expected to be nearly as good and not much slower. Cold arms come
first by themselves: of what was never judged, most may be hoped.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from routed_ollama._learning import Learnt
from routed_ollama.performance import PerformanceHistory
from routed_ollama.types import NO_NEEDS, Candidate, CircuitState, ModelScore, TaskCharacteristics

_HOPE: Final = 1.5
"""Standard deviations above what is expected, by which a model must be able to win to be worth trying."""
_HALVED: Final = 1_000
"""Marks after which half as much is explored as at first."""
_FAR: Final = 0.1
"""How much less may be expected of a model, of 1, that is tried all the same."""
_SLOWER: Final = 3.0
"""How many times as long as the best it may be expected to take, loading included."""


class Explorer:
    """Says at which decisions another model than the best may be tried. The same sequence always gives the same.

    A decision is one only where a person has judged since the last: what nobody judges teaches nothing, so it is never
    explored. The share halves after a thousand marks, and again after two thousand more.

    Args:
        share: of decisions at first, 0..1.
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
        return self._chance.random() < self._share * _HALVED / (_HALVED + marks)


def tried(ranked: Sequence[ModelScore], task: TaskCharacteristics, history: PerformanceHistory) -> Candidate | None:
    """Return the model of which most may be hoped, of those that cost little to try; None when there is none."""
    best, *others = ranked
    if best.prediction is None:
        return None
    found, hope = None, 0.0
    for score in others:
        info, expected = score.info, score.prediction
        if info is None or expected is None or expected.grounds is None or score.circuit is not CircuitState.CLOSED:
            continue
        able = info.flags_known or task.needs == NO_NEEDS
        near = (
            score.capability >= best.capability - _FAR and expected.success_rate >= best.prediction.success_rate - _FAR
        )
        if able and near and expected.seconds <= _SLOWER * best.prediction.seconds:
            prior = score.capability - expected.grounds.learnt
            hoped = _hope(prior, history.learnt(score.candidate, task.task_type), best.capability)
            if hoped > hope:
                found, hope = score.candidate, hoped
    return found


def _hope(prior: float, learnt: Learnt, best: float) -> float:
    """Return by how much a model might be better than the best; 0 or less: it is not worth trying.

    Args:
        prior: of the model for the request.
        learnt: of the model.
        best: what is expected of the best.
    """
    return prior + learnt.deviation + _HOPE * learnt.error - best
