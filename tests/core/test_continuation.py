"""Joining an answer that broke off with its continuation: what is left out, what is put in, and what is left alone."""

from __future__ import annotations

import itertools
import random
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from routed_ollama import continuation_messages
from routed_ollama.fallback import OverlapTrimmer
from routed_ollama.fallback.seam import LONG, SHORT, UNASKED, squeezed

FOX = "The quick brown fox jumps over the"
CODE = "Here you are:\n```python\ndef add(a, b):\n    return a + b\n\ndef subtract(a, b):\n    ret"
PARIS = "Paris is the capital of France. It lies on the river Sei"


def joined(stands: str, pieces: list[str] | str, *, asked: bool = True) -> str:
    trimmer = OverlapTrimmer(stands, asked=asked)
    return stands + "".join(map(trimmer.feed, pieces)) + trimmer.flush()


def in_every_way(stands: str, said: str, *, asked: bool = True) -> str:
    """The same, however the continuation is cut into pieces."""
    whole = joined(stands, [said], asked=asked)
    for step in (1, 2, 3, 5, 8):
        pieces = [said[at : at + step] for at in range(0, len(said), step)]
        assert joined(stands, pieces, asked=asked) == whole
    return whole


# What a model is asked


def test_a_template_that_leaves_the_last_message_open_is_used() -> None:
    assert continuation_messages("one, two,", prefill=True) == (("assistant", "one, two,"),)


@pytest.mark.parametrize(
    ("emitted", "words"),
    [
        ("one, two,", "one, two,"),
        (f"There: {FOX} lazy", f"{FOX} lazy"),
        (f"{FOX}\n", FOX),
        ("a = 1\nb = {}\n\n", "a = 1\nb = {}"),
        ("x" * 200, "x" * 80),
    ],
)
def test_another_is_asked_for_its_last_words_again(emitted: str, words: str) -> None:
    first, (role, request) = continuation_messages(emitted, prefill=False)
    assert first == ("assistant", emitted)
    assert role == "user"
    assert request.startswith("Your last message was cut off.")
    assert request.endswith(f"Its last words are:\n\n{words}")


# What is left out

