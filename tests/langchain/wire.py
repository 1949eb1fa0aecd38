"""What the LangChain tests share: two models whose order is certain, and what has crossed the wire."""

from langchain_ollama import ChatOllama

from langchain_routed_ollama import RoutedChatOllama
from routed_ollama.testing import ScriptedModel

FIRST, SECOND = "first:7b", "second:7b"
"""Two models of which nothing tells one apart but who is preferred."""


def models(*, first=None, second=None, **both):
    """The two, with what is said for each and for both."""
    return [ScriptedModel(FIRST, **{**both, **(first or {})}), ScriptedModel(SECOND, **{**both, **(second or {})})]


def routed(url, **kwargs):
    """Over the two models, of which the first is asked first, again and again."""
    defaults = {"models": [FIRST, SECOND], "model": FIRST, "store": "memory", "learn": False}
    return RoutedChatOllama(base_url=url, **{**defaults, **kwargs})


def plain(url, **kwargs):
    """The class that ours replaces, over the first."""
    return ChatOllama(**{"model": FIRST, "base_url": url, **kwargs})


def bodies(server):
    """Bodies of the requests for an answer, in order."""
    return [request.body for request in server.requests if request.path == "/api/chat"]


def asked(server):
    """Names of the models that were asked for an answer, in order."""
    return [body["model"] for body in bodies(server)]


def answered_by(message):
    """Name of the model that answered."""
    return message.response_metadata["routing"]["model"]


def whole(chunks):
    """One message out of the chunks of a stream."""
    chunks = list(chunks)
    return chunks[0] + chunks[1:] if len(chunks) > 1 else chunks[0]


async def collected(stream):
    """Everything that an async stream gives."""
    return [chunk async for chunk in stream]
