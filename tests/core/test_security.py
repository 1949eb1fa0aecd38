"""Nobody is asked but the servers that were named, a configuration is data, and a history is its owner's alone."""

from __future__ import annotations

import base64
import json
import logging
import os
import pickle
import re
import stat
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from routed_ollama import (
    AllModelsFailedError,
    ClientSettings,
    ConfigurationError,
    HostUnreachableError,
    RoutedOllamaError,
    RoutedOllamaWarning,
    Router,
    RouterConfig,
    open_store,
)
from routed_ollama.cli import main
from routed_ollama.cli._demo_server import place
from routed_ollama.errors import RedirectedError, refuse_elsewhere
from routed_ollama.ollama_api import OllamaHost
from routed_ollama.store import SQLiteStore
from routed_ollama.testing import OllamaServer, ScriptedModel
from routed_ollama.transport import BetweenTokensDeadlineError

MODEL = "llama3.1:8b"
USER, SECRET = "ann", "pw/7x"
BASIC = base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
SECRETS = (SECRET, "pw%2F7x", BASIC)


def with_password(url: str) -> str:
    """The URL of a server, with its user's password."""
    return url.replace("http://", f"http://{USER}:pw%2F7x@")


def found_in(*texts: str) -> list[str]:
    """The texts that hold a secret."""
    return [text for text in texts if any(secret in text for secret in SECRETS)]


def moved(status: int, location: str):
    """An answer that sends its client elsewhere."""

    def answer(handler) -> None:
        handler.send_response(status)
        handler.send_header("Location", location)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


# --- who is asked -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", [httpx.Client, ClientSettings().host_client], ids=["plain", "with settings"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_host_sends_nobody_elsewhere(client, status: int, wrong_server) -> None:
    with OllamaServer([MODEL]) as other:
        server = wrong_server(tags=moved(status, f"{other.url}/api/tags"), show=moved(status, f"{other.url}/api/show"))
        host = OllamaHost(with_password(server.url), client)
        for ask in (host.tags, lambda: host.show(MODEL)):
            with pytest.raises(HostUnreachableError, match="which is another server") as caught:
                ask()
            assert other.url in str(caught.value)
            assert not found_in(str(caught.value), repr(caught.value))
        host.close()
        assert not other.requests


@pytest.mark.parametrize("client", [httpx.Client, ClientSettings().host_client], ids=["plain", "with settings"])
def test_a_host_may_move_within_itself_with_its_credentials(client, wrong_server) -> None:
    server = wrong_server(tags=moved(307, "/elsewhere/tags"))
    server.answers["/elsewhere/tags"] = moved(308, "tags2")
    server.answers["/elsewhere/tags2"] = (200, b'{"models": [{"name": "a:1b"}]}')
    host = OllamaHost(with_password(server.url), client)
    assert host.tags() == [{"name": "a:1b"}]
    assert [headers["authorization"] for _, _, headers in server.requests] == [f"Basic {BASIC}"] * 3
    host.close()


@pytest.mark.parametrize("client", [httpx.Client, ClientSettings().host_client], ids=["plain", "with settings"])
def test_a_host_that_moves_in_circles_is_left(client, wrong_server) -> None:
    server = wrong_server(tags=moved(302, "/api/tags"))
    host = OllamaHost(server.url, client)
    with pytest.raises(HostUnreachableError, match="again and again"):
        host.tags()
    assert len(server.requests) < 10
    host.close()


@pytest.mark.parametrize(
    ("asked", "target", "same"),
    [
        ("http://one:80/a", "http://one/b", True),
        ("https://one/a", "https://ONE:443/b", True),
        ("http://one/", "http://ann:x@one/", True),
        ("http://one/", "https://one/", False),
        ("http://one/", "http://one:8080/", False),
        ("http://one/", "http://one.example/", False),
        ("http://[::1]:1/", "http://[::1]:1/", True),
        ("http://one@two/", "http://one/", False),
        ("http://one/", "file:///etc/passwd", False),
        ("http://one/", "http:///", False),
    ],
)
def test_the_same_server_is_scheme_host_and_port(asked: str, target: str, same: bool) -> None:
    if same:
        refuse_elsewhere(httpx.URL(asked), httpx.URL(target))
        return
    with pytest.raises(RedirectedError) as caught:
        refuse_elsewhere(httpx.URL(asked), httpx.URL(target))
    assert isinstance(caught.value, RoutedOllamaError)
    assert isinstance(caught.value, ConnectionError)


def test_nobody_is_contacted_for_what_a_server_says() -> None:
    with OllamaServer([MODEL]) as other:
        cloud = ScriptedModel("big:cloud", remote_host=other.url, remote_model=MODEL)
        with (
            OllamaServer([ScriptedModel(MODEL), cloud]) as server,
            Router(base_url=server.url, store="memory") as router,
        ):
            assert router.recommend_model("Hello").model == MODEL
            router.health_check_all_models()
        assert not other.requests


