"""What an answer took in tokens that several models had a part in. Values and sums only.

Law: every part is counted once and by its own model. A stream that broke off has no figures: its tokens are counted as
they came (Ollama sends each in a line of its own: 12 lines for an ``eval_count`` of 12, recorded), those of its prompt
are estimated, and the part says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from routed_ollama.analysis import estimate_tokens


class Part(NamedTuple):
    """What one model's part of an answer took.

    Attributes:
        prompt_tokens: of what it was sent, what stood of the answer with it.
        output_tokens: that it generated, what it repeated of the answer with them.
        estimated: whether one of them is no figure of the server's.
    """

    prompt_tokens: int
    output_tokens: int
    estimated: bool


class Usage(NamedTuple):
    """What all parts of an answer took together, in tokens."""

    prompt_tokens: int
    output_tokens: int


class Taken(NamedTuple):
    """Tokens of a stream so far: those that were handed out, and all that were generated."""

    handed_out: int = 0
    generated: int = 0


class Attempted(Protocol):
    """What is needed of an attempt; see ``Attempt``."""

    number: int
    continues: str
    prompt_tokens: int | None
    output_tokens: int | None
    taken: Callable[[], Taken]


@dataclass
class Ledger:
    """The parts of one answer.

    Attributes:
        prompt_tokens: estimate of the request's prompt.
        said: tokens of what stands of the answer.
        broken: parts that broke off, by the number of their attempt.
    """

    prompt_tokens: int = 0
    said: int = 0
    broken: dict[int, Part] = field(default_factory=dict)

    def broke_off(self, attempt: Attempted) -> None:
        """Note what an attempt took of which something was handed out."""
        taken = attempt.taken()
        if taken.handed_out:
            self.said += taken.handed_out
            self.broken[attempt.number] = self._part(attempt, None, taken.generated)

    def part(self, attempt: Attempted) -> Part | None:
        """Return what an attempt took, where it is one of several that had a part in the answer."""
        if attempt.number in self.broken or not self.broken:
            return self.broken.get(attempt.number)
        return self._part(attempt, attempt.prompt_tokens, attempt.output_tokens)

    def _part(self, attempt: Attempted, prompt: int | None, output: int | None) -> Part:
        estimated = prompt is None or output is None
        if prompt is None:
            prompt = self.prompt_tokens + estimate_tokens(attempt.continues)
        return Part(prompt, attempt.taken().generated if output is None else output, estimated)

    def total(self, attempt: Attempted) -> Usage | None:
        """Return what an answer took that this attempt ends; None where it gave it alone."""
        part = self.part(attempt)
        if part is None:
            return None
        parts = [*self.broken.values(), part]
        return Usage(sum(each.prompt_tokens for each in parts), sum(each.output_tokens for each in parts))

    def left_of(self, limit: Any) -> Any:
        """Return what is left of a limit on the answer's tokens; what is no limit is returned as it is.

        It is never less than 1, for to Ollama 0 means no limit.

        Example:
            >>> ledger = Ledger(said=60)
            >>> ledger.left_of(100), ledger.left_of(50), ledger.left_of(-1), ledger.left_of(None)
            (40, 1, -1, None)
        """
        return max(1, limit - self.said) if type(limit) is int and limit > 0 else limit
