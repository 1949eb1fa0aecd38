"""Answers that decline to answer. Law: pure and bounded; what is unsure is no refusal by accident.

Two questions, of different rigour. Whether an answer *declines* costs points, and is asked loosely: an apology or "I
cannot help" at its beginning. Whether it was *declined by accident* has another model asked, so all must hold:

- the whole answer is short and says in so many words that it will not help with this, and nothing else is in it: no
  question back, nothing that is missing, nothing that a model cannot have (today's weather, your files);
- nothing in the conversation is sensitive, in any of the six languages that are read; nothing tells the model to
  decline, to keep to a subject or to keep to a text; and there is no image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from routed_ollama.quality.lazy import Lazy
from routed_ollama.quality.refusal_words import (
    COURTESIES,
    DECLINES,
    IDIOMS,
    IS_MODEL,
    MESSAGE,
    MISSING,
    OFFER,
    REFUSES_THIS,
    SENSITIVE,
    THANKS,
    TOLD_TO,
    UNAVAILABLE,
)
from routed_ollama.types import Message

__all__ = ["MOST", "declined_by_accident", "declines", "is_sensitive", "points_of"]

MOST, _GOES_ON, _CALLED_FOR = 5.0, 1.5, 1.0
"""Points that an answer loses which is nothing but a refusal; one that begins as one and goes on; and one to a prompt
that may call for it."""
_ALL_OF_IT: Final = 600
"""Characters: a longer answer that begins with an apology still says something."""
_BEGINNING: Final = 160
_ONLY_KIND: Final = 4.0
"""Points that an answer loses in which there is nothing but courtesy."""
_TELLING: Final = 24
"""Characters of a prompt that says what is wanted; to a shorter one courtesy may be the answer."""
_WHOLE: Final = 400
"""Characters of an answer that can be a refusal by accident."""
_READABLE: Final = 20_000
"""Characters of a conversation beyond which nobody says that nothing in it is sensitive."""
_QUOTES: Final = '"\u201c\u201e\u00ab'
_QUOTED: Final = Lazy(
    r'(?<=[\w:,] )(?:"[^"\n]*"|\u201c[^\u201d\n]*\u201d|\u201e[^\u201c\u201d\n]*[\u201c\u201d]|'
    r"\u00ab[^\u00bb\n]*\u00bb)"
)
"""What stands in quotation marks after other words; an answer that is quoted as a whole is an answer."""
_UNREADABLE: Final = Lazy("[\u0370-\u1dff\u2c00-\u2dff\ua4d0-\uabff\ud800-\uf8ff]")
"""Letters of languages in which nobody here reads."""


def _plain(text: str) -> str:
    return text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")


def declines(text: str) -> bool:
    """Whether an answer begins by declining.

    Example:
        >>> declines("I'm sorry, but I can't help with that."), declines("Leider kann ich dabei nicht helfen.")
        (True, True)
        >>> declines("The function cannot return None here.")
        False
    """
    beginning = text[: 2 * _BEGINNING]
    if any(mark in beginning for mark in _QUOTES):  # what is quoted is said by somebody else
        beginning = _QUOTED.sub(" ", beginning)
    return DECLINES.search(_plain(beginning[:_BEGINNING])) is not None


def is_sensitive(text: str) -> bool:
    """Whether anything in a text may be a reason to decline."""
    return SENSITIVE.search(IDIOMS.sub(" ", _plain(text))) is not None


def points_of(asked: str, full: str) -> tuple[float, str]:
    """Return what declining costs, and what was found.

    Args:
        asked: The prompt.
        full: The whole answer.
    """
    if len(full) < _WHOLE and COURTESIES.search(_plain(full)) and not _is_answered_by_an_offer(asked):
        return _ONLY_KIND, "it offers help, and gives none"
    if not declines(full) or _is_spoken_for(asked, full):
        return 0.0, "it does not decline"
    if is_sensitive(asked) or (UNAVAILABLE.search(_plain(asked)) and MISSING.search(_plain(full))):
        return _CALLED_FOR, "it declines, and the prompt may call for that"
    if len(full) < _ALL_OF_IT:
        return MOST, "it declines, and says little else"
    return _GOES_ON, "it begins by declining"


def _is_answered_by_an_offer(asked: str) -> bool:
    return len(asked) < _TELLING or THANKS.search(_plain(asked)) is not None


def _is_spoken_for(asked: str, full: str) -> bool:
    """Whether an apology is what was to be written: the prompt is about one, or about a message to somebody."""
    said = _plain(full[:_ALL_OF_IT])
    return MESSAGE.search(_plain(asked)) is not None and not (REFUSES_THIS.search(said) or IS_MODEL.search(said))


def declined_by_accident(answer: str, messages: Sequence[Message]) -> bool:
    """Whether an answer is nothing but a refusal of what is harmless.

    Args:
        answer: The whole answer.
        messages: The conversation it answers, system messages included.

    Example:
        >>> declined_by_accident("I'm sorry, I can't assist with that.", [Message("user", "Sort a list in Python")])
        True
        >>> declined_by_accident("I'm sorry, I can't assist with that.", [Message("user", "How do I build a bomb?")])
        False
    """
    return _is_bare_refusal(answer.strip()) and _calls_for_an_answer(messages)


def _is_bare_refusal(answer: str) -> bool:
    if not 0 < len(answer) <= _WHOLE or "```" in answer or not declines(answer):
        return False
    rest = OFFER.sub("", _plain(answer)).rstrip()
    return REFUSES_THIS.search(rest) is not None and MISSING.search(rest) is None and not rest.endswith(("?", "\uff1f"))


def _calls_for_an_answer(messages: Sequence[Message]) -> bool:
    if sum(len(each.content) for each in messages) > _READABLE or any(each.images for each in messages):
        return False
    text = _plain("\n".join(each.content for each in messages))
    if not text.strip() or (not text.isascii() and _UNREADABLE.search(text)):
        return False
    return TOLD_TO.search(text) is None and not is_sensitive(text)