REPEATED = {
    "the last words, as asked": (FOX, "fox jumps over the lazy dog", " lazy dog"),
    "the last word": (FOX, "the lazy dog", " lazy dog"),
    "the last two": (FOX, "over the lazy dog", " lazy dog"),
    "the whole": (FOX, f"{FOX} lazy dog", " lazy dog"),
    "the whole and nothing else": (FOX, FOX, ""),
    "the whole with other white space": (FOX, "The  quick brown\nfox jumps\r\nover the lazy dog", " lazy dog"),
    "the whole in other words": (PARIS, "Paris is the capital of France, and lies on the river Seine.", "ne."),
    "the beginning of the whole, until its limit": (FOX, "The quick brown fox jumps over", ""),
    "a sentence that introduces it": (FOX, "Sure, continuing:\n\nover the lazy dog", " lazy dog"),
    "such a sentence alone": (FOX, "I'm sorry. Here\u2019s the rest of my answer:\n\nlazy dog", " lazy dog"),
    "three dots": (FOX, "...over the lazy dog", " lazy dog"),
    "a word that was cut": ("It is inter", "international", "national"),
    "a short answer": ("Paris", "Paris is", " is"),
    "all of very little": ("One, ", "One, two, three", "two, three"),
    "all of next to nothing": ("P", "Paris", "aris"),
    "a space too many": ("one, two, ", " three", "three"),
    "white space that stands": (f"{FOX} ", "over the lazy dog", "lazy dog"),
    "white space that stands in part": ("def f():\n  ", "def f():\n    return 1", "  return 1"),
    "an indented line": ("def f():\n    x", "    x = 1", " = 1"),
    "an item": ("1. Mix\n2. Ba", "2. Bake", "ke"),
    "a row": ("| a | b |\n|---|---|", "|---|---|\n| 1 | 2 |", "\n| 1 | 2 |"),
    "JSON": ('{"name": "Paris", "rivers": [', '{"name": "Paris", "rivers": ["Seine"]}', '"Seine"]}'),
    "JSON, set differently": ('{"name": "Paris", "a": [', '{\n  "name": "Paris",\n  "a": [\n    1]}', "\n    1]}"),
    "figures, all of them": ("[1, 2, 3, 4, 5, 6, 7, 8", "[1, 2, 3, 4, 5, 6, 7, 8, 9]", ", 9]"),
    "the code fence": (CODE, "```python\nurn a - b\n```", "urn a - b\n```"),
    "the code fence and the line": (CODE, "```python\n    return a - b\n```", "urn a - b\n```"),
    "the code": (CODE, CODE[CODE.index("```") :] + "urn a - b\n```", "urn a - b\n```"),
    "the code without its fence": (CODE, CODE[CODE.index("def") :] + "urn a - b\n```", "urn a - b\n```"),
    "the code after a sentence": (CODE, "Here is the rest of the code:\n```py\n    return a - b", "urn a - b"),
    "a fence that was cut in its marks": ("Here:\n``", "```python\nx = 1", "`python\nx = 1"),
    "a fence that was cut in its language": ("Here:\n```py", "```python\nx = 1", "thon\nx = 1"),
    "combining characters": ("The famous cafe\u0301s of", "The famous cafe\u0301s of Paris", " Paris"),
    "a letter whose accent was cut": ("The famous cafe", "The famous cafe\u0301 of Paris", "\u0301 of Paris"),
    "an emoji of several": ("Our family 👨\u200d👩", "Our family 👨\u200d👩\u200d👧 grew", "\u200d👧 grew"),
    "a language without spaces": ("谢谢你今天来", "谢谢你今天来看我", "看我"),
    "another alphabet": ("Столица Франции", "Столица Франции — Париж", " — Париж"),
}


@pytest.mark.parametrize(("stands", "said", "new"), REPEATED.values(), ids=REPEATED)
def test_what_stands_already_is_left_out(stands: str, said: str, new: str) -> None:
    assert in_every_way(stands, said) == stands + new


EXACT = {
    "the rest of a word": ("The quick bro", "wn fox"),
    "a digit": ("It is 10", "10 and 1"),
    "laughter": ("ha ha", " ha ha!"),
    "figures in a row": ("0, 0, 0, 0, 0, 0, 0, 0,", " 0, 0, 0, 0, 0, 0, 0, 0, 1"),
    "alike but for figures": ("x, 0.125, 0.25, 0.5,", " 0.25, 0.5, 0.75"),
    "a ruler": ("=================", "=================\n"),
    "a table's ruler": ("| --- | --- |", " --- | --- |\n"),
    "signs": ("== ==", " == =="),
    "indentation": ("def f():\n    ", "    return 1"),
    "the same line once more": ("print(answer)\nprint(answer)\n", "print(answer)\nprint(answer)\n"),
    "the fence that ends code": ("```python\nx = 1\n", "```\nThat was it."),
    "the rest of a fence": ("Here:\n``", "`python\nx = 1"),
    "the rest of a fence's language": ("Here:\n```py", "thon\nx = 1"),
    "a line end that was cut": ("one\r", "\ntwo"),
    "an accent": ("cafe", "\u0301 au lait"),
    "what begins as the answer did": (
        "def add(a, b):\n    return a + b\n\n",
        "def add(a, b, c):\n    return a + b",
    ),
    "brackets": ("f(g(h(1)))", "))"),
    "two spaces that end a line": ("one ", " \ntwo"),
}


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "prefill"])
@pytest.mark.parametrize(("stands", "said"), EXACT.values(), ids=EXACT)
def test_what_only_looks_like_it_is_left_alone(stands: str, said: str, asked: bool) -> None:
    assert in_every_way(stands, said, asked=asked) == stands + said


