"""What langchain-ollama's own tests look at from inside, seen from outside: beside the plain class, on the wire.

``benchmarks/upstream_suite.py`` runs those tests themselves; each that ends otherwise has here what it is about.
"""

import asyncio
import base64
import json
import logging
import warnings

import httpx
import pytest
from langchain_core.exceptions import ModelError
from langchain_core.messages import AIMessage, HumanMessage
from langchain_ollama import ChatOllama
from pydantic import ValidationError
from wire import FIRST, SECOND, answered_by, asked, bodies, collected, models, plain, routed

from langchain_routed_ollama import AllModelsFailed, ModelFailed, RoutedChatOllama
from routed_ollama import RoutedOllamaWarning
from routed_ollama.testing import Fault, OllamaServer

PATHS = {
    "invoke": lambda llm, asks, **kwargs: llm.invoke(asks, **kwargs),
    "ainvoke": lambda llm, asks, **kwargs: asyncio.run(llm.ainvoke(asks, **kwargs)),
    "stream": lambda llm, asks, **kwargs: list(llm.stream(asks, **kwargs)),
    "astream": lambda llm, asks, **kwargs: asyncio.run(collected(llm.astream(asks, **kwargs))),
}


@pytest.fixture
def server():
    with OllamaServer(models()) as running:
        yield running


@pytest.fixture(params=PATHS)
def ask(request):
    return PATHS[request.param]


# --- credentials in the address ---------------------------------------------------------------------------------------


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_credentials_of_the_address_go_with_every_request_beside_the_users_headers(ask, server):
    given = {"headers": {"X-Team": "blue"}}
    address = server.url.replace("://", "://user:p%40ss@")
    ask(routed(address, client_kwargs=given), "Hello")
    requests = [request for request in server.requests if request.path != "/api/version"]
    assert {"/api/tags", "/api/chat"} <= {request.path for request in requests}
    assert {request.headers.get("authorization") for request in requests} == {basic("user", "p@ss")}
    assert {request.headers.get("x-team") for request in requests} == {"blue"}
    assert given == {"headers": {"X-Team": "blue"}}


def test_credentials_of_one_address_are_not_sent_to_another(ask, server):
    with OllamaServer(models()) as other:
        mine = server.url.replace("://", "://user:secret@")
        server.fail(None, Fault.SERVER_ERROR)
        llm = RoutedChatOllama(hosts=[mine, other.url], models=[FIRST], store="memory", client_kwargs={"headers": {}})
        ask(llm, "Hello")
        assert asked(other) == [FIRST]
        assert {request.headers.get("authorization") for request in other.requests} == {None}


# --- log probabilities ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, -1])
@pytest.mark.parametrize("kind", [ChatOllama, RoutedChatOllama])
def test_top_logprobs_below_one_is_refused_in_the_same_words(kind, number):
    with pytest.raises(ValidationError, match="`top_logprobs` must be a positive integer"):
        kind(model=FIRST, top_logprobs=number)


@pytest.mark.parametrize("kind", [ChatOllama, RoutedChatOllama])
def test_top_logprobs_without_logprobs_is_a_contradiction(kind):
    with pytest.raises(ValidationError, match=r"logprobs.*explicitly.*False"):
        kind(model=FIRST, top_logprobs=2, logprobs=False)


def test_top_logprobs_switches_logprobs_on_and_says_so_once(ask, server):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        llm = routed(server.url, top_logprobs=2)
        ask(llm, "Hello")
    said = [each for each in caught if "logprobs" in str(each.message)]
    assert [each.category for each in said] == [RoutedOllamaWarning]
    assert llm.logprobs is True
    assert [(body["logprobs"], body["top_logprobs"]) for body in bodies(server)] == [(True, 2)]


def test_top_logprobs_with_logprobs_says_nothing(server):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        routed(server.url, top_logprobs=2, logprobs=True)


@pytest.mark.parametrize("given", [{"temprature": 0}, {"top_logprobs": 2}], ids=str)
def test_a_warning_points_at_the_line_that_gave_the_argument(given):
    with pytest.warns(RoutedOllamaWarning, match=next(iter(given))) as caught:
        RoutedChatOllama(model=FIRST, **given)
    assert caught[0].filename == __file__


# --- nothing to answer, and nothing answered --------------------------------------------------------------------------


def test_no_messages_are_a_value_error_as_in_the_plain_class_but_load_no_model(ask, server):
    with pytest.raises(ValueError, match="no messages"):
        ask(routed(server.url), [])
    assert (asked(server), server.loads) == ([], {})
    with pytest.raises(ValueError, match="No "):
        ask(plain(server.url), [])


def test_a_sole_model_that_sends_nothing_is_a_value_error_as_in_the_plain_class(ask, server):
    server.fail(FIRST, Fault.END_WITHOUT_DONE, after_chunks=0)
    with pytest.raises(ValueError, match="No "):
        ask(plain(server.url), "Hello")
    with pytest.raises(ValueError, match="No data received from Ollama stream") as raised:
        ask(routed(server.url, models=[FIRST]), "Hello")
    assert isinstance(raised.value, ModelError)
    assert isinstance(raised.value, ModelFailed)


