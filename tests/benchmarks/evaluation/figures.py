"""From choices to figures. Law: pure arithmetic on scores from 0 to 1; knows no router, no file and no model's name.

What is learned is compared request by request: with what the best single model, the best of each category and the best
of all would have scored on the very same requests, so that which prompts came up does not count.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, NamedTuple

WINDOW: Final = 500
"""Requests of a running window."""
SETTLED: Final = 1_000
"""Requests after which nothing may be below the best single model."""
STAGES: Final = ((0, 100), (100, 300), (300, 1000), (1000, 2000), (2000, 3000))
_NOTHING: Final = 1e-9

Series = Sequence[float]
Run = Sequence[tuple[int, int]]
"""The requests of a run in their order: row and chosen model, by number."""


@dataclass(frozen=True, slots=True)
class Table:
    """What every model of a pool scored on every row."""

    models: tuple[str, ...]
    categories: tuple[str, ...]
    scores: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class References:
    """What can be had of a pool without a router, in percent solved."""

    rows: int
    random: float
    best: float
    best_model: str
    by_category: float
    """The best model of each category, known in hindsight."""
    oracle: float
    """The best model of each prompt, known in hindsight; inflated by chance and guessing."""


class Spread(NamedTuple):
    """A mean over runs and their standard deviation."""

    mean: float
    deviation: float


class Lowest(NamedTuple):
    """The lowest running window, and the standard error of a window's mean: how far chance alone would move it."""

    points: float
    error: float


@dataclass(frozen=True, slots=True)
class Fixed:
    """What a choice that does not change scores, in percent; differences in points."""

    percent: float
    against_best: float
    gap_closed: float | None
    """Share of the gap between best single and oracle; None where there is none."""
    favourite: str
    """The model chosen most often."""
    favourite_share: float


@dataclass(frozen=True, slots=True)
class Learned:
    """What came of learning, over several runs. Percent solved; differences in points; see the module."""

    percent: Spread
    against_best: Spread
    second_half: Spread
    late_against_best: Spread
    """Of the second half, as the shares below."""
    gap_closed: float | None
    category_gain: float | None
    """Share of what the best model of each category would gain over the best single one."""
    settled: Spread
    """Against the best single model, all requests after the first 1,000."""
    lowest_settled: Lowest | None
    """The same, the lowest window; None where runs are too short."""
    lowest_cold: Lowest | None
    """Against the cold start's choices, from the first request on."""
    regret: tuple[float, ...]
    """Answers lost to the best single model in each 100 requests, stage by stage."""
    shares: Mapping[str, float]
    """How often each model was chosen in the second half."""


def percent(values: Iterable[float]) -> float:
    """Return the mean of values from 0 to 1 in percent."""
    return 100 * statistics.fmean(values)


def best_single(table: Table) -> int:
    """Return the model that solves most; the first of several."""
    totals = [sum(column) for column in zip(*table.scores, strict=True)]
    return totals.index(max(totals))


def best_of_category(table: Table) -> dict[str, int]:
    """Return the model that solves most of each category."""
    totals: dict[str, list[float]] = {}
    for category, scores in zip(table.categories, table.scores, strict=True):
        sums = totals.setdefault(category, [0.0] * len(scores))
        for i, score in enumerate(scores):
            sums[i] += score
    return {category: sums.index(max(sums)) for category, sums in totals.items()}


def references(table: Table) -> References:
    """Return what can be had without a router."""
    best, of = best_single(table), best_of_category(table)
    rows = list(zip(table.categories, table.scores, strict=True))
    return References(
        rows=len(rows),
        random=percent(statistics.fmean(scores) for scores in table.scores),
        best=percent(scores[best] for scores in table.scores),
        best_model=table.models[best],
        by_category=percent(scores[of[category]] for category, scores in rows),
        oracle=percent(max(scores) for scores in table.scores),
    )


