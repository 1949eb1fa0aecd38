"""Tables as plain text and as HTML. Pure; whatever a server or a person has put into a cell steers neither."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final, NamedTuple

from routed_ollama.errors import escaped

_INDENT: Final = "  "
_GAP: Final = "  "
_RIGHT: Final = ' style="text-align:right"'


class Table(NamedTuple):
    """Rows of texts under a title."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[str] = frozenset()
    """Headings of the columns that hold numbers."""


def as_text(lines: Iterable[str], tables: Iterable[Table]) -> str:
    r"""Return lines and, beneath them, tables as plain text. A table without rows is left out.

    Example:
        >>> table = Table("Found", ["name", "n"], [["a", "1"], ["bc", "22"]], frozenset({"n"}))
        >>> print(as_text(["Ended: \x1b[2J"], [table]))
        Ended: \x1b[2J
        <BLANKLINE>
        Found
          name   n
          a      1
          bc    22
    """
    blocks = ["\n".join(map(escaped, lines)), *(_text_of(table) for table in tables if table.rows)]
    return "\n\n".join(blocks)


def _text_of(table: Table) -> str:
    grid = [[escaped(cell) for cell in row] for row in (table.head, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    right = [name in table.numbers for name in table.head]
    lines = [
        _INDENT
        + _GAP.join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in grid
    ]
    return "\n".join([table.title, *lines])


def as_html(lines: Iterable[str], tables: Iterable[Table]) -> str:
    """Return the same as HTML, without a style sheet, which would reach beyond it, and without colours.

    Example:
        >>> as_html(["<b>"], [Table("Found", ["n"], [["&"]])])
        '<p>&lt;b&gt;</p><table><caption>Found</caption><tr><th>n</th></tr><tr><td>&amp;</td></tr></table>'
    """
    paragraphs = "".join(f"<p>{escape(escaped(line))}</p>" for line in lines)
    return paragraphs + "".join(_html_of(table) for table in tables if table.rows)


def _html_of(table: Table) -> str:
    right = [name in table.numbers for name in table.head]

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{_RIGHT * number}>{escape(escaped(cell))}</{tag}>"
            for cell, number in zip(cells, right, strict=True)
        )

    rows = "".join(f"<tr>{line(row, 'td')}</tr>" for row in table.rows)
    return f"<table><caption>{escape(table.title)}</caption><tr>{line(table.head, 'th')}</tr>{rows}</table>"
