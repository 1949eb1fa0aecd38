"""What else the plain class lets one do with it: arguments by position, its clients, its size, its schema."""

import asyncio
import inspect

import pytest
from asking import FIRST, SECOND, asked, models, plain, routed
from llama_index.llms.ollama import Ollama
from ollama import AsyncClient, Client

from llamaindex_routed_ollama import RoutedOllama
from routed_ollama.testing import OllamaServer

OWN = {"store": "memory", "models": [FIRST, SECOND]}
"""What keeps ours from the user's own state folder."""

both = pytest.mark.parametrize("kind", [Ollama, RoutedOllama])


def made(kind, *args, **fields):
    return kind(*args, **(fields if kind is Ollama else {**OWN, **fields}))


@pytest.fixture
def server():
    with OllamaServer(models(reply="Yes.")) as one:
        yield one


def test_every_public_name_of_the_plain_class_is_here():
    assert {name for name in dir(Ollama) if not name.startswith("_")} <= set(dir(RoutedOllama))


# --- arguments by position --------------------------------------------------------------------------------------------


@both
def test_the_server_and_the_temperature_come_second_and_third(server, kind):
    llm = made(kind, SECOND, server.url, 0.3, 4096)
    assert llm.complete("Is it?").text == "Yes."
    assert asked(server) == [SECOND]
    assert (llm.base_url, llm.temperature, llm.context_window) == (server.url, 0.3, 4096)


def test_all_that_the_plain_class_takes_by_position_has_its_place():
    given = {
        "base_url": "http://127.0.0.1:9",
        "temperature": 0.1,
        "context_window": 512,
        "request_timeout": 7.0,
        "prompt_key": "p",
        "json_mode": True,
        "additional_kwargs": {"seed": 1},
        "client": Client(),
        "async_client": AsyncClient(),
        "is_function_calling_model": False,
        "keep_alive": 3.0,
        "thinking": "low",
        "headers": {"X-A": "b"},
    }
    names = [
        name
        for name, each in inspect.signature(Ollama.__init__).parameters.items()
        if each.kind is not each.VAR_KEYWORD
    ]
    assert names[2:] == list(given)
    ours, theirs = made(RoutedOllama, FIRST, *given.values()), made(Ollama, FIRST, *given.values())
    for name, value in given.items():
        assert getattr(ours, name) == getattr(theirs, name) == value


@both
@pytest.mark.parametrize("args", [(FIRST, "http://127.0.0.1:9") + (None,) * 14, (FIRST, "http://127.0.0.1:9")])
def test_too_many_or_twice_the_same_is_a_type_error(kind, args):
    with pytest.raises(TypeError):
        made(kind, *args, base_url="http://127.0.0.1:9")


# --- clients ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [plain, routed])
def test_the_official_client_can_be_used(server, make):
    assert [each.model for each in make(server.url).client.list().models] == [FIRST, SECOND]


@pytest.mark.parametrize("make", [plain, routed])
def test_so_can_the_async_one(server, make):
    async def names():
        return [each.model for each in (await make(server.url).async_client.list()).models]

    assert asyncio.run(names()) == [FIRST, SECOND]


def test_a_client_that_was_lent_outlives_a_change_and_its_model(server):
    llm = routed(server.url)
    client, async_client = llm.client, llm.async_client
    llm.temperature = 0.5
    assert llm.complete("Is it?").text == "Yes."
    del llm
    for _ in range(2):  # two event loops
        assert asyncio.run(async_client.list()) == client.list()


@pytest.mark.parametrize("make", [plain, routed])
def test_ones_own_client_is_given_back(server, make):
    own, own_async = Client(host=server.url), AsyncClient(host=server.url)
    llm = make(server.url, client=own, async_client=own_async)
    assert (llm.client, llm.async_client) == (own, own_async)


@both
def test_a_client_alone_says_which_server_is_asked(server, kind):
    llm = made(kind, SECOND, client=Client(host=server.url), context_window=4096, models=None)
    assert llm.complete("Is it?").text == "Yes."
    llm = made(kind, SECOND, async_client=AsyncClient(host=server.url), context_window=4096, models=None)
    assert asyncio.run(llm.acomplete("Is it?")).text == "Yes."
    assert asked(server) == [SECOND, SECOND]


@pytest.mark.parametrize("make", [Client, AsyncClient])
def test_its_models_are_chosen_among(server, make):
    llm = RoutedOllama(store="memory", **{"client" if make is Client else "async_client": make(host=server.url)})
    answer = llm.complete("Is it?") if make is Client else asyncio.run(llm.acomplete("Is it?"))
    assert (answer.text, answer.raw["routing"]["host"]) == ("Yes.", server.url)


class Wrapper:
    """A client of somebody's own, which can do no more than is needed."""

    def __init__(self, url):
        self._within = Client(host=url)
        self.asked = 0

    def chat(self, **kwargs):
        self.asked += 1
        return self._within.chat(**kwargs)


@pytest.mark.parametrize("make", [plain, routed])
def test_a_client_may_be_a_wrapper(server, make):
    wrapper = Wrapper(server.url)
    assert make(server.url, client=wrapper).complete("Is it?").text == "Yes."
    assert wrapper.asked == 1


def test_of_a_wrapper_no_address_is_known(server, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", server.url)
    assert made(RoutedOllama, SECOND, client=Wrapper(server.url)).complete("Is it?").text == "Yes."


def test_a_server_that_is_named_is_stronger_than_a_clients(server):
    llm = made(RoutedOllama, SECOND, hosts=[server.url], client=Client(host="http://127.0.0.1:9"))
    assert llm.router.host == server.url
    assert llm.base_url is None


# --- size and schema --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [plain, routed])
def test_its_context_is_what_engines_are_told(make):
    llm = make("http://127.0.0.1:9", context_window=2048)
    assert llm.get_context_window() == llm.metadata.context_window == 2048


@both
def test_it_has_a_schema(kind):
    properties = kind.model_json_schema()["properties"]
    assert set(Ollama.model_json_schema()["properties"]) <= set(properties)
    assert "router" not in properties


@pytest.mark.parametrize("value", ["http://127.0.0.1:9", {"store": "memory"}])
def test_a_router_that_is_none_is_said_to_be(value):
    with pytest.raises(ValueError, match="router\n  Input should be an instance of Router"):
        RoutedOllama(FIRST, router=value)
