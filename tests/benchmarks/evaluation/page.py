"""The figures as a page. Law: pure text; every number comes from the report, none is written by hand."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from evaluation.aims import aims
from evaluation.figures import SETTLED, STAGES, WINDOW, Fixed, Learned, Lowest, Spread
from evaluation.measuring import Options, Ours, PoolReport
from evaluation.tasks import TYPES, Quality, TaskFigures

INTRODUCTION = """\
# How well it chooses

Written by `make eval DATA=FOLDER`; nothing here is typed by hand, and what was missed is said like what was met.
{quick}
The data is not part of the repository: {rows:,} prompts with each model's score on each (LLMRouter's published scores,
MMLU-Pro, ZeroEval's GSM and MATH level 5, RouterDC), and {prompts:,} prompts with a task type that others gave them.
The scores are those of full-precision models; their names are the nearest tags of Ollama's library.

## What was aimed at

{aims}

## How it is measured

- Everything is asked of `Router.from_models(pool, store="memory"{prefer})` through `recommend_model(prompt)`, without a
  server and with no other settings. Names alone say nothing of times, so those are the router's own guesses.
- **Cold start** has no history. **Learned** has been told the score of each model it chose, 0 to 10, and of no other
  ({told}); {requests:,} requests: all rows in a random order, then in another one, as often as it takes; {seeds} runs,
  of which the mean and the standard deviation (±) are shown.
- **Unseen**: the priors were derived anew without anything by the authors of the pool's source. **Shipped**: the priors
  of the package, which know the mean scores of those sources whose licence allows it (all but RouterDC). So *unseen* is
  what to expect of other prompts and models.
- **Random** is the mean of all models; **best single** the model that solves most of the rows; **by category** the best
  model of each category of the benchmark; **oracle** the best model of each prompt, which takes chance and guessing
  for skill. The last three are known in hindsight only.
- What is learned is compared request by request with what those would have scored on the same requests. **Gap closed**
  is the share of the way from best single to oracle, **category gain** that of the way from best single to by category;
  below zero it is worse than the best single model.
- **Lowest window** is the lowest mean of {window} requests in a row, over all runs; beside it in brackets the standard
  error of such a mean. Of many windows some are low by chance.
- **Regret** is how many answers more the best single model would have got right in each 100 requests.
"""

TASKS = """\
## Task types

What a prompt was taken for by `analyze`, without history or hints. Nothing of it is derived from a row of this data.
The prompts were at hand while it was written, though, so [our own](task-types.md) for checking, written apart, are its
second judge. *Macro-F1* is the mean of the F1 of those types that occur; where one type occurs it is that one's.
The sources whose licence does not let numbers be derived from them
(auto-j, stackeval, archisminer) only measure. The labels are their authors', mapped to
[the eight types](task-types.md).

{overall}

By source:

{by_source}

By kind of prompt:

{by_kind}

Our own prompts for checking, by the form in which they ask (not counted above):

{own}

What (row) was taken for what (column), all shared prompts:

{confusion}

How often it is right, by how sure it says it is. The expected calibration error (the mean distance between the two) is
{error:.3f}{own_error}.

{calibration}
"""


def page(options: Options, reports: Sequence[PoolReport], tasks: TaskFigures, rows: int, *, quick: bool) -> str:
    """Return the page as Markdown."""
    ways = {r.unseen.by_feedback for r in reports}
    parts = [
        INTRODUCTION.format(
            quick="\n**A quick run on a part of the data: figures for a first look only.**\n" if quick else "",
            rows=rows,
            prompts=tasks.overall[0].prompts,
            aims=_table(
                ("aim", "wanted", "measured", "met"),
                ((aim.what, aim.wanted, aim.measured, "yes" if aim.met else "**no**") for aim in aims(reports, tasks)),
            ),
            prefer=f', prefer="{options.prefer}"' if options.prefer else "",
            told="by `record_feedback`" if ways == {True} else "by `record_performance`",
            requests=options.requests,
            seeds=options.seeds,
            window=WINDOW,
        ),
        _named([report for report in reports if report.named]),
        _made([report for report in reports if not report.named]),
        _tasks(tasks),
    ]
    return "\n".join(part for part in parts if part)


def _named(reports: Sequence[PoolReport]) -> str:
    return "\n\n".join(["## The four pools published with the data", *map(_one, reports)]) + "\n"


def _one(report: PoolReport) -> str:
    refs = report.references
    heading = f"### {report.pool.name}: {', '.join(report.pool.models)}"
    bounds = _table(
        ("rows", "random", "best single", "by category", "oracle"),
        [
            (
                f"{refs.rows:,}",
                _percent(refs.random),
                f"{_percent(refs.best)} ({refs.best_model})",
                _percent(refs.by_category),
                _percent(refs.oracle),
            )
        ],
    )
    kinds = (
        {"shipped": report.shipped, "unseen": report.unseen}
        if report.in_priors
        else {"shipped (nothing of its source is in them)": report.unseen}
    )
    choices = _table(
        ("priors", "choice", "solved", "against best single", "gap closed", "category gain", "mostly"),
        (line for title, ours in kinds.items() for line in _choices(title, ours)),
    )
    learning = _table(
        (
            "priors",
            f"after {SETTLED:,}, against best single",
            "lowest window of that",
            "lowest window against cold start",
            *(f"regret, {start + 1}-{end}" for start, end in STAGES),
        ),
        (_course(title, ours.learned) for title, ours in kinds.items() if ours.learned),
    )
    return f"{heading}\n\n{bounds}\n\n{choices}\n\n{learning}"


def _choices(title: str, ours: Ours) -> Iterable[tuple[str, ...]]:
    for name, cold in (("cold start", ours.cold), ('cold start, `prefer="quality"`', ours.cold_quality)):
        yield (title, name, *_cold(cold))
    found = ours.learned
    if found is not None:
        most = next(iter(found.shares))
        yield (
            title,
            "learned, all requests",
            _spread(found.percent, sign=False),
            _spread(found.against_best),
            "",
            "",
            "",
        )
        yield (
            title,
            "learned, second half",
            _spread(found.second_half, sign=False),
            _spread(found.late_against_best),
            _share(found.gap_closed),
            _share(found.category_gain),
            f"{most} ({found.shares[most]:.0%})",
        )


def _cold(cold: Fixed) -> tuple[str, ...]:
    most = f"{cold.favourite} ({cold.favourite_share:.0%})"
    return _percent(cold.percent), _points(cold.against_best), _share(cold.gap_closed), "", most


def _course(title: str, found: Learned) -> tuple[str, ...]:
    regret = [_points(value) for value in found.regret]
    regret += [""] * (len(STAGES) - len(regret))
    return title, _spread(found.settled), _lowest(found.lowest_settled), _lowest(found.lowest_cold), *regret


def _made(reports: Sequence[PoolReport]) -> str:
    if not reports:
        return ""
    sources = {source: list(mine) for source, mine in groupby(reports, key=lambda report: report.pool.source)}
    summary = _table(
        (
            "source",
            "pools",
            "random",
            "best single",
            "cold, shipped",
            "cold, unseen",
            "worst of that",
            'cold, unseen, `prefer="quality"`',
            "learned, second half",
            "worst of that",
            "gap closed",
        ),
        [*(_summary(source, mine) for source, mine in sources.items()), _summary("**all**", reports)],
    )
    return f"""\
