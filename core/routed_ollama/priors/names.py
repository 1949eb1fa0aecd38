"""A model's name taken apart: family, size, variant. Law: any text is a name; the guess gets vaguer, never an error.

Understands `family:tag` of Ollama's library (`qwen2.5-coder:7b-instruct-q4_K_M`), names under a user
(`user/model:latest`) and names of Hugging Face repositories (`hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M`).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from routed_ollama.priors.families import ACTIVE, FAMILIES, SIZE_WORDS, Family

__all__ = ["Profile", "profile_of"]

_SIZE: Final = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)(b|m)(?![a-z0-9])")
_ACTIVE: Final = re.compile(r"(?<![a-z0-9])a(\d+(?:\.\d+)?)b(?![a-z0-9])")
_EXPERTS: Final = re.compile(r"(?<![a-z0-9])(?:(\d+)x(\d+(?:\.\d+)?)b|e[24]b)(?![a-z0-9])")
_QUANTIZATION: Final = re.compile(r"(?<![a-z0-9])(i?q\d[a-z0-9_]*|fp16|f16|bf16|f32|fp32|mxfp4)(?![a-z0-9])")
_VERSION: Final = re.compile(r"(?<![a-z0-9])(v\d+(?:\.\d+)?|\d\d-20\d\d)(?![a-z0-9.])")
_OWNER: Final = re.compile(r"^(?:meta-|[a-z0-9.-]+_(?:meta-)?)")
_NOISE: Final = re.compile(r"[-_. ]")
_SHARED_EXPERT: Final = 0.83
"""Mixtures called NxM share their attention: 8x7b has 46.7 billion parameters and not 56."""
_SHORTEST_INSIDE: Final = 4
"""A family's name shorter than this is recognised at the start of a name only."""
_CLOSE: Final = 0.2
"""Two sizes closer than this share are the same: names round."""
_USUAL: Final = Family("", 2024.5, 7.0)
"""What is assumed of a model that nothing is known of."""
_NOT_TELLING: Final = frozenset({"llama", "clip", "gguf", ""})
"""Architectures that say nothing of a family: half of all models are built like Llama."""

_CODER: Final = re.compile(r"cod(?:e|er|ing)(?![a-z])|(?<![a-z])(?:code|sql)")
_MATH: Final = re.compile(r"math")
_VISION: Final = re.compile(r"vision|llava|(?<![a-z])vl(?![a-z])|[\d.]vl(?![a-z])|minicpm-v")
_THINKING: Final = re.compile(r"think|reason|(?<![a-z0-9])r1(?![0-9])|(?<![a-z])o1(?![0-9])|distill")
_BASE: Final = re.compile(r"(?<![a-z])(?:text|base|pt|fim)(?![a-z])")
_UNCENSORED: Final = re.compile(r"uncensored|abliterated|heretic")
_INSTRUCT: Final = re.compile(r"instruct|chat|(?<![a-z])it(?![a-z])")


def _key(text: str) -> str:
    return _NOISE.sub("", text)


_KEYS: Final = {_key(name): name for name in FAMILIES if ":" not in name}
_LONGEST_FIRST: Final = sorted(_KEYS, key=len, reverse=True)


@dataclass(frozen=True, slots=True)
class Profile:
    """What a name says, completed by what is known of the family."""

    family: str
    """A key of ``FAMILIES``; empty when the family is not known."""
    line: str
    released: float
    size: float
    """Billions of parameters."""
    active: float
    """Billions of parameters used per token."""
    variants: frozenset[str]
    """Some of ``coder``, ``math``, ``vision``, ``thinking``, ``base``, ``uncensored``."""
    quantization: str
    """Lower case, such as ``q4_k_m``; empty when neither name nor caller say."""

    @property
    def effective(self) -> float:
        """Size of a dense model of about the same ability: the geometric mean of all and active parameters."""
        return math.sqrt(self.size * self.active)


@lru_cache(maxsize=4096)
def profile_of(name: str, family: str = "", parameters: float = 0.0, quantization: str = "") -> Profile:
    """Take a model's name apart.

    Args:
        name: The name, with or without a tag.
        family: What Ollama calls its family (the architecture); used when the name tells nothing.
        parameters: Billions of parameters, where known; believed over the name.
        quantization: Its quantization, where known; believed over the name.

    Returns:
        The profile.

    Example:
        >>> profile = profile_of("qwen3:30b-a3b")
        >>> profile.family, profile.size, profile.active
        ('qwen3', 30.5, 3.3)
    """
    text = name.strip().lower().rstrip("/").rpartition("/")[2]
    base, _, tag = text.partition(":")
    known = _family_of(base) or _family_by_architecture(family.lower())
    version = _VERSION.search(text)
    if version and f"{known}:{version[1]}" in FAMILIES:
        known = f"{known}:{version[1]}"
    facts = FAMILIES.get(known, _USUAL)
    size = parameters if parameters > 0 else _size_of(text, facts.size)
    size, active = _parts(known.partition(":")[0], text, size)
    marks = _QUANTIZATION.search(tag) or _QUANTIZATION.search(base)
    return Profile(
        family=known,
        line=facts.line,
        released=facts.released,
        size=size,
        active=active,
        variants=_variants(text, facts),
        quantization=quantization.lower() or (marks[1] if marks else ""),
    )


def _family_of(base: str) -> str:
    plain = _SIZE.sub("", base)
    for candidate in (_OWNER.sub("", plain), plain):
        key = _key(candidate)
        found = next((k for k in _LONGEST_FIRST if key.startswith(k)), "")
        if found:
            return _KEYS[found]
    key = _key(plain)
    found = next((k for k in _LONGEST_FIRST if len(k) >= _SHORTEST_INSIDE and k in key), "")
    return _KEYS.get(found, "")


def _family_by_architecture(architecture: str) -> str:
    if architecture in _NOT_TELLING:
        return ""
    key = _key(architecture)
    return _KEYS.get(key) or next((_KEYS[k] for k in _LONGEST_FIRST if key.startswith(k)), "")


def _size_of(text: str, default: float) -> float:
    for part in reversed(re.split(r"[:-]", text)):
        if part in SIZE_WORDS:
            return SIZE_WORDS[part]
    experts = _EXPERTS.search(text)
    if experts and experts[1]:
        return int(experts[1]) * float(experts[2]) * _SHARED_EXPERT
    found = _SIZE.search(text)
    if found is None or float(found[1]) <= 0:
        return default
    return float(found[1]) / (1000 if found[2] == "m" else 1)


def _parts(family: str, text: str, size: float) -> tuple[float, float]:
    """Total and active parameters."""
    for total, active in ACTIVE.get(family, {}).items():
        if abs(size - total) <= _CLOSE * total:
            return total, active
    stated = _ACTIVE.search(text)
    if stated and 0 < float(stated[1]) < size:
        return size, float(stated[1])
    experts = _EXPERTS.search(text)
    if experts and experts[1]:
        return size, min(2 * float(experts[2]), size)
    return size, size


def _variants(text: str, facts: Family) -> frozenset[str]:
    patterns = {"coder": _CODER, "math": _MATH, "vision": _VISION, "thinking": _THINKING, "uncensored": _UNCENSORED}
    found = {name for name, pattern in patterns.items() if pattern.search(text)}
    if _BASE.search(text) and not _INSTRUCT.search(text):
        found.add("base")
    if "instruct" in text:
        found.discard("thinking")
    elif facts.variant == "thinking":
        found.add("thinking")
    if facts.variant and facts.variant != "thinking":
        found.add(facts.variant)
    return frozenset(found)
