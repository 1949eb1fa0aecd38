"""The results that priors are derived from, and what each benchmark measures. Law: it reads and names, it fits nothing.

Rows and means of ``../shared/data`` beside the repository, and ``published_results.json`` beside this file. Only what
is MIT or Apache-2.0 is let through to a derivation; sources, licences and mappings are told in ``docs/priors.md``.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from routed_ollama.types import ModelCapability

ROOT: Final = Path(__file__).resolve().parents[2]
DATA: Final = ROOT.parent / "shared" / "data"
PUBLISHED: Final = Path(__file__).with_name("published_results.json")
LICENCES: Final = frozenset({"MIT", "Apache-2.0"})


class _Any(Container[str]):
    """Contains everything."""

    def __contains__(self, _: object) -> bool:
        return True


ANY: Final = _Any()

_C = ModelCapability
_CODE, _READ, _REASON, _CREATE, _ACCURATE, _FOLLOW = (
    _C.CODE_GENERATION, _C.CODE_ANALYSIS, _C.REASONING, _C.CREATIVITY, _C.ACCURACY, _C.INSTRUCTION_FOLLOWING
)  # fmt: skip
_MATHS: Final = "mathematics"
COLUMNS: Final[tuple[str, ...]] = (_CODE, _READ, _REASON, _CREATE, _ACCURATE, _FOLLOW, _MATHS)
"""What is derived, in the order of the shipped tables: six capabilities, and skill in mathematics."""
_Columns = tuple[str, ...]
_FORMAL: Final[_Columns] = (_REASON, _MATHS)
"""Mathematics of competitions and of science, which takes reasoning, too. Grade-school problems, told in plain words,
speak of reasoning alone."""
_GRADUATE: Final[_Columns] = (_REASON, _ACCURATE)
_LEADERBOARDS: Final[Mapping[str, Mapping[_Columns, str]]] = {
    "zeroeval": {(_ACCURATE,): "mmlu-redux", (_REASON, _FOLLOW): "zebra", (_READ,): "crux"},
    "opencompass": {
        _FORMAL: "math omni-math", (_REASON,): "gsm8k bbh musr", (_ACCURATE,): "mmlu", (_FOLLOW,): "ifeval",
    },
    "microsoft": {
        _FORMAL: "math", (_REASON,): "gsm8k mgsm bbh", _GRADUATE: "mmlu-pro",
        (_ACCURATE,): "mmlu mmlu-cf arc-challenge",
    },
    "simple-evals": {
        _FORMAL: "math", (_REASON,): "mgsm", _GRADUATE: "gpqa", (_ACCURATE,): "mmlu", (_CODE,): "humaneval",
    },
    "olmes": {
        _FORMAL: "math", (_REASON,): "gsm8k", (_ACCURATE,): "mmlu popqa", (_FOLLOW,): "ifeval",
        (_FOLLOW, _CREATE): "alpaca-eval",
    },
    "olmes-2025": {
        _FORMAL: "math aime-2024", (_REASON,): "bbh zebra", _GRADUATE: "gpqa", (_ACCURATE,): "mmlu",
        (_CODE,): "humaneval-plus livecodebench", (_FOLLOW,): "ifeval", (_FOLLOW, _CREATE): "alpaca-eval",
    },
    "lighteval": {
        _FORMAL: "aime-2025", (_REASON,): "gsm-plus", _GRADUATE: "gpqa", (_ACCURATE,): "global-mmlu",
        (_CODE,): "livecodebench", (_FOLLOW,): "ifeval",
    },
    "lighteval-2024": {(_REASON,): "gsm8k", _GRADUATE: "mmlu-pro", (_ACCURATE,): "arc", (_FOLLOW,): "ifeval"},
    "openbmb": {_FORMAL: "mathbench", (_CODE,): "humaneval-plus mbpp-plus livecodebench"},
    "reported": {
        _FORMAL: "math aime-2025", (_REASON,): "gsm8k", _GRADUATE: "gpqa", (_CODE,): "humaneval livecodebench-v6",
        (_FOLLOW,): "ifeval",
    },
    "reported-2026": {
        _FORMAL: "hmmt aime", _GRADUATE: "mmlu-pro gpqa", (_CODE,): "livecodebench", (_FOLLOW,): "ifeval",
    },
}  # fmt: skip
"""Who ran each, and what they measure."""
BENCHMARKS: Final[Mapping[str, _Columns]] = {
    "livecodebench:CODING/codegen-early-2024": (_CODE,),
    "livecodebench:TESTING/testgen": (_CODE, _READ),
    "livecodebench:DEBUGGING/self-repair": (_CODE, _READ),
    "livecodebench:ANALYSIS/code-execution": (_READ,),
    "wildbench/Coding & Debugging": (_CODE, _READ, _FOLLOW),
    "wildbench/Math & Data Analysis": _FORMAL,
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
    "zeroeval-math-l5/competition-math": _FORMAL,
    **{f"mmlu-pro/{name}": _FORMAL for name in ("math", "physics", "chemistry")},
    "mmlu-pro/business": (_REASON,),
    **{f"mmlu-pro/{name}": (_ACCURATE,) for name in ("biology", "economics", "health", "history", "other")},
    "mmlu-pro/philosophy": (_ACCURATE,),
    "mmlu-pro-overall": (_REASON, _ACCURATE),
    "arena-hard-v0.1": (_CODE, _REASON, _FOLLOW),
    "aider-edit": (_CODE, _READ),
    "aider-polyglot": (_CODE, _READ),
    "trtllm-mmlu": (_ACCURATE,),
    "trtllm-gsm8k": (_REASON,),
    **dict.fromkeys(("bfcl-v3-non-live", "bfcl-v4-non-live", "bfcl-v4-live"), (_FOLLOW,)),
    **dict.fromkeys(("open-r1-math-500", "deepseek-math-500", "deepseek-aime-2024"), _FORMAL),
    **dict.fromkeys(("open-r1-gpqa", "deepseek-gpqa"), _GRADUATE),
    **dict.fromkeys(("open-r1-livecodebench", "deepseek-livecodebench"), (_CODE,)),
    **{
        f"{hand}-{name}": columns
        for hand, tables in _LEADERBOARDS.items()
        for columns, names in tables.items()
        for name in names.split()
    },
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
    "LLama3.1-405b-Ins-FP8": "llama3.1:405b",
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

_LOWEST, _RANGE = -2.0, 10.0
"""WildBench's adjusted score runs from about -2 (gemma:2b) and cannot exceed 8 by much."""


