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

from routed_ollama.priors.families import ACTIVE, FAMILIES, SIZE_WORDS, UNTUNED, Family

__all__ = ["Profile", "profile_of"]

_SIZE: Final = re.compile(r"(?<![a-z0-9.])(\d{1,9}(?:\.\d+)?)(t|b|m)(?![a-z0-9])")
_UNITS: Final = {"t": 1000.0, "b": 1.0, "m": 0.001}
"""Billions of parameters that one of each is."""
_ACTIVE: Final = re.compile(r"(?<![a-z0-9])a(\d{1,9}(?:\.\d+)?)b(?![a-z0-9])")
_EXPERTS: Final = re.compile(r"(?<![a-z0-9])(?:(\d{1,9})x(\d{1,9}(?:\.\d+)?)b|e[24]b)(?![a-z0-9])")
_QUANTIZATION: Final = re.compile(r"(?<![a-z0-9])(i?q\d[a-z0-9_]*|fp16|f16|bf16|f32|fp32|mxfp4)(?![a-z0-9])")
_VERSION: Final = re.compile(r"(?<![a-z0-9])(v\d+(?:\.\d+)?|\d\d-20\d\d|25\d\d|\d+b)(?![a-z0-9.])")
_GENERATION: Final = re.compile(r"([a-z]+(?:-[a-z]+)?)-?(\d{1,2}(?:\.\d)?)(?![\d.xb])")
"""What a name says of its generation: ``gemma4``, ``deepseek-v4``, ``glm-5.1``."""
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
_CLOUD: Final = Family("", 2025.6, 200.0)
"""The same of one that Ollama's cloud runs: most there came in 2025 or later and have hundreds of billions."""
_NEXT: Final = 0.5
"""Years after the latest known generation that the next one is assumed to have come."""
_NOT_TELLING: Final = frozenset({"llama", "clip", "gguf", ""})
"""Architectures that say nothing of a family: half of all models are built like Llama."""


def _key(text: str) -> str:
    return _NOISE.sub("", text)


_CODER: Final = re.compile(r"cod(?:e|er|ing)(?![a-z])|(?<![a-z])(?:code|sql)")
_MATH: Final = re.compile(r"math")
_VISION: Final = re.compile(r"vision|llava|(?<![a-z])vl(?![a-z])|[\d.]vl(?![a-z])|minicpm-v")
_THINKING: Final = re.compile(r"think|reason|(?<![a-z0-9])r1(?![0-9])|(?<![a-z])o1(?![0-9])|distill")
_BASE: Final = re.compile(r"(?<![a-z])(?:text|base|pt|fim)(?![a-z])")
_SPECIALIST: Final = re.compile(r"translat|chatqa|(?<![a-z])(?:nl2|n)?sql|(?<![a-z])rag(?![a-z])")
"""What a model says of itself that was made for one job: to translate, to write SQL, to answer from documents."""
_MUTE: Final = re.compile(
    r"guard|(?<![a-z])ocr(?![a-z])|rerank|reward|minicheck|embed|minilm|sentence-transformer|"
    r"(?<![a-z])(?:bge|gte|e5|paraphrase|splade|colbert)(?![a-z])"
)
"""What one calls itself that does not chat at all: it guards, ranks, checks, reads letters or makes vectors."""
_UNCENSORED: Final = re.compile(r"uncensored|abliterated|heretic")
_INSTRUCT: Final = re.compile(r"instruct|chat|(?<![a-z])it(?![a-z])")
_WORDS: Final = r"instruct|chat|it|gguf|hf|qat|text|base|pt|fim|code|thinking|preview|latest|distill|llama|qwen"
_PLAIN: Final = re.compile(rf"{'|'.join(sorted(map(_key, SIZE_WORDS), key=len, reverse=True))}|{_WORDS}|v?\d+k?|a\d+b")
_SIZE_WORD: Final = re.compile(
    rf"(?<![a-z0-9])(?:{'|'.join(sorted(map(re.escape, SIZE_WORDS), key=len, reverse=True))})(?![a-z0-9])"
)
_PLAIN_PART: Final = re.compile(rf"(?:{_WORDS}|v?[\d.]+|[\d.]+[bm]|\d+x[\d.]+b|[ae][\d.]+b|k|[a-z]+[\d.]+|)")
"""What names say of their makers' own models beside the family. Anything else is taken for somebody's tuning."""


_KEYS: Final = {_key(name): name for name in FAMILIES if ":" not in name}
_LONGEST_FIRST: Final = sorted(_KEYS, key=len, reverse=True)


def _generations() -> dict[str, tuple[float, Family]]:
    """The latest generation known of each name that counts its generations."""
    found: dict[str, tuple[float, Family]] = {}
    for name, facts in FAMILIES.items():
        match = _GENERATION.match(name)
        if match and float(match[2]) >= found.get(_key(match[1]), (0.0, facts))[0]:
            found[_key(match[1])] = (float(match[2]), facts)
    return found


