"""Every fault x every path x every framework: the answer is right, and the right party is held to account.

What is seen is what ``docs/faults.md`` says. A row is one test, for its cells are played at once: some of them wait.
"""

from __future__ import annotations

import pytest
from columns import PATHS
from fault_table import BAD, GOOD, HANDED_OUT
from page import COLUMNS, PAGE, line, lines_of
from playing import columns_of, is_right, played
from rows import GROUPS, NOBODY, ROWS


def expected(row, path):
    """Who is to answer, what is to be recorded of the first model, and who is to be blamed."""
    return (BAD, "", NOBODY) if path in row.stands else (GOOD, row.kind, row.blames)


def goes_on_rightly(row, path, at):
    """Whether a stream went on where it broke off, and whatever had handed out nothing began afresh."""
    trouble = row.trouble
    if path in row.stands or "stream" not in path or trouble is None or not trouble.mid_stream:
        return at == 0
    return at >= len(HANDED_OUT) if row.any_length else trouble.said(at)


def found(one):
    """The same, as it was seen."""
    return one.answered_by, one.failure.failure if one.failure else "", one.blamed


@pytest.mark.parametrize("name", ROWS)
def test_whatever_goes_wrong_is_mended_and_held_against_the_right_party(name):
    row, (ours, _) = ROWS[name], played(name)
    assert list(ours) == [(column.name, path) for column in columns_of(row) for path in PATHS]
    assert {cell: one.error for cell, one in ours.items() if one.error} == {}
    assert {cell: one.seen for cell, one in ours.items() if not is_right(row, one.seen)} == {}
    assert {cell: found(one) for cell, one in ours.items()} == {cell: expected(row, cell[1]) for cell in ours}
    seams = {cell: one.seen.routing.get("continued_at", 0) for cell, one in ours.items()}
    assert {cell: at for cell, at in seams.items() if not goes_on_rightly(row, cell[1], at)} == {}
    assert lines_of(PAGE.read_text(encoding="utf-8"))[name] == line(name)[:-1]


def test_the_page_has_exactly_the_rows_of_the_matrix():
    text = PAGE.read_text(encoding="utf-8")
    assert list(lines_of(text)) == list(ROWS)
    assert all(len(each) == len(COLUMNS) - 1 for each in lines_of(text).values())
    assert [each.removeprefix("## ") for each in text.splitlines() if each.startswith("## ")] == list(GROUPS)
