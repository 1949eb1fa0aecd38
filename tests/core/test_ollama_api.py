"""What is asked of a server outside an answer, over the wire: of one that is right, one that is wrong, and none."""

from __future__ import annotations

import threading

import httpx
import pytest

from routed_ollama import ConfigurationError, HostUnreachableError, Residency
from routed_ollama.ollama_api import OllamaHost
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel


@pytest.fixture
def server():
    with OllamaServer(["llama3.1:8b", ScriptedModel("small:1b", size=1000)]) as running:
        yield running


@pytest.fixture
def host(server):
    asked = OllamaHost(server.url)
    yield asked
    asked.close()


def test_version_tags_and_details_are_asked_without_loading_anything(server, host) -> None:
    assert host.version() == "0.24.0"
    assert {entry["name"] for entry in host.tags()} == {"llama3.1:8b", "small:1b"}
    assert "completion" in host.show("llama3.1:8b")["capabilities"]
    assert host.resident() == []
    assert server.loads == {}


def test_loading_waits_until_a_model_is_in_memory(server, host) -> None:
    host.load("small:1b", keep_alive=-1)
    assert server.resident == ("small:1b",)
    (resident,) = host.resident()
    assert resident.model == "small:1b"
    assert resident.context_length == 4096
    assert resident.size > 0
    host.load("llama3.1:8b")
    by_name = {one.model: one for one in host.resident()}
    assert 0 < by_name["llama3.1:8b"].expires_at < by_name["small:1b"].expires_at


def test_a_model_that_cannot_be_loaded_is_an_error_with_the_servers_words(server, host) -> None:
    server.fail("small:1b", Fault.LOAD_ERROR)
    with pytest.raises(HostUnreachableError, match=r"could not load small:1b: .*process has terminated"):
        host.load("small:1b")
    with pytest.raises(HostUnreachableError, match="not found"):
        host.load("absent:1b")


def test_no_server_is_an_error_that_names_the_address(refused_url) -> None:
    host = OllamaHost(refused_url)
    for ask in (host.version, host.tags, host.resident, lambda: host.show("a"), lambda: host.load("a")):
        with pytest.raises(HostUnreachableError, match=refused_url) as caught:
            ask()
        assert isinstance(caught.value, httpx.ConnectError)
        assert isinstance(caught.value, ConnectionError)
    host.close()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<html>Welcome</html>", "not like an Ollama server"),
        (b"", "not like an Ollama server"),
        (b'["a"]', "not like an Ollama server"),
        (b"\xff\xfe\x00", "not like an Ollama server"),
        (b"[" * 100_000, "not like an Ollama server"),
        (b'{"models"', "not like an Ollama server"),
    ],
    ids=["html", "empty", "list", "bytes", "deep", "cut"],
)
def test_an_answer_that_is_no_ollamas_is_an_error_that_says_so(wrong_server, body: bytes, says: str) -> None:
    server = wrong_server(tags=(200, body))
    host = OllamaHost(server.url)
    with pytest.raises(HostUnreachableError, match=says) as caught:
        host.tags()
    assert server.url in str(caught.value)
    assert "base_url" in str(caught.value)
    host.close()


def test_an_error_status_is_an_error_with_the_servers_words(wrong_server) -> None:
    host = OllamaHost(wrong_server(tags=(502, b"no upstream")).url)
    with pytest.raises(HostUnreachableError, match="answered 502: no upstream"):
        host.tags()
    host.close()


