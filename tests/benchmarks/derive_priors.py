"""Derive the numbers of ``routed_ollama.priors.measured`` from public results.

    python tests/benchmarks/derive_priors.py [--write]

Reads ``../shared/data`` beside the repository: only what is MIT or Apache-2.0, and the published means of LiveCodeBench
and WildBench. Prints the module, or writes it. No prompt is read, only scores.

For each capability, every result is the logit of a share solved, explained as

    mean + benchmark + size * log2(effective parameters / 8) + year * (release - 2024.4) + variants + line + model

and fitted by ridge regression: the benchmark's difficulty is hardly shrunk, a variant (coder, math, base) by 1, a line
and a single model by 2 and 1.5. So a model that was measured often keeps its own result, one measured once lies between
that and the curve, and one never measured gets its line's curve. A line or model that was not measured in a capability
gets half of the mean of what it shows in the others. Everything is solved exactly; there is no chance in it.
"""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from routed_ollama.priors.names import Profile, profile_of
from routed_ollama.types import ModelCapability

ROOT: Final = Path(__file__).resolve().parents[2]
DATA: Final = ROOT.parent / "shared" / "data"
TARGET: Final = ROOT / "core" / "routed_ollama" / "priors" / "measured.py"
LICENCES: Final = frozenset({"MIT", "Apache-2.0"})

_C = ModelCapability
_CODE, _READ, _REASON, _CREATE, _ACCURATE, _FOLLOW = (
    _C.CODE_GENERATION, _C.CODE_ANALYSIS, _C.REASONING, _C.CREATIVITY, _C.ACCURACY, _C.INSTRUCTION_FOLLOWING
)  # fmt: skip
BENCHMARKS: Final[Mapping[str, tuple[ModelCapability, ...]]] = {
    "livecodebench:CODING/codegen-early-2024": (_CODE,),
    "livecodebench:TESTING/testgen": (_CODE, _READ),
    "livecodebench:DEBUGGING/self-repair": (_CODE, _READ),
    "livecodebench:ANALYSIS/code-execution": (_READ,),
    "wildbench/Coding & Debugging": (_CODE, _READ, _FOLLOW),
    "wildbench/Math & Data Analysis": (_REASON,),
    "wildbench/Planning & Reasoning": (_REASON, _FOLLOW),
    "wildbench/Creative Tasks": (_CREATE, _FOLLOW),
    "wildbench/Information/Advice seeking": (_ACCURATE, _FOLLOW, _CREATE),
    "uiuc-llmrouter/commongen": (_CREATE, _FOLLOW),
    "uiuc-llmrouter/gsm8k": (_REASON,),
    "uiuc-llmrouter/agentverse-mgsm": (_REASON,),
    "uiuc-llmrouter/arc_challenge": (_ACCURATE,),
    "uiuc-llmrouter/openbook_qa": (_ACCURATE,),
    "uiuc-llmrouter/trivia_qa": (_ACCURATE,),
    "zeroeval-gsm/grade-school-math": (_REASON,),
    "zeroeval-math-l5/competition-math": (_REASON,),
    **{f"mmlu-pro/{name}": (_REASON,) for name in ("math", "physics", "chemistry", "business")},
    **{f"mmlu-pro/{name}": (_ACCURATE,) for name in ("biology", "economics", "health", "history", "other")},
    "mmlu-pro/philosophy": (_ACCURATE,),
}  # fmt: skip
"""What each benchmark says something about."""

