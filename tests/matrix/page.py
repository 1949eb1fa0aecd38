"""The page of faults, ``docs/faults.md``, out of the matrix as it is played: ``make faults`` writes it anew."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent.parent / "docs" / "faults.md"
if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "parity")]

from columns import FRAMEWORKS  # noqa: E402
from fault_table import ANSWER, BAD  # noqa: E402
from playing import Cell, Played, played  # noqa: E402
from rows import DECLINED, GROUPS, LONG, ROWS, Row  # noqa: E402

HEAD = """\
# What goes wrong, and what comes of it

Each line is one thing that is wrong with the first of two models; the second is well. It was played over the wire
against [`OllamaServer`](../README.md#testing-your-own-code), with a call and a stream, sync and async, with the plain
class of each framework over the first model, and with ours over both: `RoutedChatOllama`, `RoutedOllama`, and where
there are no tools and no schemas, an agent of the core's. `make faults` plays it again and writes this page; the tests
play it, too, and hold it against the page.

- **Plain** is what a user of `ChatOllama` (`invoke`, `stream`) and of LlamaIndex's `Ollama` (`chat`, `stream_chat`)
  sees. Where a fault never ends, they were given a time limit of 1 s of their own, at which the `ReadTimeout` comes.
  Without one, `ChatOllama` waits for ever and `Ollama` for 30 s between two bytes.
- **Ours** was always the right answer, in all frameworks and on all paths, or the test fails. *Afresh*: nothing had
  been handed out, and the second model was asked. *Gone on with*: what a stream had handed out stays, and the second
  model goes on from there; a call that does not stream starts afresh. *Handed out as it came*: what is wrong with it
  is seen at its end only, and a stream has been handed out by then.
- **Recorded** is the kind of failure and who is held to account: the model (its record and its circuit), the host (the
  circuit of all its models), or nobody.
- **Given up after** is measured: how long the failing attempt took, where it had to be given up in parts of the bound
  that ran out. Bounds were set to about 1 s for it; the usual ones are in the [README](../README.md#timeouts).
"""
COLUMNS = ("fault", "plain `ChatOllama`", "plain `Ollama`", "ours", "recorded", "given up after")
_PATHS = {"LangChain": ("invoke", "stream"), "LlamaIndex": ("chat", "stream_chat")}
_MANY = 1_000_000
_AT_ONCE = 0.2
"""Seconds: a machine that is busy with other things takes some time to refuse, too."""


def line(name: str) -> list[str]:
    """Return one line of the page."""
    row = ROWS[name]
    ours, plain = played(name)
    cells = [_seen(row, column.name, plain) for column in FRAMEWORKS]
    return [name, *cells, _mended(row, ours), _recorded(ours.values()), _after(ours.values())]


def _seen(row: Row, column: str, plain: dict[Cell, Played]) -> str:
    """What a user of a plain class sees, told of sync and async apart only where they differ."""
    told: dict[str, str] = {}
    for path, name in zip(("whole", "stream"), _PATHS[column], strict=True):
        both = [_phrase(row, plain[column, each]) for each in (path, f"{path}, async") if (column, each) in plain]
        told[name] = both[0] if len(set(both)) == 1 else f"{both[0]} (async: {both[1]})"
    whole, stream = told.values()
    return whole if whole == stream else "<br>".join(f"`{name}`: {text}" for name, text in told.items())


def _phrase(row: Row, one: Played) -> str:
    said = len(one.seen.text.split())
    if one.endless:
        return "waits for ever"
    if one.error is not None:
        name = f"`{type(one.error).__name__}`"
        loses = row.trouble is not None and row.trouble.loses
        return f"{name} after {'some' if loses else said} words" if said else name
    return f"{_silent(row, one)}, silently"


def _silent(row: Row, one: Played) -> str:
    """What comes without any error, and is not what was asked for."""
    text = one.seen.text.strip()
    if row.ask.song:
        return "an object without its parts" if text and json.loads(text) else "no object"
    if row.ask.tools:
        return f"a call of `{one.seen.calls[0][0]}`" if one.seen.calls else "no call, but text"
    if one.length > _MANY:
        return f"{one.length // _MANY} MB of text"
    if text in {ANSWER, DECLINED}:
        said = "an answer to a part of the prompt" if row.ask is LONG else "all of it"
        return "the refusal" if text == DECLINED else said
    if ANSWER.startswith(text):
        return f"{len(text.split())} of 10 words" if text else "nothing"
    return f"about {round(len(text.split()), -2):,} words of the same"


def _mended(row: Row, ours: dict[Cell, Played]) -> str:
    whole = {_how(row, one) for (_, path), one in ours.items() if not path.startswith("stream")}
    stream = {_how(row, one) for (_, path), one in ours.items() if path.startswith("stream")}
    how, streamed = " or ".join(sorted(whole)), " or ".join(sorted(stream))
    return how if how == streamed else f"call: {how}<br>stream: {streamed}"


def _how(row: Row, one: Played) -> str:
    """How an answer came about that is right."""
    if one.answered_by == BAD:
        if row.ask.tools:
            return "taken as the call"
        cut_to = one.seen.routing.get("prompt_cut_to")
        return "handed out as it came" + (", the route says `prompt_cut_to`" if cut_to is not None else "")
    loses = row.trouble is not None and row.trouble.loses
    return "gone on with" if "continued_at" in one.seen.routing or (loses and one.streamed) else "afresh"


def _recorded(ours: Iterable[Played]) -> str:
    found = {(one.failure.failure, one.blamed) for one in ours if one.failure is not None}
    return " or ".join(f"`{kind}`, {blamed}" for kind, blamed in sorted(found)) or "nothing"


def _after(ours: Iterable[Played]) -> str:
    took = [one.failure.response_time for one in ours if one.failure is not None]
    overrun = [one.overrun for one in ours if one.overrun is not None]
    if overrun:
        return f"{median(overrun):.1f} of its bound"
    if not took:
        return ""
    seconds = median(took)
    return "at once" if seconds < _AT_ONCE else f"{seconds:.1f} s"


def page() -> str:
    """Return the whole page."""
    tables = []
    for group, rows in GROUPS.items():
        lines = [COLUMNS, ["---"] * len(COLUMNS), *map(line, rows)]
        tables.append(f"## {group}\n\n" + "\n".join(f"| {' | '.join(each)} |" for each in lines))
    return f"{HEAD}\n" + "\n\n".join(tables) + "\n"


def lines_of(text: str) -> dict[str, list[str]]:
    """Return the lines of a page by their first column, without the last, which differs each time."""
    cells = [[cell.strip() for cell in each.strip("| ").split(" | ")] for each in text.splitlines() if each[:1] == "|"]
    told = [each for each in cells if each[0] not in {"---", COLUMNS[0]}]
    return {each[0]: each[:-1] if len(each) == len(COLUMNS) else each for each in told}


def main() -> None:
    """Play all and write the page."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(
        f"{PAGE.relative_to(Path.cwd()) if PAGE.is_relative_to(Path.cwd()) else PAGE}: {len(ROWS)} faults\n"
    )


if __name__ == "__main__":
    main()
