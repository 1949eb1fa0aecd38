"""``make eval``: measures how well it chooses, prints it, and writes it as a page and as JSON.

    python tests/benchmarks/evaluation --data FOLDER [--out PAGE.md] [--json FILE.json] [--quick]

Figures that depend on the machine (times) are printed and in the JSON, not on the page; everything else is the same on
every run. Ends with 2 where the data is missing.
"""

# ruff: noqa: T201 (what was measured is printed)

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, get_args

from derive_priors import DATA

from evaluation.data import MissingDataError, check, labelled_prompts, own_prompts, routing_rows
from evaluation.measuring import Options, PoolReport, measure_pools
from evaluation.page import page
from evaluation.speed import Time, times
from evaluation.tasks import TaskFigures, task_figures, verdicts
from routed_ollama import Prefer

NO_DATA: Final = 2
_ROUNDED: Final = 4


def main(arguments: Sequence[str]) -> int:
    """Measure, print and write; return what the process ends with."""
    given = _given(arguments)
    try:
        check(given.data)
    except MissingDataError as missing:
        print(missing, file=sys.stderr)
        return NO_DATA
    options = _options(given)
    began = time.perf_counter()
    prompts = labelled_prompts(options.data)[:: options.step]
    tasks = task_figures(verdicts(prompts), verdicts(own_prompts()[:: options.step]))
    reports = [_told(report) for report in measure_pools(options)]
    took = times(prompts)
    text = page(options, reports, tasks, len(routing_rows(options.data)), quick=given.quick)
    print(text)
    print("\n".join(f"{each.what:45} median {each.median:8.1f} us, slowest {each.slowest:8.1f} us" for each in took))
    print(f"measured in {time.perf_counter() - began:.0f} s")
    if given.out is not None:
        _write(given.out, text)
    if given.json is not None:
        _write(given.json, json.dumps(_rounded(_as_json(reports, tasks, took)), indent=1) + "\n")
    return 0


def _given(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="evaluation", description="Measure how well routed-ollama chooses.")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the development data")
    parser.add_argument("--out", type=Path, help="write the page here")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--quick", action="store_true", help="a part of the data, for a first look (half a minute)")
    parser.add_argument("--prefer", choices=get_args(Prefer), help="as for Router; default its own")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each pool")
    parser.add_argument("--requests", type=int, default=3_000, help="requests of a run")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes")
    return parser.parse_args(arguments)


def _options(given: argparse.Namespace) -> Options:
    options = Options(
        given.data, seeds=given.seeds, requests=given.requests, prefer=given.prefer, jobs=max(1, given.jobs)
    )
    return replace(options, seeds=1, requests=2_000, per_size=1, step=4) if given.quick else options


def _told(report: PoolReport) -> PoolReport:
    print(f"  {report.pool.name}: cold {report.unseen.cold.against_best:+.1f}", file=sys.stderr)
    return report


def _as_json(reports: Sequence[PoolReport], tasks: TaskFigures, took: Sequence[Time]) -> dict[str, Any]:
    return {
        "pools": [{"name": report.pool.name, **asdict(report)} for report in reports],
        "tasks": asdict(tasks),
        "times_us": [each._asdict() for each in took],
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _ROUNDED)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if hasattr(value, "_asdict"):
        return _rounded(value._asdict())
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
