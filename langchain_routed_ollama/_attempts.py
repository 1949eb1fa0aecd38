"""How an attempt is sent through a ``ChatOllama``, and the events it fires on the way.

Each attempt is a run of its own for the handlers that hear attempts: the router's recorder, and a user's
``attempt_callbacks``. The callback manager is made directly, never configured from context, because handlers of the
outer request would then count every token twice (measured: 20 for 10).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler, CallbackManager, CallbackManagerForLLMRun
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, LLMResult
from langchain_ollama import ChatOllama

from langchain_routed_ollama._candidates import Candidates
from langchain_routed_ollama._messages import CHUNKS, calling, continued, going_on, joined, merged
from langchain_routed_ollama.callbacks import METADATA_KEY, THEIRS
from langchain_routed_ollama.errors import NoData
from langchain_routed_ollama.structured import AnswerCheck, unfit
from routed_ollama import (
    Attempt,
    AttemptPlan,
    EmptyAnswerError,
    OfferedTools,
    TruncatedStreamError,
    attempt_mark,
    bounded,
    disconnecting,
    request_sent,
    seconds,
)


@dataclass(frozen=True)
class Request:
    """One request to the outer model, as its attempts need it.

    Attributes:
        messages: the conversation.
        stop: stop sequences.
        kwargs: what the caller bound or passed, for ``ChatOllama``.
        plan: the models to ask.
        candidates: makes the ``ChatOllama`` of each.
        handlers: hear the attempts.
        router_id: whose attempts these are.
        check: refuses an answer that cannot be parsed as asked; None to take any.
        parent: run of the outer request, where it is known.
        every_token: whether a handler wants each token of an attempt, not the first only.
        tools: what is offered, and whether it has to be called; None where there is nothing to look at.
    """

    messages: list[BaseMessage]
    stop: list[str] | None
    kwargs: dict[str, Any]
    plan: AttemptPlan
    candidates: Candidates
    handlers: Sequence[BaseCallbackHandler]
    router_id: str
    check: AnswerCheck | None = None
    parent: UUID | None = None
    every_token: bool = False
    tools: OfferedTools | None = None

    @property
    def holds(self) -> bool:
        """Whether an answer must be seen whole before any of it is handed out."""
        has_to_call = self.tools is not None and bool(self.tools.required)
        return has_to_call or (self.check is not None and self.check.holds)

    def chat(self, attempt: Attempt) -> ChatOllama:
        """Return the plain model of an attempt."""
        options = self.kwargs.get("options")
        return self.candidates.plain(attempt.candidate, attempt.allowance.num_ctx if options is None else None)

    def arguments(self, attempt: Attempt, inner: ChatOllama) -> dict[str, Any]:
        """Return the call's keyword arguments for an attempt."""
        options, num_ctx = self.kwargs.get("options"), attempt.allowance.num_ctx
        given = dict(self.kwargs)
        if options is not None and num_ctx is not None and "num_ctx" not in options:
            given["options"] = {**options, "num_ctx": num_ctx}
        return going_on(given, attempt, inner, self.stop) if attempt.continues else given


