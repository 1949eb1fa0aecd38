"""The recorder: an ordinary LlamaIndex callback handler that hears a model's start, end and exception.

LlamaIndex's callback manager is the exact source: it hands over the exception itself, where the dispatcher has but its
text for a call that does not stream. The router's own attempts are recorded by this same handler; attached to a plain
``Ollama`` it fills the same history from traffic that is not routed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.callbacks.base_handler import BaseCallbackHandler

from llamaindex_routed_ollama._messages import called, line_of, text_of, to_core, usable
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

EVENT_KEY = "routed_ollama"
"""Key of an event's payload under which an attempt of a routed request says what it is."""


class PerformanceEventHandler(BaseCallbackHandler):
    """Records what becomes of every request to a model.

    Args:
        router: whose history is filled.
        host: URL of the server that a plain ``Ollama`` talks to (its events do not say); default ``OLLAMA_HOST``, else
            loopback port 11434.

    Example:
        >>> from llama_index.core.callbacks import CallbackManager
        >>> from routed_ollama import Router
        >>> router = Router.from_models(["llama3.1:8b"])
        >>> manager = CallbackManager([PerformanceEventHandler(router)])   # Ollama(..., callback_manager=manager)
        >>> router.performance()
        {}
    """

    def __init__(self, router: Router, *, host: str | None = None) -> None:
        super().__init__([], [])
        self.router = router
        self.host = normalize_host(host or default_host())
        self._own = False
        self._runs = RunningRequests()

    @classmethod
    def of_attempts(cls, router: Router) -> PerformanceEventHandler:
        """Return the handler that a routed model attaches to its own attempts."""
        handler = cls(router, host=router.host)
        handler._own = True
        return handler

    def on_event_start(
        self,
        event_type: CBEventType,
        payload: dict[str, Any] | None = None,
        event_id: str = "",
        parent_id: str = "",  # noqa: ARG002 (the framework's signature)
        **_kwargs: Any,
    ) -> str:
        """Remember a run; one that the router records itself is left to it."""
        payload = payload or {}
        # A completion of the plain class is a chat inside: it fires two pairs for one request.
        if event_type is not CBEventType.LLM or EventPayload.MESSAGES not in payload:
            return event_id
        mark, messages = payload.get(EVENT_KEY), payload[EventPayload.MESSAGES]
        if mark is None:
            run = self._plain(payload, messages)
        elif self._own or mark["router"] != self.router.id:
            run = RunningRequest.of_mark(mark, _prompt(messages))
        else:
            run = None
        if run is not None:
            self._runs.begin(event_id, run)
        return event_id

    def _plain(self, payload: Mapping[str, Any], messages: Sequence[ChatMessage]) -> RunningRequest | None:
        model, given = payload.get(EventPayload.SERIALIZED) or {}, payload.get(EventPayload.ADDITIONAL_KWARGS) or {}
        if "ollama" not in str(model.get("class_name", "")).lower():  # another provider's, under the same manager
            return None
        name = with_tag(str(model.get("model_name") or model.get("model") or "unknown"))
        return RunningRequest(
            name,
            self.host,
            analyze(to_core(messages)).task_type,
            _prompt(messages),
            expects_json=bool(given.get("format")),
            offers_tools=bool(given.get("tools")),
        )

    def on_event_end(
        self,
        event_type: CBEventType,  # noqa: ARG002 (the framework's signature)
        payload: dict[str, Any] | None = None,
        event_id: str = "",
        **_kwargs: Any,
    ) -> None:
        """Record an answer or a failure; one that holds nothing, or has no last line, is a failure.

        A cancelled run and the caller's own mistakes blame no model. The router's attempts add to the event whether the
        request had left by then, and when the first token came.
        """
        run = self._runs.end(event_id)
        if run is None:
            return
        payload = payload or {}
        more = payload.get(EVENT_KEY) or {}
        run.first_token = more.get("first_token_seconds")
        error = more.get("error") or payload.get(EventPayload.EXCEPTION)
        if error is not None:
            self.router.record(run.failed(error, sent=more.get("request_sent")))
        else:
            self.router.record(_answered(run, payload.get(EventPayload.RESPONSE), judge=self.router.learns))

    def start_trace(self, trace_id: str | None = None) -> None:
        """Nothing to do: runs are recorded one by one."""

    def end_trace(self, trace_id: str | None = None, trace_map: dict[str, list[str]] | None = None) -> None:
        """Nothing to do."""


def _prompt(messages: Sequence[ChatMessage]) -> str:
    return text_of(messages[-1]) if messages else ""


def _answered(run: RunningRequest, response: ChatResponse | None, *, judge: bool) -> Outcome:
    text = "" if response is None else text_of(response.message)
    answered = response is not None and usable(response)
    calls = [] if response is None else called(response)
    return run.answered(line_of(response), text, usable=answered, judge=judge, called=bool(calls))


__all__ = ["EVENT_KEY", "PerformanceEventHandler"]