# Published names to the nearest name in Ollama's library. Models that nobody can run at home, and tunings under names
# that no tag has, are left out.
LIVECODEBENCH: Final[Mapping[str, str]] = {
    "DSCoder-33b-Ins": "deepseek-coder:33b",
    "DSCoder-6.7b-Ins": "deepseek-coder:6.7b",
    "DSCoder-1.3b-Ins": "deepseek-coder:1.3b",
    "DSCoder-33b-Base": "deepseek-coder:33b-base",
    "DSCoder-6.7b-Base": "deepseek-coder:6.7b-base",
    "DSCoder-1.3b-Base": "deepseek-coder:1.3b-base",
    "CodeLlama-70b-Ins": "codellama:70b",
    "CodeLlama-34b-Ins": "codellama:34b",
    "CodeLlama-13b-Ins": "codellama:13b",
    "CodeLlama-7b-Ins": "codellama:7b",
    "Cllama-34b-Ins": "codellama:34b",
    "Cllama-13b-Ins": "codellama:13b",
    "Cllama-7b-Ins": "codellama:7b",
    "LLama3-8b-Ins": "llama3:8b",
    "LLama3-70b-Ins": "llama3:70b",
    "Phind-34B-V2": "phind-codellama:34b",
    "WCoder-34B-V1": "wizardcoder:34b",
    "Codestral-Latest": "codestral:22b",
    "MagiCoderS-CL-7B": "magicoder:7b",
    "Mistral-Large": "mistral-large:123b",
    "Mixtral-8x22B-Ins": "mixtral:8x22b",
    "Mixtral-8x7B-Ins": "mixtral:8x7b",
    "StarCoder": "starcoder:15b-base",
    "Qwen2-Ins-72B": "qwen2:72b",
    "Qwen2.5-Ins-32B": "qwen2.5:32b",
    "LLama3.1-8b-Ins": "llama3.1:8b",
    "LLama3.1-70b-Ins": "llama3.1:70b",
    "Dracarys2-72B-Instruct": "dracarys:72b",
}
WILDBENCH: Final[Mapping[str, str]] = {
    "Mistral-Large-2": "mistral-large:123b",
    "deepseek-v2-chat-0628": "deepseek-v2:236b",
    "deepseek-coder-v2": "deepseek-coder-v2:236b",
    "deepseek-v2-coder-0628": "deepseek-coder-v2:236b",
    "Meta-Llama-3-70B-Instruct": "llama3:70b",
    "gemma-2-27b-it@together": "gemma2:27b",
    "Yi-1.5-34B-Chat": "yi:34b-v1.5",
    "Mistral-Nemo-Instruct-2407": "mistral-nemo:12b",
    "Qwen2-72B-Instruct": "qwen2:72b",
    "gemma-2-9b-it": "gemma2:9b",
    "Qwen1.5-72B-Chat-greedy": "qwen:72b",
    "command-r-plus": "command-r-plus:104b",
    "glm-4-9b-chat": "glm4:9b",
    "Yi-1.5-9B-Chat": "yi:9b-v1.5",
    "dbrx-instruct@together": "dbrx:132b",
    "command-r": "command-r:35b",
    "Mixtral-8x7B-Instruct-v0.1": "mixtral:8x7b",
    "Starling-LM-7B-beta": "starling-lm:7b",
    "reka-flash-20240226": "reka-flash:21b",
    "Nous-Hermes-2-Mixtral-8x7B-DPO": "nous-hermes2-mixtral:8x7b",
    "Meta-Llama-3-8B-Instruct": "llama3:8b",
    "gemma-2-2b-it": "gemma2:2b",
    "tulu-2-dpo-70b": "tulu2:70b",
    "Mistral-7B-Instruct-v0.2": "mistral:7b-v0.2",
    "Qwen1.5-7B-Chat@together": "qwen:7b",
    "Llama-2-70b-chat-hf": "llama2:70b",
    "Yi-1.5-6B-Chat": "yi:6b-v1.5",
    "Llama-2-7b-chat-hf": "llama2:7b",
    "gemma-7b-it": "gemma:7b",
    "gemma-2b-it": "gemma:2b",
}

VARIANTS: Final = ("coder", "math", "base")
_CLIP: Final = 0.03
"""Shares nearer than this to 0 or 1 count as this: the logit has no end."""
_REFERENCE_SIZE: Final = 8.0
_REFERENCE_DATE: Final = 2024.4
_RIDGE: Final = {"mean": 1e-6, "benchmark": 0.05, "size": 0.05, "year": 0.5, "variant": 1.0, "line": 2.0, "model": 1.5}
_LOWEST, _RANGE = -2.0, 10.0
"""WildBench's adjusted score runs from about -2 (gemma:2b) and cannot exceed 8 by much."""


class Result(NamedTuple):
    """A model's share of one benchmark."""

    benchmark: str
    model: str
    share: float


def results(data: Path = DATA) -> list[Result]:
    """All results whose licence lets numbers be derived from them, in a fixed order."""
    found = [*_per_prompt(data / "routing.jsonl"), *_published(data / "category_priors.json")]
    return sorted(result for result in found if result.benchmark in BENCHMARKS)


def _per_prompt(path: Path) -> Iterable[Result]:
    sums: dict[tuple[str, str], list[float]] = defaultdict(list)
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row["licence"] not in LICENCES:
                continue
            for model, score in row["scores"].items():
                if not model.startswith("x/"):
                    sums[f"{row['source']}/{row['category']}", model].append(score)
    for (benchmark, model), scores in sums.items():
        yield Result(benchmark, model, sum(scores) / len(scores))


