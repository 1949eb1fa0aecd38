"""What an agent remembers of its conversation: whole turns, the oldest forgotten first. No I/O.

Law: memory never makes a model load anew. It keeps what fits the context that the answering model has, with room for
an answer; a longer memory is had by giving the agent a larger ``num_ctx``.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from routed_ollama.analysis.tokens import estimate_prompt_tokens
from routed_ollama.types import Candidate, Message

_ROOM_FOR_ANSWER: Final = 1024
"""Tokens left free; what ``contexts`` leaves, too."""
_ESTIMATE_MARGIN: Final = 1.1
"""By how much the estimate of a prompt's length is enlarged, as in ``contexts``."""


class Turn(NamedTuple):
    """A prompt and its answer."""

    prompt: str
    answer: str
    candidate: Candidate
    """Who answered."""

    @property
    def messages(self) -> tuple[Message, Message]:
        """Both as messages."""
        return Message("user", self.prompt), Message("assistant", self.answer, model=self.candidate.model)


class Conversation:
    """The turns of one conversation, shared by the threads that use its agent.

    Args:
        most: how many turns are remembered at most; None for all that fit; 0 for none.
    """

    def __init__(self, most: int | None) -> None:
        self._turns: deque[Turn] = deque(maxlen=most)
        self._lock = threading.Lock()

    @property
    def turns(self) -> tuple[Turn, ...]:
        """What is remembered, oldest first."""
        with self._lock:
            return tuple(self._turns)

    def remember(self, turn: Turn) -> None:
        """Add a turn."""
        with self._lock:
            self._turns.append(turn)

    def clear(self) -> None:
        """Forget all turns."""
        with self._lock:
            self._turns.clear()

    def fitting(self, fixed: Sequence[Message], context: int) -> tuple[Turn, ...]:
        """Forget the oldest turns until what is to be sent fits, and return the others.

        Args:
            fixed: what is sent besides: the role's prompt, the new prompt.
            context: tokens that the model can take.
        """
        room = int((context - _ROOM_FOR_ANSWER) / _ESTIMATE_MARGIN)
        kept: list[Turn] = []
        tokens = estimate_prompt_tokens(fixed)
        with self._lock:
            for turn in reversed(self._turns):
                tokens += estimate_prompt_tokens(turn.messages)
                if tokens > room:
                    break
                kept.append(turn)
            while len(self._turns) > len(kept):
                self._turns.popleft()
        return tuple(reversed(kept))
