"""What each failure means. Pure: everything the router does about an error follows from the table below.

A failure is known by what crossed the wire (status, error text, broken connection), never by the framework that
reported it, so the same table serves every adapter and every handler.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from enum import StrEnum

import httpx

from routed_ollama.errors import (
    DeadlineExceededError,
    EmptyAnswerError,
    HostUnreachableError,
    InvalidAnswerError,
    PromptCutError,
    RefusedAnswerError,
    RepetitiveAnswerError,
    TruncatedStreamError,
)


class FailureKind(StrEnum):
    """Why an attempt did not deliver."""

    CANCELLED = "cancelled"
    CALLER = "caller"
    MISSING = "missing"
    UNSUPPORTED = "unsupported"
    CONTEXT = "context"
    UNAUTHORIZED = "unauthorized"
    BUSY = "busy"
    OUT_OF_MEMORY = "out_of_memory"
    LOAD = "load"
    CRASHED = "crashed"
    SERVER = "server"
    REJECTED = "rejected"
    UNREACHABLE = "unreachable"
    DISCONNECTED = "disconnected"
    DEADLINE = "deadline"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    INVALID = "invalid"
    REPEATING = "repeating"
    REFUSED = "refused"
    GARBLED = "garbled"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What follows from a kind of failure."""

    go_on: bool = True
    """Whether another model is asked."""
    blames_model: bool = True
    """Whether it counts in the model's record and circuit."""
    unwell: bool = True
    """Whether it says that the model does not work; a refusal is an answer all the same, and no reason for a rest."""
    opens: bool = False
    """Whether one such failure is enough to open the circuit."""
    blames_host: bool = False
    """Whether it says that the whole host is out of reach."""
    try_again_last: bool = False
    """Whether the same model is worth one more try when no other is left: Ollama replaces a runner that died, and one
    that had too little context can be given more."""
    smaller_only: bool = False
    """Whether nothing as large that would have to be loaded on the same host is worth trying."""
    wants_context: bool = False
    """Whether models with a longer context come first, and are given enough of it."""
    shuns_queue: bool = False
    """Whether models that would wait in the same host's queue come last."""


MEANINGS: dict[FailureKind, Meaning] = {
    FailureKind.CANCELLED: Meaning(go_on=False, blames_model=False),
    FailureKind.CALLER: Meaning(go_on=False, blames_model=False),
    FailureKind.MISSING: Meaning(blames_model=False),
    FailureKind.UNSUPPORTED: Meaning(blames_model=False),
    FailureKind.CONTEXT: Meaning(blames_model=False, try_again_last=True, wants_context=True),
    FailureKind.REJECTED: Meaning(blames_model=False),
    FailureKind.UNAUTHORIZED: Meaning(opens=True),
    FailureKind.BUSY: Meaning(blames_model=False, shuns_queue=True),
    FailureKind.OUT_OF_MEMORY: Meaning(opens=True, smaller_only=True),
    FailureKind.LOAD: Meaning(),
    FailureKind.CRASHED: Meaning(try_again_last=True),
    FailureKind.SERVER: Meaning(),
    FailureKind.UNREACHABLE: Meaning(blames_model=False, blames_host=True),
    FailureKind.DISCONNECTED: Meaning(try_again_last=True),
    FailureKind.DEADLINE: Meaning(),
    FailureKind.TRUNCATED: Meaning(try_again_last=True),
    FailureKind.EMPTY: Meaning(),
    FailureKind.INVALID: Meaning(),
    FailureKind.REPEATING: Meaning(),
    FailureKind.REFUSED: Meaning(unwell=False),
    FailureKind.GARBLED: Meaning(),
}

# Texts as recorded from 0.24 and read in the source of later versions; the first match decides.
_BY_TEXT: tuple[tuple[re.Pattern[str], FailureKind], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        # What a model wrote stands in these two, and in what Go's parser says of it what it says of a request, too.
        (r"error parsing tool call", FailureKind.INVALID),
        (r"token repeat limit", FailureKind.REPEATING),
        (
            r"^invalid format|must be of type|invalid char|cannot unmarshal|illegal base64|invalid duration",
            FailureKind.CALLER,
        ),
        (r"does not support", FailureKind.UNSUPPORTED),
        (r"exceed_context_size|context length|exceeds the context|prompt is longer", FailureKind.CONTEXT),
        (
            r"more system memory|out.of.memory|insufficient memory|unable to allocate|cudaMalloc",
            FailureKind.OUT_OF_MEMORY,
        ),
        (r"server busy|maximum pending requests", FailureKind.BUSY),
        (r"unexpectedly stopped|error was encountered while running", FailureKind.CRASHED),
        (
            r"process has terminated|timed out waiting|unable to load|error loading model|failed to load",
            FailureKind.LOAD,
        ),
        (r"not found", FailureKind.MISSING),
        (r"unauthorized|cloud is disabled", FailureKind.UNAUTHORIZED),
    )
)