def _published(path: Path) -> Iterable[Result]:
    groups: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    for group, models in groups.items():
        for published, entry in models.items():
            if group == "wildbench:score" and published in WILDBENCH:
                for task, score in entry["task_categorized_scores"].items():
                    yield Result(f"wildbench/{task}", WILDBENCH[published], (score - _LOWEST) / _RANGE)
            elif group.startswith("livecodebench") and published in LIVECODEBENCH:
                yield Result(group, LIVECODEBENCH[published], entry[0] / 100)


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
        "mean": 1.0,
        f"benchmark {result.benchmark}": 1.0,
        "size": math.log2(profile.effective / _REFERENCE_SIZE),
        "year": profile.released - _REFERENCE_DATE,
        f"line {profile.line}": 1.0,
        f"model {model_key(profile)}": 1.0,
    }
    return found | {f"variant {name}": 1.0 for name in VARIANTS if name in profile.variants}


def fit(capability: ModelCapability, found: Iterable[Result]) -> dict[str, float]:
    """Ridge regression of all results that speak of a capability."""
    rows = [(terms(r), logit(r.share)) for r in found if capability in BENCHMARKS[r.benchmark]]
    names = sorted({name for row, _ in rows for name in row})
    index = {name: i for i, name in enumerate(names)}
    matrix = [[0.0] * len(names) for _ in names]
    right = [0.0] * len(names)
    for name, i in index.items():
        matrix[i][i] = _RIDGE[name.partition(" ")[0]]
    for row, value in rows:
        items = [(index[name], factor) for name, factor in row.items()]
        for i, factor in items:
            right[i] += factor * value
            for j, other in items:
                matrix[i][j] += factor * other
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
Tables = dict[str, dict[str, tuple[float, ...]]]
CAPABILITIES: Final = (_CODE, _READ, _REASON, _CREATE, _ACCURATE, _FOLLOW)


def derive(found: list[Result]) -> Tables:
    """The tables of the shipped module: each name with one number per capability, in logits, to two decimals."""
    fits = [fit(capability, found) for capability in CAPABILITIES]
    tables: Tables = {"CURVE": {}, "VARIANTS": {}, "LINES": {}, "MODELS": {}}
    for name in sorted({name for one in fits for name in one}):
        kind, _, rest = name.partition(" ")
        table = {"variant": "VARIANTS", "line": "LINES", "model": "MODELS"}.get(kind, "CURVE")
        if kind == "benchmark" or rest.endswith("base"):
            continue
        missing = _borrowed(name, fits) if kind in {"line", "model"} else 0.0
        tables[table][rest or kind] = tuple(round(one.get(name, missing), 2) + 0.0 for one in fits)
    return tables


def _borrowed(name: str, fits: list[dict[str, float]]) -> float:
    """What is assumed of a capability that was not measured, from those that were."""
    measured = [one[name] for one in fits if name in one]
    return _BORROWED * sum(measured) / len(measured)


HEADER: Final = '''"""Measured priors. Law: generated, never edited.

Generator: ``python tests/benchmarks/derive_priors.py --write``; how the numbers are derived and shrunk stands there.
Sources: LLMRouter's published scores (MIT), MMLU-Pro's and ZeroEval's (Apache-2.0) per prompt, LiveCodeBench's and
WildBench's published means; all of full-precision models.

Logits per capability, in the order of ``ORDER``. ``CURVE`` holds the mean of a model of 8 billion parameters of
spring 2024, what a doubling of parameters adds and what a year adds; ``LINES`` and ``VARIANTS`` what a lineage or a
specialisation adds; ``MODELS`` (``family|size``) what single models add.
"""

from collections.abc import Mapping
from typing import Final

from routed_ollama.types import ModelCapability

_C = ModelCapability
ORDER: Final = (
    _C.CODE_GENERATION, _C.CODE_ANALYSIS, _C.REASONING, _C.CREATIVITY, _C.ACCURACY, _C.INSTRUCTION_FOLLOWING
)  # fmt: skip
'''


def render(tables: Mapping[str, Mapping[str, tuple[float, ...]]]) -> str:
    """The source of the shipped module."""
    parts = [HEADER]
    for name, table in tables.items():
        lines = "".join(f'    "{key}": {values},\n' for key, values in table.items())
        parts.append(f"{name}: Final[Mapping[str, tuple[float, ...]]] = {{\n{lines}}}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    source = render(derive(results()))
    if "--write" in sys.argv[1:]:
        TARGET.write_text(source, encoding="utf-8")
    else:
        sys.stdout.write(source)
