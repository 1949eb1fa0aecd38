"""Everything the README shows is run: Python blocks, the configuration, the commands."""

import inspect
import json
import re
import shlex
from pathlib import Path

import pytest

from routed_ollama import RouterConfig
from routed_ollama.cli import main
from routed_ollama.testing import ScriptedModel

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
CAPABILITIES = ("completion", "tools", "vision")


def blocks(language):
    """The blocks in a language, with the line each begins at."""
    found = re.finditer(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [pytest.param(match[1], id=f"line {README.count(chr(10), 0, match.start()) + 1}") for match in found]


def commands():
    """The lines that call our own command."""
    lines = "".join(block.values[0] for block in blocks("sh")).splitlines()
    return [line for line in lines if line.startswith("routed-ollama ")]


@pytest.fixture(autouse=True)
def ollama(ollama_server, monkeypatch):
    """The usual server, with the models that the README names."""
    models = [ScriptedModel(name, capabilities=CAPABILITIES) for name in ("llama3.1:8b", "qwen2.5-coder:7b")]
    monkeypatch.setenv("OLLAMA_HOST", ollama_server(models=models).url)


@pytest.mark.parametrize("code", blocks("python"))
def test_python(code, request, capsys):
    """A block is a program; where it defines tests, they are run as pytest would."""
    names: dict[str, object] = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102 (our own text)
    for name, function in list(names.items()):
        if name.startswith("test_"):
            function(*map(request.getfixturevalue, inspect.signature(function).parameters))
    assert "nobody could answer" not in capsys.readouterr().out


@pytest.mark.parametrize("text", blocks("json"))
def test_configuration(text, tmp_path):
    path = tmp_path / "routing.json"
    path.write_text(text, encoding="utf-8")
    assert RouterConfig.load(path).model_dump(exclude_unset=True).keys() == json.loads(text).keys()


@pytest.mark.parametrize("command", commands())
def test_command(command, capsys):
    assert main(shlex.split(command)[1:]) == 0
    assert "llama3.1:8b" in capsys.readouterr().out


def test_there_is_something_to_run():
    assert len(blocks("python")) >= 8
    assert len(blocks("json")) == 1
    assert len(commands()) == 8


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (Path(__file__).parent.parent / target).is_file(), target
