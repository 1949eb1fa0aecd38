"""How answers look on the wire: one JSON line for each piece, or one body for all (ollama v0.24.0 ``api/types.go``)."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from routed_ollama.testing.engine import Finish, Piece, ToolCall
from routed_ollama.testing.wire import Exchange

JSON = "application/json; charset=utf-8"
NDJSON = "application/x-ndjson"
Endpoint = Literal["chat", "generate"]
_ID_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


class Answer(ABC):
    """An answer in the making."""

    _content_type: ClassVar[str]

    def __init__(self, exchange: Exchange, model: str, endpoint: Endpoint) -> None:
        self._exchange = exchange
        self._model = model
        self._endpoint = endpoint
        self.pieces = 0
        """How many it has so far."""

    @abstractmethod
    def add(self, piece: Piece) -> None:
        """A piece was made."""

    @abstractmethod
    def finish(self, finish: Finish, metrics: Mapping[str, int]) -> None:
        """The last piece was made."""

    @abstractmethod
    def end(self) -> None:
        """End without saying that it is done."""

    @abstractmethod
    def fail(self, text: str, status: int = 500) -> None:
        """Something failed below; the status is told where none was sent yet."""

    def begin(self) -> None:
        """Send the head of the answer, before there is any of it."""
        if not self._exchange.started:
            self._exchange.start_stream(self._content_type)
            self._exchange.send_head()

    @abstractmethod
    def malformed(self, data: bytes) -> None:
        """Send something that is not JSON, and end."""

    def next_line(self) -> bytes:
        """A line as the next might be, for faults that cut it."""
        return dumps(self._line(Piece(" and more"), {"done": False})) + b"\n"

    def _line(self, piece: Piece, rest: Mapping[str, Any]) -> dict[str, Any]:
        return {"model": self._model, "created_at": now(), **content(self._endpoint, piece), **rest}


class StreamedAnswer(Answer):
    """One line for each piece, sent when it is made."""

    _content_type = NDJSON

    def __init__(self, exchange: Exchange, model: str, endpoint: Endpoint) -> None:
        super().__init__(exchange, model, endpoint)
        opening = '"message":{"role":"assistant","content":' if endpoint == "chat" else '"response":'
        self._before_time = f'{{"model":{json.dumps(model, ensure_ascii=False)},"created_at":"'
        self._before_text = f'",{opening}'
        self._after_text = '},"done":false}\n' if endpoint == "chat" else ',"done":false}\n'

    def add(self, piece: Piece) -> None:
        """Send it. Plain text, which is nearly everything, is put together by hand: it takes a third of the time."""
        if piece.thinking or piece.tool_calls or piece.logprobs:
            logprobs = {"logprobs": list(piece.logprobs)} if piece.logprobs else {}
            line = dumps(self._line(piece, {"done": False, **logprobs})) + b"\n"
        else:
            text = json.dumps(piece.text, ensure_ascii=False)
            line = encoded(f"{self._before_time}{now()}{self._before_text}{text}{self._after_text}")
        self._started().write(line)

    def finish(self, finish: Finish, metrics: Mapping[str, int]) -> None:
        """Send the line that says that it is done."""
        self._started().end(dumps(self._line(Piece(), _closing(self._endpoint, finish, metrics))) + b"\n")

    def end(self) -> None:
        """End the stream in its proper form."""
        self._started().end()

    def fail(self, text: str, status: int = 500) -> None:
        """Send the error: with a status where nothing was sent, else as the last line."""
        if self._exchange.started:
            self._exchange.end(dumps({"error": text}) + b"\n")
        else:
            self._exchange.start_stream("application/json", status)
            self._exchange.end(dumps({"error": text}))

    def malformed(self, data: bytes) -> None:
        """Send a line that breaks off."""
        self._started().end((data or self.next_line()[:-9]) + b"\n")

    def _started(self) -> Exchange:
        if not self._exchange.started:
            self._exchange.start_stream(NDJSON)
        return self._exchange


class WholeAnswer(Answer):
    """Everything in one body at the end."""

    _content_type = JSON

    def __init__(self, exchange: Exchange, model: str, endpoint: Endpoint) -> None:
        super().__init__(exchange, model, endpoint)
        self._pieces: list[Piece] = []

    def add(self, piece: Piece) -> None:
        """Keep it."""
        self._pieces.append(piece)

    def finish(self, finish: Finish, metrics: Mapping[str, int]) -> None:
        """Send everything."""
        self._respond(self._joined(finish, metrics))

    def end(self) -> None:
        """Send what there is; it says that it is not done."""
        self._respond(self._joined())

    def fail(self, text: str, status: int = 500) -> None:
        """Send the error."""
        self._exchange.respond(status, dumps({"error": text}), JSON)

    def malformed(self, data: bytes) -> None:
        """Send a body that breaks off."""
        self._respond(data or self._joined()[:-9])

    def _respond(self, body: bytes) -> None:
        self._exchange.respond(200, body, JSON)

    def _joined(self, finish: Finish | None = None, metrics: Mapping[str, int] = MappingProxyType({})) -> bytes:
        pieces = self._pieces
        whole = Piece(
            "".join([piece.text for piece in pieces]),
            "".join([piece.thinking for piece in pieces]),
            tuple(call for piece in pieces for call in piece.tool_calls),
        )
        logprobs = [entry for piece in pieces for entry in piece.logprobs]
        return dumps(self._line(whole, _closing(self._endpoint, finish, metrics, logprobs)))


def content(endpoint: Endpoint, piece: Piece) -> dict[str, Any]:
    """The part of a line that carries a piece."""
    inner: dict[str, Any] = (
        {"role": "assistant", "content": piece.text} if endpoint == "chat" else {"response": piece.text}
    )
    if piece.thinking:
        inner["thinking"] = piece.thinking
    if piece.tool_calls:
        inner["tool_calls"] = [_tool_call(each) for each in piece.tool_calls]
    return {"message": inner} if endpoint == "chat" else inner


def _tool_call(call: ToolCall) -> dict[str, Any]:
    function = {"index": call.index, "name": call.name, "arguments": dict(call.arguments)}
    return {"id": call.id, "function": function} if call.id else {"function": function}


def _closing(
    endpoint: Endpoint, finish: Finish | None, metrics: Mapping[str, int], logprobs: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """The end of the last line, in Ollama's order; without a finish it says that the answer is not done."""
    if finish is None:
        return {"done": False, **({"logprobs": logprobs} if logprobs else {})}
    closing: dict[str, Any] = {"done": True, "done_reason": finish.reason}
    if finish.context:
        closing["context"] = list(finish.context)
    if endpoint == "generate":
        closing.update(metrics)
    if logprobs:
        closing["logprobs"] = logprobs
    return {**closing, **metrics}


def call_id(number: int) -> str:
    """The id of a tool call, as Ollama's look: eight letters and digits; the same for the same number."""
    mixed = number * 2_654_435_761 % len(_ID_LETTERS) ** 8
    text = ""
    for _ in range(8):
        mixed, letter = divmod(mixed, len(_ID_LETTERS))
        text += _ID_LETTERS[letter]
    return f"call_{text}"


def dumps(value: Any) -> bytes:
    """JSON without spaces, in UTF-8."""
    return encoded(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def encoded(text: str) -> bytes:
    """UTF-8; half a surrogate pair, which a script may contain but JSON must not, becomes a question mark."""
    return text.encode(errors="replace")


_second: tuple[int, str] = (0, "")


def now() -> str:
    """The time as Go writes it, to the nanosecond; the slow part is formatted once a second."""
    global _second  # noqa: PLW0603 - a cache of one entry
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    if _second[0] != seconds:
        _second = (seconds, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)))
    fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
    return f"{_second[1]}{fraction}Z"
