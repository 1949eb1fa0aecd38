"""A ranking as an HTML table, for notebooks. Pure: plain values in, text out; every value is escaped, none is trusted.

No style sheet, which would reach beyond the table, and no colour of text or ground that is not half transparent: it is
as readable on dark as on light. What is bold or faint has a sign, too, because some viewers drop styles.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

_TEXT: Final = "text-align:left"
_NUMBER: Final = "text-align:right"
_CHOSEN: Final = "font-weight:bold;background:rgba(128,128,128,.15)"
_REFUSED: Final = "opacity:.7"
_FIGURES: Final = {"score": "total", "capability": "capability", "performance": "performance", "health": "health"}
"""Heading of each figure, and its name in a row."""
_IN_MEMORY: Final = {True: "yes", False: "no", None: "?"}


def ranking_table(rows: Sequence[Mapping[str, Any]], refused: Iterable[tuple[str, str, str]], reason: str) -> str:
    """Return a ranking as HTML: the chosen model marked, those that cannot serve last, the reason beneath.

    Args:
        rows: those of ``Recommendation.rows``, best first.
        refused: model, host and reason of each model that cannot serve.
        reason: the choice in a sentence or two.

    Example:
        >>> "&lt;b&gt;: does not see images" in ranking_table([], [], "<b>: does not see images")
        True
    """
    refused = list(refused)
    several = len({row["host"] for row in rows} | {host for _, host, _ in refused}) > 1
    hosts = ["host"] if several else []
    lines = [_head("", "model", *hosts, *_FIGURES, "expected", "in memory", "why")]
    for place, row in enumerate(rows):
        names = [row["model"], *(row[key] for key in hosts)]
        lines.append(_scored("" if place else "✓", names, row, "" if place else _CHOSEN))
    for model, host, why in refused:
        names = [model, *([host] if several else [])]
        unknown = _cells(_NUMBER, [""] * (len(_FIGURES) + 1))
        lines.append(_line(_cells(_TEXT, ["✗", *names]) + unknown + _cells(_TEXT, ["", f"refused: {why}"]), _REFUSED))
    return f"<table>{''.join(lines)}</table><p>{escape(reason)}</p>"


def _head(*names: str) -> str:
    numbers = {*_FIGURES, "expected"}
    return _line("".join(_cells(_NUMBER if name in numbers else _TEXT, [name], "th") for name in names))


def _scored(mark: str, names: Sequence[str], row: Mapping[str, Any], style: str) -> str:
    figures = [f"{row[name]:.2f}" for name in _FIGURES.values()]
    expected = "" if row["seconds"] is None else f"{row['seconds']:.1f} s"
    words = [_IN_MEMORY[row["resident"]], "; ".join(_why(row))]
    return _line(_cells(_TEXT, [mark, *names]) + _cells(_NUMBER, [*figures, expected]) + _cells(_TEXT, words), style)


def _why(row: Mapping[str, Any]) -> list[str]:
    """What the figures beside it do not say."""
    words = list(row["notes"])
    if row["preference"]:
        words.append(f"preference +{row['preference']:.2f}")
    if row["seconds"] is not None:
        words.append(f"quality {row['quality']:.1f}/10, success {row['success_rate']:.0%}")
    if row["load"]:
        words.append(f"loads in {row['load']:.1f} s")
    return words


def _cells(style: str, texts: Iterable[str], tag: str = "td") -> str:
    return "".join(f'<{tag} style="{style}">{escape(text)}</{tag}>' for text in texts)


def _line(cells: str, style: str = "") -> str:
    return f'<tr style="{style}">{cells}</tr>' if style else f"<tr>{cells}</tr>"
