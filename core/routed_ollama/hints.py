"""Hints from where no keyword arrives: a context variable that every adapter reads when a request begins.

Engines and agents hand no arguments of their own to the model they use, so what is known of a request is said around
it. A context variable is seen by the tasks that are started inside the block, and by no other.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Final, cast, get_args

from routed_ollama.errors import ConfigurationError, RoutedOllamaWarning
from routed_ollama.types import Prefer, TaskType

_NONE: Final[Mapping[str, Any]] = MappingProxyType({})
_current: ContextVar[Mapping[str, Any]] = ContextVar("routed_ollama_hints", default=_NONE)


@contextmanager
def routing(
    *,
    prefer: Prefer | None = None,
    task_type: TaskType | str | None = None,
    model: str | None = None,
    session: str | None = None,
) -> Iterator[None]:
    """Say what is known of the requests that are made inside the block, sync and async, with every adapter.

    A hint given with a call is stronger; an inner block adds to an outer one. A stream takes what was in force when it
    was asked for.

    Args:
        prefer: ``"quality"``, ``"speed"`` or ``"balanced"``.
        task_type: what the prompts ask for, where the analysis may not tell.
        model: the one to ask first.
        session: name of a conversation; it stays with the model that is answering it.

    Raises:
        ConfigurationError: a value is none of those there are.

    Example:
        >>> with routing(prefer="speed", task_type="coding"):
        ...     sorted(request_hints({}))
        ['prefer', 'task_type']
    """
    given = {"prefer": prefer, "task_type": task_type, "model": model, "session": session}
    with hinting({**_current.get(), **_checked(given)}):
        yield


def current_hints() -> Mapping[str, Any]:
    """Return what is said around a call, for one that is made later."""
    return _current.get()


@contextmanager
def hinting(hints: Mapping[str, Any]) -> Iterator[None]:
    """Have these hints in force inside the block, and no others.

    Args:
        hints: as ``current_hints`` returned them.
    """
    token = _current.set(hints)
    try:
        yield
    finally:
        # A generator may be closed, and a dependency of a web framework left, in another context than it was entered
        # in; there nothing was set.
        with suppress(ValueError):
            _current.reset(token)


def request_hints(arguments: MutableMapping[str, Any]) -> dict[str, Any]:
    """Take what concerns the routing alone out of a call's arguments, joined with what is said around the call.

    Args:
        arguments: of the call; ``model``, ``task_type``, ``prefer`` and ``session`` are taken out.

    Returns:
        Those that are given, by these names.

    Raises:
        ConfigurationError: a value is none of those there are.
    """
    return {**_current.get(), **_checked({name: arguments.pop(name, None) for name in _CHECKS})}


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _CHECKS[name](value) for name, value in given.items() if value is not None}


def checked_task_type(value: TaskType | str | None) -> TaskType | None:
    """Return a kind of task from its name, in any case.

    Raises:
        ConfigurationError: there is no such kind; says which there are.
    """
    if value is None or isinstance(value, TaskType):
        return value
    try:
        return TaskType(str(value).strip().lower())
    except ValueError:
        raise ConfigurationError(f"task_type: expected one of {', '.join(TaskType)}; found {value!r}.") from None


def checked_prefer(value: Any) -> Prefer | None:
    """Return a preference.

    Raises:
        ConfigurationError: there is no such preference; says which there are.
    """
    if value is not None and value not in get_args(Prefer):
        raise ConfigurationError(f"prefer: expected one of {', '.join(get_args(Prefer))}; found {value!r}.")
    return cast("Prefer | None", value)


def _name_of(what: str) -> Callable[[Any], str]:
    def checked(value: Any) -> str:
        if not isinstance(value, str) or not value.strip():
            raise ConfigurationError(f"{what}: expected a name; found {value!r}.")
        return value

    return checked


_CHECKS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "prefer": checked_prefer,
    "task_type": checked_task_type,
    "model": _name_of("model"),
    "session": _name_of("session"),
}


def warn_unknown(names: Iterable[str], known: Iterable[str], *, stacklevel: int = 2) -> None:
    """Warn of arguments that mean nothing, with the nearest name that does.

    Args:
        names: what was given.
        known: what there is.
        stacklevel: of the warning, as `warnings.warn` counts it from the caller.
    """
    known = list(known)
    for name in [name for name in names if name not in known]:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        text = f"Unknown argument {name!r} is ignored.{hint}"
        warnings.warn(text, RoutedOllamaWarning, stacklevel=stacklevel + 1)
