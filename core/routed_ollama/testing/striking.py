"""What faults do to an answer that is being made: what they take out of it, put into it, and how they end it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import count

from routed_ollama.testing import errors
from routed_ollama.testing.clock import Clock, sleep
from routed_ollama.testing.engine import Finish, Piece
from routed_ollama.testing.faults import ActiveFault, Fault
from routed_ollama.testing.lines import Answer
from routed_ollama.testing.script import tokens
from routed_ollama.testing.wire import Exchange

Pieces = AsyncGenerator[Piece | Finish, None]

PHRASE = " I will say it again."
"""What a model says that repeats itself, unless a text is given."""
LONG_LINE = 50_000_000
"""Bytes."""

_AT_ONCE = frozenset({Fault.HANG, Fault.HANG_AFTER_HEADERS, Fault.CRASH_BEFORE_TOKEN})
_BLANKS = {Fault.EMPTY: (), Fault.WHITESPACE: (" ", "\n")}
KILLS = frozenset({Fault.CRASH, Fault.CRASH_BEFORE_TOKEN})
"""After these the model has to be loaded again."""


class Struck(Exception):  # noqa: N818 - not an error but a fault that was asked for
    """A fault strikes in the middle of an answer."""

    def __init__(self, active: ActiveFault) -> None:
        super().__init__(active.fault)
        self.active = active


def afflicted(pieces: Pieces, active: ActiveFault, clock: Clock, limit: int) -> Pieces:
    """An answer that a fault befalls.

    Args:
        pieces: what it would be.
        active: the fault.
        clock: what tells the time.
        limit: tokens after which Ollama ends every answer.
    """
    fault = active.fault
    if fault in _BLANKS:
        return _silenced(pieces, _BLANKS[fault])
    if fault in {Fault.DRIP, Fault.LONG_LINE} or (fault is Fault.STALL and active.seconds is not None):
        return _widened(pieces, active, clock)
    if fault is Fault.REPEAT:
        return _repeating(pieces, active, limit)
    return _struck(pieces, active)


async def _silenced(pieces: Pieces, blanks: tuple[str, ...]) -> Pieces:
    """Nothing is said but white space."""
    for blank in blanks:
        yield Piece(blank)
    async with aclosing(pieces):
        async for item in pieces:
            if isinstance(item, Finish):
                yield item._replace(reason="stop", output_tokens=len(blanks) + 1)


async def _struck(pieces: Pieces, active: ActiveFault) -> Pieces:
    """It breaks off."""
    made = 0
    async with aclosing(pieces):
        if active.fault in _AT_ONCE:
            raise Struck(active)
        async for item in pieces:
            if made >= active.after_chunks or isinstance(item, Finish):
                raise Struck(active)
            made += 1
            yield item


async def _widened(pieces: Pieces, active: ActiveFault, clock: Clock) -> Pieces:
    """Something comes into it, or between; then it goes on."""
    made, widened = 0, False
    async with aclosing(pieces), aclosing(_added(active, clock)) as more:
        async for item in pieces:
            if not widened and (made >= active.after_chunks or isinstance(item, Finish)):
                widened = True
                async for added in more:
                    yield added
            made += 1
            yield item


async def _added(active: ActiveFault, clock: Clock) -> AsyncGenerator[Piece, None]:
    if active.fault is Fault.LONG_LINE:
        words = active.text or "lorem ipsum "
        size = active.size or LONG_LINE
        yield Piece((words * (size // len(words) + 1))[:size])
    elif active.fault is Fault.STALL:
        await sleep(clock, active.seconds or 0.0)
    else:
        for number in count(1):
            await sleep(clock, 1.0 if active.seconds is None else active.seconds)
            yield Piece(f" drop-{number}")


async def _repeating(pieces: Pieces, active: ActiveFault, limit: int) -> Pieces:
    """The same phrase comes until nothing more may."""
    made = 0
    phrase = tokens(active.text or PHRASE)
    async with aclosing(pieces):
        async for item in pieces:
            if made < active.after_chunks and not isinstance(item, Finish):
                made += 1
                yield item
            elif isinstance(item, Finish):
                for number in range(limit - made):
                    yield Piece(phrase[number % len(phrase)])
                yield item._replace(reason="length", output_tokens=limit)


async def strike(active: ActiveFault, exchange: Exchange, answer: Answer) -> None:
    """What the client sees of a fault in the middle of an answer."""
    fault, text = active.fault, active.text
    if fault in KILLS:
        answer.fail(text or (errors.RUNNER_FAILED if answer.pieces else errors.RUNNER_STOPPED))
    elif fault is Fault.BAD_TOOL_CALL:
        answer.fail(text or errors.BAD_TOOL_CALL)
    elif fault is Fault.REPEAT_LIMIT:
        answer.fail(text or errors.REPEAT_LIMIT)
    elif fault is Fault.CUT:
        exchange.reset()
    elif fault is Fault.CLOSE:
        exchange.close_in_chunk(answer.next_line())
    elif fault is Fault.MALFORMED:
        answer.malformed(text.encode())
    elif fault is Fault.END_WITHOUT_DONE:
        answer.end()
    else:
        if fault is Fault.HANG_AFTER_HEADERS:
            answer.begin()
        await asyncio.Event().wait()  # until the client leaves
