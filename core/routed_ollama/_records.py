"""A model's record: what its attempts came to, overall and by task type. Figures only; old ones fade."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from routed_ollama._rates import Faded, Rate
from routed_ollama.types import ModelPerformance, Outcome, OutcomeKind, TaskType

RESIDENT_LOAD: Final = 0.3
"""Seconds; a resident model's ``load_duration`` is 0.05 to 0.25 (recordings), so less than this is no load."""


@dataclass(slots=True)
class TaskRecord:
    """What became of a model's attempts, overall or at one task type."""

    success: Faded = field(default_factory=Faded)
    quality: Faded = field(default_factory=Faded)
    output: Faded = field(default_factory=Faded)
    seconds: Faded = field(default_factory=Faded)
    rate: Rate = field(default_factory=Rate)
    count: int = 0
    updated: float = 0.0


@dataclass(slots=True)
class Record:
    """All that is kept of a model on a host."""

    load: Faded = field(default_factory=Faded)
    prefill: Rate = field(default_factory=Rate)
    decode: Rate = field(default_factory=Rate)
    overall: TaskRecord = field(default_factory=TaskRecord)
    tasks: dict[TaskType, TaskRecord] = field(default_factory=dict)
    recent: deque[tuple[bool, float | None]] = field(default_factory=lambda: deque(maxlen=20))
    recent_success: float = 1.0


def learn_task(task: TaskRecord, outcome: Outcome) -> None:
    """Take what an outcome says of success, length and quality."""
    ok = outcome.kind is OutcomeKind.OK
    task.count += 1
    task.updated = max(task.updated, outcome.at)
    task.success.add(1.0 if ok else 0.0)
    if not ok:
        return
    task.seconds.add(outcome.response_time)
    if outcome.quality is not None:
        task.quality.add(outcome.quality)
    if outcome.output_tokens:
        task.output.add(float(outcome.output_tokens))
        if outcome.output_seconds:
            task.rate.add(outcome.output_tokens, outcome.output_seconds)


def learn_speed(record: Record, outcome: Outcome) -> None:
    """Take what an outcome says of times."""
    ok = outcome.kind is OutcomeKind.OK
    record.recent.append((ok, outcome.response_time if ok else None))
    record.recent_success = sum(went_well for went_well, _ in record.recent) / len(record.recent)
    if outcome.load_seconds is not None and outcome.load_seconds > RESIDENT_LOAD and outcome.was_resident is not True:
        record.load.add(outcome.load_seconds)
    if outcome.prompt_tokens and outcome.prompt_seconds:
        record.prefill.add(outcome.prompt_tokens, outcome.prompt_seconds)
    if outcome.output_tokens and outcome.output_seconds and not outcome.estimated:
        record.decode.add(outcome.output_tokens, outcome.output_seconds)


def summary(model: str, parts: list[tuple[Record, TaskRecord]]) -> ModelPerformance:
    """Return records of a model, those of several hosts joined, as a person reads them.

    A model that was judged before any of its attempts was recorded has failed at nothing, so its success is 1.
    """

    def weighted(values: Iterator[tuple[float, float]], unseen: float = 0.0) -> float:
        pairs = list(values)
        weight = sum(w for _, w in pairs)
        return sum(t for t, _ in pairs) / weight if weight else unseen

    return ModelPerformance(
        model=model,
        average_response_time=weighted((t.seconds.total, t.seconds.weight) for _, t in parts),
        tokens_per_second=weighted((t.rate.tokens, t.rate.seconds) for _, t in parts),
        success_rate=weighted(((t.success.total, t.success.weight) for _, t in parts), unseen=1.0),
        quality_score=weighted((t.quality.total, t.quality.weight) for _, t in parts),
        total_requests=sum(t.count for _, t in parts),
        last_updated=max(t.updated for _, t in parts),
        load_seconds=weighted((r.load.total, r.load.weight) for r, _ in parts),
    )
