"""A model in memory: a llama.cpp process, and what is said to it.

Law: everything about a request is settled here, before llama.cpp sees it (prompt tokens, cut, limits, grammar), so that
an answer is one call of ``/completion``, whatever was asked. The process is spoken to over loopback only, and it never
outlives this object, nor the process that made it.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from routed_ollama.testing import _llamacpp_child
from routed_ollama.testing._llamacpp_tools import ToolCallReader
from routed_ollama.testing.engine import (
    ChatMessage,
    ContextExceededError,
    EngineCrashedError,
    EngineError,
    Finish,
    GenerationRequest,
    LoadFailedError,
    LoadSettings,
    Piece,
)

_End = TypeVar("_End")
_OPTIONS = {
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repeat_last_n": 64,
    "repeat_penalty": 1.1,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""Ollama's defaults (its api/types.go, DefaultOptions); llama.cpp has the same names and other defaults."""
_PASSED_ON = (*_OPTIONS, "seed", "mirostat", "mirostat_tau", "mirostat_eta")
_NUM_KEEP = 4
"""How many tokens of the beginning survive a cut, unless ``num_keep`` says otherwise (DefaultOptions again)."""
_LONGEST_ANSWER = 10
"""Times ``num_ctx``: where Ollama ends an answer that has no limit (its llm/server.go)."""
_SPARE_CONTEXT = 8
"""llama.cpp refuses a prompt that fills the context to the last token; Ollama does not."""
_CLOSE_SECONDS = 5.0
_LOG_BYTES = 65536
_ERROR_LINE = re.compile(r"^[\d.]+ E (?:\w+ +)*\w+: (?P<text>.+)$")
"""``0.00.032.611 E llama_model_load: error loading model: ...``"""


@dataclass(frozen=True, slots=True)
class Weights:
    """What the process is started with, beside the server's settings."""

    path: str
    threads: int
    context_length: int
    """The longest context it was trained for, in tokens; llama.cpp allocates no more."""
    template: str = ""
    """A chat template (Jinja) in place of the file's own."""
    continues_prefill: bool = False
    """Leave a last assistant message open, whatever the template does."""


