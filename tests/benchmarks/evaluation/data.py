"""The development data: scored rows, labelled prompts. Law: read only; what is missing is said in one sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from derive_priors import LICENCES

FILES: Final = ("routing.jsonl", "tasks.jsonl", "category_priors.json")
OWN: Final = Path(__file__).resolve().parents[1] / "prompts" / "check"
OWN_SOURCE: Final = "our own, for checking"


class MissingDataError(Exception):
    """The data is not where it was looked for."""


class Row(NamedTuple):
    """A prompt, and what each model that was asked it scored, 0 to 1."""

    source: str
    category: str
    prompt: str
    scores: Mapping[str, float]


class Labelled(NamedTuple):
    """A prompt and its task type, as somebody else labelled it."""

    source: str
    kind: str
    wanted: str
    prompt: str
    permitted: bool
    """Whether its licence would let numbers be derived from it; else it only measures."""


def check(folder: Path) -> None:
    """See that the data is there.

    Raises:
        MissingDataError: it is not; says what is missing, and how to name another folder.
    """
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise MissingDataError(
            f"No development data in {folder}: {', '.join(missing)} not found; it is no part of the repository, so "
            "name the folder that has it: make eval DATA=FOLDER."
        )


@lru_cache(maxsize=2)
def routing_rows(folder: Path) -> tuple[Row, ...]:
    """Return the scored rows, in the order of the file."""
    return tuple(
        Row(row["source"], row["category"], row["prompt"], row["scores"]) for row in _lines(folder / "routing.jsonl")
    )


def labelled_prompts(folder: Path) -> list[Labelled]:
    """Return the labelled prompts, in the order of the file."""
    return [
        Labelled(
            row["source"],
            row["kind"],
            row["task_type"].lower(),
            row["prompt"],
            permitted=row["licence"].split()[0] in LICENCES,
        )
        for row in _lines(folder / "tasks.jsonl")
    ]


def own_prompts(folder: Path = OWN) -> list[Labelled]:
    """Return the project's own prompts for checking; ``docs/task-types.md`` says what they are."""
    return [
        Labelled(OWN_SOURCE, row["form"], row["task_type"], row["prompt"], permitted=True)
        for path in sorted(folder.glob("*.jsonl"))
        for row in _lines(path)
    ]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
