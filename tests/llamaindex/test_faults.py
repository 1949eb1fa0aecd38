"""Every fault on every path: every request is answered, and the history says who failed."""

import json

import pytest
from asking import (
    CHATS,
    FIRST,
    PATHS,
    SECOND,
    STREAMS,
    STRUCTURED,
    asked,
    models,
    plain,
    routed,
    text,
)
from llama_index.llms.ollama import Ollama

from llamaindex_routed_ollama import RoutedOllama
from routed_ollama import AllModelsFailedError, HostUnreachableError, InvalidAnswerError, RoutedOllamaError
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel

ANSWER = "one two three four five six seven eight nine ten"
TIMEOUTS = {"connect": 2, "load": 1, "first_token": 0.3, "between_tokens": 0.3}
GOOD = {"title": "Singing", "year": 1952}

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
named = {"ids": lambda path: path.__name__}


@pytest.fixture
def server():
    # The good one is smaller: after memory ran out nothing as large is tried.
    models = [ScriptedModel("good:1b", reply=ANSWER, size=10**8), ScriptedModel("bad:1b", reply=ANSWER)]
    with OllamaServer(models=models) as running:
        yield running


def with_fault(server, fault):
    """Ours, with the model that is going to fail first in the list."""
    if fault is not None:
        kind, details = fault
        server.fail("bad:1b", kind, **details)
        return over(server, "bad:1b")
    with OllamaServer(models=["bad:1b"]) as gone:
        llm = over(server, Ollama(model="bad:1b", base_url=gone.url))
        llm.router.recommend_model("so that it is known")  # ... and only then its server ends
    return llm


def over(server, bad):
    config = {"health": {"interval": 0}, "task_specific_models": {"general": ["bad:1b", "good:1b"]}}
    return RoutedOllama(
        models=[bad, "good:1b"], base_url=server.url, store="memory", timeouts=TIMEOUTS, config=config, temperature=0
    )


@pytest.mark.parametrize("path", PATHS, **named)
@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_answered_on_every_path(server, name, path):
    llm = with_fault(server, FAULTS[name])
    response = path(llm)
    assert text(response) == ANSWER
    routing = response.raw["routing"]
    assert routing["model"] == "good:1b"
    assert [(a["model"], a["outcome"]) for a in routing["attempts"]][:1] == [("bad:1b", "failed")]
    assert routing["attempts"][-1]["outcome"] == "ok"
    assert routing["attempts"][0]["error"]
    json.dumps(routing)
    if "mid-stream" in name and "stream" in path.__name__:
        assert routing["continued_at"] == len("one two three four")


@pytest.mark.parametrize("path", STRUCTURED, **named)
@pytest.mark.parametrize(
    "name",
    [
        name
        for name in FAULTS
        if "mid-stream" not in name and name not in {"ends without done", "line that is not JSON"}
    ],
)
def test_structured_predict_answers_too(server, name, path):
    for model in ("bad:1b", "good:1b"):
        server.add_model(ScriptedModel(model, reply=json.dumps(GOOD), size=10**8 if model == "good:1b" else 10**9))
    assert path(with_fault(server, FAULTS[name])).model_dump() == GOOD


@pytest.mark.parametrize("path", STRUCTURED[:2], **named)
@pytest.mark.parametrize("name", ["cut in mid-stream", "stall in mid-stream", "ends without done"])
def test_structured_predict_that_does_not_stream_starts_anew(server, name, path):
    for model in ("bad:1b", "good:1b"):
        server.add_model(ScriptedModel(model, reply=json.dumps(GOOD)))
    kind, _ = FAULTS[name]
    assert path(with_fault(server, (kind, {"after_chunks": 2}))).model_dump() == GOOD


@pytest.mark.parametrize("path", STREAMS, **named)
@pytest.mark.parametrize("opens", [True, False], ids=["prefill", "asked"])
def test_after_a_cut_the_text_is_what_was_handed_out_plus_its_continuation(server, path, opens):
    rest = " and that is all there is to say"
    server.add_model(ScriptedModel("good:1b", reply=rest, continues_prefill=opens))
    server.fail("bad:1b", Fault.CUT, after_chunks=3)
    response = path(over(server, "bad:1b"))
    assert response.message.content == "one two three" + rest
    assert response.raw["routing"]["continued_at"] == len("one two three")
    sent = server.requests[-1].body["messages"]
    assert [m["role"] for m in sent][1:] == (["assistant"] if opens else ["assistant", "user"])