_LATEST: Final = _generations()


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
    """Some of ``coder``, ``math``, ``vision``, ``thinking``, ``specialist``, ``mute``, ``base``, ``uncensored``."""
    quantization: str
    """Lower case, such as ``q4_k_m``; empty when neither name nor caller say."""
    sized: bool = False
    """Whether the size was stated; otherwise it is that of the family's default tag, or a guess."""
    tuned: bool = False
    """Whether the name says more than its maker's would: somebody's own version of the model."""

    @property
    def effective(self) -> float:
        """Size of a dense model of about the same ability: the geometric mean of all and active parameters."""
        return math.sqrt(self.size * self.active)


@lru_cache(maxsize=4096)
def profile_of(name: str, architecture: str = "", parameters: float = 0.0, quantization: str = "") -> Profile:
    """Take a model's name apart.

    Args:
        name: The name, with or without a tag.
        architecture: What Ollama calls its family; used when the name tells nothing.
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
    known = _family_of(base)
    facts = None if known else _later_generation(base)
    if facts is None:
        known = known or _family_by_architecture(architecture.lower())
        versions = (f"{known}:{version[1]}" for version in _VERSION.finditer(text))
        known = next((version for version in versions if version in FAMILIES), known)
        facts = FAMILIES.get(known, _CLOUD if tag.endswith("cloud") else _USUAL)
    family = known.partition(":")[0]
    stated = parameters if parameters > 0 else _size_of(text.replace(family, "", 1))
    size, active = _parts(family, text, stated or facts.size)
    marks = _QUANTIZATION.search(tag) or _QUANTIZATION.search(base)
    return Profile(
        family=known,
        line=facts.line,
        released=facts.released,
        size=size,
        active=active,
        variants=_variants(text, tag, known, facts),
        quantization=quantization.lower() or (marks[1] if marks else ""),
        sized=stated > 0,
        tuned=_is_tuned(base, tag, family),
    )


def _later_generation(base: str) -> Family | None:
    """What is assumed of a generation later than any that is known; None where the name tells of no such thing."""
    for candidate in (_OWNER.sub("", base), base):
        match = _GENERATION.match(candidate)
        version, latest = _LATEST.get(_key(match[1]), (math.inf, _USUAL)) if match else (math.inf, _USUAL)
        if match and float(match[2]) > version:
            return latest._replace(released=latest.released + _NEXT, variant="")
    return None


def _family_of(base: str) -> str:
    if _later_generation(base) is not None:
        return ""
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


def _is_tuned(base: str, tag: str, family: str) -> bool:
    key = _key(_QUANTIZATION.sub("", _SIZE.sub("", _OWNER.sub("", base))))
    left = _PLAIN.sub("", key.replace(_key(family), "", 1))
    parts = _SIZE_WORD.sub("", _QUANTIZATION.sub("", tag)).split("-")
    return bool(left) or not all(_PLAIN_PART.fullmatch(part) for part in parts)


def _size_of(text: str) -> float:
    """Billions of parameters that a name states; 0 when it states none."""
    if words := _SIZE_WORD.findall(text):
        return SIZE_WORDS[words[-1]]
    experts = _EXPERTS.search(text)
    if experts and experts[1]:
        return int(experts[1]) * float(experts[2]) * _SHARED_EXPERT
    found = _SIZE.search(text)
    if found is None:
        return 0.0
    return float(found[1]) * _UNITS[found[2]]


def _parts(family: str, text: str, size: float) -> tuple[float, float]:
    """Total and active parameters."""
    mixtures = ACTIVE.get(family, {})
    total = min(mixtures, key=lambda known: abs(known - size), default=0.0)
    if abs(size - total) <= _CLOSE * total:
        return total, mixtures[total]
    stated = _ACTIVE.search(text)
    if stated and 0 < float(stated[1]) < size:
        return size, float(stated[1])
    experts = _EXPERTS.search(text)
    if experts and experts[1]:
        return size, min(2 * float(experts[2]), size)
    return size, size


def _variants(text: str, tag: str, family: str, facts: Family) -> frozenset[str]:
    patterns = {
        "coder": _CODER, "math": _MATH, "vision": _VISION, "thinking": _THINKING, "specialist": _SPECIALIST,
        "uncensored": _UNCENSORED, "mute": _MUTE,
    }  # fmt: skip
    found = {name for name, pattern in patterns.items() if pattern.search(text)}
    untuned = family in UNTUNED or _BASE.search(text) or "code" in tag.split("-")
    if untuned and not _INSTRUCT.search(text):
        found.add("base")
    if "instruct" in text:
        found.discard("thinking")
    elif facts.variant == "thinking":
        found.add("thinking")
    if facts.variant and facts.variant != "thinking":
        found.add(facts.variant)
    return frozenset(found)
