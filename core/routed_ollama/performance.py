"""What happened so far, and what to expect of the next request. It predicts; it never just averages.

Expected time = wait (requests in flight) + load (if not in memory) + prompt tokens / prefill rate
+ expected output / decode rate. Every figure is learned per model and host and shrunk toward a prior while
observations are few; old observations fade. Rates are ratios of sums (all tokens by all seconds), so that a short
answer cannot outweigh a long one. How good an answer will be is learned in ``_learning``.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from routed_ollama._learning import MARKS_OF_PRIOR, MARKS_OF_UNMEASURED, Learnt, Marks
from routed_ollama._rates import (
    FADE,
    PRIOR_PREFILL,
    PRIOR_RATE_WEIGHT,
    THOUGHTS,
    Faded,
    decode_rate_by_name,
    prior_decode_rate,
    prior_load_seconds,
    reasons_unasked,
)
from routed_ollama._records import Record, TaskRecord, learn_speed, learn_task, summary
from routed_ollama.priors import evidence_of
from routed_ollama.types import (
    Candidate,
    Grounds,
    ModelCapability,
    ModelInfo,
    ModelPerformance,
    Outcome,
    OutcomeKind,
    Prediction,
    Recommendation,
    TaskCharacteristics,
    TaskType,
)

__all__ = (
    "FADE",
    "PRIOR_RATE_WEIGHT",
    "PRIOR_SUCCESS",
    "PRIOR_SUCCESS_WEIGHT",
    "Faded",
    "PerformanceHistory",
    "prior_decode_rate",
    "prior_judgements",
    "prior_load_seconds",
)

PRIOR_SUCCESS: Final = 0.99
"""An untried model is expected to answer. Were it expected to fail more often than others do, the first successes of
whatever was tried first would keep it there."""
PRIOR_SUCCESS_WEIGHT: Final = 4.0
_WORTH_TELLING: Final = 0.05
"""Share by which a machine's speed must change before every other model's prediction is worked out anew."""


class _Rates(NamedTuple):
    """What a record comes down to for a prediction; worked out once after each observation."""

    digest: str
    decode: float
    prefill: float
    load: float
    success: float
    samples: float
    reasons: bool  # before it answers, without being asked to
    by_task: dict[TaskType, tuple[float, Learnt, Grounds]]
    """Success rate, what marks told, and the observations, for each task type that was asked for."""


class _Asked(NamedTuple):
    """A request that may still be judged."""

    task_type: TaskType
    priors: tuple[tuple[Candidate, float], ...]
    """Those most likely to answer, the first one first, with the prior of each for this request."""


_MOST_ASKED: Final = 10_000
"""Requests that wait for a judgement: it comes soon or never."""
_LIKELY: Final = 3
_NO_RECORD: Final = Record()


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
        self._records: dict[Candidate, Record] = {}
        self._speedups: dict[str, Faded] = {}
        self._marks = Marks()
        self._asked: OrderedDict[str, _Asked] = OrderedDict()
        self._answers: OrderedDict[str, tuple[Candidate, TaskType]] = OrderedDict()
        self._judged: OrderedDict[str, float] = OrderedDict()
        self._rates: dict[Candidate, _Rates] = {}
        self._met: set[Candidate] = set()
        self.version = 0
        """Changes when some model's ``recent_success`` does."""

    def record(self, outcome: Outcome) -> None:
        """Learn from an outcome. A cancelled one leaves no trace in success, quality or times.

        Args:
            outcome: what became of an attempt.
        """
        if outcome.kind is OutcomeKind.CANCELLED:
            return
        with self._lock:
            candidate = Candidate(outcome.model, outcome.host)
            record = self._records.setdefault(candidate, Record())
            steady = record.recent_success
            tasks = (record.overall, record.tasks.setdefault(outcome.task_type, TaskRecord()))
            for task in tasks:
                learn_task(task, outcome)
            learn_speed(record, outcome)
            self._learn_marks(candidate, outcome)
            self._rates.pop(candidate, None)
            if record.recent_success != steady:
                self.version += 1
            if outcome.request_id and outcome.kind is OutcomeKind.OK:
                _keep(self._answers, str(outcome.request_id), (candidate, outcome.task_type))

    def _learn_marks(self, candidate: Candidate, outcome: Outcome) -> None:
        """Learn from a judgement, or from what could be seen by the way: whether the form was kept, else the looks."""
        learn, task_type = self._marks.learn, outcome.task_type
        if outcome.fits is not None:
            learn(candidate, task_type, float(outcome.fits), expected=None, by="form")
        if outcome.quality is None or outcome.kind is not OutcomeKind.OK:
            return
        if outcome.judged:
            learn(candidate, task_type, outcome.quality / 10.0, expected=None)
            self._judgements_moved()
        elif outcome.fits is None:
            learn(candidate, task_type, outcome.quality / 10.0, expected=None, by="looks")

    def replay(self, outcomes: Iterable[Outcome]) -> None:
        """Learn from outcomes of earlier processes, oldest first."""
        for outcome in outcomes:
            self.record(outcome)

    def asked(self, recommendation: Recommendation) -> None:
        """Remember a request that may be judged: its task type and who may answer it, nothing of its text."""
        scores = recommendation.scores[:_LIKELY]
        priors = tuple([(s.candidate, _prior(s.capability, s.prediction)) for s in scores])
        with self._lock:
            _keep(self._asked, recommendation.request_id, _Asked(recommendation.task.task_type, priors))

    def feedback(self, request_id: str, quality: float) -> bool:
        """Learn a person's judgement (0 to 10) of an answer; False when this process does not know the request.

        It is of the model that answered, or of the recommended one where nobody told who did. A later judgement of the
        same answer takes the place of the earlier.
        """
        with self._lock:
            asked, answered = self._asked.get(request_id), self._answers.get(request_id)
            if asked is None and answered is None:
                return False
            priors = dict(asked.priors) if asked is not None else {}
            if answered is not None:
                candidate, task_type = answered
            elif asked is not None and priors:
                candidate, task_type = asked.priors[0][0], asked.task_type
            else:
                return False
            earlier = self._judged.get(request_id)
            _keep(self._judged, request_id, quality)
            record = self._records.setdefault(candidate, Record())
            for part in (record.overall, record.tasks.setdefault(task_type, TaskRecord())):
                part.quality.add(quality, earlier)
            self._marks.learn(
                candidate,
                task_type,
                quality / 10.0,
                expected=priors.get(candidate),
                instead=None if earlier is None else earlier / 10.0,
            )
            self._rates.pop(candidate, None)
            self._judgements_moved()
        return True

    @property
    def judgements(self) -> int:
        """How many persons have given."""
        return self._marks.given

    def learnt(self, candidate: Candidate, task_type: TaskType) -> Learnt:
        """Return what persons' judgements told of a model for a task type."""
        return self._marks.of(candidate, task_type)

    def _judgements_moved(self) -> None:
        """Have what is known of the judged models worked out anew: a person's mark for one moves it for the others."""
        for judged in self._marks.judged():
            if (rates := self._rates.get(judged)) is not None:
                rates.by_task.clear()

    def forget_quality(self, candidate: Candidate) -> None:
        """Begin anew with how good a model is: another one goes by its name now."""
        with self._lock:
            self._marks.forget(candidate)
            self._judgements_moved()
            if (record := self._records.get(candidate)) is not None:
                for part in (record.overall, *record.tasks.values()):
                    part.quality = Faded()
            self._rates.pop(candidate, None)

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
        candidate, task_type = info.candidate, task.task_type
        rates = self._rates.get(candidate)
        if rates is None or rates.digest != info.digest:  # else what was guessed before its host told would stay
            rates = self._work_out(info)
        success, learnt, grounds = rates.by_task.get(task_type) or self._of_task(info, task_type, rates)
        output = task.output_tokens + (THOUGHTS[task.complexity] if rates.reasons and not task.needs.thinking else 0.0)
        by_task = self._records.get(candidate, _NO_RECORD).tasks.get(task_type)
        if by_task is not None:
            output = by_task.output.mean(output, 3.0)
        quality = min(max((prior + learnt.shift + self._marks.offset(task_type)) * 10.0, 0.0), 10.0)
        prompt_seconds = task.prompt_tokens / rates.prefill
        output_seconds = output / rates.decode
        load = rates.load if resident is False else 0.0
        wait = in_flight * (prompt_seconds + output_seconds)
        seconds = wait + load + prompt_seconds + output_seconds
        return Prediction(seconds, wait, load, prompt_seconds, output_seconds, success, quality, rates.samples, grounds)

    def _work_out(self, info: ModelInfo) -> _Rates:
        candidate = info.candidate
        if candidate not in self._met:
            self._meet(info)
        if candidate in self._marks.unplaced:
            with self._lock:
                self._marks.place(candidate, _strength(info))
                self._judgements_moved()
        record = self._records.get(candidate, _NO_RECORD)
        decode = self._decode_rate(record, info)
        success = record.overall.success
        rates = _Rates(
            info.digest,
            decode,
            record.prefill.per_second(max(PRIOR_PREFILL, decode * 3.0)),
            self.load_seconds(info),
            success.mean(PRIOR_SUCCESS, PRIOR_SUCCESS_WEIGHT),
            success.weight,
            reasons_unasked(info),
            {},
        )
        self._rates[candidate] = rates
        return rates

    def _meet(self, info: ModelInfo) -> None:
        """Look once how far a model's prior can be trusted."""
        unmeasured = prior_judgements(info) < MARKS_OF_PRIOR
        with self._lock:
            self._met.add(info.candidate)
            if unmeasured:
                self._marks.unmeasured(info.candidate)

    def _of_task(self, info: ModelInfo, task_type: TaskType, rates: _Rates) -> tuple[float, Learnt, Grounds]:
        record = self._records.get(info.candidate, _NO_RECORD)
        by_task, success = record.tasks.get(task_type), rates.success
        if by_task is not None:
            success = by_task.success.mean(success, PRIOR_SUCCESS_WEIGHT)
        learnt = self._marks.of(info.candidate, task_type)
        grounds = Grounds(
            record.overall.success.weight,
            record.overall.quality.weight,
            record.decode.samples,
            record.prefill.samples,
            record.load.weight,
            rates.load,
            learnt.shift,
        )
        rates.by_task[task_type] = success, learnt, grounds
        return success, learnt, grounds

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

    def _decode_rate(self, record: Record, info: ModelInfo) -> float:
        speedup = None if info.remote else self._speedups.get(info.host)
        return record.decode.per_second(decode_rate_by_name(info) * (speedup.mean(1.0, 0.5) if speedup else 1.0))

    def learn_machine(self, info: ModelInfo, outcome: Outcome) -> None:
        """Learn how much faster this host is than the priors say, so that models never tried there are judged by it."""
        rate = outcome.tokens_per_second
        if rate is None or info.remote:  # how fast the cloud is says nothing of this machine
            return
        with self._lock:
            speedup = self._speedups.setdefault(info.host, Faded())
            before = speedup.mean(1.0, 0.5)
            speedup.add(rate / decode_rate_by_name(info))
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
        joined: dict[str, list[tuple[Record, TaskRecord]]] = {}
        with self._lock:
            for candidate, record in self._records.items():
                part = record.overall if task_type is None else record.tasks.get(task_type)
                if part is not None and host in {None, candidate.host}:
                    joined.setdefault(candidate.model, []).append((record, part))
            return {model: summary(model, parts) for model, parts in joined.items()}


def _keep(entries: OrderedDict[str, Any], key: str, value: Any) -> None:
    """Remember an entry as the newest, and forget the oldest where there are too many."""
    entries[key] = value
    entries.move_to_end(key)
    if len(entries) > _MOST_ASKED:
        entries.popitem(last=False)


def prior_judgements(info: ModelInfo) -> int:
    """Return how many judgements a model's prior is worth: fewer where nobody but its maker has measured it."""
    measured = evidence_of(info.name, family=info.family, parameters=info.parameters).independent
    return MARKS_OF_PRIOR if measured else MARKS_OF_UNMEASURED


def _prior(capability: float, prediction: Prediction | None) -> float:
    """Return what was thought of a model before it was judged, from a score."""
    grounds = None if prediction is None else prediction.grounds
    return capability if grounds is None else capability - grounds.learnt


def _strength(info: ModelInfo) -> float:
    """Return a model's prior for tasks of which no more is known than their type: the mean of what it is good at."""
    able = [value for name, value in zip(ModelCapability, info.strengths, strict=True) if name != ModelCapability.SPEED]
    return sum(able) / len(able)
