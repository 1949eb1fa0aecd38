"""What a person sees who types ``routed-ollama recommend``: a ranking with reasons, or what is wrong in one line."""

import io
import json
import os
import subprocess
import sys

import ollama
import pytest

from routed_ollama import open_store
from routed_ollama.cli import main
from routed_ollama.cli._console import plain
from routed_ollama.testing import ScriptedModel

CODE = "Write a Python function that sorts a list"


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Wide enough that no line is folded where a test looks."""
    monkeypatch.setenv("COLUMNS", "200")


def rows(text):
    """The table's rows, by model."""
    table = [line.split(maxsplit=2) for line in text.splitlines()]
    return {row[1]: row[2] for row in table if len(row) == 3 and row[0].isdigit()}


def one_line(captured):
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_a_table_ranks_the_installed_models(ollama_server, capsys):
    server = ollama_server(
        models=["llama3.2:1b", "qwen2.5-coder:7b", ScriptedModel("bge-m3", capabilities=["embedding"])]
    )
    assert main(["recommend", CODE, "--host", server.url]) == 0
    shown = capsys.readouterr().out
    for heading in ("model", "score", "capability", "performance", "health", "expected", "loaded", "reason"):
        assert heading in shown
    ranking = rows(shown)
    assert set(ranking) == {"llama3.2:1b", "qwen2.5-coder:7b"}
    for row in ranking.values():
        score, capability, performance, health, seconds, unit, loaded, *_ = row.split()
        assert all(0 <= float(part) <= 1.2 for part in (score, capability, performance, health))
        assert float(seconds) > 0
        assert (unit, loaded) == ("s", "no")
    assert "Refused: bge-m3:latest cannot chat" in shown
    assert "coding prompt" in shown
    assert not [request for request in server.requests if request.path in {"/api/chat", "/api/generate"}]


def test_what_is_in_memory_says_so(ollama_server, capsys):
    server = ollama_server(models=["llama3.2:1b", "qwen2.5-coder:7b"])
    ollama.Client(server.url).generate("llama3.2:1b")
    assert main(["recommend", CODE, "--host", server.url]) == 0
    ranking = rows(capsys.readouterr().out)
    assert " yes " in ranking["llama3.2:1b"]
    assert "loads in" not in ranking["llama3.2:1b"]
    assert " no " in ranking["qwen2.5-coder:7b"]
    assert "loads in" in ranking["qwen2.5-coder:7b"]


def test_json_says_the_same_to_a_program(ollama_server, capsys):
    server = ollama_server(
        models=["llama3.2:1b", "qwen2.5-coder:7b", ScriptedModel("bge-m3", capabilities=["embedding"])]
    )
    assert main(["recommend", CODE, "--host", server.url, "--json", "--prefer", "quality"]) == 0
    told = json.loads(capsys.readouterr().out)
    first, second = told["ranking"]
    assert told["model"] == first["model"]
    assert (first["rank"], second["rank"]) == (1, 2)
    assert first["score"] >= second["score"]
    assert first["expected_seconds"] >= first["load_seconds"] > 0
    assert first["in_memory"] is False
    assert told["hosts"] == [server.url]
    assert told["task"]["task_type"] == "coding"
    assert [(each["model"], each["gate"]) for each in told["refused"]] == [("bge-m3:latest", "completion")]


def test_names_are_enough_where_no_server_is(nobody, capsys):
    assert main(["recommend", CODE, "--models", "llama3.2:1b, qwen2.5-coder:7b"]) == 0
    shown = capsys.readouterr().out
    assert f"No Ollama answers at {nobody}" in shown
    assert next(iter(rows(shown))) == "qwen2.5-coder:7b"
    assert " ? " in rows(shown)["qwen2.5-coder:7b"]


def test_the_server_that_is_named_must_answer(nobody, capsys):
    assert main(["recommend", CODE, "--models", "llama3.2:1b", "--host", nobody]) == 1
    assert nobody in one_line(capsys.readouterr())


def test_no_server_is_one_line_that_says_what_to_do(nobody, capsys):
    assert main(["recommend", CODE]) == 1
    said = one_line(capsys.readouterr())
    for words in (nobody, "ollama serve", "--host", "OLLAMA_HOST"):
        assert words in said


def test_no_model_is_one_line_that_says_what_to_pull(ollama_server, capsys):
    assert main(["recommend", CODE, "--host", ollama_server().url]) == 1
    assert "ollama pull" in one_line(capsys.readouterr())


