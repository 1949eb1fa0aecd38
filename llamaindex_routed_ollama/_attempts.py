"""How an attempt is sent through a plain ``Ollama``, and the events it fires on the way.

The plain class's public methods are called, so each attempt fires LlamaIndex's own pair of events and names the model
that was asked; the outer methods fire none. Attempts tell the user's own callback manager, for another would begin a
trace of its own, and through it the router's recorder.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import aclosing, closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.instrumentation.span import active_span_id
from llama_index.llms.ollama import Ollama

from llamaindex_routed_ollama._candidates import Candidates
from llamaindex_routed_ollama._messages import CHUNKS, called, calling, continued, going_on, line_of, usable
from llamaindex_routed_ollama.callbacks import EVENT_KEY, PerformanceEventHandler
from llamaindex_routed_ollama.events import AttemptFailedEvent, dispatcher
from routed_ollama import (
    MEANINGS,
    Attempt,
    AttemptPlan,
    EmptyAnswerError,
    InvalidAnswerError,
    ModelFailure,
    OfferedTools,
    PromptCutError,
    RefusedAnswerError,
    RepetitiveAnswerError,
    TruncatedStreamError,
    attempt_mark,
    bounded,
    describe,
    disconnecting,
    request_sent,
    seconds,
)

Check = Callable[[ChatResponse], str]
"""Says what is wrong with a whole answer; empty when nothing is."""

_SHOWN = 200
"""Characters of an unfit answer that its error shows."""


@dataclass(frozen=True)
class Request:
    """One request to the outer model, as its attempts need it.

    Attributes:
        messages: the conversation.
        kwargs: what the caller passed, for ``Ollama``.
        plan: the models to ask.
        candidates: makes the ``Ollama`` of each.
        recorder: the router's; hears the attempts.
        manager: the user's.
        rate_limiter: the outer model's; each attempt waits as it asks.
        span_id: of the outer call, the parent of its attempts' spans.
        check: refuses an answer that cannot be parsed as asked; None to take any.
        tools: what is offered, and whether it has to be called; None where there is nothing to look at.
    """

    messages: Sequence[ChatMessage]
    kwargs: dict[str, Any]
    plan: AttemptPlan
    candidates: Candidates
    recorder: PerformanceEventHandler
    manager: CallbackManager
    rate_limiter: Any = None
    span_id: str | None = None
    check: Check | None = None
    tools: OfferedTools | None = None

    @property
    def holds(self) -> bool:
        """Whether an answer must be seen whole before any of it is handed out."""
        return self.tools is not None and bool(self.tools.required)

    @contextmanager
    def inside(self) -> Generator[None]:
        """Make the outer call's span the current one, for a call that happens after it has returned."""
        token = active_span_id.set(self.span_id)
        try:
            yield
        finally:
            active_span_id.reset(token)


