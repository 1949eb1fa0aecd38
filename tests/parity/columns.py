"""The same request in the words of each: LangChain, LlamaIndex, and the core's own agent.

A column knows how its framework is asked, and nothing of what should come of it.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_ollama import ChatOllama
from llama_index.core.base.llms.types import (
    ChatMessage,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.ollama import Ollama
from pydantic import BaseModel

from langchain_routed_ollama import RoutedChatOllama
from llamaindex_routed_ollama import RoutedOllama
from routed_ollama import create_agent

PROMPT = "Write a function that counts to ten"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)


class Song(BaseModel):
    """A song."""

    title: str
    year: int


MULTIPLY = {
    "type": "function",
    "function": {
        "name": "multiply",
        "description": "Multiply two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}


@FunctionTool.from_defaults
def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


class Result(NamedTuple):
    """What a tool gave."""

    text: str


@dataclass(frozen=True)
class Ask:
    """A request.

    Attributes:
        said: the conversation: prompts as text, answers as they were ``Seen``, what tools gave.
        tools, image, song, think: whether a tool is offered, an image shown, a ``Song`` asked for, thinking wished.
        required: whether the tool that is offered has to be called.
        parts: whether a stream of the ``Song`` is to give parts of it, which LangChain does not where it validates it.
        call: hints that are given with the call.
    """

    said: tuple[Any, ...] = (PROMPT,)
    tools: bool = False
    image: bool = False
    song: bool = False
    think: bool = False
    required: bool = False
    parts: bool = True
    call: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """What a person sees of one request; ``message`` is the framework's own, to be put into a conversation."""

    text: str
    routing: Mapping[str, Any] = field(default_factory=dict)
    thinking: str = ""
    calls: tuple[tuple[str, Any], ...] = ()
    message: Any = None

    @property
    def model(self):
        """Who answered."""
        return self.routing["model"]


class Column(Protocol):
    """One framework."""

    name: str

    def make(self, router, *, remembers=False, **settings):
        """Return a model over a router; where it keeps the conversation itself, it does so when it is to."""

    def whole(self, llm, ask: Ask) -> Seen:
        """Ask for a whole answer."""

    async def awhole(self, llm, ask: Ask) -> Seen:
        """Ask for a whole answer."""

    def stream(self, llm, ask: Ask) -> Iterable[Any]:
        """Ask for a stream."""

    async def astream(self, llm, ask: Ask):
        """Ask for a stream."""

    def read(self, chunks: list[Any]) -> Seen:
        """Return what the chunks of a stream come to."""


async def _collected(stream):
    return [chunk async for chunk in stream]


async def aread(column, llm, ask):
    """Ask for a stream in async code, and take it all."""
    return column.read(await _collected(await column.astream(llm, ask)))


PATHS = {
    "whole": lambda column, llm, ask: column.whole(llm, ask),
    "whole, async": lambda column, llm, ask: asyncio.run(column.awhole(llm, ask)),
    "stream": lambda column, llm, ask: column.read(list(column.stream(llm, ask))),
    "stream, async": lambda column, llm, ask: asyncio.run(aread(column, llm, ask)),
}


def _song(found):
    """An object, or what has come of it, as one reads it."""
    given = found if isinstance(found, dict) else found.model_dump()
    return Seen(json.dumps({name: value for name, value in given.items() if value is not None}))


class LangChain:
    """``RoutedChatOllama``."""

    name = "LangChain"

    def make(self, router, *, remembers=False, **settings):
        return RoutedChatOllama(router=router, **{"temperature": 0, **settings})

    def ready(self, model, url):
        return ChatOllama(model=model, base_url=url, temperature=0)

    def _asked(self, llm, ask, schema=Song):
        """What is invoked, with which messages and keywords."""
        call = {**ask.call, **({"reasoning": True} if ask.think else {})}
        if ask.song:
            llm = llm.with_structured_output(schema)
        if ask.tools:
            llm = llm.bind_tools([MULTIPLY], **({"tool_choice": "any"} if ask.required else {}))
        return llm, [*_langchain_messages(ask)], call

    def whole(self, llm, ask):
        model, messages, call = self._asked(llm, ask)
        return self.read([model.invoke(messages, **call)])

    async def awhole(self, llm, ask):
        model, messages, call = self._asked(llm, ask)
        return self.read([await model.ainvoke(messages, **call)])

    def stream(self, llm, ask):
        model, messages, call = self._asked(llm, ask, Song.model_json_schema() if ask.parts else Song)
        return model.stream(messages, **call)

    async def astream(self, llm, ask):
        model, messages, call = self._asked(llm, ask, Song.model_json_schema() if ask.parts else Song)
        return model.astream(messages, **call)

    def read(self, chunks):
        if not chunks:
            return Seen("")
        if isinstance(chunks[-1], Song | dict):
            return _song(chunks[-1])
        message = chunks[0] + chunks[1:] if len(chunks) > 1 and isinstance(chunks[0], AIMessageChunk) else chunks[0]
        return Seen(
            message.text,
            message.response_metadata.get("routing", {}),
            message.additional_kwargs.get("reasoning_content", ""),
            tuple((call["name"], call["args"]) for call in message.tool_calls),
            message,
        )


