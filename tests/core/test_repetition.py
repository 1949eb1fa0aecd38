"""Answers that go in circles are told from those that repeat themselves for a reason."""

from __future__ import annotations

import inspect
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed_ollama.fallback import repetition
from routed_ollama.fallback.repetition import RepetitionWatch, repeated_piece, was_asked_for, without_copies

PHRASE = "I will say it again. "
PARAGRAPH = " ".join(f"Sentence {number} says something of its own." for number in range(25)) + "\n\n"
"""About a thousand characters in which nothing is repeated."""


def heard(text, size=5):
    """What a watch finds in a text that comes in pieces, and after how many characters."""
    watch = RepetitionWatch()
    for at in range(0, len(text), size):
        if watch.feed(text[at : at + size]):
            return watch.piece, at + size
    return "", len(text)


@pytest.mark.parametrize("phrase", [PHRASE, "na ", "I don't know", PARAGRAPH, "“Ja”, sagte sie. ", "重复的话。"])
@pytest.mark.parametrize("before", ["", "It began well enough: "], ids=["at once", "later"])
def test_what_is_said_without_end_is_heard(phrase, before):
    piece, after = heard(before + phrase * (30_000 // len(phrase)))
    assert sorted(piece) == sorted(phrase)
    assert piece in phrase * 2
    assert after <= len(before) + max(4_000, 4 * len(phrase)) + 1_000 + 5


@pytest.mark.parametrize("phrase", ["!", "0, ", "\n", " ", "-=", "@@@@"])
def test_what_has_no_letter_is_heard_later(phrase):
    assert not heard(phrase * (10_000 // len(phrase)))[0]
    assert heard(phrase * (30_000 // len(phrase)))[0]


MATRIX = "[\n" + ("    [" + "0, " * 40 + "],\n") * 40 + "]"
TABLE = "| name | value |\n" + "|------|-------|\n" + "".join(f"| row {n} | {n * n} |\n" for n in range(600))
NUMBERED = "".join(f"{number}. Check the log and try again.\n" for number in range(1, 400))
REFRAIN = (PARAGRAPH[:300] + "\nAnd the wind, and the wind, and the wind blew on.\n" * 4) * 2
RULER = ("=" * 78 + "\n" + PARAGRAPH[:200] + "\n") * 3
GETTERS = "".join(f"    def get_{name}(self):\n        return self._{name}\n\n" for name in map(str, range(300)))
HEX = "".join(f"0x{number % 7:08x}, " for number in range(3000))


@pytest.mark.parametrize("text", [MATRIX, TABLE, NUMBERED, REFRAIN, RULER, GETTERS, "x" * 3_000], ids=range(7))
def test_tables_code_lists_and_refrains_are_no_circles(text):
    assert heard(text)[0] == ""


def test_the_code_of_this_package_is_no_circle():
    for module in (repetition, random, inspect, pytest, st):
        assert heard(inspect.getsource(module), 200)[0] == ""


def test_three_copies_of_a_long_piece_are_no_circle():
    rng = random.Random(1)  # noqa: S311 (nothing secret)
    piece = "".join(rng.choice("abcdefgh ") for _ in range(2_000))
    assert repeated_piece(piece * 3) == ""
    assert repeated_piece(piece * 5) == piece
    assert repeated_piece(piece * 5 + "And so it ends.") == ""


def test_a_piece_that_holds_its_own_end_is_found():
    piece = ("a" * 80 + "b") * 2 + "a" * 90 + "c" + "a" * 70
    assert repeated_piece(piece * 60) in piece * 2


@given(
    before=st.text(max_size=50),
    piece=st.text(min_size=1, max_size=30),
    copies=st.integers(2, 12),
    more=st.integers(0, 29),
)
def test_the_first_copy_is_left_and_what_came_next_still_comes_next(before, piece, copies, more):
    said = before + piece * copies + piece[: more % len(piece)]
    left = without_copies(said, len(piece))
    assert said.startswith(left)
    assert len(left) <= len(before) + len(piece)
    assert (len(said) - len(left)) % len(piece) == 0
    assert said[: len(left) + len(piece)].endswith(said[-len(piece) :])


@pytest.mark.parametrize(
    ("piece", "prompt", "asked"),
    [
        ("good. I will be ", "Write 'I will be good' a thousand times.", True),
        ("I WILL BE GOOD\n", "write: I will be good! 1000 times", True),
        ("I will be better. ", "Write 'I will be good' a thousand times.", False),
        ("go ", "What is good?", False),
        ("0, ", "Print 0 five thousand times", True),
        ("----", "Draw a line", False),
        ("I will be good. ", "I will be good. " + "Summarise this. " * 200, False),
        ("word ", "word " * 5_000, True),
        ("good I will be ", "x" * 3_000 + " I will be good, I will be good, I will be good", True),
        ("0, ", "[0, 0, 0, 0]" + "Summarise this. " * 200, True),
        (PARAGRAPH, PARAGRAPH, False),
    ],
)
def test_what_was_asked_for_is_told_by_its_words(piece, prompt, asked):
    assert was_asked_for(piece, prompt) is asked
