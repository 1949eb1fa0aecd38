"""The four loops that walk a plan, the only ones in the project: sync and async, whole and streamed.

An adapter says how to send an attempt and how to look at a chunk (``ChunkView``); everything else is here. What is
handed out of a stream before its last line is always something that another model can go on with: text and reasoning
come at once, a tool call, which nobody could take back, only with that line.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import aclosing, closing
from typing import Any, Generic, NoReturn, Protocol, TypeVar, cast

from routed_ollama.analysis import estimate_tokens
from routed_ollama.errors import EmptyAnswerError, TruncatedStreamError
from routed_ollama.fallback.plan import Attempt, AttemptPlan
from routed_ollama.fallback.seam import OverlapTrimmer
from routed_ollama.fallback.usage import Taken

R = TypeVar("R")
C = TypeVar("C")


class ChunkView(Protocol[C]):
    """How the loops look at a framework's chunks."""

    def text(self, chunk: C, /) -> str:
        """Return its plain text."""
        ...

    def usable(self, chunk: C, /) -> bool:
        """Whether it carries a tool call, reasoning, or text that is more than white space."""
        ...

    def joinable(self, chunk: C, /) -> bool:
        """Whether it is plain text or reasoning, which another model can go on with; False for a tool call."""
        ...

    def only_text(self, chunk: C, /) -> str:
        """Return the text of a chunk that is text and nothing else, and not the last; empty for any other chunk."""
        ...

    def done(self, chunk: C, /) -> bool:
        """Whether it is the server's last line."""
        ...

    def with_text(self, chunk: C, text: str, /) -> C:
        """Return it with other text."""
        ...

    def with_route(self, chunk: C, attempt: Attempt, /) -> C:
        """Return the last chunk with the route (``attempt.route()``) in its metadata."""
        ...


def call(plan: AttemptPlan, send: Callable[[Attempt], R]) -> R:
    """Return the first answer that a model of the plan gives.

    Args:
        plan: the models, best first.
        send: asks one of them; raises when it fails, ``EmptyAnswerError`` for nothing among the failures.

    Raises:
        Exception: what ``plan.exhausted()`` returns when every model failed.
    """
    for attempt in plan:
        with attempt:
            result = send(attempt)
            attempt.commit()
            return result
    return cast("R", _last_resort(plan))


async def acall(plan: AttemptPlan, send: Callable[[Attempt], Awaitable[R]]) -> R:
    """Return the first answer that a model of the plan gives; see ``call``."""
    for attempt in plan:
        with attempt:
            result = await send(attempt)
            attempt.commit()
            return result
    return cast("R", _last_resort(plan))


def stream(
    plan: AttemptPlan,
    send: Callable[[Attempt], Generator[C]],
    view: ChunkView[C],
    *,
    hold: bool = False,
    replaces: bool = False,
) -> Generator[C]:
    """Yield the chunks of an answer, changing the model when one fails.

    Nothing is handed out before the first usable chunk. From then on chunks are passed on as they come; when the model
    fails then, plain text is gone on with by the next. From a tool call on they are withheld until the last line: one
    that was handed out could neither be taken back nor joined, and nobody calls a tool before the answer is whole.

    Args:
        plan: the models, best first.
        send: asks one of them for a stream, which is closed in every case.
        view: how to look at a chunk.
        hold: hand out nothing before the answer is whole; for answers that must be checked first.
        replaces: whether each chunk stands for all before it; then a fresh answer may follow one that broke off.

    Raises:
        Exception: the failure after the commit point where it cannot be mended; else what ``plan.exhausted()`` returns.
    """
    for attempt in plan:
        with attempt:
            pump = _Pump(attempt, view, hold=hold, replaces=replaces)
            with closing(send(attempt)) as chunks:
                for chunk in chunks:
                    if pump.passes(chunk):
                        yield chunk
                    else:
                        yield from pump.feed(chunk)
            yield from pump.finish()
            return
    yield from _last_chunks(plan)


async def astream(
    plan: AttemptPlan,
    send: Callable[[Attempt], AsyncGenerator[C]],
    view: ChunkView[C],
    *,
    hold: bool = False,
    replaces: bool = False,
) -> AsyncGenerator[C]:
    """Yield the chunks of an answer, changing the model when one fails; see ``stream``."""
    for attempt in plan:
        with attempt:
            pump = _Pump(attempt, view, hold=hold, replaces=replaces)
            async with aclosing(send(attempt)) as chunks:
                async for chunk in chunks:
                    if pump.passes(chunk):
                        yield chunk
                    else:
                        for ready in pump.feed(chunk):
                            yield ready
            for ready in pump.finish():
                yield ready
            return
    for chunk in _last_chunks(plan):
        yield chunk