class LlamaCppRunner:
    """A model in memory, as :class:`~routed_ollama.testing.engine.Runner` describes it. Made by :meth:`load`."""

    def __init__(self, process: _Process, weights: Weights, num_ctx: int) -> None:
        self._process = process
        self._weights = weights
        self._num_ctx = num_ctx
        self._prompt_limit = min(num_ctx, weights.context_length - 1)
        self._broken = False
        self._client = httpx.AsyncClient(
            base_url=process.url,
            headers={"Authorization": f"Bearer {process.key}"},
            timeout=httpx.Timeout(None),  # a prompt may be read for minutes; a dead process breaks the connection
            trust_env=False,  # no proxy stands between this process and its child
            limits=httpx.Limits(max_keepalive_connections=0),  # llama.cpp drops idle connections without notice
        )

    @classmethod
    async def load(cls, weights: Weights, settings: LoadSettings) -> LlamaCppRunner:
        """Start a process and wait until it has loaded the model.

        Raises:
            LoadFailedError: it could not; the text is llama.cpp's reason.
        """
        return cls(await _Process.start(weights, settings), weights, settings.num_ctx)

    @property
    def alive(self) -> bool:
        """Whether the process runs and has not broken a connection."""
        return not self._broken and self._process.running

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def url(self) -> str:
        """Where the process listens."""
        return self._process.url

    async def close(self) -> None:
        """End the process and wait for its end. Safe to call twice."""
        self._broken = True
        await self._client.aclose()
        await self._process.end()

    async def count_tokens(self, request: GenerationRequest) -> int:
        """Tokens of the whole prompt as rendered, uncut."""
        return len(await self._prompt(request))

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Piece | Finish, None]:
        """Answer. Closing the generator closes the connection, at which llama.cpp stops."""
        prompt = self._fit(await self._prompt(request), request)
        tools = ToolCallReader(enabled=bool(request.tools))
        answer: list[int] = []
        async with aclosing(self._complete(self._payload(prompt, request))) as events:
            async for event in events:
                answer += event.get("tokens") or ()
                final = bool(event["stop"])
                text, calls = tools.feed(event["content"], final=final)
                logprobs = _logprobs(event, request)
                if text or calls or logprobs:
                    yield Piece(text=text, tool_calls=calls, logprobs=logprobs)
                if final:
                    context = (*prompt, *answer) if request.endpoint == "generate" and not request.raw else ()
                    yield _finish(event, len(prompt), context)

    async def _prompt(self, request: GenerationRequest) -> list[int]:
        """The tokens of the whole prompt. ``context`` of /api/generate, an older conversation's tokens, comes first."""
        text = request.prompt if request.raw else await self._render(request)
        answer = await self._post("/tokenize", {"content": text, "add_special": True, "parse_special": True})
        return [*(request.body.get("context") or ()), *answer["tokens"]]

    async def _render(self, request: GenerationRequest) -> str:
        body: dict[str, Any] = {"messages": [_message(message) for message in request.messages]}
        if request.tools:
            body["tools"] = list(request.tools)
        if self._weights.continues_prefill and request.messages[-1].role == "assistant":
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        return str((await self._post("/apply-template", body))["prompt"])

    def _fit(self, prompt: list[int], request: GenerationRequest) -> list[int]:
        """Cut what is too long behind its first ``num_keep`` tokens, as Ollama does."""
        excess = len(prompt) - self._prompt_limit
        if excess <= 0:
            return prompt
        if not request.truncate:
            raise ContextExceededError(prompt_tokens=len(prompt), num_ctx=self._num_ctx)
        keep = min(_num_keep(request), self._prompt_limit - 1)
        return prompt[:keep] + prompt[keep + excess :]

    def _payload(self, prompt: Sequence[int], request: GenerationRequest) -> dict[str, Any]:
        options: dict[str, Any] = {**_OPTIONS, **request.options}
        payload: dict[str, Any] = {name: options[name] for name in _PASSED_ON if options.get(name) is not None}
        payload |= {"prompt": prompt, "stream": True, "n_predict": self._limit(len(prompt), request)}
        payload["n_keep"] = _num_keep(request)
        payload["stop"] = [text for text in options.get("stop") or () if text]
        if request.logprobs:
            payload["n_probs"] = max(1, request.top_logprobs)
        if request.format is not None:
            payload["json_schema"] = {"type": "object"} if request.format == "json" else request.format
        return payload

    def _limit(self, prompt_tokens: int, request: GenerationRequest) -> int:
        """How long the answer may get. Ollama takes 0 for no limit, as it does -1."""
        longest = _LONGEST_ANSWER * self._num_ctx
        wanted = request.options.get("num_predict") or -1
        limit = min(wanted, longest) if wanted > 0 else longest
        return limit if request.shift else min(limit, self._num_ctx - prompt_tokens + 1)

    async def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        try:
            response = await self._client.post(path, json=body)
        except httpx.TransportError as error:
            raise self._crashed() from error
        if response.is_error:
            raise EngineError(_text_of(response.json()))
        return response.json()

    async def _complete(self, payload: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The events of one answer. An answer that ends without its last event is a crash."""
        try:
            async with self._client.stream("POST", "/completion", json=payload) as response:
                if response.is_error:
                    await response.aread()
                    raise EngineError(_text_of(response.json()))
                async for line in response.aiter_lines():
                    if not line.startswith("data: {"):
                        continue
                    event = json.loads(line[6:])
                    if "error" in event:
                        raise EngineError(_text_of(event))
                    yield event
                    if event["stop"]:
                        return
        except httpx.TransportError as error:
            raise self._crashed() from error
        raise self._crashed()

    def _crashed(self) -> EngineCrashedError:
        self._broken = True
        return EngineCrashedError("unexpected EOF")


class _Process:
    """A child that runs ``_llamacpp_child``: started, told to end, and its last words read."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._log = bytearray()
        self._reader = asyncio.create_task(self._read_log())
        self.url = ""
        self.key = ""

    @classmethod
    async def start(cls, weights: Weights, settings: LoadSettings) -> _Process:
        pipe = asyncio.subprocess.PIPE
        # By its path, not its name: so it imports nothing of this package, and finds it however the parent found it.
        command = (sys.executable, "-P", _llamacpp_child.__file__, *_arguments(weights, settings))
        self = cls(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe))
        try:
            ready = await _pipe(self._process.stdout).readline()
        except asyncio.CancelledError:  # the client has left; while it loads, it cannot hear that its input ended
            with suppress(ProcessLookupError):
                self._process.terminate()
            await self.end()
            raise
        if not ready:
            await self.end()
            raise LoadFailedError(self._last_words(weights.path))
        address = json.loads(ready)
        self.url, self.key = address["url"], address["key"]
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def end(self) -> None:
        _pipe(self._process.stdin).close()
        try:
            await asyncio.wait_for(self._process.wait(), _CLOSE_SECONDS)
        except TimeoutError:  # pragma: no cover - llama.cpp has never been seen to survive the above
            self._process.kill()
            await self._process.wait()
        await self._reader

    async def _read_log(self) -> None:
        """Keep the pipe empty, or the process would wait for it; what matters is how it begins."""
        while chunk := await _pipe(self._process.stderr).read(4096):
            if len(self._log) < _LOG_BYTES:
                self._log += chunk

    def _last_words(self, path: str) -> str:
        """Why it ended, as Ollama's runner puts it: llama.cpp's first error is the cause, the rest is consequence."""
        said = [line for line in self._log.decode(errors="replace").splitlines() if line.strip()]
        errors = [found["text"] for line in said if (found := _ERROR_LINE.match(line))]
        if errors:
            cause = errors[0].removeprefix("error loading model: ")
            return f"error loading model: {cause}\npanic: unable to load model: {path}"
        return said[-1] if said else _exit_text(self._process.returncode or 0)


