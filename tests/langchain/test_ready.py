"""Ready-made ``ChatOllama`` instances beside names: used as they are, and left as they are."""

import asyncio

import pytest
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_ollama import ChatOllama
from ollama import Client
from wire import FIRST, SECOND, answered_by, asked, bodies, collected, models, plain, routed, whole

from langchain_routed_ollama import RoutedChatOllama
from routed_ollama.testing import Fault, OllamaServer


@pytest.fixture
def server():
    with OllamaServer(models()) as running:
        yield running


WAYS = {
    "invoke": lambda llm, **kwargs: llm.invoke("Hello", **kwargs),
    "ainvoke": lambda llm, **kwargs: asyncio.run(llm.ainvoke("Hello", **kwargs)),
    "stream": lambda llm, **kwargs: whole(llm.stream("Hello", **kwargs)),
    "astream": lambda llm, **kwargs: whole(asyncio.run(collected(llm.astream("Hello", **kwargs)))),
}
ways = pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)


def over(*ready, **kwargs):
    return RoutedChatOllama(models=list(ready), store="memory", learn=False, **kwargs)


@ways
def test_its_own_server_options_and_headers_are_used(ask, server):
    kwargs = {"temperature": 0.7, "keep_alive": "2m", "format": "json", "client_kwargs": {"headers": {"x-team": "a"}}}
    ready = plain(server.url, **kwargs)
    ask(ready)
    server.forget_requests()
    answer = ask(over(ready, temperature=0.1, keep_alive="9m"))
    assert answer.response_metadata["routing"]["host"] == server.url
    (body,) = bodies(server)
    assert (body["options"], body["keep_alive"], body["format"]) == ({"temperature": 0.7}, "2m", "json")
    assert {request.headers["x-team"] for request in server.requests} == {"a"}


@ways
def test_it_stands_beside_names_and_models_on_other_servers(ask, server):
    with OllamaServer(["elsewhere:7b"]) as other:
        llm = routed(server.url, models=[FIRST, ChatOllama(model="elsewhere:7b", base_url=other.url, top_k=3)])
        assert answered_by(ask(llm)) == FIRST
        server.fail(FIRST, Fault.SERVER_ERROR)
        answer = ask(llm)
        assert (answered_by(answer), answer.response_metadata["routing"]["host"]) == ("elsewhere:7b", other.url)
        assert bodies(other)[0]["options"] == {"top_k": 3}


@ways
def test_one_model_on_two_servers_is_two_candidates(ask, server):
    with OllamaServer([FIRST]) as other:
        llm = over(plain(server.url), plain(other.url))
        server.fail(None, Fault.SERVER_ERROR)
        assert ask(llm).response_metadata["routing"]["host"] == other.url
        server.heal()
        other.fail(None, Fault.SERVER_ERROR)
        assert ask(llm).response_metadata["routing"]["host"] == server.url


class Heard(BaseCallbackHandler):
    def __init__(self):
        self.events = []

    def on_chat_model_start(self, serialized, messages, *, metadata=None, **kwargs):
        self.events.append(("start", (metadata or {}).get("ls_model_name")))

    def on_llm_end(self, response, **kwargs):
        self.events.append(("end", response.generations[0][0].text))

    def on_llm_error(self, error, **kwargs):
        self.events.append(("error", type(error).__name__))


@ways
@pytest.mark.parametrize("wrap", [lambda handler: [handler], lambda handler: CallbackManager([handler])])
def test_its_callbacks_hear_its_attempts_and_no_others(ask, wrap, server):
    handler = Heard()
    llm = over(plain(server.url, callbacks=wrap(handler)), ChatOllama(model=SECOND, base_url=server.url), model=FIRST)
    ask(llm)
    server.fail(FIRST, Fault.SERVER_ERROR)
    ask(llm)
    assert handler.events == [
        ("start", FIRST),
        ("end", "You asked: Hello"),
        ("start", FIRST),
        ("error", "ResponseError"),
    ]


class Counting(BaseRateLimiter):
    def __init__(self):
        self.acquired = 0

    def acquire(self, *, blocking=True):
        self.acquired += 1
        return True

    async def aacquire(self, *, blocking=True):
        return self.acquire()


@ways
def test_its_rate_limiter_is_asked_for_its_attempts_and_no_others(ask, server):
    limiter = Counting()
    llm = over(plain(server.url, rate_limiter=limiter), ChatOllama(model=SECOND, base_url=server.url), model=FIRST)
    ask(llm)
    ask(llm, model=SECOND)
    assert limiter.acquired == 1


def test_it_is_left_as_it_was(server):
    headers = {"x-team": "a"}
    ready = plain(server.url, num_predict=3, client_kwargs={"headers": headers})
    fields, client, async_client = ready.model_dump(), ready._client, ready._async_client
    llm = over(ready)
    for ask in WAYS.values():
        ask(llm)
    llm.invoke("word " * 6_000)  # makes the context grow
    assert (ready.model_dump(), ready._client, ready._async_client) == (fields, client, async_client)
    assert headers == {"x-team": "a"}
    assert ready.invoke("Hello").text


def test_a_client_of_its_own_is_used(server):
    class Signing(Client):
        signed = 0

        def chat(self, *args, **kwargs):
            Signing.signed += 1
            return super().chat(*args, **kwargs)

    ready = plain(server.url)
    ready._client = Signing(host=server.url)
    over(ready).invoke("Hello")
    assert Signing.signed == 1


def test_a_subclass_of_the_plain_class_keeps_its_ways(server):
    class Polite(ChatOllama):
        def _convert_messages_to_ollama_messages(self, messages):
            converted = super()._convert_messages_to_ollama_messages(messages)
            return [{**message, "content": f"{message['content']}, please"} for message in converted]

    assert over(Polite(model=FIRST, base_url=server.url)).invoke("Hello").text == "You asked: Hello, please"


def test_its_own_context_length_is_not_changed(server):
    llm = over(plain(server.url, num_ctx=8192))
    llm.invoke("word " * 5_000)
    assert bodies(server)[0]["options"] == {"num_ctx": 8192}


def test_its_time_limit_holds(server):
    server.fail(FIRST, Fault.HANG_BEFORE_HEADERS)
    llm = over(
        plain(server.url, client_kwargs={"timeout": 0.3}), ChatOllama(model=SECOND, base_url=server.url), model=FIRST
    )
    assert answered_by(llm.invoke("Hello")) == SECOND
    assert asked(server) == [FIRST, SECOND]


def test_tools_and_structured_output_go_through_it(server):
    schema = {"title": "n", "description": "d", "type": "object", "properties": {"n": {"type": "integer"}}}
    llm = over(plain(server.url))
    assert llm.with_structured_output(schema).invoke("It is 7") == {"n": 7}
    assert llm.bind_tools([schema]).invoke("It is 7").tool_calls[0]["args"] == {"n": 7}


def test_a_single_instance_needs_no_list(server):
    assert answered_by(RoutedChatOllama(models=plain(server.url), store="memory").invoke("Hello")) == FIRST
