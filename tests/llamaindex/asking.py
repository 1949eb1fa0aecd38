"""What the LlamaIndex tests share: two models whose order is certain, the ways of asking, what crossed the wire."""

import asyncio

from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.llms.ollama import Ollama
from pydantic import BaseModel

from llamaindex_routed_ollama import RoutedOllama
from routed_ollama.testing import ScriptedModel

FIRST, SECOND = "first:7b", "second:7b"
"""Two models of which nothing tells one apart but who is preferred."""

QUESTION = [ChatMessage(content="Count to ten")]


class Song(BaseModel):
    """A song."""

    title: str
    year: int


PROMPT = PromptTemplate("Name a song about {topic}.")


def models(*, first=None, second=None, **both):
    """The two, with what is said for each and for both."""
    return [ScriptedModel(FIRST, **{**both, **(first or {})}), ScriptedModel(SECOND, **{**both, **(second or {})})]


def routed(url, **kwargs):
    """Over the two models, of which the first is asked first, again and again."""
    defaults = {"models": [FIRST, SECOND], "model": FIRST, "store": "memory", "learn": False}
    return RoutedOllama(base_url=url, **{**defaults, **kwargs})


def plain(url, **kwargs):
    """The class that ours replaces, over the first."""
    return Ollama(**{"model": FIRST, "base_url": url, "context_window": 4096, **kwargs})


def bodies(server):
    """Bodies of the requests for an answer, in order."""
    return [request.body for request in server.requests if request.path == "/api/chat"]


def asked(server):
    """Names of the models that were asked for an answer, in order."""
    return [body["model"] for body in bodies(server)]


def chat(llm, **kwargs):
    return llm.chat(QUESTION, **kwargs)


def achat(llm, **kwargs):
    return asyncio.run(llm.achat(QUESTION, **kwargs))


def stream_chat(llm, **kwargs):
    return list(llm.stream_chat(QUESTION, **kwargs))[-1]


def astream_chat(llm, **kwargs):
    async def last():
        return [chunk async for chunk in await llm.astream_chat(QUESTION, **kwargs)][-1]

    return asyncio.run(last())


def complete(llm, **kwargs):
    return llm.complete("Count to ten", **kwargs)


def acomplete(llm, **kwargs):
    return asyncio.run(llm.acomplete("Count to ten", **kwargs))


def stream_complete(llm, **kwargs):
    return list(llm.stream_complete("Count to ten", **kwargs))[-1]


def astream_complete(llm, **kwargs):
    async def last():
        return [chunk async for chunk in await llm.astream_complete("Count to ten", **kwargs)][-1]

    return asyncio.run(last())


CHATS = [chat, achat, stream_chat, astream_chat]
STREAMS = [stream_chat, astream_chat]
PATHS = [*CHATS, complete, acomplete, stream_complete, astream_complete]


def text(response):
    """The answer's text, of a chat or of a completion."""
    return response.text if hasattr(response, "text") else response.message.content


def structured_predict(llm):
    return llm.structured_predict(Song, PROMPT, topic="rain")


def astructured_predict(llm):
    return asyncio.run(llm.astructured_predict(Song, PROMPT, topic="rain"))


def stream_structured_predict(llm):
    return list(llm.stream_structured_predict(Song, PROMPT, topic="rain"))[-1]


def astream_structured_predict(llm):
    async def last():
        return [one async for one in await llm.astream_structured_predict(Song, PROMPT, topic="rain")][-1]

    return asyncio.run(last())


STRUCTURED = [structured_predict, astructured_predict, stream_structured_predict, astream_structured_predict]


class Heard(BaseEventHandler):
    """Every event of the dispatcher, in order."""

    events: list = []  # noqa: RUF012 (a pydantic field)

    @classmethod
    def class_name(cls):
        return "Heard"

    def handle(self, event, **_kwargs):
        self.events.append(event)

    def of(self, name):
        """Those of one class."""
        return [event for event in self.events if type(event).__name__ == name]
