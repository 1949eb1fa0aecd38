"""Models that say what they are told to: an :class:`~routed_ollama.testing.engine.Engine` without weights.

Everything a real model does to an answer is done here too: ``stop``, ``num_predict``, the context's length, speeds, thinking,
tool calls, log probabilities. One piece of a script is one token.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import zlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
from typing import Any, Literal

from routed_ollama.testing import replies
from routed_ollama.testing.clock import Clock, SystemClock, sleep
from routed_ollama.testing.engine import (
    ContextExceededError,
    EngineCrashedError,
    Finish,
    GenerationRequest,
    LoadFailedError,
    LoadSettings,
    ModelCard,
    Piece,
    ToolCall,
    digest_of,
)
from routed_ollama.testing.faults import Fault
from routed_ollama.testing.names import parse_name

_TOKEN = re.compile(r"\s*\S+|\s+")
_SIZE_IN_TAG = re.compile(r"(?:^|[-_x])(\d+(?:\.\d+)?)([bm])(?=$|[-_])", re.IGNORECASE)
_BITS = {"Q2": 3.0, "Q3": 3.9, "Q4": 4.8, "Q5": 5.7, "Q6": 6.6, "Q8": 8.5, "F16": 16.0, "BF": 16.0, "F32": 32.0}
"""Bits per weight of llama.cpp's quantizations, about."""
CHARACTERS_PER_TOKEN = 4
"""How long prompts are counted: a common rule of thumb for English."""

_HEAD = "{{- if .Tools }}<|im_start|>system\n{{ range .Tools }}{{ . }}\n{{ end }}<|im_end|>\n{{ end }}"
_CLOSED = "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
_OPEN = (
    "{{- range $i, $_ := .Messages }}{{- $last := eq (len (slice $.Messages $i)) 1 }}<|im_start|>{{ .Role }}\n"
    '{{ .Content }}{{ if not (and (eq .Role "assistant") $last) }}<|im_end|>\n'
    "{{ if $last }}<|im_start|>assistant\n{{ end }}{{ end }}{{ end }}"
)