@dataclass
class _Run:
    """The events of one attempt."""

    request: Request
    attempt: Attempt
    inner: ChatOllama = field(repr=False)  # its URL and headers hold credentials
    manager: CallbackManagerForLLMRun = field(init=False)
    over: bool = False

    def __post_init__(self) -> None:
        request, attempt, inner = self.request, self.attempt, self.inner
        metadata = {
            "ls_provider": "ollama",
            "ls_model_name": attempt.model,
            "ls_model_type": "chat",
            "ls_temperature": inner.temperature,
            METADATA_KEY: attempt_mark(request.router_id, request.plan, attempt),
        }
        handlers = [*request.handlers, *request.candidates.handlers_of(inner)]
        callbacks = CallbackManager(handlers=handlers, parent_run_id=request.parent, metadata=metadata)
        with self.heard():
            self.manager = callbacks.on_chat_model_start(
                {"name": "ChatOllama", "type": "constructor"},
                [request.messages],
                invocation_params={"model": attempt.model, **request.kwargs},
            )[0]

    @contextmanager
    def heard(self) -> Generator[None]:
        """What a handler raises (a budget is spent, a mistake) reaches the caller, whose it is, and blames no model."""
        try:
            yield
        except Exception as error:
            self.attempt.theirs = error
            raise

    def token(self, chunk: ChatGenerationChunk) -> None:
        with self.heard():
            self.manager.on_llm_new_token(chunk.text, chunk=chunk)

    def ended(self, result: LLMResult) -> None:
        self.over = True
        with self.heard():
            self.manager.on_llm_end(result)

    def finished(self) -> None:
        """A stream that has no last line is a failure, and is to be heard of as one."""
        if not self.over:
            raise TruncatedStreamError(f"The answer of {self.attempt.model} ended before its last line (no `done`).")

    def failed(self, error: BaseException) -> None:
        if self.over:  # left after the last chunk: nothing failed
            return
        more = {THEIRS: True} if error is self.attempt.theirs else {}
        with self.heard():
            self.manager.on_llm_error(error, request_sent=request_sent(self.attempt), **more)


@contextmanager
def _run(request: Request, attempt: Attempt) -> Generator[_Run]:
    """One attempt: its start event, and its error event when the block raises."""
    run = _Run(request, attempt, request.chat(attempt))
    try:
        yield run
        run.finished()
    except BaseException as error:
        run.failed(error)
        raise


@dataclass
class Answer:
    """The chunks of an answer and, once it is whole, what they come to.

    Attributes:
        merge: adds them up.
    """

    merge: Callable[[Sequence[ChatGenerationChunk]], ChatGenerationChunk]
    chunks: list[ChatGenerationChunk] = field(default_factory=list)
    whole: Any = None

    def __iter__(self) -> Iterator[ChatGenerationChunk]:
        return iter(self.chunks)


def send(request: Request, attempt: Attempt) -> Answer:
    """Ask an attempt's model for a whole answer."""
    answer = Answer(merged)
    for _ in send_stream(request, attempt, answer):
        pass
    return _whole(attempt, answer)


async def asend(request: Request, attempt: Attempt) -> Answer:
    """Async form of ``send``."""
    answer = Answer(merged)
    async for _ in asend_stream(request, attempt, answer):
        pass
    return _whole(attempt, answer)


def _whole(attempt: Attempt, answer: Answer) -> Answer:
    """Refuse an answer that is not whole, or empty."""
    chunks = answer.chunks
    if answer.whole is None:
        raise TruncatedStreamError(f"The answer of {attempt.model} ended before its last line (no `done`).")
    attempt.load_seconds = seconds((chunks[-1].generation_info or {}).get("load_duration"))
    if not any(map(CHUNKS.usable, chunks)):
        attempt.unusable = answer
        raise EmptyAnswerError(f"{attempt.model} answered with nothing.")
    return answer


def send_stream(request: Request, attempt: Attempt, answer: Answer | None = None) -> Generator[ChatGenerationChunk]:
    """Ask an attempt's model for a stream. The end event comes before the last chunk is handed out."""
    answer = answer or Answer(joined)
    chunks = _sent_stream(request, attempt, answer)
    return _held(chunks, answer) if request.holds else chunks


def _held(chunks: Generator[ChatGenerationChunk], answer: Answer) -> Generator[ChatGenerationChunk]:
    """Hand out a whole answer's chunks, which may be others than came: a call that was written into the text."""
    with closing(chunks):
        for _ in chunks:
            pass
    yield from answer.chunks


def _sent_stream(request: Request, attempt: Attempt, answer: Answer) -> Generator[ChatGenerationChunk]:
    with _run(request, attempt) as run:
        stream = run.inner._stream(  # noqa: SLF001
            continued(request.messages, attempt), request.stop, **request.arguments(attempt, run.inner)
        )
        events = _StreamEvents(request, run, answer or Answer(joined))
        with closing(stream) as chunks:  # type: ignore[type-var]
            with bounded(attempt):
                request.candidates.acquire(run.inner)
                first = next(chunks, None)
            if first is None:
                raise NoData(f"No data received from Ollama stream: {attempt.model} sent no part of an answer.")
            yield events.note(first)
            for chunk in chunks:
                yield events.note(chunk)