def _langchain_messages(ask):
    called = None
    for said in ask.said:
        if isinstance(said, Seen):
            called = said.message
            yield called
        elif isinstance(said, Result):
            yield ToolMessage(said.text, tool_call_id=called.tool_calls[0]["id"])
        elif ask.image:
            image = {"type": "image", "base64": base64.b64encode(PIXEL).decode(), "mime_type": "image/png"}
            yield HumanMessage([{"type": "text", "text": said}, image])
        else:
            yield HumanMessage(said)


class LlamaIndex:
    """``RoutedOllama``."""

    name = "LlamaIndex"

    def make(self, router, *, remembers=False, **settings):
        return RoutedOllama(router=router, **{"temperature": 0, **settings})

    def ready(self, model, url):
        return Ollama(model=model, base_url=url, temperature=0, context_window=4096)

    def _asked(self, ask):
        call = {**ask.call, **({"think": True} if ask.think else {})}
        if ask.tools:
            call["tools"] = [MULTIPLY]
        return [*_llamaindex_messages(ask)], call

    def _prompt(self, ask):
        return Song, PromptTemplate("{said}"), dict(ask.call) or None

    def _calling(self, ask):
        return {"tools": [multiply], "user_msg": ask.said[-1], "tool_required": True, **ask.call}

    def whole(self, llm, ask):
        if ask.song:
            return self.read([llm.structured_predict(*self._prompt(ask), said=ask.said[-1])])
        if ask.required:
            return self.read([llm.chat_with_tools(**self._calling(ask))])
        messages, call = self._asked(ask)
        return self.read([llm.chat(messages, **call)])

    async def awhole(self, llm, ask):
        if ask.song:
            return self.read([await llm.astructured_predict(*self._prompt(ask), said=ask.said[-1])])
        if ask.required:
            return self.read([await llm.achat_with_tools(**self._calling(ask))])
        messages, call = self._asked(ask)
        return self.read([await llm.achat(messages, **call)])

    def stream(self, llm, ask):
        if ask.song:
            return llm.stream_structured_predict(*self._prompt(ask), said=ask.said[-1])
        if ask.required:
            return llm.stream_chat_with_tools(**self._calling(ask))
        messages, call = self._asked(ask)
        return llm.stream_chat(messages, **call)

    async def astream(self, llm, ask):
        if ask.song:
            return await llm.astream_structured_predict(*self._prompt(ask), said=ask.said[-1])
        if ask.required:
            return await llm.astream_chat_with_tools(**self._calling(ask))
        messages, call = self._asked(ask)
        return await llm.astream_chat(messages, **call)

    def read(self, chunks):
        last = chunks[-1]
        if isinstance(last, BaseModel) and not hasattr(last, "message"):
            return _song(last)
        blocks, thoughts = (
            last.message.blocks,
            [chunk.additional_kwargs.get("thinking_delta") or "" for chunk in chunks],
        )
        text = "".join(block.text for block in blocks if isinstance(block, TextBlock))
        if last.delta is not None:
            assert "".join(chunk.delta or "" for chunk in chunks) == text
        return Seen(
            text,
            last.raw.get("routing", {}),
            "".join(thoughts) or "".join(block.content or "" for block in blocks if isinstance(block, ThinkingBlock)),
            tuple((block.tool_name, block.tool_kwargs) for block in blocks if isinstance(block, ToolCallBlock)),
            last.message,
        )


def _llamaindex_messages(ask):
    called = None
    for said in ask.said:
        if isinstance(said, Seen):
            called = said.message
            yield called
        elif isinstance(said, Result):
            name = next(block.tool_call_id for block in called.blocks if isinstance(block, ToolCallBlock))
            yield ChatMessage(role=MessageRole.TOOL, content=said.text, additional_kwargs={"tool_call_id": name})
        elif ask.image:
            yield ChatMessage(role=MessageRole.USER, blocks=[TextBlock(text=said), ImageBlock(image=PIXEL)])
        else:
            yield ChatMessage(role=MessageRole.USER, content=said)


class Core:
    """An agent of the core's, with a role that says nothing. It remembers its conversation itself."""

    name = "core"

    def make(self, router, *, remembers=False, **settings):
        return create_agent("silent", router=router, memory=remembers, **{"temperature": 0, **settings})

    def _asked(self, ask):
        return ask.said[-1], {**ask.call, **({"think": True} if ask.think else {})}

    def whole(self, llm, ask):
        prompt, call = self._asked(ask)
        return self.read([llm.generate(prompt, **call)])

    async def awhole(self, llm, ask):
        prompt, call = self._asked(ask)
        return self.read([await llm.agenerate(prompt, **call)])

    def stream(self, llm, ask):
        prompt, call = self._asked(ask)
        return llm.stream(prompt, **call)

    async def astream(self, llm, ask):
        prompt, call = self._asked(ask)
        return llm.astream(prompt, **call)

    def read(self, chunks):
        return Seen("".join(chunks), chunks[-1].routing, "".join(chunk.thinking for chunk in chunks))


SILENT = {"roles": {"silent": {}}}
"""Configuration of the core's role, without which the other columns would be asked something else."""

COLUMNS: list[Column] = [LangChain(), LlamaIndex(), Core()]
FRAMEWORKS: list[Column] = COLUMNS[:2]
