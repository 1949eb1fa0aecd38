"""LlamaIndex's messages and responses, as the core sees them. Reads only: nothing a caller handed in is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.llms.ollama import Ollama

from routed_ollama import (
    Attempt,
    Candidate,
    Conversations,
    Message,
    OfferedTools,
    continuation_messages,
    fingerprint,
    seconds,
)

_ROLES = {
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.FUNCTION: "tool",
    MessageRole.DEVELOPER: "system",
}


def to_core(messages: Sequence[ChatMessage]) -> list[Message]:
    """Return the conversation in the core's own words."""
    return [_to_core(message) for message in messages]


def _to_core(message: ChatMessage) -> Message:
    blocks = message.blocks
    return Message(
        _ROLES.get(message.role, message.role.value),
        text_of(message),
        sum(isinstance(block, ImageBlock) for block in blocks),
        tool_calls=len(_calls(message)),
        thinking=any(isinstance(block, ThinkingBlock) for block in blocks),
    )


def text_of(message: ChatMessage) -> str:
    """Return a message's plain text."""
    return "".join(block.text for block in message.blocks if isinstance(block, TextBlock))


def _calls(message: ChatMessage) -> list[Any]:
    calls = [[block.tool_name, block.tool_kwargs] for block in message.blocks if isinstance(block, ToolCallBlock)]
    return calls or list(message.additional_kwargs.get("tool_calls") or ())


def _keys(message: ChatMessage, before: ChatMessage | None) -> tuple[str, str]:
    """What an answer is known by: its words after those that it answers; and its own alone.

    The latter is for engines that keep another question than they had asked. It may be another conversation's as well,
    so it is looked for last.
    """
    own = f"message {fingerprint(text_of(message).strip(), _calls(message))}"
    return f"{own} after {fingerprint('' if before is None else text_of(before).strip())}", own


def note_author(
    known: Conversations, messages: Sequence[ChatMessage], response: ChatResponse, candidate: Candidate
) -> None:
    """Remember who wrote an answer: LlamaIndex's messages do not say."""
    for key in _keys(response.message, messages[-1] if messages else None):
        known.note(key, candidate)


def answering(known: Conversations, messages: Sequence[ChatMessage]) -> tuple[Candidate | None, bool]:
    """Return who is answering a conversation, and whether it must stay so: tool calls or reasoning are in it."""
    answers = [at for at, message in enumerate(messages) if message.role is MessageRole.ASSISTANT]
    for at in reversed(answers):
        for key in _keys(messages[at], messages[at - 1] if at else None):
            if candidate := known.of(key):
                return candidate, any(_binds(messages[answer]) for answer in answers)
    return None, False


def _binds(answer: ChatMessage) -> bool:
    return bool(_calls(answer)) or any(isinstance(block, ThinkingBlock) for block in answer.blocks)


def continued(messages: Sequence[ChatMessage], attempt: Attempt) -> Sequence[ChatMessage]:
    """Return the messages to send: with what stands already, when an answer broke off."""
    if not attempt.continues:
        return messages
    added = continuation_messages(attempt.continues, prefill=bool(attempt.info.continues_prefill))
    return [*messages, *(ChatMessage(content=text, role=MessageRole(role)) for role, text in added)]


def going_on(plain: Ollama, attempt: Attempt) -> dict[str, Any]:
    """Return the fields in which a model that goes on with an answer differs from the plain one.

    It is given what is left of the answer's limit, and does not think: that was done before the answer began.
    """
    options = plain.additional_kwargs
    limit = options.get("num_predict")
    left = attempt.left_of(limit)
    fields: dict[str, Any] = {} if left == limit else {"additional_kwargs": {**options, "num_predict": left}}
    return {**fields, "thinking": False} if "thinking" in attempt.info.flags or plain.thinking else fields


def called(response: ChatResponse) -> list[str]:
    """Return the names of the tools that an answer calls."""
    return [block.tool_name for block in response.message.blocks if isinstance(block, ToolCallBlock)]


def calling(response: ChatResponse, tools: OfferedTools | None) -> ChatResponse:
    """Return an answer with the calls that are written into its text as calls; one that has none as it is."""
    written = () if tools is None or called(response) else tools.calls_in(response.message.content or "")
    if not written:
        return response
    thoughts = [block for block in response.message.blocks if isinstance(block, ThinkingBlock)]
    calls = [ToolCallBlock(tool_name=call.name, tool_kwargs=call.arguments) for call in written]
    message = ChatMessage(role=response.message.role, blocks=[*thoughts, TextBlock(text=""), *calls])
    return response.model_copy(update={"message": message, "delta": None if response.delta is None else ""})


