"""The notebooks run as they are, with a server and without one; in the repository they are what a reader should see."""

import base64
import json
import re

import nbformat
import pytest
from executing import FOLDER, METADATA, NOBODY, NOTEBOOKS, execute

from routed_ollama.testing import OllamaServer, ScriptedModel

START = FOLDER / "01-start-here.ipynb"
INSTALLED = ("mistral:7b", "qwen2.5:7b")
STAND_INS = ("llama3.1:8b", "qwen2.5-coder:3b", "gemma3:1b")
LARGEST = 150_000
"""Bytes."""
PNG = b"\x89PNG\r\n\x1a\n"
ABSOLUTE = re.compile(r"(?<![\w.:/<])/[\w.-]+/[\w.-]+|\b[A-Za-z]:\\\\")
"""A path of some machine, in JSON."""

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


class Shown:
    """What a reader sees under a heading, by kind."""

    def __init__(self, notebook, heading):
        outputs = _outputs_by_heading(notebook)[heading]
        self.text = "".join(output["text"] for output in outputs if output["output_type"] == "stream")
        data = [output["data"] for output in outputs if "data" in output]
        self.pages = [each["text/html"] for each in data if "text/html" in each]
        self.tables = [_lines(each["text/markdown"]) for each in data if "text/markdown" in each]
        self.plots = [base64.b64decode(each["image/png"]) for each in data if "image/png" in each]

    @property
    def answered_by(self):
        return re.findall(r"Answered by (\S+)", self.text)


def _outputs_by_heading(notebook):
    found, heading = {}, ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = next(iter(re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE)), heading)
        else:
            found.setdefault(heading, []).extend(cell.outputs)
    return found


def _lines(markdown):
    """A table's lines as mappings."""
    head, _, *lines = ([text.strip() for text in line.split("|")[1:-1]] for line in markdown.splitlines())
    return [dict(zip(head, line, strict=True)) for line in lines]


def outputs_of(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def kinds(notebook):
    """What kinds of things stand under each cell of code."""
    return [[_kind(output) for output in cell.outputs] for cell in notebook.cells if cell.cell_type == "code"]


def _kind(output):
    return (output.output_type, output.get("name"), *sorted({*output.get("data", ())} - {"text/plain"}))


@pytest.fixture(scope="module")
def server():
    """An Ollama as a user may have it: other models than those of the notebooks, and one that cannot chat."""
    models = [*INSTALLED, ScriptedModel("bge-m3:latest", capabilities=("embedding",))]
    with OllamaServer(models) as running:
        yield running


@pytest.fixture(scope="module")
def runs(server):
    """Each notebook's run, executed when it is first asked for."""
    found = {}

    def run(path, *, given):
        if (path, given) not in found:
            found[path, given] = execute(path, server.url if given else NOBODY)
        return found[path, given]

    return run


@pytest.fixture(params=[True, False], ids=["ollama", "no-ollama"])
def given(request):
    return request.param


@pytest.fixture
def start(runs, given):
    return runs(START, given=given)


@pytest.fixture
def models(given):
    return INSTALLED if given else STAND_INS


@every_notebook
def test_it_runs_without_an_error_or_a_warning(runs, path, given):
    warnings = [output.text for output in outputs_of(runs(path, given=given)) if output.get("name") == "stderr"]
    assert [text for text in warnings if "font cache" not in text] == []  # matplotlib's, on a machine with many fonts


def test_it_says_which_server_it_uses(start, given, models):
    text = Shown(start, "A server").text
    assert ("Your own Ollama answers." in text) is given
    assert ("scripted models stand in" in text) is not given
    assert set(models) < set(text.replace(",", "").split())


def test_both_frameworks_answer(start, models):
    shown = Shown(start, "Swap it in")
    assert shown.text.count("You asked: ") == 2
    assert len(shown.answered_by) == 2
    assert set(shown.answered_by) <= set(models)


def test_the_choice_is_a_table_and_a_plot(start, models, given):
    shown = Shown(start, "See the choice")
    [page] = shown.pages
    assert page.index(">✓<") < min(page.index(model) for model in models) < page.index(">✗<")
    assert page.index(">✗<") < page.index("bge-m3" if given else "nomic-embed-text") < page.index("cannot chat")
    assert [plot[:8] for plot in shown.plots] == [PNG]
    [answers] = shown.tables
    assert len(answers) == 3
    assert {answer["model"] for answer in answers} <= set(models)


def test_a_model_that_breaks_is_answered_by_another(start, models):
    shown = Shown(start, "A model breaks")
    [answered] = shown.answered_by
    assert "You asked: Explain in one sentence" in shown.text
    [attempts] = shown.tables
    assert [(attempt["model"], attempt["outcome"]) for attempt in attempts] == [
        ("broken:8b", "failed"),
        (answered, "ok"),
    ]
    assert "unexpectedly stopped" in attempts[0]["error"]
    assert answered in models


def test_what_breaks_again_and_again_is_left_out(start):
    shown = Shown(start, "A model breaks")
    assert "'broken:8b': 'unhealthy'" in shown.text
    [page] = shown.pages
    assert page.index(">✗<") < page.index("broken:8b") < page.index("circuit open")


def test_the_history_is_a_table_and_a_plot(start, models):
    shown = Shown(start, "What was recorded")
    [history] = shown.tables
    records = {line["model"]: line for line in history}
    assert (records["broken:8b"]["total_requests"], records["broken:8b"]["success_rate"]) == ("3", "0.00")
    answered = [records[model] for model in records if model in models]
    assert sum(int(record["total_requests"]) for record in answered) == 2 + 3 + 3
    assert {record["success_rate"] for record in answered} == {"1.00"}
    assert [plot[:8] for plot in shown.plots] == [PNG]


def test_the_server_that_was_given_is_the_one_that_is_asked(runs, server):
    runs(START, given=True)
    asked = [request.model for request in server.requests if request.path == "/api/chat"]
    assert len(asked) == 2 + 3 + 3
    assert set(asked) <= set(INSTALLED)


@every_notebook
def test_its_outputs_in_the_repository_are_those_of_its_cells(runs, path):
    committed = nbformat.read(path, as_version=4)
    nbformat.validate(committed)
    code = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert kinds(committed) == kinds(runs(path, given=False))


@every_notebook
def test_in_the_repository_it_is_small_and_says_nothing_of_the_machine_it_ran_on(path):
    committed = nbformat.read(path, as_version=4)
    assert path.stat().st_size < LARGEST
    assert committed.metadata == METADATA
    assert [cell.metadata for cell in committed.cells] == [{}] * len(committed.cells)
    for output in outputs_of(committed):
        output.get("data", {}).pop("image/png", None)
    text = json.dumps(committed, ensure_ascii=False)
    assert ABSOLUTE.findall(text) == []
    assert set(re.findall(r"https?://([^:/\s\"<]+)", text)) <= {"127.0.0.1"}
