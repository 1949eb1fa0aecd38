"""Bounds of time: what a person configures (`Timeouts`), what one attempt may take (`Bounds`). Values only, no I/O."""

from __future__ import annotations

import difflib
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from typing import Any, Final, Protocol, Self

from routed_ollama.errors import ConfigurationError

_FOLLOWS: Final = -1.0
"""Stands for a floor or a ceiling that nobody set."""
_TIMES_A_LOAD: Final = 5.0
_TIMES_A_LOAD_BY_SIZE: Final = 3.0
_TIMES_A_WAIT: Final = 3.0
_TIMES_A_TOKEN: Final = 20.0
"""How much longer than expected something may take before it is taken for dead. Choices, not measurements."""
_HELD_BACK_UNKNOWN: Final = 120.0
"""Seconds for what a server holds back (a tool call) of a model whose speed nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What is known of a request's waits before it is sent; what is not known is left out.

    Attributes:
        load: seconds that this model's loads have taken.
        load_by_size: seconds that a model of its size needs.
        elsewhere: seconds that its requests have lately waited while this process had no other there: for those of
            other programs.
        token: seconds it takes for a token.
        held_back: tokens that the server may hold back to hand them out at once: Ollama does so with tool calls.
    """

    load: float | None = None
    load_by_size: float = 0.0
    elsewhere: float = 0.0
    token: float | None = None
    held_back: int = 0

    @property
    def silence(self) -> float:
        """Seconds in which a model that is well may say nothing because what it writes is held back."""
        if not self.held_back:
            return 0.0
        return _HELD_BACK_UNKNOWN if self.token is None else self.held_back * self.token


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long each phase of an answer may take, in seconds; ``None`` leaves a phase unbounded.

    A bound that is set is kept as it was set. One that is left alone adapts to what is known of the model, between its
    floor and its ceiling; for ``first_token`` and ``between_tokens`` the usual bound is the floor. The defaults are
    choices, not measurements, but for ``load``: Ollama itself gives up on a load that makes no progress for 5 minutes,
    and a client that leaves earlier aborts the load it waited for, so it is twice that.

    Args:
        connect: until the connection stands.
        load: added to ``first_token`` when the model must first be brought into memory. While nothing is known of a
            model's loads it is ``load``, then five times what they took; but never less than three times what its size
            lets expect of a slow disk, for what took seconds out of the system's cache takes minutes after a restart.
        first_token: until the answer begins, once the model is in memory and its turn has come; the time to read the
            prompt comes on top, and what the model's slot has lately been taken by other programs.
        between_tokens: the longest silence within an answer; longer for a model that takes seconds for a token, and
            where a whole tool call comes at once.
        total: from sending to the end of the answer.
        queue: how long at most each request that is ahead in the server's queue is waited for, as long as it moves on.
        restart: how long a server that went away while it was answering, and that no other can stand in for, is given
            to come back.
        load_floor, load_ceiling: between these ``load`` adapts: 60 and 3600.
        first_token_ceiling: up to this ``first_token`` adapts: 600.
        between_tokens_ceiling: up to this ``between_tokens`` adapts: 600.

    Raises:
        ConfigurationError: a bound is not a positive number.

    Example:
        >>> Timeouts(first_token=10).between_tokens
        30.0
        >>> Timeouts().load_ceiling, Timeouts(load=90).load_ceiling
        (3600.0, 90.0)
    """

    connect: float | None = 3.0
    load: float | None = 600.0
    first_token: float | None = 30.0
    between_tokens: float | None = 30.0
    total: float | None = None
    queue: float | None = 600.0
    restart: float | None = 10.0
    load_floor: float | None = _FOLLOWS
    load_ceiling: float | None = _FOLLOWS
    first_token_ceiling: float | None = _FOLLOWS
    between_tokens_ceiling: float | None = _FOLLOWS

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.default == _FOLLOWS and value == _FOLLOWS:
                phase = each.name.rpartition("_")[0]
                bound = getattr(self, phase)
                value = _ADAPTS[each.name] if bound == _USUAL[phase] else bound
            object.__setattr__(self, each.name, _seconds(each.name, value))

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

    def adapted(self, expected: Expected) -> Self:
        """Return these bounds as they are for a model of which so much is known.

        Example:
            >>> Timeouts().adapted(Expected(load=60)).load, Timeouts(load=90).adapted(Expected(load=60)).load
            (300.0, 90.0)
        """
        load, first, between = self.load, self.first_token, self.between_tokens
        if load is not None:
            seen = load if expected.load is None else _TIMES_A_LOAD * expected.load
            wanted = max(seen, _TIMES_A_LOAD_BY_SIZE * expected.load_by_size)
            load = _within(wanted, self.load_floor, self.load_ceiling)
        if first is not None:
            wanted = first + _TIMES_A_WAIT * expected.elsewhere + expected.silence
            first = _within(wanted, first, self.first_token_ceiling)
        if between is not None:
            wanted = max(between, _TIMES_A_TOKEN * (expected.token or 0.0), expected.silence)
            between = _within(wanted, between, self.between_tokens_ceiling)
        if (load, first, between) == (self.load, self.first_token, self.between_tokens):
            return self
        return self._with(load=load, first_token=first, between_tokens=between)

    def _with(self, **bounds: float | None) -> Self:
        """Return these bounds with others, which need no checking: at every attempt ``replace`` would cost the most."""
        made = object.__new__(type(self))
        for name in _NAMES:
            object.__setattr__(made, name, bounds[name] if name in bounds else getattr(self, name))
        return made

    def bounds(
        self,
        *,
        resident: bool = True,
        prompt_seconds: float = 0.0,
        wait: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        marks: Marks | None = None,
        patience: Patience | None = None,
    ) -> Bounds:
        """The bounds of one attempt that begins now.

        Args:
            resident: whether the model is in memory already; if not, loading is allowed for.
            prompt_seconds: expected time to read the prompt.
            wait: expected time in the queue before that.
            clock: seconds that only grow.
            marks: where the transport notes what happens; default new ones.
            patience: sees how things are while the answer is waited for.

        Example:
            >>> Timeouts(load=60, first_token=5).bounds(resident=False, wait=2).first
            67.0
        """
        load = 0.0 if resident else self.load
        first = None if self.first_token is None or load is None else self.first_token + load + prompt_seconds + wait
        total = None if self.total is None else clock() + self.total
        return Bounds(self.connect, first, self.between_tokens, total, not resident, clock, marks or Marks(), patience)


_NAMES: Final = tuple(each.name for each in fields(Timeouts))
_USUAL: Final[Mapping[str, float]] = {"load": 600.0, "first_token": 30.0, "between_tokens": 30.0}
_ADAPTS: Final[Mapping[str, float]] = {
    "load_floor": 60.0,
    "load_ceiling": 3600.0,
    "first_token_ceiling": 600.0,
    "between_tokens_ceiling": 600.0,
}


class Patience(Protocol):
    """Sees what else the server is busy with while an answer is waited for, and says how long that makes the wait."""

    @property
    def loads(self) -> bool:
        """Whether the model is being brought into memory, as far as is known."""
        ...

    @property
    def pool(self) -> float | None:
        """Seconds to wait until the client's own pool has a connection free; None: for ever."""
        ...

    def allowed(self, since: float) -> float:
        """Return how many seconds a wait that began then may last in all, as things are now.

        Args:
            since: when the request had been sent, on the clock of the bounds.
        """
        ...

    def look(self) -> None:
        """Find out how things are, off the caller's way; called while there is still time to wait."""
        ...

    def returns(self) -> float:
        """Return for how many seconds a server that refuses connections is still worth trying; 0 for none."""
        ...


