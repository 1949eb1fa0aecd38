"""What is handed to the caller: the route in it, the whole text after a seam; and who gave it is remembered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.base.llms.types import ChatResponse

from llamaindex_routed_ollama._attempts import Request
from llamaindex_routed_ollama._messages import WholeText, note_author
from llamaindex_routed_ollama.events import AnswerContinuedEvent, dispatcher
from routed_ollama import Attempt, Candidate


def routed(request: Request, response: ChatResponse) -> ChatResponse:
    """Put the route into a whole answer, and remember who gave it."""
    route = request.plan.route()
    response.raw = {**(response.raw or {}), "routing": route}
    _remember(request, response, route)
    return response


def _remember(request: Request, response: ChatResponse, route: Mapping[str, Any]) -> None:
    candidate = Candidate(route["model"], route["host"])
    note_author(request.recorder.router.conversations, request.messages, response, candidate)


class HandedOut:
    """What has been handed out of a stream: makes the whole text whole after a seam, and remembers who answered."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._whole = WholeText()
        self._seams = 0
        self._attempt: Attempt | None = None

    def by(self, attempt: Attempt) -> Attempt:
        """Note who is asked."""
        self._attempt = attempt
        return attempt

    def out(self, chunk: ChatResponse) -> ChatResponse:
        """Return a chunk as it is handed out."""
        plan = self._request.plan
        if plan.continued_at:
            if len(plan.continued_at) > self._seams and self._attempt is not None:
                self._seam(plan.continued_at[-1], self._attempt)
            chunk = self._whole.after_seam(chunk)
        else:
            self._whole.before_seam(chunk)
        route = chunk.raw.get("routing") if isinstance(chunk.raw, Mapping) else None
        if route is not None:
            _remember(self._request, chunk, route)
        return chunk

    def _seam(self, at: int, attempt: Attempt) -> None:
        self._seams = len(self._request.plan.continued_at)
        dispatcher.event(
            AnswerContinuedEvent(
                request_id=attempt.request_id,
                model=attempt.model,
                host=attempt.host,
                continued_at=at,
                span_id=self._request.span_id,
            )
        )