def _arguments(weights: Weights, settings: LoadSettings) -> list[str]:
    wanted = {
        "ctx": min(settings.num_ctx + _SPARE_CONTEXT, weights.context_length),
        "slots": settings.num_parallel,
        "threads": settings.num_thread or weights.threads,
        "batch": settings.num_batch,
        "gpu-layers": settings.num_gpu,
        "main-gpu": settings.main_gpu,
    }
    arguments = [f"--{name}={value}" for name, value in wanted.items()]
    if weights.template:
        arguments.append(f"--template={weights.template}")
    if settings.use_mmap is False:
        arguments.append("--no-mmap")
    return [*arguments, "--", weights.path]


def _pipe(end: _End | None) -> _End:
    if end is None:  # pragma: no cover - asyncio leaves out only pipes that were not asked for
        raise AssertionError
    return end


def _exit_text(status: int) -> str:
    """As Go words it."""
    return f"exit status {status}" if status >= 0 else f"signal: {signal.strsignal(-status)}".lower()


def _num_keep(request: GenerationRequest) -> int:
    return max(0, int(request.options.get("num_keep", _NUM_KEEP)))


def _text_of(error: Mapping[str, Any]) -> str:
    """llama.cpp's words."""
    return str(error["error"]["message"])


def _message(message: ChatMessage) -> dict[str, Any]:
    """In the words of the OpenAI API, which chat templates are written for. Images have no place in a text model."""
    body: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thinking:
        body["reasoning_content"] = message.thinking
    if message.tool_calls:
        body["tool_calls"] = [
            {
                "type": "function",
                "id": call.id,
                "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments))},
            }
            for call in message.tool_calls
        ]
    if message.tool_name:
        body["name"] = message.tool_name
    if message.tool_call_id:
        body["tool_call_id"] = message.tool_call_id
    return body


def _logprobs(event: Mapping[str, Any], request: GenerationRequest) -> tuple[dict[str, Any], ...]:
    names = ("token", "logprob", "bytes")
    entries = event.get("completion_probabilities") or () if not event["stop"] else ()
    found: list[dict[str, Any]] = []
    for entry in entries:
        found.append({name: entry[name] for name in names})
        if request.top_logprobs:
            found[-1]["top_logprobs"] = [{name: top[name] for name in names} for top in entry["top_logprobs"]]
    return tuple(found)


def _finish(event: Mapping[str, Any], prompt_tokens: int, context: tuple[int, ...]) -> Finish:
    timings = event["timings"]
    return Finish(
        reason="length" if event["stop_type"] == "limit" else "stop",
        prompt_tokens=prompt_tokens,  # all of them, those that llama.cpp still knew from the last request included
        prompt_seconds=timings["prompt_ms"] / 1000,
        output_tokens=timings["predicted_n"],
        output_seconds=timings["predicted_ms"] / 1000,
        context=context,
    )
