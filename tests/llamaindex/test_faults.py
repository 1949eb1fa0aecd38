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
from fault_table import ANSWER, BAD, FAULTS, GOOD, HANDED_OUT, assert_mended, both, leads, with_trouble

from llamaindex_routed_ollama import RoutedOllama
from routed_ollama import AllModelsFailedError, HostUnreachableError, InvalidAnswerError, RoutedOllamaError
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel

SONG = {"title": "Singing", "year": 1952}
NOTHING_SAID = [name for name, trouble in FAULTS.items() if not trouble.mid_stream]
"""Where the first model says something, a stream of objects has begun, and what has a schema is not gone on with."""
named = {"ids": lambda path: path.__name__}


@pytest.fixture
def server():
    with OllamaServer(both()) as running:
        yield running


def in_trouble(server, name):
    """Ours, with the model that is in trouble first in the list."""
    return with_trouble(
        server,
        name,
        lambda hosts: RoutedOllama(
            models=[BAD, GOOD],
            hosts=hosts,
            store="memory",
            timeouts=FAULTS[name].timeouts,
            config=leads("general"),
            temperature=0,
        ),
    )


ASKED = [
    pytest.param(name, path, id=f"{name}-{path.__name__}")
    for name, trouble in FAULTS.items()
    for path in (CHATS if trouble.endless else PATHS)  # a completion is a chat, and each of these waits
]
ASKED_OBJECTS = [
    pytest.param(name, path, id=f"{name}-{path.__name__}")
    for name in NOTHING_SAID
    for path in (STRUCTURED[::3] if FAULTS[name].endless else STRUCTURED)
]


@pytest.mark.parametrize(("name", "path"), ASKED)
def test_every_fault_is_answered_on_every_path(server, name, path):
    response = path(in_trouble(server, name))
    assert text(response) == ANSWER
    routing = response.raw["routing"]
    assert_mended(name, routing, streamed="stream" in path.__name__)
    json.dumps(routing)


@pytest.mark.parametrize(("name", "path"), ASKED_OBJECTS)
def test_structured_predict_answers_too(name, path):
    with OllamaServer(both(reply=json.dumps(SONG))) as server:
        assert path(in_trouble(server, name)).model_dump() == SONG


@pytest.mark.parametrize("path", STRUCTURED[:2], **named)
@pytest.mark.parametrize("name", [name for name in FAULTS if name not in NOTHING_SAID])
def test_structured_predict_that_does_not_stream_starts_anew(name, path):
    with OllamaServer(both(reply=json.dumps({**SONG, "title": "Singing in the rain again"}))) as server:
        assert path(in_trouble(server, name)).title == "Singing in the rain again"


@pytest.mark.parametrize("path", STREAMS, **named)
@pytest.mark.parametrize("opens", [True, False], ids=["prefill", "asked"])
def test_after_a_cut_the_text_is_what_was_handed_out_plus_its_continuation(server, path, opens):
    rest = " and that is all there is to say"
    server.add_model(ScriptedModel(GOOD, reply=rest, continues_prefill=opens))
    response = path(in_trouble(server, "closed in mid-stream"))
    assert response.message.content == HANDED_OUT + rest
    assert response.raw["routing"]["continued_at"] == len(HANDED_OUT)
    sent = server.requests[-1].body["messages"]
    assert [m["role"] for m in sent][1:] == (["assistant"] if opens else ["assistant", "user"])


@pytest.mark.parametrize("path", STREAMS, **named)
def test_mid_stream_raise_turns_joining_off(server, path):
    server.fail(BAD, Fault.CRASH, after_chunks=3)
    llm = RoutedOllama(model=BAD, models=[BAD, GOOD], base_url=server.url, store="memory", mid_stream="raise")
    with pytest.raises(Exception, match="an error was encountered while running the model"):
        path(llm)


@pytest.mark.parametrize("path", CHATS, **named)
def test_all_fail_in_one_error_that_lists_every_attempt(server, path):
    server.fail(None, Fault.SERVER_ERROR, text="kaputt")
    with pytest.raises(AllModelsFailedError) as caught:
        path(RoutedOllama(models=[BAD, GOOD], base_url=server.url, store="memory"))
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
    response = path(RoutedOllama(models=[BAD, GOOD], base_url=server.url, store="memory"))
    assert response.message.content in {"", None}
    assert len(response.raw["routing"]["attempts"]) == 2


@pytest.mark.parametrize("path", STRUCTURED, **named)
def test_an_answer_that_is_not_as_asked_has_the_next_asked(path):
    with OllamaServer(models(first={"reply": "I would rather chat."}, second={"reply": json.dumps(SONG)})) as server:
        assert path(routed(server.url)).model_dump() == SONG
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
    llm = in_trouble(server, "500 of its own")
    for _ in range(4):
        llm.complete("Count to ten")
    assert asked(server).count(BAD) == 3  # then its circuit was open
    assert llm.router.performance()[BAD].success_rate == 0
    assert llm.router.health_check_all_models()[BAD] == "unhealthy"
