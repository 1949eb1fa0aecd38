"""From what a framework's events say of a request to an ``Outcome``: read from the last line of Ollama's answer.

Handlers of every framework use it, so the same traffic leaves the same history whichever of them reported it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncGenerator, Generator, Hashable, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from routed_ollama import _fork
from routed_ollama.fallback import Attempt, AttemptPlan, FailureKind, classify
from routed_ollama.quality import assess_quality, is_only_json
from routed_ollama.transport import answer_heard, attempt_bounds
from routed_ollama.types import Outcome, OutcomeKind, TaskType

_MOST_RUNS = 10_000
"""Requests that are remembered at most: one that never reports its end must not stay for ever."""

_SECOND = 1e9
"""Nanoseconds; Ollama's durations are in them."""

_LONGEST = 1e18
"""Nanoseconds; thirty years. What is longer, or negative, is no duration."""

_MOST_TOKENS = 2**31


def seconds(nanoseconds: Any) -> float | None:
    """Return a duration of Ollama's in seconds; None when it is absent or none.

    Example:
        >>> seconds(1_500_000_000), seconds(None)
        (1.5, None)
    """
    if isinstance(nanoseconds, bool) or not isinstance(nanoseconds, int | float):
        return None
    return nanoseconds / _SECOND if 0 <= nanoseconds <= _LONGEST else None


def _tokens(count: Any) -> int | None:
    return count if type(count) is int and 0 < count < _MOST_TOKENS else None


@contextmanager
def bounded(attempt: Attempt) -> Generator[None]:
    """Carry an attempt's limits of time to the transport, and what hears its answer, for the call that sends it."""
    bounds, heard = attempt_bounds.set(attempt.allowance.bounds), answer_heard.set(attempt.scrutiny.hear)
    try:
        yield
    finally:
        attempt_bounds.reset(bounds)
        answer_heard.reset(heard)


@asynccontextmanager
async def disconnecting(attempt: Attempt) -> AsyncGenerator[None]:
    """Close the connection of an async stream that is left: the client would leave that to the garbage collector."""
    try:
        yield
    finally:
        marks = attempt.allowance.marks
        if marks is not None and marks.aclose is not None:
            await marks.aclose()


def request_sent(attempt: Attempt) -> bool | None:
    """Return whether an attempt's request had left; None when the client did not say."""
    marks = attempt.allowance.marks
    return None if marks is None else marks.sent_at is not None


def attempt_mark(router_id: str, plan: AttemptPlan, attempt: Attempt) -> dict[str, Any]:
    """Return what the events of an attempt say of it, in plain values; see ``RunningRequest.of_mark``."""
    return {
        "router": router_id,
        "request_id": attempt.request_id,
        "attempt": attempt.number,
        "model": attempt.model,
        "host": attempt.host,
        "task_type": plan.recommendation.task.task_type,
        "expects_json": plan.recommendation.task.needs.structured_output,
        "offers_tools": plan.recommendation.task.needs.tools,
        "resident": attempt.choice.resident,
        "goes_on": bool(attempt.continues),
    }


