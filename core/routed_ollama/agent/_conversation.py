"""What an agent remembers of its conversation: whole turns, the oldest forgotten first. No I/O.

Law: memory never makes the model that is answering load anew. What is sent fits the context that it has, with room for
an answer; a longer memory is had by giving the agent a larger ``num_ctx``. What is left out for one long prompt, or for
one small model, is not forgotten.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from routed_ollama import _fork
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
        turns: to begin with.
        widest: the largest context, in tokens, that a model had which answered.
    """

    def __init__(self, most: int | None, turns: Iterable[Turn] = (), widest: int = 0) -> None:
        self.most = most
        self.widest = widest
        self._turns: deque[Turn] = deque(turns, maxlen=most)
        self._lock = threading.Lock()
        _fork.owns_locks(self)

    @property
    def turns(self) -> tuple[Turn, ...]:
        """What is remembered, oldest first."""
        with self._lock:
            return tuple(self._turns)

    def remember(self, turn: Turn, fixed: Sequence[Message], context: int) -> None:
        """Add a turn, and forget the oldest that would not be sent with the shortest of prompts.

        A turn that is too long by itself is not remembered, and forgets no other. Nor does a model of a smaller context
        that answers in between, or one of which is not known what it will have, because it was unloaded meanwhile.

        Args:
            turn: the newest.
            fixed: what is always sent: the role's prompt.
            context: tokens that the model can take.
        """
        with self._lock:
            self.widest = max(self.widest, context)
            if not fitting((turn,), fixed, self.widest):
                return
            self._turns.append(turn)
            kept = len(fitting(tuple(self._turns), fixed, self.widest))
            while len(self._turns) > kept:
                self._turns.popleft()

    def clear(self) -> None:
        """Forget all turns."""
        with self._lock:
            self._turns.clear()

    def parts(self) -> tuple[int | None, tuple[Turn, ...], int]:
        """Return what another is made of that goes on from here by itself: the constructor's arguments."""
        return self.most, self.turns, self.widest


def fitting(turns: Sequence[Turn], fixed: Sequence[Message], context: int) -> tuple[Turn, ...]:
    """Return the newest turns that fit a context: whole ones, oldest first.

    Args:
        turns: what is remembered, oldest first.
        fixed: what is sent besides: the role's prompt, the new prompt.
        context: tokens that the model can take.

    Example:
        >>> turns = [Turn(f"prompt {n}", "word " * 400, Candidate("llama3.1:8b", "")) for n in range(5)]
        >>> [turn.prompt for turn in fitting(turns, [Message("user", "And then?")], 2048)]
        ['prompt 3', 'prompt 4']
    """
    room = _room(context)
    tokens = estimate_prompt_tokens(fixed)
    kept = 0
    for turn in reversed(turns):
        tokens += estimate_prompt_tokens(turn.messages)
        if tokens > room:
            break
        kept += 1
    return tuple(turns[len(turns) - kept :])


def recalled(turns: Sequence[Turn], system: Sequence[Message], prompt: Message, context: int) -> tuple[Turn, ...]:
    """Return the newest turns that fit a context by the estimate of the whole conversation, too.

    A plan goes by that one, and it is not the sum of its parts: a model would be loaded anew for the difference.

    Args:
        turns: what is remembered, oldest first.
        system: the role's prompt.
        prompt: the new one.
        context: tokens that the model can take.
    """
    kept, room = fitting(turns, [*system, prompt], context), _room(context)
    while kept and estimate_prompt_tokens(whole(kept, system, prompt)) > room:
        kept = kept[1:]
    return kept


def whole(turns: Iterable[Turn], system: Sequence[Message], prompt: Message) -> list[Message]:
    """Return a conversation as it is sent."""
    return [*system, *(message for turn in turns for message in turn.messages), prompt]


def _room(context: int) -> int:
    return int((context - min(_ROOM_FOR_ANSWER, context // 2)) / _ESTIMATE_MARGIN)
