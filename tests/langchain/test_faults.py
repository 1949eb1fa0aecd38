"""Seven faults x four paths: every request is answered, and the history says who failed."""

import asyncio

import pytest
from langchain_core.exceptions import ModelError
from langchain_ollama import ChatOllama

from langchain_routed_ollama import AllModelsFailed, HostUnreachable, RoutedChatOllama
from routed_ollama import RoutedOllamaError
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel

ANSWER = "one two three four five six seven eight nine ten"
TIMEOUTS = {"connect": 2, "load": 1, "first_token": 1, "between_tokens": 1}

FAULTS = {
    "connection refused": None,
    "500 at load": (Fault.LOAD_ERROR, {}),
    "404": (Fault.NOT_FOUND, {}),
    "hang before the first token": (Fault.HANG, {}),
    "cut in mid-stream": (Fault.CUT, {"after_chunks": 4}),
    "closed in mid-stream": (Fault.CLOSE, {"after_chunks": 4}),
    "error line in mid-stream": (Fault.CRASH, {"after_chunks": 4}),
    "stall in mid-stream": (Fault.STALL, {"after_chunks": 4}),
    "ends without done": (Fault.END_WITHOUT_DONE, {"after_chunks": 4}),
    "line that is not JSON": (Fault.MALFORMED, {"after_chunks": 4}),
    "empty answer": (Fault.EMPTY, {}),
    "white space alone": (Fault.WHITESPACE, {}),
    "reset before any answer": (Fault.RESET, {}),
    "queue full": (Fault.BUSY, {}),
    "out of memory": (Fault.OUT_OF_MEMORY, {}),
    "crash before the first token": (Fault.CRASH_BEFORE_TOKEN, {}),
}


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
    # The good one is smaller: after memory ran out nothing as large is tried.
    models = [ScriptedModel("good:1b", reply=ANSWER, size=10**8), ScriptedModel("bad:1b", reply=ANSWER)]
    with OllamaServer(models=models) as running:
        yield running


def routed(server, fault):
    """Ours, with the model that is going to fail first in the list."""
    bad = "bad:1b"
    if fault is not None:
        kind, details = fault
        server.fail("bad:1b", kind, **details)
        return _routed(server, bad)
    with OllamaServer(models=["bad:1b"]) as gone:
        llm = _routed(server, ChatOllama(model="bad:1b", base_url=gone.url))
        llm.router.recommend_model("so that it is known")  # ... and only then its server ends
    return llm


def _routed(server, bad):
    config = {"health": {"interval": 0}, "task_specific_models": {"general": ["bad:1b", "good:1b"]}}
    return RoutedChatOllama(
        models=[bad, "good:1b"], base_url=server.url, store="memory", timeouts=TIMEOUTS, config=config, temperature=0
    )


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_answered_on_every_path(server, name, path):
    llm = routed(server, FAULTS[name])
    content, metadata = path(llm)
    assert content == ANSWER
    routing = metadata["routing"]
    assert routing["model"] == "good:1b"
    assert [(a["model"], a["outcome"]) for a in routing["attempts"]][:1] == [("bad:1b", "failed")]
    assert routing["attempts"][-1]["outcome"] == "ok"
    assert routing["attempts"][0]["error"]
    if "mid-stream" in name and path in {stream, astream}:
        least = 0 if name == "cut in mid-stream" else 1  # a reset takes with it what was not read yet, maybe everything
        assert least <= routing.get("continued_at", 0) <= len("one two three four")


