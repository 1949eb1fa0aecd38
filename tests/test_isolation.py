"""The tests' own walls hold: nothing leaves this machine, nothing of the user's is read or written."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from pytest_socket import SocketConnectBlockedError

from routed_ollama import default_host, open_store
from routed_ollama.testing import ScriptedModel

pytestmark = pytest.mark.filterwarnings("ignore:A test tried to use socket")
ELSEWHERE = "192.0.2.1"
"""Set aside for documentation (RFC 5737): nobody is there."""


def test_another_machine_cannot_be_reached():
    with pytest.raises(SocketConnectBlockedError):
        socket.create_connection((ELSEWHERE, 80), timeout=1.0)
    with pytest.raises(SocketConnectBlockedError):
        httpx.get(f"http://{ELSEWHERE}/")


async def test_another_machine_cannot_be_reached_by_async_code():
    with pytest.raises(SocketConnectBlockedError):
        await asyncio.open_connection(ELSEWHERE, 80)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_can_be_reached(host):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, port), timeout=10.0).close()


def test_history_goes_to_a_folder_of_the_test(tmp_path):
    assert tmp_path in Path(open_store().location).parents


def test_settings_from_outside_are_gone():
    names = {name.upper() for name in os.environ}
    assert not names & {"OLLAMA_HOST", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "LANGSMITH_TRACING"}
    assert default_host() == "http://127.0.0.1:11434"


@pytest.mark.live
def test_a_server_with_chat_models_is_at_hand(ollama_url, chat_models):
    for name in chat_models:
        shown = httpx.post(f"{ollama_url}/api/show", json={"model": name}, timeout=30.0).json()
        assert "completion" in shown["capabilities"]


def test_live_tests_run_against_the_server_that_is_named(ollama_server):
    server = ollama_server(
        models=["third:70b", "other:3b", ScriptedModel("bge-m3", capabilities=["embedding"]), "one:1b"]
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-m", "live"]
    run = subprocess.run([*command, "--ollama", server.url], capture_output=True, text=True, check=False, timeout=100)  # noqa: S603 (our own command)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "1 passed" in run.stdout
    assert "deselected" in run.stdout
    asked = [request.model for request in server.requests if request.path == "/api/show"]
    assert asked[-2:] == ["one:1b", "other:3b"]
