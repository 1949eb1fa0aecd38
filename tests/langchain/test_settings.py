"""Settings: every argument of the plain class does here what it does there."""

import asyncio
import warnings

import pytest
from langchain_ollama import ChatOllama
from pydantic import ValidationError
from wire import FIRST, SECOND, answered_by, asked, bodies, collected, models, plain, routed

from langchain_routed_ollama import RoutedChatOllama
from routed_ollama import ConfigurationError, RoutedOllamaWarning, Timeouts
from routed_ollama.testing import Fault, OllamaServer

SECRET = "s3cret-p4ss"  # noqa: S105 (made up)


@pytest.fixture
def server():
    with OllamaServer(models(capabilities=("completion", "tools", "thinking"))) as running:
        yield running


# --- fields ----------------------------------------------------------------------------------------------------------


def test_every_field_of_the_plain_class_is_here_and_of_the_same_kind():
    theirs, ours = ChatOllama.model_fields, RoutedChatOllama.model_fields
    assert theirs.keys() - ours.keys() == set()
    ours_only = ours.keys() - theirs.keys()
    assert ours_only == {
        "models",
        "hosts",
        "prefer",
        "config",
        "router",
        "store",
        "mid_stream",
        "max_attempts",
        "max_retries",
        "timeouts",
        "timeout",
        "learn",
        "api_key",
        "attempt_callbacks",
    }
    for name in theirs.keys() - {"model"}:
        assert ours[name].get_default(call_default_factory=True) == theirs[name].get_default(
            call_default_factory=True
        ), name


REQUESTS = {
    "nothing": ({}, {}),
    "temperature": ({"temperature": 0.2}, {}),
    "every option": (
        {
            "mirostat": 1,
            "mirostat_eta": 0.2,
            "mirostat_tau": 4.0,
            "num_ctx": 2048,
            "num_gpu": 0,
            "num_thread": 2,
            "num_predict": 5,
            "repeat_last_n": 8,
            "repeat_penalty": 1.2,
            "temperature": 0.0,
            "seed": 7,
            "stop": ["END"],
            "tfs_z": 1.0,
            "top_k": 5,
            "top_p": 0.5,
        },
        {},
    ),
    "format": ({"format": "json"}, {}),
    "schema": ({"format": {"type": "object", "properties": {"n": {"type": "integer"}}}}, {}),
    "keep alive": ({"keep_alive": "3m"}, {}),
    "keep alive for ever": ({"keep_alive": -1}, {}),
    "keep alive not at all": ({"keep_alive": 0}, {}),
    "reasoning": ({"reasoning": True}, {}),
    "no reasoning": ({"reasoning": False}, {}),
    "reasoning level": ({"reasoning": "high"}, {}),
    "logprobs": ({"logprobs": True, "top_logprobs": 2}, {}),
    "call: stop": ({}, {"stop": ["END"]}),
    "call: options replace": ({"temperature": 0.2, "num_ctx": 2048}, {"options": {"seed": 1}}),
    "call: empty options": ({"temperature": 0.2}, {"options": {}}),
    "call: format": ({"format": "json"}, {"format": ""}),
    "call: response_format": (
        {},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object", "properties": {}}}}},
    ),
    "call: json_object": ({}, {"response_format": {"type": "json_object"}}),
    "call: keep alive": ({"keep_alive": "3m"}, {"keep_alive": "9m"}),
    "call: reasoning": ({}, {"reasoning": "low"}),
    "call: logprobs": ({}, {"logprobs": True, "top_logprobs": 1}),
    "call: tools": ({}, {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}),
    "call: strict": ({}, {"strict": True}),
    "call: model": ({}, {"model": SECOND}),
}


@pytest.mark.parametrize(("fields", "call"), REQUESTS.values(), ids=REQUESTS)
def test_the_request_is_the_one_that_the_plain_class_sends(fields, call, server):
    theirs, ours = plain(server.url, **fields), routed(server.url, **fields)
    theirs.invoke("Hello", **call)
    ours.invoke("Hello", **call)
    list(ours.stream("Hello", **call))
    asyncio.run(ours.ainvoke("Hello", **call))
    asyncio.run(collected(ours.astream("Hello", **call)))
    first, *others = bodies(server)
    assert others == [first] * 4


