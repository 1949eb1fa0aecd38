"""Scripts: what a scripted model is told to say, and the writing of it, token by token, as a request wants it.

One part of a script is one token; a text is taken word by word.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from typing import Any, Literal

from routed_ollama.testing.engine import GenerationRequest, Piece, ToolCall

_TOKEN = re.compile(r"\s*\S+|\s+")


class Gate:
    """A place in a script where the model stops until the test lets it go on. Safe to use from any thread.

    Example:
        >>> from routed_ollama.testing import ScriptedModel
        >>> gate = Gate()
        >>> model = ScriptedModel("m", reply=["one ", gate, "two"])
        >>> gate.open()
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_open = False
        self._reached = threading.Event()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def open(self) -> None:
        """Let everyone through, now and later."""
        with self._lock:
            self._is_open = True
            waiters, self._waiters = self._waiters, []
        for loop, waiter in waiters:
            if not loop.is_closed():
                loop.call_soon_threadsafe(waiter.set)

    def wait_reached(self, timeout: float = 10.0) -> bool:
        """Wait until a model stands before the gate.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether one does.
        """
        return self._reached.wait(timeout)

    async def passed(self) -> None:
        """Stand before the gate until it is open."""
        with self._lock:
            self._reached.set()
            if self._is_open:
                return
            waiter = asyncio.Event()
            self._waiters.append((asyncio.get_running_loop(), waiter))
        await waiter.wait()


Part = str | Piece | ToolCall | Gate
Script = str | Iterable[Part] | AsyncIterable[Part]
Reply = Script | Callable[[GenerationRequest], Script]


def tokens(text: str) -> list[str]:
    """A text in tokens: words, each with the space before it."""
    return _TOKEN.findall(text)


def whole_script(thinking: str, script: Script) -> AsyncIterable[Part]:
    """The parts of a script, thoughts first, one after the other."""
    return _after([Piece(thinking=token) for token in tokens(thinking)], script)


async def _after(thoughts: list[Piece], script: Script) -> AsyncGenerator[Part, None]:
    for thought in thoughts:
        yield thought
    if isinstance(script, AsyncIterable):
        async for part in script:
            yield part
    else:
        for part in tokens(script) if isinstance(script, str) else script:
            yield part


class Writer:
    """Turns parts of a script into pieces of an answer: counts them, and stops where the request says so."""

    def __init__(self, request: GenerationRequest, limit: int) -> None:
        self._request = request
        self._limit = limit
        self._stopper = _Stopper(request.options.get("stop") or ())
        self.tokens = 0
        self.reason: Literal["stop", "length"] = "stop"

    @property
    def ended(self) -> bool:
        """Whether a stop sequence was written, or as many tokens as may be."""
        if self._stopper.hit:
            return True
        self.reason = "length" if self.tokens >= self._limit else "stop"
        return self.reason == "length"

    def at_once(self, script: Script) -> Piece | None:
        """The whole answer as one piece, where nobody can tell the difference."""
        request = self._request
        if not isinstance(script, str) or request.streams or request.logprobs or request.options.get("stop"):
            return None
        words = tokens(script)
        self.tokens = min(len(words), self._limit)
        self.reason = "length" if len(words) >= self._limit else "stop"
        return Piece(script if len(words) <= self._limit else "".join(words[: self._limit]))

    def add(self, part: str | Piece | ToolCall) -> Piece | None:
        """The piece that a part becomes; None while it is held back."""
        self.tokens += 1
        if isinstance(part, ToolCall):
            return Piece(tool_calls=(part,))
        piece = Piece(part) if isinstance(part, str) else part
        passed = self._stopper.add(piece)
        return _with_logprobs(passed, self._request) if passed and self._request.logprobs else passed

    def rest(self) -> Piece | None:
        """What was held back and turned out to be text."""
        held = self._stopper.rest()
        return Piece(held) if held else None


class _Stopper:
    """Holds back what might be the beginning of a stop sequence, and ends the answer where one is complete."""

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.hit = False

    def add(self, piece: Piece) -> Piece | None:
        """The part of a piece that may be sent; None when all of it is held back."""
        if not self._stops or not piece.text:
            return piece
        text = self._held + piece.text
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.hit, self._held = True, ""
            text = text[: min(found)]
        else:
            keep = max(self._overlap(text, stop) for stop in self._stops)
            text, self._held = (text[:-keep], text[-keep:]) if keep else (text, "")
        return piece._replace(text=text) if text else None

    def rest(self) -> str:
        """What was held back and turned out to be text."""
        return self._held

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """How much of the text's end is the beginning of a stop sequence."""
        return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)


def _with_logprobs(piece: Piece, request: GenerationRequest) -> Piece:
    if not piece.text:
        return piece
    alternatives = [piece.text, *(f"{piece.text}{at}" for at in range(1, request.top_logprobs))]
    entry = _logprob(piece.text, 0)
    if request.top_logprobs:
        entry["top_logprobs"] = [_logprob(text, at) for at, text in enumerate(alternatives)]
    return piece._replace(logprobs=(entry,))


def _logprob(text: str, rank: int) -> dict[str, Any]:
    return {"token": text, "logprob": -0.25 - rank, "bytes": list(text.encode())}
