"""How often the task type is right, and what its confidence is worth. Pure, but for asking ``analyze``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from evaluation.data import Labelled
from routed_ollama import Message, TaskType, analyze

TYPES: Final = tuple(kind.value for kind in TaskType)
BUCKETS: Final = 10


class Verdict(NamedTuple):
    """What one prompt was taken for."""

    source: str
    kind: str
    permitted: bool
    wanted: str
    got: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Quality:
    """How good the verdicts on some prompts are."""

    title: str
    prompts: int
    accuracy: float
    macro_f1: float
    """The mean of the F1 of those types that occur."""
    f1: Mapping[str, float]


class Bucket(NamedTuple):
    """Verdicts of about the same confidence."""

    low: float
    high: float
    prompts: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class TaskFigures:
    """All that is said of the task types."""

    overall: tuple[Quality, ...]
    by_source: tuple[Quality, ...]
    by_kind: tuple[Quality, ...]
    own: tuple[Quality, ...]
    confusion: Mapping[str, Mapping[str, int]]
    """How often a type (first) was taken for another (second)."""
    calibration: tuple[Bucket, ...]
    calibration_error: float
    own_calibration_error: float | None


def verdicts(prompts: Iterable[Labelled]) -> list[Verdict]:
    """Ask for the task type of each prompt."""
    found = []
    for prompt in prompts:
        task = analyze([Message("user", prompt.prompt)])
        found.append(
            Verdict(prompt.source, prompt.kind, prompt.permitted, prompt.wanted, task.task_type.value, task.confidence)
        )
    return found


def task_figures(shared: Sequence[Verdict], own: Sequence[Verdict]) -> TaskFigures:
    """Return all figures.

    Args:
        shared: verdicts on the development data.
        own: verdicts on the project's own prompts for checking.
    """
    permitted = [v for v in shared if v.permitted]
    return TaskFigures(
        overall=(
            quality("all", shared),
            *((quality("without the sources that may only measure", permitted),) if permitted else ()),
            *_split([v for v in shared if v.wanted != TaskType.GENERAL], lambda _: "without `general`"),
        ),
        by_source=_split(shared, lambda v: v.source),
        by_kind=_split(shared, lambda v: v.kind),
        own=(*_split(own, lambda v: v.source), *_split(own, lambda v: v.kind)),
        confusion=confusion(shared),
        calibration=calibration(shared),
        calibration_error=calibration_error(calibration(shared)),
        own_calibration_error=calibration_error(calibration(own)) if own else None,
    )


def _split(verdicts: Sequence[Verdict], key: Callable[[Verdict], str]) -> tuple[Quality, ...]:
    return tuple(quality(title, [v for v in verdicts if key(v) == title]) for title in sorted(set(map(key, verdicts))))


def quality(title: str, verdicts: Sequence[Verdict]) -> Quality:
    """Return accuracy, F1 of each type that occurs, and their mean."""
    matrix = confusion(verdicts)
    said = Counter(v.got for v in verdicts)
    f1 = {kind: 2 * row.get(kind, 0) / (sum(row.values()) + said[kind]) for kind, row in matrix.items()}
    right = sum(v.wanted == v.got for v in verdicts)
    return Quality(title, len(verdicts), right / len(verdicts), sum(f1.values()) / len(f1), f1)


def confusion(verdicts: Iterable[Verdict]) -> dict[str, dict[str, int]]:
    """Return how often each type that occurs was taken for which, in the order of ``TaskType``."""
    matrix: dict[str, Counter[str]] = {kind: Counter() for kind in TYPES}
    for verdict in verdicts:
        matrix[verdict.wanted][verdict.got] += 1
    return {kind: dict(row) for kind, row in matrix.items() if row}


def calibration(verdicts: Iterable[Verdict], buckets: int = BUCKETS) -> tuple[Bucket, ...]:
    """Return the verdicts by confidence, in buckets of equal width; those that are empty are left out."""
    groups: dict[int, list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault(min(int(verdict.confidence * buckets), buckets - 1), []).append(verdict)
    return tuple(
        Bucket(
            place / buckets,
            (place + 1) / buckets,
            len(group),
            sum(v.confidence for v in group) / len(group),
            sum(v.wanted == v.got for v in group) / len(group),
        )
        for place, group in sorted(groups.items())
    )


def calibration_error(buckets: Sequence[Bucket]) -> float:
    """Return the expected calibration error: the mean distance of confidence and accuracy, weighted by prompts."""
    total = sum(bucket.prompts for bucket in buckets)
    return sum(bucket.prompts * abs(bucket.confidence - bucket.accuracy) for bucket in buckets) / total
