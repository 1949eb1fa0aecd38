"""Joining an answer that broke off with its continuation: what is trimmed and what is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed_ollama import continuation_messages
from routed_ollama.fallback import OverlapTrimmer
from routed_ollama.fallback.continuation import MAX_OVERLAP, MIN_OVERLAP

STANDS = "def add(a, b):\n    return a + b\n\ndef subtract(a, b):\n    ret"


def joined(stands: str, pieces: list[str]) -> str:
    trimmer = OverlapTrimmer(stands)
    return stands + "".join(map(trimmer.feed, pieces)) + trimmer.flush()


def test_a_template_that_leaves_the_last_message_open_is_used() -> None:
    assert continuation_messages("one, two,", prefill=True) == (("assistant", "one, two,"),)


def test_another_is_asked_to_go_on() -> None:
    (first, second) = continuation_messages("one, two,", prefill=False)
    assert first == ("assistant", "one, two,")
    assert second[0] == "user"
    assert "Go on from exactly where it stops" in second[1]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("urn a - b\n", "urn a - b\n"),
        ("subtract(a, b):\n    return a - b\n", "urn a - b\n"),
        (STANDS + "urn a - b\n", "urn a - b\n"),
        (STANDS, ""),
        ("t a - b", "t a - b"),  # repeats one character: too short to be told from chance
        ("def add(a, b):\n    return a * b", "def add(a, b):\n    return a * b"),  # begins like it, but differs
        ("", ""),
    ],
)
def test_a_repeated_end_or_the_whole_is_left_out_and_nothing_else(said: str, expected: str) -> None:
    assert joined(STANDS, [said]) == STANDS + expected
    assert joined(STANDS, list(said)) == STANDS + expected


def test_a_short_answer_that_is_repeated_may_be_meant() -> None:
    assert joined("very, ", ["very, ", "very much"]) == "very, very, very much"


def test_text_passes_at_once_when_it_cannot_be_a_repetition() -> None:
    trimmer = OverlapTrimmer(STANDS)
    assert trimmer.feed("X") == "X"
    assert trimmer.feed(STANDS) == STANDS
    assert trimmer.flush() == ""


def test_without_a_beginning_there_is_nothing_to_trim() -> None:
    trimmer = OverlapTrimmer("")
    assert trimmer.feed("one") == "one"
    assert trimmer.flush() == ""


def test_the_end_of_a_very_long_answer_is_found_too() -> None:
    long = "".join(f"line {number}\n" for number in range(2_000))
    assert len(long) > 5 * MAX_OVERLAP
    assert joined(long, [long[-500:], "the end"]) == long + "the end"


@given(
    st.text("ab ", min_size=MIN_OVERLAP, max_size=60),
    st.integers(MIN_OVERLAP, 60),
    st.text("cd", min_size=1, max_size=10),
    st.integers(1, 9),
)
def test_however_it_is_cut_into_pieces_a_repeated_end_is_trimmed_whole(
    stands: str, size: int, new: str, step: int
) -> None:
    said = stands[-size:] + new
    pieces = [said[at : at + step] for at in range(0, len(said), step)]
    assert joined(stands, pieces) == stands + new
