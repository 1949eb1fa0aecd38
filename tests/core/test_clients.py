"""What HTTP clients are made from: each host gets its own secrets, every host the rest, and nothing is changed."""

import asyncio
import base64

import httpx
import pytest

from routed_ollama import (
    ClientSettings,
    ConfigurationError,
    OwnRouter,
    Router,
    create_agent,
    given_router,
    router_of,
    scope_of,
    server_urls,
)
from routed_ollama.testing import OllamaServer

ONE, TWO = "http://one:11434", "http://two:11434"
BASIC = "Basic " + base64.b64encode(b"ann:p@ss").decode()


def headers_of(settings, host=ONE, *, async_=False):
    return httpx.Headers(settings.arguments(host, async_=async_).get("headers"))


@pytest.mark.parametrize("async_", [False, True], ids=["sync", "async"])
def test_what_is_given_for_all_hosts_reaches_all_and_secrets_only_their_own(async_):
    common = {"headers": {"x-team": "a"}, "cookies": {"c": "1"}, "auth": ("ann", "p"), "follow_redirects": False}
    settings = ClientSettings.of([ONE], common=common, api_key="k")
    ours, others = (settings.arguments(host, async_=async_) for host in (ONE, TWO))
    assert ours["headers"] == {"x-team": "a", "Authorization": "Bearer k"}
    assert {"cookies", "auth"} <= ours.keys()
    assert not {"headers", "cookies", "auth"} & others.keys()
    assert ours["follow_redirects"] is others["follow_redirects"] is False
    assert common["headers"] == {"x-team": "a"}


def test_those_of_sync_and_of_async_clients_are_stronger_than_the_common():
    settings = ClientSettings.of(
        [ONE], common={"headers": {"x": "both"}}, sync={"headers": {"x": "sync"}}, async_={"headers": {"x": "async"}}
    )
    assert [headers_of(settings, async_=async_)["x"] for async_ in (False, True)] == ["sync", "async"]


@pytest.mark.parametrize(
    ("url", "headers", "key", "sent"),
    [
        (ONE, {}, None, None),
        (ONE, {}, "k", "Bearer k"),
        (ONE, {"authorization": "theirs"}, "k", "theirs"),
        ("http://ann:p%40ss@one:11434", {"AUTHORIZATION": "theirs"}, "k", BASIC),
        ("ann:p%40ss@one", {}, None, BASIC),
    ],
    ids=["nothing", "key", "header before key", "URL before header", "URL as OLLAMA_HOST has it"],
)
def test_who_is_stronger(url, headers, key, sent):
    settings = ClientSettings.of([url], common={"headers": headers}, api_key=key)
    assert headers_of(settings).get("authorization") == sent


def test_hosts_of_ready_made_models_have_settings_of_their_own():
    theirs = ClientSettings.of([TWO, ONE], common={"headers": {"x": "theirs"}})
    settings = ClientSettings.of([ONE], common={"headers": {"x": "ours"}}, others={TWO: theirs})
    assert [headers_of(settings, host)["x"] for host in (ONE, TWO)] == ["ours", "theirs"]
    assert settings.all_urls() == [ONE, TWO]


def test_a_time_limit_is_an_upper_bound_and_a_hosts_own_client_keeps_its_own(monkeypatch):
    monkeypatch.delenv("OLLAMA_API_KEY", raising=False)
    settings = ClientSettings.of([ONE], timeout=7.5)
    assert settings.arguments(ONE, async_=False)["timeout"] == 7.5
    with settings.host_client(base_url=ONE, timeout=httpx.Timeout(2.0)) as client:
        assert client.timeout == httpx.Timeout(2.0)


def test_nothing_secret_is_in_what_they_look_like():
    settings = ClientSettings.of(["http://ann:hush@one"], common={"headers": {"x": "hush"}}, api_key="hush")
    assert "hush" not in repr(settings)


def test_a_url_that_is_none_is_an_error():
    with pytest.raises(ConfigurationError, match="is not the address of a server"):
        ClientSettings.of(["http://one:port"])


# --- a router's own requests, and an agent's --------------------------------------------------------------------------


