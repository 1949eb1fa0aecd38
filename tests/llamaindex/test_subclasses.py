"""What a subclass of its user's own does in ``chat`` and its like is done wherever the plain class does it."""

import json
from unittest.mock import patch

import pytest
from asking import FIRST, SECOND, Song, asked, bodies, collect, models
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.prompts import PromptTemplate
from llama_index.llms.ollama import Ollama
from pydantic import PrivateAttr

from llamaindex_routed_ollama import RoutedOllama
from routed_ollama.testing import OllamaServer

SONG = {"title": "Rain", "year": 1966}
HIDDEN = "rain"
PREDICTS = ["structured_predict", "astructured_predict", "stream_structured_predict", "astream_structured_predict"]
methods = pytest.mark.parametrize("method", PREDICTS)


def song():
    """A prompt of a test's own: LlamaIndex's programs leave their parser in the one that they are given."""
    return PromptTemplate("Name a song about {topic}.")


def redacted(messages):
    return [ChatMessage(role=each.role, content=each.content.replace(HIDDEN, "***")) for each in messages]


class Redacting:
    """Takes a secret out of every prompt, before it is sent."""

    def chat(self, messages, **kwargs):
        return super().chat(redacted(messages), **kwargs)

    async def achat(self, messages, **kwargs):
        return await super().achat(redacted(messages), **kwargs)

    def stream_chat(self, messages, **kwargs):
        return super().stream_chat(redacted(messages), **kwargs)

    async def astream_chat(self, messages, **kwargs):
        return await super().astream_chat(redacted(messages), **kwargs)


class RedactingAsRead(Redacting):
    """The same, but a stream is asked for when its first chunk is."""

    def stream_chat(self, messages, **kwargs):
        yield from super().stream_chat(messages, **kwargs)

    async def astream_chat(self, messages, **kwargs):
        async def chunks():
            async for chunk in await super(RedactingAsRead, self).astream_chat(messages, **kwargs):
                yield chunk

        return chunks()


class PlainRedacting(Redacting, Ollama):
    """Of the plain class."""


class RoutedRedacting(Redacting, RoutedOllama):
    """Of ours."""


class PlainAsRead(RedactingAsRead, Ollama):
    """Of the plain class."""


class RoutedAsRead(RedactingAsRead, RoutedOllama):
    """Of ours."""


def over(kind, server):
    own = {"models": [FIRST, SECOND], "store": "memory"} if issubclass(kind, RoutedOllama) else {}
    return kind(model=FIRST, base_url=server.url, context_window=4096, **own)


@pytest.mark.parametrize("kind", [PlainRedacting, RoutedRedacting, PlainAsRead, RoutedAsRead])
@methods
def test_an_object_is_asked_for_through_it(kind, method):
    with OllamaServer(models(reply=json.dumps(SONG))) as server:
        assert collect(over(kind, server), method, Song, song(), topic=HIDDEN)[-1].model_dump() == SONG
        (body,) = bodies(server)
    assert body["messages"][-1]["content"] == "Name a song about ***."
    assert body["format"] == Song.model_json_schema()


@pytest.mark.parametrize("kind", [RoutedRedacting, RoutedAsRead])
@methods
def test_through_it_too_the_next_model_is_asked_after_an_unfit_answer(kind, method):
    with OllamaServer(models(first={"reply": "no"}, second={"reply": json.dumps(SONG)})) as server:
        assert collect(over(kind, server), method, Song, song(), topic=HIDDEN)[-1].model_dump() == SONG
        assert asked(server) == [FIRST, SECOND]
        assert HIDDEN not in json.dumps(bodies(server))


class Consulting(RoutedOllama):
    """Asks another first, in words."""

    _other: RoutedOllama = PrivateAttr()

    def chat(self, messages, **kwargs):
        advice = self._other.chat(messages).message.content
        return super().chat([*messages, ChatMessage(content=advice)], **kwargs)


@pytest.mark.parametrize("mode", ["default", "llm"])
def test_another_that_is_asked_on_the_way_need_not_answer_with_an_object(mode):
    def reply(request):
        return json.dumps(SONG) if request.messages[-1].content == "Make it old." else "Make it old."

    with OllamaServer(models(reply=reply)) as server:
        llm = over(Consulting, server)
        llm._other = over(RoutedOllama, server)
        llm.pydantic_program_mode = mode
        assert llm.structured_predict(Song, song(), topic="sun") == Song(**SONG)
        assert asked(server) == [FIRST, FIRST]


@pytest.mark.parametrize("kind", [Ollama, RoutedOllama])
def test_a_test_of_ones_own_may_say_what_chat_answers(kind):
    answer = ChatResponse(message=ChatMessage(role="assistant", content=json.dumps(SONG)))
    with OllamaServer(models()) as server:
        llm = over(kind, server)
        with patch.object(kind, "chat", return_value=answer), patch.object(kind, "stream_chat", return_value=[answer]):
            assert llm.structured_predict(Song, song(), topic="sun") == Song(**SONG)
            assert list(llm.stream_structured_predict(Song, song(), topic="sun"))[-1].model_dump() == SONG
        assert bodies(server) == []
