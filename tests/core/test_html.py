"""A recommendation in a notebook: a table of every model that was thought of, and its rows for whoever plots them."""

import json
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from routed_ollama import (
    Candidate,
    Message,
    ModelScore,
    Needs,
    Prediction,
    Recommendation,
    Refusal,
    Router,
    TaskCharacteristics,
)
from routed_ollama.testing import OllamaServer, ScriptedModel

HEAD = ["", "model", "score", "capability", "performance", "health", "expected", "in memory", "why"]
HOSTILE = "<script>alert('1')</script>&amp;"


class Table(HTMLParser):
    """What a browser makes of it: the texts of the cells, line by line, and what stands beneath."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.lines, self.beneath = [], [], ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "tr":
            self.lines.append([])
        elif tag in {"td", "th"}:
            self.lines[-1].append("")

    def handle_data(self, data):
        if "p" in self.tags:
            self.beneath += data
        else:
            self.lines[-1][-1] += data


def shown(recommendation):
    return Table(recommendation._repr_html_())


def score(model="llama3.1:8b", host="http://one:11434", prediction=None, **parts):
    return ModelScore(
        Candidate(model, host), 0.7, capability=0.61, performance=0.62, health=1.0, prediction=prediction, **parts
    )


def recommendation(*scores, refused=(), reason="Because."):
    return Recommendation("1", TaskCharacteristics(), scores, tuple(refused), reason=reason)


@pytest.fixture
def server():
    models = [
        ScriptedModel("llama3.1:8b", capabilities=("completion", "tools")),
        ScriptedModel("gemma2:9b", capabilities=("completion", "tools")),
        ScriptedModel("codellama:13b", capabilities=("completion",)),
    ]
    with OllamaServer(models) as running:
        yield running


def test_every_model_is_there_the_chosen_one_marked_and_the_others_in_order(server):
    with Router(base_url=server.url, store="memory") as router:
        ranking = router.recommend_model([Message("user", "What is 3 times 4?")], needs=Needs(tools=True))
    table = shown(ranking)
    assert table.lines[0] == HEAD
    assert [line[:2] for line in table.lines[1:]] == [
        ["✓", ranking.model],
        ["", ranking.fallbacks[0]],
        ["✗", "codellama:13b"],
    ]
    assert table.lines[-1][2:] == ["", "", "", "", "", "", "refused: does not support tools"]
    assert table.beneath == ranking.reason


def test_the_figures_are_those_of_the_score():
    expected = Prediction(12.34, load=5.0, success_rate=0.9, quality=7.25)
    best = score(prediction=expected, preference=0.05, resident=True, notes=("the preferred model",))
    line = shown(recommendation(best)).lines[1]
    assert line[2:8] == ["0.70", "0.61", "0.62", "1.00", "12.3 s", "yes"]
    assert line[8] == "the preferred model; preference +0.05; quality 7.2/10, success 90%; loads in 5.0 s"


def test_what_is_unknown_is_left_open():
    assert shown(recommendation(score())).lines[1][6:] == ["", "?", ""]
    assert shown(recommendation(score(resident=False))).lines[1][7] == "no"


def test_hosts_are_told_apart_where_there_are_several():
    other = Refusal(Candidate("llama3.1:8b", "http://two:11434"), "reachable", "its host does not answer")
    table = shown(recommendation(score(), refused=[other]))
    assert table.lines[0] == [*HEAD[:2], "host", *HEAD[2:]]
    assert [line[2] for line in table.lines[1:]] == ["http://one:11434", "http://two:11434"]
    assert {len(line) for line in table.lines} == {len(HEAD) + 1}


def test_nobody_can_serve():
    refused = [Refusal(Candidate("bge-m3:latest", ""), "completion", "cannot chat")]
    table = shown(recommendation(refused=refused, reason="No installed model can serve this request."))
    assert [line[:2] for line in table.lines] == [HEAD[:2], ["✗", "bge-m3:latest"]]
    assert table.beneath == "No installed model can serve this request."


def test_nothing_in_it_is_taken_for_html():
    hostile = Candidate(HOSTILE, HOSTILE)
    first = score(HOSTILE, HOSTILE, notes=(HOSTILE,))
    refused = [Refusal(hostile, "tools", HOSTILE), Refusal(Candidate("b", ""), "tools", "")]
    table = shown(recommendation(first, refused=refused, reason=HOSTILE))
    assert set(table.tags) == {"table", "tr", "th", "td", "p"}
    assert [table.lines[1][1], table.lines[1][2], table.lines[1][-1]] == [HOSTILE] * 3
    assert [table.lines[2][1], table.lines[2][2], table.lines[2][-1]] == [HOSTILE, HOSTILE, f"refused: {HOSTILE}"]
    assert table.beneath == HOSTILE


def test_it_brings_no_colour_that_is_wrong_on_a_dark_page():
    html = recommendation(score())._repr_html_()
    assert "color:" not in html
    assert "<style" not in html


def test_rows_are_flat_and_plain():
    expected = Prediction(2.0, load=1.0, success_rate=0.9, quality=7.0, samples=3.0)
    rows = recommendation(score(prediction=expected, notes=("leads for coding",)), score("gemma2:9b")).rows()
    assert json.loads(json.dumps(rows[0])) == {
        "model": "llama3.1:8b",
        "host": "http://one:11434",
        "total": 0.7,
        "capability": 0.61,
        "performance": 0.62,
        "health": 1.0,
        "preference": 0.0,
        "resident": None,
        "notes": ["leads for coding"],
        "seconds": 2.0,
        "wait": 0.0,
        "load": 1.0,
        "prompt": 0.0,
        "output": 0.0,
        "success_rate": 0.9,
        "quality": 7.0,
        "samples": 3.0,
    }
    assert rows[1].keys() == rows[0].keys()
    assert rows[1]["seconds"] is None


def test_the_core_needs_nothing_of_a_notebook():
    code = "import sys, routed_ollama; print({'IPython', 'matplotlib', 'pandas'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)  # noqa: S603 (our own command)
    assert run.stdout == "set()\n"