@pytest.mark.parametrize(
    ("fields", "call"),
    [
        ({"stop": ["x"]}, {"stop": ["y"]}),
        ({}, {"temperature": 0.1}),
        ({}, {"max_tokens": 5}),
        ({}, {"tool_choice": "any"}),
        ({}, {"surprise": 1}),
    ],
    ids=["stop twice", "temperature", "max_tokens", "tool_choice", "unknown"],
)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_a_call_may_not_have_is_refused_as_by_the_plain_class(fields, call, asynchronous, server):
    errors = []
    for llm in (plain(server.url, **fields), routed(server.url, **fields)):
        with pytest.raises((TypeError, ValueError)) as caught:
            asyncio.run(llm.ainvoke("Hello", **call)) if asynchronous else llm.invoke("Hello", **call)
        errors.append((type(caught.value), str(caught.value)))
    assert errors[0] == errors[1]
    assert asked(server) == []


def test_the_names_of_other_chat_models_are_mapped(server):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        llm = routed(server.url, max_tokens=3, timeout=20.0, max_retries=1, stop=["END"], api_key=SECRET)
        assert routed(server.url, request_timeout=20.0).timeout == 20.0
    assert llm.num_predict == 3
    llm.invoke("one two three four five")
    assert bodies(server)[0]["options"] == {"num_predict": 3, "stop": ["END"]}
    server.add_model("third:7b")
    server.fail(None, Fault.SERVER_ERROR)
    server.forget_requests()
    with pytest.raises(Exception, match="Every model"):
        llm.invoke("Hello", model="third:7b")
    assert len(asked(server)) == 2


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [("temprature", "temperature"), ("keepalive", "keep_alive"), ("modles", "models"), ("basee_url", "base_url")],
)
def test_an_unknown_argument_is_a_warning_that_names_the_nearest(wrong, nearest):
    with pytest.warns(RoutedOllamaWarning, match=f"'{wrong}'.*'{nearest}'") as caught:
        RoutedChatOllama(store="memory", **{wrong: 1})
    assert caught[0].filename == __file__


