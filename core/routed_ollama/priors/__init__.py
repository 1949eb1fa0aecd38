"""What a model can do, judged by its name alone. Law: pure data and lookup; no I/O, and every name gets an answer.

``measured`` holds what public benchmarks show (generated), ``families`` what is known of families, ``names`` takes
names apart. A model that was measured keeps its own result as far as the evidence goes; any other gets its lineage's
curve over size and release date; an unknown name the bare curve. ``evidence_of`` says which of these it was. After
2024 the curve rises at half its pace, for few models of later years were measured. Sources: ``docs/priors.md``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from routed_ollama._frozen import FrozenDict
from routed_ollama.priors import measured
from routed_ollama.priors.names import Profile, profile_of
from routed_ollama.types import ModelCapability

__all__ = ["Evidence", "Grade", "capabilities_of", "evidence_of", "mathematics_of", "strength_of"]

Table = Mapping[str, tuple[float, ...]]
Grade = Literal["measured", "sparse", "reported", "sibling", "curve", "unknown"]


class Evidence(NamedTuple):
    """What the capabilities of a name rest on.

    Attributes:
        grade: ``measured``: own results in two or more benchmarks that others ran; ``sparse``: in one; ``reported``:
            the maker's figures alone; ``sibling``: those of another size, tuning or form of the family; ``curve``:
            what models of its size, date and lineage do; ``unknown``: the name tells nothing.
        independent: benchmarks in which others measured this very model, at full precision as a rule.
        maker: benchmarks in which its maker did.
    """

    grade: Grade
    independent: int = 0
    maker: int = 0


class Tables(NamedTuple):
    """The numbers the lookup works on: logits, one per capability of ``measured.ORDER``, and mathematics at the end."""

    curve: Table = measured.CURVE
    variants: Table = measured.VARIANTS
    lines: Table = measured.LINES
    models: Table = measured.MODELS
    families: Table = measured.FAMILIES


SHIPPED: Final = Tables()

_C = ModelCapability
_REFERENCE_SIZE: Final = 8.0
_REFERENCE_DATE: Final = 2024.4
_WELL_MEASURED: Final = 2024.75
"""Until when the measured models are many: Qwen2.5's release."""
_LATER_PACE: Final = 0.5
"""How much of the gain per year before that is expected after it: an assumption, on the careful side, from which the
measured models of later years deviate by their own results."""
_ENOUGH: Final = 2
"""Independent benchmarks from which a model counts as measured."""
_SMALLEST: Final = 0.05
"""Billions of parameters below which no model is thought to be smaller."""
_SMALL: Final = 2.0
_BELOW_SMALL: Final = 0.3
"""Logits that each halving below 2 billion parameters is assumed to cost beside the curve's; ``small`` of
``measured.CURVE`` is what measured models of 0.35 to 1.5 billion deviate from it."""
_SAME: Final = 0.26
"""Doublings of size within which two models of a family are taken to be the same: names round."""
_DISTANT: Final = 0.5
"""How fast a sibling's own result counts less: half of it is left at two doublings' distance."""

# Assumptions, in logits, in the order of the tables: what public results of the data at hand do not cover.
_ASSUMED: Final[Table] = {
    "math": (-0.3, -0.2, 0.0, -0.5, 0.0, -0.3, 0.5),
    "vision": (-0.3, -0.3, -0.2, -0.1, -0.1, -0.2, -0.2),
    "thinking": (0.3, 0.3, 0.5, 0.0, 0.1, 0.0, 0.5),
    "specialist": (-1.0, -1.0, -1.0, -0.8, -0.8, -2.0, -1.0),
    # It answers with a vector, a verdict of one word, or the letters of a picture: anything that chats is better.
    "mute": (-6.0, -6.0, -6.0, -6.0, -6.0, -6.0, -6.0),
    "uncensored": (-0.1, -0.1, -0.1, 0.1, -0.1, -0.1, -0.1),
    # A base model is measured with worked examples before each question; a chat has none, and it just goes on writing.
    "base": (-1.0, -1.0, -1.0, -0.8, -0.8, -2.0, -1.0),
}
_COLUMNS: Final = len(measured.ORDER) + 1
"""Numbers in each row of the tables: the capabilities, and mathematics."""
_PERPLEXITY: Final = {
    "1": 1.2, "2": 0.87, "3": 0.24, "4": 0.05, "5": 0.014, "6": 0.004, "8": 0.0004,
}  # fmt: skip
"""Rise of perplexity by bits, as llama.cpp's quantize tool states it for a 7B (Q2_K, Q3_K_M, Q4_K_M; 1: guessed)."""
_LOGITS_PER_PERPLEXITY: Final = 0.3
"""What a point of perplexity costs: in the same tool's tables a 13B is 0.65 points better than a 7B, so a doubling of
size (about 0.2 logits in ``measured.CURVE``) is worth about 0.7 points."""
_BYTES: Final = {"1": 0.25, "2": 0.36, "3": 0.45, "4": 0.58, "5": 0.7, "6": 0.82, "8": 1.06, "16": 2.0, "32": 4.0}
"""Bytes per parameter, by bits, K-quants' scales included."""
_USUAL_BITS: Final = "4"
"""Ollama's default tags are Q4_K_M."""
_HALF_SPEED: Final = 4.5
"""Gigabytes read per token at which SPEED is one half (a 7B in Q4_K_M reads 4.4): memory bandwidth is the limit."""
_THINKING_SPEED: Final = 0.5
"""A model that reasons first writes about twice as much before the answer is there."""
_STRENGTH: Final[Mapping[ModelCapability, float]] = {
    _C.REASONING: 0.3, _C.ACCURACY: 0.25, _C.INSTRUCTION_FOLLOWING: 0.2, _C.CODE_GENERATION: 0.1,
    _C.CODE_ANALYSIS: 0.1, _C.CREATIVITY: 0.05,
}  # fmt: skip
"""Shares of the capabilities in the overall strength."""


