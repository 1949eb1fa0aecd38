"""How long a conversation is thought to be: about as long as its parts together, however they are mixed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routed_ollama import Message
from routed_ollama.analysis import estimate_tokens
from routed_ollama.analysis.tokens import estimate_prompt_tokens

LEAST, MOST = 2 / 3, 1.6
"""Shares of what the messages come to one by one, between which the estimate of all of them stays."""

KINDS = {
    "prose": "The ferry was late again, so we waited on the pier and talked about the winter before last. ",
    "code": "def total(rows):\n    return sum(row[0] * row[1] for row in rows if row[1] > 0)\n\n",
    "figures": "3.14, 2.71; 42 = 6 * 7 [9, 8, 7]\n",
    "chinese": "渡船又晚了。我们在码头上等着。聊起了前年的冬天。",
    "russian": "Паром снова опоздал, и мы ждали на причале и вспоминали позапрошлую зиму. ",
    "emoji": "🎉🚀✨",
}
REMARKS = ("ok", "42?", "1, 2, 3?", "yes", "12:30", "no!")


def of(kind: str, length: int) -> str:
    return (KINDS[kind] * (length // len(KINDS[kind]) + 1))[:length]


def error(texts: list[str]) -> float:
    """The estimate of a conversation, by the sum of those of its messages."""
    told = estimate_prompt_tokens([Message("user", text) for text in texts])
    bare = estimate_prompt_tokens([Message("user")] * len(texts))
    return (told - bare) / sum(map(estimate_tokens, texts))


@pytest.mark.parametrize("last", [("ok", "42?", "1, 2, 3?"), ("🎉",), ("好的",), ("12:30", "no!")])
def test_short_remarks_do_not_say_how_dense_long_prose_is(last):
    assert error([of("prose", 1000)] * 24 + [*last] * 2) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_pasted_long_ago_counts_as_what_it_is(kind):
    assert error([of(kind, 20_000), *[of("prose", 300)] * 30]) == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize("count", [14, 18, 30, 54, 102])
@pytest.mark.parametrize(("question", "answer"), [(60, 2000), (800, 800), (300, 5000)])
@pytest.mark.parametrize("kind", ["figures", "chinese"])
def test_turns_that_alternate_as_slices_do_are_not_taken_for_the_one_kind(kind, question, answer, count):
    turns = [of(kind, question), of("prose", answer)]
    for texts in (turns, turns[::-1]):
        assert LEAST <= error(texts * (count // 2)) <= MOST


@pytest.mark.parametrize("count", [7, 30, 206, 1000])
def test_many_remarks_are_words_and_not_one_long_word(count):
    assert error([REMARKS[at % len(REMARKS)] for at in range(count)]) == pytest.approx(1.0, abs=0.25)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([*KINDS]), st.integers(1, 4000)), min_size=7, max_size=60))
def test_no_mixture_is_far_from_the_sum_of_its_parts(parts):
    assert LEAST <= error([of(kind, length) for kind, length in parts]) <= MOST


def test_empty_messages_count_for_nothing_but_their_template():
    bare = estimate_prompt_tokens([Message("assistant")] * 40)
    assert estimate_prompt_tokens([Message("assistant")] * 20) * 2 == bare
    assert error(["", of("prose", 900), ""] * 20) == pytest.approx(1.0, abs=0.05)


def test_the_cost_is_bounded_by_what_is_looked_at():
    class Watched(str):
        """Counts the characters that are copied out of it."""

        __slots__ = ()
        copied = 0

        def __getitem__(self, key):
            found = super().__getitem__(key)
            Watched.copied += len(found)
            return found

    texts = [Watched(of("prose", 50_000)) for _ in range(100)]
    estimate_prompt_tokens([Message("user", text) for text in texts])
    assert 0 < Watched.copied < 15_000, "of five million"
