"""The tour: real answers of a real model where no Ollama runs, the user's own models where one does."""

import contextlib
import importlib
import itertools
import os
import re
import signal
import subprocess
import sys

import pytest

from routed_ollama.cli import main
from routed_ollama.testing import Gate, ScriptedModel
from routed_ollama.testing.llamacpp import find_demo_models

# A shell that runs these tests in the background has Ctrl-C ignored, and children inherit that; a terminal does not.
PROGRAM = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from routed_ollama.cli import main; sys.exit(main())"
)

try:
    find_demo_models()
except ImportError as missing:
    pytest.skip(str(missing), allow_module_level=True)

WORDS = "The sky is blue because air scatters short waves of light more than long ones, which is why it is so."


@pytest.fixture(autouse=True)
def screen(monkeypatch):
    """One screen."""
    monkeypatch.setenv("COLUMNS", "100")


def after(text, heading):
    """What stands under a heading, up to an empty line, without the places where lines were folded."""
    lines = iter(text.splitlines())
    next(line for line in lines if line.startswith(heading))
    return " ".join(" ".join(itertools.takewhile(bool, lines)).split())


@pytest.mark.real
def test_where_no_ollama_runs_a_small_real_model_answers(nobody, capsys):
    assert main(["demo"]) == 0
    shown = capsys.readouterr().out
    assert f"No Ollama answers at {nobody}" in shown
    assert "Both are the same weights" in " ".join(shown.split())
    assert len(shown.splitlines()) <= 45
    assert max(map(len, shown.splitlines())) <= 100
    installed = after(shown, "What is installed: 2 models")
    assert "smollm2:135m" in installed
    assert "smollm2-coder:135m" in installed
    choices = after(shown, "Who would answer what")
    assert choices.count("→ smollm2-coder:135m") == 1
    assert choices.count("→ smollm2:135m") == 2
    answer = after(shown, "A streamed answer")
    assert len(answer.split()) > 10
    joined = after(shown, "The same again")
    before, _, rest = joined.partition(" ✂ ")
    assert len(before.split()) > 3
    assert answer.startswith(before)
    assert rest.partition("smollm2-coder:135m, first word after")[0].strip()
    assert "smollm2:135m failed" in joined
    assert " ~10 RemoteProtocolError" in joined
    assert "smollm2-coder:135m ok" in joined
    gone = after(shown, "Asked while no server runs")
    assert gone.startswith("No Ollama server answers at http://127.0.0.1:")
    assert "`ollama serve`" in gone
    assert "Paris" in gone


@pytest.mark.real
def test_one_question_to_one_model(nobody, capsys):
    assert main(["demo", "--model", "smollm2-coder:135m", "--prompt", "Say hello."]) == 0
    shown = capsys.readouterr().out
    assert "smollm2-coder:135m, first word after" in shown
    assert "What is installed" not in shown


def test_the_ollama_that_runs_is_used(ollama_server, capsys):
    server = ollama_server(models=[ScriptedModel("llama3.2:1b", WORDS), ScriptedModel("qwen2.5:7b", WORDS)])
    assert main(["demo", "--host", server.url]) == 0
    shown = capsys.readouterr().out
    assert f"runs at {server.url}" in shown
    assert after(shown, "A streamed answer").startswith(WORDS)
    joined = after(shown, "The same again")
    assert joined.startswith("The sky is blue because air scatters short waves of ✂ light ")
    assert after(shown, "Asked while no server runs").count(WORDS) == 1
    assert {request.model for request in server.requests if request.path == "/api/chat"} == {
        "llama3.2:1b",
        "qwen2.5:7b",
    }


def test_large_models_are_not_loaded_for_it(ollama_server, capsys):
    server = ollama_server(models=["llama3.1:70b", "llama3.2:1b", "qwen2.5:3b", *(f"m{n}:8b" for n in range(6))])
    assert main(["demo", "--host", server.url]) == 0
    assert set(server.loads) == {"llama3.2:1b", "qwen2.5:3b"}
    shown = capsys.readouterr().out
    assert "and 3 more" in shown
    assert "To be quick, from llama3.2:1b and qwen2.5:3b" in shown


def test_a_model_that_says_nothing_of_its_size(ollama_server, capsys):
    server = ollama_server(models=["llama3.2:1b", ScriptedModel("mystery", parameter_size="0B", size=5_000_000)])
    assert main(["demo", "--host", server.url]) == 0
    assert re.search(r"mystery:latest 5 MB \? ", after(capsys.readouterr().out, "What is installed"))


def test_a_model_that_thinks_answers_at_once(ollama_server, capsys):
    models = [ScriptedModel(name, WORDS, thinking="Let me think.") for name in ("qwen3:4b", "deepseek-r1:7b")]
    assert main(["demo", "--host", ollama_server(models=models).url]) == 0
    shown = capsys.readouterr().out
    assert after(shown, "A streamed answer").startswith(WORDS)
    assert "✂" in after(shown, "The same again")
    assert "think." not in shown


def test_with_one_model_nobody_can_take_over(ollama_server, capsys):
    server = ollama_server(models=[ScriptedModel("llama3.2:1b", WORDS)])
    assert main(["demo", "--host", server.url]) == 0
    shown = capsys.readouterr().out
    assert "Left out" in shown
    assert "ollama pull" in shown
    assert WORDS in after(shown, "Asked while no server runs")


