"""What plainly good and plainly bad answers are worth, and why."""

# ruff: noqa: RUF001 (signs of other languages)

from __future__ import annotations

import json
import threading
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed_ollama import QualityReport, assess_quality, explain_quality
from routed_ollama.analysis import analyze
from routed_ollama.quality.languages import language_of
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


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Tell me a joke", "Why did the hen cross the yard? To get to the other side!"),
        ("Translate hello to French", "Bonjour"),
        ("Return JSON with name and age", '{"name": "Ada", "age": 36}'),
        ("Write a Python function that adds two numbers", "def add(a, b):\n    return a + b"),
    ],
)
def test_what_takes_few_words_is_not_too_short(prompt, answer):
    report = explain_quality(prompt, answer, analyze([Message("user", prompt)]))
    assert "length" not in [flaw.name for flaw in report.flaws]


def test_a_short_prompt_over_again_is_an_echo_too():
    assert assess_quality("Explain recursion", "Explain recursion") < 5
    assert assess_quality("hello", "hello") > 8


def test_an_echo_followed_by_an_answer_costs_little():
    assert 7 <= assess_quality(QUESTION, f"{QUESTION}\n{GOOD}") < 8.5


def test_code_that_was_asked_for_should_be_there():
    bare = "def add(a, b):\n    return a + b"
    fenced, alone, amid, missing = map(code_quality, (CODE, bare, f"You can do it so:\n{bare}", GOOD))
    assert fenced >= 8
    assert missing < amid < fenced
    assert alone == fenced, "an answer that is code and nothing else needs no fence"


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


# What was found, and why


def flaws(prompt: str, answer: str, **options: object) -> dict[str, float]:
    """Points lost by the name of each flaw."""
    found = explain_quality(prompt, answer, **options).flaws  # type: ignore[arg-type]
    assert all(flaw.reason for flaw in found)
    return {flaw.name: flaw.lost for flaw in found}


def test_every_component_is_told_whether_it_was_found_or_not():
    report = explain_quality(QUESTION, GOOD, analyze([Message("user", QUESTION)]))
    assert isinstance(report, QualityReport)
    assert [each.name for each in report.components] == (
        "empty cut looping refusing leaking language echo code format length".split()  # noqa: SIM905 (as one reads it)
    )
    assert report.flaws == ()
    assert all(each.kept == each.most > 0 and each.reason for each in report.components)
    assert str(report) == "8.5/10"
    told = explain_quality(QUESTION, "I'm sorry, I can't.", done_reason="length")
    assert str(told).splitlines() == [
        "2.5/10",
        "  -5.0 refusing: it declines, and says little else",
        "  -1.0 cut: it was cut at a limit of tokens",
    ]
    plain = json.loads(json.dumps(told.to_dict()))
    assert plain["score"] == told.score == 8.5 - sum(each["lost"] for each in plain["components"])
    assert plain["components"][1] == {
        "name": "cut", "lost": 1.0, "kept": 1.0, "reason": "it was cut at a limit of tokens",
    }  # fmt: skip


def test_the_characteristics_may_be_the_third_argument_or_named():
    task = analyze([Message("user", CODE_PROMPT)], task_type=TaskType.CODING)
    assert assess_quality(CODE_PROMPT, GOOD, task) == assess_quality(CODE_PROMPT, GOOD, task=task)
    assert assess_quality(CODE_PROMPT, GOOD, characteristics=task) < assess_quality(CODE_PROMPT, GOOD)


def test_an_emoji_is_an_answer_and_a_delimiter_is_none():
    assert assess_quality("Answer with an emoji: how was it?", "🎉") >= 8
    assert assess_quality(QUESTION, "<|im_end|>") == 0.0


def test_an_answer_that_stops_in_mid_sentence_costs_a_little():
    whole = (
        GOOD + " A linear one looks at each of them in turn, so it takes longer and longer the more values "
        "there are in it to be looked at."
    )
    assert flaws(QUESTION, whole) == {}
    assert flaws(QUESTION, whole[:-20]) == {"cut": 0.5}
    assert flaws(QUESTION, "- " + whole[:-20]) == {}


# Languages

