"""The official Python client, sync and async, does all it can do here against the server."""

from __future__ import annotations

import ollama
import pytest

from routed_ollama.testing import Fault, OllamaServer, ScriptedModel

MESSAGES = [{"role": "user", "content": "Please add 3 and 4"}]


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: one
        b: the other
    """
    return a + b


@pytest.fixture(scope="module")
def server():
    with OllamaServer(
        [ScriptedModel("llama3.1:8b", thinking="Hm."), "other", ScriptedModel("e", capabilities=["embedding"])]
    ) as server:
        yield server


def test_the_sync_client(server):
    client = ollama.Client(host=server.url)
    assert {each.model for each in client.list().models} == {"llama3.1:8b", "other:latest", "e:latest"}
    shown = client.show("llama3.1:8b")
    assert shown.capabilities == ["completion", "tools", "thinking"]
    assert shown.modelinfo["llama.context_length"] == 8192
    answer = client.chat("llama3.1:8b", MESSAGES, think=True)
    assert (answer.message.thinking, answer.message.content) == ("Hm.", "You asked: Please add 3 and 4")
    assert answer.done_reason == "stop"
    assert answer.eval_count == 8
    streamed = list(client.chat("llama3.1:8b", MESSAGES, stream=True, think=False))
    assert "".join(each.message.content for each in streamed) == "You asked: Please add 3 and 4"
    (call,) = client.chat("other", MESSAGES, tools=[add]).message.tool_calls
    assert (call.function.name, call.function.arguments) == ("add", {"a": 3, "b": 4})
    assert client.generate("other", "hi").response == "You asked: hi"
    assert [each.response for each in client.generate("other", "hi", stream=True)] == ["You", " asked:", " hi", ""]
    assert {each.model for each in client.ps().models} == {"llama3.1:8b", "other:latest"}
    assert client.generate("other", keep_alive=0).done_reason == "unload"
    assert [each.model for each in client.ps().models] == ["llama3.1:8b"]


async def test_the_async_client(server):
    client = ollama.AsyncClient(host=server.url)
    assert len((await client.list()).models) == 3
    assert (await client.show("other")).details.family == "other"
    assert (await client.chat("other", MESSAGES)).message.content == "You asked: Please add 3 and 4"
    streamed = [each.message.content async for each in await client.chat("other", MESSAGES, stream=True)]
    assert "".join(streamed) == "You asked: Please add 3 and 4"
    assert (await client.generate("other", "hi")).response == "You asked: hi"
    assert [each.done async for each in await client.generate("other", "hi", stream=True)] == [
        False,
        False,
        False,
        True,
    ]
    assert [each.model for each in (await client.ps()).models]


def test_errors_reach_it_as_from_a_real_server(server):
    client = ollama.Client(host=server.url)
    with pytest.raises(ollama.ResponseError, match="not found") as missing:
        client.chat("nosuch", MESSAGES)
    assert missing.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="does not support chat"):
        client.chat("e", MESSAGES)
    with server.fail("other", Fault.CRASH), pytest.raises(ollama.ResponseError, match="unexpected EOF") as broken:
        list(client.chat("other", MESSAGES, stream=True))
    assert broken.value.status_code == -1
