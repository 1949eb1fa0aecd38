"""Model families by name: whose they are, when they came out, how large they are. Law: public facts only, no scores.

Dates are years with the month as a fraction, sizes are billions of parameters. A family's name is how Ollama's library
calls it; ``name:v1.5`` stands for a version that is told apart by a part of the tag. ``active`` is what a mixture of
experts uses per token. Sources: the makers' announcements and model cards.
A distilled model has the date of the models it was made from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = ["ACTIVE", "FAMILIES", "SIZE_WORDS", "UNTUNED", "Family"]


class Family(NamedTuple):
    """What is known of a family before any of its models was measured."""

    line: str
    """Whose lineage: members of a line tend to be better or worse than their size and date say, alike."""
    released: float
    size: float
    """Size of the default tag."""
    variant: str = ""
    """``coder``, ``math``, ``vision``, ``thinking``, ``specialist`` (made for one job that is not to chat: to call
    functions, to answer from documents, to write SQL) or ``mute`` (it does not chat at all: it guards, it checks) when
    all of the family is."""


_F = Family

FAMILIES: Final[Mapping[str, Family]] = {
    # Meta
    "llama2": _F("llama", 2023.55, 7),
    "llama2-uncensored": _F("llama", 2023.55, 7),
    "codellama": _F("llama", 2023.65, 7, "coder"),
    "llama3": _F("llama", 2024.3, 8),
    "llama3.1": _F("llama", 2024.55, 8),
    "llama3.2": _F("llama", 2024.75, 3.2),
    "llama3.2-vision": _F("llama", 2024.75, 10.7, "vision"),
    "llama3.3": _F("llama", 2024.95, 70.6),
    "llama4": _F("llama", 2025.3, 109),
    # Alibaba
    "qwen": _F("qwen", 2024.1, 4),
    "codeqwen": _F("qwen", 2024.3, 7.3, "coder"),
    "qwen2": _F("qwen", 2024.45, 7.6),
    "qwen2-math": _F("qwen", 2024.6, 7.6, "math"),
    "qwen2.5": _F("qwen", 2024.7, 7.6),
    "qwen2.5-coder": _F("qwen", 2024.85, 7.6, "coder"),
    "qwen2.5vl": _F("qwen", 2025.1, 8.3, "vision"),
    "qwq": _F("qwen", 2025.15, 32.8, "thinking"),
    "qwen3": _F("qwen", 2025.3, 8.2, "thinking"),
    "qwen3-coder": _F("qwen", 2025.55, 30.5, "coder"),
    "qwen3-coder-next": _F("qwen", 2026.1, 79.7, "coder"),
    "qwen3-vl": _F("qwen", 2025.8, 8.8, "vision"),
    "qwen3:2507": _F("qwen", 2025.55, 4.0),
    "qwen3-next": _F("qwen", 2025.7, 79.7),
    "qwen3.5": _F("qwen", 2026.15, 9.0, "thinking"),
    # Google
    "gemma": _F("gemma", 2024.15, 8.5),
    "codegemma": _F("gemma", 2024.3, 8.5, "coder"),
    "codegemma:2b": _F("gemma", 2024.3, 2.5, "coder"),
    "gemma2": _F("gemma", 2024.5, 9.2),
    "shieldgemma": _F("gemma", 2024.55, 9.2, "mute"),
    "gemma3": _F("gemma", 2025.2, 4.3),
    "gemma3n": _F("gemma", 2025.5, 6.9),
    "gemma4": _F("gemma", 2026.25, 8.0, "thinking"),
    # Mistral
    "mistral": _F("mistral", 2024.4, 7.2),
    "mistral:v0.1": _F("mistral", 2023.75, 7.2),
    "mistral:v0.2": _F("mistral", 2023.95, 7.2),
    "mixtral": _F("mistral", 2023.95, 46.7),
    "codestral": _F("mistral", 2024.4, 22.2, "coder"),
    "mathstral": _F("mistral", 2024.55, 7.2, "math"),
    "mistral-nemo": _F("mistral", 2024.55, 12.2),
    "mistral-large": _F("mistral", 2024.55, 122.6),
    "mistral-small": _F("mistral", 2025.1, 23.6),
    "mistral-small:22b": _F("mistral", 2024.7, 22.2),
    "mistral-small3.1": _F("mistral", 2025.2, 24.0),
    "mistral-small3.2": _F("mistral", 2025.45, 24.0),
    "ministral-3": _F("mistral", 2025.9, 8.0),
    "mistral-large-3": _F("mistral", 2025.92, 675),
    "devstral": _F("mistral", 2025.4, 23.6, "coder"),
    "devstral-2": _F("mistral", 2025.94, 123, "coder"),
    "devstral-small-2": _F("mistral", 2025.94, 24, "coder"),
    "magistral": _F("mistral", 2025.45, 23.6, "thinking"),
    # Microsoft
    "phi": _F("phi", 2023.95, 2.8),
    "phi3": _F("phi", 2024.3, 3.8),
    "phi3.5": _F("phi", 2024.65, 3.8),
    "phi4": _F("phi", 2024.95, 14.7),
    "phi4-mini": _F("phi", 2025.15, 3.8),
    "phi4-reasoning": _F("phi", 2025.35, 14.7, "thinking"),
    "phi4-mini-reasoning": _F("phi", 2025.35, 3.8, "thinking"),
    "wizardlm2": _F("mistral", 2024.3, 7.2),
    "orca-mini": _F("llama", 2023.5, 3.4),
    # DeepSeek
    "deepseek-coder": _F("deepseek", 2023.85, 1.3, "coder"),
    "deepseek-llm": _F("deepseek", 2023.9, 7),
    "deepseek-v2": _F("deepseek", 2024.35, 15.7),
    "deepseek-coder-v2": _F("deepseek", 2024.45, 15.7, "coder"),
    "deepseek-v2.5": _F("deepseek", 2024.7, 236),
    "deepseek-v3": _F("deepseek", 2024.98, 671),
    "deepseek-r1": _F("distilled", 2024.75, 8.2, "thinking"),
    "deepseek-v3.1": _F("deepseek", 2025.65, 671),
    "deepseek-v3.2": _F("deepseek", 2025.92, 671),
    "r1-1776": _F("distilled", 2025.0, 70.6, "thinking"),
    # IBM
    "granite-code": _F("granite", 2024.35, 3, "coder"),
    "granite3-dense": _F("granite", 2024.8, 2.6),
    "granite3-moe": _F("granite", 2024.8, 1.3),
    "granite3.1-dense": _F("granite", 2024.95, 8.2),
    "granite3.1-moe": _F("granite", 2024.95, 3.3),
    "granite3.2": _F("granite", 2025.15, 8.2),
    "granite3.2-vision": _F("granite", 2025.15, 2.5, "vision"),
    "granite3.3": _F("granite", 2025.3, 8.2),
    "granite4": _F("granite", 2025.75, 3.4),
    # Cohere
    "command-r": _F("cohere", 2024.2, 35),
    "command-r:08-2024": _F("cohere", 2024.65, 32.3),
    "command-r-plus": _F("cohere", 2024.27, 104),
    "command-r-plus:08-2024": _F("cohere", 2024.65, 104),
    "command-r7b": _F("cohere", 2024.95, 8.0),
    "command-a": _F("cohere", 2025.2, 111),
    "aya": _F("cohere", 2024.4, 8.0),
    "aya-expanse": _F("cohere", 2024.8, 8.0),
    # 01.AI
    "yi": _F("yi", 2023.85, 6.1),
    "yi:v1.5": _F("yi", 2024.37, 6.1),
    "yi-coder": _F("yi", 2024.7, 8.8, "coder"),
    # Nvidia
    "nemotron": _F("nemotron", 2024.8, 70.6),
    "nemotron-mini": _F("nemotron", 2024.7, 4.2),
    "nemotron-3-nano": _F("nemotron", 2025.95, 31.6, "thinking"),
    "llama3-chatqa": _F("nemotron", 2024.35, 8, "specialist"),
    # Small ones
    "smollm": _F("smollm", 2024.55, 1.7),
    "smollm2": _F("smollm", 2024.85, 1.7),
    "smollm3": _F("smollm", 2025.5, 3.1),
    "tinyllama": _F("tinyllama", 2024.0, 1.1),
    "tinydolphin": _F("tinyllama", 2024.05, 1.1),
    "stablelm2": _F("stablelm", 2024.05, 1.6),
    "stable-code": _F("stablelm", 2024.05, 2.8, "coder"),
    # Other makers
    "gpt-oss": _F("openai", 2025.6, 20.9, "thinking"),
    "olmo2": _F("olmo", 2024.9, 7.3),
    "olmo-3": _F("olmo", 2025.9, 7.3),
    "olmo-3.1": _F("olmo", 2025.95, 32.2),
    "glm4": _F("glm", 2024.45, 9.4),
    "codegeex4": _F("glm", 2024.5, 9.4, "coder"),
    "glm-4.5": _F("glm", 2025.57, 355, "thinking"),
    "glm-4.5-air": _F("glm", 2025.57, 106, "thinking"),
    "glm-4.6": _F("glm", 2025.75, 357, "thinking"),
    "glm-4.7": _F("glm", 2025.97, 358, "thinking"),
    "glm-4.7-flash": _F("glm", 2026.05, 30, "thinking"),
    "falcon": _F("falcon", 2023.4, 7),
    "falcon2": _F("falcon", 2024.4, 11),
    "falcon3": _F("falcon", 2024.95, 7.5),
    "alfred": _F("falcon", 2023.85, 40),
    "kimi-k2": _F("kimi", 2025.53, 1000),
    "kimi-k2-thinking": _F("kimi", 2025.85, 1000, "thinking"),
    "kimi-k2.5": _F("kimi", 2026.07, 1000, "thinking"),
    "minimax-m2": _F("minimax", 2025.82, 230, "thinking"),
    "rnj-1": _F("rnj", 2025.93, 8.3),
    "dbrx": _F("dbrx", 2024.25, 132),
    "starcoder": _F("starcoder", 2023.35, 3, "coder"),
    "starcoder2": _F("starcoder", 2024.15, 3, "coder"),
    "internlm2": _F("internlm", 2024.1, 7.7),
    "exaone3.5": _F("exaone", 2024.95, 7.8),
    "exaone-deep": _F("exaone", 2025.2, 7.8, "thinking"),
    "solar": _F("solar", 2023.95, 10.7),
    "solar-pro": _F("solar", 2024.7, 22.1),
    "reka-flash": _F("reka", 2024.15, 21),
    "opencoder": _F("opencoder", 2024.85, 7.8, "coder"),
    "llava": _F("llava", 2024.1, 7.2, "vision"),
    "llava-llama3": _F("llava", 2024.35, 8, "vision"),
    "llava-phi3": _F("llava", 2024.35, 3.8, "vision"),
    "bakllava": _F("llava", 2023.8, 7.2, "vision"),
    "minicpm-v": _F("minicpm", 2024.6, 7.6, "vision"),
    "moondream": _F("moondream", 2024.25, 1.4, "vision"),
    # For one job alone
    "llama-guard3": _F("llama", 2024.55, 8, "mute"),
    "granite3-guardian": _F("granite", 2024.9, 8.2, "mute"),
    "nexusraven": _F("llama", 2023.9, 13, "specialist"),
    "duckdb-nsql": _F("llama", 2024.1, 7, "specialist"),
    "meditron": _F("llama", 2023.9, 7, "specialist"),
    "medllama2": _F("llama", 2023.7, 7, "specialist"),
    "firefunction-v2": _F("llama", 2024.45, 70.6, "specialist"),
    "bespoke-minicheck": _F("internlm", 2024.65, 7.7, "mute"),
    "gpt-oss-safeguard": _F("openai", 2025.8, 20.9, "mute"),
    "functiongemma": _F("gemma", 2025.95, 0.27, "specialist"),
    "translategemma": _F("gemma", 2026.0, 4.3, "specialist"),
    "nuextract": _F("phi", 2024.5, 3.8, "specialist"),
    "reader-lm": _F("qwen", 2024.7, 1.5, "specialist"),
    # Tuned by others, on models of a line above
    "hermes3": _F("llama", 2024.65, 8),
    "nous-hermes": _F("llama", 2023.55, 7),
    "nous-hermes2": _F("llama", 2023.98, 10.7),
    "nous-hermes2-mixtral": _F("mistral", 2024.05, 46.7),
    "openhermes": _F("mistral", 2023.85, 7.2),
    "zephyr": _F("mistral", 2023.8, 7.2),
    "dolphin-mistral": _F("mistral", 2024.2, 7.2),
    "dolphin-mixtral": _F("mistral", 2023.98, 46.7),
    "dolphin-llama3": _F("llama", 2024.35, 8),
    "dolphin-phi": _F("phi", 2023.98, 2.8),
    "dolphin3": _F("llama", 2025.0, 8),
    "dolphincoder": _F("starcoder", 2024.3, 7, "coder"),
    "openchat": _F("mistral", 2024.0, 7.2),
    "neural-chat": _F("mistral", 2023.9, 7.2),
    "starling-lm": _F("mistral", 2024.2, 7.2),
    "notus": _F("mistral", 2023.9, 7.2),
    "vicuna": _F("llama", 2023.5, 7),
    "wizard-vicuna-uncensored": _F("llama", 2023.45, 7),
    "wizardcoder": _F("llama", 2023.65, 33, "coder"),
    "wizard-math": _F("llama", 2023.75, 7, "math"),
    "orca2": _F("llama", 2023.9, 7),
    "phind-codellama": _F("llama", 2023.65, 34, "coder"),
    "magicoder": _F("llama", 2023.95, 7, "coder"),
    "sqlcoder": _F("starcoder", 2024.0, 7, "specialist"),
    "athene-v2": _F("qwen", 2024.85, 72.7),
    "dracarys": _F("qwen", 2024.65, 72.7, "coder"),
    "tulu2": _F("llama", 2023.88, 70),
    "tulu3": _F("llama", 2024.9, 8),
    "marco-o1": _F("qwen", 2024.9, 7.6, "thinking"),
    "openthinker": _F("qwen", 2025.1, 7.6, "thinking"),
    "deepscaler": _F("qwen", 2025.1, 1.8, "thinking"),
    "deepcoder": _F("qwen", 2025.3, 14.8, "thinking"),
    "cogito": _F("llama", 2025.3, 8, "thinking"),
    "cogito-2.1": _F("deepseek", 2025.88, 671, "thinking"),
    "sailor2": _F("qwen", 2024.92, 8.5),
    "wizardlm": _F("llama", 2023.4, 30),
    "wizardlm-uncensored": _F("llama", 2023.45, 13),
    "wizard-vicuna": _F("llama", 2023.4, 13),
    "llama2-chinese": _F("llama", 2023.55, 7),
    "stable-beluga": _F("llama", 2023.55, 7),
    "everythinglm": _F("llama", 2023.6, 13),
    "open-orca-platypus2": _F("llama", 2023.62, 13),
    "codeup": _F("llama", 2023.65, 13, "coder"),
    "codebooga": _F("llama", 2023.8, 34, "coder"),
    "xwinlm": _F("llama", 2023.72, 7),
    "yarn-llama2": _F("llama", 2023.67, 7),
    "yarn-mistral": _F("mistral", 2023.83, 7.2),
    "mistral-openorca": _F("mistral", 2023.75, 7.2),
    "samantha-mistral": _F("mistral", 2023.78, 7.2),
    "mistrallite": _F("mistral", 2023.8, 7.2),
    "goliath": _F("llama", 2023.85, 118),
    "megadolphin": _F("llama", 2024.03, 120),
    "stablelm-zephyr": _F("stablelm", 2023.93, 2.8),
    "notux": _F("mistral", 2023.98, 46.7),
    "llama-pro": _F("llama", 2024.0, 8.3),
    "smallthinker": _F("qwen", 2024.98, 3.1, "thinking"),
}
"""Family name to what is known of it."""

ACTIVE: Final[Mapping[str, Mapping[float, float]]] = {
    "mixtral": {46.7: 12.9, 141: 39}, "nous-hermes2-mixtral": {46.7: 12.9}, "dolphin-mixtral": {46.7: 12.9, 141: 39},
    "deepseek-v2": {15.7: 2.4, 236: 21}, "deepseek-coder-v2": {15.7: 2.4, 236: 21}, "deepseek-v2.5": {236: 21},
    "deepseek-v3": {671: 37}, "deepseek-v3.1": {671: 37}, "deepseek-v3.2": {671: 37}, "cogito-2.1": {671: 37},
    "qwen3-coder-next": {79.7: 3}, "glm-4.5": {355: 32}, "glm-4.5-air": {106: 12}, "glm-4.6": {357: 32},
    "glm-4.7": {358: 32}, "kimi-k2": {1000: 32}, "kimi-k2-thinking": {1000: 32}, "kimi-k2.5": {1000: 32},
    "minimax-m2": {230: 10}, "mistral-large-3": {675: 41}, "notux": {46.7: 12.9},
    "deepseek-r1": {671: 37}, "dbrx": {132: 36},
    "wizardlm2": {141: 39}, "qwen2": {57.4: 14}, "qwen3-next": {79.7: 3}, "glm-4.7-flash": {30: 3},
    "qwen3": {30.5: 3.3, 32.8: 32.8, 235: 22}, "qwen3-coder": {30.5: 3.3, 480: 35},
    "qwen3-vl": {30.5: 3.3, 33.4: 33.4, 235: 22}, "qwen3.5": {35: 3, 122: 10, 397: 17},
    "gpt-oss": {20.9: 3.6, 117: 5.1}, "gpt-oss-safeguard": {20.9: 3.6, 117: 5.1}, "llama4": {109: 17, 400: 17},
    "granite3-moe": {1.3: 0.4, 3.3: 0.8}, "granite3.1-moe": {1.3: 0.4, 3.3: 0.8}, "granite4": {7: 1, 32: 9},
    "gemma3n": {5.4: 2, 6.9: 4}, "gemma4": {5.1: 2.3, 8.0: 4.5, 25.2: 3.8}, "nemotron-3-nano": {31.6: 3.6},
}  # fmt: skip
"""Mixtures of experts: total to active parameters, in billions; and dense models of nearly the size of one."""

UNTUNED: Final = frozenset({"starcoder", "starcoder2", "codegemma:2b", "yarn-llama2", "yarn-mistral"})
"""Families whose plain tags are base models, as their pages in Ollama's library say; tags with "instruct" are not."""

SIZE_WORDS: Final[Mapping[str, float]] = {
    "8x7b": 46.7, "8x22b": 141, "e2b": 5.4, "e4b": 6.9, "16x17b": 109, "128x17b": 400, "scout": 109, "maverick": 400,
    "mini": 3.8, "medium": 14.0, "small-h": 32, "h-small": 32, "tiny-h": 7,
    "h-tiny": 7, "micro": 3.4, "micro-h": 3.2, "h-micro": 3.2,
}  # fmt: skip
"""Sizes that tags say in words, where the number of parameters does not stand in them."""