def fixed(table: Table, picks: Sequence[int]) -> Fixed:
    """Return what one choice for each row scores."""
    run = list(enumerate(picks))
    ours, best, oracle = _ours(table, run), _best(table, run), _oracle(table, run)
    favourite, count = Counter(picks).most_common(1)[0]
    return Fixed(
        percent(ours),
        percent(ours) - percent(best),
        share(_minus(ours, best), _minus(oracle, best)),
        table.models[favourite],
        count / len(picks),
    )


def learned(table: Table, cold: Sequence[int], runs: Sequence[Run]) -> Learned:
    """Return what came of learning, over runs of the same length.

    Args:
        table: the scores.
        cold: the choice for each row without history.
        runs: what was chosen.
    """
    half = len(runs[0]) // 2
    late = [run[half:] for run in runs]
    gains = [_minus(_ours(table, run), _best(table, run)) for run in runs]
    against_cold = [_minus(_ours(table, run), [table.scores[row][cold[row]] for row, _ in run]) for run in runs]
    late_gains = [gain for gain_of_run in gains for gain in gain_of_run[half:]]
    return Learned(
        percent=_spread([percent(_ours(table, run)) for run in runs]),
        against_best=_spread([percent(gain) for gain in gains]),
        second_half=_spread([percent(_ours(table, run)) for run in late]),
        late_against_best=_spread([percent(gain[half:]) for gain in gains]),
        gap_closed=share(late_gains, [x for run in late for x in _minus(_oracle(table, run), _best(table, run))]),
        category_gain=share(
            late_gains, [x for run in late for x in _minus(_of_category(table, run), _best(table, run))]
        ),
        settled=_spread([percent(gain[SETTLED:] or gain) for gain in gains]),
        lowest_settled=lowest([gain[SETTLED:] for gain in gains]),
        lowest_cold=lowest(against_cold),
        regret=tuple(
            -percent(x for gain in gains for x in gain[start:end]) + 0.0
            for start, end in STAGES
            if start < len(runs[0])
        ),
        shares=_shares(table, late),
    )


def share(part: Series, whole: Series) -> float | None:
    """Return which share of a whole was had; None where the whole is nothing."""
    total = sum(whole)
    return sum(part) / total if total > _NOTHING else None


def lowest(runs: Sequence[Series], window: int = WINDOW) -> Lowest | None:
    """Return the lowest mean of a running window over all runs, in points, with its standard error.

    Args:
        runs: a value for each request, runs of the same length.
        window: requests.
    """
    means = [statistics.fmean(values) for values in zip(*runs, strict=True)]
    if len(means) < window:
        return None
    sums = [0.0, *accumulate(means)]
    start = min(range(len(means) - window + 1), key=lambda i: sums[i + window] - sums[i])
    inside = [value for run in runs for value in run[start : start + window]]
    error = 100 * statistics.pstdev(inside) / len(inside) ** 0.5
    return Lowest(100 * (sums[start + window] - sums[start]) / window, error)


def _spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.fmean(values), statistics.pstdev(values))


def _shares(table: Table, runs: Sequence[Run]) -> dict[str, float]:
    counts = Counter(pick for run in runs for _, pick in run)
    return {table.models[pick]: count / counts.total() for pick, count in counts.most_common()}


def _ours(table: Table, run: Run) -> list[float]:
    return [table.scores[row][pick] for row, pick in run]


def _best(table: Table, run: Run) -> list[float]:
    best = best_single(table)
    return [table.scores[row][best] for row, _ in run]


def _of_category(table: Table, run: Run) -> list[float]:
    of = best_of_category(table)
    return [table.scores[row][of[table.categories[row]]] for row, _ in run]


def _oracle(table: Table, run: Run) -> list[float]:
    return [max(table.scores[row]) for row, _ in run]


def _minus(left: Series, right: Series) -> list[float]:
    return [a - b for a, b in zip(left, right, strict=True)]
