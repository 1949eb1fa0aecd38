"""What happened so far, and what to expect of the next request. It predicts; it never just averages.

Expected time = wait (requests in flight) + load (if not in memory) + prompt tokens / prefill rate
+ expected output / decode rate. Every figure is learned per model and host and shrunk toward a prior while
observations are few; old observations fade. Rates are ratios of sums (all tokens by all seconds), so that a short
answer cannot outweigh a long one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from routed_ollama.types import (
    Candidate,
    Grounds,
    ModelInfo,
    ModelPerformance,
    Outcome,
    OutcomeKind,
    Prediction,
    TaskCharacteristics,
    TaskType,
)

FADE: Final = 0.98
"""Weight that an observation keeps when the next one comes: about the last 50 count."""

PRIOR_SUCCESS: Final = 0.99
"""An untried model is expected to answer. Were it expected to fail more often than others do, the first successes of
whatever was tried first would keep it there."""
PRIOR_SUCCESS_WEIGHT: Final = 4.0
PRIOR_QUALITY_WEIGHT: Final = 5.0
PRIOR_RATE_WEIGHT: Final = 1.5
"""Observations that the prior of a rate is worth. Small: a machine's speed is quickly known."""

# Priors of speed come from one machine's measurement (SmolLM2, 135M parameters, one CPU thread: 42 tok/s
# decode, 150 tok/s prefill, 100 MB/s load), scaled with size as memory bandwidth does, and from the design's default
# of 50 tok/s prefill. They only have to order models by size: the machine's own figures replace them at once.
PRIOR_PREFILL: Final = 50.0
"""Tokens per second."""
_DECODE_AT_1B: Final = 12.0
_LOAD_BASE: Final = 0.5
_LOAD_BYTES_PER_SECOND: Final = 250e6
_WORTH_TELLING: Final = 0.05
"""Share by which a machine's speed must change before every other model's prediction is worked out anew."""
RESIDENT_LOAD: Final = 0.3
"""Seconds; a resident model's ``load_duration`` is 0.05 to 0.25 (recordings), so less than this is no load."""


@dataclass(slots=True)
class Faded:
    """A mean whose old observations fade."""

    total: float = 0.0
    weight: float = 0.0

    def add(self, value: float) -> None:
        """Take an observation."""
        self.total = self.total * FADE + value
        self.weight = self.weight * FADE + 1.0

    def mean(self, prior: float, prior_weight: float) -> float:
        """Return the mean, shrunk toward ``prior`` as if that had been seen ``prior_weight`` times."""
        weight = self.weight + prior_weight
        return (self.total + prior * prior_weight) / weight if weight else prior


@dataclass(slots=True)
class Rate:
    """Tokens by seconds, faded, with the number of observations behind it."""

    tokens: float = 0.0
    seconds: float = 0.0
    samples: float = 0.0

    def add(self, tokens: float, seconds: float) -> None:
        """Take an observation."""
        self.tokens = self.tokens * FADE + tokens
        self.seconds = self.seconds * FADE + seconds
        self.samples = self.samples * FADE + 1.0

    def per_second(self, prior: float) -> float:
        """Return tokens per second, shrunk toward ``prior``."""
        if not self.seconds:
            return prior
        share = self.samples / (self.samples + PRIOR_RATE_WEIGHT)
        return share * (self.tokens / self.seconds) + (1.0 - share) * prior


@dataclass(slots=True)
class _TaskRecord:
    success: Faded = field(default_factory=Faded)
    quality: Faded = field(default_factory=Faded)
    output: Faded = field(default_factory=Faded)
    seconds: Faded = field(default_factory=Faded)
    rate: Rate = field(default_factory=Rate)
    count: int = 0
    updated: float = 0.0


@dataclass(slots=True)
class _Record:
    load: Faded = field(default_factory=Faded)
    prefill: Rate = field(default_factory=Rate)
    decode: Rate = field(default_factory=Rate)
    overall: _TaskRecord = field(default_factory=_TaskRecord)
    tasks: dict[TaskType, _TaskRecord] = field(default_factory=dict)
    recent: deque[tuple[bool, float | None]] = field(default_factory=lambda: deque(maxlen=20))
    recent_success: float = 1.0


class _Rates(NamedTuple):
    """What a record comes down to for a prediction; worked out once after each observation."""

    decode: float
    prefill: float
    load: float
    success: float
    quality: float
    quality_weight: float
    samples: float
    grounds: Grounds


_NO_RECORD: Final = _Record()


def prior_decode_rate(parameters: float) -> float:
    """Return the tokens per second to expect of a model of that many billion parameters, before any was seen.

    Example:
        >>> prior_decode_rate(1.0) > prior_decode_rate(8.0) > prior_decode_rate(70.0)
        True
    """
    return float(_DECODE_AT_1B / max(parameters or 7.0, 0.1) ** 0.75)


