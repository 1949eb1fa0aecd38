"""Tables for terminals of any width.

Law: a column is shown whole or not at all. What a terminal has no room for is left out, the least needed first, and
that is said; nothing is cut off unseen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import Box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a table.

    Attributes:
        heading: its name; what is left out is told by it.
        cells: its text, row by row.
        figures: whether it is aligned to the right.
        fold: columns that it is given before its text goes on in a further line; None where it never does.
        spare: how early it is left out where room lacks, from 1; 0 for never.
        style: of its cells.
    """

    heading: str
    cells: Sequence[str]
    figures: bool = False
    fold: int | None = None
    spare: int = 0
    style: str = ""

    @property
    def least(self) -> int:
        """Columns that it cannot do without."""
        whole = max(map(cell_len, (self.heading, *self.cells)))
        return whole if self.fold is None else min(whole, self.fold)


def show_table(out: Console, fields: Sequence[Field], *, box: Box | None = None, first: str = "") -> None:
    """Print a table.

    Args:
        out: the terminal.
        fields: its columns.
        box: the lines between them; None for none.
        first: style of the first row.
    """
    gap = 1 if box is None else 2
    shown = list(fields)
    while _width(shown, gap) > out.width and (spare := [field for field in shown if field.spare]):
        shown.remove(min(spare, key=lambda field: field.spare))
    out.print(_table(shown, box, gap, first))
    left_out = ", ".join(field.heading for field in fields if field not in shown)
    if left_out:
        out.print(Text(f"Left out for want of room: {left_out}. All of it is in --json.", style="dim"))


def _width(fields: Sequence[Field], gap: int) -> int:
    return sum(field.least for field in fields) + gap * (len(fields) - 1)


def _table(fields: Sequence[Field], box: Box | None, gap: int, first: str) -> Table:
    padding = gap - (box is not None)  # the lines of a box take a column themselves
    table = Table(box=box, show_edge=False, pad_edge=False, padding=(0, padding, 0, 0), header_style="bold")
    for field in fields:
        table.add_column(
            field.heading,
            justify="right" if field.figures else "left",
            no_wrap=field.fold is None,
            overflow="fold",
            min_width=field.least,
            style=field.style,
        )
    for number, cells in enumerate(zip(*(field.cells for field in fields), strict=True)):
        table.add_row(*cells, style="" if number else first)
    return table