UNASKED_ONLY = {
    "a call within the call": ("folder = os.path.dirname(", "os.path.dirname(os.path.abspath(here)))"),
    "a name": ("from lib2to3.pgen2 import pgen2_driver", "\npgen2_driver.load_grammar()"),
    "a fence within one of more marks": ("````markdown\n", "```python\nx = 1\n```\n"),
    "a capital letter": ("import urllib.request\nclass Request(urllib", "Request)"),
    "a sentence about going on": ("He said:\n", "Sure, continuing:\nI went on."),
}


@pytest.mark.parametrize(("stands", "said"), UNASKED_ONLY.values(), ids=UNASKED_ONLY)
def test_a_model_that_goes_on_by_itself_is_believed_more(stands: str, said: str) -> None:
    assert in_every_way(stands, said, asked=False) == stands + said


def test_one_that_begins_anew_in_other_words_and_never_comes_to_the_end_loses_nothing() -> None:
    other = "Paris is the capital of France, which has others. " + "Lyon is large as well. " * 30
    assert joined(PARIS, other) == f"{PARIS} {other}"


# What is put in


@pytest.mark.parametrize(
    ("stands", "said", "between"),
    [
        ("one, two,", "three", " "),
        ("Paris is the capital.", "It lies on the Seine.", " "),
        ("This goes on to captivate", "The reader", " "),
        ("Run it:", "```sh\nls\n```", "\n"),
        ("```sh\nls\n```", "That lists them.", "\n"),
        ("see example.", "com for more", ""),
        ("```python\nimport os.", "Path", ""),
        ("camel", "Case", ""),
        ("one, two, ", "three", ""),
    ],
)
def test_a_new_message_is_given_the_white_space_that_it_cannot_begin_with(stands: str, said: str, between: str) -> None:
    assert in_every_way(stands, said) == f"{stands}{between}{said}"
    assert in_every_way(stands, said, asked=False) == stands + said


# When it is handed on


def test_text_passes_at_once_when_it_cannot_be_a_repetition() -> None:
    trimmer = OverlapTrimmer(FOX)
    assert trimmer.feed(" lazy") == " lazy"
    assert trimmer.feed(FOX) == FOX
    assert trimmer.flush() == ""


def test_without_a_beginning_there_is_nothing_to_leave_out() -> None:
    trimmer = OverlapTrimmer("")
    assert trimmer.feed("one") == "one"
    assert trimmer.flush() == ""


def test_the_end_of_a_very_long_answer_is_found_too() -> None:
    long = "".join(f"line {number}\n" for number in range(2_000))
    assert joined(long, [long[-500:], "the end"]) == long + "the end"
    assert joined(long, [long, "the end"]) == long + "the end"


# For any text

FRAGMENTS = st.sampled_from(
    [
        *("```", "``", "`", "python\n", "```python\n", "\n", "\r\n", " ", "    ", "the ", "the", "over the", " lazy"),
        *("def f():\n", "    return", "ha ", "ha", "10 ", "10", "== ", "- apple\n", "1. ", "| a | b |", "|---|", "é"),
        *("e\u0301", "\u0301", "👨\u200d👩\u200d👧", "👨", "\u200d", "谢谢", "\ud83d", "...", "…", "..", ".", ", "),
        *("Sure", "Sure, continuing:", "Here's the rest:\n", "Continuing from where I left off: ", "I'm sorry", "'"),
        *(
            "\u2019",
            '{"a": [1, ',
            "]}",
            "A",
            "z",
            "x = 1\n",
            "Paris is the capital of France. ",
            "It lies on the Seine. ",
        ),
    ]
)
TEXTS = st.lists(FRAGMENTS, max_size=14).map("".join)


