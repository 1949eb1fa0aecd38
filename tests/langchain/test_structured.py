"""Structured output: three methods, three kinds of schema; what one model says unfit, the next is asked for."""

import asyncio
import json
import pickle
from typing import Any, TypedDict

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import HumanMessage
from langchain_ollama import ChatOllama
from pydantic import BaseModel
from wire import FIRST, SECOND, asked, bodies, collected, models, plain, routed

from langchain_routed_ollama import AllAnswersUnfit, AllModelsFailed, AnswerUnfit, RoutedChatOllama
from routed_ollama import RoutedOllamaError
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel, ToolCall


class Joke(BaseModel):
    """A joke."""

    setup: str
    rating: int


class JokeDict(TypedDict):
    """A joke."""

    setup: str
    rating: int


JOKE_SCHEMA = {
    "title": "joke",
    "description": "A joke.",
    "type": "object",
    "properties": {"setup": {"type": "string"}, "rating": {"type": "integer"}},
    "required": ["setup", "rating"],
}
GOOD = {"setup": "Why?", "rating": 7}
SCHEMAS = {"pydantic": Joke, "typed dict": JokeDict, "json schema": JOKE_SCHEMA}
METHODS = ("json_schema", "function_calling", "json_mode")

methods = pytest.mark.parametrize("method", METHODS)
schemas = pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)


def fit(request):
    """An answer as it was asked for, by whatever method."""
    return [ToolCall(name=request.tools[0]["function"]["name"], arguments=GOOD)] if request.tools else json.dumps(GOOD)


def unfit(request):
    """Text that is not JSON, and calls no tool."""
    return "I would rather chat."


def wrong_fields(request):
    """JSON, or a tool call, without what is required."""
    bad = {"setup": "Why?", "rating": "many"}
    return [ToolCall(name=request.tools[0]["function"]["name"], arguments=bad)] if request.tools else json.dumps(bad)


@pytest.fixture
def serve():
    """Starts a server whose two models answer as given."""
    running = []

    def start(first, second=fit):
        running.append(OllamaServer(models(first={"reply": first}, second={"reply": second})).start())
        return running[-1]

    yield start
    for server in running:
        server.stop()


def as_dict(parsed):
    return parsed.model_dump() if isinstance(parsed, BaseModel) else parsed


@methods
@schemas
@pytest.mark.parametrize("include_raw", [False, True])
def test_parsed_as_the_plain_class_does_it(method, schema, include_raw, serve):
    server = serve(fit)
    kwargs = {"method": method, "include_raw": include_raw}
    theirs = plain(server.url).with_structured_output(schema, **kwargs).invoke("A joke, please")
    chain = routed(server.url).with_structured_output(schema, **kwargs)
    for ours in (chain.invoke("A joke, please"), asyncio.run(chain.ainvoke("A joke, please"))):
        if not include_raw:
            assert ours == theirs
            continue
        assert ours.keys() == theirs.keys()
        assert (ours["parsed"], ours["parsing_error"]) == (theirs["parsed"], None)
        assert ours["raw"].response_metadata["routing"]["model"] == FIRST
    theirs, *ours = bodies(server)
    assert ours == [theirs, theirs]


@pytest.mark.live
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
@pytest.mark.parametrize("schema", [Joke, JOKE_SCHEMA], ids=["pydantic", "json schema"])
def test_any_server_gives_what_the_schema_asks_for(method, schema, ollama_url, request):
    models = request.getfixturevalue("tool_models" if method == "function_calling" else "chat_models")
    llm = RoutedChatOllama(models=models, model=models[0], base_url=ollama_url, store="memory", temperature=0)
    result = llm.with_structured_output(schema, method=method).invoke("Tell me a joke and rate it from 1 to 10.")
    assert set(as_dict(result)) >= {"setup", "rating"}  # a schema like this one allows more


@methods
@schemas
@pytest.mark.parametrize("include_raw", [False, True])
def test_what_one_model_says_unfit_the_next_is_asked_for(method, schema, include_raw, serve):
    server = serve(unfit)
    chain = routed(server.url).with_structured_output(schema, method=method, include_raw=include_raw)
    for result in (chain.invoke("A joke, please"), asyncio.run(chain.ainvoke("A joke, please"))):
        parsed = result["parsed"] if include_raw else result
        assert as_dict(parsed) == GOOD
    assert asked(server) == [FIRST, SECOND] * 2


@methods
def test_an_answer_that_pydantic_refuses_is_unfit_too(method, serve):
    server = serve(wrong_fields)
    result = routed(server.url).with_structured_output(Joke, method=method).invoke("A joke, please")
    assert result == Joke(**GOOD)
    assert asked(server) == [FIRST, SECOND]