@dataclass(slots=True)
class Marks:
    """When what happened on the wire, on the clock of the bounds; ``None``: it has not happened."""

    sent_at: float | None = None
    """The request was handed to the transport: everything about it had been built by then."""
    waits_since: float | None = None
    """It had left, and the wait for the answer began."""
    first_byte_at: float | None = None
    """The answer's body began."""
    last_byte_at: float | None = None
    """Something came, last."""
    aclose: Callable[[], Awaitable[None]] | None = None
    """Closes an async answer. A client leaves one that is not read to its end to the garbage collector."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long one attempt may take. ``None`` leaves a phase unbounded."""

    connect: float | None = None
    """Seconds until the connection stands."""
    first: float | None = None
    """Seconds until the first byte of the answer's body, as expected when the attempt began."""
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
    patience: Patience | None = field(default=None, compare=False)
    """Says how long the first byte is waited for, where the transport can ask while it waits; else ``first`` holds."""


attempt_bounds: ContextVar[Bounds | None] = ContextVar("routed_ollama_attempt_bounds", default=None)
"""The bounds of the attempt that is being sent. Set around the call that sends; without it requests pass unchanged."""


def _within(value: float, floor: float | None, ceiling: float | None) -> float:
    return min(max(value, floor or 0.0), math.inf if ceiling is None else ceiling)


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