def line_of(response: ChatResponse | None) -> Mapping[str, Any]:
    """Return Ollama's own line of a response; of none, one that is not the last."""
    raw = None if response is None else response.raw
    if isinstance(raw, Mapping):
        return raw
    return {"done": False} if response is None else {}


def usable(response: ChatResponse) -> bool:
    """Whether a whole answer carries a tool call, reasoning, or text that is more than white space."""
    return any(
        isinstance(block, ToolCallBlock)
        or (isinstance(block, ThinkingBlock) and bool(block.content))
        or (isinstance(block, TextBlock) and bool(block.text.strip()))
        for block in response.message.blocks
    )


class LlamaIndexChunks:
    """How the core's loops look at LlamaIndex's chunks; see ``routed_ollama.ChunkView``.

    Attributes:
        replaces: whether a reader takes each chunk for all before it; of plain chunks the added text may be used.
    """

    replaces = False

    def text(self, chunk: ChatResponse, /) -> str:
        """Return the plain text it adds."""
        return chunk.delta or ""

    def usable(self, chunk: ChatResponse, /) -> bool:
        """Whether it carries a tool call, reasoning, or text that is more than white space."""
        if chunk.delta and chunk.delta.strip():
            return True
        return bool(chunk.additional_kwargs.get("thinking_delta")) or not self.joinable(chunk)

    def joinable(self, chunk: ChatResponse, /) -> bool:
        """Whether it is plain text, which another model can go on with."""
        return not isinstance(chunk.message.blocks[-1], ToolCallBlock)

    def only_text(self, chunk: ChatResponse, /) -> str:
        """Return the text that a chunk adds that is text and nothing else, and not the last; empty for any other."""
        if self.done(chunk) or not self.joinable(chunk):
            return ""
        return chunk.delta or ""

    def done(self, chunk: ChatResponse, /) -> bool:
        """Whether it is the server's last line."""
        return line_of(chunk).get("done") is True

    def with_text(self, chunk: ChatResponse, text: str, /) -> ChatResponse:
        """Return it with other text."""
        return chunk.model_copy(update={"delta": text})

    def with_route(self, chunk: ChatResponse, attempt: Attempt, /) -> ChatResponse:
        """Put the route into what it carries of Ollama's line."""
        line = line_of(chunk)
        attempt.load_seconds = seconds(line.get("load_duration"))
        attempt.prompt_tokens, attempt.output_tokens = line.get("prompt_eval_count"), line.get("eval_count")
        chunk.raw = {**line, "routing": attempt.route()}
        total = attempt.usage()
        if total is None:
            return chunk
        usage = _usage(*total)  # of all who had a part; what the last of them took stands in Ollama's own counts
        return chunk.model_copy(update={"raw": {**chunk.raw, "usage": usage}})


class ValueChunks(LlamaIndexChunks):
    """Chunks of a value that is parsed as it comes.

    Each is parsed with all before it into one that stands for the former, so a fresh answer may follow.
    """

    replaces = True


class JsonChunks(ValueChunks):
    """Chunks of an object or an array: it begins with the first bracket."""

    def usable(self, chunk: ChatResponse, /) -> bool:
        """Whether an object or an array may begin in it."""
        return any(bracket in (chunk.delta or "") for bracket in "{[")


def _usage(prompt_tokens: int, output_tokens: int) -> dict[str, int]:
    """As the plain class writes it."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": prompt_tokens + output_tokens,
    }


CHUNKS = LlamaIndexChunks()
VALUE_CHUNKS = ValueChunks()
JSON_CHUNKS = JsonChunks()


class WholeText:
    """Every chunk of LlamaIndex's says the whole text so far; after a seam that is more than its model wrote."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._thoughts: list[ThinkingBlock] = []

    def before_seam(self, chunk: ChatResponse) -> None:
        """Remember what a chunk added that was handed out before any seam."""
        self._text.append(chunk.delta or "")
        if not self._thoughts or len(chunk.message.blocks) > 1:
            self._thoughts = [block for block in chunk.message.blocks if isinstance(block, ThinkingBlock)]

    def after_seam(self, chunk: ChatResponse) -> ChatResponse:
        """Return a chunk of the model that goes on, with the whole text."""
        self._text.append(chunk.delta or "")
        own = [block for block in chunk.message.blocks if not isinstance(block, TextBlock | ThinkingBlock)]
        blocks = [*self._thoughts, TextBlock(text="".join(self._text)), *own]
        return chunk.model_copy(update={"message": ChatMessage(role=chunk.message.role, blocks=blocks)})
