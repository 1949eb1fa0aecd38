"""What a caller gives a router, checked. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from routed_ollama.errors import ConfigurationError
from routed_ollama.types import Candidate, Message


def conversation_of(prompt: str | Sequence[Message]) -> Sequence[Message]:
    """Return a prompt as a conversation.

    Raises:
        TypeError: it is neither text nor a list of messages.
    """
    if isinstance(prompt, str):
        return [Message("user", prompt)]
    if not isinstance(prompt, Sequence) or not all(isinstance(message, Message) for message in prompt):
        raise TypeError(f"prompt must be text or a list of routed_ollama.Message, not {type(prompt).__name__}.")
    return cast("Sequence[Message]", prompt)


def checked_name(model: str) -> str:
    """Return the name of a model.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(model, str) or not model.strip():
        raise ValueError(f"model must be a name, not {model!r}.")
    return model


def checked_scope(models: Sequence[str | Candidate] | str | None) -> tuple[str | Candidate, ...] | None:
    """Return the models to choose among; None for every installed chat model.

    Raises:
        ConfigurationError: there is none, or one is no name.
    """
    if models is None:
        return None
    names = [models] if isinstance(models, str) else list(models)
    if not names:
        raise ConfigurationError("models is empty. Leave it out to use every installed chat model.")
    for entry in names:
        if not isinstance(entry, str | Candidate):
            raise ConfigurationError(f"models: expected names, found {type(entry).__name__}.")
    return tuple(names)


def check_figure(name: str, value: float, expected: str, *, at_most: float = math.inf) -> None:
    """See that a figure is one.

    Args:
        name: of the argument.
        value: what was given.
        expected: what it must be, in words.
        at_most: its upper bound.

    Raises:
        ValueError: it is no number, or out of its range.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= at_most or value == math.inf:
        raise ValueError(f"{name} must be {expected}, not {value!r}.")
