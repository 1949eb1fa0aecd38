"""What ``make eval`` reckons is right: by hand on a few rows, and on a small made-up data set from end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from evaluation.asking import learn, requests  # noqa: E402 (the folder is made known first)
from evaluation.data import Row  # noqa: E402
from evaluation.figures import Spread, Table, fixed, learned, lowest, references  # noqa: E402
from evaluation.pools import made_pools  # noqa: E402
from evaluation.run import main  # noqa: E402
from evaluation.tasks import Verdict, calibration, calibration_error, confusion, quality  # noqa: E402
from evaluation.unseen import fitted_on, priors_without  # noqa: E402

from routed_ollama import Router  # noqa: E402
from routed_ollama.priors import capabilities_of  # noqa: E402

MODELS = ("llama3.1:8b", "gemma2:9b", "qwen2.5:7b", "mistral:7b", "codegemma:7b")
TABLE = Table(
    ("left", "middle", "right"),
    ("sums", "sums", "words", "words"),
    ((1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (0.0, 1.0, 0.5), (0.0, 1.0, 1.0)),
)
"""``middle`` is the best single model with three of four; ``left`` is better at sums; someone is right each time."""


def test_what_can_be_had_without_a_router():
    found = references(TABLE)
    assert (found.rows, found.best_model) == (4, "middle")
    assert found.best == 75
    assert found.by_category == 100
    assert found.oracle == 100
    assert found.random == pytest.approx(100 * 6.5 / 12)


def test_a_choice_that_does_not_change():
    found = fixed(TABLE, [0, 0, 1, 2])
    assert (found.percent, found.against_best, found.gap_closed) == (100, 25, 1)
    assert (found.favourite, found.favourite_share) == ("left", 0.5)
    worse = fixed(TABLE, [2, 2, 2, 2])
    assert (worse.percent, worse.against_best, worse.gap_closed) == (37.5, -37.5, -1.5)


def test_no_share_of_a_gap_that_is_not_there():
    same = Table(("left", "right"), ("sums",), ((1.0, 1.0),))
    assert fixed(same, [0]).gap_closed is None
    assert learned(same, [0], [[(0, 0), (0, 1)]]).category_gain is None


def test_what_is_learned_is_compared_on_the_same_requests():
    cold = [2, 2, 2, 2]
    runs = [
        [(0, 2), (1, 2), (0, 0), (2, 1)],  # the second half has a sum, which the best single model would get wrong
        [(2, 1), (3, 1), (0, 1), (1, 0)],
    ]
    found = learned(TABLE, cold, runs)
    assert found.percent == Spread(62.5, 12.5)
    assert found.against_best == Spread(0, 0)
    assert found.second_half == Spread(75, 25)
    assert found.late_against_best == Spread(25, 25)
    assert found.category_gain == 0.5  # two sums that "left" would have got, one of which was got
    assert found.gap_closed == 0.5
    assert found.regret == (0,)
    assert found.shares == {"left": 0.5, "middle": 0.5}
    assert found.lowest_settled is None


def test_the_lowest_window_is_that_of_the_mean_of_all_runs():
    found = lowest([[0.0, 1.0, -1.0, -1.0, 1.0], [0.0, -1.0, 0.0, 0.0, 1.0]], window=2)
    assert found is not None
    assert found.points == -50
    assert found.error == pytest.approx(100 * 0.5 / 2)  # -1, -1, 0, 0: a deviation of one half, four values
    assert lowest([[0.0]], window=2) is None


def test_requests_are_all_rows_before_any_comes_again():
    order = requests(rows=7, count=17, seed=3)
    assert len(order) == 17
    assert sorted(order[:7]) == sorted(order[7:14]) == list(range(7))
    assert order[:7] != order[7:14]
    assert order == requests(7, 17, 3) != requests(7, 17, 4)


def test_pools_are_made_of_models_that_the_library_has_and_the_source_scored():
    often, seldom = ["a:1b", "b:1b", "c:1b", "d:1b", "x/e:1b"], [*"abcdefgh"]
    rows = [Row("one", "any", "", dict.fromkeys([*often, f"{name}:2b"], 1.0)) for name in seldom]
    pools = list(made_pools(rows, per_size=3))
    assert [len(pool.models) for pool in pools] == [3, 3, 3, 4]
    assert {model for pool in pools for model in pool.models} == {"a:1b", "b:1b", "c:1b", "d:1b"}
    assert pools == list(made_pools(rows[::-1], per_size=3))
    assert pools[:2] == list(made_pools(rows, per_size=2))[:2]


def verdict(wanted: str, got: str, confidence: float = 0.5) -> Verdict:
    return Verdict("somebody", "question", True, wanted, got, confidence)


def test_task_types_are_counted():
    verdicts = [
        *[verdict("coding", "coding")] * 3,
        verdict("coding", "testing"),
        verdict("testing", "testing"),
        verdict("general", "planning"),
    ]
    found = quality("all", verdicts)
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.f1 == pytest.approx({"coding": 6 / 7, "testing": 2 / 3, "general": 0})
    assert found.macro_f1 == pytest.approx((6 / 7 + 2 / 3) / 3)
    assert confusion(verdicts)["coding"] == {"coding": 3, "testing": 1}


def test_confidence_is_held_against_what_is_right():
    verdicts = [verdict("coding", "coding", 1.0), verdict("coding", "coding", 0.92), verdict("coding", "testing", 0.3)]
    low, high = calibration(verdicts)
    assert (low.low, low.prompts, low.accuracy) == (0.3, 1, 0)
    assert (high.high, high.prompts, high.confidence, high.accuracy) == (1.0, 2, pytest.approx(0.96), 1)
    assert calibration_error((low, high)) == pytest.approx((0.3 + 2 * 0.04) / 3)


CATEGORIES = {"gsm8k": "How much is {} apples and {} pears?", "trivia_qa": "Who won the cup in 19{}, and by {} goals?"}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Made-up rows under the names of two real sources: what a model scores depends on its place and the row only."""
    folder = tmp_path_factory.mktemp("data")
    rows = [
        {
            "source": "uiuc-llmrouter",
            "category": category,
            "prompt": prompt.format(number, 7 * number + 1),
            "scores": {model: float((number + 1) % (place + 2) == 0) for place, model in enumerate(MODELS)},
            "licence": "MIT",
        }
        for category, prompt in CATEGORIES.items()
        for number in range(12)
    ]
    rows += [{**row, "source": "zeroeval-gsm", "category": "grade-school-math"} for row in rows[:12]]
    rows += [{**row, "source": "routerdc", "licence": "none stated"} for row in rows[:12]]
    tasks = [
        {"source": "mt-bench", "kind": "expert-prompt", "task_type": "CODING", "licence": "Apache-2.0"},
        {"source": "auto-j", "kind": "real-prompt", "task_type": "GENERAL", "licence": "repo: none stated"},
    ]
    for task, prompt in zip(tasks, ("Write a Python function that adds two numbers", "Tell me of Lisbon"), strict=True):
        task["prompt"] = prompt
    for name, lines in {"routing.jsonl": rows, "tasks.jsonl": tasks}.items():
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (folder / "category_priors.json").write_text("{}", encoding="utf-8")
    return folder


