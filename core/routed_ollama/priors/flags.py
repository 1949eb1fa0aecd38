"""What a model supports beside text, judged by its name alone. Law: asked only where no server has said it.

What is listed is what the pages of Ollama's library said of each family at the end of 2025: a family that its makers
call multimodal is here if Ollama gives it images.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from routed_ollama.priors.names import Profile, profile_of

__all__ = ["likely_flags"]

_SEE: Final[Mapping[str, float]] = {
    "gemma3": 3.0, "gemma4": 0.0, "translategemma": 0.0, "llama4": 0.0, "mistral-small3.1": 0.0,
    "mistral-small3.2": 0.0, "ministral-3": 0.0, "mistral-large-3": 0.0, "devstral-small-2": 0.0, "qwen3.5": 0.0,
    "kimi-k2.5": 0.0,
}  # fmt: skip
"""Families that see images beside those whose names or facts say "vision", from which size on (billions)."""

_CALL: Final = frozenset({
    "llama3.1", "llama3.2", "llama3.3", "llama4", "qwen2", "qwen2.5", "qwen2.5-coder", "qwq", "qwen3", "qwen3-coder",
    "qwen3-coder-next", "qwen3-vl", "qwen3:2507", "qwen3-next", "qwen3.5", "gemma4", "functiongemma", "mistral",
    "mixtral", "mistral-nemo", "mistral-large", "mistral-small", "mistral-small:22b", "mistral-small3.1",
    "mistral-small3.2", "ministral-3", "mistral-large-3", "devstral", "devstral-2", "devstral-small-2", "magistral",
    "phi4-mini", "deepseek-r1", "deepseek-v3.1", "deepseek-v3.2", "granite3-dense", "granite3-moe",
    "granite3.1-dense", "granite3.1-moe", "granite3.2", "granite3.2-vision", "granite3.3", "granite4", "command-r",
    "command-r:08-2024", "command-r-plus", "command-r-plus:08-2024", "command-r7b", "command-a", "aya-expanse",
    "nemotron", "nemotron-mini", "nemotron-3-nano", "smollm2", "smollm3", "gpt-oss", "olmo-3", "olmo-3.1", "glm-4.5",
    "glm-4.5-air", "glm-4.6", "glm-4.7", "glm-4.7-flash", "kimi-k2", "kimi-k2-thinking", "kimi-k2.5", "minimax-m2",
    "rnj-1", "hermes3", "firefunction-v2", "athene-v2", "cogito", "cogito-2.1",
})  # fmt: skip
"""Families that call tools. Of one that is not known it is not doubted: most that came since 2024 do."""
_CALLS: Final = re.compile(r"tool|function")
"""What one says of itself that was made to call them."""
_REASON: Final = frozenset({"qwen3-vl", "deepseek-v3.1", "deepseek-v3.2"})
"""Families that reason beside those whose names or facts say "thinking"; their tags with "instruct" do not."""


@lru_cache(maxsize=4096)
def likely_flags(name: str, *, family: str = "", parameters: float = 0.0) -> frozenset[str]:
    """Say which of Ollama's flags a model is likely to have, by its name.

    Args:
        name: The name as Ollama lists it, of any form.
        family: What Ollama calls its family; used when the name tells nothing.
        parameters: Billions of parameters; 0 when unknown.

    Returns:
        Some of ``tools``, ``vision`` and ``thinking``.

    Example:
        >>> sorted(likely_flags("qwen3-vl:8b")), sorted(likely_flags("gemma3:4b")), sorted(likely_flags("gemma3:1b"))
        (['thinking', 'tools', 'vision'], ['vision'], [])
    """
    profile = profile_of(name, family, parameters)
    found = {"vision": _sees(profile), "tools": _calls(profile, name), "thinking": _reasons(profile, name)}
    return frozenset(flag for flag, likely in found.items() if likely)


def _sees(profile: Profile) -> bool:
    return "vision" in profile.variants or profile.size >= _SEE.get(profile.family, float("inf"))


def _calls(profile: Profile, name: str) -> bool:
    if not profile.variants.isdisjoint({"mute", "base"}):
        return False
    return not profile.family or profile.family in _CALL or _CALLS.search(name.lower()) is not None


def _reasons(profile: Profile, name: str) -> bool:
    return "thinking" in profile.variants or (profile.family in _REASON and "instruct" not in name.lower())