@lru_cache(maxsize=4096)
def capabilities_of(
    name: str, *, family: str = "", parameters: float = 0.0, quantization: str = ""
) -> Mapping[ModelCapability, float]:
    """Say what a model is good at, by its name.

    Args:
        name: The name as Ollama lists it, of any form.
        family: What Ollama calls its family; used when the name tells nothing.
        parameters: Billions of parameters; 0 when unknown.
        quantization: Such as ``Q4_K_M``; empty when unknown.

    Returns:
        Each capability from 0 to 1. A capability is the share of its benchmarks that the model is expected to solve,
        so values of different capabilities are not comparable, values of different models are.

    Example:
        >>> from routed_ollama.types import ModelCapability
        >>> code = ModelCapability.CODE_GENERATION
        >>> capabilities_of("qwen2.5-coder:7b")[code] > capabilities_of("llama2:7b")[code]
        True
    """
    return estimate(profile_of(name, family, parameters, quantization), SHIPPED)


@lru_cache(maxsize=4096)
def mathematics_of(name: str, *, family: str = "", parameters: float = 0.0, quantization: str = "") -> float:
    """Say how good a model is at mathematics, by its name: reasoning in general tells too little of it.

    Args:
        name: The name as Ollama lists it, of any form.
        family: What Ollama calls its family; used when the name tells nothing.
        parameters: Billions of parameters; 0 when unknown.
        quantization: Such as ``Q4_K_M``; empty when unknown.

    Returns:
        The share of mathematical problems that it is expected to solve, from 0 to 1.

    Example:
        >>> mathematics_of("mathstral:7b") > mathematics_of("mistral:7b")
        True
    """
    return mathematics(profile_of(name, family, parameters, quantization), SHIPPED)


@lru_cache(maxsize=4096)
def strength_of(name: str, *, family: str = "", parameters: float = 0.0, quantization: str = "") -> float:
    """Say how strong a model is overall, by its name; speed does not count.

    Args:
        name: The name as Ollama lists it, of any form.
        family: What Ollama calls its family; used when the name tells nothing.
        parameters: Billions of parameters; 0 when unknown.
        quantization: Such as ``Q4_K_M``; empty when unknown.

    Returns:
        From 0 to 1.

    Example:
        >>> strength_of("llama3.1:70b") > strength_of("llama3.1:8b") > strength_of("tinyllama")
        True
    """
    return strength_by(capabilities_of(name, family=family, parameters=parameters, quantization=quantization))


def strength_by(capabilities: Mapping[ModelCapability, float]) -> float:
    """Say how strong a model of given capabilities is overall, from 0 to 1; speed does not count."""
    return sum(share * capabilities[capability] for capability, share in _STRENGTH.items())


def evidence_of(name: str, *, family: str = "", parameters: float = 0.0) -> Evidence:
    """Say what the capabilities of a name rest on.

    Args:
        name: The name as Ollama lists it, of any form.
        family: What Ollama calls its family; used when the name tells nothing.
        parameters: Billions of parameters; 0 when unknown.

    Returns:
        The grade and the number of benchmarks behind it.

    Example:
        >>> evidence_of("llama3.1:8b-instruct-q4_K_M").grade, evidence_of("me/llama3.1-pirate:8b").grade
        ('measured', 'sibling')
        >>> evidence_of("some-model:7b").grade, evidence_of("some-model").grade
        ('curve', 'unknown')
    """
    profile = profile_of(name, family, parameters)
    nearest, distance = _nearest(profile, measured.MODELS)
    if not nearest:
        return Evidence("curve" if profile.line or profile.sized else "unknown")
    if distance > _SAME or profile.tuned or "base" in profile.variants:
        return Evidence("sibling")
    independent, maker = measured.EVIDENCE[nearest]
    grade: Grade = "measured" if independent >= _ENOUGH else "sparse" if independent else "reported"
    return Evidence(grade, independent, maker)


