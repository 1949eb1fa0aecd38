"""What was learned of the task types from labelled prompts. Law: a sum over the words of one reading, in integers.

A linear model: each known word, and each known beginning of a word, speaks for or against each task type. The weights
stand in ``task_types.txt``, which ``tests/benchmarks/fit_task_types.py`` derives from the prompts in
``tests/benchmarks/prompts/fit``, written for this project. Beginnings of words stand for what several words and
languages have in common; Chinese, Japanese and Korean are read in pairs of characters.

All weights of a word are one large integer, 24 bits for each, so that adding up a text is one ``sum`` and takes
microseconds. A beginning counts with each word that has it.
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final, NamedTuple

from routed_ollama.analysis.reading import Reading
from routed_ollama.types import TaskType

__all__ = ["BEGINNINGS", "Learned", "learned", "learned_points", "marks", "parts"]

BEGINNINGS: Final = (4, 6)
"""Lengths of the beginnings that longer words are known by."""
_LENGTHS: Final = (8, 20, 60, 150)
"""Words from which a prompt counts as no longer short, and so on."""
_TABLE: Final = 12
"""Bars from which a text is taken to hold a table."""
_FIELD: Final = 3
"""Bytes of each sum: hundreds of words of at most 255 each stay far below what they hold."""
_FIELDS: Final = len(TaskType) + 2
"""A sum for each task type, one of squares, one that counts."""
_ZERO: Final = 128
"""What stands for no weight in a byte."""


class Learned(NamedTuple):
    """What the file holds."""

    words: dict[str, int]
    """The weights of words and marks."""
    beginnings: tuple[dict[str, int], ...]
    """The weights of beginnings, by length."""
    bias: tuple[float, ...]
    """What all texts begin with."""
    scale: float
    rules: float
    """How much a point of the rules counts beside this."""
    sharpness: float
    """What makes probabilities of the points."""


def learned_points(reading: Reading) -> dict[TaskType, float]:
    """Return what a text's words say of each task type, in units of log odds; they sum to about zero.

    Example:
        >>> from routed_ollama.analysis.reading import read
        >>> points = learned_points(read("Schreibe Unit-Tests für diese Klasse"))
        >>> max(points, key=points.get).value
        'testing'
    """
    model = learned()
    total = sum(map(_of_word, set(reading.words)))
    if not total:  # not a word that is known: how long it is says nothing either
        return dict(zip(TaskType, model.bias, strict=True))
    total += sum(model.words.get(mark, 0) for mark in marks(reading))
    raw = total.to_bytes(_FIELD * _FIELDS, "little")
    *sums, squares, count = [int.from_bytes(raw[at : at + _FIELD], "little") for at in range(0, len(raw), _FIELD)]
    share, away = model.scale / squares**0.5, _ZERO * count
    return {task: bias + share * (each - away) for task, bias, each in zip(TaskType, model.bias, sums, strict=True)}


@lru_cache(maxsize=20_000)
def _of_word(word: str) -> int:
    """Return what a word and its beginnings say, packed; most texts are made of the same words."""
    model = learned()
    found = model.words.get(word, 0)
    for length, table in zip(BEGINNINGS, model.beginnings, strict=True):
        if len(word) > length:
            found += table.get(word[:length], 0)
    return found


def parts(reading: Reading) -> Iterator[str]:
    """Yield what a text is known by, as it is named in the file: each word, its beginnings, marks."""
    for word in set(reading.words):
        yield word
        for length in BEGINNINGS:
            if len(word) > length:
                yield f"{length}:{word[:length]}"
    yield from marks(reading)


def marks(reading: Reading) -> list[str]:
    """Return the names of what else is seen in a text: where it begins, how long it is, code, traces, tables."""
    seen = [f"#{sum(len(reading.words) >= least for least in _LENGTHS)}", "#english" if reading.english else "#foreign"]
    if reading.words:
        seen.append(f"^{reading.words[0]}")
    for name, is_so in (
        ("#code", reading.code),
        ("#fenced", reading.fences > 0),
        ("#trace", reading.traceback),
        ("#file", reading.file_name),
        ("#starts", reading.starts_as_code),
        ("#question", reading.question),
        ("#table", reading.text.count("|") > _TABLE),
    ):
        if is_so:
            seen.append(name)
    return seen


@cache
def learned() -> Learned:
    """Read the weights; once, when the first text is looked at."""
    words: dict[str, int] = {}
    beginnings: dict[str, dict[str, int]] = {str(length): {} for length in BEGINNINGS}
    lines = files(__package__).joinpath("task_types.txt").read_text(encoding="utf-8").split("\n")
    head = next(number for number, line in enumerate(lines) if not line.startswith("# "))
    scale, rules, sharpness, *bias = map(float, lines[head].split())
    for line in lines[head + 1 :]:
        if not line:
            continue
        name, packed = line.split("\t")
        spread = bytearray(_FIELD * _FIELDS)
        spread[::_FIELD] = a2b_base64(packed) + b"\1"
        length, colon, beginning = name.partition(":")
        table, key = (beginnings[length], beginning) if colon and length in beginnings else (words, name)
        table[key] = int.from_bytes(spread, "little")
    return Learned(words, tuple(beginnings.values()), tuple(bias), scale, rules, sharpness)
