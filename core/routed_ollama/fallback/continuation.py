"""How a model is asked to go on with an answer that broke off. Pure text work; see ``seam`` for what becomes of it."""

from __future__ import annotations

import re
from typing import Final

_LAST_WORDS: Final = re.compile(r"\S+(?:\s+\S+){0,7}\s*\Z")
_MOST_WORDS: Final = 80
"""Characters of them."""

_INSTRUCTION: Final = (
    "Your last message was cut off. Finish it: begin by repeating its last words exactly, then go on from there. "
    "Comment on nothing, and do not begin anew. Its last words are:\n\n{words}"
)
"""A model begins a new message as it begins a word, and with whole words. So it is asked for the last words once more:
they show where a word was cut and where a space is due, and are left out again."""


def continuation_messages(emitted: str, *, prefill: bool) -> tuple[tuple[str, str], ...]:
    """Return the messages to append, as pairs of role and content, so that a model goes on from ``emitted``.

    Args:
        emitted: what was handed out so far.
        prefill: whether the model's template leaves a last assistant message open, so that the model goes on with it
            (recorded: qwen2.5-coder does). Else it is asked to, in a user message.

    Example:
        >>> continuation_messages("one, two,", prefill=True)
        (('assistant', 'one, two,'),)
        >>> continuation_messages("one, two,", prefill=False)[1][1].splitlines()[-1]
        'one, two,'
    """
    if prefill:
        return (("assistant", emitted),)
    return (("assistant", emitted), ("user", _INSTRUCTION.format(words=_last_words(emitted))))


def _last_words(emitted: str) -> str:
    end = emitted.rstrip()[-_MOST_WORDS:]
    words = _LAST_WORDS.search(end)
    return words[0] if words else end