def estimate(profile: Profile, tables: Tables) -> Mapping[ModelCapability, float]:
    """Estimate the capabilities of a profile from given tables.

    Args:
        profile: What the name said.
        tables: The numbers to work on; ``SHIPPED`` for those of the package.

    Returns:
        Each capability from 0 to 1, to three decimals.
    """
    speed = {_C.SPEED: _speed(profile, _bits(profile.quantization))}
    return FrozenDict(speed | dict(zip(measured.ORDER, _shares(profile, tables), strict=False)))


def mathematics(profile: Profile, tables: Tables) -> float:
    """Estimate skill in mathematics, from 0 to 1, as ``estimate`` does the capabilities."""
    return _shares(profile, tables)[-1]


def _shares(profile: Profile, tables: Tables) -> list[float]:
    """One share per column of the tables."""
    bits = _bits(profile.quantization)
    loss = _LOGITS_PER_PERPLEXITY * _PERPLEXITY.get(bits, 0.0) * min(1.0, (7 / max(profile.size, 1.0)) ** 0.5)
    extras = [*_measured_extras(profile, tables), assumed(profile)]
    factors = [(tables.curve[name], factor) for name, factor in curve_terms(profile).items()]
    found = []
    for i in range(_COLUMNS):
        value = sum(slope[i] * factor for slope, factor in factors) + sum(extra[i] for extra in extras) - loss
        found.append(round(1 / (1 + math.exp(-value)), 3))
    return found


def curve_terms(profile: Profile) -> Mapping[str, float]:
    """Return the factors of the curve, by their names in ``measured.CURVE``."""
    released = profile.released
    years = min(released, _WELL_MEASURED) - _REFERENCE_DATE + _LATER_PACE * max(released - _WELL_MEASURED, 0.0)
    size = math.log2(max(profile.effective, _SMALLEST) / _REFERENCE_SIZE)
    return {"mean": 1.0, "size": size, "year": years, "small": _halvings(profile)}


def assumed(profile: Profile) -> tuple[float, ...]:
    """Return what is assumed of a profile beside what was measured, in logits, one per column of the tables."""
    rows = [_ASSUMED[name] for name in sorted(profile.variants & _ASSUMED.keys())]
    small = -_BELOW_SMALL * _halvings(profile)
    return tuple(small + sum(row[i] for row in rows) for i in range(_COLUMNS))


def _halvings(profile: Profile) -> float:
    return max(math.log2(_SMALL / max(profile.effective, _SMALLEST)), 0.0)


def _measured_extras(profile: Profile, tables: Tables) -> list[tuple[float, ...]]:
    found = [tables.variants[name] for name in profile.variants & tables.variants.keys()]
    if profile.line in tables.lines:
        found.append(tables.lines[profile.line])
    if profile.family in tables.families:
        found.append(tables.families[profile.family])
    return [*found, *_sibling(profile, tables.models)]


def _nearest(profile: Profile, models: Table) -> tuple[str, float]:
    """The measured model of the same family that is nearest in size, and how far it is in doublings; empty for none."""
    own = f"{profile.family}|" if profile.family else " "
    size = max(profile.size, _SMALLEST)
    distances = {key: abs(math.log2(float(key[len(own) :]) / size)) for key in models if key.startswith(own)}
    return min(distances.items(), key=lambda item: item[1], default=("", 0.0))


def _sibling(profile: Profile, models: Table) -> list[tuple[float, ...]]:
    """What the nearest measured model of the family adds, less the farther it is."""
    nearest, distance = _nearest(profile, models)
    if not nearest:
        return []
    share = 1.0 if distance <= _SAME else 1 / (1 + _DISTANT * distance)
    return [tuple(share * value for value in models[nearest])]


def _bits(quantization: str) -> str:
    """Bits per weight, as text; of the usual quantization where nothing is said."""
    digits = "".join(c for c in quantization.lower().removeprefix("mx").partition("_")[0] if c.isdigit())
    return digits if digits in _BYTES else _USUAL_BITS


def _speed(profile: Profile, bits: str) -> float:
    gigabytes = profile.active * _BYTES[bits]
    speed = _HALF_SPEED / (_HALF_SPEED + gigabytes)
    if "thinking" in profile.variants:
        speed *= _THINKING_SPEED
    return round(speed, 3)
