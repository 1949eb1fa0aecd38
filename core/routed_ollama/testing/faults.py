"""Faults on demand: what can go wrong, and the book of what is set to go wrong.

Every fault belongs to one stage of a request. The stages look into the book when they are reached, so a fault can be
set at any time, from any thread, and hits the next request that gets there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self


class Fault(StrEnum):
    """What can go wrong. In brackets what a client sees."""

    REFUSE = "refuse"
    """Nothing listens (connection refused). For the whole server only, and until it is cleared."""
    RESET = "reset"
    """The connection is reset before any answer."""
    HANG_BEFORE_HEADERS = "hang_before_headers"
    """The request is read and nothing more happens: no load, no answer."""
    SERVER_ERROR = "server_error"
    """500 with a text of its own, whatever the model does."""
    BUSY = "busy"
    """503, the queue is full."""
    NOT_FOUND = "not_found"
    """404, as if the model had been deleted."""

    NO_TOOLS = "no_tools"
    """400 where tools are given, whatever ``/api/show`` says of the model."""
    NO_THINKING = "no_thinking"
    """400 where thinking is asked for, whatever ``/api/show`` says of the model."""

    SLOW_LOAD = "slow_load"
    """Loading takes ``seconds`` longer, or never ends. Hits when the model is loaded, not when it already is."""
    LOAD_ERROR = "load_error"
    """500, the runner ended while it loaded. Hits when the model is loaded."""
    OUT_OF_MEMORY = "out_of_memory"
    """500, the model needs more memory than there is. Hits when the model is loaded."""

    PROMPT_TOO_LONG = "prompt_too_long"
    """400, the prompt is longer than the context; in the words of the server's version."""
    PROMPT_CUT = "prompt_cut"
    """The prompt is cut to ``size`` tokens without a word; ``prompt_eval_count`` is the only sign of it."""

    HANG = "hang"
    """The model is loaded, its slot taken, and no token ever comes."""
    HANG_AFTER_HEADERS = "hang_after_headers"
    """The same, after the head of the answer: status 200 and its headers."""
    CRASH_BEFORE_TOKEN = "crash_before_token"  # noqa: S105 - no password
    """500, the runner died before the first token; the next request loads the model again."""
    EMPTY = "empty"
    """The model answers with nothing: ``done`` at once."""
    WHITESPACE = "whitespace"
    """The model answers with white space alone."""

    CRASH = "crash"
    """The runner dies after ``after_chunks`` chunks: a line ``{"error"}`` at 200, or a 500 where nothing streams."""
    CUT = "cut"
    """TCP reset after ``after_chunks`` chunks."""
    CLOSE = "close"
    """The connection is closed in the middle of the chunk after ``after_chunks``."""
    STALL = "stall"
    """Nothing more comes after ``after_chunks`` chunks for ``seconds``, or ever; the connection stays open."""
    DRIP = "drip"
    """After ``after_chunks`` chunks one comes every ``seconds`` (default 1), without end."""
    REPEAT = "repeat"
    """After ``after_chunks`` chunks the same phrase (``text``) comes again and again, until ``num_predict`` tokens or
    ten contexts are full, where Ollama ends every answer."""
    REPEAT_LIMIT = "repeat_limit"
    """Ollama ends the answer after ``after_chunks`` chunks, because the model repeats one token; as from 0.34.1 on."""
    BAD_TOOL_CALL = "bad_tool_call"
    """After ``after_chunks`` chunks the model calls a tool with what is no JSON: 500, or a line ``{"error"}``."""
    LONG_LINE = "long_line"
    """The line after ``after_chunks`` chunks is ``size`` bytes long (default 50 million)."""
    END_WITHOUT_DONE = "end_without_done"
    """The stream ends properly after ``after_chunks`` chunks, but no line says ``done``."""
    MALFORMED = "malformed"
    """The line after ``after_chunks`` chunks is not JSON; then the stream ends properly."""


AT_ARRIVAL = frozenset(
    {Fault.RESET, Fault.HANG_BEFORE_HEADERS, Fault.SERVER_ERROR, Fault.BUSY, Fault.NOT_FOUND},
)
AT_CHECK = frozenset({Fault.NO_TOOLS, Fault.NO_THINKING})
AT_LOAD = frozenset({Fault.SLOW_LOAD, Fault.LOAD_ERROR, Fault.OUT_OF_MEMORY})
AT_ANSWER = frozenset(Fault) - AT_ARRIVAL - AT_CHECK - AT_LOAD - {Fault.REFUSE}
INFERENCE = frozenset({"/api/chat", "/api/generate"})


@dataclass(eq=False, slots=True, kw_only=True)
class ActiveFault:
    """A fault that is set. As a context manager it is cleared at the end."""

    fault: Fault
    book: FaultBook = field(repr=False)
    model: str | None = None
    """Key of the model it is for; None: all."""
    times: int | None = None
    """How often it still hits; None: until it is cleared."""
    after_chunks: int = 1
    seconds: float | None = None
    size: int | None = None
    """Bytes of a ``LONG_LINE``; tokens that a ``PROMPT_CUT`` leaves."""
    text: str = ""
    """Instead of the usual error text, or phrase."""
    endpoints: frozenset[str] = INFERENCE
    hits: int = 0
    """How often it has hit."""
    on_clear: Callable[[], None] | None = field(default=None, repr=False)
    """Called when it is cleared."""

    def clear(self) -> None:
        """Let it hit no more. Requests it already holds stay held."""
        self.book.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()


class FaultBook:
    """The faults that are set, oldest first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: tuple[ActiveFault, ...] = ()

    def __bool__(self) -> bool:
        return bool(self._faults)

    def add(self, active: ActiveFault) -> ActiveFault:
        """Set a fault."""
        with self._lock:
            self._faults = (*self._faults, active)
        return active

    def remove(self, active: ActiveFault) -> None:
        """Clear a fault; harmless when it is not set."""
        self._remove([active])

    def clear(self, model: str | None) -> None:
        """Clear all faults of a model, or with None all there are."""
        self._remove([each for each in self._faults if model is None or each.model == model])

    def _remove(self, cleared: list[ActiveFault]) -> None:
        with self._lock:
            found = [each for each in self._faults if each in cleared]
            self._faults = tuple(each for each in self._faults if each not in cleared)
        for active in found:
            if active.on_clear is not None:
                active.on_clear()

    def take(self, stage: frozenset[Fault], model: str | None, endpoint: str | None = None) -> ActiveFault | None:
        """The fault that hits at this stage of a call of that endpoint (None: any), if one is set; it is counted."""
        with self._lock:
            for active in self._faults:
                called = endpoint is None or endpoint in active.endpoints
                if called and active.fault in stage and active.model in {None, model}:
                    self._count(active)
                    return active
        return None

    def _count(self, active: ActiveFault) -> None:
        active.hits += 1
        if active.times is not None:
            active.times -= 1
            if active.times <= 0:
                self._faults = tuple(fault for fault in self._faults if fault is not active)
