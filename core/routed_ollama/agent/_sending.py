"""How an agent's attempt is sent, and what is recorded of it: one outcome for each attempt, however it ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass
from typing import Any

from routed_ollama.agent._answer import Piece
from routed_ollama.agent._arguments import Asked
from routed_ollama.agent._clients import Clients
from routed_ollama.agent._conversation import fitting
from routed_ollama.errors import EmptyAnswerError, TruncatedStreamError
from routed_ollama.fallback import Attempt, AttemptPlan, continuation_messages
from routed_ollama.outcomes import RunningRequest, attempt_mark, bounded, request_sent, seconds
from routed_ollama.router import Router
from routed_ollama.types import Message, Outcome


@dataclass(frozen=True, slots=True)
class Request:
    """One request to an agent, as its attempts need it.

    Attributes:
        asked: what is asked, and what is sent besides.
        plan: the models to ask.
        clients: to ask them through.
        router: is told what became of each.
    """

    asked: Asked
    plan: AttemptPlan
    clients: Clients
    router: Router

    def arguments(self, attempt: Attempt) -> dict[str, Any]:
        """Return what the official client is called with for an attempt."""
        settings = self.asked.settings
        sent = [{"role": each.role, "content": each.content} for each in self._messages(attempt)]
        if attempt.continues:
            added = continuation_messages(attempt.continues, prefill=bool(attempt.info.continues_prefill))
            sent += [{"role": role, "content": text} for role, text in added]
        options, num_ctx = dict(settings.options), attempt.allowance.num_ctx
        if num_ctx is not None:
            options.setdefault("num_ctx", num_ctx)
        return {"model": attempt.model, "messages": sent, "options": options, **self._fields(attempt, options)}

    def _fields(self, attempt: Attempt, options: dict[str, Any]) -> dict[str, Any]:
        """What is sent beside the options; one that goes on with an answer is given what is left of its limit.

        And it does not think: that was done before the answer began.
        """
        fields = dict(self.asked.settings.fields)
        if attempt.continues:
            options.update({"num_predict": attempt.left_of(options["num_predict"])} if "num_predict" in options else {})
            fields.update({"think": False} if "thinking" in attempt.info.flags or fields.get("think") else {})
        return fields

    def _messages(self, attempt: Attempt) -> list[Message]:
        """Return the conversation, with as much of the memory as this attempt's model takes."""
        asked = self.asked
        if not asked.turns:
            return asked.fixed
        window = asked.settings.num_ctx or attempt.allowance.num_ctx or self.router.context_window(attempt.candidate)
        context = min(window, attempt.info.context_length or window)
        return asked.within(fitting(asked.turns, asked.fixed, context))


class _Recorder:
    """Sees an attempt's pieces pass and tells the router what became of it, once."""

    def __init__(self, request: Request, attempt: Attempt) -> None:
        self._router = request.router
        self._attempt = attempt
        mark = attempt_mark(request.router.id, request.plan, attempt)
        self._running = RunningRequest.of_mark(mark, request.asked.prompt)
        self._pieces: list[Piece] = []
        self._usable = False
        self._over = False

    def note(self, piece: Piece) -> Piece:
        """Take a piece; the last one is the end of the attempt, before it is handed out.

        Raises:
            ModelFailure: it goes in circles, declines, or is to a part of the prompt alone, and another can do better.
        """
        if piece.text or piece.thinking:
            self._running.token()
        self._attempt.scrutiny.hear(piece.text, piece.thinking)
        self._pieces.append(piece)
        self._usable = self._usable or piece.usable
        if piece.final is not None:
            self._attempt.load_seconds = seconds(piece.final.get("load_duration"))
            self._attempt.scrutiny.counted(piece.final.get("prompt_eval_count"), self._pieces)
            text, judge = "".join(each.text for each in self._pieces), self._router.learns
            self._attempt.scrutiny.ended(text, piece.final.get("done_reason"), self._pieces)
            called = any(each.called for each in self._pieces)
            self._end(self._running.answered(piece.final, text, usable=self._usable, judge=judge, called=called))
        return piece

    def ended(self) -> None:
        """Take the end of the stream.

        Raises:
            TruncatedStreamError: the last line did not come.
        """
        if not self._over:
            raise TruncatedStreamError(f"The answer of {self._attempt.model} ended before its last line (no `done`).")

    def failed(self, error: BaseException) -> None:
        """Take an attempt's error; after the last line there is nothing left to fail."""
        self._end(self._running.failed(error, sent=request_sent(self._attempt)))

    def _end(self, outcome: Outcome) -> None:
        if not self._over:
            self._over = True
            self._router.record(outcome)


@contextmanager
def _recorded(request: Request, attempt: Attempt) -> Generator[_Recorder]:
    """One attempt; what it raises is recorded, and so is an end without a last line."""
    recorder = _Recorder(request, attempt)
    try:
        yield recorder
        recorder.ended()
    except BaseException as error:
        recorder.failed(error)
        raise


def send_stream(request: Request, attempt: Attempt) -> Generator[Piece]:
    """Ask an attempt's model for a stream."""
    with _recorded(request, attempt) as recorder:
        lines: Any = request.clients.sync_client(attempt.host).chat(stream=True, **request.arguments(attempt))
        with closing(lines):
            with bounded(attempt):
                first = next(lines, None)
            if first is not None:
                yield recorder.note(Piece.of(first))
            for line in lines:
                yield recorder.note(Piece.of(line))


async def asend_stream(request: Request, attempt: Attempt) -> AsyncGenerator[Piece]:
    """Async form of ``send_stream``."""
    with _recorded(request, attempt) as recorder:
        lines: Any = await request.clients.async_client(attempt.host).chat(stream=True, **request.arguments(attempt))
        async with aclosing(lines):
            with bounded(attempt):
                first = await anext(lines, None)
            if first is not None:
                yield recorder.note(Piece.of(first))
            async for line in lines:
                yield recorder.note(Piece.of(line))


def send(request: Request, attempt: Attempt) -> list[Piece]:
    """Ask an attempt's model for a whole answer, and return its pieces.

    It is streamed inside: only so does a bound on the first token mean the first token.
    """
    return _whole(attempt, list(send_stream(request, attempt)))


async def asend(request: Request, attempt: Attempt) -> list[Piece]:
    """Async form of ``send``."""
    return _whole(attempt, [piece async for piece in asend_stream(request, attempt)])


def _whole(attempt: Attempt, pieces: list[Piece]) -> list[Piece]:
    if not any(piece.usable for piece in pieces):
        attempt.unusable = pieces
        raise EmptyAnswerError(f"{attempt.model} answered with nothing.")
    return pieces
