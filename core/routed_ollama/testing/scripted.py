"""Models that say what they are told to: an :class:`~routed_ollama.testing.engine.Engine` without weights.

Everything a real model does to an answer is done here too: ``stop``, ``num_predict``, the context's length, speeds,
thinking, tool calls, log probabilities. One piece of a script is one token.
"""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from collections.abc import AsyncGenerator, AsyncIterable, Coroutine, Iterable, Mapping
from typing import Any

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
from routed_ollama.testing.script import Gate, Reply, Script, Writer, whole_script

_SIZE_IN_TAG = re.compile(r"(?:^|[-_x])(\d+(?:\.\d+)?)([bm])(?=$|[-_])", re.IGNORECASE)
_DIGEST = re.compile("[0-9a-f]{64}")
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


class ScriptedModel:
    """An installed model that answers from a script.

    Args:
        name: as it is installed; ``:latest`` when it has no tag.
        reply: what it answers: a text (one word is one token), pieces in order (each is one chunk of a stream; a
            :class:`Gate` among them waits), or a function of the request that gives either, or an async iterator of
            pieces. Left out, it repeats what it is asked, calls a tool when it is given some, and obeys ``format``.
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
        weights: models with the same are aliases and share a runner: a digest, or any text; default: its own.
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
        parameters = dict(parameters or {})
        if isinstance(parameters.get("stop"), str):
            parameters["stop"] = [parameters["stop"]]
        capabilities = tuple(capabilities)
        if thinking and "thinking" not in capabilities:
            capabilities = (*capabilities, "thinking")
        if template is None:
            template = (_HEAD if "tools" in capabilities else "") + (_OPEN if continues_prefill else _CLOSED)
        parameter_size = parameter_size or _parameter_size(parsed.tag)
        size = size or int(_count(parameter_size) * _bits(quantization) / 8) + 1_000_000
        if not _DIGEST.fullmatch(weights):
            weights = digest_of("weights", weights or parsed.key)
        identity = (weights, template, system, json.dumps(parameters, sort_keys=True), *capabilities)
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
                "parameters": parameters,
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
        self._dead = asyncio.Event()

    @property
    def alive(self) -> bool:
        """Whether it was not closed."""
        return not self._dead.is_set()

    async def count_tokens(self, request: GenerationRequest) -> int:
        """Tokens of the whole prompt."""
        return _prompt_tokens(request)

    async def close(self) -> None:
        """Free everything; what is being answered dies."""
        self._dead.set()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Piece | Finish, None]:
        """Answer from the script."""
        model, clock = self._model, self._model.clock
        self._check()
        begun = clock.monotonic()
        prompt_tokens = self._cut(request)
        if model.prompt_tokens_per_second:
            await self._unless_dead(sleep(clock, prompt_tokens / model.prompt_tokens_per_second))
        evaluated = clock.monotonic()
        writer = Writer(request, self._limit(request, prompt_tokens))
        script = _script(model, request)
        whole = None if model.tokens_per_second else writer.at_once(script)
        if whole is not None:
            yield whole
        else:
            async for piece in self._paced(script, writer, evaluated):
                yield piece
        yield Finish(
            writer.reason,
            prompt_tokens,
            evaluated - begun,
            writer.tokens,
            clock.monotonic() - evaluated,
            _context(request) if request.endpoint == "generate" and not request.raw else (),
        )

    async def _paced(self, script: Script, writer: Writer, begun: float) -> AsyncGenerator[Piece, None]:
        """The pieces of a script, at the model's speed."""
        clock, rate = self._model.clock, self._model.tokens_per_second
        async for part in script if isinstance(script, AsyncIterable) else whole_script("", script):
            if isinstance(part, Gate):
                await self._unless_dead(part.passed())
                continue
            if rate:
                await self._unless_dead(sleep(clock, begun + (writer.tokens + 1) / rate - clock.monotonic()))
            self._check()
            piece = writer.add(part)
            if piece is not None:
                yield piece
            if writer.ended:
                break
        rest = writer.rest()
        if rest is not None:
            yield rest

    def _check(self) -> None:
        if self._dead.is_set():
            raise EngineCrashedError("the runner was closed")

    async def _unless_dead(self, wait: Coroutine[Any, Any, None]) -> None:
        """Wait for something, but not beyond this runner's death."""
        tasks = {asyncio.ensure_future(wait), asyncio.ensure_future(self._dead.wait())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        self._check()

    def _cut(self, request: GenerationRequest) -> int:
        """Tokens of the prompt that are evaluated."""
        tokens, num_ctx = _prompt_tokens(request), self._settings.num_ctx
        limit = request.prompt_limit or num_ctx
        if tokens <= limit:
            return tokens
        if not request.truncate:
            raise ContextExceededError(prompt_tokens=tokens, num_ctx=num_ctx)
        return request.cut_to or limit

    def _limit(self, request: GenerationRequest, prompt_tokens: int) -> int:
        """How many tokens it may write. ``num_predict`` of 0 and below: no limit but ten contexts, as in Ollama."""
        asked = request.options.get("num_predict", -1)
        most = 10 * self._settings.num_ctx
        limit = asked if 0 < asked <= most else most
        return limit if request.shift else min(limit, self._settings.num_ctx - prompt_tokens + 1)


def _script(model: ScriptedModel, request: GenerationRequest) -> Script:
    """What the model says to a request, its thinking first."""
    script: Script | None = model.reply(request) if callable(model.reply) else model.reply
    if script is None:
        calls = model.tool_calls if model.tool_calls and request.tools else replies.default_tool_calls(request)
        last = request.messages[-1] if request.messages else None
        if calls and (last is None or last.role == "user"):
            script = calls
        else:
            script = _continued(model, request, replies.default_text(request))
    if not model.thinking or request.think is False:
        return script
    return whole_script(model.thinking, script)


def _continued(model: ScriptedModel, request: GenerationRequest, text: str) -> str:
    """What is left of an answer whose beginning the request has put into the assistant's mouth."""
    last = request.messages[-1] if request.messages else None
    if last is None or last.role != "assistant" or not model.card.continues_prefill:
        return text
    return text.removeprefix(last.content) if text.startswith(last.content) else f" {text}"


def _prompt_tokens(request: GenerationRequest) -> int:
    """A prompt's length: four characters a token, and a few for each message's frame."""
    if request.raw or not request.messages:
        return len(request.prompt) // CHARACTERS_PER_TOKEN + 1
    characters = sum(len(each.content) + len(each.thinking) for each in request.messages)
    calls = sum(len(each.tool_calls) for each in request.messages)
    tools = len(json.dumps(request.tools)) if request.tools else 0
    return (characters + tools) // CHARACTERS_PER_TOKEN + 4 * len(request.messages) + 16 * calls + 4


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
