"""Where an answer that broke off ends in words that it says several times, its continuation glues none to them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routed_ollama.fallback import OverlapTrimmer
from routed_ollama.fallback.seam import squeezed


def joined(stands: str, pieces: list[str] | str, *, asked: bool = True) -> str:
    trimmer = OverlapTrimmer(stands, asked=asked)
    return stands + "".join(map(trimmer.feed, pieces)) + trimmer.flush()


GLUED = {
    "all of it": ("very very", "very very big", " big"),
    "its last word": ("very very", "very big", " big"),
    "nothing else": ("very very", "very very", ""),
    "laughter": ("ha ha", "ha ha!", "!"),
    "laughter in a sentence": ("I said ha ha", "ha ha ha!", " ha!"),
    "letters": ("a b a b", "a b a b c", " c"),
    "letters after something else": ("x: a b a b", "a b a b c", " c"),
    "a word that is a pattern by itself": ("I like couscous", "couscous is good", " is good"),
    "such a word alone": ("bonbon", "bonbon is sweet", " is sweet"),
    "words behind an introduction": ("very very", "Sure, continuing:\n\nvery very big", " big"),
    "fewer than it repeats": ("no no no no", "no no, never", ", never"),
    "figures": ("0 0 0", "0 0 0 1", " 1"),
    "lines of code": ("print(x)\nprint(x)", "print(x)\nprint(y)", "\nprint(y)"),
    "marked words": ("**ha** **ha**", "**ha** **ha** so", " so"),
    "another alphabet": ("очень очень", "очень очень рад", " рад"),
}


@pytest.mark.parametrize(("stands", "said", "new"), GLUED.values(), ids=GLUED)
def test_the_end_of_a_pattern_that_was_asked_for_once_more_is_left_out(stands: str, said: str, new: str) -> None:
    assert {joined(stands, pieces) for pieces in ([said], said)} == {stands + new}


MEANT = {
    "a space says that it goes on": ("very very", " very very big"),
    "or a line": ("print(x)\nprint(x)", "\nprint(x)\n"),
    "it ends with a space": ("ha ha ", "ha ha!"),
    "the rest of a word": ("very very ve", "ry very big"),
    "the rest of a word that begins as the last one": ("no no", "none"),
    "a name": ("id id", "id_of(x)"),
    "no word": ("== ==", "== =="),
    "a language without spaces": ("哈哈", "哈哈哈"),
    "a call after a call": ("a(); a();", "a();b();"),
    "figures without spaces": ("0101", "0101"),
}


@pytest.mark.parametrize(("stands", "said"), MEANT.values(), ids=MEANT)
def test_a_pattern_that_goes_on_is_left_alone(stands: str, said: str) -> None:
    assert {joined(stands, pieces) for pieces in ([said], said)} == {stands + said}


@pytest.mark.parametrize(("stands", "said"), [case[:2] for case in GLUED.values()], ids=GLUED)
def test_a_model_that_goes_on_by_itself_is_believed(stands: str, said: str) -> None:
    assert joined(stands, said, asked=False) == stands + said


WORDS = st.lists(st.sampled_from(["very", "ha", "a", "b", "no", "0", "x=1", "да"]), min_size=1, max_size=3)


@settings(deadline=None)
@given(WORDS, st.integers(2, 6), st.integers(1, 6), st.lists(st.integers(1, 5), max_size=12), st.sampled_from(" \n"))
def test_whatever_is_repeated_no_two_words_are_glued_and_nothing_new_is_lost(
    words: list[str], before: int, after: int, steps: list[int], between: str
) -> None:
    stands, said = between.join(words * before), between.join([*words * after, "and", "on"])
    whole = joined(stands, [said])
    cuts = [0, *itertools.accumulate(steps), len(said)]
    assert joined(stands, [said[a:b] for a, b in itertools.pairwise(cuts)]) == whole
    assert whole.startswith(stands)
    assert whole.endswith(f"{between}and{between}on")
    assert set(whole.split()) == {*words, "and", "on"}
    assert len(words) * before <= len(whole.split()) - 2 <= len(words) * (before + after)


@settings(deadline=None)
@given(WORDS, st.integers(2, 5), st.integers(1, 5), st.text("abv 0\n!_=", max_size=9))
def test_only_what_stands_at_the_end_is_left_out(words: list[str], before: int, after: int, end: str) -> None:
    stands, said = " ".join(words * before), " ".join(words * after) + end
    whole = joined(stands, [said])
    assert joined(stands, said) == whole
    new = squeezed(whole[len(stands) :])
    assert squeezed(said).endswith(new)
    assert squeezed(stands).endswith(squeezed(said).removesuffix(new))
