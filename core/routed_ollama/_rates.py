"""Means whose old observations fade, and what is thought of a machine before any: tokens per second, loads. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from routed_ollama.priors.flags import likely_flags
from routed_ollama.priors.names import profile_of
from routed_ollama.types import Complexity, ModelInfo

FADE: Final = 0.98
"""Weight that an observation keeps when the next one comes: about the last 50 count."""

PRIOR_RATE_WEIGHT: Final = 1.5
"""Observations that the prior of a rate is worth. Small: a machine's speed is quickly known."""

# Priors of speed come from one machine's measurement (SmolLM2, 135M parameters, one CPU thread: 42 tok/s
# decode, 150 tok/s prefill, 100 MB/s load), scaled with size as memory bandwidth does, and from the design's default
# of 50 tok/s prefill. They only have to order models by size: the machine's own figures replace them at once.
PRIOR_PREFILL: Final = 50.0
"""Tokens per second."""
_DECODE_AT_1B: Final = 12.0
THOUGHTS: Final[Mapping[Complexity, float]] = {Complexity.LOW: 480.0, Complexity.MEDIUM: 800.0, Complexity.HIGH: 1200.0}
"""Tokens that a model which reasons unasked writes before its answer: as many as the analysis expects of one that is
asked to reason. Its own answers replace them, as they do what the analysis expects."""
_LOAD_BASE: Final = 0.5
_LOAD_BYTES_PER_SECOND: Final = 250e6


@dataclass(slots=True)
class Faded:
    """A mean whose old observations fade."""

    total: float = 0.0
    weight: float = 0.0

    def add(self, value: float, instead: float | None = None) -> None:
        """Take an observation, or put it in the place of an earlier one."""
        if instead is not None and self.weight:
            self.total += value - instead
            return
        self.total = self.total * FADE + value
        self.weight = self.weight * FADE + 1.0

    def mean(self, prior: float, prior_weight: float) -> float:
        """Return the mean, shrunk toward ``prior`` as if that had been seen ``prior_weight`` times."""
        weight = self.weight + prior_weight
        return (self.total + prior * prior_weight) / weight if weight else prior


@dataclass(slots=True)
class Rate:
    """Tokens by seconds, faded, with the number of observations behind it."""

    tokens: float = 0.0
    seconds: float = 0.0
    samples: float = 0.0

    def add(self, tokens: float, seconds: float) -> None:
        """Take an observation."""
        self.tokens = self.tokens * FADE + tokens
        self.seconds = self.seconds * FADE + seconds
        self.samples = self.samples * FADE + 1.0

    def per_second(self, prior: float) -> float:
        """Return tokens per second, shrunk toward ``prior``."""
        if not self.seconds:
            return prior
        share = self.samples / (self.samples + PRIOR_RATE_WEIGHT)
        return share * (self.tokens / self.seconds) + (1.0 - share) * prior


def prior_decode_rate(parameters: float) -> float:
    """Return the tokens per second to expect of a model of that many billion parameters, before any was seen.

    Example:
        >>> prior_decode_rate(1.0) > prior_decode_rate(8.0) > prior_decode_rate(70.0)
        True
    """
    return float(_DECODE_AT_1B / max(parameters or 7.0, 0.1) ** 0.75)


def decode_rate_by_name(info: ModelInfo) -> float:
    """Return the tokens per second to expect of a model on a machine that nobody knows, before any was seen.

    What is read for each token decides: of a mixture of experts its active parameters, of a name without a size those
    of the family's default tag. What somebody's cloud runs is as fast as the usual model, however large it is.

    Example:
        >>> rate = {name: decode_rate_by_name(ModelInfo(name)) for name in ("qwen3:30b-a3b", "gemma2", "llama3.3")}
        >>> rate["qwen3:30b-a3b"] > rate["gemma2"] > rate["llama3.3"]
        True
    """
    return prior_decode_rate(0.0 if info.remote else profile_of(info.name, info.family, info.parameters).active)


def reasons_unasked(info: ModelInfo) -> bool:
    """Whether a model reasons before it answers, if it is not told not to: Ollama has those do so that can.

    Example:
        >>> reasons_unasked(ModelInfo("deepseek-r1:8b")), reasons_unasked(ModelInfo("llama3.1:8b"))
        (True, False)
    """
    likely = likely_flags(info.name, family=info.family, parameters=info.parameters)
    return "thinking" in info.flags or "thinking" in likely


def prior_load_seconds(size: int) -> float:
    """Return the seconds to expect for loading that many bytes, before any load was seen."""
    return _LOAD_BASE + (size or 4_000_000_000) / _LOAD_BYTES_PER_SECOND