@pytest.mark.parametrize("name", ["headers", "auth", "cookies", "cert", "params"])
def test_what_may_be_secret_is_for_the_servers_it_was_given_for(name: str) -> None:
    given = {"headers": {"x": SECRET}, "auth": (USER, SECRET), "cookies": {"x": SECRET}, "params": {"key": SECRET}}
    settings = ClientSettings.of(["http://one"], common={name: given.get(name, "cert.pem")})
    merged = settings._merged("http://two:80", async_=False)
    assert name not in merged
    assert name in settings._merged("http://one:80", async_=False)


# --- what is said -----------------------------------------------------------------------------------------------------


def test_the_command_line_says_no_secret(capsys, caplog, monkeypatch, tmp_path) -> None:
    caplog.set_level(logging.DEBUG)
    config = tmp_path / "config.json"
    with OllamaServer([MODEL]) as server:
        config.write_text(json.dumps({"hosts": [with_password(server.url)]}))
        runs = (["--host", with_password(server.url)], ["--config", str(config)], [])
        monkeypatch.setenv("OLLAMA_HOST", with_password(server.url))
        for more in runs:
            for form in ([], ["--json"]):
                assert main(["recommend", "Hello", *more, *form]) == 0
        assert {request.headers["authorization"] for request in server.requests} == {f"Basic {BASIC}"}
        with place(with_password(server.url)) as where:
            assert not found_in(repr(where), where.why)
    for more in runs:
        assert main(["recommend", "Hello", *more]) == 1
    assert main(["recommend", "Hello", "--host", f"{with_password('http://one')}:port"]) == 1
    texts = [*capsys.readouterr(), caplog.text]
    assert MODEL in texts[0]
    assert not found_in(*texts)


def test_the_demonstration_is_sent_nowhere_else(wrong_server) -> None:
    with OllamaServer([MODEL]) as other:
        server = wrong_server(tags=moved(307, f"{other.url}/api/tags"))
        with pytest.raises(HostUnreachableError), place(with_password(server.url)):
            pass  # it does not come to this
        assert not other.requests


def test_a_pickled_error_holds_no_request() -> None:
    request = httpx.Request(
        "POST", "http://one/api/chat", headers={"Authorization": f"Bearer {SECRET}"}, content="zebra"
    )
    late = BetweenTokensDeadlineError.after("between_tokens", 1.0, request, own=False)
    gone = httpx.ConnectError("refused", request=request)
    error = AllModelsFailedError("all failed", [("a @ one", late), ("b @ one", gone), ("c", ValueError("x"))])
    for each in (late, error):
        data = pickle.dumps(each)
        assert not found_in(repr(data))
        assert b"zebra" not in data
        again = pickle.loads(data)  # noqa: S301 (written here)
        assert (type(again), str(again)) == (type(each), str(each))
    assert [(label, type(one), str(one)) for label, one in again.errors] == [
        (label, type(one), str(one)) for label, one in error.errors
    ]
    assert again.errors[0][1].phase == "between_tokens"
    assert late.request is gone.request is request  # the error itself is left as it was


def test_a_configuration_repeats_no_password() -> None:
    with pytest.raises(ValueError, match="not the address") as caught:
        RouterConfig(hosts=[f"{with_password('http://one')}:port"])
    assert not found_in(str(caught.value))


# --- configuration is data --------------------------------------------------------------------------------------------

