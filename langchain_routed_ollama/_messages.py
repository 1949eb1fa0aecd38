"""LangChain's messages and chunks, as the core sees them. Reads only: nothing a caller handed in is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast
from uuid import uuid4

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_ollama import ChatOllama

from routed_ollama import (
    Attempt,
    AttemptPlan,
    Candidate,
    Message,
    OfferedTools,
    continuation_messages,
    seconds,
    with_tag,
)

_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool", "function": "tool"}


def to_core(messages: Sequence[BaseMessage]) -> list[Message]:
    """Return the conversation in the core's own words."""
    return [_to_core(message) for message in messages]


def _to_core(message: BaseMessage) -> Message:
    content = message.content
    role = _ROLES.get(message.type, getattr(message, "role", "user"))
    if isinstance(content, str):
        text, images = content, 0
    else:
        text, images = _blocks(content)
    if not isinstance(message, AIMessage):
        return Message(role, text, images)
    return Message(
        role,
        text,
        images,
        tool_calls=len(message.tool_calls),
        thinking="reasoning_content" in message.additional_kwargs,
        model=written_by(message),
    )


def _blocks(content: Sequence[Any]) -> tuple[str, int]:
    texts, images = [], 0
    for block in content:
        if isinstance(block, str):
            texts.append(block)
        elif isinstance(block, dict):
            if isinstance(block.get("text"), str):
                texts.append(block["text"])
            images += block.get("type") in {"image", "image_url"}
    return "\n".join(texts), images


def written_by(message: AIMessage) -> str | None:
    """Return the model that wrote a message, where its metadata tells."""
    name = message.response_metadata.get("model") or message.response_metadata.get("model_name")
    return name if isinstance(name, str) else None


def answering(messages: Sequence[BaseMessage]) -> tuple[Candidate | None, bool]:
    """Return who is answering a conversation, and whether it must stay so: tool calls or reasoning are in it."""
    answers = [message for message in messages if isinstance(message, AIMessage)]
    for message in reversed(answers):
        if model := written_by(message):
            routing = message.response_metadata.get("routing")
            host = routing.get("host", "") if isinstance(routing, Mapping) else ""
            own = any(answer.tool_calls or "reasoning_content" in answer.additional_kwargs for answer in answers)
            return Candidate(with_tag(model), str(host)), own
    return None, False


def continued(messages: list[BaseMessage], attempt: Attempt) -> list[BaseMessage]:
    """Return the messages to send: with what stands already, when an answer broke off."""
    if not attempt.continues:
        return messages
    added = continuation_messages(attempt.continues, prefill=bool(attempt.info.continues_prefill))
    kinds = {"assistant": AIMessage, "user": HumanMessage}
    return [*messages, *(kinds[role](content=text) for role, text in added)]


def going_on(
    arguments: Mapping[str, Any], attempt: Attempt, inner: ChatOllama, stop: list[str] | None
) -> dict[str, Any]:
    """Return a call's keyword arguments for a model that goes on with an answer.

    It is given what is left of the answer's limit, and does not think: that was done before the answer began.

    Args:
        arguments: those of a fresh call.
        attempt: goes on.
        inner: the plain model that is called.
        stop: stop sequences of the call.
    """
    made, options = dict(arguments), arguments.get("options")
    if options is None:
        options = inner._chat_params([], stop)["options"]  # noqa: SLF001 (what the plain class would send)
    limit = options.get("num_predict")
    if (left := attempt.left_of(limit)) != limit:
        made["options"] = {**options, "num_predict": left}
    think = made.pop("think", None)  # the client's own name for it, which the plain class lets through
    if "thinking" in attempt.info.flags or think or arguments.get("reasoning", inner.reasoning):
        made["reasoning"] = False
    return made


