"""Bounds of time: what a person configures (`Timeouts`), what one attempt may take (`Bounds`). Values only, no I/O."""

from __future__ import annotations

import difflib
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from typing import Any

from routed_ollama.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long each phase of an answer may take, in seconds; ``None`` leaves a phase unbounded.

    The defaults are choices, not measurements, but for ``load``: Ollama itself gives up on a load that makes no
    progress for 5 minutes, and a client that leaves earlier aborts the load it waited for, so it is twice that.

    Args:
        connect: until the connection stands.
        load: added to ``first_token`` when the model must first be brought into memory.
        first_token: until the answer begins, once the model is in memory; the time to read the prompt comes on top.
        between_tokens: the longest silence within an answer.
        total: from sending to the end of the answer.

    Raises:
        ConfigurationError: a bound is not a positive number.

    Example:
        >>> Timeouts(first_token=10).between_tokens
        30.0
    """

    connect: float | None = 3.0
    load: float | None = 600.0
    first_token: float | None = 30.0
    between_tokens: float | None = 30.0
    total: float | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            object.__setattr__(self, each.name, _seconds(each.name, getattr(self, each.name)))

    @classmethod
    def of(cls, value: Timeouts | Mapping[Any, Any] | float | None) -> Timeouts:
        """Make bounds of what a person wrote.

        Args:
            value: bounds; a mapping of some of them (the others keep their defaults); one number, which bounds the
                whole answer (``total``); or ``None``, the defaults.

        Raises:
            ConfigurationError: an unknown name, or a value that is not a positive number.

        Example:
            >>> Timeouts.of({"first_token": 10}).first_token
            10.0
            >>> Timeouts.of(60).total
            60.0
        """
        if value is None:
            return cls()
        if isinstance(value, Timeouts):
            return value
        if isinstance(value, Mapping):
            _refuse_unknown(cls, value)
            return cls(**value)
        return cls(total=_seconds("total", value))

    def bounds(
        self,
        *,
        resident: bool = True,
        prompt_seconds: float = 0.0,
        wait: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> Bounds:
        """The bounds of one attempt that begins now.

        Args:
            resident: whether the model is in memory already; if not, loading is allowed for.
            prompt_seconds: expected time to read the prompt.
            wait: expected time in the queue before that.
            clock: seconds that only grow.

        Example:
            >>> Timeouts(load=60, first_token=5).bounds(resident=False, wait=2).first
            67.0
        """
        load = 0.0 if resident else self.load
        first = None if self.first_token is None or load is None else self.first_token + load + prompt_seconds + wait
        total = None if self.total is None else clock() + self.total
        return Bounds(self.connect, first, self.between_tokens, total, loads=not resident, clock=clock)


@dataclass(slots=True)
class Marks:
    """When what happened on the wire, on the clock of the bounds; ``None``: it has not happened."""

    sent_at: float | None = None
    """The request was handed to the transport: everything about it had been built by then."""
    first_byte_at: float | None = None
    """The answer's body began."""
    aclose: Callable[[], Awaitable[None]] | None = None
    """Closes an async answer. A client leaves one that is not read to its end to the garbage collector."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long one attempt may take. ``None`` leaves a phase unbounded."""

    connect: float | None = None
    """Seconds until the connection stands."""
    first: float | None = None
    """Seconds until the first byte of the answer's body."""
    between: float | None = None
    """Seconds of silence after that."""
    total: float | None = None
    """When the answer must be complete, on ``clock``."""
    loads: bool = False
    """Whether ``first`` allows for loading the model."""
    clock: Callable[[], float] = time.monotonic
    """Seconds that only grow."""
    marks: Marks = field(default_factory=Marks, compare=False)
    """Filled in while the request is under way."""


attempt_bounds: ContextVar[Bounds | None] = ContextVar("routed_ollama_attempt_bounds", default=None)
"""The bounds of the attempt that is being sent. Set around the call that sends; without it requests pass unchanged."""


def _seconds(name: str, value: Any) -> float | None:
    if value is None or value == math.inf:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ConfigurationError(f"timeouts: {name} must be a positive number of seconds or None, not {value!r}")
    return float(value)


def _refuse_unknown(cls: type[Timeouts], value: Mapping[str, Any]) -> None:
    names = [each.name for each in fields(cls)]
    for key in value:
        if key not in names:
            nearest = difflib.get_close_matches(str(key), names, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(names)}"
            raise ConfigurationError(f"timeouts: unknown key {key!r}; {hint}")