## Pools made by rule

Of each source, pools of 3 to 6 of its models that are in Ollama's library, five of each size, drawn by a digest of
their names. Means over the pools; all but the first two figures are points against the best single model.

{summary}

The ten on which the cold start is worst:

{_worst(reports)}
"""


def _worst(reports: Sequence[PoolReport]) -> str:
    worst = sorted(reports, key=lambda report: report.unseen.cold.against_best)[:10]
    return _table(
        ("pool", "models", "best single", "cold, unseen", "mostly", "learned, second half"),
        (
            (
                report.pool.name,
                ", ".join(report.pool.models),
                f"{_percent(report.references.best)} ({report.references.best_model})",
                _points(report.unseen.cold.against_best),
                report.unseen.cold.favourite,
                _points(report.unseen.learned.late_against_best.mean) if report.unseen.learned else "",
            )
            for report in worst
        ),
    )


def _summary(title: str, reports: Sequence[PoolReport]) -> tuple[str, ...]:
    learned = [report.unseen.learned for report in reports if report.unseen.learned]
    late = [found.late_against_best.mean for found in learned]
    closed = [found.gap_closed for found in learned if found.gap_closed is not None]
    cold = [report.unseen.cold.against_best for report in reports]
    quality = statistics.fmean(report.unseen.cold_quality.against_best for report in reports)
    return (
        title,
        str(len(reports)),
        _percent(statistics.fmean(report.references.random for report in reports)),
        _percent(statistics.fmean(report.references.best for report in reports)),
        _points(statistics.fmean(report.shipped.cold.against_best for report in reports)),
        _points(statistics.fmean(cold)),
        _points(min(cold)),
        _points(quality),
        _points(statistics.fmean(late)),
        _points(min(late)),
        _share(statistics.fmean(closed) if closed else None),
    )


def _tasks(tasks: TaskFigures) -> str:
    own_error = tasks.own_calibration_error
    return TASKS.format(
        overall=_qualities(tasks.overall),
        by_source=_qualities(tasks.by_source),
        by_kind=_qualities(tasks.by_kind),
        own=_qualities(tasks.own),
        confusion=_confusion(tasks.confusion),
        error=tasks.calibration_error,
        own_error="" if own_error is None else f"; on our own prompts it is {own_error:.3f}",
        calibration=_table(
            ("confidence", "prompts", "mean confidence", "right"),
            (
                (f"{b.low:.1f} to {b.high:.1f}", f"{b.prompts:,}", f"{b.confidence:.2f}", f"{b.accuracy:.2f}")
                for b in tasks.calibration
            ),
        ),
    )


def _qualities(found: Sequence[Quality]) -> str:
    return _table(
        ("prompts of", "number", "accuracy", "macro-F1", *TYPES),
        (
            (
                each.title,
                f"{each.prompts:,}",
                f"{each.accuracy:.3f}",
                f"{each.macro_f1:.3f}",
                *(f"{each.f1[kind]:.2f}" if kind in each.f1 else "" for kind in TYPES),
            )
            for each in found
        ),
    )


def _confusion(matrix: Mapping[str, Mapping[str, int]]) -> str:
    rows = ((wanted, *(str(row.get(got, 0)) for got in TYPES)) for wanted, row in matrix.items())
    return _table(("", *TYPES), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (head, ["---"] * len(head), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _points(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f}"


def _percent(value: float) -> str:
    return f"{value:.1f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _spread(value: Spread, *, sign: bool = True) -> str:
    mean = _points(value.mean) if sign else f"{value.mean:.1f}"
    return f"{mean} ± {value.deviation:.1f}"


def _lowest(value: Lowest | None) -> str:
    return "-" if value is None else f"{_points(value.points)} ({value.error:.1f})"
