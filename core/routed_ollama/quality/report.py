"""What an answer lost points for, and why. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

__all__ = ["LEAST", "NO_FLAW", "QualityComponent", "QualityReport"]

NO_FLAW: Final = 8.5
"""Points of an answer in which nothing is wrong at sight. A person's judgement can still be better, and much worse."""
LEAST: Final = 0.5
"""Points of the worst answer that says anything at all."""


@dataclass(frozen=True, slots=True)
class QualityComponent:
    """One thing that was looked for in an answer.

    Attributes:
        name: ``empty``, ``cut``, ``looping``, ``refusing``, ``leaking``, ``language``, ``echo``, ``code``, ``format``
            or ``length``.
        lost: points that it costs, 0 where nothing was found.
        most: points that it can cost.
        reason: what was found, or why nothing could be.

    Example:
        >>> QualityComponent("cut", 1.0, 1.5, "it was cut at a limit of tokens").kept
        0.5
    """

    name: str
    lost: float
    most: float
    reason: str

    @property
    def kept(self) -> float:
        """Points that it could have cost, and did not."""
        return self.most - self.lost

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {"name": self.name, "lost": self.lost, "kept": self.kept, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class QualityReport:
    """How good an answer looks, and every component of that.

    Attributes:
        components: all that was looked for, whether it was found or not, always in the same order.
        score: 0 (nothing was said) to 10; 8.5 where nothing was found.
    """

    components: tuple[QualityComponent, ...]
    score: float

    @property
    def flaws(self) -> tuple[QualityComponent, ...]:
        """The components that cost something, the dearest first."""
        return tuple(sorted((each for each in self.components if each.lost), key=lambda each: -each.lost))

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {"score": self.score, "components": [each.to_dict() for each in self.components]}

    def __str__(self) -> str:
        """Return the score and what it is made of, a line each."""
        lines = (f"  -{each.lost:.1f} {each.name}: {each.reason}" for each in self.flaws)
        return "\n".join((f"{self.score:.1f}/10", *lines))
