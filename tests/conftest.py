"""What every test runs in: a network that ends at this machine, a state folder of its own, no settings from outside.

``pytest -m live --ollama URL [--models a,b]`` runs the tests that inject no fault against a real server.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import settings

from routed_ollama.config import normalize_host
from routed_ollama.testing import OllamaServer, ScriptedModel

sys.path.insert(0, str(Path(__file__).parent))  # what all folders share can be imported by name

LOOPBACK = "127.0.0.0/8,::1,localhost"
OUTSIDE = ("OLLAMA_", "ROUTED_OLLAMA_", "LANGCHAIN_", "LANGSMITH_")
PROXIES = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}
STATE_FOLDER = ("XDG_STATE_HOME", "WIN_PD_OVERRIDE_LOCAL_APPDATA")
SCRIPTED = ("llama3.1:8b", "qwen2.5:7b")

settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci")

_environment = pytest.StashKey[pytest.MonkeyPatch]()


def pytest_addoption(parser):
    group = parser.getgroup("routed-ollama")
    group.addoption("--ollama", metavar="URL", help="a real Ollama server for the tests that are marked live")
    group.addoption("--models", metavar="A,B", help="its models to use; default: the two smallest that can chat")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """The one switch that keeps tests off the network: pytest-socket reads these options when it is configured."""
    url = config.getoption("--ollama")
    allowed = [LOOPBACK, urlsplit(normalize_host(url)).hostname] if url else [LOOPBACK]
    config.option.allow_hosts = ",".join(allowed)
    config.option.allow_unix_socket = True
    _leave_outside(config)


def _leave_outside(config):
    """What fixtures of a module or a session make is to be as free of the user's settings as what a test makes."""
    patch = config.stash[_environment] = pytest.MonkeyPatch()
    folder = tempfile.TemporaryDirectory(prefix="routed-ollama-tests-", ignore_cleanup_errors=True)
    for name in os.environ:
        if name.startswith(OUTSIDE) or name.upper() in PROXIES:
            patch.delenv(name)
    for name in STATE_FOLDER:
        patch.setenv(name, folder.name)
    config.add_cleanup(folder.cleanup)
    config.add_cleanup(patch.undo)


@pytest.fixture(autouse=True)
def own_state_folder(tmp_path, monkeypatch):
    """A history of its own for each test, in the place where a user's would be."""
    folder = tmp_path / "state"
    for name in STATE_FOLDER:
        monkeypatch.setenv(name, str(folder))
    return folder


@pytest.fixture
def ollama_url(pytestconfig) -> Iterator[str]:
    """A server with two chat models: a scripted one, or the real one that ``--ollama`` names."""
    if url := pytestconfig.getoption("--ollama"):
        yield normalize_host(url)
        return
    models = [ScriptedModel(name, capabilities=("completion", "tools", "vision")) for name in SCRIPTED]
    with OllamaServer(models) as server:
        yield server.url


@pytest.fixture
def chat_models(pytestconfig, ollama_url) -> list[str]:
    """Names of models that can be asked at ``ollama_url``."""
    if names := pytestconfig.getoption("--models"):
        return [name.strip() for name in names.split(",")]
    if not pytestconfig.getoption("--ollama"):
        return list(SCRIPTED)
    with httpx.Client(base_url=ollama_url, timeout=30.0) as client:
        installed = sorted(client.get("/api/tags").json()["models"], key=lambda model: model["size"])
        names = [model["name"] for model in installed if "completion" in _capabilities(client, model["name"])]
    assert names, f"no chat model is installed at {ollama_url}"
    return names[:2]


@pytest.fixture
def tool_models(pytestconfig, ollama_url, chat_models) -> list[str]:
    """Names of models there that can call tools."""
    if not pytestconfig.getoption("--ollama"):
        return chat_models
    with httpx.Client(base_url=ollama_url, timeout=30.0) as client:
        installed = sorted(client.get("/api/tags").json()["models"], key=lambda model: model["size"])
        able = [model["name"] for model in installed if "tools" in _capabilities(client, model["name"])]
    return able[:2] or pytest.skip("no model with tools is installed")


def _capabilities(client, name):
    return client.post("/api/show", json={"model": name}).json().get("capabilities", ())
