"""The eleven pitfalls that LangChain's standard tests miss. Each check passes with ours, fails with a naive one."""

import asyncio
import gc

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import ConfigurableField
from langchain_core.tools import tool
from langchain_ollama import ChatOllama
from naive import NaiveRouted

from langchain_routed_ollama import RoutedChatOllama
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel


@tool
def weather(city: str) -> str:
    """Say how the weather in a city is."""
    return city


class Ours:
    """Makes ours over ready-made models, as the naive one takes them."""

    @staticmethod
    def make(models, **kwargs):
        return RoutedChatOllama(models=models, store="memory", config={"health": {"interval": 0}}, **kwargs)

    @staticmethod
    def failures(llm):
        record = llm.router.performance()
        return {name: r for name, r in record.items() if r.success_rate < 1}


class Naive:
    """Makes the naive one."""

    @staticmethod
    def make(models, **kwargs):
        return NaiveRouted(models=models, **kwargs)

    @staticmethod
    def failures(llm):
        return llm.failures()


@pytest.fixture
def server():
    with OllamaServer(models=["first:1b", "second:1b"]) as running:
        yield running


def plain(server, name="first:1b", **kwargs):
    return ChatOllama(model=name, base_url=server.url, **kwargs)


def both(server, **kwargs):
    return [plain(server, "first:1b", **kwargs), plain(server, "second:1b", **kwargs)]


def tools_reach_the_model_that_answers(kind, server):
    """1, 2. Tools that are bound reach the wire, and the bound model is still routed."""
    server.fail("first:1b", Fault.SERVER_ERROR)
    answer = kind.make(both(server)).bind_tools([weather]).invoke("How is the weather in Paris?")
    assert answer.tool_calls[0]["name"] == "weather"
    assert all(request.body["tools"] for request in server.requests if request.path == "/api/chat")


def bound_tools_are_sent(kind, server):
    """1. A ``bind_tools`` that drops the tools lets tool tests pass without a tool."""
    kwargs = {} if kind is Ours else {"own": True}
    kind.make([plain(server)]).bind_tools([weather], **kwargs).invoke("How is the weather in Paris?")
    asked = next(request for request in server.requests if request.path == "/api/chat")
    assert asked.body["tools"][0]["function"]["name"] == "weather"


def a_failed_models_tokens_do_not_leak(kind, server):
    """3. The text is what was handed out plus its continuation, not one answer after the other."""
    text = "one two three four five six seven eight nine ten"
    for name in ("first:1b", "second:1b"):
        server.add_model(ScriptedModel(name, reply=text))
    server.fail("first:1b", Fault.CRASH, after_chunks=4)
    llm = kind.make(both(server), **({"model": "first:1b"} if kind is Ours else {}))
    assert "".join(chunk.content for chunk in llm.stream("Count to ten")) == text


def caches_tell_models_apart(kind, server):
    """4. One cache, two models, two answers."""
    server.add_model(ScriptedModel("first:1b", reply="from first"))
    server.add_model(ScriptedModel("second:1b", reply="from second"))
    cache = InMemoryCache()
    answers = [kind.make([model], cache=cache).invoke("Who are you?").content for model in both(server)]
    assert answers == ["from first", "from second"]


def ready_made_models_stay_as_they_are(kind, server):
    """5. A list of models as a field must not have their clients replaced."""
    model = plain(server)
    before = model._client, model._async_client
    kind.make([model]).invoke("hi")
    assert (model._client, model._async_client) == before


def loops_come_and_go(kind, server):
    """6. Three times ``asyncio.run``, and no model is blamed for a loop that was closed."""
    llm = kind.make([plain(server)])
    for _ in range(3):
        assert asyncio.run(llm.ainvoke("hi")).content
    assert kind.failures(llm) == {}


def credentials_stay_with_their_host(kind, server):
    """7. A header mapping shared between models must not carry one host's password to another."""
    with OllamaServer(models=["second:1b"]) as other:
        headers = {"x-team": "a"}
        secret = server.url.replace("http://", "http://user:secret@")
        first = ChatOllama(model="first:1b", base_url=secret, client_kwargs={"headers": headers})
        second = ChatOllama(model="second:1b", base_url=other.url, client_kwargs={"headers": headers})
        server.fail("first:1b", Fault.SERVER_ERROR)
        if kind is Ours:  # by name, as only ours can be told of hosts
            headers = {"x-team": "a"}
            kind.make(["first:1b", "second:1b"], hosts=[secret, other.url], client_kwargs={"headers": headers}).invoke(
                "hi"
            )
        else:
            kind.make([first, second]).invoke("hi")
        assert headers == {"x-team": "a"}
        assert other.requests
        assert not [request for request in other.requests if "authorization" in request.headers]


def configured_copies_keep_the_history(kind, server):
    """8. ``configurable_fields`` builds the model anew; what it learned must survive."""
    server.fail("first:1b", Fault.SERVER_ERROR)
    llm = kind.make(both(server), **({"model": "first:1b"} if kind is Ours else {}))
    field = "num_predict" if kind is Ours else "verbose"
    changed = llm.configurable_fields(**{field: ConfigurableField(id="it")})
    changed.with_config(configurable={"it": 3 if kind is Ours else True}).invoke("hi")
    assert "first:1b" in kind.failures(llm)


def metadata_is_not_added_up(kind, server):
    """9. Text repeated on every chunk is concatenated when chunks are."""
    llm = kind.make([plain(server)])
    whole = None
    for chunk in llm.stream("Say five words to me"):
        whole = chunk if whole is None else whole + chunk
    where = whole.response_metadata
    assert where["model"] == "first:1b"
    assert (where["routing"]["model"] if kind is Ours else where["routed_to"]) == "first:1b"


def leaving_early_blames_nobody(kind, server):
    """10. A consumer that stops, and a task that is cancelled, say nothing about the model."""
    server.add_model(ScriptedModel("first:1b", reply="one two three four"))
    llm = kind.make([plain(server)])
    stream = llm.stream("hi")
    assert next(stream).content
    stream.close()
    del stream
    gc.collect()
    assert kind.failures(llm) == {}


def a_ready_made_models_own_settings_hold(kind, server):
    """11. Protected calls pass by the model's own callbacks and rate limiter."""
    heard = []

    class Ear(BaseCallbackHandler):
        def on_chat_model_start(self, *args, **kwargs):
            heard.append("start")

    class Limiter(InMemoryRateLimiter):
        def acquire(self, *, blocking=True):
            heard.append("limited")
            return True

    limiter = Limiter(requests_per_second=1000)
    kind.make([plain(server, callbacks=[Ear()], rate_limiter=limiter)]).invoke("hi")
    assert sorted(heard) == ["limited", "start"]


CHECKS = [
    bound_tools_are_sent,
    tools_reach_the_model_that_answers,
    a_failed_models_tokens_do_not_leak,
    caches_tell_models_apart,
    ready_made_models_stay_as_they_are,
    loops_come_and_go,
    credentials_stay_with_their_host,
    configured_copies_keep_the_history,
    metadata_is_not_added_up,
    leaving_early_blames_nobody,
    a_ready_made_models_own_settings_hold,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_ours(check, server):
    check(Ours, server)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_naive_one_falls_into_it(check, server):
    with pytest.raises(Exception):  # noqa: B017, PT011 (each falls in its own way)
        check(Naive, server)