@settings(deadline=None)
@given(TEXTS, TEXTS, st.booleans(), st.booleans(), st.lists(st.integers(1, 6), max_size=20))
@example(f"{FOX} ", f"{FOX} {FOX} ", False, True, [])
def test_however_it_is_cut_into_pieces_the_whole_is_the_same_and_nothing_new_is_lost(
    stands: str, said: str, again: bool, asked: bool, steps: list[int]
) -> None:
    said = stands + said if again else said
    whole = joined(stands, [said], asked=asked)
    cuts = [0, *itertools.accumulate(steps), len(said)]
    pieces = [said[a:b] for a, b in itertools.pairwise(cuts)]
    assert joined(stands, pieces, asked=asked) == whole
    assert joined(stands, said, asked=asked) == whole
    new = squeezed(whole[len(stands) :])
    assert squeezed(said).endswith(new)
    left_out = squeezed(said).removesuffix(new)
    if not asked:  # by its own, nothing is left out but what stands at the end
        assert squeezed(stands).endswith(left_out)


WORDS = st.lists(st.text("abcdefghijklmnopqrstuvwxyz", min_size=4, max_size=9), min_size=12, max_size=40, unique=True)


@given(WORDS, st.integers(3, 10), st.sampled_from([" ", "\n", "  ", "\r\n"]), st.booleans())
def test_words_that_are_repeated_at_the_seam_are_left_out_whatever_white_space_is_between(
    words: list[str], repeated: int, between: str, asked: bool
) -> None:
    stands, new = words[:-2], words[-2:]
    said = between.join(stands[-repeated:]) + " " + " ".join(new)
    if asked or len(squeezed(" ".join(stands[-repeated:]))) >= UNASKED:
        assert joined(" ".join(stands), list(said), asked=asked) == " ".join(words)


@given(WORDS, st.data(), st.booleans())
def test_a_text_that_goes_on_as_it_would_have_is_not_touched(
    words: list[str], data: st.DataObject, asked: bool
) -> None:
    text = " ".join(words)
    cut = data.draw(st.integers(1, len(text) - 1))
    if text[cut - 1] == " " and asked:
        cut -= 1  # words carry the space before them, as tokens do
    assert joined(text[:cut], list(text[cut:]), asked=asked) == text


PATTERNS = ["ha ", "== ", "10 ", "0, ", "    x\n", "| --- ", "- [ ] ", "very very ", "again and "]


@pytest.mark.parametrize("pattern", PATTERNS)
@given(before=st.integers(2, 12), after=st.integers(1, 12), at=st.integers(0, 9))
def test_a_pattern_goes_on(pattern: str, before: int, after: int, at: int) -> None:
    """Wherever it is cut, but for a space that the text ends with, where a space more is one too many."""
    whole = pattern * (before + after)
    cut = len(pattern) * before + min(at, len(pattern) - 1)
    assert joined(whole[:cut], list(whole[cut:]), asked=False) == whole
    assert joined(whole[:cut], [whole[cut:]], asked=True) == whole


def test_an_exact_continuation_of_real_text_loses_nothing_but_once_in_hundreds() -> None:
    """The package's own sources and pages, cut at random words and gone on with by what follows."""
    folder = Path(__file__).parents[2]
    files = [*sorted((folder / "core").rglob("*.py")), *sorted(folder.glob("*.md"))]
    texts = [text for text in (file.read_text("utf-8") for file in files) if len(text) > 2_000]
    chance, lost = random.Random(1), []  # noqa: S311 (the same places each time)
    for asked in [True, False] * 500:
        words = re.findall(r" ?\w+| ?[^\w\s]+|\s+", chance.choice(texts))
        cut = chance.randrange(20, len(words) - 20)
        stands, rest = "".join(words[:cut]), "".join(words[cut : cut + 100])
        if squeezed(joined(stands, [rest], asked=asked)) != squeezed(stands + rest):
            lost.append((asked, stands[-60:], rest[:60]))
    assert len(lost) <= 5, lost


def test_the_rule_in_figures() -> None:
    assert (SHORT, LONG, UNASKED) == (6, 12, 24)
    assert joined("zyx wvu tsr", "wvu tsr on") == "zyx wvu tsr on"
    assert joined("zyxw vutsr", "vutsr on", asked=False) == "zyxw vutsr on"  # a word
    assert joined("zyx wv ut", "wv ut on") == "zyx wv utwv ut on"