def test_the_route_says_which_model_was_unfit_and_why(serve):
    server = serve(unfit)
    chain = routed(server.url).with_structured_output(Joke, include_raw=True)
    attempts = chain.invoke("A joke, please")["raw"].response_metadata["routing"]["attempts"]
    assert [attempt["outcome"] for attempt in attempts] == ["failed", "ok"]
    assert attempts[0]["error"].startswith("InvalidAnswerError")


@methods
@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.EMPTY, Fault.CUT])
def test_a_model_that_fails_is_passed_over_as_ever(method, fault, serve):
    server = serve(fit)
    server.fail(FIRST, fault)
    chain = routed(server.url).with_structured_output(Joke, method=method)
    assert chain.invoke("A joke, please") == Joke(**GOOD)
    assert asked(server)[-1] == SECOND


# --- nobody gives what is asked for ----------------------------------------------------------------------------------


@methods
@schemas
def test_include_raw_never_raises_for_what_cannot_be_parsed(method, schema, serve):
    server = serve(unfit, unfit)
    theirs = plain(server.url).with_structured_output(schema, method=method, include_raw=True).invoke("A joke")
    ours = routed(server.url).with_structured_output(schema, method=method, include_raw=True).invoke("A joke")
    assert ours["raw"].text == theirs["raw"].text == "I would rather chat."
    assert (ours["parsed"], type(ours["parsing_error"])) == (theirs["parsed"], type(theirs["parsing_error"]))


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
@schemas
def test_without_raw_the_error_is_the_plain_classs_and_ours(method, schema, serve):
    server = serve(unfit, unfit)
    for llm in (plain(server.url), routed(server.url)):
        with pytest.raises(OutputParserException) as caught:
            llm.with_structured_output(schema, method=method).invoke("A joke")
    assert asked(server) == [FIRST, FIRST, SECOND]
    assert isinstance(caught.value, AllAnswersUnfit)
    assert str(caught.value).count("answered 'I would rather chat.'") == 2
    once = routed(server.url, max_attempts=1).with_structured_output(schema, method=method)
    with pytest.raises(AnswerUnfit, match=r"answered 'I would rather chat\.'") as caught:
        once.invoke("A joke")
    assert isinstance(caught.value, OutputParserException)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), AnswerUnfit)  # noqa: S301 (our own)


@schemas
def test_no_tool_call_from_anybody_is_none_as_with_the_plain_class(schema, serve):
    server = serve(unfit, unfit)
    for llm in (plain(server.url), routed(server.url)):
        assert llm.with_structured_output(schema, method="function_calling").invoke("A joke") is None


# --- streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
@pytest.mark.parametrize("schema", [JokeDict, JOKE_SCHEMA], ids=["typed dict", "json schema"])
def test_a_dict_comes_in_parts_as_from_the_plain_class(method, schema, serve):
    server = serve(lambda _: ['{"setup": "Wh', 'y?", ', '"rating": 7}'])
    theirs = list(plain(server.url).with_structured_output(schema, method=method).stream("A joke"))
    chain = routed(server.url).with_structured_output(schema, method=method)
    assert list(chain.stream("A joke")) == asyncio.run(collected(chain.astream("A joke"))) == theirs
    assert theirs[-1] == GOOD
    assert len(theirs) > 1


@methods
@schemas
def test_a_stream_ends_with_the_whole_answer(method, schema, serve):
    server = serve(fit)
    theirs = list(plain(server.url).with_structured_output(schema, method=method).stream("A joke"))
    chain = routed(server.url).with_structured_output(schema, method=method)
    assert list(chain.stream("A joke")) == asyncio.run(collected(chain.astream("A joke"))) == theirs
    assert as_dict(theirs[-1]) == GOOD


@methods
@pytest.mark.parametrize("reply", [unfit, wrong_fields])
def test_a_streamed_pydantic_answer_is_held_until_it_is_known_to_fit(method, reply, serve):
    server = serve(reply)
    chain = routed(server.url).with_structured_output(Joke, method=method)
    assert list(chain.stream("A joke")) == [Joke(**GOOD)]
    assert asyncio.run(collected(chain.astream("A joke"))) == [Joke(**GOOD)]
    assert asked(server) == [FIRST, SECOND] * 2


@methods
def test_a_stream_with_raw_ends_with_what_was_parsed(method, serve):
    server = serve(unfit)
    chain = routed(server.url).with_structured_output(Joke, method=method, include_raw=True)
    parts = list(chain.stream("A joke"))
    assert [part["parsed"] for part in parts if "parsed" in part][-1] == Joke(**GOOD)
    assert [part["parsing_error"] for part in parts if "parsing_error" in part][-1] is None


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
@pytest.mark.parametrize("schema", [JokeDict, JOKE_SCHEMA], ids=["typed dict", "json schema"])
@pytest.mark.parametrize("thinking", ["", "Let me see."])
def test_a_streamed_dict_that_never_begins_is_asked_of_the_next(method, schema, thinking):
    with OllamaServer(models(first={"reply": unfit}, second={"reply": fit}, thinking=thinking)) as server:
        chain = routed(server.url, reasoning=bool(thinking)).with_structured_output(schema, method=method)
        assert list(chain.stream("A joke"))[-1] == GOOD
        assert asyncio.run(collected(chain.astream("A joke")))[-1] == GOOD
        assert asked(server) == [FIRST, SECOND] * 2


