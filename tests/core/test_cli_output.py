"""What the commands print, wherever it goes: a narrow terminal, a full disk, a reader that has seen enough."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from routed_ollama.cli import main
from routed_ollama.testing import ScriptedModel

CODE = "Write a Python function that sorts a list"
LEFT_OUT = "Left out for want of room: "
MODELS = ["llama3.1:8b", "qwen2.5-coder:7b"]
THOUGHT = ("code", "read", "logic", "facts", "instr", "ideas", "speed")
COLUMNS = {
    "recommend": ["model", "score", "capability", "performance", "health", "expected", "loaded", "reason"],
    "models": [
        "model",
        "size",
        "quant",
        "context",
        "mem",
        "code",
        "read",
        "logic",
        "facts",
        "instr",
        "ideas",
        "speed",
        "evidence",
    ],
}


def printed(capsys, command, url):
    """The table's lines, and the columns that are said to be left out."""
    assert main([command, *([CODE] if command == "recommend" else ()), "--host", url]) == 0
    text = capsys.readouterr().out
    head, _, rest = text.partition(LEFT_OUT)
    said = " ".join(rest.split()).partition(". All of it")[0]
    return head.splitlines(), said.split(", ") if said else []


@pytest.mark.parametrize("command", COLUMNS)
@pytest.mark.parametrize("width", [36, 50, 60, 79, 80, 100, 120, 200])
def test_a_column_is_shown_whole_or_said_to_be_left_out(ollama_server, monkeypatch, capsys, command, width):
    monkeypatch.setenv("COLUMNS", str(width))
    lines, left_out = printed(capsys, command, ollama_server(models=MODELS).url)
    assert lines[0].split() + left_out == sorted(
        COLUMNS[command], key=lambda name: (name in left_out, COLUMNS[command].index(name))
    )
    assert max(map(len, lines)) <= width
    for name in MODELS:
        assert any(name in line for line in lines)


def test_what_a_table_says_of_a_model_is_not_cut_at_eighty_columns(ollama_server, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    url = ollama_server(models=MODELS).url
    lines, left_out = printed(capsys, "models", url)
    assert left_out == ["quant", "context"]
    assert any(line.rstrip().endswith("measured (38)") for line in lines)
    assert printed(capsys, "recommend", url)[1] == ["reason"]


def test_a_reason_goes_on_in_the_next_line_and_loses_nothing(ollama_server, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    lines, left_out = printed(capsys, "recommend", ollama_server(models=MODELS).url)
    assert left_out == []
    began = lines[0].index("reason")
    reasons = " ".join(line[began:].strip() for line in lines[2:])
    assert "success 99%; loads in" in reasons
    assert "/10, success" in reasons


def test_a_long_name_is_folded(ollama_server, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    name = f"hf.co/somebody/{'Very-Long-' * 4}7B-GGUF:Q4_K_M"
    lines, _ = printed(capsys, "recommend", ollama_server(models=[ScriptedModel(name), *MODELS]).url)
    assert max(map(len, lines)) <= 80
    began, ends = lines[0].index("model"), lines[0].index("score")
    assert name in "".join(line[began:ends].strip() for line in lines)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", [["models", "qwen3:4b"], ["models", "qwen3:4b", "--json"]], ids=["table", "json"])
def test_output_that_cannot_be_written_is_one_line(arguments):
    run = [sys.executable, "-c", "import sys; from routed_ollama.cli import main; sys.exit(main())", *arguments]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        ended = subprocess.run(  # noqa: S603 (our own command)
            run, stdout=full, stderr=subprocess.PIPE, check=False, env=dict(os.environ), timeout=60
        )
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"Error: ")
    assert ended.stderr.count(b"\n") == 1
    assert b"space" in ended.stderr


# Which servers


@pytest.fixture
def two(ollama_server, monkeypatch):
    """Two servers that the environment names; a third that is the usual one."""
    here, there = ollama_server(models=["llama3.1:8b"]), ollama_server(models=["llama3.1:8b", "gemma2:9b"])
    monkeypatch.setenv("OLLAMA_HOST", ollama_server(models=["qwen3:4b"]).url)
    monkeypatch.setenv("ROUTED_OLLAMA_HOSTS", f"{here.url},{there.url}")
    monkeypatch.setenv("COLUMNS", "200")
    return here, there


def told(capsys):
    assert main(["models", "--json"]) == 0
    return {(model["model"], model["host"]) for model in json.loads(capsys.readouterr().out)}


def test_models_are_those_of_the_configured_servers(two, capsys):
    here, there = two
    found = {("llama3.1:8b", here.url), ("llama3.1:8b", there.url), ("gemma2:9b", there.url)}
    assert told(capsys) == found
    assert main(["models"]) == 0
    shown = capsys.readouterr().out
    assert all(url in shown for url in (here.url, there.url))


def test_a_server_that_is_silent_beside_another_is_a_warning(two, refused_url, monkeypatch, capsys):
    here, _ = two
    monkeypatch.setenv("ROUTED_OLLAMA_HOSTS", f"{refused_url},{here.url}")
    assert main(["models"]) == 0
    captured = capsys.readouterr()
    assert "llama3.1:8b" in captured.out
    assert captured.err.startswith(f"Warning: {refused_url} does not answer")
    assert captured.err.count("\n") == 1
    monkeypatch.setenv("ROUTED_OLLAMA_HOSTS", refused_url)
    assert main(["models"]) == 1
    assert refused_url in capsys.readouterr().err


def test_the_demonstration_uses_the_configured_server(two, capsys):
    assert main(["demo", "--prompt", "Hello"]) == 0
    assert f"runs at {two[0].url}" in capsys.readouterr().out


def test_an_empty_path_of_a_configuration_is_said_to_be_one(capsys):
    assert main(["recommend", CODE, "--config", ""]) == 1
    assert "the path is empty" in capsys.readouterr().err


def test_an_empty_name_for_the_demonstration_is_said_to_be_one(ollama_server, capsys):
    assert main(["demo", "--model", " ", "--host", ollama_server(models=MODELS).url]) == 1
    assert capsys.readouterr().err == "Error: --model names no model.\n"