class AttemptEvents(CallbackManager):
    """The user's callback manager, and the router's recorder behind it, for one attempt."""

    def __init__(self, request: Request, attempt: Attempt, more: Sequence[BaseCallbackHandler]) -> None:  # no super()
        self._theirs = request.manager
        self._heard_by = [handler for handler in more if handler not in request.manager.handlers]
        self._request = request
        self._attempt = attempt
        self._mark = attempt_mark(request.recorder.router.id, request.plan, attempt)
        self.last: ChatResponse | None = None
        self.invalid: ModelFailure | None = None
        self.stands = False

    @property
    def handlers(self) -> list[BaseCallbackHandler]:  # type: ignore[override]
        """The user's."""
        return self._theirs.handlers

    def on_event_start(
        self, event_type: CBEventType, payload: dict[str, Any] | None = None, *args: Any, **kwargs: Any
    ) -> str:
        """Pass an event on; the attempt's own says which it is."""
        if event_type is not CBEventType.LLM:
            return self._theirs.on_event_start(event_type, payload, *args, **kwargs)
        payload = {**(payload or {}), EVENT_KEY: self._mark}
        with self._of_theirs():
            event_id = self._theirs.on_event_start(event_type, payload, *args, **kwargs)
            for handler in self._heard_by:
                if event_type not in handler.event_starts_to_ignore:
                    handler.on_event_start(event_type, payload, event_id=event_id)
        self._request.recorder.on_event_start(event_type, payload, event_id=event_id)
        return event_id

    def on_event_end(
        self, event_type: CBEventType, payload: dict[str, Any] | None = None, event_id: str | None = None, **kwargs: Any
    ) -> None:
        """Pass an event on; the attempt's own end says besides what the framework's does not."""
        if event_type is not CBEventType.LLM:
            self._theirs.on_event_end(event_type, payload, event_id, **kwargs)
            return
        payload = self._completed(payload or {})
        self._request.recorder.on_event_end(event_type, payload, event_id=event_id or "")
        with self._of_theirs():
            self._theirs.on_event_end(event_type, payload, event_id, **kwargs)
            for handler in self._heard_by:
                if event_type not in handler.event_ends_to_ignore:
                    handler.on_event_end(event_type, payload, event_id=event_id or "")

    @contextmanager
    def _of_theirs(self) -> Generator[None]:
        """What the user's handlers raise (a budget is spent, a mistake) reaches the user, and blames no model."""
        try:
            yield
        except Exception as error:
            self._attempt.theirs = error
            raise

    def _completed(self, payload: dict[str, Any]) -> dict[str, Any]:
        if self.last is not None:  # the last line is here: what happens to the connection after it breaks nothing
            payload = {EventPayload.MESSAGES: self._request.messages, EventPayload.RESPONSE: self.last}
        response, marks, first = payload.get(EventPayload.RESPONSE), self._attempt.allowance.marks, None
        self._look_at(response)
        if response is not None and usable(response) and marks is not None and marks.first_byte_at is not None:
            first = marks.first_byte_at - (marks.sent_at or 0.0)
        more = {
            "request_sent": request_sent(self._attempt),
            "first_token_seconds": first,
            "error": self.invalid,
        }
        return {**payload, EVENT_KEY: {**self._mark, **more}}

    def _look_at(self, response: ChatResponse | None) -> None:
        """Hold a whole answer against what was asked, unless its caller has had the beginning of it already."""
        if response is None or not usable(response):
            return
        request, attempt = self._request, self._attempt
        try:
            attempt.scrutiny.counted(line_of(response).get("prompt_eval_count"))
        except PromptCutError as error:
            self.invalid, self.stands = error, True
            return
        begun = request.plan.committed and not attempt.replaceable
        problem = request.check(response) if request.check is not None and not begun else ""
        if request.tools is not None and not problem and (attempt.mendable or not begun):
            problem = request.tools.problem(called(response), response.message.content or "")
            self.stands = bool(problem) and not begun
        if problem:
            text = " ".join((response.message.content or "").split())
            shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
            self.invalid = InvalidAnswerError(f"{attempt.model} answered {shown!r}, which is not as asked: {problem}")
            return
        try:
            if not called(response):
                attempt.scrutiny.ended(response.message.content or "", line_of(response).get("done_reason"), response)
        except RefusedAnswerError as error:
            self.invalid, self.stands = error, True

    def start_trace(self, trace_id: str | None = None) -> None:
        """Pass on."""
        self._theirs.start_trace(trace_id)

    def end_trace(self, trace_id: str | None = None, trace_map: dict[str, list[str]] | None = None) -> None:
        """Pass on."""
        self._theirs.end_trace(trace_id, trace_map)

    @property
    def trace_map(self) -> dict[str, list[str]]:
        """The user's."""
        return self._theirs.trace_map


@dataclass(frozen=True)
class _Run:
    """One attempt: its plain model, its events, and what is asked of its answer."""

    request: Request
    attempt: Attempt
    inner: Ollama = field(repr=False)  # its URL and headers hold credentials
    events: AttemptEvents

    @property
    def messages(self) -> Sequence[ChatMessage]:
        return continued(self.request.messages, self.attempt)

    @property
    def arguments(self) -> dict[str, Any]:
        """What the caller passed; one that goes on with an answer does not think."""
        given = self.request.kwargs
        return {name: value for name, value in given.items() if name != "think"} if self.attempt.continues else given

    def whole(self, response: ChatResponse) -> ChatResponse:
        """Refuse an answer that is empty, or not as asked."""
        line = line_of(response)
        self.attempt.load_seconds = seconds(line.get("load_duration"))
        self.accept(response)
        if not usable(response):
            self.attempt.unusable = response
            raise EmptyAnswerError(f"{self.attempt.model} answered with nothing.")
        return calling(response, self.request.tools)

    def ends(self, chunk: ChatResponse) -> bool:
        """Note a chunk; True for the last line, after which the stream is to be ended before it is handed out."""
        if not CHUNKS.done(chunk):
            return False
        self.events.last = chunk
        return True

    def accept(self, answer: Any) -> None:
        """Refuse an answer that is not as asked; some may be handed out all the same when nobody does better."""
        if self.events.invalid is None:
            return
        if self.events.stands:
            self.attempt.unusable = answer
        raise self.events.invalid

    def ended(self) -> None:
        """Raise what the user's handlers raised at the last line, as the plain class does after it."""
        if self.attempt.theirs is not None:
            raise self.attempt.theirs

    def nothing(self) -> TruncatedStreamError:
        return TruncatedStreamError(f"No data received from Ollama stream: {self.attempt.model} sent no answer.")