SAID = {
    "English": "You can read the file line by line and count what is in it.",
    "German": "Man kann die Datei Zeile für Zeile lesen und zählen, was in ihr ist und was nicht.",
    "French": "Vous pouvez lire le fichier ligne par ligne et compter ce qui est dans les lignes.",
    "Spanish": "Se puede leer el archivo línea por línea y contar lo que hay en las líneas con un bucle.",
    "Chinese": "你可以逐行读取文件，并统计其中的内容。",
    "Japanese": "ファイルを一行ずつ読み込んで、内容を数えることができます。",
}
ASKED = {
    "English": "How do I read a file and count the lines in it?",
    "German": "Wie lese ich eine Datei und zähle die Zeilen, die nicht leer sind?",
    "French": "Comment lire un fichier et compter les lignes qui ne sont pas vides ?",
    "Spanish": "¿Cómo puedo leer un archivo y contar las líneas que no están vacías?",
    "Chinese": "怎么读取一个文件并统计行数？",
    "Japanese": "ファイルを読み込んで行数を数えるにはどうすればいいですか？",
}


@pytest.mark.parametrize("asked", ASKED)
def test_the_answer_should_be_in_the_language_of_the_prompt(asked):
    wrong = {said: "language" in flaws(ASKED[asked], text) for said, text in SAID.items()}
    assert wrong == {said: said != asked for said in SAID}


@pytest.mark.parametrize(
    ("prompt", "said", "wrong"),
    [
        ("How do I read a file? Please answer in French.", "French", False),
        ("How do I read a file? Please answer in French.", "English", True),
        ("Wie lese ich eine Datei? Antworte bitte auf Englisch.", "English", False),
        ("How do you say that you can read a file in Spanish?", "Spanish", False),
        ("请用英文回答：怎么读取一个文件？", "English", False),
        ("請用日语回答：怎么读取一个文件？", "Chinese", False),
        ("ファイルの読み方を英語で説明してください", "Japanese", True),
        ("Translate: how do I read a file and count the lines in it?", "German", False),
        ("x = open(p).read()", "Japanese", False),
    ],
)
def test_the_language_that_was_asked_for_counts(prompt, said, wrong):
    assert ("language" in flaws(prompt, SAID[said])) is wrong


def test_code_says_nothing_about_the_language():
    code = "```python\n# count the lines of the file that you have\nprint(len(open('f').readlines()))\n```"
    assert flaws(ASKED["German"], code) == {}


def test_hardly_a_prompt_is_taken_for_another_language():
    names = {"en": "English", "de": "German", "fr": "French", "es": "Spanish", "zh": "Chinese", "ja": "Japanese"}
    folder = Path(__file__).parents[1] / "benchmarks" / "prompts" / "check"
    rows = [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.open("rb")]
    found = [(names[row["language"]], language_of(row["prompt"])) for row in rows if row["language"] in names]
    taken = [told for told in found if told[1] not in {told[0], "", "latin"}]
    assert len(taken) / len(found) < 0.01
    assert sum(right == told for right, told in found) / len(found) > 0.6


# Code

BROKEN = {
    "python": "def add(a, b)\n    return a + b",
    "json": '{"a": 1, "b": [1, 2}',
    "js": "function add(a, b) { return (a + b; }",
    "java": 'String name = "Anna;',
    "go": "func add(a int, b int) int { return a + b",
}
WHOLE = {
    "python": "def add(a, b):\n    return a + b",
    "json": '{"a": 1, "b": [1, 2]}',
    "js": "const ask = (n) => `${n} (or more`; // not ( closed\nask(')');",
    "java": 'char open = \'{\'; /* { */ String said = "(\\"";',
    "go": 'func add(a int) string { return "}" }',
    "rust": "fn first<'a>(s: &'a str) -> &'a str { &s[..1] }",
}


@pytest.mark.parametrize("language", BROKEN)
def test_code_that_does_not_parse_is_told(language):
    assert flaws("Show me the code", f"Here:\n```{language}\n{BROKEN[language]}\n```\nDone.") == {"code": 2.0}


@pytest.mark.parametrize("language", WHOLE)
def test_code_that_parses_is_not_blamed(language):
    assert flaws("Show me the code", f"Here:\n```{language}\n{WHOLE[language]}\n```\nDone.") == {}


