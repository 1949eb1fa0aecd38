"""What a prompt demands of the model that answers it. Law: rules of our own over one reading; no text is read again.

Complexity, the three requirements, the answer's expected length and the weight of each capability. The tables' numbers
are judgements; where one was measured, its source stands beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from routed_ollama._frozen import FrozenDict
from routed_ollama.analysis import words as w
from routed_ollama.analysis.reading import Reading
from routed_ollama.types import Complexity, ModelCapability, Needs, TaskType

__all__ = ["Requirements", "calculates", "complexity_of", "expected_output", "formal", "requirements_of", "weigh"]


class Requirements(NamedTuple):
    """How much each counts, 0..1."""

    accuracy: float
    speed: float
    creativity: float


_T = TaskType
_BASE: Final[Mapping[TaskType, Requirements]] = {
    _T.CODING: Requirements(0.7, 0.5, 0.3),
    _T.ARCHITECTURE: Requirements(0.7, 0.3, 0.5),
    _T.TESTING: Requirements(0.75, 0.45, 0.3),
    _T.DEBUGGING: Requirements(0.85, 0.5, 0.15),
    _T.DOCUMENTATION: Requirements(0.6, 0.5, 0.4),
    _T.ANALYSIS: Requirements(0.8, 0.4, 0.3),
    _T.PLANNING: Requirements(0.6, 0.4, 0.5),
    _T.GENERAL: Requirements(0.5, 0.55, 0.4),
}

_HARDNESS: Final[Mapping[TaskType, float]] = {
    _T.CODING: 0.5, _T.ARCHITECTURE: 1.5, _T.TESTING: 0.5, _T.DEBUGGING: 0.8, _T.DOCUMENTATION: 0.3, _T.ANALYSIS: 0.7,
    _T.PLANNING: 0.7, _T.GENERAL: 0.0,
}  # fmt: skip
_MEDIUM: Final = 1.0
_HIGH: Final = 2.3
"""Points of complexity from which a prompt is no longer of low, of medium complexity."""
_LONG: Final = 500
"""Tokens of prompt that count as a point of complexity."""

# Usual length of an answer in tokens: WildBench's published means lie between 1,600 and 4,300 characters over models
# and tasks (most near 2,800, which is 700 tokens) for hard prompts; half of that where prompts are ordinary.
_OUTPUT: Final[Mapping[TaskType, int]] = {
    _T.CODING: 450, _T.ARCHITECTURE: 800, _T.TESTING: 600, _T.DEBUGGING: 450, _T.DOCUMENTATION: 600, _T.ANALYSIS: 550,
    _T.PLANNING: 650, _T.GENERAL: 350,
}  # fmt: skip
_BY_COMPLEXITY: Final = {Complexity.LOW: 0.6, Complexity.MEDIUM: 1.0, Complexity.HIGH: 1.5}
_QUESTION: Final = 150
"""Answer to a short question of fact."""
_GREETING: Final = 40
_FEW_WORDS: Final = 3
"""A general prompt of no more words than this is a greeting or a thank you."""
_YES_OR_NO: Final = 8
_STRUCTURED: Final = 200
"""An object of a schema seldom takes more."""
_THINKING: Final = 800
"""Tokens of reasoning before an answer."""
_MOST: Final = 8192

_NUMBERS: Final = {
    "a": 1, "an": 1, "one": 1, "single": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "dozen": 12, "twenty": 20, "fifty": 50, "hundred": 100, "thousand": 1000,
}  # fmt: skip
_UNITS: Final[Mapping[str, float]] = {
    "word": 1.35, "words": 1.35, "sentence": 30, "sentences": 30, "paragraph": 120, "paragraphs": 120, "page": 600,
    "pages": 600, "bullet": 30, "bullets": 30, "points": 30, "lines": 15, "items": 25, "ideas": 30, "examples": 60,
    "tips": 40, "steps": 50, "names": 6, "titles": 15, "questions": 30, "reasons": 50, "ways": 50, "facts": 35,
    "variations": 80, "suggestions": 40, "tweets": 50, "headlines": 15, "essay": 900, "tests": 90, "functions": 90,
}  # fmt: skip
"""Tokens that one of each takes."""
_SHORTEST: Final = 4
_LARGEST_COUNT: Final = 10_000
_ECHO: Final = frozenset(
    ("translate", "rewrite", "paraphrase", "rephrase", "proofread", "correct", "edit", "convert", "refactor")
)
"""Verbs whose answer is about as long as what they are given."""
_SHRINK: Final = frozenset(("summarize", "summarise", "summary", "tldr", "classify", "classification", "extract"))

_MAY_CALCULATE: Final = frozenset({_T.GENERAL, _T.ANALYSIS})
_MAY_ASK_HOW_MANY: Final = _MAY_CALCULATE | {TaskType.PLANNING}
_FORMULAS: Final = (
    "\\frac", "\\sqrt", "\\cdot", "\\times", "\\[", "\\(", "\\le", "\\ge", "\\angle", "\\sum", "\\int", "\\pi",
    "\\theta", "^\\circ", "\\text", "\\begin{",
)  # fmt: skip
"""What formulas in LaTeX hold and programs hardly ever do; their braces and signs look like code."""
_IN_LINE: Final = re.compile(r"\$[A-Za-z\\(|][^$\n]{0,80}\$")
"""A formula between dollars; a price begins with a digit."""
_TERMS: Final = w.CALCULATE - {
    "calculate", "compute", "solve", "sum", "percentage", "fraction", "kg", "meters", "km", "hours", "rate", "average",
    "ratio", "equals", "total", "digits",
}  # fmt: skip
"""Terms of mathematics and physics; the others stand in everyday problems, too."""
_FEW_TERMS: Final = 2
_HOW_MANY: Final = ("how many", "how much", "how old", "how long", "how far")
_IN_WORDS: Final = (frozenset(_NUMBERS) - {"a", "an", "one", "single"}) | {
    "half", "twice", "double", "third", "quarter", "percent",
}  # fmt: skip
_EXPRESSION: Final = re.compile(r"\d ?[*\u00d7\u00f7^+] ?\d|\d ?% (?:of|von|de) \d")
_EXERCISE: Final = frozenset(
    ("integral", "derivative", "equation", "equations", "theorem", "proof", "polynomial", "sqrt", "fraction")
)
_EXERCISE_WORDS: Final = 30
"""Words up to which one such term, or an expression, is what a prompt is about."""
_PROBLEM: Final = 100
"""Words of a problem in which its numbers are looked for."""
_GIVEN: Final = 2
"""Numbers that a problem gives at least."""
_CALCULATED: Final = 4.0
"""How much more reasoning counts where the answer is calculated: benchmarks of mathematics measure nothing else. What
counts of formulas is skill in mathematics, see ``TaskCharacteristics.mathematics``."""

_C = ModelCapability
_ORDER: Final = (
    _C.CODE_GENERATION, _C.CODE_ANALYSIS, _C.REASONING, _C.CREATIVITY, _C.ACCURACY, _C.INSTRUCTION_FOLLOWING
)  # fmt: skip
# Points per capability in the order above; only their proportions count. Speed is none of them: it makes no answer any
# better, and the time that an answer takes is counted by itself.
_WEIGHTS: Final[Mapping[TaskType, tuple[float, ...]]] = {
    _T.CODING: (40, 12, 15, 2, 12, 12),
    _T.ARCHITECTURE: (8, 15, 38, 8, 16, 12),
    _T.TESTING: (32, 24, 13, 2, 14, 10),
    _T.DEBUGGING: (18, 36, 20, 1, 15, 5),
    _T.DOCUMENTATION: (6, 22, 10, 8, 18, 28),
    _T.ANALYSIS: (2, 10, 38, 4, 28, 12),
    _T.PLANNING: (1, 3, 38, 14, 14, 24),
    _T.GENERAL: (2, 2, 24, 16, 22, 20),
}


def complexity_of(reading: Reading, task: TaskType, tokens: int) -> Complexity:
    """Say how demanding a prompt is.

    Args:
        reading: The last message of the user.
        task: Its task type.
        tokens: Length of that message, in tokens.

    Returns:
        The complexity.
    """
    points = _HARDNESS[task] + min(tokens / _LONG, 1.5) + 0.45 * min(len(w.HARD & reading.hits), 4)
    points += 0.4 * bool(w.THOROUGH & reading.ask) - 0.6 * bool(w.EASY & reading.ask)
    points += 0.15 * min(reading.text.count("\n- ") + reading.text.count("\n* ") + reading.text.count("\n1."), 5)
    points += 0.4 * reading.traceback + 0.3 * (len(w.EXACT & reading.ask) > 1)
    if points < _MEDIUM:
        return Complexity.LOW
    return Complexity.MEDIUM if points < _HIGH else Complexity.HIGH


def requirements_of(reading: Reading, task: TaskType, complexity: Complexity) -> Requirements:
    """Say how much accuracy, speed and originality count.

    Args:
        reading: The last message of the user.
        task: Its task type.
        complexity: Its complexity.

    Returns:
        Each from 0 to 1.
    """
    accuracy, speed, creativity = _BASE[task]
    exact = min(len(w.EXACT & reading.ask), 3)
    accuracy += 0.12 * exact
    creativity -= 0.08 * exact
    creative = min(len(w.CREATIVE & reading.ask), 3)
    if creative and task in {TaskType.GENERAL, TaskType.PLANNING}:
        creativity += 0.2 + 0.1 * creative
        accuracy -= 0.1 * creative
    if w.QUICK & reading.ask:
        speed += 0.2
    if w.THOROUGH & reading.ask:
        speed -= 0.1
        accuracy += 0.05
    speed += {Complexity.LOW: 0.15, Complexity.MEDIUM: 0.0, Complexity.HIGH: -0.15}[complexity]
    return Requirements(_share(accuracy), _share(speed), _share(creativity))


def expected_output(
    reading: Reading, task: TaskType, complexity: Complexity, *, tokens: int, needs: Needs, limit: int | None
) -> int:
    """Expect the length of an answer.

    Args:
        reading: The last message of the user.
        task: Its task type.
        complexity: Its complexity.
        tokens: Length of that message, in tokens.
        needs: What the request cannot do without.
        limit: The most the caller allows; None or less than 1 for no limit.

    Returns:
        Tokens, at least 1.
    """
    asked = _asked_length(reading)
    expected = asked if asked is not None else _usual_length(reading, task, complexity, tokens)
    if needs.structured_output:
        expected = min(expected, _STRUCTURED)
    if needs.thinking:
        expected += _THINKING * _BY_COMPLEXITY[complexity]
    most = limit if limit is not None and limit > 0 else _MOST
    return max(1, min(round(expected), most))


def calculates(reading: Reading, task: TaskType) -> bool:
    """Say whether the answer is to be calculated: a problem with numbers or formulas, or "how many" of given numbers.

    Numbers alone say so in general prompts and analyses only: elsewhere they are versions, lines and sizes.

    Args:
        reading: The last message of the user.
        task: Its task type.

    Returns:
        Whether skill in mathematics counts.
    """
    if reading.fences or reading.traceback:
        return False
    if reading.calculates and (
        (task in _MAY_CALCULATE and not reading.code)
        or ("\\" in reading.text and any(mark in reading.text for mark in _FORMULAS))
    ):
        return True
    if reading.code:
        return False
    if task in _MAY_CALCULATE and _is_exercise(reading):
        return True
    return task in _MAY_ASK_HOW_MANY and reading.question and _asks_how_many(reading)


def formal(reading: Reading) -> bool:
    """Say whether what is to be calculated is put in formulas or in terms of mathematics.

    A problem told in plain words takes reasoning; this takes skill in mathematics, and models that are equal in the one
    differ in the other.

    Args:
        reading: The last message of the user.

    Returns:
        Whether it is a matter of mathematics.
    """
    text = reading.text
    if "^" in text or len(_TERMS & reading.hits) >= _FEW_TERMS:
        return True
    if "$" in text and _IN_LINE.search(text):
        return True
    return "\\" in text and any(mark in text for mark in _FORMULAS)


def _is_exercise(reading: Reading) -> bool:
    """Whether something is to be solved, or a short prompt is about one term or one expression of mathematics."""
    if formal(reading) and ("=" in reading.text or not w.CALCULATE.isdisjoint(reading.hits)):
        return True
    if len(reading.prose) > _EXERCISE_WORDS:
        return False
    return not _EXERCISE.isdisjoint(reading.prose) or _EXPRESSION.search(reading.text) is not None


def _asks_how_many(reading: Reading) -> bool:
    text = reading.text.lower()
    if "how " not in text or not any(words in text for words in _HOW_MANY):
        return False
    given = (word in _IN_WORDS or word[0].isdecimal() for word in reading.prose[:_PROBLEM])
    return sum(given) >= _GIVEN


def weigh(
    task: TaskType, requirements: Requirements, complexity: Complexity, *, calculates: bool = False
) -> Mapping[ModelCapability, float]:
    """Weigh the capabilities for a prompt.

    Args:
        task: Its task type.
        requirements: How much accuracy, speed and originality count.
        complexity: Its complexity.
        calculates: Whether the answer is calculated.

    Returns:
        Weights that sum to 1; that of speed is 0, see above.
    """
    base = _BASE[task]
    code, read_code, reasoning, creativity, accuracy, follow = _WEIGHTS[task]
    accuracy *= 1 + 2 * (requirements.accuracy - base.accuracy)
    creativity *= 1 + 4 * (requirements.creativity - base.creativity)
    if complexity is Complexity.HIGH:
        reasoning *= 1.25
    elif complexity is Complexity.LOW:
        reasoning *= 0.8
    if calculates:
        reasoning *= _CALCULATED
    values = (code, read_code, reasoning, max(creativity, 0.0), accuracy, follow)
    total = sum(values)
    weights = {name: value / total for name, value in zip(_ORDER, values, strict=True)}
    return FrozenDict({**weights, _C.SPEED: 0.0})


def _usual_length(r: Reading, task: TaskType, complexity: Complexity, tokens: int) -> float:
    if r.ask & _ECHO and tokens > _QUESTION:
        return tokens
    if r.ask & _SHRINK:
        return max(60, min(0.25 * tokens, 400))
    if r.hits >= w.YES_NO:
        return _YES_OR_NO
    if task is TaskType.GENERAL and len(r.prose) <= _FEW_WORDS and r.english:
        return _GREETING
    if task is TaskType.GENERAL and r.question and complexity is Complexity.LOW and not w.MAKE & r.ask:
        expected = float(_QUESTION)
    else:
        expected = _OUTPUT[task] * _BY_COMPLEXITY[complexity]
    if w.QUICK & r.ask:
        expected *= 0.5
    return expected * 1.5 if w.THOROUGH & r.ask else expected


def _asked_length(r: Reading) -> float | None:
    """Tokens of a length that is asked for in so many words: "in one word", "500 words", "list of 10 ideas"."""
    units = w.UNITS & r.hits
    if not units:
        return None
    for position, word in enumerate(r.prose):
        if word not in units:
            continue
        for before in reversed(r.prose[max(position - 3, 0) : position]):
            count = _number(before)
            if count is not None:
                return max(count * _UNITS[word], _SHORTEST)
    return None


def _number(word: str) -> int | None:
    """The count a word states; "500-word" and "3-5" count by their first number."""
    digits = word.partition("-")[0]
    if digits.isdecimal():
        count = int(digits[:6])
        return count if 0 < count <= _LARGEST_COUNT else None
    return _NUMBERS.get(word)


def _share(value: float) -> float:
    return round(min(max(value, 0.0), 1.0), 3)