@pytest.mark.parametrize("path", [stream, astream], ids=lambda path: path.__name__)
@pytest.mark.parametrize("opens", [True, False], ids=["prefill", "asked"])
def test_after_a_cut_the_text_is_what_was_handed_out_plus_its_continuation(server, path, opens):
    rest = " and that is all there is to say"
    server.add_model(ScriptedModel("good:1b", reply=rest, continues_prefill=opens))
    server.fail("bad:1b", Fault.CLOSE, after_chunks=3)
    llm = RoutedChatOllama(model="bad:1b", models=["bad:1b", "good:1b"], base_url=server.url, store="memory")
    content, metadata = path(llm)
    sent = [request for request in server.requests if request.path == "/api/chat"][-1].body["messages"]
    assert [m["role"] for m in sent][1:] == (["assistant"] if opens else ["assistant", "user"])
    handed_out = sent[1]["content"]
    assert handed_out == "one two three"
    assert content == handed_out + rest
    assert metadata["routing"]["continued_at"] == len(handed_out)


@pytest.mark.parametrize("path", [stream, astream], ids=lambda path: path.__name__)
def test_mid_stream_raise_turns_joining_off(server, path):
    server.fail("bad:1b", Fault.CRASH, after_chunks=3)
    llm = RoutedChatOllama(
        model="bad:1b", models=["bad:1b", "good:1b"], base_url=server.url, store="memory", mid_stream="raise"
    )
    with pytest.raises(Exception, match="an error was encountered while running the model"):
        path(llm)


@pytest.mark.parametrize("path", [stream, astream], ids=lambda path: path.__name__)
def test_what_has_a_format_is_not_joined(server, path):
    for name in ("bad:1b", "good:1b"):
        server.add_model(ScriptedModel(name, reply='{"a": 1, "b": 2}'))
    server.fail("bad:1b", Fault.CRASH, after_chunks=2)
    llm = RoutedChatOllama(
        model="bad:1b", models=["bad:1b", "good:1b"], base_url=server.url, store="memory", format="json"
    )
    with pytest.raises(Exception, match="an error was encountered while running the model"):
        path(llm)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
def test_all_fail_in_one_error_that_lists_every_attempt(server, path):
    server.fail(None, Fault.SERVER_ERROR, text="kaputt")
    llm = RoutedChatOllama(models=["bad:1b", "good:1b"], base_url=server.url, store="memory")
    with pytest.raises(AllModelsFailed) as caught:
        path(llm)
    assert isinstance(caught.value, ModelError)
    assert isinstance(caught.value, RoutedOllamaError)
    assert str(caught.value).count("kaputt") == 2
    assert "bad:1b" in str(caught.value)
    assert "good:1b" in str(caught.value)
    assert "kaputt" in str(caught.value.__cause__)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.NOT_FOUND, Fault.BUSY, Fault.LOAD_ERROR])
def test_a_sole_candidate_raises_what_the_plain_class_raises(server, path, fault):
    server.fail("bad:1b", fault)
    with pytest.raises(Exception) as plain:  # noqa: PT011 (whatever the plain class raises)
        path(ChatOllama(model="bad:1b", base_url=server.url))
    with pytest.raises(type(plain.value)) as ours:
        path(RoutedChatOllama(models=["bad:1b"], base_url=server.url, store="memory"))
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
    content, _ = path(RoutedChatOllama(models=["bad:1b", "good:1b"], base_url=server.url, store="memory"))
    assert content == ""


def test_a_failed_model_is_remembered_and_not_asked_first_again(server):
    llm = routed(server, (Fault.SERVER_ERROR, {}))
    for _ in range(4):
        llm.invoke("Count to ten")
    asked = [request.model for request in server.requests if request.path == "/api/chat"]
    assert asked.count("bad:1b") == 3  # then its circuit was open
    assert llm.router.performance()["bad:1b"].success_rate == 0
    assert llm.router.health_check_all_models()["bad:1b"] == "unhealthy"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
@pytest.mark.parametrize("name", ["ends without done", "empty answer", "error line in mid-stream", "500 at load"])
def test_every_failure_is_in_the_record_of_the_model_that_failed(server, name, path):
    llm = routed(server, FAULTS[name])
    path(llm)
    record = llm.router.performance()
    assert record["bad:1b"].total_requests >= 1
    assert record["bad:1b"].success_rate == 0
    assert record["good:1b"].success_rate == 1
