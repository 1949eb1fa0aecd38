"""Derive the numbers of ``routed_ollama.priors.measured`` from public results.

    python tests/benchmarks/derive_priors.py [--write]

Reads ``../shared/data`` beside the repository: only what is MIT or Apache-2.0, and the published means of LiveCodeBench
and WildBench; and ``published_results.json``, figures of public leaderboards, under the same licences alone. Prints the
module, or writes it. No prompt is read, only scores.

For each capability, and for skill in mathematics, every result is the logit of a share solved, explained as

    mean + benchmark + size * log2(effective parameters / 8) + year * (release - 2024.4, slower after 2024)
    + small * halvings below 2 billion + variants + line + family + model + what the package assumes anyhow

and fitted by ridge regression: the benchmark's difficulty is hardly shrunk, a variant (coder, math, thinking, base) by
1, a line, a family and a single model by 2, 2 and 1.5; a maker's figure of its own model counts a third of an
independent one. So a model that was measured often keeps its own result, one measured once lies between that and its
family, and one never measured gets its family's or its line's curve. What was not measured in a capability gets half of
the mean of what it shows in the others; and within a family a larger model is no worse than a smaller one (isotonic
regression, weighted by results). Everything is solved exactly; there is no chance in it.
"""

from __future__ import annotations

import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from prior_sources import (
    BENCHMARKS,
    COLUMNS,
    DATA,
    LICENCES,
    PUBLISHED,
    ROOT,
    Result,
    raw_results,
    results,
)  # fmt: skip

from routed_ollama.priors import assumed, curve_terms
from routed_ollama.priors.names import Profile, profile_of

__all__ = ["BENCHMARKS", "DATA", "LICENCES", "PUBLISHED", "Result", "derive", "evidence", "raw_results", "results"]

TARGET: Final = ROOT / "core" / "routed_ollama" / "priors" / "measured.py"
PAGE: Final = ROOT / "docs" / "priors.md"
_FROM, _TO = "<!-- families: begin -->", "<!-- families: end -->"
VARIANTS: Final = ("coder", "math", "thinking", "base")
_CLIP: Final = 0.03
"""Shares nearer than this to 0 or 1 count as this: the logit has no end."""
_RIDGE: Final = {
    "mean": 1e-6, "benchmark": 0.05, "size": 0.05, "year": 0.5, "small": 1.0, "variant": 1.0, "line": 2.0,
    "family": 2.0, "model": 1.5,
}  # fmt: skip
_MAKER: Final = 0.33
"""What a maker's figure of its own model counts: prompts, samples and the moment are of its choosing."""


def model_key(profile: Profile) -> str:
    """How a measured model is called in the table; its base and tuned forms stay apart."""
    return f"{profile.family}|{profile.size:g}{'|base' if 'base' in profile.variants else ''}"


def logit(share: float) -> float:
    """Log odds of a share, kept finite."""
    share = min(max(share, _CLIP), 1 - _CLIP)
    return math.log(share / (1 - share))


def terms(result: Result) -> dict[str, float]:
    """The terms that explain a result, each with its factor."""
    profile = profile_of(result.model)
    found = {
        **curve_terms(profile),
        f"benchmark {result.benchmark}": 1.0,
        f"line {profile.line}": 1.0,
        f"family {profile.family}": 1.0,
        f"model {model_key(profile)}": 1.0,
    }
    return found | {f"variant {name}": 1.0 for name in VARIANTS if name in profile.variants}


def _assumed(model: str, column: str) -> float:
    """What the package assumes of a model; of a base model nothing, for it was measured as base models are used."""
    profile = profile_of(model)
    profile = replace(profile, variants=profile.variants - {"base"})
    return assumed(profile)[COLUMNS.index(column)]


