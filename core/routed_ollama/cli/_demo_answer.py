"""One answer in a terminal, as it comes: a bar while the model loads, then the text, then how it came about."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from routed_ollama.cli._console import plain
from routed_ollama.errors import ModelFailure, RoutedOllamaError, describe

_ERROR_WIDTH: Final = 36
"""Characters of an attempt's error that are shown."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that came whole.

    Attributes:
        text: all of it.
        route: ``response_metadata["routing"]``.
        first: seconds until the first text.
        seconds: until its end.
        cut_short: whether it ended because it may not become longer.
    """

    text: str
    route: Mapping[str, Any]
    first: float
    seconds: float
    cut_short: bool

    @property
    def seam(self) -> int | None:
        """Where another model went on, in characters; None where nothing broke."""
        seam = self.route.get("continued_at")
        return seam[0] if isinstance(seam, list) else seam


def ask(out: Console, llm: Any, prompt: str) -> Answer:
    """Stream an answer to the terminal and return it.

    Args:
        out: the terminal.
        llm: a chat model of LangChain.
        prompt: what to ask.

    Raises:
        RoutedOllamaError: no model answered.
    """
    began = time.perf_counter()
    first = 0.0
    chunks: list[Any] = []
    text = Text()
    waiting = _waiting()
    with Live(waiting, console=out, refresh_per_second=12.5) as live:
        try:
            for chunk in llm.stream(prompt):
                chunks.append(chunk)
                text.append(plain(chunk.text))
                if text and not first:
                    first = time.perf_counter() - began
                if text:
                    live.update(Group(text, Spinner("dots", "writing", style="dim")))
        except RoutedOllamaError:
            live.update(text)
            raise
        except Exception as error:  # a model that is asked alone fails with an error of the client's own
            live.update(text)
            raise ModelFailure(describe(error)) from error
        answer = _answer(chunks, first, time.perf_counter() - began)
        live.update(_with_seam(answer))
    if not out.is_terminal:  # there the line is left open
        out.print()
    return answer


def _waiting() -> Progress:
    bar = Progress(
        SpinnerColumn(),
        TextColumn("waiting for the first word; a model that is not in memory is loaded first"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
    )
    bar.add_task("", total=None)
    return bar


def _answer(chunks: list[Any], first: float, seconds: float) -> Answer:
    whole = reduce(add, chunks)
    metadata = whole.response_metadata
    cut_short = metadata.get("done_reason") == "length"
    return Answer(str(whole.text), metadata.get("routing", {}), first, seconds, cut_short)


def _with_seam(answer: Answer) -> Text:
    seam = len(answer.text) if answer.seam is None else answer.seam
    shown = Text(plain(answer.text[:seam]))
    if answer.seam is not None:
        shown.append(" ✂ ", style="bold red")
        shown.append(plain(answer.text[seam:]), style="green")
    if answer.cut_short:
        shown.append(" …", style="dim")
    return shown


def show_route(out: Console, answer: Answer) -> None:
    """Print who answered, how fast, and what went wrong on the way."""
    route = answer.route
    line = f"{route.get('model')}, first word after {answer.first:.1f} s, whole after {answer.seconds:.1f} s"
    if answer.cut_short:
        line += ", ended at this demonstration's limit"
    out.print(Text(plain(line), style="dim"))
    if answer.seam is None:
        return
    out.print(
        Text(f"Cut after {answer.seam} characters (✂); another model went on. The attempts (~ counted):", style="dim")
    )
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for column in ("attempt", "model", "outcome", "seconds", "tokens", "error"):
        table.add_column(column, overflow="fold")
    for number, attempt in enumerate(route["attempts"], 1):
        error = plain(attempt["error"] or "")
        shown = error if len(error) <= _ERROR_WIDTH else f"{error[:_ERROR_WIDTH]}…"
        outcome = attempt["outcome"]
        seconds, tokens = f"{attempt['seconds']:.1f}", _tokens(attempt)
        table.add_row(str(number), plain(attempt["model"]), outcome, seconds, tokens, shown)
    out.print(table)


def _tokens(attempt: Mapping[str, Any]) -> str:
    """How many it generated: the server's figure, or as they were counted when they came."""
    tokens = attempt.get("output_tokens")
    return "" if tokens is None else f"{'~' * bool(attempt['estimated'])}{tokens}"