def test_a_run_asks_the_router_and_tells_it_the_score_of_what_it_chose():
    table = Table(MODELS, ("sums",) * 3, ((1.0, 0.0, 0.0, 0.0, 0.0),) * 3)
    prompts = [CATEGORIES["gsm8k"].format(number, 3) for number in range(3)]
    found = learn(table, prompts, [2, 0, 1, 1])
    assert [row for row, _ in found.run] == [2, 0, 1, 1]
    first = Router.from_models(MODELS, store="memory").recommend_model(prompts[2]).model
    assert MODELS[found.run[0][1]] == first
    many = [row for _ in range(100) for row in range(3)]
    late = [MODELS[pick] for _, pick in learn(table, prompts, many).run[-100:]]
    assert late.count("llama3.1:8b") > 80  # the only one that was ever right


def test_a_source_is_taken_out_of_the_priors_and_put_back(data):
    assert fitted_on("uiuc", data)
    assert not fitted_on("routerdc", data)  # its licence lets it measure only
    shipped = {model: dict(capabilities_of(model)) for model in MODELS}
    with priors_without("uiuc", data):
        unseen = {model: dict(capabilities_of(model)) for model in MODELS}
        scores = Router.from_models(MODELS, store="memory").recommend_model("How much is 2 and 2?").scores
        assert all(unseen[model] != shipped[model] for model in MODELS)
    assert {model: dict(capabilities_of(model)) for model in MODELS} == shipped
    again = Router.from_models(MODELS, store="memory").recommend_model("How much is 2 and 2?").scores
    assert {s.candidate.model: s.capability for s in scores} != {s.candidate.model: s.capability for s in again}


