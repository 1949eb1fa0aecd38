"""Good answers of kinds that looked bad, and bad ones that looked good."""

import pytest

from routed_ollama import analyze, assess_quality
from routed_ollama.quality import NO_FLAW

GOOD = [
    ("regex for iso dates", r"`^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$`"),
    ("bash command that lists open ports", "`ss -tulpn` shows them, with their processes."),
    ("Give me a JSON object with the name and age of a fictional person", '{"name": "Mara Lind", "age": 34}'),
    ("I'm sorry I was late to the meeting. Rewrite it more formally", "I apologize for arriving late to the meeting."),
    (
        "write an apology email to a customer for a late delivery",
        "Subject: Our apologies\n\nDear Ms. Okafor,\n\nI'm sorry, but your order left our warehouse only today.\n\nTom",
    ),
    ("can you see my screen?", "No, I can't see your screen. Paste the text of the error and I'll look at it."),
    ("what's the weather in Berlin right now?", "I don't have access to live data, so I can't tell you the weather."),
    (
        "「お疲れ様です」を英語で自然に言うとどうなりますか?",
        '場面によりますが、帰り際なら "Have a good evening!"、同僚への挨拶なら "Hi, how\'s it going?" が自然です。',
    ),
    ("Thanks a lot, that solved my problem!", "Of course! I'm happy to help. Let me know if you have other questions."),
    ("Wie sage ich höflich nein auf Englisch?", "Zum Beispiel: \"I'm afraid I can't make it, but thank you.\""),
    ("sql to create a table users", "CREATE TABLE users (\n  id SERIAL PRIMARY KEY,\n  name TEXT NOT NULL\n);"),
    ("refactor this function", "Sure! Please paste the function you'd like me to refactor."),
    ("print a checkerboard with # and .", "```\n#.#.#.#.\n.#.#.#.#\n#.#.#.#.\n```"),
    ("ascii art of a mountain", "   /\\\n  /  \\\n /    \\"),
    ("tell me something you can't do", "I can't taste food, remember earlier chats, or see what is on your desk."),
    ("Please be concise from now on.", "Sure, I'll keep it concise."),
]
BAD = [
    ("explain quantum computing", "!!!!!\n!!!!!\n!!!!!\n!!!!!"),
    ("tell me about the tides", "\"I'm sorry, but I can't help with that.\""),
    ("Write a short poem about autumn", "As an AI language model, I cannot write poems."),
    ("Write an email to my landlord about the leak", "I'm sorry, but I can't help with that."),
    (
        "Write a Python function that parses ISO dates",
        "Sure! I'd be happy to help you with that. Please let me know if you have any other questions.",
    ),
    (
        "Explique-moi la photosynthèse en deux phrases",
        "Photosynthesis is how the leaves of plants make use of the light.",
    ),
    (
        "Answer only yes or no: is 7 prime?",
        "Well, that is an interesting question, which mathematicians have asked for thousands of years.",
    ),
]


@pytest.mark.parametrize(("prompt", "answer"), GOOD)
def test_a_good_answer_has_no_grave_flaw(prompt, answer):
    assert assess_quality(prompt, answer) >= NO_FLAW - 1.0
    assert assess_quality(prompt, answer, analyze(prompt)) >= NO_FLAW - 1.0


@pytest.mark.parametrize(("prompt", "answer"), BAD)
def test_a_bad_answer_is_seen(prompt, answer):
    assert assess_quality(prompt, answer) <= NO_FLAW - 1.5


def test_a_list_of_nothing_may_be_right_and_no_object_is():
    asked = "Extract all e-mail addresses as a JSON array: nothing here"
    empty, found = (assess_quality(asked, answer, expects_json=True) for answer in ("[]", '["a@b.example"]'))
    assert 5 < empty < found == NO_FLAW
    assert assess_quality(asked, "{}", expects_json=True) == 0.0