def fit(column: str, found: Iterable[Result]) -> dict[str, float]:
    """Ridge regression of all results that speak of a capability or of mathematics."""
    rows = [
        (terms(r), logit(r.share) - _assumed(r.model, column), 1.0 if r.independent else _MAKER)
        for r in found
        if column in BENCHMARKS[r.benchmark]
    ]
    names = sorted({name for row, _, _ in rows for name in row})
    index = {name: i for i, name in enumerate(names)}
    matrix = [[0.0] * len(names) for _ in names]
    right = [0.0] * len(names)
    for name, i in index.items():
        matrix[i][i] = _RIDGE[name.partition(" ")[0]]
    for row, value, weight in rows:
        items = [(index[name], factor) for name, factor in row.items()]
        for i, factor in items:
            right[i] += weight * factor * value
            for j, other in items:
                matrix[i][j] += weight * factor * other
    return dict(zip(names, solve(matrix, right), strict=True))


def solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Solve symmetric positive definite equations by Gaussian elimination."""
    size = len(right)
    for i in range(size):
        pivot = matrix[i]
        for k in range(i + 1, size):
            factor = matrix[k][i] / pivot[i]
            if factor:
                row = matrix[k]
                for j in range(i, size):
                    row[j] -= factor * pivot[j]
                right[k] -= factor * right[i]
    answer = [0.0] * size
    for i in reversed(range(size)):
        row = matrix[i]
        answer[i] = (right[i] - sum(row[j] * answer[j] for j in range(i + 1, size))) / row[i]
    return answer


_BORROWED: Final = 0.5
_UNMEASURED: Final = 0.25
"""What a value without a result of its own weighs against one result."""
Tables = dict[str, dict[str, tuple[float, ...]]]
Evidence = dict[str, tuple[int, int]]


def derive(found: list[Result]) -> Tables:
    """The tables of the shipped module: each name with one number per column, in logits, to two decimals."""
    fits = [fit(column, found) for column in COLUMNS]
    tables: Tables = {"CURVE": {}, "VARIANTS": {}, "LINES": {}, "MODELS": {}, "FAMILIES": {}}
    for name in sorted({name for one in fits for name in one}):
        kind, _, rest = name.partition(" ")
        table = {"variant": "VARIANTS", "line": "LINES", "model": "MODELS", "family": "FAMILIES"}.get(kind, "CURVE")
        if kind == "benchmark" or rest.endswith("base"):
            continue
        missing = _borrowed(name, fits) if kind in {"line", "family", "model", "small"} else 0.0
        tables[table][rest or kind] = tuple(one.get(name, missing) for one in fits)
    tables["MODELS"] = _larger_is_no_worse(tables, found)
    return {
        table: {key: tuple(round(value, 2) + 0.0 for value in row) for key, row in rows.items()}
        for table, rows in tables.items()
    }


def _larger_is_no_worse(tables: Tables, found: list[Result]) -> dict[str, tuple[float, ...]]:
    """The models' own effects, pooled where a smaller model of a family came out better than a larger one.

    Isotonic regression over size, weighted by the results that speak of the capability.
    """
    weights = [
        Counter(model_key(profile_of(r.model)) for r in found if column in BENCHMARKS[r.benchmark])
        for column in COLUMNS
    ]
    families: dict[str, list[tuple[str, Mapping[str, float]]]] = defaultdict(list)
    for key in tables["MODELS"]:
        family, _, size = key.partition("|")
        families[family].append((key, curve_terms(profile_of(family, parameters=float(size)))))
    effects: dict[str, list[float]] = {key: [] for key in tables["MODELS"]}
    for members in families.values():
        members.sort(key=lambda member: member[1]["size"])
        for i, weight in enumerate(weights):
            sized = [sum(tables["CURVE"][name][i] * factor for name, factor in terms.items()) for _, terms in members]
            levels = [base + tables["MODELS"][key][i] for base, (key, _) in zip(sized, members, strict=True)]
            for base, level, (key, _) in zip(
                sized, isotonic(levels, [weight[key] + _UNMEASURED for key, _ in members]), members, strict=True
            ):
                effects[key].append(level - base)
    return {key: tuple(row) for key, row in effects.items()}


def isotonic(values: Iterable[float], weights: Iterable[float]) -> list[float]:
    """The nearest rising sequence by weighted squares: neighbours that fall are pooled."""
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        pools.append((value, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (low, a, n), (high, b, m) = pools[-2:]
            pools[-2:] = [((low * a + high * b) / (a + b), a + b, n + m)]
    return [value for value, _, count in pools for _ in range(count)]


def _borrowed(name: str, fits: list[dict[str, float]]) -> float:
    """What is assumed of a capability that was not measured, from those that were."""
    measured = [one[name] for one in fits if name in one]
    return _BORROWED * sum(measured) / len(measured)


_IN_PARTS: Final = ("mmlu-pro", "wildbench", "bfcl")
"""Benchmarks whose subjects and editions are counted once."""


def evidence(found: list[Result]) -> Evidence:
    """For each model, in how many benchmarks others measured it, and in how many its maker."""
    seen: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for result in found:
        whole = next((name for name in _IN_PARTS if result.benchmark.startswith(name)), result.benchmark)
        seen[model_key(profile_of(result.model))][0 if result.independent else 1].add(whole)
    return {key: (len(others), len(maker)) for key, (others, maker) in sorted(seen.items()) if not key.endswith("base")}


HEADER: Final = '''"""Measured priors. Law: generated, never edited.

