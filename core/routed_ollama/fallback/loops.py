"""The four loops that walk a plan, the only ones in the project: sync and async, whole and streamed.

An adapter says how to send an attempt and how to look at a chunk (``ChunkView``); everything else is here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import aclosing, closing
from typing import Any, Generic, Protocol, TypeVar, cast

from routed_ollama.errors import EmptyAnswerError, TruncatedStreamError
from routed_ollama.fallback.continuation import OverlapTrimmer
from routed_ollama.fallback.plan import Attempt, AttemptPlan

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
        """Whether it is plain text, which another model can go on with; False for a tool call."""
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
    plan: AttemptPlan, send: Callable[[Attempt], Generator[C]], view: ChunkView[C], *, hold: bool = False
) -> Generator[C]:
    """Yield the chunks of an answer, changing the model when one fails.

    Nothing is handed out before the first usable chunk. From then on chunks are passed on as they come; when the model
    fails then, plain text is gone on with by the next.

    Args:
        plan: the models, best first.
        send: asks one of them for a stream, which is closed in every case.
        view: how to look at a chunk.
        hold: hand out nothing before the answer is whole; for answers that must be checked first.

    Raises:
        Exception: the failure after the commit point where it cannot be mended; else what ``plan.exhausted()`` returns.
    """
    for attempt in plan:
        with attempt:
            pump = _Pump(attempt, view, hold=hold)
            with closing(send(attempt)) as chunks:
                for chunk in chunks:
                    yield from pump.feed(chunk)
                    if pump.passing:
                        break
                for chunk in chunks if pump.passing else ():
                    yield pump.pass_on(chunk)
            yield from pump.finish()
            return
    yield from _last_chunks(plan)


async def astream(
    plan: AttemptPlan, send: Callable[[Attempt], AsyncGenerator[C]], view: ChunkView[C], *, hold: bool = False
) -> AsyncGenerator[C]:
    """Yield the chunks of an answer, changing the model when one fails; see ``stream``."""
    for attempt in plan:
        with attempt:
            pump = _Pump(attempt, view, hold=hold)
            async with aclosing(send(attempt)) as chunks:
                async for chunk in chunks:
                    for ready in pump.feed(chunk):
                        yield ready
                    if pump.passing:
                        break
                if pump.passing:
                    async for chunk in chunks:
                        yield pump.pass_on(chunk)
            for ready in pump.finish():
                yield ready
            return
    for chunk in _last_chunks(plan):
        yield chunk


class _Pump(Generic[C]):
    """What happens to the chunks of one attempt, without waiting: hold, commit, trim, pass on, remember."""

    def __init__(self, attempt: Attempt, view: ChunkView[C], *, hold: bool) -> None:
        self._attempt = attempt
        self._view = view
        self._hold = hold
        self._held: list[C] = []
        self._out: list[C] = []
        self._trimmer = OverlapTrimmer(attempt.continues) if attempt.continues else None
        self.passing = False
        attempt.progress = self._progress

    def pass_on(self, chunk: C) -> C:
        """Return a chunk from after the commit point: on the way of every token, so it does next to nothing."""
        if self._view.done(chunk):
            self._attempt.whole = True
            chunk = self._view.with_route(chunk, self._attempt)
        self._out.append(chunk)
        return chunk

    def feed(self, chunk: C) -> list[C]:
        """Take a chunk from before the commit point; return those to hand out."""
        self._held.append(chunk)
        if self._trimmer is not None:
            return self._feed_continuation(chunk, self._trimmer)
        if self._hold or not self._view.usable(chunk):
            return []
        return self._release(self._held)

    def _feed_continuation(self, chunk: C, trimmer: OverlapTrimmer) -> list[C]:
        text = trimmer.feed(self._view.text(chunk))
        if self._view.done(chunk):
            text += trimmer.flush()
        elif not text:
            return []
        return self._release([self._view.with_text(chunk, text)])

    def _release(self, chunks: list[C]) -> list[C]:
        """The commit point, or the seam of a continuation."""
        if self._attempt.continues:
            self._attempt.mark_seam()
        self._attempt.commit()
        self.passing = True
        self._held = []
        return [self.pass_on(chunk) for chunk in chunks]

    def finish(self) -> list[C]:
        """Check that the answer is whole and return what is still held.

        Raises:
            TruncatedStreamError: the stream ended without its last line.
            EmptyAnswerError: nothing usable came.
        """
        attempt, chunks = self._attempt, self._out + self._held
        if not chunks or not self._view.done(chunks[-1]):
            raise TruncatedStreamError(f"The answer of {attempt.model} ended before its last line (no `done`).")
        if self.passing:
            return []
        if not any(self._view.usable(chunk) for chunk in chunks):
            attempt.unusable = [*chunks[:-1], self._view.with_route(chunks[-1], attempt)]
            raise EmptyAnswerError(f"{attempt.model} answered with nothing.")
        return self._release(self._held)

    def _progress(self) -> tuple[str, bool]:
        """All text handed out so far, and whether it can be gone on from."""
        text = self._attempt.continues + "".join(map(self._view.text, self._out))
        return text, all(map(self._view.joinable, self._out))


def _last_resort(plan: AttemptPlan) -> Any:
    """Return the answer that was empty or unfit everywhere, as the plain class would; else raise."""
    if plan.unusable is not None:
        return plan.unusable
    raise plan.exhausted()


def _last_chunks(plan: AttemptPlan) -> list[Any]:
    if plan.answered:
        return []
    if plan.unusable is not None and not plan.committed:
        return list(plan.unusable)
    raise plan.exhausted()
