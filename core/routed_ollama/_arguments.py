"""What a caller gives a router, checked. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from types import UnionType
from typing import Any, cast

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
        wrong: object = prompt
        if isinstance(prompt, Sequence):
            wrong = next(message for message in prompt if not isinstance(message, Message))
        found = f"a list with {type(wrong).__name__}" if wrong is not prompt else type(prompt).__name__
        raise TypeError(f"prompt must be text or a list of routed_ollama.Message, not {found}.")
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
    return None if models is None else checked_names(models, str | Candidate)


def checked_names(models: Any, kinds: type | UnionType = str) -> tuple[Any, ...]:
    """Return the names of models, one of which at least was given.

    Args:
        models: what was given: a list, or one name.
        kinds: what counts as a name.

    Raises:
        ConfigurationError: there is none, or one is no name.
    """
    names = tuple(listed("models", models, "names"))
    if not names:
        raise ConfigurationError("models is empty. Leave it out to use every installed chat model.")
    for name in names:
        if not isinstance(name, kinds):
            raise ConfigurationError(f"models: expected names, found {type(name).__name__}.")
        if isinstance(name, str) and not name.strip():
            raise ConfigurationError("models: expected names, found an empty one.")
    return names


def listed(argument: str, given: Any, what: str) -> list[Any]:
    """Return what was given as a list; one that stands alone is a list of one.

    Args:
        argument: its name.
        given: what was given for it.
        what: is listed, in words.

    Raises:
        ConfigurationError: it is no list.
    """
    if isinstance(given, str | Candidate):
        return [given]
    if not isinstance(given, Iterable):
        raise ConfigurationError(f"{argument}: expected a list of {what}, found {type(given).__name__}.")
    return list(given)


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
