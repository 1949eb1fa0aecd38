"""Measures a pool: what each of its reports is made of, and in which process. Everything here can be pickled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from evaluation.asking import cold_picks, learn, requests
from evaluation.data import Row, routing_rows
from evaluation.figures import Fixed, Learned, References, fixed, learned, references
from evaluation.pools import NAMED, PER_SIZE, Pool, made_pools, rows_of, table_of
from evaluation.unseen import fitted_on, priors_without
from routed_ollama import Prefer


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured.

    Attributes:
        data: folder of the data.
        seeds: runs of each pool.
        requests: of a run.
        per_size: pools made of each source and size.
        prefer: as for ``Router``; None for its default.
        step: every how manieth labelled prompt is asked.
        jobs: processes.
    """

    data: Path
    seeds: int = 5
    requests: int = 3_000
    per_size: int = PER_SIZE
    prefer: Prefer | None = None
    step: int = 1
    jobs: int = 2


@dataclass(frozen=True, slots=True)
class Ours:
    """What the router does with a pool.

    Attributes:
        cold: without history.
        cold_quality: the same where ``prefer="quality"``.
        learned: from judgements of what it chose; None where that was not measured.
        by_feedback: whether ``record_feedback`` took the judgements; else ``record_performance`` was told them.
    """

    cold: Fixed
    cold_quality: Fixed
    learned: Learned | None = None
    by_feedback: bool | None = None


@dataclass(frozen=True, slots=True)
class PoolReport:
    """All that is said of a pool.

    Attributes:
        pool: its models.
        named: whether it was published with the data; else it was made by rule.
        references: what can be had without a router.
        in_priors: whether something of its source is in the shipped priors.
        shipped: with the priors as they are shipped.
        unseen: with priors derived without its source; the same thing where nothing of that is in them.
    """

    pool: Pool
    named: bool
    references: References
    in_priors: bool
    shipped: Ours
    unseen: Ours


def pools_to_measure(options: Options) -> list[Pool]:
    """Return the named pools, then those made by rule; only those that have rows."""
    rows = routing_rows(options.data)
    pools = [*NAMED, *made_pools(rows, options.per_size)]
    return [pool for pool in pools if rows_of(pool, rows)]


def measure_pools(options: Options) -> Iterator[PoolReport]:
    """Yield the report of each pool, in their order."""
    pools = pools_to_measure(options)
    if options.jobs <= 1:
        yield from (measure_pool(options, pool) for pool in pools)
        return
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as processes:
        yield from processes.map(partial(measure_pool, options), pools)


def measure_pool(options: Options, pool: Pool) -> PoolReport:
    """Measure a pool. Learning is measured with both kinds of priors for named pools, else with the source unseen."""
    rows = rows_of(pool, routing_rows(options.data))
    in_priors, named = fitted_on(pool.authors, options.data), pool in NAMED
    shipped = _ours(options, pool, rows, learns=named or not in_priors)
    unseen = shipped
    if in_priors:
        with priors_without(pool.authors, options.data):
            unseen = _ours(options, pool, rows, learns=True)
    return PoolReport(pool, named, references(table_of(pool, rows)), in_priors, shipped, unseen)


def _ours(options: Options, pool: Pool, rows: Sequence[Row], *, learns: bool) -> Ours:
    table, prompts = table_of(pool, rows), [row.prompt for row in rows]
    settings = {} if options.prefer is None else {"prefer": options.prefer}
    cold = cold_picks(pool.models, prompts, **settings)
    quality = fixed(table, cold_picks(pool.models, prompts, prefer="quality"))
    if not learns:
        return Ours(fixed(table, cold), quality)
    runs = [
        learn(table, prompts, requests(len(rows), options.requests, seed), **settings) for seed in range(options.seeds)
    ]
    return Ours(
        fixed(table, cold),
        quality,
        learned(table, cold, [run.run for run in runs]),
        all(run.by_feedback for run in runs),
    )
