"""What a person sees who types ``routed-ollama models``: each model, what is thought of it, or what is wrong."""

import json

import ollama
import pytest

from routed_ollama.cli import main
from routed_ollama.priors import capabilities_of
from routed_ollama.testing import ScriptedModel
from routed_ollama.types import ModelCapability

HEADINGS = ("model", "size", "quant", "context", "mem", "code", "read", "logic", "facts", "instr", "ideas", "speed")


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Wide enough that no line is folded where a test looks."""
    monkeypatch.setenv("COLUMNS", "200")


def rows(text):
    """The table's rows by model, in their order."""
    lines = [line.split() for line in text.splitlines()]
    return {line[0]: line[1:] for line in lines if len(line) > len(HEADINGS) and line[4] in {"yes", "no", "?"}}


def test_a_table_says_what_is_thought_of_the_installed_models(ollama_server, capsys):
    server = ollama_server(
        models=[
            ScriptedModel("llama3.1:8b", quantization="Q4_K_M", context_length=131072),
            ScriptedModel("somebody/mine:latest", family="qwen2", parameter_size="14.8B", quantization="Q8_0"),
            "tinyllama:1.1b",
        ]
    )
    ollama.Client(server.url).generate("llama3.1:8b")
    assert main(["models", "--host", server.url]) == 0
    shown = capsys.readouterr().out
    assert shown.split()[: len(HEADINGS) + 1] == [*HEADINGS, "evidence"]
    table = rows(shown)
    assert list(table) == ["somebody/mine:latest", "llama3.1:8b", "tinyllama:1.1b"]
    assert table["llama3.1:8b"][:4] == ["8B", "Q4_K_M", "131,072", "yes"]
    assert table["llama3.1:8b"][11] == "measured"
    assert table["somebody/mine:latest"][:2] == ["14.8B", "Q8_0"]
    assert table["somebody/mine:latest"][-1] == "sibling"
    assert table["tinyllama:1.1b"][3] == "no"
    assert table["tinyllama:1.1b"][-1] == "curve"
    for row in table.values():
        assert all(0 <= int(percent) <= 100 for percent in row[4:11])
    assert not [request for request in server.requests if request.path in {"/api/chat", "/api/embed"}]


def test_json_says_the_same_to_a_program(ollama_server, capsys):
    server = ollama_server(models=["llama3.1:8b", "tinyllama:1.1b"])
    assert main(["models", "--host", server.url, "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["model"], second["model"]) == ("llama3.1:8b", "tinyllama:1.1b")
    assert first["host"] == server.url
    assert first["parameters"] == 8.0
    assert first["in_memory"] is False
    assert first["size_bytes"] > 0
    assert set(first["capabilities"]) == {capability.value for capability in ModelCapability}
    assert first["evidence"]["grade"] == "measured"
    assert first["evidence"]["independent"] > 10
    assert second["evidence"] == {"grade": "curve", "independent": 0, "maker": 0}


def test_names_need_no_server(nobody, capsys):
    assert main(["models", "llama3.1:8b", "qwen3:4b", "new-thing"]) == 0
    table = rows(capsys.readouterr().out)
    assert set(table) == {"llama3.1:8b", "qwen3:4b", "new-thing"}
    assert table["new-thing"][:4] == ["?", "?", "?", "?"]
    assert table["new-thing"][-1] == "unknown"
    assert main(["models", "llama3.1:8b", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["capabilities"]["reasoning"] == capabilities_of("llama3.1:8b")[ModelCapability.REASONING]
    assert (told["host"], told["in_memory"], told["quantization"]) == (None, None, None)


def test_names_at_a_host_are_of_its_models(ollama_server, capsys):
    server = ollama_server(models=["llama3.1:8b", "tinyllama:1.1b"])
    assert main(["models", "tinyllama:1.1b", "--host", server.url]) == 0
    assert list(rows(capsys.readouterr().out)) == ["tinyllama:1.1b"]
    assert main(["models", "qwen3:4b", "--host", server.url]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "qwen3:4b" in said
    assert "tinyllama:1.1b" in said


def test_no_server_is_one_line_that_says_what_to_do(nobody, capsys):
    assert main(["models"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    for words in (nobody, "ollama serve", "--host"):
        assert words in captured.err


def test_nothing_installed_is_said_with_what_to_pull(ollama_server, capsys):
    assert main(["models", "--host", ollama_server().url]) == 0
    assert "ollama pull" in capsys.readouterr().out


def test_an_empty_name_is_explained(capsys):
    assert main(["models", " "]) == 1
    assert "name is empty" in capsys.readouterr().err


def test_a_name_cannot_steer_the_terminal(capsys):
    assert main(["models", "red\x1b[31m:7b"]) == 0
    assert "\x1b[31m" not in capsys.readouterr().out