class Result(NamedTuple):
    """A model's share of one benchmark."""

    benchmark: str
    model: str
    share: float
    independent: bool = True
    prompts: int = 1
    """How many it was measured on, where each is known."""


def results(data: Path = DATA, published: Path = PUBLISHED) -> list[Result]:
    """All results whose licence lets numbers be derived from them, in a fixed order."""
    return [result for result in raw_results(data, published, LICENCES) if result.benchmark in BENCHMARKS]


def raw_results(data: Path = DATA, published: Path = PUBLISHED, licences: Container[str] = ANY) -> list[Result]:
    """All results under given licences, in a fixed order. Those under any are for measuring only."""
    return sorted(
        [
            *_per_prompt(data / "routing.jsonl", licences),
            *_published(data / "category_priors.json"),
            *_leaderboards(published, licences),
        ]
    )


def _per_prompt(path: Path, licences: Container[str]) -> Iterable[Result]:
    sums: dict[tuple[str, str], list[float]] = defaultdict(list)
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row["licence"] not in licences:
                continue
            for model, score in row["scores"].items():
                if not model.startswith("x/"):
                    sums[f"{row['source']}/{row['category']}", model].append(score)
    for (benchmark, model), scores in sums.items():
        yield Result(benchmark, model, sum(scores) / len(scores), prompts=len(scores))


def _published(path: Path) -> Iterable[Result]:
    groups: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    for group, models in groups.items():
        for published, entry in models.items():
            if group == "wildbench:score" and published in WILDBENCH:
                for task, score in entry["task_categorized_scores"].items():
                    yield Result(f"wildbench/{task}", WILDBENCH[published], (score - _LOWEST) / _RANGE)
            elif group.startswith("livecodebench") and published in LIVECODEBENCH:
                yield Result(group, LIVECODEBENCH[published], entry[0] / 100)


def _leaderboards(path: Path, licences: Container[str]) -> Iterable[Result]:
    for table in json.loads(path.read_text(encoding="utf-8"))["tables"]:
        if table["licence"] in licences:
            for tag, percent in table["results"].values():
                yield Result(table["benchmark"], tag, percent / 100, table["by"] == "independent")