def asend_stream(
    request: Request, attempt: Attempt, answer: Answer | None = None
) -> AsyncGenerator[ChatGenerationChunk]:
    """Async form of ``send_stream``."""
    answer = answer or Answer(joined)
    chunks = _asent_stream(request, attempt, answer)
    return _aheld(chunks, answer) if request.holds else chunks


async def _aheld(chunks: AsyncGenerator[ChatGenerationChunk], answer: Answer) -> AsyncGenerator[ChatGenerationChunk]:
    async with aclosing(chunks):
        async for _ in chunks:
            pass
    for chunk in answer.chunks:
        yield chunk


async def _asent_stream(request: Request, attempt: Attempt, answer: Answer) -> AsyncGenerator[ChatGenerationChunk]:
    with _run(request, attempt) as run:
        stream = run.inner._astream(  # noqa: SLF001
            continued(request.messages, attempt), request.stop, **request.arguments(attempt, run.inner)
        )
        events = _StreamEvents(request, run, answer or Answer(joined))
        async with disconnecting(attempt), aclosing(stream) as chunks:  # type: ignore[type-var]
            with bounded(attempt):
                await request.candidates.aacquire(run.inner)
                first = await anext(chunks, None)
            if first is None:
                raise NoData(f"No data received from Ollama stream: {attempt.model} sent no part of an answer.")
            yield events.note(first)
            async for chunk in chunks:
                yield events.note(chunk)


class _StreamEvents:
    """The events of an attempt: a token event until the first usable chunk, or each if a handler wants them."""

    def __init__(self, request: Request, run: _Run, answer: Answer) -> None:
        self._request = request
        self._run = run
        self._answer = answer
        self._chunks = answer.chunks
        self._tokens = True
        self._hear = run.attempt.scrutiny.hear

    def note(self, chunk: ChatGenerationChunk) -> ChatGenerationChunk:
        self._hear(chunk.text, chunk.message.additional_kwargs.get("reasoning_content"))
        self._chunks.append(chunk)
        if self._tokens:
            self._run.token(chunk)
            self._tokens = self._request.every_token or not CHUNKS.usable(chunk)
        if chunk.generation_info is not None and CHUNKS.done(chunk):
            self._end(chunk.generation_info)
        return chunk

    def _end(self, line: dict[str, Any]) -> None:
        request, attempt, answer = self._request, self._run.attempt, self._answer
        answer.whole = answer.merge(self._chunks)
        attempt.scrutiny.counted(line.get("prompt_eval_count"), answer)
        if request.tools is not None:
            self._look_at_calls(request.tools)
        if request.check is not None and not request.plan.committed:  # what is handed out is the caller's
            request.check(answer.whole, attempt, answer, sole=request.plan.sole)
        if not getattr(answer.whole.message, "tool_calls", ()):
            attempt.scrutiny.ended(answer.whole.text, line.get("done_reason"), answer)
        self._run.ended(LLMResult(generations=[[answer.whole]]))

    def _look_at_calls(self, tools: OfferedTools) -> None:
        """Take a call that was written into the text for one; refuse an answer that calls what it may not."""
        attempt, answer, plan = self._run.attempt, self._answer, self._request.plan
        made = calling(answer.whole, tools)
        if made is not answer.whole:
            answer.whole, answer.chunks[:] = made, [*(each for each in answer.chunks[:-1] if not each.text), made]
        problem = tools.problem([call["name"] for call in getattr(made.message, "tool_calls", ())], made.text)
        if problem and not plan.committed:
            attempt.unusable = answer
        if problem and (attempt.mendable or not plan.committed):
            raise unfit(attempt, made, problem)
