"""The recorder: an ordinary LangChain handler that hears a model's start, tokens, end and error, and tells a router.

The router's own attempts are recorded by this same handler; attached to a plain ``ChatOllama`` it fills the same
history from traffic that is not routed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from langchain_routed_ollama._messages import seconds, to_core
from routed_ollama import (
    FailureKind,
    Outcome,
    OutcomeKind,
    Router,
    TaskType,
    analyze,
    assess_quality,
    classify,
    default_host,
    normalize_host,
    with_tag,
)

METADATA_KEY = "routed_ollama"
"""Metadata under which a run says what it is: ``"outer"`` for the whole request, a mapping for one attempt of it."""

_MOST_RUNS = 10_000
"""Runs that are remembered at most: one that never reports its end must not stay for ever."""


@dataclass(slots=True)
class _Run:
    model: str
    host: str
    task_type: TaskType
    prompt: str
    started: float
    request_id: str | None = None
    resident: bool | None = None
    first_token: float | None = None


class PerformanceCallbackHandler(BaseCallbackHandler):
    """Records what becomes of every request to a model.

    Args:
        router: whose history is filled.
        host: URL of the server that a plain ``ChatOllama`` talks to (its events do not say); default ``OLLAMA_HOST``,
            else loopback port 11434.

    Example:
        >>> from routed_ollama import Router
        >>> router = Router.from_models(["llama3.1:8b"])
        >>> handler = PerformanceCallbackHandler(router)   # ChatOllama(model="llama3.1:8b", callbacks=[handler])
        >>> router.performance()
        {}
    """

    run_inline = True
    """Recording takes microseconds; a thread for it would cost more (a stream of 1,000 words,
    async: 243 ms without a handler, 260 ms inline, 623 ms in threads)."""

    def __init__(self, router: Router, *, host: str | None = None) -> None:
        self.router = router
        self.host = normalize_host(host or default_host())
        self._own = False
        self._runs: dict[UUID, _Run] = {}
        self._lock = threading.Lock()

    @classmethod
    def of_attempts(cls, router: Router) -> PerformanceCallbackHandler:
        """Return the handler that a routed model attaches to its own attempts."""
        handler = cls(router)
        handler._own = True
        return handler

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],  # noqa: ARG002 (the framework's signature)
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Remember a run; one that the router records itself is left to it."""
        metadata = metadata or {}
        mark = metadata.get(METADATA_KEY)
        if mark == "outer" or (isinstance(mark, Mapping) and not self._own and mark.get("router") == self.router.id):
            return
        run = self._attempt(mark, messages) if isinstance(mark, Mapping) else self._plain(messages, metadata, kwargs)
        with self._lock:
            while len(self._runs) >= _MOST_RUNS:
                self._runs.pop(next(iter(self._runs)))
            self._runs[run_id] = run

    def _attempt(self, mark: Mapping[str, Any], messages: list[list[BaseMessage]]) -> _Run:
        return _Run(
            mark["model"],
            mark["host"],
            TaskType(mark["task_type"]),
            _prompt(messages),
            time.perf_counter(),
            mark["request_id"],
            mark["resident"],
        )

    def _plain(self, messages: list[list[BaseMessage]], metadata: Mapping[str, Any], kwargs: Mapping[str, Any]) -> _Run:
        parameters = kwargs.get("invocation_params") or {}
        model = str(parameters.get("model") or metadata.get("ls_model_name") or "unknown")
        task = analyze(to_core([message for batch in messages for message in batch]))
        return _Run(with_tag(model), self.host, task.task_type, _prompt(messages), time.perf_counter())

    def on_llm_new_token(self, token: Any, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """Note when the first token came."""
        run = self._runs.get(run_id)
        if run is not None and run.first_token is None and token:
            run.first_token = time.perf_counter() - run.started

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """Record an answer; one that holds nothing is a failure."""
        run = self._pop(run_id)
        if run is not None:
            self.router.record(_answered(run, response, judge=self.router.learns))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Record a failure; a cancelled run and the caller's own mistakes blame no model.

        The router's attempts add ``request_sent`` to the event: whether the request had left by then.
        """
        run = self._pop(run_id)
        if run is not None:
            self.router.record(_failed(run, error, sent=kwargs.get("request_sent")))

    def _pop(self, run_id: UUID) -> _Run | None:
        with self._lock:
            return self._runs.pop(run_id, None)


def _prompt(messages: list[list[BaseMessage]]) -> str:
    content = messages[-1][-1].content if messages and messages[-1] else ""
    return content if isinstance(content, str) else ""


def _answered(run: _Run, response: LLMResult, *, judge: bool) -> Outcome:
    generation = response.generations[0][0] if response.generations and response.generations[0] else None
    message = generation.message if isinstance(generation, ChatGeneration) else AIMessage(content="")
    info = {**(getattr(generation, "generation_info", None) or {}), **message.response_metadata}
    usage = getattr(message, "usage_metadata", None) or {}
    text = generation.text if generation is not None else ""
    called = bool(getattr(message, "tool_calls", None))
    empty = not (text.strip() or called or message.additional_kwargs.get("reasoning_content"))
    return Outcome(
        model=run.model,
        host=run.host,
        kind=OutcomeKind.FAILED if empty else OutcomeKind.OK,
        failure=FailureKind.EMPTY.value if empty else None,
        error="EmptyAnswerError" if empty else None,
        task_type=run.task_type,
        response_time=time.perf_counter() - run.started,
        load_seconds=seconds(info.get("load_duration")),
        first_token_seconds=run.first_token,
        prompt_tokens=info.get("prompt_eval_count") or usage.get("input_tokens"),
        prompt_seconds=seconds(info.get("prompt_eval_duration")),
        output_tokens=info.get("eval_count") or usage.get("output_tokens"),
        output_seconds=seconds(info.get("eval_duration")),
        total_seconds=seconds(info.get("total_duration")),
        quality=assess_quality(run.prompt, text, done_reason=info.get("done_reason")) if judge and text else None,
        request_id=run.request_id,
        was_resident=run.resident,
        at=time.time(),
    )


def _failed(run: _Run, error: BaseException, *, sent: bool | None) -> Outcome:
    kind = classify(error, sent=sent)
    neutral = kind in {FailureKind.CANCELLED, FailureKind.CALLER}
    return Outcome(
        model=run.model,
        host=run.host,
        kind=OutcomeKind.CANCELLED if neutral else OutcomeKind.FAILED,
        failure=kind.value,
        error=type(error).__name__,
        task_type=run.task_type,
        response_time=time.perf_counter() - run.started,
        first_token_seconds=run.first_token,
        request_id=run.request_id,
        was_resident=run.resident,
        at=time.time(),
    )


__all__ = ["METADATA_KEY", "PerformanceCallbackHandler"]
