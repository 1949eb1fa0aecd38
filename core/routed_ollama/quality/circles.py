"""Answers that say the same again and again. Law: pure, and the cost is bounded by slices and one search.

Two things are looked for. A *circle*: the answer ends in exact copies of one piece. And *repetition*: groups of words
(of scripts without spaces: clauses) that were said before, wherever they stand. What ``fallback.repetition`` sees while
an answer is being said is a circle of some thousand characters; here shorter ones count, which cost points only.

The other checks are given an answer with one round of its circle, so saying a piece once more changes nothing for them,
and ``looping`` alone judges how often it was said: more rounds never cost less.
"""

# ruff: noqa: RUF001 (signs of Chinese and Japanese)

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["MOST", "NO_CIRCLE", "Circle", "circle_of", "points_of"]

MOST: Final = 6.0
"""Points that an answer of nothing but repetition loses."""
_COPIES: Final = 4
_LETTERS, _SIGNS = 60, 400
"""Characters that copies come to at least: with letters in them; without, as drawn lines and matrices of zeros have."""
_LOOKED_AT: Final = 8_192
_END: Final = 16
"""Characters whose earlier occurrence tells how long the piece may be."""
_TRIES: Final = 8
_TELLING: Final = 120
"""Characters of a circle from which on it costs something: "no, no, no, no" is a way to speak."""
_ALL: Final = 0.7
"""Share of an answer that is repetition from which on it is nothing else."""
_GROUP: Final = 4
_REPEATED: Final = 0.35
"""Share of repeated groups of words that costs nothing: plain prose has under 0.1, tables and code more."""
_FEW: Final = 40
"""Words; fewer say nothing about repetition."""
_FEW_CLAUSES: Final = 8
_CLAUSES: Final = re.compile("[。！？，、；：\n]+")
_CHARACTERS_A_WORD: Final = 14
"""Longer words on average are no words: the script has no spaces."""
_MANY_TIMES: Final = re.compile(
    r"\b(?:times|repeat\w*|mal|wiederhol\w*|fois|r[ée]p[èée]t\w*|veces|repit\w*|repet\w*)\b|[次回遍]|重复|繰り返"
)


class Circle(NamedTuple):
    """The copies in which an answer ends."""

    begin: int
    """Where the first begins."""
    size: int
    """Length of one, in characters."""
    length: int
    """Of the whole answer."""


NO_CIRCLE: Final = Circle(0, 0, 0)


def circle_of(text: str) -> Circle:
    """Return the circle in which a text ends: of several that can be seen, the one of most text.

    Example:
        >>> circle_of("Well. " + "And so on. " * 40)
        Circle(begin=4, size=11, length=446)
        >>> circle_of("And so on.") is NO_CIRCLE
        True
    """
    length, found = len(text), NO_CIRCLE
    shift = max(length - _LOOKED_AT, 0)
    end, at = text[-_END:], length - _END - shift
    tail = text[shift:]
    for _ in range(_TRIES if length >= _LETTERS else 0):
        at = tail.rfind(end, 0, at + _END - 1)
        size = length - shift - _END - at
        if at < 0 or _COPIES * size > length:
            break
        begin = _begin(text, size)
        least = _LETTERS if any(map(str.isalpha, text[-size:])) else _SIGNS
        longer = found is NO_CIRCLE or begin < found.begin
        if longer and length - begin >= max(least, _COPIES * size):
            found = Circle(begin, size, length)
    return found


def _begin(text: str, size: int) -> int:
    """Where the copies begin of which the last has this size: found in growing and shrinking steps, each one slice."""
    begin, step, growing = len(text) - size, 1, True
    while begin:
        step = min(step, begin)
        if text[begin - step : begin] == text[begin - step + size : begin + size]:
            begin -= step
            step = 2 * step if growing else step
        elif step == 1:
            break
        else:
            growing, step = False, step // 2
    return begin


def points_of(text: str, circle: Circle, asked: str) -> tuple[float, str]:
    """Return what repetition costs, and what was found.

    Args:
        text: The answer, with one round of its circle.
        circle: The answer's.
        asked: The prompt, lower case.
    """
    lost = _circling(circle)
    if lost and _asked_for(text[-circle.size :], asked):
        lost = 0.0
    repeated = _repeated(text)
    if repeated > _REPEATED:
        lost = max(lost, MOST if repeated >= _ALL else 1.0 + 3.0 * (repeated - _REPEATED) / (_ALL - _REPEATED))
    return (lost, "it says the same again and again") if lost else (0.0, "it does not repeat itself")


def _circling(circle: Circle) -> float:
    run = circle.length - circle.begin
    if run < _TELLING:
        return 0.0
    share = (run - circle.size) / circle.length
    return MOST * min(1.0, max(share / _ALL, 1 / MOST))


def _asked_for(piece: str, asked: str) -> bool:
    words = piece.lower().strip(" \n.,;!\"'")
    return bool(words) and words in asked and _MANY_TIMES.search(asked) is not None


def _repeated(text: str) -> float:
    """Share of what was said before among all groups of words, or clauses."""
    words = text.split()
    if len(text) > _CHARACTERS_A_WORD * len(words):
        clauses = [each for each in _CLAUSES.split(text) if each]
        return 1 - len(set(clauses)) / len(clauses) if len(clauses) >= _FEW_CLAUSES else 0.0
    if len(words) < _FEW:
        return 0.0
    groups = list(zip(*(words[i:] for i in range(_GROUP)), strict=False))
    return 1 - len(set(groups)) / len(groups)