def test_without_the_data_it_says_what_is_missing(tmp_path):
    (tmp_path / "tasks.jsonl").touch()
    run = subprocess.run(  # noqa: S603 (our own command)
        [sys.executable, str(BENCHMARKS / "evaluation"), "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == (
        f"No development data in {tmp_path}: routing.jsonl, category_priors.json not found; it is no part of the "
        "repository, so name the folder that has it: make eval DATA=FOLDER.\n"
    )


@pytest.fixture(scope="module")
def written(data, tmp_path_factory) -> tuple[str, dict]:
    """What is written of the made-up data, in one process and in two."""
    folder, pages = tmp_path_factory.mktemp("written"), []
    for jobs in ("1", "2"):
        page, figures = folder / jobs / "page.md", folder / jobs / "eval.json"
        arguments = ["--data", str(data), "--seeds", "2", "--requests", "60", "--jobs", jobs]
        assert main([*arguments, "--out", str(page), "--json", str(figures)]) == 0
        pages.append(page.read_text(encoding="utf-8"))
    assert pages[0] == pages[1]
    return pages[0], json.loads(figures.read_text(encoding="utf-8"))


def test_every_pool_is_measured(data, written):
    _, figures = written
    pools = {pool["name"]: pool for pool in figures["pools"]}
    assert [pool["pool"]["models"] for pool in figures["pools"] if pool["named"]] == [list(MODELS)]
    rows = [json.loads(line) for line in (data / "routing.jsonl").read_text(encoding="utf-8").splitlines()][:24]
    router = Router.from_models(MODELS, store="memory")
    solved = [row["scores"][router.recommend_model(row["prompt"]).model] for row in rows]
    assert pools["uiuc"]["shipped"]["cold"]["percent"] == pytest.approx(100 * sum(solved) / 24, abs=1e-3)
    assert pools["uiuc"]["references"]["random"] == pytest.approx(
        100 * sum(sum(row["scores"].values()) for row in rows) / (5 * 24), abs=1e-3
    )
    assert pools["uiuc"]["shipped"]["learned"]
    made = pools["zeroeval-gsm 3.1"]
    assert made["in_priors"]
    assert made["shipped"]["learned"] is None
    assert made["unseen"]["learned"]
    assert not pools["routerdc 3.1"]["in_priors"]
    assert pools["routerdc 3.1"]["shipped"] == pools["routerdc 3.1"]["unseen"]


def test_neither_a_prompt_nor_a_folder_is_written(data, written):
    page, figures = written
    said = page + json.dumps(figures)
    assert "apples" not in said
    assert "Lisbon" not in said
    assert str(data) not in said
    assert "| uiuc-llmrouter |" in page
    assert "coding" in figures["tasks"]["confusion"]