def test_an_argument_like_no_other_is_a_warning_too():
    with pytest.warns(RoutedOllamaWarning, match="'zzqqxx' is ignored"):
        RoutedChatOllama(store="memory", zzqqxx=1)


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": "warm"},
        {"top_logprobs": 0},
        {"format": "yaml"},
        {"num_ctx": "many"},
        {"top_logprobs": 2, "logprobs": False},
    ],
    ids=str,
)
def test_what_the_plain_class_refuses_is_refused_when_it_is_made(fields):
    for make in (lambda: ChatOllama(model=FIRST, **fields), lambda: RoutedChatOllama(store="memory", **fields)):
        with pytest.raises(ValidationError):
            make()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"models": []}, "models is empty"),
        ({"models": [7]}, "expected names and ChatOllama instances, found int"),
        ({"prefer": "luck"}, "prefer"),
        ({"mid_stream": "pray"}, "mid_stream"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"timeout": -1}, "timeout"),
        ({"timeouts": {"frist_token": 3}}, "first_token"),
        ({"timeouts": {"total": -3}}, "total"),
        ({"base_url": "ftp://host"}, "expected http"),
        ({"hosts": ["http://a b"]}, "not the address"),
        ({"config": {"routing": {"prefer": "luck"}}}, "routing.prefer"),
        ({"config": "no/such/file.json"}, "no/such/file.json"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_when_it_is_made(fields, text):
    with pytest.raises((ConfigurationError, ValidationError), match=text):
        RoutedChatOllama(**{"store": "memory", **fields})


def test_making_one_waits_for_no_server_and_asks_none(server):
    routed(server.url)
    RoutedChatOllama(base_url="http://127.0.0.1:9", store="memory", models=[FIRST])
    assert server.requests == ()


def test_with_ready_made_models_alone_their_servers_alone_are_asked(server, monkeypatch):
    with OllamaServer([FIRST]) as usual:
        monkeypatch.setenv("OLLAMA_HOST", usual.url)
        RoutedChatOllama(models=[plain(server.url)], store="memory").invoke("Hello")
        assert usual.requests == ()
        assert asked(server) == [FIRST]


def test_a_model_that_one_of_several_servers_has_is_found_at_once(server):
    with OllamaServer(["elsewhere:7b"]) as other:
        llm = RoutedChatOllama(
            hosts=[server.url, other.url], models=[FIRST, "elsewhere:7b"], store="memory", validate_model_on_init=True
        )
        assert llm.invoke("Hello").text


def test_looking_for_models_where_no_server_is_fails_as_the_plain_class_does():
    with OllamaServer() as gone:
        url = gone.url
    errors = []
    for make in (plain, routed):
        with pytest.raises(Exception, match="connect") as caught:
            make(url, validate_model_on_init=True)
        errors.append((type(caught.value), str(caught.value)))
    assert errors[0] == errors[1]


@pytest.mark.parametrize(("fields", "names"), [({"models": [FIRST, "absent:7b"]}, "absent:7b"), ({}, None)])
def test_models_are_looked_for_at_once_when_that_is_asked_for(fields, names, server):
    make = lambda: routed(server.url, validate_model_on_init=True, **fields)  # noqa: E731
    if names:
        with pytest.raises(ValueError, match=names):
            make()
    else:
        make()
    assert server.requests
    assert asked(server) == []


def test_a_name_without_its_tag_is_found(server):
    server.add_model("plainname")
    for name in ("plainname", "plainname:latest"):
        assert answered_by(routed(server.url, models=[name], model=None).invoke("Hello")) == "plainname:latest"
    assert answered_by(routed(server.url, models=FIRST, model=None).invoke("Hello")) == FIRST


def test_the_environment_says_where_ollama_is(server, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", server.url.removeprefix("http://"))
    assert answered_by(RoutedChatOllama(store="memory").invoke("Hello")) in {FIRST, SECOND}


@pytest.mark.parametrize("fields", [{"hosts": []}, {"config": {}}], ids=["hosts", "config"])
def test_several_servers(fields, server):
    with OllamaServer(["elsewhere:7b"]) as other:
        both = [server.url, other.url]
        given = {"hosts": both} if "hosts" in fields else {"config": {"hosts": both}}
        llm = RoutedChatOllama(store="memory", **given)
        assert llm.invoke("Hello", model="elsewhere:7b").response_metadata["routing"]["host"] == other.url
        assert llm.invoke("Hello", model=FIRST).response_metadata["routing"]["host"] == server.url


@pytest.mark.parametrize("timeouts", [Timeouts(first_token=1), {"first_token": 1}], ids=["object", "mapping"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_time_limits_by_phase(timeouts, asynchronous, server):
    list(map(routed(server.url).invoke, ["Hello", "Hello"]))
    routed(server.url).invoke("Hello", model=SECOND)
    server.fail(FIRST, Fault.HANG)
    llm = routed(server.url, timeouts=timeouts)
    llm.router.health_check_all_models()  # both are in memory
    answer = asyncio.run(llm.ainvoke("Hello")) if asynchronous else llm.invoke("Hello")
    attempts = answer.response_metadata["routing"]["attempts"]
    assert [attempt["model"] for attempt in attempts] == [FIRST, SECOND]
    assert "timeouts={'first_token': ...}" in attempts[0]["error"]


@pytest.mark.parametrize("limit", [{"timeout": 2}, {"client_kwargs": {"timeout": 2}}], ids=["timeout", "client_kwargs"])
def test_a_time_limit_as_the_plain_class_has_it(limit, server):
    server.fail(FIRST, Fault.HANG_BEFORE_HEADERS)
    assert answered_by(routed(server.url, **limit).invoke("Hello")) == SECOND
