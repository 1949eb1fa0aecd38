"""Puts prompts to a real ``Router`` as a program would: recommend, and tell it how the chosen model did. No server."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from evaluation.figures import Table
from routed_ollama import Recommendation, Router, RouterConfig

_BEGIN: Final = 1_750_000_000.0
_BETWEEN: Final = 60.0
"""Seconds from one request to the next, for a history that ages by the clock."""


class Learnt(NamedTuple):
    """A run: row and chosen model of each request, and which way the judgements were told."""

    run: list[tuple[int, int]]
    by_feedback: bool


class SteadyClock:
    """One request a minute, so that a run is the same on every machine."""

    def __init__(self) -> None:
        self.passed = 0.0

    def time(self) -> float:
        """UTC seconds."""
        return _BEGIN + self.passed

    def monotonic(self) -> float:
        """Seconds since the first request."""
        return self.passed


def cold_picks(models: Sequence[str], prompts: Sequence[str], **settings: Any) -> list[int]:
    """Return the model that is chosen for each prompt while nothing is known of any."""
    router = _router(models, SteadyClock(), settings)
    places = {model: place for place, model in enumerate(models)}
    picks = [places[router.recommend_model(prompt).model] for prompt in prompts]
    router.close()
    return picks


def requests(rows: int, count: int, seed: int) -> list[int]:
    """Return that many requests: all rows in a random order, then all in another one, as often as it takes."""
    chance = random.Random(seed)  # noqa: S311 (no secret)
    order: list[int] = []
    while len(order) < count:
        order += chance.sample(range(rows), rows)
    return order[:count]


def learn(table: Table, prompts: Sequence[str], order: Sequence[int], **settings: Any) -> Learnt:
    """Return what is chosen when each answer's score is told, that of the chosen model only.

    Args:
        table: the scores.
        prompts: of its rows.
        order: rows to ask, one after the other.
        **settings: of the router.
    """
    clock = SteadyClock()
    router = _router(table.models, clock, settings)
    places = {model: place for place, model in enumerate(table.models)}
    run: list[tuple[int, int]] = []
    by_feedback = True
    for row in order:
        found = router.recommend_model(prompts[row])
        pick = places[found.model]
        run.append((row, pick))
        judged = 10 * table.scores[row][pick]
        by_feedback = by_feedback and router.record_feedback(found.request_id, judged)
        if not by_feedback:
            _perform(router, found, judged)
        clock.passed += _BETWEEN
    router.close()
    return Learnt(run, by_feedback)


def _router(models: Sequence[str], clock: SteadyClock, settings: Mapping[str, Any]) -> Router:
    """Return a router that no variable and no file of whoever measures has a say in."""
    return Router.from_models(models, store="memory", clock=clock, config=RouterConfig(), **settings)


def _perform(router: Router, found: Recommendation, judged: float) -> None:
    """Tell the judgement as that of an answer that took as long as expected: nothing is known of times."""
    expected = found.scores[0].prediction
    router.record_performance(
        found.model,
        task_type=found.task.task_type,
        response_time=expected.seconds if expected is not None else 1.0,
        quality_score=judged,
    )