def authorizations(server):
    return {request.headers.get("authorization") for request in server.requests}


def test_a_bare_router_and_its_agent_send_the_key_of_the_environment(monkeypatch):
    monkeypatch.setenv("OLLAMA_API_KEY", "k")
    with OllamaServer(["first:7b"]) as server, Router(base_url=server.url, store="memory") as router:
        create_agent("developer", router=router).generate("Hello")
        assert authorizations(server) == {"Bearer k"}


def test_credentials_in_a_url_come_before_the_key_of_the_environment(monkeypatch):
    monkeypatch.setenv("OLLAMA_API_KEY", "k")
    with OllamaServer(["first:7b"]) as server:
        url = server.url.replace("http://", "http://ann:p%40ss@")
        with Router(base_url=url, store="memory") as router:
            router.recommend_model("Hello")
        assert authorizations(server) == {BASIC}


def test_an_agent_uses_the_credentials_of_its_router_and_its_own_settings(monkeypatch):
    monkeypatch.delenv("OLLAMA_API_KEY", raising=False)
    with OllamaServer(["first:7b"]) as server:
        url = server.url.replace("http://", "http://ann:p%40ss@")
        with Router(base_url=url, store="memory") as router:
            agent = create_agent("developer", router=router, client_kwargs={"headers": {"x-team": "a"}})
            agent.generate("Hello")
            asyncio.run(agent.agenerate("Hello"))
        assert authorizations(server) == {BASIC}
        chats = [request for request in server.requests if request.path == "/api/chat"]
        assert {request.headers.get("x-team") for request in chats} == {"a"}


# --- what adapters do alike -------------------------------------------------------------------------------------------


@pytest.fixture
def own():
    with OwnRouter({"learn": None, "base_url": ONE}, ClientSettings.of([ONE]), store="memory") as router:
        yield router


def test_a_router_of_ones_own_is_kept_until_a_field_it_was_made_from_changes(own):
    assert given_router(own, {"learn": None, "base_url": ONE}) is own
    assert given_router(own, {"learn": None, "base_url": None}) is own  # what is left out is no matter
    assert given_router(own, {"learn": True, "base_url": ONE}) is None
    assert given_router(None, {}) is None
    with Router(base_url=TWO, store="memory") as theirs:
        assert given_router(theirs, {"learn": True}) is theirs


def test_a_given_router_is_told_of_a_models_servers(own):
    assert router_of(own, {}, ClientSettings.of([TWO]), {}) is own
    assert own.hosts == [ONE, TWO]


@pytest.mark.parametrize(
    ("hosts", "base_url", "config", "ready_alone", "found"),
    [
        ([ONE, TWO], None, None, False, [ONE, TWO]),
        (None, TWO, {"hosts": [ONE]}, False, [TWO]),
        (None, None, {"hosts": [ONE]}, True, [ONE]),
        (None, None, None, False, ["http://default:1"]),
        (None, None, None, True, []),
    ],
    ids=["hosts", "base_url", "configuration", "default", "ready-made models alone"],
)
def test_where_servers_are_found(monkeypatch, hosts, base_url, config, ready_alone, found):
    monkeypatch.setenv("OLLAMA_HOST", "http://default:1")
    assert server_urls(hosts, base_url, config, None, ready_alone=ready_alone) == found


def test_servers_of_a_router_that_is_used_already(own):
    assert server_urls(None, None, None, own) == [ONE]
    with Router(base_url="http://ann:p@two", store="memory") as theirs:
        assert server_urls(None, None, None, theirs) == ["http://two:80"]


def test_a_scope_is_names_and_ready_made_models_and_nothing_else():
    assert scope_of(None, lambda _: None, "Ollama") is None
    assert scope_of(["a", "a:latest"], lambda _: None, "Ollama") == ("a:latest",)
    with pytest.raises(ConfigurationError, match="names and Ollama instances, found int"):
        scope_of([1], lambda _: None, "Ollama")
    with pytest.raises(ConfigurationError, match="models is empty"):
        scope_of([], lambda _: None, "Ollama")
