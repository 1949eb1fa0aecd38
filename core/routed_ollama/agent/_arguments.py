"""What a caller gives an agent, checked and sorted. Pure."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from routed_ollama._arguments import checked_names
from routed_ollama.agent._conversation import Turn, whole
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
_NOT_HERE: Final = {
    "format": "An agent answers in text; structured answers are what the adapters are for.",
    "images": "An agent takes text; images are what the adapters are for.",
    "messages": "Give the text as the prompt; memory=True keeps the conversation.",
    "stream": "Call stream() or astream().",
    "system": "That is the role's prompt: Role(name, prompt=...), or `roles` in the configuration.",
    "tools": "An agent calls no tools; the adapters do.",
}
"""What the official client takes and an agent does not, with what to do instead."""
_ELSEWHERE: Final = {
    "hosts": "The servers are the agent's: create_agent(role, hosts=[...]).",
    "memory": "It is the agent's: create_agent(role, memory=True).",
    "models": "The list is the agent's: create_agent(role, models=[...]); for one prompt there is model=...",
    "session": "Say it around the call: with routing(session=...).",
    "timeout": "Bounds are the agent's: create_agent(role, timeouts=...).",
    "timeouts": "Bounds are the agent's: create_agent(role, timeouts=...).",
}
"""What belongs to an agent or around a call, and is easily given with a prompt."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is sent beside the messages: Ollama's ``options``, and the ``fields`` beside them."""

    options: Mapping[str, Any]
    fields: Mapping[str, Any]

    @classmethod
    def of(cls, given: Mapping[str, Any], arguments: Iterable[str], *, stacklevel: int = 1) -> Settings:
        """Sort what a caller gave; what Ollama does not know is a warning that suggests the nearest name.

        Args:
            given: what was given, by name; ``options`` may hold some, as for the official client.
            arguments: names that the caller could have meant besides.
            stacklevel: how many calls further up the caller is.

        Raises:
            ConfigurationError: an agent does not take it; says what to do instead.
        """
        named = {_RENAMED.get(name, name): value for name, value in _flat(given).items()}
        for name in named.keys() & _NOT_HERE.keys():
            raise ConfigurationError(f"{name}: no option of an agent. {_NOT_HERE[name]}")
        if isinstance(named.get("stop"), str):
            named["stop"] = [named["stop"]]
        known = [*_OPTIONS, *_FIELDS, *_RENAMED, *arguments]
        for name in named.keys() - _OPTIONS - _FIELDS:
            warnings.warn(
                f"Ollama knows no option {name!r}. {_hint(name, known)}", RoutedOllamaWarning, stacklevel=stacklevel + 1
            )
        return cls(
            {name: value for name, value in named.items() if name not in _FIELDS},
            {name: value for name, value in named.items() if name in _FIELDS},
        )

    def overridden(self, given: Mapping[str, Any], arguments: Iterable[str], *, stacklevel: int = 1) -> Settings:
        """Return them with those of one request on top."""
        if not given:
            return self
        other = Settings.of(given, arguments, stacklevel=stacklevel + 1)
        return Settings({**self.options, **other.options}, {**self.fields, **other.fields})

    @property
    def num_ctx(self) -> int:
        """The context that is asked for, in tokens; 0 for none. What is no number is the server's to refuse."""
        return _positive(self.options.get("num_ctx"))

    @property
    def num_predict(self) -> int | None:
        """The answer's limit, in tokens; None for none."""
        return _positive(self.options.get("num_predict")) or None


def _hint(name: str, known: Sequence[str]) -> str:
    if name in _ELSEWHERE:
        return _ELSEWHERE[name]
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else "It is sent as an option, in case the server knows it."


def _positive(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _flat(given: Mapping[str, Any]) -> dict[str, Any]:
    options = given.get("options")
    if options is None:
        return {name: value for name, value in given.items() if name != "options"}
    if not isinstance(options, Mapping):
        raise ConfigurationError(f"options: expected a mapping, found {type(options).__name__}.")
    return {**options, **{name: value for name, value in given.items() if name != "options"}}


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt to an agent.

    Attributes:
        system: the role's prompt, as a message; empty for none.
        turns: what is remembered and fits the model that is answering the conversation.
        prompt: what is asked now.
        hints: what the plan needs to know besides.
        settings: what is sent besides.
    """

    system: Sequence[Message]
    turns: Sequence[Turn]
    prompt: str
    hints: Mapping[str, Any]
    settings: Settings

    @property
    def fixed(self) -> list[Message]:
        """What is sent in any case: the role's prompt and the new one."""
        return self.within(())

    @property
    def messages(self) -> list[Message]:
        """The whole conversation."""
        return self.within(self.turns)

    def within(self, turns: Sequence[Turn]) -> list[Message]:
        """Return the conversation with these turns alone."""
        return whole(turns, self.system, self.request)

    @property
    def request(self) -> Message:
        """What is asked now, as a message."""
        return Message("user", self.prompt)


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


def checked_name(name: str | None) -> str | None:
    """Return the name of a model.

    Raises:
        ConfigurationError: it is none.
    """
    if name is not None and (not isinstance(name, str) or not name.strip()):
        raise ConfigurationError(f"model: expected a name, found {_what(name)}.")
    return name


def _what(name: Any) -> str:
    return "an empty one" if isinstance(name, str) else type(name).__name__


def checked_models(models: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the names to choose among, with their tags; None for every installed chat model.

    Raises:
        ConfigurationError: the list is empty, or holds something else than names.
    """
    if models is None:
        return None
    return tuple(dict.fromkeys(map(with_tag, checked_names(models))))


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