def prior_load_seconds(size: int) -> float:
    """Return the seconds to expect for loading that many bytes, before any load was seen."""
    return _LOAD_BASE + (size or 4_000_000_000) / _LOAD_BYTES_PER_SECOND


class PerformanceHistory:
    """Every model's record, and the predictions made from it; safe to use from any thread.

    Args:
        clock: UTC seconds.

    Example:
        >>> history = PerformanceHistory()
        >>> history.record(Outcome("llama3.1:8b", "", OutcomeKind.OK, response_time=2.0))
        >>> history.performance()["llama3.1:8b"].total_requests
        1
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._records: dict[Candidate, _Record] = {}
        self._speedups: dict[str, Faded] = {}
        self._answers: dict[str, tuple[Candidate, TaskType]] = {}
        self._rates: dict[Candidate, _Rates] = {}
        self.version = 0
        """Changes when some model's ``recent_success`` does."""

    def record(self, outcome: Outcome) -> None:
        """Learn from an outcome. A cancelled one leaves no trace in success, quality or times."""
        if outcome.kind is OutcomeKind.CANCELLED:
            return
        with self._lock:
            candidate = Candidate(outcome.model, outcome.host)
            record = self._records.setdefault(candidate, _Record())
            steady = record.recent_success
            tasks = (record.overall, record.tasks.setdefault(outcome.task_type, _TaskRecord()))
            for task in tasks:
                _learn_task(task, outcome)
            _learn_speed(record, outcome)
            self._rates.pop(candidate, None)
            if record.recent_success != steady:
                self.version += 1
            if outcome.request_id and outcome.kind is OutcomeKind.OK:
                self._remember_answer(outcome)

    def replay(self, outcomes: Iterable[Outcome]) -> None:
        """Learn from outcomes of earlier processes, oldest first."""
        for outcome in outcomes:
            self.record(outcome)

    def _remember_answer(self, outcome: Outcome) -> None:
        if len(self._answers) >= 10_000:  # noqa: PLR2004 (feedback comes soon or never)
            self._answers.pop(next(iter(self._answers)))
        self._answers[str(outcome.request_id)] = (Candidate(outcome.model, outcome.host), outcome.task_type)

    def feedback(self, request_id: str, quality: float) -> bool:
        """Learn a person's judgement (0 to 10) of an answer; False when this process does not know the request."""
        found = self._answers.get(request_id)
        if found is None:
            return False
        candidate, task_type = found
        with self._lock:
            record = self._records[candidate]
            record.overall.quality.add(quality)
            record.tasks[task_type].quality.add(quality)
            self._rates.pop(candidate, None)
        return True

    def predict(
        self,
        info: ModelInfo,
        task: TaskCharacteristics,
        *,
        resident: bool | None,
        in_flight: int = 0,
        prior: float = 0.5,
    ) -> Prediction:
        """Return what to expect of a model for one request.

        Args:
            info: the model.
            task: the request: prompt tokens, expected output tokens, task type.
            resident: whether the model is in memory; None when nobody can say, and then no load is expected.
            in_flight: requests that the model is busy with and that come first.
            prior: how good the model is thought to be before it was judged, 0..1.
        """
        candidate = info.candidate
        rates = self._rates.get(candidate) or self._work_out(info)
        by_task = self._records.get(candidate, _NO_RECORD).tasks.get(task.task_type)
        output, success = float(task.output_tokens), rates.success
        weight = rates.quality_weight + PRIOR_QUALITY_WEIGHT
        quality = (rates.quality + prior * 10.0 * PRIOR_QUALITY_WEIGHT) / weight
        if by_task is not None:
            output = by_task.output.mean(output, 3.0)
            success = by_task.success.mean(success, PRIOR_SUCCESS_WEIGHT)
            quality = by_task.quality.mean(quality, PRIOR_QUALITY_WEIGHT)
        prompt_seconds = task.prompt_tokens / rates.prefill
        output_seconds = output / rates.decode
        load = rates.load if resident is False else 0.0
        wait = in_flight * (prompt_seconds + output_seconds)
        seconds = wait + load + prompt_seconds + output_seconds
        return Prediction(
            seconds, wait, load, prompt_seconds, output_seconds, success, quality, rates.samples, rates.grounds
        )

    def _work_out(self, info: ModelInfo) -> _Rates:
        record = self._records.get(info.candidate, _NO_RECORD)
        decode = self._decode_rate(record, info)
        overall, load = record.overall, self.load_seconds(info)
        rates = _Rates(
            decode,
            record.prefill.per_second(max(PRIOR_PREFILL, decode * 3.0)),
            load,
            overall.success.mean(PRIOR_SUCCESS, PRIOR_SUCCESS_WEIGHT),
            overall.quality.total,
            overall.quality.weight,
            overall.success.weight,
            Grounds(
                overall.success.weight,
                overall.quality.weight,
                record.decode.samples,
                record.prefill.samples,
                record.load.weight,
                load,
            ),
        )
        self._rates[info.candidate] = rates
        return rates

    def load_seconds(self, info: ModelInfo) -> float:
        """Return the seconds that bringing a model into memory is expected to take."""
        record = self._records.get(info.candidate, _NO_RECORD)
        return record.load.mean(prior_load_seconds(info.size), 0.5)

    def observed_load(self, info: ModelInfo) -> float | None:
        """Return the seconds that a model's own loads have taken; None before one was seen."""
        loads = self._records.get(info.candidate, _NO_RECORD).load
        return loads.total / loads.weight if loads.weight >= 1.0 else None

    def token_seconds(self, info: ModelInfo) -> float | None:
        """Return the seconds that a model takes for a token of its answer; None before one was seen."""
        decode = self._records.get(info.candidate, _NO_RECORD).decode
        return decode.seconds / decode.tokens if decode.tokens else None

    def _decode_rate(self, record: _Record, info: ModelInfo) -> float:
        speedup = self._speedups.get(info.host)
        prior = prior_decode_rate(info.parameters) * (1.0 if speedup is None else speedup.mean(1.0, 0.5))
        return record.decode.per_second(prior)

    def learn_machine(self, info: ModelInfo, outcome: Outcome) -> None:
        """Learn how much faster this host is than the priors say, so that models never tried there are judged by it."""
        rate = outcome.tokens_per_second
        if rate is None:
            return
        with self._lock:
            speedup = self._speedups.setdefault(info.host, Faded())
            before = speedup.mean(1.0, 0.5)
            speedup.add(rate / prior_decode_rate(info.parameters))
            if abs(speedup.mean(1.0, 0.5) - before) > _WORTH_TELLING * before:
                self._rates.clear()

    def recent_success(self, candidate: Candidate) -> float:
        """Return the share of a model's last 20 requests that went well; 1 before the first."""
        return self._records.get(candidate, _NO_RECORD).recent_success

    def recent(self, candidate: Candidate) -> tuple[list[bool], float | None, float | None]:
        """Return the last outcomes, the recent and the usual seconds per answer (None while too few)."""
        record = self._records.get(candidate)
        if record is None:
            return [], None, None
        with self._lock:
            entries = list(record.recent)
        times = [seconds for ok, seconds in entries if ok and seconds is not None]
        enough = 5
        usual = record.overall.seconds
        if len(times) < enough or usual.weight < 2 * enough:
            return [ok for ok, _ in entries], None, None
        return [ok for ok, _ in entries], sorted(times[-enough:])[enough // 2], usual.mean(0.0, 0.0)

    def performance(self, task_type: TaskType | None = None, host: str | None = None) -> dict[str, ModelPerformance]:
        """Return each model's record as a person reads it, overall or for one task type, all hosts joined.

        Args:
            task_type: only this kind of task; None for all.
            host: only this host; None for all.
        """
        joined: dict[str, list[tuple[_Record, _TaskRecord]]] = {}
        with self._lock:
            for candidate, record in self._records.items():
                part = record.overall if task_type is None else record.tasks.get(task_type)
                if part is not None and host in {None, candidate.host}:
                    joined.setdefault(candidate.model, []).append((record, part))
            return {model: _summary(model, parts) for model, parts in joined.items()}


def _learn_task(task: _TaskRecord, outcome: Outcome) -> None:
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


def _learn_speed(record: _Record, outcome: Outcome) -> None:
    ok = outcome.kind is OutcomeKind.OK
    record.recent.append((ok, outcome.response_time if ok else None))
    record.recent_success = sum(went_well for went_well, _ in record.recent) / len(record.recent)
    if outcome.load_seconds is not None and outcome.load_seconds > RESIDENT_LOAD and outcome.was_resident is not True:
        record.load.add(outcome.load_seconds)
    if outcome.prompt_tokens and outcome.prompt_seconds:
        record.prefill.add(outcome.prompt_tokens, outcome.prompt_seconds)
    if outcome.output_tokens and outcome.output_seconds and not outcome.estimated:
        record.decode.add(outcome.output_tokens, outcome.output_seconds)


def _summary(model: str, parts: list[tuple[_Record, _TaskRecord]]) -> ModelPerformance:
    def weighted(values: Iterator[tuple[float, float]]) -> float:
        pairs = list(values)
        weight = sum(w for _, w in pairs)
        return sum(t for t, _ in pairs) / weight if weight else 0.0

    return ModelPerformance(
        model=model,
        average_response_time=weighted((t.seconds.total, t.seconds.weight) for _, t in parts),
        tokens_per_second=weighted((t.rate.tokens, t.rate.seconds) for _, t in parts),
        success_rate=weighted((t.success.total, t.success.weight) for _, t in parts),
        quality_score=weighted((t.quality.total, t.quality.weight) for _, t in parts),
        total_requests=sum(t.count for _, t in parts),
        last_updated=max(t.updated for _, t in parts),
        load_seconds=weighted((r.load.total, r.load.weight) for r, _ in parts),
    )
