"""What a plan chooses among, and what it gives each attempt. Values only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from routed_ollama.types import Candidate, ModelInfo


class Marks(Protocol):
    """When what happened on the wire; see ``routed_ollama.transport.Marks``."""

    sent_at: float | None
    first_byte_at: float | None
    aclose: Callable[[], Awaitable[None]] | None


@dataclass(frozen=True, slots=True)
class Allowance:
    """What an attempt is given.

    Attributes:
        bounds: its limits of time, for the transport.
        marks: where the transport notes when the request left and when the answer began.
        num_ctx: the context to ask for, in tokens; None to leave it to the server.
    """

    bounds: Any = None
    marks: Marks | None = None
    num_ctx: int | None = None


class Choice(NamedTuple):
    """A candidate as the plan needs it."""

    info: ModelInfo
    resident: bool | None = None

    @property
    def candidate(self) -> Candidate:
        """The model and its host."""
        return self.info.candidate
