"""What plainly good and plainly bad answers are worth."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed_ollama.analysis import analyze
from routed_ollama.quality import assess_quality
from routed_ollama.types import Message, TaskType

GOOD = "A binary search halves a sorted range until the value is found, so it needs about log2(n) comparisons."
QUESTION = "How does a binary search work?"
CODE_PROMPT = "Write a Python function that adds two numbers"
CODE = "Here it is:\n```python\ndef add(a, b):\n    return a + b\n```\nIt adds them."


def code_quality(answer: str, **options: object) -> float:
    task = analyze([Message("user", CODE_PROMPT)], task_type=TaskType.CODING)
    return assess_quality(CODE_PROMPT, answer, task=task, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("answer", ["", "   \n", "...", "!!!", "<think>only thoughts</think>", "<think>never ended"])
def test_nothing_is_worth_nothing(answer):
    assert assess_quality(QUESTION, answer) == 0.0


def test_a_fine_answer_scores_high_but_leaves_room():
    assert 8 <= assess_quality(QUESTION, GOOD) < 10
    assert assess_quality(QUESTION, f"<think>Hmm.</think>\n{GOOD}") == assess_quality(QUESTION, GOOD)
    assert assess_quality("What is 2+2?", "4") >= 8


@pytest.mark.parametrize(
    "flawed",
    [
        "The answer is the same as before. " * 40,
        "ha" * 500,
        "I'm sorry, but I cannot help with that.",
        "As an AI, I have no view on searches.",
        GOOD + "<|im_end|><|im_start|>user",
        "二分探索は、ソートされた範囲を半分に分けながら値を探す方法です。比較回数は対数になります。",
        "How does a binary search work?",
    ],
)
def test_a_flaw_costs_points(flawed):
    assert assess_quality(QUESTION, flawed) < assess_quality(QUESTION, GOOD) - 1


def test_partial_repetition_costs_less_than_a_loop():
    some = " ".join(f"step {i} do this thing now" for i in range(30)) + " and that is how it is done in the end"
    looped = "step do this thing now " * 60
    assert assess_quality(QUESTION, looped) < assess_quality(QUESTION, "go on with the next thing " * 3 + some) + 0.01
    mixed = " ".join(f"unique{i} words{i} here{i} only{i}" for i in range(30)) + " one two three four five" * 18
    assert assess_quality(QUESTION, looped) < assess_quality(QUESTION, mixed) < assess_quality(QUESTION, GOOD)


def test_a_long_answer_that_begins_with_an_apology_is_still_an_answer():
    long = "I'm sorry for the confusion. " + " ".join(f"Point {i} concerns topic{i} and case{i}." for i in range(40))
    assert assess_quality(QUESTION, "I'm sorry, I can't.") < assess_quality(QUESTION, long) < 8


def test_a_cut_answer_is_a_little_worse():
    whole, cut = assess_quality(QUESTION, GOOD), assess_quality(QUESTION, GOOD, done_reason="length")
    assert whole - 2 < cut < whole


def test_an_answer_should_be_in_the_script_of_the_prompt():
    asked = "二分探索はどのように動きますか。詳しく説明してください。例も挙げてください。"
    said = "二分探索は、ソートされた範囲を半分に分けながら値を探す方法です。比較回数は対数になります。"
    assert assess_quality(asked, said) >= 8
    assert assess_quality(asked, GOOD) < 8
    assert assess_quality(asked, "```\nlow, high = 0, len(x) - 1\n```") >= 8
    assert assess_quality("Translate into Japanese: how does a search work?", said) >= 8
    assert assess_quality(QUESTION, GOOD + " Naïve façade, as they say.") >= 8
    assert assess_quality("Où est la gare, s'il vous plaît ?", "La gare est au centre de la ville, à gauche.") >= 8


def test_an_echo_followed_by_an_answer_costs_little():
    assert 7 <= assess_quality(QUESTION, f"{QUESTION}\n{GOOD}") < 8.5


def test_code_that_was_asked_for_should_be_there():
    fenced, bare, missing = code_quality(CODE), code_quality("def add(a, b):\n    return a + b"), code_quality(GOOD)
    assert fenced >= 8
    assert missing < bare < fenced


def test_code_should_be_closed_and_parse():
    assert code_quality(CODE[:-20]) < code_quality(CODE) - 1
    assert code_quality("```python\ndef add(a, b)\n    retrun a +\n```") < code_quality(CODE) - 1
    assert code_quality(CODE[:45], done_reason="length") <= code_quality(CODE[:45])


@pytest.mark.parametrize(
    "block",
    [
        "```js\nconst add = (a, b) => a + b;\n```",
        "```python\n>>> add(1, 2)\n3\n```",
        "```python\n" + "\n".join(f"value{i} = {i} +" for i in range(200)) + "\n```",
        "```\nnot ) code (\n```",
    ],
)
def test_what_cannot_be_judged_is_not_blamed(block):
    assert code_quality(f"Here:\n{block}\nDone, as you asked, with the function in it.") >= 7


def test_a_stub_of_an_answer_is_worse_than_a_fitting_one():
    task = analyze([Message("user", "Write a comprehensive guide to testing")])
    short = assess_quality("Write a comprehensive guide to testing", "Test things.", task=task)
    assert short < 8
    quick = analyze([Message("user", "Answer in one word: capital of France?")])
    rambling = " ".join(f"Paris{i} is{i} a city{i}." for i in range(60))
    assert assess_quality("Answer in one word: capital of France?", rambling, task=quick) < 8.5


def test_json_that_was_asked_for_has_to_be_json():
    assert assess_quality("Give me JSON", '{"a": [1, 2]}', expects_json=True) >= 8
    assert assess_quality("Give me JSON", "Sure! Here it is", expects_json=True) < 3
    assert assess_quality("Give me JSON", "[" * 100_000, expects_json=True) < 3
    assert assess_quality("Give me JSON", '["' + "x" * 300_000 + '"]', expects_json=True) >= 8
    assert assess_quality("Give me JSON", '["' + "x" * 300_000, expects_json=True) < 3


def test_huge_answers_are_judged_in_no_time():
    answer = "Some words that go on and on without an end. " * 50_000
    began = time.perf_counter()
    for _ in range(10):
        assess_quality(answer, answer)
    assert time.perf_counter() - began < 0.5


@given(st.text(st.characters(), max_size=300), st.text(st.characters(), max_size=300), st.booleans())
def test_any_answer_gets_a_score_in_range(prompt, answer, wants_json):
    task = analyze([Message("user", prompt)], task_type=TaskType.CODING)
    assert 0 <= assess_quality(prompt, answer, task=task, expects_json=wants_json) <= 10
    assert 0 <= assess_quality(prompt, f"```python\n{answer}\n```", task=task) <= 10
