"""Answers that say the same again and again, seen while they are being said. Law: pure, bounded, cheap a token.

An answer goes in circles when it ends in exact copies of one piece, at least ``COPIES`` of them one right after the
other and together at least ``LENGTH`` characters, about a thousand tokens; where there is no letter in the piece (a
matrix of zeros, a drawn line, blanks) four times as many. Such a model goes on until Ollama stops it after ten contexts
(v0.24.0 llm/server.go), which takes minutes; Ollama itself sees one token that is repeated, and nothing longer.

The rule is that of the servers which have one: exact copies at the end, four of them, of a piece of up to 1024 tokens
(llama.cpp, pull request 26039; vLLM's ``repetition_detection`` is the same with figures to be chosen). The length is
our own addition, against tables, rulers and refrains. It was counted in 24,449 files of code, data and prose that are
installed with Python and its packages, 234 million characters: none has such a piece; six have, where 1,000 characters
are enough whether there are letters in them or not.
"""

from __future__ import annotations

from typing import Final

COPIES: Final = 4
LENGTH: Final = 4_000
"""Characters."""
LONGEST_PIECE: Final = 4_096
"""Characters: about llama.cpp's 1024 tokens."""

_WITHOUT_LETTERS: Final = 4 * LENGTH
_KEPT: Final = max(COPIES * LONGEST_PIECE, _WITHOUT_LETTERS)
_EVERY: Final = 1_000
"""Characters between two looks."""
_END: Final = 64
"""Characters whose earlier occurrence tells how long the piece may be."""
_TRIES: Final = 8
"""Earlier occurrences that are looked at: within a piece its own end may occur, too."""


class RepetitionWatch:
    """Hears an answer piece by piece and says when it goes in circles.

    Attributes:
        piece: what is repeated; empty until it is known.

    Example:
        >>> watch = RepetitionWatch()
        >>> any(watch.feed("I will say it again. ") for _ in range(100))
        False
        >>> any(watch.feed("I will say it again. ") for _ in range(200)), len(watch.piece)
        (True, 21)
    """

    __slots__ = ("_new", "_parts", "_tail", "piece")

    def __init__(self) -> None:
        self._tail = ""
        self._parts: list[str] = []
        self._new = 0
        self.piece = ""

    def feed(self, text: str) -> bool:
        """Take what is said; whether it is known now that it goes in circles. On the way of every token."""
        self._parts.append(text)
        self._new += len(text)
        if self._new < _EVERY:
            return False
        self._tail = (self._tail + "".join(self._parts))[-_KEPT:]
        self._parts.clear()
        self._new = 0
        self.piece = repeated_piece(self._tail)
        return bool(self.piece)


def repeated_piece(text: str) -> str:
    """Return the piece of which a text ends in too many copies; empty where it does not.

    Example:
        >>> repeated_piece("And so on. " * 400)
        'And so on. '
        >>> repeated_piece("| --- | --- |" * 100)
        ''
    """
    end, at = text[-_END:], len(text) - _END
    for _ in range(_TRIES if len(text) >= LENGTH else 0):
        at = text.rfind(end, 0, at + _END - 1)
        size = len(text) - _END - at
        if at < 0 or size > LONGEST_PIECE:
            break
        piece = text[-size:]
        least = LENGTH if any(map(str.isalpha, piece)) else _WITHOUT_LETTERS
        if _is_periodic(text, size, max(least, COPIES * size)):
            return piece
    return ""


def _is_periodic(text: str, size: int, length: int) -> bool:
    """Whether the last so many characters are copies of the last ``size`` of them."""
    if len(text) < length:
        return False
    run = text[-length:]
    return run[size:] == run[:-size]


def without_copies(text: str, size: int) -> str:
    """Return a text that ends in copies of a piece with the first of them alone, to be gone on from.

    It ends at the same place of the piece: what comes next in the text comes next in what is returned.

    Args:
        text: what was said.
        size: length of the piece, in characters.

    Example:
        >>> without_copies("Well: na na na na", 3)
        'Well: na'
    """
    begin = len(text) - size
    while begin > 0 and text[begin - 1] == text[begin - 1 + size]:
        begin -= 1
    return text[: begin + ((len(text) - begin) % size or size)]


def was_asked_for(piece: str, prompt: str) -> bool:
    """Whether a prompt has the same said again and again: "write 'I will be good' a thousand times".

    That is so where a short one holds the very words that are repeated, and where any holds them twice in a row.

    Args:
        piece: what is repeated; it may begin anywhere in the phrase.
        prompt: what the user said last.

    Example:
        >>> was_asked_for("good. I will be ", "Write 'I will be good' a thousand times")
        True
    """
    if piece + piece in prompt:
        return True
    words = _words(piece)
    if not 0 < len(words) <= _MOST_WORDS:
        return False
    said, times = f" {' '.join(_words(prompt))} ", 1 if len(prompt) <= _SHORT_PROMPT else 2
    return any(f" {' '.join((words[at:] + words[:at]) * times)} " in said for at in range(len(words)))


_MOST_WORDS: Final = 60
_SHORT_PROMPT: Final = 2_000
"""Characters: in a longer one stands what is to be worked on, which a model may well repeat without being asked."""


def _words(text: str) -> list[str]:
    letters = "".join(each if each.isalnum() else " " for each in text.casefold())
    return letters.split()
