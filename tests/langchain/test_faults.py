"""Every fault on every path: every request is answered, and the history says who failed."""

import asyncio

import pytest
from fault_table import ANSWER, BAD, FAULTS, GOOD, HANDED_OUT, assert_mended, both, leads, with_trouble
from langchain_core.exceptions import ModelError
from langchain_ollama import ChatOllama

from langchain_routed_ollama import AllModelsFailed, HostUnreachable, RoutedChatOllama
from routed_ollama import RoutedOllamaError
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel


def invoke(llm):
    answer = llm.invoke("Count to ten")
    return answer.content, answer.response_metadata


def ainvoke(llm):
    answer = asyncio.run(llm.ainvoke("Count to ten"))
    return answer.content, answer.response_metadata


def stream(llm):
    return _joined(list(llm.stream("Count to ten")))


def astream(llm):
    async def collect():
        return [chunk async for chunk in llm.astream("Count to ten")]

    return _joined(asyncio.run(collect()))


def _joined(chunks):
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return whole.content, whole.response_metadata


PATHS = [invoke, ainvoke, stream, astream]


@pytest.fixture
def server():
    with OllamaServer(both()) as running:
        yield running


def routed(server, name):
    """Ours, with the model that is in trouble first in the list."""
    return with_trouble(
        server,
        name,
        lambda hosts: RoutedChatOllama(
            models=[BAD, GOOD],
            hosts=hosts,
            store="memory",
            timeouts=FAULTS[name].timeouts,
            config=leads("general"),
            temperature=0,
        ),
    )


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_answered_on_every_path(server, name, path):
    content, metadata = path(routed(server, name))
    assert content == ANSWER
    assert_mended(name, metadata["routing"], streamed=path in {stream, astream})


@pytest.mark.parametrize("path", [stream, astream], ids=lambda path: path.__name__)
@pytest.mark.parametrize("opens", [True, False], ids=["prefill", "asked"])
def test_after_a_cut_the_text_is_what_was_handed_out_plus_its_continuation(server, path, opens):
    rest = " and that is all there is to say"
    server.add_model(ScriptedModel(GOOD, reply=rest, continues_prefill=opens))
    content, metadata = path(routed(server, "closed in mid-stream"))
    assert content == HANDED_OUT + rest
    assert metadata["routing"]["continued_at"] == len(HANDED_OUT)
    sent = [request for request in server.requests if request.path == "/api/chat"][-1].body["messages"]
    assert sent[1]["content"] == HANDED_OUT
    assert [m["role"] for m in sent][1:] == (["assistant"] if opens else ["assistant", "user"])


@pytest.mark.parametrize("path", [stream, astream], ids=lambda path: path.__name__)
def test_mid_stream_raise_turns_joining_off(server, path):
    server.fail(BAD, Fault.CRASH, after_chunks=3)
    llm = RoutedChatOllama(model=BAD, models=[BAD, GOOD], base_url=server.url, store="memory", mid_stream="raise")
    with pytest.raises(Exception, match="an error was encountered while running the model"):
        path(llm)


@pytest.mark.parametrize("path", [stream, astream], ids=lambda path: path.__name__)
def test_what_has_a_format_is_not_joined(server, path):
    for name in (BAD, GOOD):
        server.add_model(ScriptedModel(name, reply='{"a": 1, "b": 2}'))
    server.fail(BAD, Fault.CRASH, after_chunks=2)
    llm = RoutedChatOllama(model=BAD, models=[BAD, GOOD], base_url=server.url, store="memory", format="json")
    with pytest.raises(Exception, match="an error was encountered while running the model"):
        path(llm)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
def test_all_fail_in_one_error_that_lists_every_attempt(server, path):
    server.fail(None, Fault.SERVER_ERROR, text="kaputt")
    llm = RoutedChatOllama(models=[BAD, GOOD], base_url=server.url, store="memory")
    with pytest.raises(AllModelsFailed) as caught:
        path(llm)
    assert isinstance(caught.value, ModelError)
    assert isinstance(caught.value, RoutedOllamaError)
    assert str(caught.value).count("kaputt") == 2
    assert BAD in str(caught.value)
    assert GOOD in str(caught.value)
    assert "kaputt" in str(caught.value.__cause__)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.NOT_FOUND, Fault.BUSY, Fault.LOAD_ERROR])
def test_a_sole_candidate_raises_what_the_plain_class_raises(server, path, fault):
    server.fail(BAD, fault)
    with pytest.raises(Exception) as plain:  # noqa: PT011 (whatever the plain class raises)
        path(ChatOllama(model=BAD, base_url=server.url))
    with pytest.raises(type(plain.value)) as ours:
        path(RoutedChatOllama(models=[BAD], base_url=server.url, store="memory"))
    assert type(ours.value) is type(plain.value)
    assert str(ours.value) == str(plain.value)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
def test_no_server_running_names_the_url_and_what_to_do(path):
    with OllamaServer() as gone:
        url = gone.url
    with pytest.raises(HostUnreachable, match=f"{url}.*ollama serve.*OLLAMA_HOST") as caught:
        path(RoutedChatOllama(base_url=url, store="memory"))
    assert isinstance(caught.value, ConnectionError)
    assert isinstance(caught.value, ModelError)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
def test_empty_everywhere_is_returned_as_the_plain_class_does(server, path):
    server.fail(None, Fault.EMPTY)
    content, _ = path(RoutedChatOllama(models=[BAD, GOOD], base_url=server.url, store="memory"))
    assert content == ""


def test_a_failed_model_is_remembered_and_not_asked_first_again(server):
    llm = routed(server, "500 of its own")
    for _ in range(4):
        llm.invoke("Count to ten")
    asked = [request.model for request in server.requests if request.path == "/api/chat"]
    assert asked.count(BAD) == 3  # then its circuit was open
    assert llm.router.performance()[BAD].success_rate == 0
    assert llm.router.health_check_all_models()[BAD] == "unhealthy"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
@pytest.mark.parametrize("name", ["ends without done", "empty answer", "error line in mid-stream", "500 at load"])
def test_every_failure_is_in_the_record_of_the_model_that_failed(server, name, path):
    llm = routed(server, name)
    path(llm)
    record = llm.router.performance()
    assert record[BAD].total_requests >= 1
    assert record[BAD].success_rate == 0
    assert record[GOOD].success_rate == 1
