"""What the benchmarks share: rows of the table, prompts, and times that are taken in turn."""

from __future__ import annotations

import gc
import re
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

SENTENCE = "please write a small function that reads the log file and returns the errors of the last day as a list"
WORDS = tuple(re.findall(r"\w+", SENTENCE))


class Row(NamedTuple):
    """One line of the table."""

    name: str
    measured: str
    goal: str
    met: bool
    value: float


def prompt(number: int, words: int) -> str:
    """A prompt that no other request has."""
    body = " ".join(WORDS[(number + i) % len(WORDS)] for i in range(words))
    return f"Request {number}: {body}"


def interleaved(runs: dict[str, Callable[[int], Any]], rounds: int, warm: int = 20) -> dict[str, list[float]]:
    """Seconds of each, taken in turn, so that a slow moment of the machine meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    for number in range(-warm, rounds):
        for name in order:
            began = time.perf_counter()
            runs[name](number)
            if number >= 0:
                times[name].append(time.perf_counter() - began)
        order.reverse()  # so that neither always comes second
    return times


def ratio_row(name: str, plain: Callable[[int], Any], routed: Callable[[int], Any], rounds: int, goal: float) -> Row:
    gc.collect()
    times = interleaved({"plain": plain, "routed": routed}, rounds, warm=3)
    ratio = statistics.median(b / a for a, b in zip(times["plain"], times["routed"], strict=True))
    base = statistics.median(times["plain"]) * 1e3
    return Row(f"{name}, routed / plain ({base:.0f} ms)", f"{ratio:.3f} x", f"<= {goal} x", ratio <= goal, ratio)
