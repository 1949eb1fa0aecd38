"""Measure the cold start: how far the model that the priors name is from the best of a pool it was never measured in.

    python tests/benchmarks/measure_priors.py [--pools]

Every source is left out once: the tables are derived without it, the strongest model by them is picked for pools of the
models that the source measured, and what the pick loses to the pool's best single model there is its regret, in points.
``in what is measured`` picks by the capabilities that the source measures instead of by overall strength.

Pools: the four of the development data's README, and, for every source, up to 300 of three to five models drawn with a
fixed seed, of any sizes and of one size class (largest at most four times the smallest). Beside it stands what a blind
pick loses, and what the shipped tables (which know the source) lose. Prints figures only.
"""

# ruff: noqa: T201  # a script is there to print

from __future__ import annotations

import random
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Final, NamedTuple

from derive_priors import BENCHMARKS, DATA, Result, derive, raw_results, results

from routed_ollama.priors import SHIPPED, Tables, estimate, mathematics, strength_by
from routed_ollama.priors.names import profile_of

SOURCES: Final[Mapping[str, tuple[str, ...]]] = {
    "uiuc-llmrouter": ("uiuc-llmrouter",),
    "zeroeval": ("zeroeval",),
    "mmlu-pro": ("mmlu-pro",),
    "livecodebench": ("livecodebench",),
    "wildbench": ("wildbench",),
    "arena-hard": ("arena-hard",),
    "aider": ("aider",),
    "trtllm": ("trtllm",),
    "bfcl": ("bfcl",),
    "reasoners": ("open-r1", "deepseek-"),
    "opencompass": ("opencompass",),
    "microsoft": ("microsoft", "simple-evals"),
    "ai2": ("olmes",),
    "hugging face": ("lighteval",),
    "openbmb": ("openbmb",),
    "makers": ("reported",),
    "routerdc": ("routerdc",),
}
"""Which benchmarks are of one hand, by the beginnings of their names."""
POOLS: Final[Mapping[str, tuple[str, ...]]] = {
    "uiuc-llmrouter": ("llama3.1:8b", "gemma2:9b", "qwen2.5:7b", "mistral:7b", "codegemma:7b"),
    "zeroeval": ("llama3.1:8b", "gemma2:9b", "qwen2:7b", "phi3.5:3.8b", "yi:9b-v1.5"),
    "mmlu-pro": ("llama3.1:8b", "phi3:3.8b", "mathstral:7b", "mixtral:8x7b", "command-r:35b"),
    "routerdc": ("zephyr:7b", "dolphin-mistral:7b", "dolphin-llama3:8b", "llama3:8b-text", "mistral:7b-text"),
}
_DRAWN: Final = 300
_CLASS: Final = 4.0
_BASE: Final = "base"


class Regret(NamedTuple):
    """What picks lose to the best single model of their pools, in points."""

    pools: int
    blind: float
    mean: float
    worst: float
    fitting: float
    shipped: float


def of_source(found: Iterable[Result], source: str) -> list[Result]:
    """The results of one source."""
    return [result for result in found if result.benchmark.startswith(SOURCES[source])]


Table = Mapping[str, Mapping[str, Result]]


def table_of(found: Iterable[Result]) -> Table:
    """Results by benchmark and model."""
    table: dict[str, dict[str, Result]] = defaultdict(dict)
    for result in found:
        table[result.benchmark][result.model] = result
    return table


def means(table: Table, pool: Sequence[str]) -> dict[str, float]:
    """Mean over the prompts of the benchmarks that measured the whole pool, in points; empty where there is none."""
    common = [row for row in table.values() if all(model in row for model in pool)]
    weights = [min(row[model].prompts for model in pool) for row in common]
    return {
        model: 100 * sum(w * row[model].share for w, row in zip(weights, common, strict=True)) / sum(weights)
        for model in pool
        if common
    }