class Gate:
    """A place in a script where the model stops until the test lets it go on. Safe to use from any thread.

    Example:
        >>> gate = Gate()
        >>> model = ScriptedModel("m", reply=["one ", gate, "two"])
        >>> gate.open()
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_open = False
        self._reached = threading.Event()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def open(self) -> None:
        """Let everyone through, now and later."""
        with self._lock:
            self._is_open = True
            waiters, self._waiters = self._waiters, []
        for loop, waiter in waiters:
            if not loop.is_closed():
                loop.call_soon_threadsafe(lambda each=waiter: each.done() or each.set_result(None))

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
            loop = asyncio.get_running_loop()
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiters.append((loop, waiter))
        await waiter


Part = str | Piece | ToolCall | Gate
Script = str | Iterable[Part] | AsyncIterable[Part]
Reply = Script | Callable[[GenerationRequest], Script]


class ScriptedModel:
    """An installed model that answers from a script.

    Args:
        name: as it is installed; ``:latest`` when it has no tag.
        reply: what it answers: a text (one word is one token), pieces in order (each is one chunk of a stream; a
            :class:`Gate` among them waits), or a function of the request that gives either, or an async iterator of pieces.
            Left out, it repeats what it is asked, calls a tool when it is given some, and obeys ``format``.
        load_seconds: what loading takes; a :class:`Gate`: until it is opened.
        tokens_per_second: how fast it writes; None: at once.
        prompt_tokens_per_second: how fast it reads; None: at once.
        capabilities: Ollama's words: completion, tools, insert, vision, embedding, thinking.
        thinking: what it thinks before it answers; gives it the capability.
        tool_calls: the tools it calls when it is given tools and the last word is the user's.
        family, parameter_size, quantization, context_length, size: what it says of itself; sizes in bytes, lengths in
            tokens. Parameters and family are read from the name where they are left out.
        template, system, parameters, license, model_info: the same, as in a Modelfile.
        continues_prefill: whether a last message of the assistant is gone on from; also chooses the default template.
        weights: models with the same are aliases and share a runner; default: its own.
        load_error: it cannot be loaded, and this is why.
        faults: what goes wrong with it from the start, always.
        digest, modified_at, tensors, bytes_per_context_token, remote_host, remote_model: see
            :class:`~routed_ollama.testing.engine.ModelCard`.

    Example:
        >>> ScriptedModel("llama3.1:8b", reply="Hello.").card.parameter_size
        '8.0B'
    """

    def __init__(
        self,
        name: str,
        reply: Reply | None = None,
        *,
        load_seconds: float | Gate = 0.0,
        tokens_per_second: float | None = None,
        prompt_tokens_per_second: float | None = None,
        capabilities: Iterable[str] = ("completion", "tools"),
        thinking: str = "",
        tool_calls: Iterable[ToolCall] = (),
        family: str = "",
        parameter_size: str = "",
        quantization: str = "Q4_K_M",
        context_length: int = 8192,
        size: int = 0,
        template: str | None = None,
        system: str = "",
        license: str = "",  # noqa: A002 - Ollama's word
        parameters: Mapping[str, Any] | None = None,
        model_info: Mapping[str, Any] | None = None,
        continues_prefill: bool | None = None,
        weights: str = "",
        load_error: str = "",
        faults: Iterable[Fault] = (),
        **card: Any,
    ) -> None:
        parsed = parse_name(name)
        capabilities = tuple(capabilities)
        if thinking and "thinking" not in capabilities:
            capabilities = (*capabilities, "thinking")
        if template is None:
            template = (_HEAD if "tools" in capabilities else "") + (_OPEN if continues_prefill else _CLOSED)
        parameter_size = parameter_size or _parameter_size(parsed.tag)
        size = size or int(_count(parameter_size) * _bits(quantization) / 8) + 1_000_000
        weights = digest_of("weights", weights or parsed.key)
        identity = (weights, template, system, json.dumps(dict(parameters or {}), sort_keys=True), *capabilities)
        self.card = ModelCard(
            **{
                "name": parsed.short,
                "digest": digest_of(*identity),
                "weights": weights,
                "size": size,
                "capabilities": capabilities,
                "context_length": context_length,
                "family": family or _family(parsed.model),
                "parameter_size": parameter_size,
                "quantization": quantization,
                "template": template,
                "system": system,
                "license": license,
                "parameters": dict(parameters or {}),
                "model_info": dict(model_info or {}),
                "continues_prefill": "$last" in template if continues_prefill is None else continues_prefill,
                **card,
            }
        )
        self.reply = reply
        self.thinking = thinking
        self.tool_calls = tuple(tool_calls)
        self.load_seconds = load_seconds
        self.tokens_per_second = tokens_per_second
        self.prompt_tokens_per_second = prompt_tokens_per_second
        self.load_error = load_error
        self.faults = tuple(faults)
        self.clock: Clock = SystemClock()

    async def load(self, settings: LoadSettings) -> ScriptedRunner:
        """Bring it into memory, in the time it was told to take."""
        if isinstance(self.load_seconds, Gate):
            await self.load_seconds.passed()
        else:
            await sleep(self.clock, self.load_seconds)
        if self.load_error:
            raise LoadFailedError(self.load_error)
        return ScriptedRunner(self, settings)


class ScriptedRunner:
    """A scripted model in memory."""

    def __init__(self, model: ScriptedModel, settings: LoadSettings) -> None:
        self._model = model
        self._settings = settings
        self.alive = True

    async def count_tokens(self, request: GenerationRequest) -> int:
        """Tokens of the whole prompt."""
        return _prompt_tokens(request)

    async def close(self) -> None:
        """Free everything; what is being answered dies."""
        self.alive = False

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Piece | Finish, None]:
        """Answer from the script."""
        model, clock = self._model, self._model.clock
        begun = clock.monotonic()
        prompt_tokens = _prompt_tokens(request)
        if prompt_tokens > self._settings.num_ctx:
            if not request.truncate:
                raise ContextExceededError(prompt_tokens=prompt_tokens, num_ctx=self._settings.num_ctx)
            prompt_tokens = self._settings.num_ctx
        if model.prompt_tokens_per_second:
            await sleep(clock, prompt_tokens / model.prompt_tokens_per_second)
        evaluated = clock.monotonic()
        limit = self._limit(request, prompt_tokens)
        stopper = _Stopper(request.options.get("stop") or ())
        reason: Literal["stop", "length"] = "stop"
        tokens = 0
        async for piece in _pieces(model, request):
            if tokens == limit:
                reason = "length"
                break
            tokens += 1
            if model.tokens_per_second:
                await sleep(clock, evaluated + tokens / model.tokens_per_second - clock.monotonic())
            if not self.alive:
                raise EngineCrashedError("the runner was closed")
            passed = stopper.add(piece)
            if passed is not None:
                yield _with_logprobs(passed, request) if request.logprobs else passed
            if stopper.hit:
                break
        held = stopper.rest()
        if held:
            yield Piece(held)
        yield Finish(
            reason=reason,
            prompt_tokens=prompt_tokens,
            prompt_seconds=evaluated - begun,
            output_tokens=tokens,
            output_seconds=clock.monotonic() - evaluated,
            context=_context(request) if request.endpoint == "generate" and not request.raw else (),
        )

    def _limit(self, request: GenerationRequest, prompt_tokens: int) -> int:
        """How many tokens it may write; -1: any number. 0 and below mean no limit, as recorded."""
        asked = request.options.get("num_predict", -1)
        most = 10 * self._settings.num_ctx
        limit = asked if 0 < asked <= most else most
        if not request.shift:
            limit = min(limit, self._settings.num_ctx - prompt_tokens + 1)
        return limit


async def _pieces(model: ScriptedModel, request: GenerationRequest) -> AsyncGenerator[Piece, None]:
    """The script of one answer, token by token."""
    if model.thinking and request.think is not False:
        for token in _TOKEN.findall(model.thinking):
            yield Piece(thinking=token)
    script: Script | None = model.reply(request) if callable(model.reply) else model.reply
    if script is None:
        calls = model.tool_calls if model.tool_calls and request.tools else replies.default_tool_calls(request)
        last = request.messages[-1] if request.messages else None
        if calls and (last is None or last.role == "user"):
            for call in calls:
                yield Piece(tool_calls=(call,))
            return
        script = _continued(model, request, replies.default_text(request))
    if isinstance(script, str):
        for token in _TOKEN.findall(script):
            yield Piece(token)
    elif isinstance(script, AsyncIterable):
        async for part in script:
            if (piece := await _piece(part)) is not None:
                yield piece
    else:
        for part in script:
            if (piece := await _piece(part)) is not None:
                yield piece


async def _piece(part: Part) -> Piece | None:
    if isinstance(part, str):
        return Piece(part)
    if isinstance(part, ToolCall):
        return Piece(tool_calls=(part,))
    if isinstance(part, Gate):
        await part.passed()
        return None
    return part


def _continued(model: ScriptedModel, request: GenerationRequest, text: str) -> str:
    """What is left of an answer whose beginning the request has put into the assistant's mouth."""
    last = request.messages[-1] if request.messages else None
    if last is None or last.role != "assistant" or not model.card.continues_prefill:
        return text
    return text.removeprefix(last.content) if text.startswith(last.content) else f" {text}"


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
        return Piece(text, piece.thinking, piece.tool_calls, piece.logprobs) if text else None

    def rest(self) -> str:
        """What was held back and turned out to be text."""
        return self._held

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """How much of the text's end is the beginning of a stop sequence."""
        return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)


