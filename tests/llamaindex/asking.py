"""What the LlamaIndex tests share: two models whose order is certain, the ways of asking, what crossed the wire."""

import asyncio
import inspect
from contextlib import contextmanager
from dataclasses import dataclass

from llama_index.core.base.llms.types import ThinkingBlock, ToolCallBlock
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.llms.ollama import Ollama
from pydantic import BaseModel

from llamaindex_routed_ollama import RoutedOllama
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel

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


PLAIN, ALONE, AFTER_LOAD, AFTER_REFUSAL = "plain", "routed", "after a failed load", "after a refused connection"
KINDS = (PLAIN, ALONE, AFTER_LOAD, AFTER_REFUSAL)
"""The class that ours replaces, which proves a test right; ours; and ours when the model asked first is dead."""


@dataclass(frozen=True)
class Subject:
    """An LLM of one of the kinds, whose answers always come from the second model."""

    kind: str
    server: OllamaServer
    first: ScriptedModel

    @property
    def attempts(self):
        """Who is asked, and what comes of it, as routes say; the plain class says nothing."""
        failed = {PLAIN: [], ALONE: []}.get(self.kind, [(FIRST, "failed")])
        return [*failed, (SECOND, "ok")]

    def llm(self, **fields):
        """Make one. Its window is its own, for else the plain class asks the server for one."""
        fields = {"context_window": 4096, **fields}
        if self.kind == PLAIN:
            return plain(self.server.url, model=SECOND, **fields)
        if self.kind == ALONE:
            return routed(self.server.url, model=SECOND, **fields)
        if self.kind == AFTER_LOAD:
            return routed(self.server.url, **fields)
        watched_by_nobody = {"health": {"interval": 0}}  # for else the monitor may see first that it is gone
        with OllamaServer([self.first]) as gone:
            entries = [Ollama(model=FIRST, base_url=gone.url), SECOND]
            llm = routed(self.server.url, models=entries, config=watched_by_nobody, **fields)
            llm.router.recommend_model("so that it is known")  # ... and only then its server ends
        return llm

    def wire(self):
        """What the answering model was sent last; whether as a stream is left out, for underneath ours always is."""
        body = bodies(self.server)[-1]
        assert body["model"] == SECOND
        return {name: value for name, value in body.items() if name not in {"stream", "model"}}


@contextmanager
def subject_of(kind, **both):
    """A subject over the two models, with what is said for both."""
    first, second = models(**both)
    with OllamaServer([second] if kind == AFTER_REFUSAL else [first, second]) as server:
        if kind == AFTER_LOAD:
            server.fail(FIRST, Fault.LOAD_ERROR)
        yield Subject(kind, server, first)


def bodies(server):
    """Bodies of the requests for an answer, in order."""
    return [request.body for request in server.requests if request.path == "/api/chat"]


def asked(server):
    """Names of the models that were asked for an answer, in order."""
    return [body["model"] for body in bodies(server)]


def collect(llm, method, *args, **kwargs):
    """All that a method gives, by its name: one answer, or every chunk; an async one has a loop of its own."""
    made = getattr(llm, method)(*args, **kwargs)
    if not inspect.iscoroutine(made):
        return list(made) if inspect.isgenerator(made) else [made]

    async def collected():
        found = await made
        return [each async for each in found] if hasattr(found, "__aiter__") else [found]

    return asyncio.run(collected())


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


METHODS = ["chat", "achat", "stream_chat", "astream_chat"]
STREAMED = METHODS[2:]
"""Names of the ways to chat, for ``collect``."""


def thoughts_in(response):
    """What a model has thought before its answer."""
    return "".join(block.content or "" for block in response.message.blocks if isinstance(block, ThinkingBlock))


def calls_in(response):
    """The tool calls of an answer."""
    return [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]


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
