"""What the soak asks, how, and what must come of it; and the models that say so, whichever of them answers."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import Any

from routed_ollama.testing import ScriptedModel, ToolCall

WORDS = ("north", "east", "south", "west", "river", "bridge", "valley", "harbour", "forest", "meadow")
_NUMBER = re.compile(r"Question (\d+):")


def answer_of(number: int, *, tools: bool) -> str:
    """Return what every model answers to a question, or the call of a tool that it makes of it, as text."""
    if tools:
        return f"add({number}, 1)"
    chooses = random.Random(number)  # noqa: S311 (the same answer each time)
    return f"Answer {number}: " + " ".join(chooses.choice(WORDS) for _ in range(chooses.randrange(8, 24))) + "."


def prompt_of(number: int) -> str:
    """Return the question of that number."""
    return f"Question {number}: which way leads from here to there, and what does one see on the way?"


def scripted(name: str) -> ScriptedModel:
    """Return a model that answers these questions, and goes on with an answer that another began."""

    def reply(request: Any) -> Any:
        first = next(message for message in request.messages if message.role == "user")
        found = _NUMBER.search(first.content)
        number = int(found[1]) if found else 0
        if request.tools:
            return [ToolCall(name="add", arguments={"a": number, "b": 1})]
        last = request.messages[-1]
        whole = answer_of(number, tools=False)
        return whole[len(last.content) :] if last.role == "assistant" and whole.startswith(last.content) else whole

    return ScriptedModel(
        name,
        reply=reply,
        load_seconds=0.01,
        tokens_per_second=500,
        capabilities=("completion", "tools", "thinking"),
        thinking="Let me see.",
        continues_prefill=True,
        size=10**8 if name.startswith("good") else 10**9,  # where memory ran out, nothing as large is tried
    )


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        number: says what is asked, and how.
        path: which method is used.
        model: is asked first.
        tools: whether a tool is offered.
        think: whether the model is to think.
        leaves: whether the reader of a stream leaves after its first chunk.
    """

    number: int
    path: str
    model: str
    tools: bool
    think: bool
    leaves: bool

    @classmethod
    def of(cls, number: int, paths: Sequence[str], models: Sequence[str], seed: int) -> Request:
        """Return the request of that number."""
        chooses = random.Random(f"{seed} {number}")  # noqa: S311 (the same requests each time)
        path, kind = chooses.choice(paths), chooses.random()
        return cls(
            number, path, chooses.choice(models), kind < 0.1, 0.1 <= kind < 0.2, "stream" in path and kind > 0.95
        )


def is_answer(text: str, request: Request) -> bool:
    """Whether this is the answer, or ends with it, after what a model in trouble said in its middle."""
    answer = answer_of(request.number, tools=request.tools)
    if text == answer:
        return True
    said = any(mark in text for mark in BABBLE)
    return "stream" in request.path and said and text.endswith(answer[-12:])


def is_beginning(text: str, request: Request) -> bool:
    """Whether this is the answer's beginning, and not all of it."""
    answer = answer_of(request.number, tools=request.tools)
    return len(text.rstrip()) < len(answer) and answer.startswith(text.rstrip())


BABBLE = ("drop-1", "say it again")
"""What faults let a model say: a reader of a stream has it before anybody can know."""
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}


def models_of(router: Any) -> dict[str, Any]:
    """Return both frameworks' models over one router."""
    from langchain_routed_ollama import RoutedChatOllama  # noqa: PLC0415 (the server needs neither)
    from llamaindex_routed_ollama import RoutedOllama  # noqa: PLC0415

    return {"LangChain": RoutedChatOllama(router=router), "LlamaIndex": RoutedOllama(router=router)}


def _langchain(models: dict[str, Any], request: Request) -> tuple[Any, str, dict[str, Any]]:
    llm = models["LangChain"].bind_tools([ADD]) if request.tools else models["LangChain"]
    return llm, prompt_of(request.number), {"model": request.model, "reasoning": request.think}


def _read_langchain(chunks: list[Any]) -> tuple[str, Any]:
    message = chunks[0] + chunks[1:] if len(chunks) > 1 else chunks[0]
    calls = [f"{call['name']}({call['args']['a']}, {call['args']['b']})" for call in message.tool_calls]
    return calls[0] if calls else message.text, message.response_metadata["routing"]


def _llamaindex(models: dict[str, Any], request: Request) -> tuple[Any, list[Any], dict[str, Any]]:
    from llama_index.core.llms import ChatMessage  # noqa: PLC0415

    more = {"tools": [ADD]} if request.tools else {}
    messages = [ChatMessage(prompt_of(request.number))]
    return models["LlamaIndex"], messages, {"model": request.model, "think": request.think, **more}


def _read_llamaindex(last: Any) -> tuple[str, Any]:
    blocks = [block for block in last.message.blocks if block.block_type == "tool_call"]
    calls = [f"{block.tool_name}({block.tool_kwargs['a']}, {block.tool_kwargs['b']})" for block in blocks]
    return calls[0] if calls else last.message.content, last.raw["routing"]


def invoke(models: dict[str, Any], request: Request) -> tuple[str, Any]:
    llm, asked, how = _langchain(models, request)
    return _read_langchain([llm.invoke(asked, **how)])


async def ainvoke(models: dict[str, Any], request: Request) -> tuple[str, Any]:
    llm, asked, how = _langchain(models, request)
    return _read_langchain([await llm.ainvoke(asked, **how)])


def stream(models: dict[str, Any], request: Request) -> tuple[str, Any] | None:
    llm, asked, how = _langchain(models, request)
    with closing(llm.stream(asked, **how)) as chunks:
        if request.leaves:
            next(chunks)
            return None
        return _read_langchain(list(chunks))


async def astream(models: dict[str, Any], request: Request) -> tuple[str, Any] | None:
    llm, asked, how = _langchain(models, request)
    async with aclosing(llm.astream(asked, **how)) as chunks:
        if request.leaves:
            await anext(chunks)
            return None
        return _read_langchain([chunk async for chunk in chunks])


def chat(models: dict[str, Any], request: Request) -> tuple[str, Any]:
    llm, asked, how = _llamaindex(models, request)
    return _read_llamaindex(llm.chat(asked, **how))


async def achat(models: dict[str, Any], request: Request) -> tuple[str, Any]:
    llm, asked, how = _llamaindex(models, request)
    return _read_llamaindex(await llm.achat(asked, **how))


def stream_chat(models: dict[str, Any], request: Request) -> tuple[str, Any] | None:
    llm, asked, how = _llamaindex(models, request)
    with closing(llm.stream_chat(asked, **how)) as chunks:
        if request.leaves:
            next(chunks)
            return None
        return _read_llamaindex(list(chunks)[-1])


async def astream_chat(models: dict[str, Any], request: Request) -> tuple[str, Any] | None:
    llm, asked, how = _llamaindex(models, request)
    async with aclosing(await llm.astream_chat(asked, **how)) as chunks:
        if request.leaves:
            await anext(chunks)
            return None
        last = None
        async for chunk in chunks:
            last = chunk
            await asyncio.sleep(0)
        return _read_llamaindex(last)


PATHS = {each.__name__: each for each in (invoke, ainvoke, stream, astream, chat, achat, stream_chat, astream_chat)}
THREADED = ("invoke", "stream", "chat", "stream_chat")
LOOPED = ("ainvoke", "astream", "achat", "astream_chat")
