"""``/api/chat`` and ``/api/generate``, from a request's body to its last line (ollama v0.24.0 server/routes.go)."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Collection, Mapping
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
)
from routed_ollama.testing.errors import ApiError
from routed_ollama.testing.faults import AT_ANSWER, ActiveFault, Fault, FaultBook
from routed_ollama.testing.lines import (
    JSON,
    Answer,
    Endpoint,
    StreamedAnswer,
    WholeAnswer,
    call_id,
    content,
    dumps,
    now,
)
from routed_ollama.testing.options import load_settings, merged, within_training
from routed_ollama.testing.scheduler import Demand, LoadTimedOutError, QueueFullError, Resident, Scheduler
from routed_ollama.testing.striking import KILLS, Struck, afflicted, strike
from routed_ollama.testing.versions import Version
from routed_ollama.testing.wire import Exchange

MOST_LOGPROBS = 20
DEFAULT_NUM_KEEP = 4
"""Both from ollama v0.24.0: server/routes.go and api/types.go."""


@dataclass(frozen=True, slots=True)
class Call:
    """A checked request."""

    endpoint: Endpoint
    fields: Mapping[str, Any]
    body: Mapping[str, Any]
    raw: bytes
    installed: Installed
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
    def shifts(self) -> bool:
        """Whether an answer may go on past the end of the context."""
        return self.fields.get("shift") is not False

    @property
    def is_empty(self) -> bool:
        """Whether it only loads or unloads."""
        return not self.fields.get("messages" if self.endpoint == "chat" else "prompt")


class Answerer:
    """Answers chat and generate requests."""

    def __init__(
        self, catalog: Catalog, scheduler: Scheduler, faults: FaultBook, clock: Clock, *, version: Version, num_ctx: int
    ) -> None:
        self._catalog = catalog
        self._scheduler = scheduler
        self._faults = faults
        self._clock = clock
        self._version = version
        self._num_ctx = num_ctx
        self._call_ids = count(1)

    async def answer(self, exchange: Exchange, endpoint: Endpoint) -> None:
        """Answer one request.

        Raises:
            ApiError: nothing was sent yet, and this is the answer.
        """
        call = self._checked(exchange.received.body, endpoint)
        if call.is_empty and call.fields.get("keep_alive") == 0:
            await self._scheduler.unload(call.installed.card.weights)
            _respond_empty(exchange, call, "unload")
            return
        _check_abilities(call, self._denied(call, exchange))
        options = merged(call.installed.card.parameters, call.fields.get("options") or {})
        resident = await self._scheduled(call, options)
        loaded = self._clock.monotonic()
        try:
            if call.is_empty:
                _respond_empty(exchange, call, "load")
                return
            request = await self._fitting(resident, self._request(call, options, resident.settings.num_ctx))
            async with resident.slots:
                await self._generate(exchange, call, resident, request, loaded)
        except ApiError as error:
            if not call.streams:
                raise
            StreamedAnswer(exchange, call.model, call.endpoint).fail(error.text, error.status)
        finally:
            self._scheduler.release(resident)

    def _denied(self, call: Call, exchange: Exchange) -> set[str]:
        """What the model cannot do although it says that it can."""
        return {
            ability
            for ability, field, fault in (("tools", "tools", Fault.NO_TOOLS), ("thinking", "think", Fault.NO_THINKING))
            if call.fields.get(field) and self._fault(frozenset({fault}), call, exchange)
        }

    def _checked(self, body: bytes, endpoint: Endpoint) -> Call:
        begun = self._clock.monotonic()
        fields, whole = calls.decode(body, calls.CHAT if endpoint == "chat" else calls.GENERATE)
        if not 0 <= fields.get("top_logprobs", 0) <= MOST_LOGPROBS:
            raise ApiError(400, f"top_logprobs must be between 0 and {MOST_LOGPROBS}")
        name = fields.setdefault("model", "")
        required = ApiError(400, "model is required") if endpoint == "chat" else errors.not_found(name)
        installed = look_up(self._catalog, name, required=required)
        if installed.card.remote_host:
            raise ApiError(401, "unauthorized")
        return Call(endpoint, fields, whole if isinstance(whole, dict) else {}, body, installed, begun)

    async def _scheduled(self, call: Call, options: Mapping[str, Any]) -> Resident:
        card, limits = call.installed.card, self._scheduler.limits
        newer = self._version.llama_server
        asked = load_settings(
            card,
            options,
            default_num_ctx=self._num_ctx,
            num_parallel=limits.num_parallel,
            shift=call.shifts or not newer,
        )
        settings = within_training(asked, card)
        wanted = settings if newer else asked  # up to 0.24 contexts are compared as they were asked for
        demand = Demand(
            call.installed.name.short, call.installed.engine, settings, wanted, call.fields.get("keep_alive")
        )
        try:
            return await self._scheduler.acquire(demand)
        except (QueueFullError, LoadTimedOutError, EngineError) as error:
            raise errors.cannot_load(error, llama_server=newer) from None

    def _request(self, call: Call, options: Mapping[str, Any], num_ctx: int) -> GenerationRequest:
        """The request as engines read it."""
        fields, card = call.fields, call.installed.card
        messages = _messages(call)
        think = fields.get("think")
        truncate = fields.get("truncate") is not False
        prompt_limit, cut_to = self._version.prompt_limits(num_ctx, options.get("num_keep", DEFAULT_NUM_KEEP))
        return GenerationRequest(
            model=call.model,
            endpoint=call.endpoint,
            messages=messages,
            prompt=fields.get("prompt", ""),
            suffix=fields.get("suffix", ""),
            raw=fields.get("raw", False),
            images=tuple(each for message in messages for each in message.images),
            tools=tuple(call.body["tools"]) if fields.get("tools") else (),
            format=_format(call),
            think=True if think is None and "thinking" in card.capabilities else think,
            options=options,
            truncate=self._version.may_cut(card, call.endpoint, truncate=truncate, shift=call.shifts),
            prompt_limit=prompt_limit,
            cut_to=cut_to,
            shift=call.shifts,
            logprobs=fields.get("logprobs", False),
            top_logprobs=fields.get("top_logprobs", 0),
            streams=call.streams,
            body=call.body,
        )

    async def _fitting(self, resident: Resident, request: GenerationRequest) -> GenerationRequest:
        """The request without the oldest messages that do not fit; system messages and the last one always stay."""
        messages = request.messages
        if request.body.get("truncate") is False or len(messages) <= 1:
            return request
        candidate = request
        for start in range(len(messages)):
            system = tuple(each for each in messages[:start] if each.role == "system")
            candidate = replace(request, messages=(*system, *messages[start:])) if start else request
            try:
                tokens = await resident.runner.count_tokens(candidate)
            except EngineCrashedError:
                raise ApiError(500, errors.RUNNER_STOPPED) from None
            if tokens <= resident.settings.num_ctx:
                break
        return candidate

    async def _generate(
        self, exchange: Exchange, call: Call, resident: Resident, request: GenerationRequest, loaded: float
    ) -> None:
        pieces = self._pieces(call, resident, request, self._fault(AT_ANSWER, call, exchange))
        kind = StreamedAnswer if call.streams else WholeAnswer
        answer = kind(exchange, call.model, call.endpoint)
        try:
            finish = await self._write(pieces, answer, exchange if call.streams else None)
            if finish is None:
                answer.end()
            else:
                answer.finish(finish, self._metrics(call, finish, loaded))
        except EngineCrashedError:
            answer.fail(errors.RUNNER_FAILED if answer.pieces else errors.RUNNER_STOPPED)
        except ContextExceededError as error:
            raise ApiError(400, self._too_long(error, call)) from None
        except EngineError as error:
            answer.fail(str(error))
        except Struck as struck:
            if struck.active.fault in KILLS:
                await resident.runner.close()
            await strike(struck.active, exchange, answer)
        finally:
            await pieces.aclose()

    def _fault(self, stage: frozenset[Fault], call: Call, exchange: Exchange) -> ActiveFault | None:
        """The fault that hits a call at a stage, if one is set."""
        return self._faults.take(stage, call.installed.name.key, exchange.received.path) if self._faults else None

    def _pieces(
        self, call: Call, resident: Resident, request: GenerationRequest, fault: ActiveFault | None
    ) -> AsyncGenerator[Piece | Finish, None]:
        """What the model says, and what a fault makes of it."""
        generate, num_ctx = resident.runner.generate, resident.settings.num_ctx
        if fault is None:
            return generate(request)
        request = replace(request, streams=True)  # a fault strikes between the pieces that a stream would have
        if fault.fault is Fault.PROMPT_CUT:
            left = fault.size or num_ctx // 2
            return generate(replace(request, truncate=True, prompt_limit=left, cut_to=left))
        if fault.fault is Fault.PROMPT_TOO_LONG:
            raise ApiError(400, self._too_long(ContextExceededError(prompt_tokens=2 * num_ctx, num_ctx=num_ctx), call))
        predicted = request.options.get("num_predict", -1)
        limit = predicted if predicted > 0 else 10 * num_ctx
        return afflicted(generate(request), fault, self._clock, limit)

    async def _write(
        self, pieces: AsyncGenerator[Piece | Finish, None], answer: Answer, streamed_to: Exchange | None
    ) -> Finish | None:
        """Pass on every piece; gives the finish, or None where the runner ends without one."""
        tool_calls = 0
        async for item in pieces:
            if isinstance(item, Finish):
                return item
            if item.tool_calls:
                item = self._numbered(item, tool_calls)  # noqa: PLW2901 - the same piece, numbered
                tool_calls += len(item.tool_calls)
            answer.pieces += 1
            answer.add(item)
            if streamed_to is not None:
                await streamed_to.drain()
        return None

    def _numbered(self, piece: Piece, first: int) -> Piece:
        """A piece whose tool calls have ids and places in the answer."""
        numbered = [
            replace(each, id=each.id or call_id(next(self._call_ids)), index=first + at)
            for at, each in enumerate(piece.tool_calls)
        ]
        return piece._replace(tool_calls=tuple(numbered))

    def _too_long(self, error: ContextExceededError, call: Call) -> str:
        if not self._version.llama_server:
            return errors.INPUT_TOO_LONG
        if self._version.halves_prompts and not call.shifts and call.fields.get("truncate") is not False:
            return errors.PROMPT_TOO_LONG
        return errors.context_exceeded(error.prompt_tokens, error.num_ctx)

    def _metrics(self, call: Call, finish: Finish, loaded: float) -> dict[str, int]:
        """Counts, and times in nanoseconds; what is 0 is left out."""
        metrics = {
            "total_duration": max(1, int((self._clock.monotonic() - call.begun) * 1e9)),
            "load_duration": max(1, int((loaded - call.begun) * 1e9)),
            "prompt_eval_count": finish.prompt_tokens,
            "prompt_eval_duration": max(1, int(finish.prompt_seconds * 1e9)),
            "eval_count": finish.output_tokens,
            "eval_duration": max(1, int(finish.output_seconds * 1e9)),
        }
        return {name: value for name, value in metrics.items() if value}


def _check_abilities(call: Call, denied: Collection[str]) -> None:
    """See to it that the model can do what is asked.

    Raises:
        ApiError: 400 with what it cannot do.
    """
    fields = call.fields
    capabilities = [each for each in call.installed.card.capabilities if each not in denied]
    if fields.get("raw") and any(fields.get(each) for each in ("template", "system", "context")):
        raise ApiError(400, "raw mode does not support template, system, or context")
    if "thinking" not in capabilities and fields.get("think"):
        raise ApiError(400, f'"{call.model}" does not support thinking')
    if "completion" not in capabilities:
        raise ApiError(400, f'"{call.model}" does not support {call.endpoint}')
    wanted = [need for need, field in (("tools", "tools"), ("insert", "suffix")) if fields.get(field)]
    check_capabilities(call.installed, wanted, capabilities)


def _messages(call: Call) -> tuple[ChatMessage, ...]:
    """The conversation, with the system text of the model where the request brings none."""
    fields, system = call.fields, call.installed.card.system
    if call.endpoint == "chat":
        messages = tuple(map(calls.message, fields["messages"]))
        if messages[0].role == "system":
            return messages
    elif fields.get("raw"):
        return ()
    else:
        images = tuple(fields.get("images") or ())
        messages = (ChatMessage(role="user", content=fields["prompt"], images=images),)
        system = fields.get("system") or system
    return (ChatMessage(role="system", content=system), *messages) if system else messages


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


def _respond_empty(exchange: Exchange, call: Call, reason: str) -> None:
    """The answer to a request that only loads or unloads."""
    line = {"model": call.model, "created_at": now(), **content(call.endpoint, Piece())}
    exchange.respond(200, dumps(line | {"done": True, "done_reason": reason}), JSON)