_BY_STATUS = {
    401: FailureKind.UNAUTHORIZED,
    403: FailureKind.UNAUTHORIZED,
    404: FailureKind.MISSING,
    408: FailureKind.SERVER,
    429: FailureKind.BUSY,
    499: FailureKind.LOAD,
    503: FailureKind.BUSY,
}

_BY_CLASS: tuple[tuple[tuple[type[BaseException], ...], FailureKind], ...] = (
    ((EmptyAnswerError,), FailureKind.EMPTY),
    ((InvalidAnswerError,), FailureKind.INVALID),
    ((RepetitiveAnswerError,), FailureKind.REPEATING),
    ((RefusedAnswerError,), FailureKind.REFUSED),
    ((PromptCutError,), FailureKind.CONTEXT),
    ((TruncatedStreamError,), FailureKind.TRUNCATED),
    ((GeneratorExit, KeyboardInterrupt, SystemExit, asyncio.CancelledError), FailureKind.CANCELLED),
    ((HostUnreachableError, httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError), FailureKind.UNREACHABLE),
    ((httpx.TimeoutException, DeadlineExceededError), FailureKind.DEADLINE),
    ((httpx.InvalidURL, httpx.UnsupportedProtocol), FailureKind.CALLER),
    ((httpx.TransportError, httpx.StreamError), FailureKind.DISCONNECTED),
    # The official client turns a refused connection into the builtin class; a reset in mid-answer is one too.
    ((ConnectionRefusedError,), FailureKind.UNREACHABLE),
    ((ConnectionResetError, ConnectionAbortedError, BrokenPipeError), FailureKind.DISCONNECTED),
    ((ConnectionError,), FailureKind.UNREACHABLE),
    ((TimeoutError,), FailureKind.DEADLINE),
    ((json.JSONDecodeError,), FailureKind.GARBLED),
)


def classify(error: BaseException, *, sent: bool | None = None) -> FailureKind:
    """Say what kind of failure an exception is.

    Args:
        error: what an attempt raised; the frameworks' own classes, ``ollama.ResponseError`` and httpx's included.
        sent: whether the request had left when it was raised. An exception that is no network error is the caller's
            own mistake before that (a message that cannot be converted, an image that cannot be read, an unknown
            argument) and the server's garbled answer after it. None when unknown: then it is taken for the caller's,
            but for an ``OSError``, which is taken for a broken connection.

    Returns:
        The kind; what follows from it is in ``MEANINGS``.

    Example:
        >>> classify(httpx.ConnectError("refused")).value
        'unreachable'
    """
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return _classify_response(status, str(getattr(error, "error", error)))
    for classes, kind in _BY_CLASS:
        if isinstance(error, classes):
            return kind
    return _classify_unnamed(error, sent)


def _classify_unnamed(error: BaseException, sent: bool | None) -> FailureKind:
    if not isinstance(error, Exception):  # how other event loops and greenlets cancel
        return FailureKind.CANCELLED
    if isinstance(error, RuntimeError) and "loop is closed" in str(error):
        return FailureKind.CANCELLED
    if isinstance(error, ValueError) and "No data received" in str(error):
        return FailureKind.EMPTY
    if isinstance(error, OSError) and sent is not False:
        return FailureKind.DISCONNECTED
    return FailureKind.GARBLED if sent else FailureKind.CALLER


def _classify_response(status: int, text: str) -> FailureKind:
    if status in {401, 403}:
        return FailureKind.UNAUTHORIZED
    for pattern, kind in _BY_TEXT:
        if pattern.search(text):
            return kind
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status < 0:  # an error line in the middle of a stream
        return FailureKind.CRASHED
    return FailureKind.REJECTED if 400 <= status < 500 else FailureKind.SERVER  # noqa: PLR2004 (HTTP's own classes)


_TOLD = re.compile(r"n_prompt_tokens\W+(\d+)")
_ROOM_FOR_ANSWER = 1_024
_MORE_THAN_USUAL = 4_097
"""Tokens: what a server gives by itself may be less than is thought, so more than the usual 4096 is asked for."""
_MARGIN = 1.25
"""By how much an estimate may be too low."""


def context_wanted(error: BaseException | None, expected: int) -> int:
    """Return how many tokens of context a prompt needs that was too long for a model's.

    Args:
        error: what said so; some servers tell the prompt's length.
        expected: the prompt's estimated length, in tokens.

    Example:
        >>> context_wanted(None, 6000), context_wanted(Exception('{"n_prompt_tokens":9000,"n_ctx":4096}'), 6000)
        (8524, 10024)
    """
    told = _TOLD.search(str(getattr(error, "error", error)))
    length = int(told[1]) if told and len(told[1]) < _MOST_DIGITS else int(expected * _MARGIN)
    return max(length + _ROOM_FOR_ANSWER, _MORE_THAN_USUAL)


_MOST_DIGITS = 10
"""A longer number is no length of anything, whatever a server says."""