class LangChainChunks:
    """How the core's loops look at LangChain's chunks; see ``routed_ollama.ChunkView``."""

    def text(self, chunk: ChatGenerationChunk, /) -> str:
        """Return its plain text."""
        return chunk.text

    def usable(self, chunk: ChatGenerationChunk, /) -> bool:
        """Whether it carries a tool call, reasoning, or text that is more than white space."""
        if chunk.text.strip():
            return True
        message = chunk.message
        return bool(getattr(message, "tool_calls", None) or message.additional_kwargs.get("reasoning_content"))

    def joinable(self, chunk: ChatGenerationChunk, /) -> bool:
        """Whether it is plain text, which another model can go on with."""
        return not getattr(chunk.message, "tool_calls", None)

    def only_text(self, chunk: ChatGenerationChunk, /) -> str:
        """Return the text of a chunk that is text and nothing else, and not the last; empty for any other."""
        info = chunk.generation_info  # on the way of every token: no call of others
        if (info is not None and info.get("done") is True) or getattr(chunk.message, "tool_calls", None):
            return ""
        return chunk.text

    def done(self, chunk: ChatGenerationChunk, /) -> bool:
        """Whether it is the server's last line."""
        info = chunk.generation_info
        return info is not None and info.get("done") is True

    def with_text(self, chunk: ChatGenerationChunk, text: str, /) -> ChatGenerationChunk:
        """Return it with other text."""
        message = chunk.message.model_copy(update={"content": text})
        return ChatGenerationChunk(message=message, generation_info=chunk.generation_info)

    def with_route(self, chunk: ChatGenerationChunk, attempt: Attempt, /) -> ChatGenerationChunk:
        """Put the route into its metadata. One chunk carries it: metadata of chunks is added up when they are."""
        info = chunk.generation_info or {}
        attempt.load_seconds = seconds(info.get("load_duration"))
        attempt.prompt_tokens, attempt.output_tokens = info.get("prompt_eval_count"), info.get("eval_count")
        chunk.message.response_metadata = {**chunk.message.response_metadata, "routing": attempt.route()}
        total = attempt.usage()
        if total is None:
            return chunk
        usage = UsageMetadata(
            input_tokens=total.prompt_tokens, output_tokens=total.output_tokens, total_tokens=sum(total)
        )  # of all who had a part; what the last of them took stands in its own message
        message = chunk.message.model_copy(update={"usage_metadata": usage})
        return ChatGenerationChunk(message=message, generation_info=chunk.generation_info)


CHUNKS = LangChainChunks()


def merged(chunks: Sequence[ChatGenerationChunk]) -> ChatGenerationChunk:
    """Return the chunks of an answer added up, as the plain class does it.

    All at once: one by one, as that does it, the time grows with their number.
    """
    return chunks[0] + list(chunks[1:]) if len(chunks) > 1 else chunks[0]


def calling(whole: ChatGenerationChunk, tools: OfferedTools) -> ChatGenerationChunk:
    """Return an answer with the calls that are written into its text as calls; one that has none as it is."""
    message = cast("AIMessageChunk", whole.message)
    written = () if message.tool_calls else tools.calls_in(whole.text)
    if not written:
        return whole
    calls = [tool_call(name=call.name, args=call.arguments, id=str(uuid4())) for call in written]
    made = AIMessageChunk(
        content="",
        tool_calls=calls,
        usage_metadata=message.usage_metadata,
        additional_kwargs=message.additional_kwargs,
        response_metadata=message.response_metadata,
        chunk_position="last",
    )
    return ChatGenerationChunk(message=made, generation_info=whole.generation_info)


def result_of(whole: ChatGenerationChunk, plan: AttemptPlan) -> ChatResult:
    """Return a whole answer as the plain class does, with the route in its metadata."""
    message = cast("AIMessageChunk", whole.message)
    answer = AIMessage(
        content=whole.text,
        usage_metadata=message.usage_metadata,
        tool_calls=message.tool_calls,
        additional_kwargs=message.additional_kwargs,
        response_metadata={"routing": plan.route()},
    )
    return ChatResult(generations=[ChatGeneration(message=answer, generation_info=whole.generation_info)])


def joined(chunks: Sequence[ChatGenerationChunk]) -> ChatGenerationChunk:
    """Return one chunk that says what all of them said, for the end of an attempt; cheaper than adding them up."""
    last = chunks[-1]
    messages = cast("list[AIMessageChunk]", [chunk.message for chunk in chunks])
    calls = [call for each in messages if each.tool_calls for call in each.tool_calls]
    message = AIMessageChunk(
        content="".join([chunk.text for chunk in chunks]),
        tool_calls=calls,
        usage_metadata=getattr(last.message, "usage_metadata", None),
        response_metadata=dict(last.generation_info or {}),
        chunk_position="last",
    )
    return ChatGenerationChunk(message=message, generation_info=last.generation_info)
