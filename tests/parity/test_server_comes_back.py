"""No server runs, somebody asks, starts one, and asks again: the second answer comes at once.

Nothing waits for the monitor's next look (300 s) or for an open circuit (30 s and more), and no setting is needed: what
is made here is made as a new user makes it, with the history in the user's state folder.
"""

from __future__ import annotations

import json
import socket
import time

import httpx
import pytest
from columns import COLUMNS, PATHS, SILENT, Ask

from routed_ollama import HealthStatus, HostUnreachableError, Router
from routed_ollama.cli import main
from routed_ollama.testing import OllamaServer

MODEL, OTHER = "llama3.1:8b", "qwen2.5:7b"
PROMPT = "Count to three"
AT_ONCE = 5.0
"""Seconds: long for a machine that is busy with other tests, and short beside any wait that there could be."""

every_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
columns = pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)


@pytest.fixture
def port():
    """Nobody listens there."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return closed.getsockname()[1]


def url_of(port):
    return f"http://127.0.0.1:{port}"


def made(column, port):
    """A model as one makes it who knows of nothing but the address."""
    if column.name == "core":
        return column.make(Router(base_url=url_of(port), config=SILENT))
    return column.make(None, base_url=url_of(port))


def ask(column, path, llm):
    return path(column, llm, Ask((PROMPT,)))


def refused(column, path, llm, times, port):
    """The one model that was known fails with its client's own error, and a note; else nobody could be asked at all."""
    for _ in range(times):
        with pytest.raises((HostUnreachableError, httpx.ConnectError, ConnectionError)) as caught:
            ask(column, path, llm)
        said = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
        assert url_of(port) in said
        assert "ollama serve" in said


def answered_at_once(column, path, llm, server, by=MODEL):
    asked = len(server.requests)
    began = time.monotonic()
    seen = ask(column, path, llm)
    assert time.monotonic() - began < AT_ONCE
    assert (seen.text, seen.model) == (f"You asked: {PROMPT}", by)
    assert [attempt["outcome"] for attempt in seen.routing["attempts"]] == ["ok"]
    assert [request.path for request in server.requests][asked:].count("/api/chat") == 1
    return seen


@columns
@every_path
@pytest.mark.parametrize("times", [1, 6], ids=["once", "until the circuit opens"])
def test_asked_before_the_server_was_started(column, path, times, port):
    llm = made(column, port)
    refused(column, path, llm, times, port)
    with OllamaServer([MODEL], port=port) as server:
        answered_at_once(column, path, llm, server)
        assert set(llm.router.health_check_all_models().values()) == {HealthStatus.HEALTHY}


@columns
@every_path
@pytest.mark.parametrize("times", [1, 6], ids=["once", "until the circuit opens"])
def test_asked_while_the_server_was_down(column, path, times, port):
    llm = made(column, port)
    with OllamaServer([MODEL], port=port) as server:
        answered_at_once(column, path, llm, server)
    refused(column, path, llm, times, port)
    with OllamaServer([MODEL], port=port) as server:
        answered_at_once(column, path, llm, server)
        assert set(llm.router.health_check_all_models().values()) == {HealthStatus.HEALTHY}


@columns
@every_path
def test_one_that_comes_back_with_other_models_is_asked_for_those(column, path, port):
    llm = made(column, port)
    with OllamaServer([MODEL], port=port) as server:
        answered_at_once(column, path, llm, server)
    refused(column, path, llm, 1, port)
    with OllamaServer([OTHER], port=port) as server:
        answered_at_once(column, path, llm, server, by=OTHER)


@columns
def test_another_program_that_found_no_server_hinders_nobody(column, port):
    """The circuits that it has opened are in the store, which the next reads."""
    refused(column, PATHS["whole"], made(column, port), 6, port)
    with OllamaServer([MODEL], port=port) as server:
        answered_at_once(column, PATHS["whole"], made(column, port), server)


@pytest.mark.parametrize("times", [1, 6])
def test_the_command_line_recommends_as_soon_as_there_is_a_server(times, port, monkeypatch, capsys):
    monkeypatch.setenv("OLLAMA_HOST", url_of(port))
    for _ in range(times):
        assert main(["recommend", PROMPT]) == 1
        said = capsys.readouterr().err
        assert url_of(port) in said
        assert "ollama serve" in said
    with OllamaServer([MODEL], port=port):
        began = time.monotonic()
        assert main(["recommend", PROMPT, "--json"]) == 0
        assert time.monotonic() - began < AT_ONCE
    assert json.loads(capsys.readouterr().out)["model"] == MODEL
