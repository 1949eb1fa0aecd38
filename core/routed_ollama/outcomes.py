"""From what a framework's events say of a request to an ``Outcome``: read from the last line of Ollama's answer.

Handlers of every framework use it, so the same traffic leaves the same history whichever of them reported it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from routed_ollama.fallback import FailureKind, classify
from routed_ollama.quality import assess_quality
from routed_ollama.types import Outcome, OutcomeKind, TaskType

_SECOND = 1e9
"""Nanoseconds; Ollama's durations are in them."""


def seconds(nanoseconds: Any) -> float | None:
    """Return a duration of Ollama's in seconds; None when it is absent or not a number.

    Example:
        >>> seconds(1_500_000_000), seconds(None)
        (1.5, None)
    """
    return nanoseconds / _SECOND if isinstance(nanoseconds, int | float) and not isinstance(nanoseconds, bool) else None


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
    """

    model: str
    host: str
    task_type: TaskType
    prompt: str = ""
    request_id: str | None = None
    resident: bool | None = None
    first_token: float | None = None
    started: float = field(default_factory=time.perf_counter)

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
        prompt_tokens: int | None = None,
        output_tokens: int | None = None,
    ) -> Outcome:
        """Return the outcome of an answer; one that holds nothing, or lacks its last line, is a failure.

        Args:
            line: Ollama's last line: durations in nanoseconds, counts, ``done`` and ``done_reason``.
            text: the answer's text.
            usable: whether there is a tool call, reasoning, or text that is more than white space.
            judge: whether to assess the answer's quality.
            prompt_tokens: where the line has none.
            output_tokens: where the line has none.
        """
        failure, error = None, None
        if line.get("done", True) is not True:
            failure, error = FailureKind.TRUNCATED, "TruncatedStreamError"
        elif not usable:
            failure, error = FailureKind.EMPTY, "EmptyAnswerError"
        judged = judge and text and failure is None
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
            prompt_tokens=line.get("prompt_eval_count") or prompt_tokens,
            prompt_seconds=seconds(line.get("prompt_eval_duration")),
            output_tokens=line.get("eval_count") or output_tokens,
            output_seconds=seconds(line.get("eval_duration")),
            total_seconds=seconds(line.get("total_duration")),
            quality=assess_quality(self.prompt, text, done_reason=line.get("done_reason")) if judged else None,
            request_id=self.request_id,
            was_resident=self.resident,
            at=time.time(),
        )

    def failed(self, error: BaseException, *, sent: bool | None = None) -> Outcome:
        """Return the outcome of a failure; a cancelled run and the caller's own mistakes blame no model.

        Args:
            error: what was raised.
            sent: whether the request had left by then; None when unknown.
        """
        kind = classify(error, sent=sent)
        neutral = kind in {FailureKind.CANCELLED, FailureKind.CALLER}
        return Outcome(
            model=self.model,
            host=self.host,
            kind=OutcomeKind.CANCELLED if neutral else OutcomeKind.FAILED,
            failure=kind.value,
            error=type(error).__name__,
            task_type=self.task_type,
            response_time=time.perf_counter() - self.started,
            first_token_seconds=self.first_token,
            request_id=self.request_id,
            was_resident=self.resident,
            at=time.time(),
        )