def test_a_streamed_dict_that_goes_wrong_ends_as_from_the_plain_class(serve):
    server = serve(lambda _: ['{"setup": "Why?", ', '"rating": ', "seven, I think"])
    theirs = list(plain(server.url).with_structured_output(JOKE_SCHEMA).stream("A joke"))
    assert list(routed(server.url).with_structured_output(JOKE_SCHEMA).stream("A joke")) == theirs
    assert theirs[-1]["setup"] == "Why?"


def test_a_streamed_dict_that_stops_too_early_ends_as_from_the_plain_class(serve):
    server = serve(lambda _: ['{"setup": "Wh', 'y?", ', '"rating": 7}'])
    theirs = list(plain(server.url, num_predict=2).with_structured_output(JOKE_SCHEMA).stream("A joke"))
    ours = list(routed(server.url, num_predict=2).with_structured_output(JOKE_SCHEMA).stream("A joke"))
    assert ours == theirs
    assert theirs[-1] == {"setup": "Why?"}


def test_json_that_breaks_off_in_a_stream_is_not_joined_with_another_models(serve):
    server = serve(lambda _: ['{"setup": "Wh', 'y?", ', '"rating": 7}'])
    server.fail(FIRST, Fault.CUT, after_chunks=1)
    stream = routed(server.url).with_structured_output(JOKE_SCHEMA).stream("A joke")
    with pytest.raises(Exception, match=r"disconnected|reset|peer|closed|Read"):
        list(stream)
    assert asked(server) == [FIRST]


# --- around it -------------------------------------------------------------------------------------------------------


def test_function_calling_asks_only_models_with_tools():
    with OllamaServer(models(first={"capabilities": ["completion"]}, reply=fit)) as server:
        chain = routed(server.url).with_structured_output(Joke, method="function_calling")
        assert chain.invoke("A joke") == Joke(**GOOD)
        assert asked(server) == [SECOND]


def test_the_model_itself_is_left_as_it_was(serve):
    server = serve(unfit)
    llm = routed(server.url)
    llm.with_structured_output(Joke)
    assert llm.invoke("Hello").text == "I would rather chat."


def test_what_is_bound_before_or_after_stays(serve):
    server = serve(unfit)
    chain = routed(server.url).with_structured_output(Joke).with_config(tags=["mine"])
    assert chain.batch(["one", "two"]) == [Joke(**GOOD)] * 2
    assert chain.invoke([HumanMessage("A joke")]) == Joke(**GOOD)


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [({"method": "telepathy"}, ValueError), ({"surprise": 1}, ValueError)],
    ids=["unknown method", "unknown argument"],
)
def test_wrong_arguments_are_refused_as_by_the_plain_class(kwargs, error, serve):
    server = serve(fit)
    texts: list[Any] = []
    for llm in (plain(server.url), routed(server.url)):
        with pytest.raises(error) as caught:
            llm.with_structured_output(Joke, **kwargs)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]


@methods
def test_strict_is_accepted_as_by_the_plain_class(method, serve):
    server = serve(fit)
    results = []
    for llm in (plain(server.url), routed(server.url)):
        try:
            results.append(llm.with_structured_output(Joke, method=method, strict=True).invoke("A joke"))
        except ValueError as error:
            results.append(str(error))
    assert results[0] == results[1]


def test_when_some_are_unfit_and_the_others_dead_the_unfit_answer_is_judged_as_the_plain_class_would(serve):
    server = serve(unfit)
    server.fail(SECOND, Fault.SERVER_ERROR)
    with pytest.raises(OutputParserException):
        routed(server.url).with_structured_output(Joke).invoke("A joke")
    raw = routed(server.url).with_structured_output(Joke, include_raw=True).invoke("A joke")
    assert raw["raw"].text == "I would rather chat."
    server.fail(FIRST, Fault.SERVER_ERROR)
    with pytest.raises(AllModelsFailed) as caught:
        routed(server.url).with_structured_output(Joke).invoke("A joke")
    assert isinstance(caught.value, RoutedOllamaError)


def test_ready_made_models_are_checked_too():
    scripted = [ScriptedModel(FIRST, reply=unfit), ScriptedModel(SECOND, reply=fit)]
    with OllamaServer(scripted) as server:
        ready = [ChatOllama(model=name, base_url=server.url) for name in (FIRST, SECOND)]
        assert routed(server.url, models=ready).with_structured_output(Joke).invoke("A joke") == Joke(**GOOD)