@pytest.mark.parametrize(
    "block",
    [
        "python\n    return a + b",
        "python\n>>> add(1, 2)\n3",
        "python\ndef add(a, ...): ...",
        "python\nprint 'two'",
        "python\n%timeit add(1, 2)",
        "python\nresult = await client.get('/')",
        'json\n{"a": 1, ...}',
        "js\nfunction add(a, b) { ...",
        "text\nfunction (((",
        "sh\ncase $1 in a) echo;; esac",
    ],
)
def test_sessions_and_fragments_are_not_blamed(block):
    assert flaws("Show me the code", f"Here:\n```{block}\n```\nDone.") == {}


def test_of_a_long_module_the_beginning_is_parsed():
    good = "\n\n".join(f"def add{i}(a, b):\n    return a + b + {i}\n" for i in range(60))
    assert flaws("Show me the code", f"```python\n{good}\n```") == {}
    assert flaws("Show me the code", f"```python\n{good.replace('add3(a, b):', 'add3(a, b)')}\n```") == {"code": 2.0}


def test_judging_code_warns_of_nothing_and_harms_no_other_thread():
    answer = "```python\nimport re\npattern = re.compile('\\d+ \\s')\nx = 1 if pattern is 'a' else 2\n```"
    found: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        threads = [
            threading.Thread(target=lambda: found.extend(assess_quality("Show me", answer) for _ in range(50)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [8.5] * 200


# Form

TEN = "\n".join(f"{n}. A thing that has the number {n} in it" for n in range(1, 11))
ESSAY = " ".join(f"Word {n} is the one that comes after {n - 1}." for n in range(40))
TABLE = "| a | b |\n|---|---|\n| 1 | 2 |"


@pytest.mark.parametrize(
    ("prompt", "good", "bad"),
    [
        ("Return the two colours as JSON", '{"colours": ["red", "blue"]}', "They are red and blue."),
        ("Return the colours in JSON format", 'Here:\n```json\n["red"]\n```', "They are red and blue."),
        ("Gib mir die Farben als JSON", 'Bitte: {"farbe": "rot"} und fertig.', "Es ist rot."),
        ("Liste les couleurs en JSON", '["rouge"]', "Rouge."),
        ("JSON形式で出力してください", '["赤"]', "赤です。"),
        ("Answer in YAML", "colour: red", "It is red."),
        ("Give it as CSV", "a,b\n1,2", "One and two"),
        ("Write it as XML", "<colour>red</colour>", "It is red."),
        ("Explain sorting with bullet points", "- stable\n- quick", "It is stable and quick and so on."),
        ("Erkläre es in Stichpunkten", "* stabil\n* schnell", "Es ist stabil und schnell."),
        ("Compare both in a table", TABLE, "The one is red, the other is blue."),
        ("请用表格比较两者", TABLE, "一个是红色的。"),
        ("Put it into a code block", "```\nx\n```", "It is x."),
        ("Give me 10 ideas for a talk", TEN, TEN[:200]),
        ("Nenne mir fünf Gründe", TEN, "1. Der eine\n2. Der andere"),
        ("Donne trois exemples", "1. Un\n2. Deux\n3. Trois", "1. Un"),
        ("Explain it in one sentence.", "It is a way to sort.", "It is. It was. It will be."),
        ("Explain it in under 10 words.", "It is a way to sort.", GOOD + GOOD),
        ("Erkläre es in höchstens 10 Wörtern.", "Es ist ein Verfahren.", "Es ist so und so " * 3),
        ("Write at least 100 words on it", ESSAY, GOOD),
        ("Write a 300-word essay on it", ESSAY, GOOD),
        ("请在20字以内回答", "它是排序。", "它是一种排序的方法。" * 4),
    ],
)
def test_the_form_that_was_asked_for_should_be_there(prompt, good, bad):
    assert "format" not in flaws(prompt, good)
    assert "format" in flaws(prompt, bad)


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Write a function that returns the result as JSON", CODE),
        ("Write a function that returns a list of names", "You can use `sorted` for that."),
        ("Create a table in SQL", "CREATE TABLE a (b int);"),
        ("What are 3 ways to sort?", "Bubble sort, merge sort, quick sort."),
        ("In one word: what is it?", "Sorting, mostly."),
        ("Why does json.loads raise an error?", "Because the text is empty."),
    ],
)
def test_what_was_not_asked_for_is_not_missed(prompt, answer):
    assert "format" not in flaws(prompt, answer)


# What may never be


def test_huge_answers_are_judged_in_no_time():
    answer = "Some words that go on and on without an end. " * 50_000
    began = time.perf_counter()
    for _ in range(10):
        assess_quality(answer, answer)
    assert time.perf_counter() - began < 1.0


@pytest.mark.parametrize(
    "text",
    ["\ud800" * 3_000, "\x00\xff" * 500_000, "a" * 1_000_000, "```" * 300_000, "[" * 200_000, "(" * 1_000_000,
     "<think>" * 100_000, "- \n" * 300_000, '"' * 1_000_000, "。" * 1_000_000, " " * 1_000_000, "\\" * 100_000],
    ids=lambda text: repr(text[:8]),
)  # fmt: skip
def test_no_text_is_too_much(text):
    task = analyze([Message("user", text)], task_type=TaskType.CODING)
    began = time.perf_counter()
    for answer in (text, f"```python\n{text}\n```", f"```js\n{text}\n```", f"```json\n{text}\n```"):
        assert 0 <= assess_quality(text, answer, task) <= 10
        assert 0 <= assess_quality("Ten ideas in a table as JSON", answer, task, expects_json=True) <= 10
    assert time.perf_counter() - began < 5.0


@given(st.text(st.characters(), max_size=300), st.text(st.characters(), max_size=300), st.booleans())
def test_any_answer_gets_a_score_in_range(prompt, answer, wants_json):
    task = analyze([Message("user", prompt)], task_type=TaskType.CODING)
    assert 0 <= assess_quality(prompt, answer, task=task, expects_json=wants_json) <= 10
    for language in ("python", "json", "js"):
        report = explain_quality(prompt, f"```{language}\n{answer}\n```", task)
        assert 0 <= report.score <= 10
        assert all(0 <= each.lost <= each.most for each in report.components)


# Monotone

WORD = st.text("abcdefghij \n.,!?*-|{}[]()\"'`#0123456789äß。你好", max_size=12)
TEXT = st.lists(WORD | st.sampled_from([GOOD, CODE, "```", "I'm sorry, I can't. ", TEN, "Step one. "]), max_size=8).map(
    "".join
)
PROMPT = st.sampled_from(
    [QUESTION, CODE_PROMPT, "Give me 5 ideas in under 20 words", "Answer with JSON", "Compare in a table"]
)


@given(PROMPT, TEXT)
def test_nothing_scores_lower_than_silence(prompt, answer):
    task = analyze([Message("user", prompt)])
    assert assess_quality(prompt, "", task) == 0.0 <= assess_quality(prompt, answer, task)


@given(PROMPT, TEXT, st.booleans())
def test_being_cut_at_a_limit_never_raises_the_score(prompt, answer, wants_json):
    task = analyze([Message("user", prompt)])
    whole = assess_quality(prompt, answer, task, expects_json=wants_json)
    assert assess_quality(prompt, answer, task, expects_json=wants_json, done_reason="length") <= whole


@given(PROMPT, TEXT, st.integers(1, 40), st.integers(1, 5))
def test_going_round_never_raises_the_score(prompt, answer, size, more):
    task = analyze([Message("user", prompt)])
    answer = answer.strip()
    piece = answer[-size:]
    rounds = 400 // max(len(piece), 1) + 4
    scores = [assess_quality(prompt, answer + piece * times, task) for times in (0, rounds, rounds + more)]
    assert scores == sorted(scores, reverse=True)


@given(st.integers(0, 40), st.integers(1, 30))
def test_more_rounds_never_cost_less(words, rounds):
    beginning = " ".join(f"word{n}" for n in range(words))
    scores = [assess_quality(QUESTION, beginning + " And so on and on." * (rounds + more)) for more in (0, 1, 5, 50)]
    assert scores == sorted(scores, reverse=True)


@given(st.integers(0, 200))
def test_cutting_amid_code_or_json_never_raises_the_score(at):
    task = analyze([Message("user", CODE_PROMPT)], task_type=TaskType.CODING)
    whole, inside = f"{CODE}\n{GOOD}", range(CODE.index("```") + 3, CODE.rindex("```"))
    cut = assess_quality(CODE_PROMPT, whole[: inside[at % len(inside)]], task)
    assert cut < assess_quality(CODE_PROMPT, whole, task)
    value = json.dumps({"names": ["Anna", "Bert"], "counts": [1, 2, 3]})
    part = value[: at % len(value)]
    for prompt, strict in (("Answer with JSON", False), ("Anything", True)):
        assert assess_quality(prompt, part, expects_json=strict) < assess_quality(prompt, value, expects_json=strict)