def test_an_ollama_without_models_says_what_to_pull(ollama_server, capsys):
    assert main(["demo", "--host", ollama_server().url]) == 1
    assert "ollama pull" in capsys.readouterr().err


@pytest.mark.real
def test_an_empty_ollama_that_nobody_named_is_stood_in_for(ollama_server, monkeypatch, capsys):
    server = ollama_server(models=[ScriptedModel("bge-m3", capabilities=["embedding"])])
    monkeypatch.setenv("OLLAMA_HOST", server.url)
    assert main(["demo", "--prompt", "Say hello."]) == 0
    shown = capsys.readouterr().out
    assert "has no chat model yet" in shown
    assert "smollm2" in shown


def test_a_server_that_is_named_must_answer(nobody, capsys):
    assert main(["demo", "--host", nobody]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    for words in (nobody, "ollama serve", "--host"):
        assert words in said


def test_a_model_that_is_not_there_is_named(ollama_server, capsys):
    server = ollama_server(models=["llama3.2:1b"])
    assert main(["demo", "--host", server.url, "--model", "llama3.2:3b"]) == 1
    said = capsys.readouterr().err
    assert "llama3.2:3b" in said
    assert "llama3.2:1b" in said


def test_a_model_that_fails_is_one_line(ollama_server, capsys):
    server = ollama_server(models=["llama3.2:1b"])
    server.fail("llama3.2:1b", "load_error")
    assert main(["demo", "--host", server.url, "--model", "llama3.2:1b"]) == 1
    assert capsys.readouterr().err.startswith("Error: ResponseError: ")


def test_what_a_model_writes_is_text_and_nothing_else(ollama_server, capsys):
    nasty = "[bold]not bold[/bold] [/] :smile: \x1b[31mnot red [link=x]"
    server = ollama_server(models=[ScriptedModel("llama3.2:1b", nasty)])
    assert main(["demo", "--host", server.url, "--prompt", "Go."]) == 0
    shown = capsys.readouterr().out
    assert r"[bold]not bold[/bold] [/] :smile: \x1b[31mnot red [link=x]" in shown
    assert "\x1b" not in shown


def test_a_server_behind_a_password(ollama_server, capsys):
    server = ollama_server(models=[ScriptedModel("llama3.2:1b", WORDS), ScriptedModel("qwen2.5:7b", WORDS)])
    host = server.url.replace("http://", "http://someone:secret@")
    assert main(["demo", "--host", host]) == 0
    asked = [request for request in server.requests if request.path == "/api/chat"]
    assert all(request.headers["authorization"].startswith("Basic ") for request in asked)
    captured = capsys.readouterr()
    assert "secret" not in captured.out + captured.err


def test_without_the_model_it_says_what_to_install(nobody, monkeypatch, capsys):
    llamacpp = importlib.import_module("routed_ollama.testing.llamacpp")
    monkeypatch.setattr(sys, "path", [])
    importlib.invalidate_caches()
    with pytest.raises(ImportError):
        llamacpp.find_demo_models()
    assert main(["demo"]) == 1
    assert "pip install" in capsys.readouterr().err


def test_without_langchain_it_says_what_to_install(ollama_server, monkeypatch, capsys):
    for name in list(sys.modules):
        if name.startswith("langchain_routed_ollama"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "langchain_ollama", None)
    assert main(["demo", "--host", ollama_server(models=["llama3.2:1b"]).url]) == 1
    assert "routed-ollama[demo]" in capsys.readouterr().err


@pytest.fixture
def started():
    """A demonstration in a process group of its own, as in a terminal."""
    running = []

    def start(*arguments):
        process = subprocess.Popen(  # noqa: S603 (our own command)
            [sys.executable, "-c", PROGRAM, "demo", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,
            env={**os.environ, "PYTHONUTF8": "1"},
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups to interrupt")


@posix
def test_in_a_terminal_the_answer_is_drawn_as_it_comes(ollama_server):
    gate = Gate()
    server = ollama_server(models=[ScriptedModel("llama3.2:1b", ["once ", gate, "more"])])
    pty = importlib.import_module("pty")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", PROGRAM, "demo", "--host", server.url, "--prompt", "Go."]
    environment = {**os.environ, "PYTHONUTF8": "1", "TERM": "xterm"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:  # noqa: S603 (our own command)
        os.close(theirs)
        drawn = b""
        while b"writing" not in drawn:
            drawn += os.read(ours, 4096)
        assert b"waiting for the first word" in drawn
        assert b"once" in drawn
        assert b"more" not in drawn.rpartition(b"once")[2]
        gate.open()
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            while piece := os.read(ours, 4096):
                drawn += piece
    os.close(ours)
    assert process.returncode == 0
    assert b"once more" in drawn
    assert drawn.count(b"\x1b[?25h") == drawn.count(b"\x1b[?25l")  # the cursor is shown again


@posix
def test_ctrl_c_while_a_model_writes(ollama_server, started):
    gate = Gate()
    server = ollama_server(models=[ScriptedModel("llama3.2:1b", ["once ", gate, "more"])])
    process = started("--host", server.url, "--prompt", "Go.")
    assert gate.wait_reached(60)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err == "Interrupted.\n"
    assert "Traceback" not in out


@posix
@pytest.mark.real
def test_ctrl_c_leaves_no_process_behind(nobody, started):
    process = started()
    for line in process.stdout:
        if line.startswith("A streamed answer"):
            break
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err == "Interrupted.\n"
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
