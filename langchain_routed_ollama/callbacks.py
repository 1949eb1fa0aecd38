"""The recorder: an ordinary LangChain handler that hears a model's start, tokens, end and error, and tells a router.

The router's own attempts are recorded by this same handler; attached to a plain ``ChatOllama`` it fills the same
history from traffic that is not routed.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from langchain_routed_ollama._messages import CHUNKS, to_core
from routed_ollama import (
    Outcome,
    Router,
    RunningRequest,
    RunningRequests,
    analyze,
    default_host,
    normalize_host,
    with_tag,
)

METADATA_KEY = "routed_ollama"
"""Metadata under which a run says what it is: ``"outer"`` for the whole request, a mapping for one attempt of it."""
THEIRS = "raised_by_handler"
"""Argument of an error event that says that a handler raised the error, and no model is to blame."""


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
        self._runs = RunningRequests()

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
        if isinstance(mark, Mapping):
            run = RunningRequest.of_mark(mark, _prompt(messages))
        else:
            run = self._plain(messages, metadata, kwargs)
        self._runs.begin(run_id, run)

    def _plain(
        self, messages: list[list[BaseMessage]], metadata: Mapping[str, Any], kwargs: Mapping[str, Any]
    ) -> RunningRequest:
        parameters = kwargs.get("invocation_params") or {}
        model = str(parameters.get("model") or metadata.get("ls_model_name") or "unknown")
        task = analyze(to_core([message for batch in messages for message in batch]))
        return RunningRequest(
            with_tag(model),
            self.host,
            task.task_type,
            _prompt(messages),
            expects_json=bool(parameters.get("format")),
            offers_tools=bool(parameters.get("tools")),
        )

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """Note when the first token came: of text, of reasoning, or of a tool call."""
        run = self._runs.of(run_id)
        if run is not None and (token or (chunk is not None and CHUNKS.usable(chunk))):
            run.token()

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """Record an answer; one that holds nothing is a failure."""
        run = self._runs.end(run_id)
        if run is not None:
            self.router.record(_answered(run, response, judge=self.router.learns))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Record a failure; a cancelled run and the caller's own mistakes blame no model.

        The router's attempts add to the event whether the request had left by then (``request_sent``), and whether a
        handler raised the error: then the run was broken off from outside, as a cancelled one is.
        """
        run = self._runs.end(run_id)
        if run is not None:
            error = CancelledError() if kwargs.get(THEIRS) else error
            self.router.record(run.failed(error, sent=kwargs.get("request_sent")))


def _prompt(messages: list[list[BaseMessage]]) -> str:
    content = messages[-1][-1].content if messages and messages[-1] else ""
    return content if isinstance(content, str) else ""


def _answered(run: RunningRequest, response: LLMResult, *, judge: bool) -> Outcome:
    generation = response.generations[0][0] if response.generations and response.generations[0] else None
    message = generation.message if isinstance(generation, ChatGeneration) else AIMessage(content="")
    usage = getattr(message, "usage_metadata", None) or {}
    text = generation.text if generation is not None else ""
    called = bool(getattr(message, "tool_calls", None))
    return run.answered(
        {**(getattr(generation, "generation_info", None) or {}), **message.response_metadata},
        text,
        usable=bool(text.strip() or called or message.additional_kwargs.get("reasoning_content")),
        judge=judge,
        called=called,
        prompt_tokens=usage.get("input_tokens"),
        output_tokens=usage.get("output_tokens"),
    )


__all__ = ["METADATA_KEY", "THEIRS", "PerformanceCallbackHandler"]