class _Pump(Generic[C]):
    """What happens to the chunks of one attempt, without waiting: hold, commit, trim, pass on, withhold, remember.

    Of what was handed out the text is remembered, not the chunks: those of some frameworks hold all text so far.
    """

    def __init__(self, attempt: Attempt, view: ChunkView[C], *, hold: bool, replaces: bool) -> None:
        self._attempt = attempt
        self._view = view
        self._only_text = view.only_text
        self._hold = hold
        self._held: list[C] = []
        self._said: list[str] = []
        self._tokens_out = 0
        self._useful = False
        self._asked = not attempt.info.continues_prefill
        self._trimmer = OverlapTrimmer(attempt.continues, asked=self._asked) if attempt.continues else None
        self._left_out = 0
        self._says_something = False
        self._passing = False
        self._withholding = False
        attempt.replaceable = replaces
        attempt.handed_out = self._handed_out
        attempt.taken = self._taken

    def passes(self, chunk: C) -> bool:
        """Take a chunk of text in mid-answer, which is handed out as it is; False for any other, which is to be fed.

        On the way of every token, so it does next to nothing.
        """
        if not self._passing:
            return False
        text = self._only_text(chunk)
        if not text:
            return False
        self._said.append(text)
        self._tokens_out += 1
        return True

    def feed(self, chunk: C) -> Sequence[C]:
        """Take a chunk; return those to hand out."""
        if self._passing and self._view.joinable(chunk):
            return (self._pass_on(chunk),)
        if self._trimmer is None:
            return self._keep(chunk)
        new = self._new_part(chunk, self._trimmer)
        return () if new is None else self._keep(new, begins=True)

    def _keep(self, chunk: C, *, begins: bool = False) -> Sequence[C]:
        """Hold a chunk back with the others until they may be handed out."""
        view = self._view
        self._held.append(chunk)
        if not view.joinable(chunk):
            self._withholding, self._passing = True, False
        if self._hold:
            return ()
        ready = view.done(chunk) if self._withholding else begins or view.usable(chunk)
        return self._release() if ready else ()

    def _new_part(self, chunk: C, trimmer: OverlapTrimmer) -> C | None:
        """Return a continuation's chunk with what is new of its text; None while that is nothing, or unknown.

        Its own reasoning is about going on, and would stand in the midst of the answer: it is left out.

        Raises:
            EmptyAnswerError: it has ended, and the model said nothing. One that has found its own message open, and
                ends it at once, finds the answer whole.
        """
        view = self._view
        self._says_something = self._says_something or view.usable(chunk)
        text = trimmer.feed(view.text(chunk))
        if view.done(chunk) or not view.joinable(chunk):
            text += trimmer.flush()
        elif not text:
            self._left_out += self._is_token(chunk)
            return None
        new = view.with_text(chunk, text)
        if self._asked and not self._says_something:
            self._refuse([], new)
        return new

    def _release(self) -> list[C]:
        """Hand out what was held; the first time it is the commit point, or the seam of a continuation."""
        if not self._said:
            if self._attempt.continues:
                self._attempt.mark_seam()
            self._attempt.commit()
        self._passing = not self._withholding
        chunks, self._held = self._held, []
        return [self._pass_on(chunk) for chunk in chunks]

    def _pass_on(self, chunk: C) -> C:
        view = self._view
        text = view.text(chunk)
        usable = view.usable(chunk)
        if text or usable:
            self._tokens_out += 1
        self._useful = self._useful or usable
        self._said.append(text)
        if view.done(chunk):
            self._attempt.whole = True
            chunk = view.with_route(chunk, self._attempt)
        return chunk

    def finish(self) -> Sequence[C]:
        """Check that the answer is whole and return what is still held.

        Raises:
            TruncatedStreamError: the stream ended without its last line.
            EmptyAnswerError: nothing usable came.
        """
        attempt, held = self._attempt, self._held
        if not attempt.whole and not (held and self._view.done(held[-1])):
            raise TruncatedStreamError(f"The answer of {attempt.model} ended before its last line (no `done`).")
        if not held:
            return ()
        if not self._useful and not self._own_text().strip() and not any(map(self._view.usable, held)):
            self._refuse(held[:-1], held[-1])
        return self._release()

    def _refuse(self, before: list[C], last: C) -> NoReturn:
        """Refuse an answer that holds nothing; should nobody do better, it is all there is."""
        self._attempt.unusable = [*before, self._view.with_route(last, self._attempt)]
        raise EmptyAnswerError(f"{self._attempt.model} answered with nothing.")

    def _handed_out(self) -> str:
        return self._attempt.continues + self._own_text()

    def _own_text(self) -> str:
        return "".join(self._said)

    def _taken(self) -> Taken:
        """Tokens so far. Chunks of a continuation may hold several, whose text was held back."""
        out = self._tokens_out
        generated = out + sum(map(self._is_token, self._held)) + self._left_out
        return Taken(estimate_tokens(self._own_text()) if out and self._left_out else out, generated)

    def _is_token(self, chunk: C) -> bool:
        return bool(self._view.text(chunk)) or self._view.usable(chunk)


def _last_resort(plan: AttemptPlan) -> Any:
    """Return the answer that was empty or unfit everywhere, as the plain class would; else raise."""
    if plan.unusable is not None:
        return plan.unusable
    raise plan.exhausted()


def _last_chunks(plan: AttemptPlan) -> list[Any]:
    if plan.answered:
        return []
    if plan.unusable is not None and (plan.emitted or not plan.committed):
        return list(plan.unusable)
    raise plan.exhausted()
