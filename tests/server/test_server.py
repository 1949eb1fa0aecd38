"""The server as its users hold it: life, models, what has arrived, the pytest fixture, the command, the clock."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings

import httpx
import pytest
from talking import CLIENT, Background, body, chat, get, post, text

import routed_ollama.testing
from routed_ollama.testing import FakeClock, OllamaServer, ScriptedModel
from routed_ollama.testing.__main__ import main, real_model, scripted_model
from routed_ollama.testing.llamacpp import find_demo_models

# -- life -------------------------------------------------------------------------------------------------------------


def test_it_starts_and_stops_as_often_as_one_likes_on_the_same_port():
    server = OllamaServer(["m"])
    assert server.port == 0
    for _ in range(2):
        assert server.start() is server.start()
        port = server.port
        assert text(server) == "You asked: hi"
        server.stop()
        server.stop()
        assert server.port == port
        assert (server.resident, server.loads, server.loading) == ((), {"m:latest": 1}, None)


async def test_it_is_an_async_context_manager_too():
    async with OllamaServer(["m"]) as server, httpx.AsyncClient() as client:
        assert (await client.get(f"{server.url}/api/version")).json() == {"version": "0.24.0"}


def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_behind():
    with socket.create_server(("127.0.0.1", 0)) as other:
        server = OllamaServer(port=other.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            server.start()
    with server:
        assert CLIENT.get(server.url).text == "Ollama is running"


def test_nothing_is_left_when_it_stops():
    gc.collect()  # what other tests left behind is not this server's
    before = set(threading.enumerate())
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with OllamaServer(["m"]) as server, httpx.Client() as client:
            client.post(f"{server.url}/api/chat", json=body())
        gc.collect()
    assert [thread for thread in set(threading.enumerate()) - before if thread.name == "ollama-server"] == []


def test_two_servers_live_side_by_side():
    with OllamaServer(["a"]) as one, OllamaServer(["b"]) as two:
        assert chat(one, "a").status_code == 200
        assert chat(two, "a").status_code == 404


def test_ipv6_where_there_is_one():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with OllamaServer(["m"], host="::1") as server:
        assert server.url.startswith("http://[::1]:")
        assert CLIENT.get(server.url).text == "Ollama is running"


def test_a_version_must_be_one():
    with pytest.raises(ValueError, match="expected something like"):
        OllamaServer(version="newest")


# -- models -----------------------------------------------------------------------------------------------------------


def test_models_come_and_go_while_it_runs():
    clock = FakeClock()
    with OllamaServer(["a", "b"], clock=clock) as server:
        clock.advance(5)
        server.add_model(ScriptedModel("c", reply="I am c."))
        assert [each["name"] for each in get(server, "/api/tags")["models"]] == ["c:latest", "a:latest", "b:latest"]
        assert text(server, "c") == "I am c."
        server.remove_model("c")
        assert server.resident == ()
        assert chat(server, "c").json() == {"error": "model 'c' not found"}
        with pytest.raises(KeyError):
            server.remove_model("c")
    server.remove_model("a")
    server.add_model("d")
    with server:
        assert [each["name"] for each in get(server, "/api/tags")["models"]] == ["d:latest", "b:latest"]


def test_a_model_of_the_same_name_is_replaced():
    with OllamaServer(["m"]) as server:
        chat(server)
        server.add_model(ScriptedModel("m", reply="new", weights="other"))
        assert text(server) == "new"


def test_names_mean_the_same_model_in_every_form():
    with OllamaServer(["Llama3.1:8B"]) as server:
        for name in (
            "llama3.1:8b",
            "LLAMA3.1:8b",
            "library/llama3.1:8b",
            "registry.ollama.ai/library/llama3.1:8b",
            " llama3.1:8b ",
        ):
            assert chat(server, name).json()["model"] == name
        assert chat(server, "https://registry.ollama.ai/library/llama3.1:8b").status_code == 200
    with OllamaServer(["example.com/me/mine"]) as server:
        assert get(server, "/api/tags")["models"][0]["name"] == "example.com/me/mine:latest"


@pytest.mark.parametrize(
    "name", [":", "a:", ":b", "/a", "a/", "a//b", "/a/b", "a b", "ä", "-a", "a:b:c", "a" * 81, "a/b/c/d:e f"]
)
def test_what_cannot_be_a_name_is_refused(name):
    with OllamaServer(["m"]) as server:
        assert chat(server, name).json() == {"error": "invalid model name"}
        assert post(server, "/api/show", model=name).json() == {"error": "invalid model name"}


def test_unloading_by_hand():
    with OllamaServer(["m"]) as server:
        chat(server)
        server.unload("m")
        server.unload("m")
        assert server.resident == ()
        with pytest.raises(KeyError):
            server.unload("nosuch")


# -- what has arrived -------------------------------------------------------------------------------------------------


def test_it_remembers_what_arrived():
    with OllamaServer(["m"]) as server:
        CLIENT.post(f"{server.url}/api/chat?x=1", json=body(), headers={"X-Test": "yes"})
        CLIENT.post(f"{server.url}/api/show", content=b"{nope")
        get(server, "/api/ps")
        chatted, shown, listed = server.requests
        assert (chatted.method, chatted.path, chatted.model, chatted.body) == ("POST", "/api/chat", "m", body())
        assert chatted.headers["x-test"] == "yes"
        assert (shown.raw, shown.body, shown.model) == (b"{nope", None, None)
        assert (listed.method, listed.body) == ("GET", None)
        assert chatted.at <= shown.at <= listed.at
        assert repr(chatted) == "<POST /api/chat model='m'>"
        server.forget_requests()
        assert server.requests == ()


def test_a_test_can_wait_for_what_will_arrive():
    with OllamaServer(["m"]) as server:
        call = Background(server.wait_for_request, lambda request: request.path == "/api/ps", count=2)
        for path in ("/api/ps", "/api/tags", "/api/ps"):
            get(server, path)
        assert call.result() is server.requests[2]
        with pytest.raises(TimeoutError, match="0 of 1"):
            server.wait_for_request(lambda request: request.path == "/nowhere", timeout=0.01)
        with pytest.raises(TimeoutError, match="not true"):
            server.wait_until(lambda: False, timeout=0.01)


def test_it_cannot_be_asked_to_act_while_it_is_not_running():
    server = OllamaServer(["m"])
    server.unload("m")
    with pytest.raises(KeyError):
        server.crash("m")


# -- pytest -----------------------------------------------------------------------------------------------------------


def test_the_fixture_starts_servers(ollama_server):
    one, two = ollama_server(models=["a"]), ollama_server(["b"], version="0.30.0")
    assert chat(one, "a").status_code == 200
    assert get(two, "/api/version") == {"version": "0.30.0"}


def test_the_fixture_stops_them(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import urllib.request\n"
        "servers = []\n"
        "def test_one(ollama_server):\n"
        "    servers.append(ollama_server(models=['m']))\n"
        "    assert urllib.request.urlopen(servers[0].url).read() == b'Ollama is running'\n"
        "def test_two():\n"
        "    assert servers[0]._thread is None\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "routed_ollama.testing.plugin", tmp_path]
    alone = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    subprocess.run(command, check=True, cwd=tmp_path, env=alone)  # noqa: S603 (our own command)


def test_names_are_imported_when_they_are_used():
    code = (
        "import sys, routed_ollama.testing as testing, routed_ollama.testing.plugin\n"
        "assert 'routed_ollama.testing.server' not in sys.modules\n"
        "assert all(getattr(testing, name).__name__ == name for name in testing.__all__)\n"
        "assert dir(testing) == testing.__all__\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 (our own command)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        getattr(routed_ollama.testing, "Nothing")  # noqa: B009 - it is the looking that fails


# -- the command ------------------------------------------------------------------------------------------------------

COMMAND = [sys.executable, "-m", "routed_ollama.testing", "--port", "0"]


def start_command(*arguments):
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True)  # noqa: S603 (our own command)
    return process, process.stdout.readline().strip()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no way to send these signals to a process of its own")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_told_to_end(ending):
    process, url = start_command(
        "--model", "llama3.1:8b=speed:1000,reply:Yes, of course.", "--ollama-version", "0.30.1"
    )
    with process:
        assert CLIENT.get(f"{url}/api/version").json() == {"version": "0.30.1"}
        answer = CLIENT.post(f"{url}/api/chat", json=body("llama3.1:8b", stream=False)).json()
        assert answer["message"]["content"] == "Yes, of course."
        process.send_signal(ending)
        assert process.wait(20) == 0


def test_the_command_ends_when_it_is_interrupted(capsys):
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    before = signal.getsignal(signal.SIGINT)
    assert main(["--port", "0", "--keep-alive=-1s"]) == 0
    assert signal.getsignal(signal.SIGINT) is before
    assert capsys.readouterr().out.startswith("http://127.0.0.1:")


def test_the_command_says_when_a_port_is_taken(capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert main(["--port", str(other.getsockname()[1])]) == 1
    assert "cannot listen on 127.0.0.1:" in capsys.readouterr().err


def test_a_model_on_the_command_line():
    model = scripted_model(
        "a:1b=load:2,speed:30,context:99,size:5,family:odd,capabilities:completion+vision,fault:empty+busy,"
        "reply:Yes, no."
    )
    card = model.card
    assert (model.load_seconds, model.tokens_per_second, model.reply) == (2.0, 30.0, "Yes, no.")
    assert (card.context_length, card.size, card.family, card.capabilities) == (99, 5, "odd", ("completion", "vision"))
    assert model.faults == ("empty", "busy")
    assert scripted_model("b").reply is None


@pytest.mark.parametrize(
    ("text", "message"),
    [("a=wibble:1", "known: load"), ("a=load:x", "float"), ("a b", "invalid model name"), ("", "required")],
)
def test_a_model_that_cannot_be_read_is_explained(text, message):
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        scripted_model(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gguf", "x"], "expected NAME=PATH"),
        (["--gguf", "x=/no/such.gguf"], "No such file"),
        (["--keep-alive", "soon"], "invalid"),
        (["--ollama-version", "x"], "expected something"),
    ],
)
def test_a_wrong_command_line_is_explained(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(["--port", "0", *arguments])
    assert message in capsys.readouterr().err


def test_a_real_model_on_the_command_line():
    (demo, *_) = find_demo_models()
    model = real_model(f"mine={demo.path}")
    assert model.card.size > 50_000_000


# -- the clock --------------------------------------------------------------------------------------------------------


def test_a_fake_clock_stands_still_until_it_is_moved():
    clock = FakeClock(at=100.0)
    called = []
    clock.call_later(2, lambda: called.append("two"))
    clock.call_later(1, lambda: called.append("one"))
    clock.call_later(1.5, lambda: called.append("never")).cancel()
    assert (clock.time(), clock.monotonic(), clock(), clock.pending) == (100.0, 0.0, 0.0, 2)
    clock.advance(1)
    assert called == ["one"]
    clock.advance(10)
    assert called == ["one", "two"]
    assert (clock.time(), clock.monotonic(), clock.pending) == (111.0, 11.0, 0)
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)


def test_a_call_that_falls_due_sees_its_own_time_and_may_ask_for_another():
    clock = FakeClock()
    seen = []

    def call():
        seen.append(clock.monotonic())
        if len(seen) < 3:
            clock.call_later(1, call)

    clock.call_later(1, call)
    clock.advance(5)
    assert seen == [1, 2, 3]


async def test_a_call_that_is_due_can_still_be_cancelled_before_it_is_made():
    clock = FakeClock()
    timer = clock.call_later(1, lambda: pytest.fail("called"))
    clock.advance(1)
    timer.cancel()
    await asyncio.sleep(0)


async def test_in_an_event_loop_calls_are_made_there():
    clock = FakeClock()
    called = asyncio.Event()
    clock.call_later(1, called.set)
    await asyncio.to_thread(clock.advance, 1)
    await asyncio.wait_for(called.wait(), 5)


def test_a_loop_that_is_closed_is_not_called():
    clock = FakeClock()

    async def ask():
        clock.call_later(1, lambda: pytest.fail("called"))

    asyncio.run(ask())
    clock.advance(2)