@pytest.mark.parametrize("path", STREAMS, **named)
def test_mid_stream_raise_turns_joining_off(server, path):
    server.fail("bad:1b", Fault.CRASH, after_chunks=3)
    llm = RoutedOllama(
        model="bad:1b", models=["bad:1b", "good:1b"], base_url=server.url, store="memory", mid_stream="raise"
    )
    with pytest.raises(Exception, match="an error was encountered while running the model"):
        path(llm)


@pytest.mark.parametrize("path", CHATS, **named)
def test_all_fail_in_one_error_that_lists_every_attempt(server, path):
    server.fail(None, Fault.SERVER_ERROR, text="kaputt")
    with pytest.raises(AllModelsFailedError) as caught:
        path(RoutedOllama(models=["bad:1b", "good:1b"], base_url=server.url, store="memory"))
    assert str(caught.value).count("kaputt") == 2
    assert "kaputt" in str(caught.value.__cause__)


@pytest.mark.parametrize("path", CHATS, **named)
@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.NOT_FOUND, Fault.BUSY, Fault.LOAD_ERROR])
def test_a_sole_candidate_raises_what_the_plain_class_raises(path, fault):
    with OllamaServer(models()) as server:
        server.fail(FIRST, fault)
        with pytest.raises(Exception) as theirs:  # noqa: PT011 (whatever the plain class raises)
            path(plain(server.url))
        with pytest.raises(type(theirs.value)) as ours:
            path(routed(server.url, models=[FIRST]))
        assert type(ours.value) is type(theirs.value)
        assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("path", CHATS, **named)
def test_no_server_running_names_the_url_and_what_to_do(path):
    with OllamaServer() as gone:
        url = gone.url
    with pytest.raises(HostUnreachableError, match=f"{url}.*ollama serve.*OLLAMA_HOST"):
        path(RoutedOllama(base_url=url, store="memory"))


@pytest.mark.parametrize("path", CHATS, **named)
def test_empty_everywhere_is_returned_as_the_plain_class_does(server, path):
    server.fail(None, Fault.EMPTY)
    response = path(RoutedOllama(models=["bad:1b", "good:1b"], base_url=server.url, store="memory"))
    assert response.message.content in {"", None}
    assert len(response.raw["routing"]["attempts"]) == 2


@pytest.mark.parametrize("path", STRUCTURED, **named)
def test_an_answer_that_is_not_as_asked_has_the_next_asked(path):
    with OllamaServer(models(first={"reply": "I would rather chat."}, second={"reply": json.dumps(GOOD)})) as server:
        assert path(routed(server.url)).model_dump() == GOOD
        assert asked(server) == [FIRST, SECOND]


@pytest.mark.parametrize("path", STRUCTURED[:2], **named)
def test_a_schema_that_nobody_fulfils_shows_what_each_answered(path):
    unfit = models(first={"reply": "I would rather chat."}, second={"reply": "{}" + " " * 900})
    with OllamaServer(unfit) as server, pytest.raises(RoutedOllamaError) as caught:
        path(routed(server.url))
    assert isinstance(caught.value, AllModelsFailedError)
    assert "I would rather chat." in str(caught.value)
    assert "'{}'" in str(caught.value)
    assert len(str(caught.value)) < 1500
    with OllamaServer(models(reply="no")) as server, pytest.raises(InvalidAnswerError, match="'no'"):
        path(routed(server.url, models=[FIRST]))


def test_a_failed_model_is_remembered_and_not_asked_first_again(server):
    llm = with_fault(server, (Fault.SERVER_ERROR, {}))
    for _ in range(4):
        llm.complete("Count to ten")
    assert asked(server).count("bad:1b") == 3  # then its circuit was open
    assert llm.router.performance()["bad:1b"].success_rate == 0
    assert llm.router.health_check_all_models()["bad:1b"] == "unhealthy"