Generator: ``python tests/benchmarks/derive_priors.py --write``; how the numbers are derived and shrunk stands there.
Sources: LLMRouter's published scores (MIT), MMLU-Pro's and ZeroEval's (Apache-2.0) per prompt, LiveCodeBench's and
WildBench's published means, and the leaderboards of ``tests/benchmarks/published_results.json`` (MIT, Apache-2.0);
``docs/priors.md`` lists them. Nearly all of full-precision models.

Logits per capability, in the order of ``ORDER``, and of skill in mathematics at the end. ``CURVE`` holds the mean of a
model of 8 billion parameters of spring 2024, what a doubling of parameters adds and what a year adds; ``LINES`` and
``VARIANTS`` what a lineage or a specialisation adds; ``MODELS`` (``family|size``) what single models add. ``EVIDENCE``
counts the benchmarks in which a model was measured: by others, by its maker.
"""

from collections.abc import Mapping
from typing import Final

from routed_ollama.types import ModelCapability

_C = ModelCapability
ORDER: Final = (
    _C.CODE_GENERATION, _C.CODE_ANALYSIS, _C.REASONING, _C.CREATIVITY, _C.ACCURACY, _C.INSTRUCTION_FOLLOWING
)  # fmt: skip
'''


def render(tables: Mapping[str, Mapping[str, tuple[float, ...]]], counts: Evidence) -> str:
    """The source of the shipped module."""
    parts = [HEADER]
    for name, table in tables.items():
        lines = "".join(f'    "{key}": {values},\n' for key, values in table.items())
        parts.append(f"{name}: Final[Mapping[str, tuple[float, ...]]] = {{\n{lines}}}\n")
    lines = "".join(f'    "{key}": {pair},\n' for key, pair in counts.items())
    parts.append(f"EVIDENCE: Final[Mapping[str, tuple[int, int]]] = {{\n{lines}}}\n")
    return "\n".join(parts)


def families_page(counts: Evidence) -> str:
    """The table of ``docs/priors.md``: each family with its measured sizes, and in how many benchmarks each was."""
    sizes: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for key, (independent, maker) in counts.items():
        family, _, size = key.partition("|")
        said = f"{size}b: {independent}" + (f" + {maker} of its maker's" if maker else "")
        sizes[family].append((float(size), said))
    rows = [f"| `{family}` | {', '.join(said for _, said in sorted(sizes[family]))} |" for family in sorted(sizes)]
    return "\n".join(["| family | size: benchmarks |", "| --- | --- |", *rows])


def with_table(page: str, counts: Evidence) -> str:
    """The page with the table of families put between its marks."""
    before, _, rest = page.partition(_FROM)
    return f"{before}{_FROM}\n\n{families_page(counts)}\n\n{_TO}{rest.partition(_TO)[2]}"


if __name__ == "__main__":
    rows = results()
    source = render(derive(rows), evidence(rows))
    if "--write" in sys.argv[1:]:
        TARGET.write_text(source, encoding="utf-8")
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), evidence(rows)), encoding="utf-8")
    else:
        sys.stdout.write(source)