def _run(request: Request, attempt: Attempt) -> _Run:
    """Return one attempt: its model with the events of this request."""
    events = AttemptEvents(request, attempt, request.candidates.handlers_of(attempt.candidate))
    plain = request.candidates.plain(attempt.candidate, attempt.allowance.num_ctx)
    update: dict[str, Any] = {"callback_manager": events}
    if request.rate_limiter is not None:
        update["rate_limiter"] = request.rate_limiter
    if attempt.continues:
        update |= going_on(plain, attempt)
    return _Run(request, attempt, plain.model_copy(update=update), events)


def tell_failures(plan: AttemptPlan, span_id: str | None) -> None:
    """Have each attempt that fails be told of in an event of its own, whoever found it out: adapter or core."""
    settled = plan.on_settled

    def told(attempt: Attempt) -> None:
        settled(attempt)
        error = attempt.error
        if error is None or attempt.kind is None or not MEANINGS[attempt.kind].go_on:
            return
        dispatcher.event(
            AttemptFailedEvent(
                request_id=attempt.request_id,
                model=attempt.model,
                host=attempt.host,
                attempt=attempt.number,
                error=describe(error),
                exception=error,
                span_id=span_id,
            )
        )

    plan.on_settled = told


def send(request: Request, attempt: Attempt) -> ChatResponse:
    """Ask an attempt's model for a whole answer."""
    run = _run(request, attempt)
    with bounded(attempt):
        response = run.inner.chat(run.messages, **request.kwargs)
    return run.whole(response)


async def asend(request: Request, attempt: Attempt) -> ChatResponse:
    """Async form of ``send``."""
    run = _run(request, attempt)
    with bounded(attempt):
        response = await run.inner.achat(run.messages, **request.kwargs)
    return run.whole(response)


def send_stream(request: Request, attempt: Attempt) -> Generator[ChatResponse]:
    """Ask an attempt's model for a stream. The end event comes before the last chunk is handed out."""
    chunks = _sent_stream(request, attempt)
    return _held(chunks, request.tools) if request.holds else chunks


def _held(chunks: Generator[ChatResponse], tools: OfferedTools | None) -> Generator[ChatResponse]:
    with closing(chunks):
        whole = list(chunks)
    yield from _at_once(whole, tools)


def _at_once(chunks: list[ChatResponse], tools: OfferedTools | None) -> list[ChatResponse]:
    """Return the chunks of a whole answer; one alone where a call was written into the text."""
    last = calling(chunks[-1], tools)
    return chunks if last is chunks[-1] else [last]


def _sent_stream(request: Request, attempt: Attempt) -> Generator[ChatResponse]:
    run = _run(request, attempt)
    with request.inside():
        stream = run.inner.stream_chat(run.messages, **run.arguments)
    with closing(stream) as chunks:
        with bounded(attempt):
            chunk = next(chunks, None)
        if chunk is None:
            raise run.nothing()
        said, hear = [], attempt.scrutiny.hear
        while chunk is not None:
            if not request.plan.committed:  # each holds the whole answer so far
                said.append(chunk)
            try:
                hear(chunk.delta, chunk.additional_kwargs.get("thinking_delta"))
            except RepetitiveAnswerError as error:
                chunks.throw(error)  # where its own events see it
            if run.ends(chunk):
                with suppress(Exception):
                    next(chunks, None)
                run.accept(said)
            yield chunk
            chunk = next(chunks, None)
        run.ended()


def asend_stream(request: Request, attempt: Attempt) -> AsyncGenerator[ChatResponse]:
    """Async form of ``send_stream``."""
    chunks = _asent_stream(request, attempt)
    return _aheld(chunks, request.tools) if request.holds else chunks


async def _aheld(chunks: AsyncGenerator[ChatResponse], tools: OfferedTools | None) -> AsyncGenerator[ChatResponse]:
    async with aclosing(chunks):
        whole = [chunk async for chunk in chunks]
    for chunk in _at_once(whole, tools):
        yield chunk


async def _asent_stream(request: Request, attempt: Attempt) -> AsyncGenerator[ChatResponse]:
    run = _run(request, attempt)
    with request.inside():
        stream = await run.inner.astream_chat(run.messages, **run.arguments)
    async with disconnecting(attempt), aclosing(stream) as chunks:
        with bounded(attempt):
            chunk = await anext(chunks, None)
        if chunk is None:
            raise run.nothing()
        said, hear = [], attempt.scrutiny.hear
        while chunk is not None:
            if not request.plan.committed:  # each holds the whole answer so far
                said.append(chunk)
            try:
                hear(chunk.delta, chunk.additional_kwargs.get("thinking_delta"))
            except RepetitiveAnswerError as error:
                await chunks.athrow(error)  # where its own events see it
            if run.ends(chunk):
                with suppress(Exception):
                    await anext(chunks, None)
                run.accept(said)
            yield chunk
            chunk = await anext(chunks, None)
        run.ended()
