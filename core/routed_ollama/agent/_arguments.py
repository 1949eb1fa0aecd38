"""What a caller gives an agent, checked and sorted. Pure."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from routed_ollama.catalog import with_tag
from routed_ollama.errors import ConfigurationError, RoutedOllamaWarning
from routed_ollama.types import Message

_RENAMED: Final = {"max_tokens": "num_predict"}
"""Names that other clients use for the same thing."""
_FIELDS: Final = frozenset({"keep_alive", "think"})
"""What Ollama takes beside the options."""
_OPTIONS: Final = frozenset(
    {
        "draft_num_predict",
        "frequency_penalty",
        "main_gpu",
        "min_p",
        "mirostat",
        "mirostat_eta",
        "mirostat_tau",
        "num_batch",
        "num_ctx",
        "num_gpu",
        "num_keep",
        "num_predict",
        "num_thread",
        "penalize_newline",
        "presence_penalty",
        "repeat_last_n",
        "repeat_penalty",
        "seed",
        "stop",
        "temperature",
        "tfs_z",
        "top_k",
        "top_p",
        "typical_p",
        "use_mmap",
    }
)
"""Options that Ollama knows; another is sent all the same, because a newer server may know it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is sent beside the messages: Ollama's ``options``, and the ``fields`` beside them."""

    options: Mapping[str, Any]
    fields: Mapping[str, Any]

    @classmethod
    def of(cls, given: Mapping[str, Any], *, stacklevel: int = 1) -> Settings:
        """Sort what a caller gave; what Ollama does not know is a warning that suggests the nearest name.

        Args:
            given: what was given, by name.
            stacklevel: how many calls further up the caller is.
        """
        named = {_RENAMED.get(name, name): value for name, value in given.items()}
        known = [*_OPTIONS, *_FIELDS, *_RENAMED]
        for name in named.keys() - _OPTIONS - _FIELDS:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "It is sent as an option, in case the server knows it."
            warnings.warn(f"Ollama knows no option {name!r}. {hint}", RoutedOllamaWarning, stacklevel=stacklevel + 1)
        return cls(
            {name: value for name, value in named.items() if name not in _FIELDS},
            {name: value for name, value in named.items() if name in _FIELDS},
        )

    def overridden(self, given: Mapping[str, Any], *, stacklevel: int = 1) -> Settings:
        """Return them with those of one request on top."""
        if not given:
            return self
        other = Settings.of(given, stacklevel=stacklevel + 1)
        return Settings({**self.options, **other.options}, {**self.fields, **other.fields})


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt to an agent: the conversation to send, what the plan needs to know, what is sent besides."""

    prompt: str
    messages: Sequence[Message]
    hints: Mapping[str, Any]
    settings: Settings


def checked_prompt(prompt: str) -> str:
    """Return a prompt that can be answered.

    Raises:
        TypeError: it is no text.
        ValueError: it is empty.
    """
    if not isinstance(prompt, str):
        raise TypeError(f"prompt must be text, not {type(prompt).__name__}.")
    if not prompt.strip():
        raise ValueError("The prompt is empty, so there is nothing to answer.")
    return prompt


def checked_models(models: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the names to choose among, with their tags; None for every installed chat model.

    Raises:
        ConfigurationError: the list is empty, or holds something else than names.
    """
    if models is None:
        return None
    names = [models] if isinstance(models, str) else list(models)
    for name in names:
        if not isinstance(name, str):
            raise ConfigurationError(f"models: expected names, found {type(name).__name__}.")
    if not names:
        raise ConfigurationError("models is empty. Leave it out to use every installed chat model.")
    return tuple(dict.fromkeys(map(with_tag, names)))


def checked_memory(memory: bool | int) -> int | None:
    """Return how many turns are remembered at most: 0 for none, None for all that fit.

    Raises:
        ConfigurationError: it is neither True nor False nor a number of turns.
    """
    if isinstance(memory, bool):
        return None if memory else 0
    if not isinstance(memory, int) or memory < 0:
        raise ConfigurationError(f"memory: expected True, False or a number of turns; found {memory!r}.")
    return memory
