"""How an answer that broke off is joined with its continuation. Pure text work.

A continuation may repeat the end of what stands already, or begin the whole answer anew; both are trimmed, and nothing
else is touched: the joined text is exactly what was handed out plus what the next model added.
"""

from __future__ import annotations

MIN_OVERLAP = 12
"""Characters. A shorter repetition is likelier to be meant: "very, very", a closing bracket, an indentation."""

MAX_OVERLAP = 2_000
"""Characters that are held back at most while a continuation still repeats what stands."""

INSTRUCTION = (
    "Your last message was cut off. Go on from exactly where it stops, with the very next characters. "
    "Repeat nothing, comment on nothing, and do not begin anew."
)


def continuation_messages(emitted: str, *, prefill: bool) -> tuple[tuple[str, str], ...]:
    """Return the messages to append, as pairs of role and content, so that a model goes on from ``emitted``.

    Args:
        emitted: what was handed out so far.
        prefill: whether the model's template leaves a last assistant message open, so that the model goes on with it
            (recorded: qwen2.5-coder does). Else it is asked to, in a user message.

    Example:
        >>> continuation_messages("one, two,", prefill=True)
        (('assistant', 'one, two,'),)
    """
    if prefill:
        return (("assistant", emitted),)
    return (("assistant", emitted), ("user", INSTRUCTION))


class OverlapTrimmer:
    """Takes a continuation piece by piece and gives back what is new of it.

    Pieces are held back only while they may still turn out to repeat what stands.

    Args:
        emitted: what was handed out before the continuation.

    Example:
        >>> trimmer = OverlapTrimmer("The quick brown fox")
        >>> trimmer.feed("quick brown "), trimmer.feed("fox jumps"), trimmer.flush()
        ('', ' jumps', '')
    """

    def __init__(self, emitted: str) -> None:
        self._emitted = emitted
        self._tail = emitted[-MAX_OVERLAP:]
        self._held = ""
        self._decided = not emitted

    def feed(self, piece: str) -> str:
        """Return the part of the continuation that is known to be new after this piece."""
        if self._decided:
            return piece
        self._held += piece
        if self._may_grow():
            return ""
        return self.flush()

    def flush(self) -> str:
        """Return what was held back and is new; the continuation has ended or can be told apart."""
        self._decided = True
        held, self._held = self._held, ""
        return held[self._overlap(held) :]

    def _may_grow(self) -> bool:
        held = self._held
        if len(held) >= len(self._emitted):
            return False
        if self._emitted.startswith(held):
            return True
        return held in self._tail

    def _overlap(self, held: str) -> int:
        whole = len(self._emitted)
        if whole >= MIN_OVERLAP and held.startswith(self._emitted):
            return whole
        for size in range(min(len(held), len(self._tail)), MIN_OVERLAP - 1, -1):
            if self._tail.endswith(held[:size]):
                return size
        return 0
