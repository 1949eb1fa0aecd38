"""``/api/chat`` and ``/api/generate``: from a request to its lines (ollama v0.24.0 server/routes.go)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Literal

from routed_ollama.testing import calls, errors, gojson
from routed_ollama.testing.catalog import Catalog, Installed, check_capabilities, look_up
from routed_ollama.testing.clock import Clock
from routed_ollama.testing.engine import (
    ChatMessage,
    ContextExceededError,
    EngineCrashedError,
    EngineError,
    Finish,
    GenerationRequest,
    Piece,
    Runner,
    ToolCall,
)
from routed_ollama.testing.errors import ApiError
from routed_ollama.testing.faults import AT_ANSWER, ActiveFault, Fault, FaultBook
from routed_ollama.testing.options import load_settings, merged, wanted_settings
from routed_ollama.testing.scheduler import LoadTimedOutError, QueueFullError, Resident, Scheduler
from routed_ollama.testing.wire import Exchange

JSON = "application/json; charset=utf-8"
NDJSON = "application/x-ndjson"
MOST_LOGPROBS = 20
Endpoint = Literal["chat", "generate"]


class Struck(Exception):  # noqa: N818 - not an error but a fault that was asked for
    """A fault strikes in the middle of an answer."""

    def __init__(self, active: ActiveFault) -> None:
        super().__init__(active.fault)
        self.active = active


@dataclass(frozen=True, slots=True)
class Call:
    """A checked request and what its answer needs."""

    endpoint: Endpoint
    fields: Mapping[str, Any]
    body: Mapping[str, Any]
    raw: bytes
    installed: Installed
    options: Mapping[str, Any]
    begun: float

    @property
    def model(self) -> str:
        """As the client wrote it."""
        return str(self.fields["model"])

    @property
    def streams(self) -> bool:
        """Whether the answer comes in lines as it is made."""
        return self.fields.get("stream") is not False

    @property
    def is_empty(self) -> bool:
        """Whether it only loads or unloads."""
        return not self.fields.get("messages" if self.endpoint == "chat" else "prompt")


class Answerer:
    """Answers chat and generate requests."""

    def __init__(
        self, catalog: Catalog, scheduler: Scheduler, faults: FaultBook, clock: Clock, *, context: int, since_030: bool
    ) -> None:
        self._catalog = catalog
        self._scheduler = scheduler
        self._faults = faults
        self._clock = clock
        self._context = context
        self._since_030 = since_030
        self._call_ids = count(1)

    async def answer(self, exchange: Exchange, endpoint: Endpoint) -> None:
        """Answer one request.

        Raises:
            ApiError: nothing was sent yet, and this is the answer.
        """
        call = self._check(exchange.received.body, endpoint)
        if call.is_empty and call.fields.get("keep_alive") == 0:
            await self._scheduler.unload(call.installed.card.weights)
            self._short(exchange, call, "unload")
            return
        self._check_abilities(call)
        call = replace(call, options=merged(call.installed.card.parameters, call.fields.get("options") or {}))
        resident = await self._schedule(call)
        loaded = self._clock.monotonic()
        try:
            if call.is_empty:
                self._short(exchange, call, "load")
                return
            request = await self._fitting(resident, self._request(call))
            async with resident.slots:
                await self._generate(exchange, call, resident, request, loaded)
        finally:
            self._scheduler.release(resident)

    def _check(self, body: bytes, endpoint: Endpoint) -> Call:
        begun = self._clock.monotonic()
        fields, whole = calls.decode(body, calls.CHAT if endpoint == "chat" else calls.GENERATE)
        if not 0 <= fields.get("top_logprobs", 0) <= MOST_LOGPROBS:
            raise ApiError(400, f"top_logprobs must be between 0 and {MOST_LOGPROBS}")
        name = fields.setdefault("model", "")
        required = ApiError(400, "model is required") if endpoint == "chat" else errors.not_found(name)
        installed = look_up(self._catalog, name, required=required)
        if installed.card.remote_host:
            raise ApiError(401, "unauthorized")
        return Call(endpoint, fields, whole if isinstance(whole, dict) else {}, body, installed, {}, begun)

    def _check_abilities(self, call: Call) -> None:
        fields, card = call.fields, call.installed.card
        if fields.get("raw") and any(fields.get(each) for each in ("template", "system", "context")):
            raise ApiError(400, "raw mode does not support template, system, or context")
        if "thinking" not in card.capabilities and fields.get("think"):
            raise ApiError(400, f'"{call.model}" does not support thinking')
        if "completion" not in card.capabilities:
            raise ApiError(400, f'"{call.model}" does not support {call.endpoint}')
        wanted = [need for need, by in (("tools", "tools"), ("insert", "suffix")) if fields.get(by)]
        check_capabilities(call.installed, wanted)

    async def _schedule(self, call: Call) -> Resident:
        card, options = call.installed.card, call.options
        settings = load_settings(card, options, self._context, self._scheduler.limits.num_parallel)
        wanted = settings if self._since_030 else wanted_settings(settings, card, options, self._context)
        try:
            return await self._scheduler.acquire(call.installed.engine, settings, wanted, call.fields.get("keep_alive"))
        except (QueueFullError, LoadTimedOutError, EngineError) as error:
            raise errors.cannot_load(error, since_030=self._since_030) from None

    def _request(self, call: Call) -> GenerationRequest:
        """The request as engines read it."""
        fields, card = call.fields, call.installed.card
        if call.endpoint == "chat":
            messages = tuple(map(calls.message, fields["messages"]))
            if card.system and messages[0].role != "system":
                messages = (ChatMessage(role="system", content=card.system), *messages)
        else:
            system = fields.get("system") or card.system
            messages = (
                ()
                if fields.get("raw")
                else (ChatMessage(role="user", content=fields["prompt"], images=tuple(fields.get("images") or ())),)
            )
            if system and messages:
                messages = (ChatMessage(role="system", content=system), *messages)
        think = fields.get("think")
        return GenerationRequest(
            model=call.model,
            endpoint=call.endpoint,
            messages=messages,
            prompt=fields.get("prompt", ""),
            suffix=fields.get("suffix", ""),
            raw=fields.get("raw", False),
            images=(*fields.get("images", ()), *(each for message in messages for each in message.images)),
            tools=tuple((call.body.get("tools") or ()) if fields.get("tools") else ()),
            format=_format(call),
            think=True if think is None and "thinking" in card.capabilities else think,
            options=call.options,
            truncate=fields.get("truncate") is not False,
            shift=fields.get("shift") is not False,
            logprobs=fields.get("logprobs", False),
            top_logprobs=fields.get("top_logprobs", 0),
            body=call.body,
        )

    async def _fitting(self, resident: Resident, request: GenerationRequest) -> GenerationRequest:
        """The request without the oldest messages that do not fit; system messages and the last one always stay."""
        messages = request.messages
        if not request.truncate or len(messages) <= 1:
            return request
        for start in range(len(messages)):
            system = tuple(each for each in messages[:start] if each.role == "system")
            candidate = replace(request, messages=(*system, *messages[start:])) if start else request
            try:
                tokens = await resident.runner.count_tokens(candidate)
            except EngineCrashedError:
                raise ApiError(500, errors.RUNNER_STOPPED) from None
            if tokens <= resident.settings.num_ctx or start == len(messages) - 1:
                return candidate
        return request

    async def _generate(
        self, exchange: Exchange, call: Call, resident: Resident, request: GenerationRequest, loaded: float
    ) -> None:
        fault = self._faults.take(AT_ANSWER, call.installed.name.key, exchange.received.path)
        pieces = resident.runner.generate(request)
        if fault is not None:
            pieces = _afflicted(pieces, fault)
        answer = _Streamed(exchange, call) if call.streams else _Whole(exchange, call)
        produced = False
        try:
            async for item in pieces:
                if isinstance(item, Finish):
                    answer.finish(item, self._metrics(call, item, loaded))
                    return
                produced = True
                answer.add(self._identified(item))
                await exchange.drain()
            answer.end()
        except EngineCrashedError:
            answer.fail(errors.RUNNER_FAILED if produced else errors.RUNNER_STOPPED)
        except ContextExceededError as error:
            raise ApiError(400, self._too_long(error)) from None
        except Struck as struck:
            await self._strike(struck.active, exchange, answer, resident.runner, produced=produced)
        finally:
            await pieces.aclose()

    async def _strike(
        self, active: ActiveFault, exchange: Exchange, answer: _Answer, runner: Runner, *, produced: bool
    ) -> None:
        """What the client sees of a fault in the middle of an answer."""
        if active.fault in {Fault.CRASH, Fault.CRASH_BEFORE_TOKEN}:
            await runner.close()
            answer.fail(active.text or (errors.RUNNER_FAILED if produced else errors.RUNNER_STOPPED))
        elif active.fault is Fault.CUT:
            exchange.reset()
        elif active.fault is Fault.CLOSE:
            exchange.close_in_chunk(answer.next_line())
        elif active.fault is Fault.MALFORMED:
            answer.malformed(active.text.encode())
        elif active.fault is Fault.END_WITHOUT_DONE:
            answer.end()
        else:
            await asyncio.Event().wait()

    def _too_long(self, error: ContextExceededError) -> str:
        if not self._since_030:
            return errors.INPUT_TOO_LONG
        return errors.context_exceeded(error.prompt_tokens, error.num_ctx)

    def _identified(self, piece: Piece) -> Piece:
        """Every tool call has an id."""
        if all(each.id for each in piece.tool_calls):
            return piece
        tool_calls = tuple(
            each if each.id else replace(each, id=_call_id(next(self._call_ids))) for each in piece.tool_calls
        )
        return replace(piece, tool_calls=tool_calls)

    def _metrics(self, call: Call, finish: Finish, loaded: float) -> dict[str, Any]:
        """Counts, and times in nanoseconds; what is 0 is left out."""
        metrics = {
            "total_duration": max(1, int((self._clock.monotonic() - call.begun) * 1e9)),
            "load_duration": max(1, int((loaded - call.begun) * 1e9)),
            "prompt_eval_count": finish.prompt_tokens,
            "prompt_eval_duration": int(finish.prompt_seconds * 1e9),
            "eval_count": finish.output_tokens,
            "eval_duration": int(finish.output_seconds * 1e9),
        }
        return {name: value for name, value in metrics.items() if value}

    def _short(self, exchange: Exchange, call: Call, reason: str) -> None:
        """The answer to a request that only loads or unloads."""
        line = {
            "model": call.model,
            "created_at": now_rfc3339(),
            **_content(call.endpoint),
            "done": True,
            "done_reason": reason,
        }
        exchange.respond(200, dumps(line), JSON)


class _Answer:
    """An answer in the making."""

    def __init__(self, exchange: Exchange, call: Call) -> None:
        self._exchange = exchange
        self._call = call
        self._is_chat = call.endpoint == "chat"
        self._prefix = f'{{"model":{json.dumps(call.model, ensure_ascii=False)},"created_at":"'

    def add(self, piece: Piece) -> None:
        """A piece was made."""
        raise NotImplementedError

    def finish(self, finish: Finish, metrics: Mapping[str, Any]) -> None:
        """The last piece was made."""
        raise NotImplementedError

    def end(self) -> None:
        """End without a word."""
        raise NotImplementedError

    def fail(self, text: str) -> None:
        """The runner failed."""
        raise NotImplementedError

    def malformed(self, data: bytes) -> None:
        """Send something that is not JSON."""
        raise NotImplementedError

    def next_line(self) -> bytes:
        """A line as the next would be, to be cut."""
        return dumps(self._line(Piece(" and more"), done=False)) + b"\n"

    def _line(self, piece: Piece, *, done: bool, **rest: Any) -> dict[str, Any]:
        line = {
            "model": self._call.model,
            "created_at": now_rfc3339(),
            **_content(self._call.endpoint, piece),
            "done": done,
        }
        if not self._is_chat and piece.tool_calls:
            rest["tool_calls"] = _tool_calls(piece.tool_calls)
        return line | rest


class _Streamed(_Answer):
    """One line for each piece, sent when it is made."""

    def add(self, piece: Piece) -> None:
        exchange = self._exchange
        if not exchange.started:
            exchange.start_stream(NDJSON)
        if piece.thinking or piece.tool_calls or piece.logprobs:
            extra = {"logprobs": list(piece.logprobs)} if piece.logprobs else {}
            exchange.write(dumps(self._line(piece, done=False, **extra)) + b"\n")
            return
        text = json.dumps(piece.text, ensure_ascii=False)
        content = f'"message":{{"role":"assistant","content":{text}}}' if self._is_chat else f'"response":{text}'
        exchange.write(f'{self._prefix}{now_rfc3339()}",{content},"done":false}}\n'.encode())

    def finish(self, finish: Finish, metrics: Mapping[str, Any]) -> None:
        context = {"context": list(finish.context)} if finish.context else {}
        line = self._line(Piece(), done=True, done_reason=finish.reason, **context, **metrics)
        self._exchange_started().end(dumps(line) + b"\n")

    def end(self) -> None:
        self._exchange_started().end()

    def fail(self, text: str) -> None:
        if not self._exchange.started:
            self._exchange.start_stream("application/json", 500)
            self._exchange.end(dumps({"error": text}))
            return
        self._exchange.end(dumps({"error": text}) + b"\n")

    def malformed(self, data: bytes) -> None:
        self._exchange_started().end((data or self.next_line()[:-9]) + b"\n")

    def _exchange_started(self) -> Exchange:
        if not self._exchange.started:
            self._exchange.start_stream(NDJSON)
        return self._exchange


class _Whole(_Answer):
    """Everything in one body at the end."""

    def __init__(self, exchange: Exchange, call: Call) -> None:
        super().__init__(exchange, call)
        self._pieces: list[Piece] = []

    def add(self, piece: Piece) -> None:
        self._pieces.append(piece)

    def finish(self, finish: Finish, metrics: Mapping[str, Any]) -> None:
        context = {"context": list(finish.context)} if finish.context else {}
        self._respond(dumps(self._joined(done=True, done_reason=finish.reason, **context, **metrics)))

    def end(self) -> None:
        self._respond(dumps(self._joined(done=False)))

    def fail(self, text: str) -> None:
        self._exchange.respond(500, dumps({"error": text}), JSON)

    def malformed(self, data: bytes) -> None:
        self._respond(data or dumps(self._joined(done=False))[:-9])

    def _respond(self, body: bytes) -> None:
        self._exchange.respond(200, body, JSON)

    def _joined(self, *, done: bool, **rest: Any) -> dict[str, Any]:
        pieces = self._pieces
        logprobs = [entry for piece in pieces for entry in piece.logprobs]
        whole = Piece(
            "".join([piece.text for piece in pieces]),
            "".join([piece.thinking for piece in pieces]),
            tuple(call for piece in pieces for call in piece.tool_calls),
        )
        return self._line(whole, done=done, **rest, **({"logprobs": logprobs} if logprobs else {}))


async def _afflicted(
    pieces: AsyncGenerator[Piece | Finish, None], active: ActiveFault
) -> AsyncGenerator[Piece | Finish, None]:
    """An answer that a fault befalls."""
    fault = active.fault
    if fault in {Fault.HANG, Fault.CRASH_BEFORE_TOKEN}:
        raise Struck(active)
    produced = 0
    try:
        async for item in pieces:
            if fault is Fault.EMPTY or fault is Fault.WHITESPACE:
                if fault is Fault.WHITESPACE:
                    yield Piece(" ")
                    yield Piece("\n")
                yield Finish(prompt_tokens=1, output_tokens=1)
                return
            if produced >= active.after_chunks or isinstance(item, Finish):
                raise Struck(active)
            produced += 1
            yield item
    finally:
        await pieces.aclose()


def _content(endpoint: Endpoint, piece: Piece | None = None) -> dict[str, Any]:
    """The part of a line that carries a piece."""
    piece = piece or Piece()
    thinking = {"thinking": piece.thinking} if piece.thinking else {}
    if endpoint == "generate":
        return {"response": piece.text, **thinking}
    calls_ = {"tool_calls": _tool_calls(piece.tool_calls)} if piece.tool_calls else {}
    return {"message": {"role": "assistant", "content": piece.text, **thinking, **calls_}}


def _tool_calls(tool_calls: tuple[ToolCall, ...]) -> list[dict[str, Any]]:
    return [
        {"id": each.id, "function": {"index": index, "name": each.name, "arguments": dict(each.arguments)}}
        for index, each in enumerate(tool_calls)
    ]


def _call_id(number: int) -> str:
    """An id as Ollama's look: eight letters and digits."""
    digits = "abcdefghijklmnopqrstuvwxyz0123456789"
    mixed = number * 2_654_435_761 % len(digits) ** 8
    text = ""
    for _ in range(8):
        mixed, digit = divmod(mixed, len(digits))
        text += digits[digit]
    return f"call_{text}"


def _format(call: Call) -> Literal["json"] | Mapping[str, Any] | None:
    """The form the answer must have.

    Raises:
        ApiError: 500, after the model was loaded; the text quotes what was sent as it was written.
    """
    asked = call.fields.get("format")
    if asked is None or asked == "":
        return None
    if asked == "json":
        return "json"
    if isinstance(asked, dict):
        return asked
    raw = json.dumps(gojson.raw_field(call.raw, "format"), ensure_ascii=False)
    raise ApiError(500, f'invalid format: {raw}; expected "json" or a valid JSON Schema object')


def dumps(value: Any) -> bytes:
    """JSON without spaces, in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


_second: tuple[int, str] = (0, "")


def now_rfc3339() -> str:
    """Now, to the nanosecond; the slow part is formatted once a second."""
    global _second  # noqa: PLW0603 - a cache of one entry
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    if _second[0] != seconds:
        _second = (seconds, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)))
    return f"{_second[1]}.{nanoseconds:09d}".rstrip("0") + "Z"
