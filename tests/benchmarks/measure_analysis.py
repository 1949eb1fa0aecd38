"""Measure the analysis, the quality heuristics' speed and the priors on the development data.

    python tests/benchmarks/measure_analysis.py

Reads ``../shared/data`` beside the repository and prints figures only: accuracy and macro-F1 of the task types, how far
the confidence can be trusted, what "best single model by prior" wins on each pool, and times.
"""

# ruff: noqa: T201  # a script is there to print

from __future__ import annotations

import itertools
import json
import timeit
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from derive_priors import DATA, derive, results

from routed_ollama.analysis import analyze
from routed_ollama.priors import SHIPPED, Tables, capabilities_of, estimate
from routed_ollama.priors.names import profile_of
from routed_ollama.quality import assess_quality
from routed_ollama.types import Message, ModelCapability, TaskType

POOLS: Final[Mapping[str, tuple[str, ...]]] = {
    "uiuc": ("llama3.1:8b", "gemma2:9b", "qwen2.5:7b", "mistral:7b", "codegemma:7b"),
    "zeroeval": ("llama3.1:8b", "gemma2:9b", "qwen2:7b", "phi3.5:3.8b", "yi:9b-v1.5"),
    "mmlu-pro": ("llama3.1:8b", "phi3:3.8b", "mathstral:7b", "mixtral:8x7b", "command-r:35b"),
    "routerdc": ("zephyr:7b", "dolphin-mistral:7b", "dolphin-llama3:8b", "llama3:8b-text", "mistral:7b-text"),
}
_C = ModelCapability
_BY_CATEGORY: Final[Mapping[str, ModelCapability]] = {
    "humaneval": _C.CODE_GENERATION, "humaneval-js": _C.CODE_GENERATION, "mbpp": _C.CODE_GENERATION,
    "commongen": _C.CREATIVITY,
    **dict.fromkeys(
        ("gsm8k", "agentverse-mgsm", "math", "physics", "chemistry", "business", "grade-school-math",
         "competition-math", "math-prealgebra"),
        _C.REASONING,
    ),
}  # fmt: skip
_OVERALL: Final = (_C.REASONING, _C.ACCURACY, _C.INSTRUCTION_FOLLOWING)


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of one file of the development data."""
    with (DATA / name).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def task_types() -> None:
    """Accuracy and macro-F1 of the task types."""
    data = rows("tasks.jsonl")
    pairs: list[tuple[str, str, str, float]] = []
    for row in data:
        task = analyze([Message("user", row["prompt"])])
        pairs.append((row["source"], row["task_type"], task.task_type.name, task.confidence))
    print(f"task types: {len(pairs)} prompts")
    _report("all", pairs)
    _report("not GENERAL", [pair for pair in pairs if pair[1] != "GENERAL"])
    _report("licence permits", [p for p in pairs if p[0] not in {"auto-j", "stackeval", "archisminer"}])
    for source in sorted({pair[0] for pair in pairs}):
        _report(source, [pair for pair in pairs if pair[0] == source])
    buckets: dict[int, list[bool]] = defaultdict(list)
    for _, wanted, got, confidence in pairs:
        buckets[int(confidence * 10)].append(wanted == got)
    print(
        "  right by confidence:",
        *(f"{k / 10:.1f}: {sum(v) / len(v):.2f} ({len(v)})" for k, v in sorted(buckets.items())),
    )


def _report(title: str, pairs: Iterable[tuple[str, str, str, float]]) -> None:
    confusion = Counter((wanted, got) for _, wanted, got, _ in pairs)
    total, right = confusion.total(), sum(n for (wanted, got), n in confusion.items() if wanted == got)
    scores = {}
    for label in sorted({wanted for wanted, _ in confusion}):
        hit = confusion[label, label]
        said = sum(n for (_, got), n in confusion.items() if got == label)
        true = sum(n for (wanted, _), n in confusion.items() if wanted == label)
        scores[label] = 2 * hit / (said + true)
    macro = sum(scores.values()) / len(scores)
    detail = " ".join(f"{label[:5]} {score:.2f}" for label, score in scores.items()) if len(scores) > 1 else ""
    print(f"  {title:16} n {total:5} accuracy {right / total:.3f} macro-F1 {macro:.3f}  {detail}")


def pools() -> None:
    """What the best single model by prior wins on each pool; ``unseen``: derived without the pool's source."""
    data, found = rows("routing.jsonl"), results()
    print(
        "pools: percent solved (random, best single, by prior, by prior per category, the same with the source unseen)"
    )
    for pool, models in POOLS.items():
        mine = [row for row in data if row["source"].startswith(pool) and set(models) <= row["scores"].keys()]
        without = Tables(*derive([r for r in found if not r.benchmark.startswith(pool)]).values())
        means = {model: sum(row["scores"][model] for row in mine) / len(mine) for model in models}
        best = max(means, key=means.__getitem__)
        share = 100 * sum(means.values()) / len(means)
        print(f"  {pool:9} n {len(mine):5} random {share:.1f} best {best} {100 * means[best]:.1f}")
        for title, tables in (("shipped", SHIPPED), ("unseen", without)):
            one = max(models, key=lambda model: _overall(model, tables))
            each = sum(row["scores"][_pick(row["category"], models, tables)] for row in mine) / len(mine)
            print(f"    {title:8} {one} {100 * means[one]:.1f}; per category {100 * each:.1f}")


def _overall(model: str, tables: Tables) -> float:
    found = estimate(profile_of(model), tables)
    return sum(found[capability] for capability in _OVERALL)


def _pick(category: str, models: Iterable[str], tables: Tables) -> str:
    capability = _BY_CATEGORY.get(category, _C.ACCURACY)
    return max(models, key=lambda model: estimate(profile_of(model), tables)[capability])


def times() -> None:
    """Medians of the hot functions, in microseconds."""
    prompts = [r["prompt"] for r in rows("tasks.jsonl") if 1900 < len(r["prompt"]) < 2100]
    chats = [[Message("user", prompt)] for prompt in prompts]
    _time("analyze, 2,000 characters", [lambda chat=chat: analyze(chat) for chat in chats])
    _time("analyze, 1 million characters", [lambda: analyze([Message("user", prompts[0] * 500)])])
    answers = list(itertools.pairwise(prompts))
    task = analyze(chats[0], task_type=TaskType.CODING)
    _time("assess_quality, 2,000 characters", [lambda a=a, b=b: assess_quality(a, b, task=task) for a, b in answers])
    _time("assess_quality, 1 million characters", [lambda: assess_quality(prompts[0], prompts[1] * 500, task=task)])
    _time("capabilities_of, cached", [lambda: capabilities_of("llama3.1:8b")])
    _time("capabilities_of, first time", [lambda: estimate(profile_of.__wrapped__("qwen2.5:7b"), SHIPPED)])


def _time(title: str, calls: list[Callable[[], object]]) -> None:
    each = sorted(min(timeit.repeat(call, number=20, repeat=5)) / 20 * 1e6 for call in calls)
    print(f"  {title:38} median {each[len(each) // 2]:7.1f} us, slowest {each[-1]:7.1f} us ({len(each)} texts)")


if __name__ == "__main__":
    if not Path(DATA).exists():
        raise SystemExit(f"no development data at {DATA}")
    task_types()
    pools()
    print("times")
    times()
