"""What is looked at in an answer that comes without an error. Pure, and next to nothing a token.

Law: something is held against an answer only where another model can still give a better one. Else it is handed out as
it is, as the plain class would.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, Final, Protocol

from routed_ollama.errors import PromptCutError, RefusedAnswerError, RepetitiveAnswerError
from routed_ollama.fallback.repetition import RepetitionWatch, was_asked_for
from routed_ollama.quality.refusals import declined_by_accident
from routed_ollama.types import Message, Recommendation

_SHOWN: Final = 60
"""Characters of what is repeated that an error shows."""
_LEAST_CUT: Final = 512
"""Tokens: nobody gives a model a context in which less of a prompt is left. A smaller count means that the beginning
was in the server's cache: 0.30 counts only what is new (mended by pull request 16428 of ollama/ollama)."""
_ROUGHLY: Final = 0.8
"""Share of the estimated length from which on a count is believed without counting words."""


class Plan(Protocol):
    """What is needed of the plan; see ``AttemptPlan``."""

    recommendation: Recommendation
    messages: Sequence[Message]
    committed: bool
    prompt_cut_to: int | None

    @property
    def refused(self) -> bool:
        """Whether a refusal is kept, to be handed out where nobody does better."""
        ...


class Judged(Protocol):
    """What is needed of the attempt; see ``Attempt``."""

    unusable: Any

    @property
    def model(self) -> str:
        """Name of the model."""
        ...

    @property
    def mendable(self) -> bool:
        """Whether another model could go on, or begin afresh, if this one failed now."""
        ...

    @property
    def replaceable_whole(self) -> bool:
        """Whether another model's whole answer could take the place of this one's."""
        ...


class Scrutiny:
    """Hears one attempt's answer.

    Args:
        plan: whose attempt it is.
        attempt: that gives the answer.
    """

    __slots__ = ("_attempt", "_plan", "_said", "_thought")

    def __init__(self, plan: Plan, attempt: Judged) -> None:
        self._plan = plan
        self._attempt = weakref.proxy(attempt)  # whose part it is: no more than that keeps it
        self._said: RepetitionWatch | None = RepetitionWatch()
        self._thought: RepetitionWatch | None = RepetitionWatch()

    def hear(self, text: str | None, thinking: str | None = None) -> None:
        """Take a piece of the answer as the model says it.

        Raises:
            RepetitiveAnswerError: it goes in circles, and another can do better.
        """
        if text and self._said is not None and self._said.feed(text):
            piece, self._said = self._said.piece, None
            self._judge(piece)
        if thinking and self._thought is not None and self._thought.feed(thinking):
            piece, self._thought = self._thought.piece, None
            self._judge(piece)

    def _judge(self, piece: str) -> None:
        if not self._attempt.mendable or was_asked_for(piece, _last_prompt(self._plan.messages)):
            return
        shown = " ".join(piece[: 2 * _SHOWN].split())[:_SHOWN]
        raise RepetitiveAnswerError(f"{self._attempt.model} says again and again: {shown!r}", size=len(piece))

    def counted(self, prompt_tokens: int | None, answer: Any = None) -> None:
        """Hold the tokens that the server counted in the prompt against the prompt's words, each a token at least.

        Args:
            prompt_tokens: ``prompt_eval_count`` of the last line; None where it is missing.
            answer: what is returned when nothing better comes.

        Raises:
            PromptCutError: the prompt was cut without a word, and another model's answer can take this one's place.
        """
        expected = self._plan.recommendation.task.prompt_tokens
        if not prompt_tokens or not _LEAST_CUT <= prompt_tokens < _ROUGHLY * expected:
            return
        words = sum(len(each.content.split()) for each in self._plan.messages if each.role in {"user", "system"})
        if prompt_tokens >= words:
            return
        if not self._attempt.replaceable_whole:
            self._plan.prompt_cut_to = prompt_tokens
            return
        self._attempt.unusable = answer
        raise PromptCutError(
            f"{self._attempt.model} was given {prompt_tokens} tokens of a prompt of more than {words}: its context is "
            "too short, and the server cut the rest without a word."
        )

    def ended(self, text: str, done_reason: str | None, answer: Any) -> None:
        """Take the end of an answer that calls no tool and of which nothing was handed out yet.

        Of several refusals the first is handed out, so the last is kept from it like those before. One that was cut at
        a limit which the caller has set is what was asked for.

        Args:
            text: all that was said, without reasoning.
            done_reason: why the model stopped, as Ollama says it.
            answer: what is returned when nothing better comes.

        Raises:
            RefusedAnswerError: it declines what seems harmless, and another model may not.
        """
        if self._plan.committed or done_reason == "length":
            return
        if not (self._attempt.replaceable_whole or self._plan.refused):
            return
        if declined_by_accident(text, self._plan.messages):
            self._attempt.unusable = answer
            shown = " ".join(text.split())[:_SHOWN]
            raise RefusedAnswerError(f"{self._attempt.model} declines what seems harmless: {shown!r}")


def _last_prompt(messages: Sequence[Message]) -> str:
    return next((each.content for each in reversed(messages) if each.role == "user"), "")
