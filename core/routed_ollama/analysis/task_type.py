"""What a prompt asks for, and how sure that is. Law: evidence is added up per task type, and the strongest one wins.

Two kinds of evidence, in the same units: what words in any language say (``learned``), and rules of thumb of our own,
in which 1 is a fair hint, 2 a strong one, and GENERAL has a head start in English texts that other types must beat,
because leaving it for a weak hint does more harm than staying. The rules know what people usually say, in other
languages as far as ``meanings`` goes; what was learned knows how else it can be said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

from routed_ollama.analysis import words as w
from routed_ollama.analysis.learned import learned, learned_points
from routed_ollama.analysis.reading import Reading
from routed_ollama.types import TaskType

__all__ = ["Verdict", "classify", "rule_points"]

_HEAD_START: Final = 1.3
_CONTEXT: Final = 0.3
"""How much what was said earlier counts beside the last message."""


_CONTINUED: Final = 0.6
"""The same where the last message goes on with it."""
_SHORT: Final = 12
"""Words up to which a message may do no more than go on."""
_BROKEN: Final = 1.2
"""Points for what does not work, where software was spoken of before."""


class Verdict(NamedTuple):
    """A task type and how sure it is, 0..1."""

    task_type: TaskType
    confidence: float


def classify(reading: Reading, context: Reading | None = None) -> Verdict:
    """Say what a prompt asks for.

    Args:
        reading: The last message of the user.
        context: What was said before, system message included; a weak hint.

    Returns:
        The task type with its confidence.
    """
    if not (reading.words or reading.code or reading.traceback):
        return Verdict(TaskType.GENERAL, 0.0)
    points = _evidence(reading)
    if context is not None:
        complains = bool(w.PROBLEM & reading.ask) and not w.MAKE & reading.ask
        share = _CONTINUED if _goes_on(reading) and not complains else _CONTEXT
        for task, earlier in _evidence(context).items():
            points[task] += share * earlier
        if complains:
            points[TaskType.DEBUGGING] += _BROKEN * learned().rules * min(_technical(context), _MUCH_TECH)
    best = max(points, key=points.__getitem__)
    return Verdict(best, round(_share(points[best], points.values()), 3))


def _goes_on(r: Reading) -> bool:
    """Whether a short message goes on with what was said: it begins so, or speaks of "it" and "those"."""
    if not r.words or len(r.words) > _SHORT:
        return False
    return r.words[0] in w.GOING_ON or not w.SAID_BEFORE.isdisjoint(r.words)


def _evidence(reading: Reading) -> dict[TaskType, float]:
    points, share = learned_points(reading), learned().rules
    for task, more in rule_points(reading).items():
        points[task] += share * more
    return points


def _share(best: float, points: Iterable[float]) -> float:
    """Return the probability of the best, 0..1."""
    sharpness = learned().sharpness
    return 1.0 / sum(math.exp(sharpness * (each - best)) for each in points)


def rule_points(r: Reading) -> dict[TaskType, float]:
    """Return what the rules say of a text."""
    tech = _technical(r)
    make = bool(w.MAKE & r.ask)
    return {
        TaskType.GENERAL: _general(r, tech),
        TaskType.CODING: _coding(r, tech, make=make),
        TaskType.DEBUGGING: _debugging(r, tech),
        TaskType.TESTING: _testing(r, tech),
        TaskType.ARCHITECTURE: _architecture(r, tech),
        TaskType.DOCUMENTATION: _documentation(r, tech, make=make),
        TaskType.ANALYSIS: _analysis(r, tech, make=make),
        TaskType.PLANNING: _planning(r, tech),
    }


def _technical(r: Reading) -> float:
    """How sure it is that software is meant, 0..4."""
    tech = 1.0 * len(w.TECH & r.ask) + 0.3 * len(w.TECH & r.hits) + 0.8 * len(w.STRONG_CODE & r.ask)
    tech += 0.25 * len(w.CODE & r.ask) + 1.5 * r.code + 0.8 * r.file_name + 1.0 * r.traceback
    return min(tech, 4.0)


def _general(r: Reading, tech: float) -> float:
    points = _HEAD_START * r.english + 1.2 * min(len(w.CREATIVE & r.ask), 2) + 0.8 * min(len(w.WRITING & r.ask), 2)
    if r.question and tech < 1:
        points += 0.4
    return points - 0.3 * tech


def _coding(r: Reading, tech: float, *, make: bool) -> float:
    points = 0.75 * tech + 2.0 * r.starts_as_code
    if make and (w.CODE & r.ask or tech >= 1):
        points += 1.2
    if w.STRONG_CODE & r.ask and make:
        points += 0.6
    return points


def _debugging(r: Reading, tech: float) -> float:
    points = 2.5 * r.traceback + (1.6 if w.FIX & r.ask else 0.0)
    if tech >= _SOME_TECH or r.traceback:
        points += 0.9 * min(len(w.PROBLEM & r.ask), 3) + 0.25 * min(len(w.PROBLEM & r.hits), 4)
        points += 0.3 * tech
    return points + (_FAILING_TEST if _is_failing_test(r) else 0.0)


def _is_failing_test(r: Reading) -> bool:
    """Whether a test is the patient: it fails, or only now and then, and none is to be written."""
    tests = w.TEST | w.STRONG_TEST
    return bool(w.FAILING & r.ask and tests & r.ask) and not (w.MAKE & r.ask or "cases" in r.ask)


def _testing(r: Reading, tech: float) -> float:
    if _is_failing_test(r):
        return 0.0
    points = 2.2 * min(len(w.STRONG_TEST & r.ask), 2)
    if w.TEST & r.ask:
        points += 1.0 + 0.35 * min(tech, 2.0) + (1.0 if w.TEST_KIND & r.ask else 0.0)
        points += 0.7 * (w.MAKE & r.ask != frozenset())
        points += 2.0 * _is_test_plan(r)
    return points


def _is_test_plan(r: Reading) -> bool:
    return "plan" in r.ask and ("test" in r.ask or "testing" in r.ask) and not w.STRONG_PLAN & r.ask


def _architecture(r: Reading, tech: float) -> float:
    strong = len(w.ARCHITECTURE & r.ask)
    points = 2.0 * min(strong, 2) + 0.5 * min(len(w.ARCHITECTURE & r.hits) - strong, 3)
    structure = len(w.STRUCTURE & r.ask)
    if "design" in r.ask and (structure > 1 or tech >= 1):
        points += 1.2
    return points + 0.4 * min(structure, 3) + 0.15 * min(len(w.STRUCTURE & r.hits) - structure, 6)


def _documentation(r: Reading, tech: float, *, make: bool) -> float:
    points = 3.0 * min(len(w.STRONG_DOCUMENT & r.ask), 2)
    if w.DOCUMENT & r.ask:
        points += 0.6 + (0.8 if make else 0.0) + (0.8 if tech >= 1 or "technical" in r.prose[:_WINDOW] else 0.0)
    return points


def _analysis(r: Reading, tech: float, *, make: bool) -> float:
    points = 1.7 * min(len(w.ANALYZE & r.ask), 2) + 0.6 * min(len(w.COMPARE & r.ask), 2)
    if points:
        points += 0.4 * min(len(w.DATA & r.ask), 3)
    if not make:
        points += 1.7 * min(len(w.JUDGE & r.ask), 2)
    if w.EXPLAIN & r.ask and r.code and not make:
        points += 1.8
    return points + (1.0 if r.text.count("|") > _TABLE and tech < _MUCH_TECH else 0.0)


def _planning(r: Reading, tech: float) -> float:
    points = 2.2 * min(len(w.STRONG_PLAN & r.ask), 2)
    plan = 0 if _is_test_plan(r) else len(w.PLAN & r.ask)
    if plan:
        points += 1.0 + 0.6 * min(plan, 2) + 0.4 * min(len(w.SPAN & r.ask), 3) - 0.2 * tech
    return points


_FAILING_TEST: Final = 8.0
"""What outweighs that every word of it speaks of tests."""
_SOME_TECH: Final = 0.5
"""Two weak words of programming, or anything stronger."""
_MUCH_TECH: Final = 2.0
"""From here on bars are operators, not a table."""
_WINDOW: Final = 40
"""Words at the beginning in which "technical" qualifies what is to be written."""
_TABLE: Final = 12
"""Bars from which a text is taken to hold a table."""