def test_a_model_that_is_not_installed_is_named_with_its_neighbour(ollama_server, capsys):
    server = ollama_server(models=["llama3.2:1b"])
    assert main(["recommend", CODE, "--host", server.url, "--models", "llama3.2:3b"]) == 1
    said = one_line(capsys.readouterr())
    assert "llama3.2:3b" in said
    assert "llama3.2:1b" in said


def test_names_may_not_be_empty(capsys):
    assert main(["recommend", CODE, "--models", " , "]) == 1
    assert "--models" in one_line(capsys.readouterr())


def test_a_configuration_decides(ollama_server, tmp_path, capsys):
    server = ollama_server(models=["llama3.2:1b", "qwen2.5-coder:7b"])
    path = tmp_path / "routing.json"
    path.write_text(json.dumps({"task_specific_models": {"coding": ["llama3.2:1b"]}}), encoding="utf-8")
    assert main(["recommend", CODE, "--host", server.url, "--config", str(path)]) == 0
    assert next(iter(rows(capsys.readouterr().out))) == "llama3.2:1b"


def test_several_hosts_are_told_apart(ollama_server, tmp_path, capsys):
    here, there = ollama_server(models=["llama3.2:1b"]), ollama_server(models=["llama3.2:1b"])
    path = tmp_path / "routing.json"
    path.write_text(json.dumps({"hosts": [here.url, there.url]}), encoding="utf-8")
    assert main(["recommend", CODE, "--config", str(path)]) == 0
    shown = capsys.readouterr().out
    assert here.url in shown
    assert there.url in shown


def test_a_broken_configuration_is_one_line_with_its_place(tmp_path, capsys):
    path = tmp_path / "routing.json"
    path.write_text('{"hosts": [}', encoding="utf-8")
    assert main(["recommend", CODE, "--config", str(path)]) == 1
    assert f"{path}, line 1" in one_line(capsys.readouterr())


def test_a_damaged_history_is_a_warning_in_one_line(ollama_server, own_state_folder, capsys):
    server = ollama_server(models=["llama3.2:1b"])
    own_state_folder.joinpath("routed-ollama").mkdir(parents=True)
    history = own_state_folder / "routed-ollama" / "history.sqlite3"
    assert open_store().location == str(history)
    history.write_bytes(b"no database at all, and longer than a header" * 100)
    assert main(["recommend", CODE, "--host", server.url]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("Warning: The history in")
    assert captured.err.count("\n") == 1
    assert "llama3.2:1b" in rows(captured.out)


def test_a_wrong_command_line_is_explained(capsys):
    assert main(["recommend", CODE, "--prefer", "cheap"]) == 2
    assert "balanced" in capsys.readouterr().err
    assert main(["recommend"]) == 2
    assert main([]) == 2
    assert "demo" in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("routed-ollama ")


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_extra_one_line_says_what_to_install(missing, monkeypatch, capsys):
    for name in list(sys.modules):
        if name.partition(".")[0] == missing or name.startswith("routed_ollama.cli._"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["--version"]) == 1
    assert "routed-ollama[cli]" in one_line(capsys.readouterr())


def test_another_missing_module_is_not_hidden(monkeypatch):
    for name in list(sys.modules):
        if name.startswith("routed_ollama.cli._"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "routed_ollama.cli._console", None)
    with pytest.raises(ModuleNotFoundError, match="_console"):
        main(["--version"])


def test_what_steers_a_terminal_is_shown_escaped():
    assert plain("a\x1b[31m\x9bb\tc\nd\re\x07") == "a\\x1b[31m\\x9bb\tc\nd\\re\\x07"


def test_a_file_is_written_in_lines_of_a_hundred_columns(ollama_server, monkeypatch):
    monkeypatch.delenv("COLUMNS")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert main(["recommend", CODE, "--host", ollama_server(models=["llama3.2:1b", "qwen2.5-coder:7b"]).url]) == 0
    lines = sys.stdout.getvalue().splitlines()
    assert 80 < max(map(len, lines)) <= 100


def test_ctrl_c_before_a_command_began(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("routed_ollama.cli._app.run", interrupted)
    assert main(["--version"]) == 130


def test_output_that_lacks_a_character_is_no_reason_to_stop(ollama_server):
    server = ollama_server(models=["llama3.2:1b"])
    command = [sys.executable, "-X", "utf8=0", "-c", "import sys; from routed_ollama.cli import main; sys.exit(main())"]
    run = subprocess.run(  # noqa: S603 (our own command)
        [*command, "recommend", "Schreibe ein Gedicht über Bäume ✂", "--host", server.url],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    assert b"llama3.2:1b" in run.stdout
    run.stdout.decode("ascii")
