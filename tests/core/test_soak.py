"""A short soak: what ``make soak`` does with ten thousand requests, with a few."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import soak

REQUESTS = 150


def test_nobody_who_asks_notices_that_everything_goes_wrong(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")  # which the program sets for itself, and no other test is to have
    said: list[str] = []
    problems = soak.main(["--requests", str(REQUESTS), "--out", str(tmp_path / "docs" / "soak.md")], said.append)
    assert problems == 0, "\n".join(said)
    page = (tmp_path / "docs" / "soak.md").read_text(encoding="utf-8")
    assert page == said[0]
    assert f"**{REQUESTS} requests, " in page
    assert "0 failures that a user saw" in page
    assert str(tmp_path) not in page


def test_what_is_not_as_it_should_be_is_said() -> None:
    run = soak.Soak(10_000, 1.0, failures=["invoke 3: it failed"])
    run.samples = [soak.Sample(at, 1.0, 0, 0, 100.0 + at, 10 + at, 10) for at in range(0, 100, 5)]
    assert run.problems() == [
        "invoke 3: it failed",
        "1 failures",
        "only 0 of 10000 requests met a failure",
        "megabytes grew from 125 to 155 in the second half",
        "threads grew from 35 to 65 in the second half",
    ]


def test_a_run_that_is_as_it_should_be_is_not_found_fault_with() -> None:
    run = soak.Soak(10_000, 1.0, met=2000)
    run.samples = [soak.Sample(at, 1.0, 0, 0, 150.0 + 90 * (at % 2), 40, 70 + at % 3) for at in range(20)]
    assert run.problems() == []