@dataclass(slots=True)
class RunningRequest:
    """A request to one model, from its start event to its end.

    Attributes:
        model: name of the model, with its tag.
        host: base URL.
        task_type: what is asked for.
        prompt: the last message's text; only until the answer is judged.
        request_id: of the routed request; None for traffic that is not routed.
        resident: whether the model was in memory; None when unknown.
        first_token: seconds to the first token; None until it came.
        goes_on: whether it ends an answer that another began; as an answer of its own its quality is not judged.
        expects_json: whether the whole answer has to be JSON.
        offers_tools: whether it may be a tool call.
    """

    model: str
    host: str
    task_type: TaskType
    prompt: str = ""
    request_id: str | None = None
    resident: bool | None = None
    first_token: float | None = None
    goes_on: bool = False
    expects_json: bool = False
    offers_tools: bool = False
    started: float = field(default_factory=time.perf_counter)

    @classmethod
    def of_mark(cls, mark: Mapping[str, Any], prompt: str) -> Self:
        """Return the request that an attempt's events tell of.

        Args:
            mark: made by ``attempt_mark``.
            prompt: the last message's text.
        """
        task_type = TaskType(mark["task_type"])
        said = (mark["model"], mark["host"], task_type, prompt, mark["request_id"], mark["resident"])
        form = {name: mark.get(name, False) for name in ("goes_on", "expects_json", "offers_tools")}
        return cls(*said, **form)

    def token(self) -> None:
        """Note that a token came; the first counts."""
        if self.first_token is None:
            self.first_token = time.perf_counter() - self.started

    def answered(
        self,
        line: Mapping[str, Any],
        text: str,
        *,
        usable: bool,
        judge: bool,
        called: bool = False,
        prompt_tokens: int | None = None,
        output_tokens: int | None = None,
    ) -> Outcome:
        """Return the outcome of an answer; one that holds nothing, or lacks its last line, is a failure.

        Args:
            line: Ollama's last line: durations in nanoseconds, counts, ``done`` and ``done_reason``.
            text: the answer's text.
            usable: whether there is a tool call, reasoning, or text that is more than white space.
            judge: whether to assess the answer's quality.
            called: whether it calls a tool.
            prompt_tokens: where the line has none.
            output_tokens: where the line has none.
        """
        failure, error = None, None
        if line.get("done", True) is not True:
            failure, error = FailureKind.TRUNCATED, "TruncatedStreamError"
        elif not usable:
            failure, error = FailureKind.EMPTY, "EmptyAnswerError"
        judged = judge and failure is None and not self.goes_on
        quality, fits = self._looked_at(text, line.get("done_reason"), called=called) if judged else (None, None)
        return Outcome(
            model=self.model,
            host=self.host,
            kind=OutcomeKind.OK if failure is None else OutcomeKind.FAILED,
            failure=None if failure is None else failure.value,
            error=error,
            task_type=self.task_type,
            response_time=time.perf_counter() - self.started,
            load_seconds=seconds(line.get("load_duration")),
            first_token_seconds=self.first_token,
            prompt_tokens=_tokens(line.get("prompt_eval_count")) or _tokens(prompt_tokens),
            prompt_seconds=seconds(line.get("prompt_eval_duration")),
            output_tokens=_tokens(line.get("eval_count")) or _tokens(output_tokens),
            output_seconds=seconds(line.get("eval_duration")),
            total_seconds=seconds(line.get("total_duration")),
            quality=quality,
            fits=fits,
            request_id=self.request_id,
            was_resident=self.resident,
            at=time.time(),
        )

    def _looked_at(self, text: str, reason: Any, *, called: bool) -> tuple[float | None, bool | None]:
        """Return how good an answer looks, and whether it has the form that was to be had, where there is one."""
        json = self.expects_json and not called
        quality = assess_quality(self.prompt, text, done_reason=reason, expects_json=json) if text else None
        return quality, (called or is_only_json(text)) if called or json else None

    def failed(self, error: BaseException, *, sent: bool | None = None) -> Outcome:
        """Return the outcome of a failure; a cancelled run and the caller's own mistakes blame no model.

        Args:
            error: what was raised.
            sent: whether the request had left by then; None when unknown.
        """
        kind = classify(error, sent=sent)
        neutral = kind in {FailureKind.CANCELLED, FailureKind.CALLER}
        unfit = kind in {FailureKind.INVALID, FailureKind.GARBLED} and (self.expects_json or self.offers_tools)
        return Outcome(
            model=self.model,
            host=self.host,
            kind=OutcomeKind.CANCELLED if neutral else OutcomeKind.FAILED,
            failure=kind.value,
            error=type(error).__name__,
            fits=False if unfit else None,
            task_type=self.task_type,
            response_time=time.perf_counter() - self.started,
            first_token_seconds=self.first_token,
            request_id=self.request_id,
            was_resident=self.resident,
            at=time.time(),
        )


class RunningRequests:
    """The requests that a handler has heard begin and not yet end, by the identifier of their events.

    Example:
        >>> running = RunningRequests()
        >>> running.begin("run 1", RunningRequest("llama3.1:8b", "http://127.0.0.1:11434", TaskType.GENERAL))
        >>> running.end("run 1").model, running.end("run 1")
        ('llama3.1:8b', None)
    """

    def __init__(self) -> None:
        self._running: dict[Hashable, RunningRequest] = {}
        self._lock = threading.Lock()
        _fork.owns_locks(self)

    def begin(self, identifier: Hashable, request: RunningRequest) -> None:
        """Remember one; the oldest are forgotten where there are too many."""
        with self._lock:
            while len(self._running) >= _MOST_RUNS:
                self._running.pop(next(iter(self._running)))
            self._running[identifier] = request

    def of(self, identifier: Hashable) -> RunningRequest | None:
        """Return one that is running; None for any other."""
        return self._running.get(identifier)

    def end(self, identifier: Hashable) -> RunningRequest | None:
        """Return one that is running, and forget it; None for any other."""
        with self._lock:
            return self._running.pop(identifier, None)
