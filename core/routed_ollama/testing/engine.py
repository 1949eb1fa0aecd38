"""What the server needs of a model: the border between protocol and scheduling above, and whatever makes words below.

An :class:`Engine` is one installed model. Loading it gives a :class:`Runner`, which answers requests until it is closed
or dies. Everything an engine does happens in the server's event loop, so neither may block it.

Who does what: the server parses and checks the request, merges the model's parameters with the request's options,
schedules, drops old messages that do not fit, and words every line and error on the wire. The runner renders the
prompt, cuts one that is still too long, and obeys ``options`` (``stop``, ``num_predict``, ...) and ``format``.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable


class EngineError(Exception):
    """Something went wrong below the server. Its text is what a client reads, as far as Ollama passes it on."""


class LoadFailedError(EngineError):
    """The model cannot be loaded. The text says why, as a runner would before it exits."""


class OutOfMemoryError(LoadFailedError):
    """There is not enough memory to load the model. Sizes in bytes; 0 when unknown."""

    def __init__(self, text: str = "", *, needed: int = 0, available: int = 0) -> None:
        super().__init__(text)
        self.needed = needed
        self.available = available


class EngineCrashedError(EngineError):
    """The runner died; it is thrown away and the next request loads the model again."""


class ContextExceededError(EngineError):
    """The prompt is longer than the context and the request forbids cutting it (``truncate`` is false)."""

    def __init__(self, *, prompt_tokens: int = 0, num_ctx: int = 0) -> None:
        super().__init__(f"the prompt has {prompt_tokens} tokens and the context {num_ctx}")
        self.prompt_tokens = prompt_tokens
        self.num_ctx = num_ctx


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What an installed model says of itself: all that ``/api/tags`` and ``/api/show`` report."""

    name: str
    """As installed; without a tag it gets ``:latest``."""
    digest: str
    """Of the model's manifest, 64 hexadecimal digits. Equal only for equal models (:func:`digest_of`)."""
    weights: str
    """Digest of the weights alone. Models with equal weights share a runner."""
    size: int
    """Of weights, template and parameters together, in bytes."""
    capabilities: tuple[str, ...] = ("completion",)
    """Ollama's words: completion, tools, insert, vision, embedding, thinking, image, audio."""
    context_length: int = 8192
    """The longest context the model was trained for, in tokens."""
    family: str = "llama"
    """Its architecture, as in ``general.architecture``."""
    parameter_size: str = ""
    """Number of parameters as people write it: ``8.0B``, ``134.52M``."""
    quantization: str = "Q4_K_M"
    template: str = "{{ .Prompt }}"
    """Ollama's (Go) template."""
    system: str = ""
    license: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Default options from the model file; ``stop`` is a list."""
    model_info: Mapping[str, Any] = field(default_factory=dict)
    """Metadata of the weights' file. What is missing of architecture and context length is filled in by the server."""
    tensors: Sequence[Mapping[str, Any]] = ()
    modified_at: str = ""
    """RFC 3339; empty: when the server got it."""
    continues_prefill: bool = False
    """Whether the template leaves a last assistant message open, so that the model goes on from it."""
    bytes_per_context_token: int = 0
    """Resident memory that one token of context takes; 0: estimated from ``size``."""
    remote_host: str = ""
    """Set for a model that only stands for one in somebody's cloud."""
    remote_model: str = ""
    native_template: bool = False
    """Whether it has a chat template of its own instead of Ollama's: from 0.30 on it refuses what is too long."""

    def resident_bytes(self, num_ctx: int) -> int:
        """Estimate of the memory it takes when loaded with a context of so many tokens."""
        return self.size + num_ctx * (self.bytes_per_context_token or self.size // 40_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """With what a model is loaded. Two requests that differ in any of these cannot share a runner."""

    num_ctx: int
    """Context to allocate, in tokens; already cut to what the model was trained for."""
    num_parallel: int = 1
    """Requests that may run at once on this runner."""
    num_batch: int = 512
    num_gpu: int = -1
    main_gpu: int = 0
    use_mmap: bool | None = None
    num_thread: int = 0
    """0: the engine chooses."""
    draft_num_predict: int = 0
    context_shift: bool = True
    """Whether an answer may go on past the end of the context; part of the load from 0.30 on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call of a tool, made by a model or repeated to it in a conversation."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    """The server gives one where the engine does not."""
    index: int = 0
    """Its place among the calls of an answer; the server counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One message of a conversation, as it arrived."""

    role: str
    content: str = ""
    thinking: str = ""
    images: tuple[bytes, ...] = ()
    """Decoded from base64."""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """A checked request for an answer. ``/api/generate`` arrives here too: as messages, or raw."""

    model: str
    """As the client wrote it."""
    endpoint: Literal["chat", "generate"] = "chat"
    messages: tuple[ChatMessage, ...] = ()
    """With the model's own system text. ``/api/generate`` gives its system text and its prompt as messages."""
    prompt: str = ""
    """Of ``/api/generate``, as it arrived; with ``raw`` it goes to the model without a template."""
    suffix: str = ""
    raw: bool = False
    images: tuple[bytes, ...] = ()
    """All images of the request, those of the messages included."""
    tools: tuple[Mapping[str, Any], ...] = ()
    format: Literal["json"] | Mapping[str, Any] | None = None
    """Plain JSON, or a JSON schema."""
    think: bool | str | None = None
    """True, false, a level, or None where the request does not say."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The model's parameters and the request's options together; ``stop`` is a list."""
    truncate: bool = True
    """Whether a prompt that is too long may be cut."""
    prompt_limit: int = 0
    """How many tokens of prompt fit; 0: the whole context."""
    cut_to: int = 0
    """To how many tokens one that does not fit is cut; 0: to what fits."""
    shift: bool = True
    """Whether an answer that reaches the end of the context goes on (the oldest tokens are dropped) or ends there."""
    logprobs: bool = False
    top_logprobs: int = 0
    streams: bool = True
    """False: the client reads everything at the end, so pieces may be of any size."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """The whole request as JSON, for what is not named above."""


class Piece(NamedTuple):
    """What a runner produces, in order. Each becomes one line of a stream, sent at once."""

    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[Mapping[str, Any], ...] = ()
    """Entries as Ollama writes them: ``token``, ``logprob``, ``bytes``, ``top_logprobs``."""


class Finish(NamedTuple):
    """The last thing a runner produces: why it stopped, what it counted, and what it took in seconds."""

    reason: Literal["stop", "length"] = "stop"
    prompt_tokens: int = 0
    prompt_seconds: float = 0.0
    output_tokens: int = 0
    output_seconds: float = 0.0
    context: tuple[int, ...] = ()
    """Tokens of the conversation, which ``/api/generate`` hands back; empty when the engine has none."""


@runtime_checkable
class Runner(Protocol):
    """A model in memory. ``generate`` may run as often at once as it was loaded with ``num_parallel``."""

    @property
    def alive(self) -> bool:
        """Whether it can take another request. A dead one is replaced without an error before it is asked."""
        ...

    async def count_tokens(self, request: GenerationRequest) -> int:
        """Tokens of the whole prompt as it would be rendered, uncut.

        Raises:
            EngineCrashedError: it is dead.
        """
        ...

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Piece | Finish, None]:
        """Answer; the last item is a :class:`Finish`. Closing the generator early stops the work and frees the slot.

        A prompt that does not fit (``prompt_limit``, at most ``num_ctx``) loses its middle or its beginning, down to
        ``cut_to`` tokens, and the count says so.

        Raises:
            ContextExceededError: the prompt is too long and the request forbids to cut it.
            EngineCrashedError: it died, before the first piece or later.
        """
        ...

    async def close(self) -> None:
        """Free everything. Safe to call twice, and on a dead runner."""
        ...


@runtime_checkable
class Engine(Protocol):
    """An installed model."""

    @property
    def card(self) -> ModelCard:
        """What it says of itself. Cheap; asked often."""
        ...

    async def load(self, settings: LoadSettings) -> Runner:
        """Bring it into memory. A cancelled load leaves nothing behind.

        Raises:
            LoadFailedError: it cannot be loaded; :class:`OutOfMemoryError` where memory is why.
        """
        ...


def digest_of(*identity: str | bytes) -> str:
    """SHA-256 of what makes a model what it is, each part with its length, as 64 hexadecimal digits.

    Example:
        >>> digest_of("llama3.1:8b", "4.9 GB")[:8]
        '95f589c7'
    """
    digest = hashlib.sha256()
    for part in identity:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()