def _prompt_tokens(request: GenerationRequest) -> int:
    """A prompt's length: four characters a token, and a few for each message's frame."""
    if request.raw or not request.messages:
        return len(request.prompt) // CHARACTERS_PER_TOKEN + 1
    characters = sum(len(each.content) + len(each.thinking) for each in request.messages)
    calls = sum(len(each.tool_calls) for each in request.messages)
    tools = len(json.dumps(request.tools)) if request.tools else 0
    return (characters + tools) // CHARACTERS_PER_TOKEN + 4 * len(request.messages) + 16 * calls + 4


def _with_logprobs(piece: Piece, request: GenerationRequest) -> Piece:
    if not piece.text:
        return piece
    alternatives = [piece.text, *(f"{piece.text}{at}" for at in range(1, request.top_logprobs))]
    entry = _logprob(piece.text, 0)
    if request.top_logprobs:
        entry["top_logprobs"] = [_logprob(text, at) for at, text in enumerate(alternatives)]
    return Piece(piece.text, piece.thinking, piece.tool_calls, (entry,))


def _logprob(text: str, rank: int) -> dict[str, Any]:
    return {"token": text, "logprob": -0.25 - rank, "bytes": list(text.encode())}


def _context(request: GenerationRequest) -> tuple[int, ...]:
    """Numbers that stand for the prompt's tokens."""
    data = request.prompt.encode()
    return tuple(
        zlib.crc32(data[at : at + CHARACTERS_PER_TOKEN]) % 32_000 for at in range(0, len(data), CHARACTERS_PER_TOKEN)
    )


def _parameter_size(tag: str) -> str:
    found = _SIZE_IN_TAG.search(tag)
    if not found:
        return "8.0B"
    number, unit = float(found[1]), found[2].upper()
    return f"{number:.1f}B" if unit == "B" and number >= 1 else f"{number * (1000 if unit == 'B' else 1):.2f}M"


def _count(parameter_size: str) -> float:
    units = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
    number = parameter_size.rstrip("KMBT")
    return float(number or 0) * units.get(parameter_size[-1:], 1.0)


def _bits(quantization: str) -> float:
    return next((bits for prefix, bits in _BITS.items() if quantization.upper().startswith(prefix)), 4.8)


def _family(model: str) -> str:
    letters = re.match(r"[a-z]+\d?", model.lower())
    family = letters[0] if letters else "llama"
    return "llama" if "llama" in family or "mistral" in family else family
