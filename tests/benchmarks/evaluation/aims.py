"""What was aimed at, beside what was measured. Law: pure; an aim is never moved because it was missed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final, NamedTuple

from evaluation.figures import Lowest
from evaluation.measuring import PoolReport
from evaluation.tasks import TaskFigures

COLD_MEAN, COLD_WORST = -0.5, -2.0
"""Points that the cold start may be below the best single model: on average, and on the worst pool."""
LOWEST: Final = -0.5
"""Points that a running window may be below the cold start, and after 1,000 requests below the best single model."""
CATEGORY_GAIN: Final = 0.5
ACCURACY, MACRO_F1 = 0.75, 0.65
_ERRORS: Final = 2
"""Standard errors beyond which a window is not low by chance."""


class Aim(NamedTuple):
    """One line of the table."""

    what: str
    wanted: str
    measured: str
    met: bool


def aims(reports: Sequence[PoolReport], tasks: TaskFigures) -> list[Aim]:
    """Return every aim with what was measured; pools with the priors that have not seen their source."""
    return [*_cold(reports), *_learning(reports), *_gains(reports), *_tasks(tasks)]


def _cold(reports: Sequence[PoolReport]) -> list[Aim]:
    below = {report.pool.name: report.unseen.cold.against_best for report in reports}
    mean = statistics.fmean(below.values())
    worst = min(below, key=below.__getitem__)
    return [
        Aim(
            f"cold start against the best single model, mean of {len(below)} pools",
            f"{COLD_MEAN} points or better",
            f"{mean:+.1f}",
            mean >= COLD_MEAN,
        ),
        Aim(
            "the same, the worst pool",
            f"{COLD_WORST} points or better",
            f"{below[worst]:+.1f} ({worst})",
            below[worst] >= COLD_WORST,
        ),
    ]


def _learning(reports: Sequence[PoolReport]) -> list[Aim]:
    windows = [(r.pool.name, r.unseen.learned.lowest_cold) for r in reports if r.unseen.learned]
    settled = [(r.pool.name, r.unseen.learned.lowest_settled) for r in reports if r.unseen.learned]
    return [
        *_lowest("while it learns, against the cold start, the lowest window of each pool", windows),
        *_lowest("after 1,000 requests, against the best single model, the lowest window of each pool", settled),
    ]


def _lowest(what: str, found: Sequence[tuple[str, Lowest | None]]) -> list[Aim]:
    windows = {name: lowest for name, lowest in found if lowest is not None}
    if not windows:
        return []
    below = [lowest for lowest in windows.values() if lowest.points < LOWEST]
    surely = [lowest for lowest in below if lowest.points + _ERRORS * lowest.error < LOWEST]
    worst = min(windows, key=lambda name: windows[name].points)
    measured = (
        f"{len(below)} of {len(windows)} pools below ({len(surely)} by more than {_ERRORS} standard errors); "
        f"lowest {windows[worst].points:+.1f} ({worst})"
    )
    return [Aim(what, f"none below {LOWEST} points", measured, not below)]


def _gains(reports: Sequence[PoolReport]) -> list[Aim]:
    shares = {
        r.pool.name: r.unseen.learned.category_gain
        for r in reports
        if r.named and r.unseen.learned and r.unseen.learned.category_gain is not None
    }
    if not shares:
        return []
    return [
        Aim(
            "second half of the requests: share of what the best model of each category gains over the best single one",
            f"{CATEGORY_GAIN:.0%} or more in each published pool",
            ", ".join(f"{name} {share:.0%}" for name, share in shares.items()),
            min(shares.values()) >= CATEGORY_GAIN,
        )
    ]


def _tasks(tasks: TaskFigures) -> list[Aim]:
    shared, own = tasks.overall[:1], tasks.own[:1]
    measured = [("prompts of others", each) for each in shared] + [("of our own for checking", each) for each in own]
    return [
        Aim(
            f"task types of {found.prompts:,} {whose}",
            f"accuracy {ACCURACY}, macro-F1 {MACRO_F1}",
            f"accuracy {found.accuracy:.2f}, macro-F1 {found.macro_f1:.2f}",
            found.accuracy >= ACCURACY and found.macro_f1 >= MACRO_F1,
        )
        for whose, found in measured
    ]
