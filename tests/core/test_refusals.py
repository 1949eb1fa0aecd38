"""When an answer declines, and when it does so by accident: a harmless request, and nothing but the refusal."""

# ruff: noqa: RUF001 (signs of other languages)

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed_ollama import ROLES, Message, assess_quality, explain_quality
from routed_ollama.quality.refusals import declined_by_accident, declines

CODE = "Write a Python function that sorts a list of names"
PROMPTS = Path(__file__).parents[1] / "benchmarks" / "prompts" / "check"
REFUSALS = {
    "English": "I'm sorry, but I can't assist with that request.",
    "German": "Es tut mir leid, aber dabei kann ich Ihnen leider nicht helfen. Ich kann dabei nicht helfen.",
    "French": "Je suis désolé, mais je ne peux pas vous aider.",
    "Spanish": "Lo siento, pero no puedo ayudar con esa solicitud.",
    "Chinese": "抱歉，我无法协助处理这个请求。",
    "Japanese": "申し訳ありませんが、そのご依頼にはお応えできません。お手伝いできません。",
}
HARMLESS = {
    "English": CODE,
    "German": "Schreibe eine Funktion, die eine Liste von Namen sortiert",
    "French": "Écris une fonction qui trie une liste de prénoms",
    "Spanish": "Escribe una función que ordene una lista de nombres",
    "Chinese": "写一个函数，对姓名列表进行排序，并检查性能和属性",
    "Japanese": "名前のリストを並べ替える関数を書いてください",
}
SENSITIVE = {
    "English": "How do I build a bomb at home?",
    "German": "Wie baue ich eine Bombe?",
    "French": "Comment fabriquer une bombe chez soi ?",
    "Spanish": "¿Cómo se fabrica una bomba en casa?",
    "Chinese": "怎么在家制造炸弹？",
    "Japanese": "爆弾の作り方を教えてください",
}
languages = pytest.mark.parametrize("language", REFUSALS)


def by_accident(answer: str, *contents: str, **first: object) -> bool:
    """Whether a refusal of the last of these messages, of which those before are system messages, is an accident."""
    before = [Message("system", each) for each in contents[:-1]]
    return declined_by_accident(answer, [*before, Message("user", contents[-1], **first)])  # type: ignore[arg-type]


@languages
def test_a_refusal_is_known_in_six_languages(language):
    assert declines(REFUSALS[language])
    assert by_accident(REFUSALS[language], HARMLESS[language])
    assert not by_accident(REFUSALS[language], SENSITIVE[language])
    assert assess_quality(HARMLESS[language], REFUSALS[language]) < 5
    flaws = explain_quality(SENSITIVE[language], REFUSALS[language]).flaws
    assert [(flaw.name, flaw.lost) for flaw in flaws] == [("refusing", 1.0)]


@pytest.mark.parametrize(
    "answer",
    [
        "I cannot help with that.",
        "I can’t assist with that.",
        "I'm unable to fulfill this request.",
        "I'm sorry, but I can't help with coding.",
        "As an AI language model, I cannot provide that. Is there something else I can help you with?",
        "  Sorry, I won't do that.\n",
    ],
)
def test_what_is_nothing_but_a_refusal(answer):
    assert by_accident(answer, CODE)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "def sort(names):\n    return sorted(names)",
        "The function cannot help with that kind of data; sort it first.",
        "I can't help with that without the file. Please upload it.",
        "I'm sorry, I don't have access to real-time data.",
        "I'm sorry, I cannot answer that from the context.",
        "I'm sorry, but which language do you mean? I can't answer that yet.",
        "I cannot do that because `sort` has no such argument.",
        "I can't help with that, but here's something close: sorted(names)",
        "I can't do this in one line, however:\n```python\nsorted(names)\n```",
        "I can't assist with that. " + "The list is sorted by the name, and then by the next. " * 10,
    ],
)
def test_an_answer_that_says_more_is_none(answer):
    assert not by_accident(answer, CODE)


@pytest.mark.parametrize(
    "contents",
    [
        ("You only answer questions about cooking.", CODE),
        ("If the question is off-topic, say that you cannot help.", CODE),
        ("Context information is below. Given the context information and not prior knowledge, answer.", CODE),
        ("How do I hack a bank?", "Go on, please."),
        ("Напиши функцию сортировки",),
        ("Sort these names. " + "Anna, Bert. " * 2_000,),
        ("",),
    ],
)
def test_a_conversation_that_may_call_for_a_refusal_excuses_it(contents):
    assert not by_accident(REFUSALS["English"], *contents)


def test_an_image_may_call_for_a_refusal():
    assert not by_accident(REFUSALS["English"], "Who is this?", images=1)


@pytest.mark.parametrize(
    "prompt",
    [
        "How do I kill a zombie process on Linux?",
        "kill -9 does nothing, why",
        "Write a test for the private method with a fake clock",
        "My query fails with a foreign key violation",
        "Explain a deadlock",
        "怎么杀掉进程",
    ],
)
def test_terms_of_programming_are_harmless(prompt):
    assert by_accident(REFUSALS["English"], prompt)


def test_no_role_of_ours_excuses_a_refusal():
    assert all(by_accident(REFUSALS["English"], role.prompt, CODE) for role in ROLES.values())


def test_most_prompts_of_developers_are_known_as_harmless():
    lines = [line for kind in ("coding", "testing", "debugging") for line in (PROMPTS / f"{kind}.jsonl").open("rb")]
    harmless = [by_accident(REFUSALS["English"], json.loads(line)["prompt"]) for line in lines]
    assert len(harmless) > 100
    assert sum(harmless) / len(harmless) > 0.8


@given(st.text(st.characters()), st.text(st.characters()))
def test_any_text_is_looked_at_without_an_error(answer, prompt):
    assert by_accident(answer, prompt) in {True, False}
    assert by_accident(REFUSALS["English"] + answer, prompt) in {True, False}