def test_when_one_sends_nothing_another_answers(ask, server):
    server.fail(FIRST, Fault.END_WITHOUT_DONE, after_chunks=0)
    assert ask(routed(server.url), "Hello")
    assert asked(server) == [FIRST, SECOND]


def test_when_all_send_nothing_each_is_named(ask, server):
    server.fail(None, Fault.END_WITHOUT_DONE, after_chunks=0)
    with pytest.raises(AllModelsFailed) as raised:
        ask(routed(server.url), "Hello")
    assert {where.split(" @ ")[0] for where, _ in raised.value.errors} == {FIRST, SECOND}
    assert all("No data received" in str(error) for _, error in raised.value.errors)


def host(*lines):
    """A host with one model whose answer is these lines."""
    listed = {"models": [{"name": FIRST, "model": FIRST, "size": 10**9, "digest": "0" * 64, "details": {}}]}
    said = {
        "/api/tags": listed,
        "/api/ps": {"models": []},
        "/api/version": {"version": "0.24.0"},
        "/api/show": {"capabilities": ["completion"], "details": {}, "model_info": {}},
    }
    body = "".join(json.dumps({"model": FIRST, "created_at": "2026-01-01T00:00:00Z", **line}) + "\n" for line in lines)

    def answer(request):
        if request.url.path == "/api/chat":
            return httpx.Response(200, text=body)
        return httpx.Response(200, json=said[request.url.path])

    return httpx.MockTransport(answer)


LOADED = {"message": {"role": "assistant", "content": " \n"}, "done": True, "done_reason": "load"}
SAID = {"message": {"role": "assistant", "content": "At your service."}, "done": True, "done_reason": "stop"}


def over(transport, **kwargs):
    return RoutedChatOllama(models=[FIRST], store="memory", client_kwargs={"transport": transport}, **kwargs)


def test_a_line_that_only_says_loaded_is_no_answer(ask, caplog):
    with caplog.at_level(logging.WARNING), pytest.raises(ValueError, match="No data received from Ollama stream"):
        ask(over(host(LOADED)), "Hello")
    assert "done_reason='load'" in caplog.text


def test_a_line_that_only_says_loaded_is_skipped_before_the_answer():
    answer = over(host(LOADED, SAID)).invoke("Hello")
    assert (answer.content, answer.response_metadata["done_reason"]) == ("At your service.", "stop")
    assert answered_by(answer) == FIRST


def test_an_answer_whose_reason_is_load_is_an_answer(caplog):
    with caplog.at_level(logging.WARNING):
        assert over(host({**SAID, "done_reason": "load"})).invoke("Hello").content == "At your service."
    assert not caplog.text


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_a_history_is_sent_as_the_plain_class_sends_it_and_left_as_it_was(ask, server):
    spoken = AIMessage([{"type": "text", "text": "Four."}], response_metadata={"output_version": "v1"})
    history = [
        HumanMessage("What is 2 + 2?", additional_kwargs={"reasoning_content": "not an answer's"}),
        AIMessage("4", additional_kwargs={"reasoning_content": "Two and two."}),
        HumanMessage("In words?"),
        spoken,
        HumanMessage("And in short?"),
        AIMessage("4", additional_kwargs={"reasoning_content": ""}),
        HumanMessage("Thank you."),
    ]
    before = list(history)
    for llm in (plain(server.url), routed(server.url)):
        ask(llm, history)
    theirs, ours = (body["messages"] for body in bodies(server))
    assert ours == theirs
    assert [index for index, message in enumerate(ours) if message.get("thinking")] == [1]
    assert all(one is other for one, other in zip(history, before, strict=True))
    assert spoken.content == [{"type": "text", "text": "Four."}]


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FORMS = {
    "an object": ({"response_format": {"type": "json_object"}}, 0),
    "a schema": ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}, 0),
    "both, of which format is taken": ({"format": "json", "response_format": {"type": "json_object"}}, 1),
    "no mapping": ({"response_format": ["json"]}, 1),
    "a kind that is not known": ({"response_format": {"type": "text"}}, 1),
    "a schema without one": ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, 1),
    "a schema that is none": ({"response_format": {"type": "json_schema", "json_schema": "x"}}, 1),
    "strict": ({"strict": True}, 0),
    "options of the call": ({"options": {"temperature": 0.5, "custom": None}}, 0),
    "reasoning": ({"reasoning": False}, 0),
}


@pytest.mark.parametrize("form", FORMS)
def test_arguments_of_a_call_become_the_plain_classs_request_with_its_warnings(ask, server, form):
    arguments, warned = FORMS[form]
    said = []
    for llm in (plain(server.url), routed(server.url)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ask(llm, "Where is the tower? Say it in JSON.", **arguments)
        said.append([str(each.message) for each in caught if "format" in str(each.message)])
    assert said[0] == said[1]
    assert len(said[0]) == warned
    theirs, ours = bodies(server)
    assert ours == theirs