EVIL = (
    "__import__('os').system('touch owned')",
    "$(touch owned)",
    "`touch owned`",
    "${HOME}",
    "$HOME",
    "%APPDATA%",
    "{{ 7 * 7 }}",
    "!!python/object/apply:os.system ['touch owned']",
    "{0.__class__.__mro__}",
    "os:system",
)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch) -> Path:
    """An empty folder to work in."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("text", EVIL)
@pytest.mark.parametrize("kind", ["json", "toml", "environment", "arguments"])
def test_nothing_in_a_configuration_is_evaluated(text: str, kind: str, elsewhere: Path, monkeypatch) -> None:
    data = {"task_specific_models": {"coding": [text]}, "roles": {text: {"prompt": text, "options": {"stop": text}}}}
    source: Any = data
    if kind == "json":
        source = elsewhere / "config.json"
        source.write_text(json.dumps(data))
    elif kind == "toml":
        source = elsewhere / "config.toml"
        quoted = json.dumps(text)
        role = f"[roles.{quoted}]\nprompt = {quoted}\noptions = {{ stop = {quoted} }}\n"
        source.write_text(f"[task_specific_models]\ncoding = [{quoted}]\n{role}")
    elif kind == "environment":
        source = None
        for name, value in data.items():
            monkeypatch.setenv(f"ROUTED_OLLAMA_{name.upper()}", json.dumps(value))
    modules = set(sys.modules)
    config = RouterConfig.load(source)
    assert config.task_specific_models["coding"] == [text]
    assert config.roles[text].prompt == config.roles[text].options["stop"] == text
    assert set(sys.modules) - modules <= {"tomllib", "tomllib._parser", "tomllib._re", "tomllib._types"}
    assert not list(elsewhere.glob("owned*"))


@pytest.mark.parametrize("name", ["config.py", "config.yaml", "config.pickle", "config.ini"])
def test_a_file_of_another_kind_is_no_configuration(name: str, elsewhere: Path) -> None:
    path = elsewhere / name
    path.write_bytes(pickle.dumps({"store": "memory"}) if name.endswith("pickle") else b"open('owned', 'w')")
    with pytest.raises(ConfigurationError):
        RouterConfig.load(path)
    assert not (elsewhere / "owned").exists()


# --- a history is its owner's alone -----------------------------------------------------------------------------------

STORES = {
    "relative": ("sqlite:///history.db", "history.db"),
    "a path": ("folder/history.db", "folder/history.db"),
    "a query": ("sqlite:///history.db?mode=memory&cache=shared", "history.db?mode=memory&cache=shared"),
    "a URI of SQLite's": ("file:other.db?mode=rwc", "file:other.db?mode=rwc"),
    "a variable": ("$HOME/${USER}.db", "$HOME/${USER}.db"),
    "odd": ("sqlite:///; DROP TABLE outcome;--.db", "; DROP TABLE outcome;--.db"),
    "a URL's escapes": ("sqlite:///%2e%2e%2fhistory.db", "%2e%2e%2fhistory.db"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="names of files are taken more narrowly there")
@pytest.mark.parametrize("kind", STORES)
def test_a_store_writes_where_it_was_told_and_nowhere_else(kind: str, elsewhere: Path) -> None:
    spec, path = STORES[kind]
    store = open_store(spec)
    assert store.location == str(elsewhere / path)
    store.save_state("a", {"b": 1})
    store.close()
    files = {str(found.relative_to(elsewhere)) for found in elsewhere.rglob("*") if found.is_file()}
    assert path in files
    assert {name.removesuffix("-wal").removesuffix("-shm") for name in files} == {path}


@pytest.mark.parametrize("kind", ["too long", "a folder", "NUL"])
def test_a_path_that_can_be_none_is_an_error_of_configuration_or_worked_around(
    kind: str, elsewhere: Path, recwarn
) -> None:
    errors = {"NUL": ("a\0b.db", "is no path"), "a folder": (str(elsewhere), "is a folder")}
    if kind in errors:
        spec, words = errors[kind]
        with pytest.raises(ConfigurationError, match=words):
            open_store(spec)
        return
    with OllamaServer([MODEL]) as server, Router(base_url=server.url, store="x" * 5_000) as router:
        assert router.recommend_model("Hello").model == MODEL
        router.record_performance(MODEL, response_time=1.0)
        assert router.performance()[MODEL].total_requests == 1
    assert "History cannot be kept" in str(recwarn.pop(RoutedOllamaWarning).message)


@pytest.mark.skipif(sys.platform == "win32", reason="its files are guarded by their folder's rights")
def test_nobody_else_reads_a_history(tmp_path: Path) -> None:
    path = tmp_path / "made" / "here" / "history.db"
    before = os.umask(0)
    try:
        store = SQLiteStore(path)
        store.save_state("a", {"b": 1})
        assert store.flush()
        modes = {found.name: stat.S_IMODE(found.stat().st_mode) for found in path.parent.iterdir()}
        store.close()
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}, modes
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_to_something_else_is_not_overwritten(tmp_path: Path) -> None:
    precious, link = tmp_path / "precious.txt", tmp_path / "history.db"
    precious.write_text("do not touch\n" * 1_000)
    link.symlink_to(precious)
    store = SQLiteStore(link)
    with pytest.warns(RoutedOllamaWarning, match="damaged|cannot be kept"):
        assert store.load_state("a") is None
    store.save_state("a", {"b": 1})
    store.close()
    assert precious.read_text() == "do not touch\n" * 1_000


# --- the page that says all this --------------------------------------------------------------------------------------

TESTS = Path(__file__).parent.parent
PAGE = TESTS.parent / "docs" / "threat-model.md"


def test_every_test_that_the_threat_model_names_is_there() -> None:
    named = set(re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE.read_text(encoding="utf-8")))
    assert len(named) > 20
    sources = {file: (TESTS / file).read_text(encoding="utf-8") for file, _ in named}
    assert [name for file, name in named if f"def {name}(" not in sources[file]] == []