def drawn(table: Table, *, one_class: bool) -> Iterator[tuple[str, ...]]:
    """Pools of models that were measured together, drawn with a fixed seed."""
    chance = random.Random(7)  # noqa: S311 (pools, not secrets)
    seen: set[tuple[str, ...]] = set()
    rows = [sorted(m for m in row if _BASE not in profile_of(m).variants) for row in table.values()]
    rows = [row for row in rows if len(row) > 2]
    for _ in range(20 * _DRAWN if rows else 0):
        row = chance.choice(rows)
        pool = tuple(sorted(chance.sample(row, min(len(row), chance.choice((3, 4, 5))))))
        sizes = [profile_of(model).effective for model in pool]
        if pool not in seen and len(seen) < _DRAWN and (not one_class or max(sizes) <= _CLASS * min(sizes)):
            seen.add(pool)
            yield pool


def pick(pool: Iterable[str], tables: Tables, wanted: Collection[str] = ()) -> str:
    """The strongest model by given tables: overall, or in what is wanted."""

    def strength(model: str) -> float:
        profile = profile_of(model)
        found = estimate(profile, tables)
        able = {**found, "mathematics": mathematics(profile, tables)}
        return sum(able[column] for column in wanted) if wanted else strength_by(found)

    return max(pool, key=strength)


def regret(table: Table, pools: Iterable[tuple[str, ...]], unseen: Tables) -> Regret | None:
    """What the picks by tables that never saw a source lose in it."""
    wanted = {capability for benchmark in table for capability in BENCHMARKS.get(benchmark, ())}
    lost, blind, known, fitting = [], [], [], []
    for pool in pools:
        if score := means(table, pool):
            best = max(score.values())
            lost.append(best - score[pick(pool, unseen)])
            fitting.append(best - score[pick(pool, unseen, wanted)])
            known.append(best - score[pick(pool, SHIPPED)])
            blind.append(best - fmean(score.values()))
    return Regret(len(lost), fmean(blind), fmean(lost), max(lost), fmean(fitting), fmean(known)) if lost else None


def without(found: Sequence[Result], source: str) -> Tables:
    """The tables derived from all sources but one."""
    return Tables(*derive([r for r in found if not r.benchmark.startswith(SOURCES[source])]).values())


def measure(*, pools_only: bool) -> None:
    """Print the regrets of every source."""
    found, everything = results(), raw_results()
    total: list[Regret] = []
    for source in SOURCES:
        table, tables = table_of(of_source(everything, source)), without(found, source)
        if source in POOLS:
            _one(source, table, POOLS[source], tables)
        for title, one_class in () if pools_only else (("any size", False), ("one class", True)):
            if row := regret(table, drawn(table, one_class=one_class), tables):
                total.append(row)
                print(
                    f"{source:15} {title:9} pools {row.pools:3}  blind -{row.blind:4.1f}  unseen -{row.mean:4.1f} "
                    f"(worst -{row.worst:4.1f}, in what is measured -{row.fitting:4.1f})  shipped -{row.shipped:4.1f}"
                )
    if total:
        blind, unseen, fitting, shipped = (
            fmean(getattr(row, name) for row in total) for name in ("blind", "mean", "fitting", "shipped")
        )
        print(
            f"{'mean':35} blind -{blind:4.1f}  unseen -{unseen:4.1f} (in what is measured -{fitting:4.1f})  "
            f"shipped -{shipped:4.1f}"
        )


def _one(source: str, table: Table, pool: Sequence[str], tables: Tables) -> None:
    score = means(table, pool)
    best = max(score, key=score.__getitem__)
    said = ", ".join(
        f"{title} {choice} -{score[best] - score[choice]:.1f}"
        for title, choice in (("unseen", pick(pool, tables)), ("shipped", pick(pool, SHIPPED)))
    )
    blind = score[best] - fmean(score.values())
    print(f"{source:15} the README's pool: best {best} {score[best]:.1f}, blind -{blind:.1f}, {said}")


if __name__ == "__main__":
    if not DATA.exists():
        raise SystemExit(f"no development data at {DATA}")
    measure(pools_only="--pools" in sys.argv[1:])