def test_entries_of_the_wrong_shape_are_left_out(wrong_server) -> None:
    server = wrong_server(
        tags=(200, b'{"models": [1, null, {}, {"name": 7}, {"name": "a:1b"}]}'),
        ps=(
            200,
            (
                b'{"models": [{"name": "a:1b", "size": "big", "context_length": -1, "expires_at": "soon"}, '
                b'{"name": "b:1b", "size": 5, "expires_at": "2026-11-22T20:39:55.959977817Z"}, '
                b'{"name": "c:1b", "expires_at": "0001-01-01T00:00:00Z"}]}'
            ),
        ),
        version=(200, b'{"models": "none"}'),
    )
    host = OllamaHost(server.url)
    assert host.tags() == [{"name": "a:1b"}]
    first, second, third = host.resident()
    assert first == Residency("a:1b")
    assert second.expires_at == pytest.approx(1_795_379_995.96, abs=0.01)
    assert third.model == "c:1b"
    assert host.version() == ""
    server.answers["/api/tags"] = (200, b'{"models": {"name": "a:1b"}}')
    assert host.tags() == []
    host.close()


@pytest.mark.parametrize("credentials", ["user:pass%40word", "user", ":token"])
def test_credentials_go_into_a_header_and_nowhere_else(wrong_server, credentials: str) -> None:
    server = wrong_server(tags=(500, b"no"))
    host = OllamaHost(server.url.replace("://", f"://{credentials}@"))
    with pytest.raises(HostUnreachableError) as caught:
        host.tags()
    user, _, password = credentials.partition(":")
    expected = httpx.BasicAuth(user, password.replace("%40", "@"))._auth_header
    ((_, _, headers),) = server.requests
    assert headers["authorization"] == expected
    for shown in (repr(host), host.url, str(caught.value)):
        assert "@" not in shown
    assert host.url == server.url
    host.close()


def test_without_credentials_no_such_header_is_sent(wrong_server) -> None:
    server = wrong_server(tags=(200, b"{}"))
    host = OllamaHost(server.url)
    host.tags()
    ((_, _, headers),) = server.requests
    assert "authorization" not in headers
    host.close()


def test_the_client_is_the_callers_and_is_made_once_on_first_use(server) -> None:
    made: list[dict] = []

    def client(**options) -> httpx.Client:
        made.append(options)
        return httpx.Client(**options)

    host = OllamaHost(server.url, client)
    assert made == []
    host.tags()
    host.resident()
    assert [options["base_url"] for options in made] == [server.url]
    host.close()
    host.close()
    host.tags()
    assert len(made) == 2, "a closed host opens new connections when it is used again"
    host.close()


def test_closing_while_a_server_is_silent_is_an_error_of_the_host_and_of_no_other_kind(wrong_server) -> None:
    arrived = threading.Event()

    def silent(handler) -> None:
        arrived.set()
        server.release.wait(10.0)
        handler.close_connection = True

    server = wrong_server(tags=silent)
    host = OllamaHost(server.url)
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            host.tags()
        except BaseException as error:  # noqa: BLE001 (whatever it is, is what is looked at)
            raised.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert arrived.wait(10.0)
    host.close()
    server.release.set()
    thread.join(15.0)
    assert not thread.is_alive()
    assert [type(error) for error in raised] == [HostUnreachableError]


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:11434", True),
        ("localhost", True),
        ("http://127.8.8.8", True),
        ("http://[::1]:11434", True),
        ("0.0.0.0", True),  # noqa: S104 (nothing is bound)
        ("http://gpu.local:11434", False),
        ("http://10.0.0.1", False),
    ],
)
def test_whether_a_host_is_this_machine(url: str, local: bool) -> None:
    assert OllamaHost(url).local is local


def test_what_is_no_address_is_an_error_of_configuration() -> None:
    with pytest.raises(ConfigurationError, match="ftp"):
        OllamaHost("ftp://example.com")


@pytest.mark.parametrize("path", ["/v1", "/api/"])
def test_an_address_that_goes_on_behind_its_port_is_said_to(server: OllamaServer, path: str) -> None:
    """Clients of other protocols want it so."""
    with pytest.raises(HostUnreachableError, match=f"answered 404: .*; by itself .* has no path: {server.url}$"):
        OllamaHost(server.url + path).tags()
    assert repr(server) == f"OllamaServer({server.url})"
