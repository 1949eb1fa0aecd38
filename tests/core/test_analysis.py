"""What a user sees of the analysis: the kind of task, its demands, the expected length; and that it never fails."""

from __future__ import annotations

import json
import time
from binascii import a2b_base64
from pathlib import Path

import pytest
from everyday import EVERYDAY
from hypothesis import given
from hypothesis import strategies as st

from routed_ollama.analysis import analyze, estimate_tokens, learned
from routed_ollama.analysis.reading import read
from routed_ollama.analysis.tokens import estimate_prompt_tokens
from routed_ollama.types import Complexity, Message, ModelCapability, Needs, TaskCharacteristics, TaskType

PROMPTS = Path(__file__).parents[1] / "benchmarks" / "prompts"


def ask(text: str, **options: object) -> TaskCharacteristics:
    return analyze([Message("user", text)], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write a REST API endpoint that returns the current user", TaskType.CODING),
        ("How do I reverse a linked list in Rust?", TaskType.CODING),
        ("def add(a, b):\n    '''Add two numbers.'''\n", TaskType.CODING),
        ("Debug this authentication error", TaskType.DEBUGGING),
        ("My Python script fails with a KeyError and I don't know why", TaskType.DEBUGGING),
        ('Traceback (most recent call last):\n  File "app.py", line 3\nValueError: bad', TaskType.DEBUGGING),
        ("Write pytest tests for parser.py", TaskType.TESTING),
        ("Add unit tests for this React component", TaskType.TESTING),
        ("Design a scalable microservices architecture for an online shop", TaskType.ARCHITECTURE),
        ("Design a layered system with adapters for our domain", TaskType.ARCHITECTURE),
        ("Should we split our monolith into microservices?", TaskType.ARCHITECTURE),
        ("Write a README for this repository", TaskType.DOCUMENTATION),
        ("Write technical documentation for the payment service", TaskType.DOCUMENTATION),
        ("Add docstrings to the functions of utils.py", TaskType.DOCUMENTATION),
        ("Analyze the sales data of last year and compare the trends", TaskType.ANALYSIS),
        ("Explain this code:\n```js\nfoo(bar => bar + 1);\n```", TaskType.ANALYSIS),
        ("| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n| 5 | 6 |\nWhich row is largest? Assess it.", TaskType.ANALYSIS),
        ("Plan a three month roadmap with milestones for our mobile app", TaskType.PLANNING),
        ("Make an itinerary for five days in Rome", TaskType.PLANNING),
        ("What is the capital of France?", TaskType.GENERAL),
        ("Write a poem about the sea", TaskType.GENERAL),
        ("Hello!", TaskType.GENERAL),
    ],
)
def test_the_kind_of_task_is_recognised(text, expected):
    task = ask(text)
    assert task.task_type is expected
    assert 0.3 < task.confidence <= 1.0


def test_a_task_type_that_the_caller_names_is_believed():
    task = ask("Hello", task_type=TaskType.PLANNING)
    assert task.task_type is TaskType.PLANNING
    assert task.confidence == 1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("これは何ですか。教えてください", TaskType.GENERAL),
        ("¿Cuál es la capital de Francia y por qué es tan famosa?", TaskType.GENERAL),
        ("Какой сегодня день?", TaskType.GENERAL),
        ("Schreibe eine Python-Funktion, die eine Liste sortiert", TaskType.CODING),
        ("Écris des tests unitaires pour cette classe PHP", TaskType.TESTING),
        ("Mi aplicación se cierra con un error al iniciar, ¿por qué?", TaskType.DEBUGGING),
        ("帮我写一份三个月的学习计划", TaskType.PLANNING),
        ("このアンケート結果を分析してください", TaskType.ANALYSIS),
        ("Schreib eine README für dieses Projekt", TaskType.DOCUMENTATION),
        ("Faut-il découper notre monolithe en microservices ?", TaskType.ARCHITECTURE),
    ],
)
def test_other_languages_are_understood_too(text, expected):
    assert ask(text).task_type is expected


@pytest.mark.parametrize("text", ["", "   ", "😀😀😀", "\x00\x01\x02", "\ud800\udc00\ud800", "....", "ß" * 3])
def test_a_text_that_says_nothing_is_general_and_unsure(text):
    task = ask(text)
    assert task.task_type is TaskType.GENERAL
    assert task.confidence < 0.9


def test_code_and_tracebacks_are_recognised_in_any_language():
    trace = 'エラーが出ます\n```\nTraceback (most recent call last):\n  File "a.py", line 1\nTypeError: x\n```'
    assert ask(trace).task_type is TaskType.DEBUGGING
    assert ask("Schreibe diese Funktion um\n```python\ndef f(x): return x\n```").task_type is TaskType.CODING


def test_a_curly_apostrophe_is_an_apostrophe():
    straight = "My Java code doesn't compile, it fails with an error"
    curly = straight.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}")
    assert ask(straight).task_type is ask(curly).task_type is TaskType.DEBUGGING
    assert ask(straight).confidence == ask(curly).confidence


@pytest.mark.parametrize(
    ("text", "calculated"),
    [
        ("A train travels 120 km in 2 hours and 30 minutes. What is its average speed in km per hour?", True),
        (r"Find $\frac{d}{dx} x^2 e^{x}$", True),
        ("Anna has seven pears and eats two a day. How many are left after three days?", True),
        ("How many people live in Rome?", False),
        ("How much did 3 of the 12 tyres cost?\n```\ntyres = 12\n```", False),
        (
            "Mina baked 48 rolls and then 24, and sold each for 3 dollars. How many dollars is that?",
            True,
        ),
        ("what's 17*23", True),
        ("Was sind 15 % von 80?", True),
        ("Solve $x^2 = 4$ for x", True),
        ("Find the derivative of sin(x) cos(x)", True),
        ("Update the C++ guide from version 17 to 20", False),
        ("Tell me a story about a dragon", False),
        ("Who was the first emperor of Rome?", False),
    ],
)
def test_reasoning_counts_more_where_the_answer_is_calculated(text, calculated):
    weights = ask(text, task_type=TaskType.GENERAL).capabilities
    assert (weights[ModelCapability.REASONING] > 0.4) is calculated


@pytest.mark.parametrize(
    ("text", "task_type", "mathematics"),
    [
        (r"Find $\frac{d}{dx} x^2 e^{x}$", TaskType.GENERAL, 1.0),
        (r"Let $f(x) = \sqrt{x + 3}$ and $g(x) = 2x - 1$; what is $g(f(6))$?", TaskType.CODING, 1.0),
        ("Solve $x^2 = 4$ for x", TaskType.GENERAL, 1.0),
        ("How many prime integers lie between 10 and 20?", TaskType.GENERAL, 1.0),
        ("Simplify 4x^2 + 3 and 5x^2 + 7 and 9", TaskType.ANALYSIS, 1.0),
        ("Anna has 7 pears and eats two a day. How many are left after three days?", TaskType.GENERAL, 0.0),
        ("Write x^2 as a function in Java 21, C 17 and Go 1", TaskType.CODING, 0.0),
        ("```\nx = y ^ 2 + 3\nz = 4\n```\nWhat is wrong here?", TaskType.DEBUGGING, 0.0),
        ("Tell me a story about a dragon", TaskType.GENERAL, 0.0),
    ],
)
def test_mathematics_counts_where_the_problem_is_put_in_its_terms(text, task_type, mathematics):
    assert ask(text, task_type=task_type).mathematics == mathematics


def test_text_alone_is_a_message_of_the_user():
    assert analyze("Write pytest tests for parser.py") == ask("Write pytest tests for parser.py")


def test_a_role_that_nobody_knows_does_no_harm():
    assert analyze([Message("narrator", "Write pytest tests")]).task_type is TaskType.TESTING


def right(name):
    """Share of the prompts whose task type is found, and those of each task type, by names of files."""
    found = {}
    for path in PROMPTS.glob(f"check/{name}"):
        rows = [json.loads(line) for line in path.open(encoding="utf-8")]
        hits = sum(ask(row["prompt"]).task_type.value == row["task_type"] for row in rows)
        found[path.stem] = hits / len(rows)
    return found


@pytest.mark.parametrize("task_type", EVERYDAY)
def test_what_everybody_types_first_is_taken_for_what_it_is(task_type):
    wrong = [text for text in EVERYDAY[task_type] if ask(text).task_type != task_type]
    assert len(wrong) <= 1, wrong


def test_prompts_that_nothing_was_fitted_to_are_understood_as_most_people_write_them():
    found = right("*-plain.jsonl")
    assert len(found) == len(TaskType)
    assert min(found.values()) > 0.85, found


def test_prompts_that_avoid_the_obvious_words_are_understood_more_often_than_not():
    found = {name: share for name, share in right("*.jsonl").items() if not name.endswith("-plain")}
    assert len(found) == len(TaskType)
    assert min(found.values()) > 0.5, found


@pytest.mark.parametrize(
    "text", ["Write unit tests for the parser", "Schreibe Tests\n```py\nx\n```", "帮我写一份学习计划"]
)
def test_what_is_said_of_a_text_is_what_its_parts_say_in_the_file(text):
    lines = Path(learned.__file__).with_name("task_types.txt").read_text(encoding="utf-8").splitlines()
    scale, _, _, *bias = map(float, lines[3].split())
    packed = dict(line.split("\t") for line in lines[4:])
    found = [a2b_base64(packed[part]) for part in learned.parts(read(text)) if part in packed]
    norm = sum(each[-1] for each in found) ** 0.5
    said = [start + scale * sum(each[at] - 128 for each in found) / norm for at, start in enumerate(bias)]
    assert list(learned.learned_points(read(text)).values()) == pytest.approx(said)


def test_what_is_shipped_of_it_is_small():
    shipped = Path(learned.__file__).with_name("task_types.txt")
    assert shipped.stat().st_size < 300_000


def test_the_last_message_of_the_user_decides():
    messages = [
        Message("user", "Write a Python function that sorts a list"),
        Message("assistant", "```python\nsorted(x)\n```"),
        Message("user", "Plan a week in Lisbon with a daily schedule"),
        Message("assistant", "", tool_calls=1),
        Message("tool", "ValueError: bad Python function"),
    ]
    assert analyze(messages).task_type is TaskType.PLANNING


def test_what_was_said_before_is_a_weak_hint():
    bare = ask("Now the same for decimals")
    before = [
        Message("system", "You are a Python developer"),
        Message("user", "Write a Python function with a regex for integers"),
        Message("assistant", "..."),
    ]
    told = analyze([*before, Message("user", "Now the same for decimals")])
    assert bare.task_type is TaskType.GENERAL
    assert told.task_type is TaskType.CODING


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [Message("user", "")],
        [Message("system", "Only a system message")],
        [Message("assistant", "Only an answer")],
        [Message("wizard", "???"), Message("", "\x00")],
        [Message("user", "\ud800\udfff lone \ud83d surrogates")],
        [Message("user", "``` ``` ``` `````")],
        [Message("user", "999999999999999999999 words, ² words, 0 words, -5 words")],
    ],
)
def test_strange_conversations_are_answered(messages):
    task = analyze(messages, extra_tokens=-5, max_output_tokens=-1)
    assert task.output_tokens >= 1
    assert task.prompt_tokens >= 0
    assert sum(task.capabilities.values()) == pytest.approx(1.0)


@given(
    st.lists(st.builds(Message, role=st.text(max_size=9), content=st.text(st.characters(), max_size=300)), max_size=4)
)
def test_any_conversation_gives_values_in_range(messages):
    task = analyze(messages)
    assert analyze(messages) == task
    for share in (task.confidence, task.accuracy, task.speed, task.creativity):
        assert 0 <= share <= 1
    assert set(task.capabilities) == set(ModelCapability)
    assert min(task.capabilities.values()) >= 0
    assert sum(task.capabilities.values()) == pytest.approx(1.0)


def test_huge_prompts_cost_no_more_than_long_ones():
    huge = [Message("user", "Write a function. " * 500_000), Message("assistant", "x" * 5_000_000)]
    analyze(huge)
    began = time.perf_counter()
    for _ in range(10):
        analyze(huge)
    assert time.perf_counter() - began < 0.5


def test_complexity_follows_the_work():
    assert ask("What is a list?").complexity is Complexity.LOW
    assert ask("Write a quick function that adds two numbers").complexity is Complexity.LOW
    assert ask("Refactor this concurrent scheduler to optimize its performance").complexity is Complexity.MEDIUM
    hard = "Design a comprehensive distributed architecture with consensus, encryption and end-to-end transactions"
    assert ask(hard).complexity is Complexity.HIGH


def test_requirements_follow_the_words():
    plain, poem = ask("Tell me about rivers"), ask("Write a funny poem about rivers")
    exact = ask("Calculate the exact probability of two sixes")
    quick = ask("Tell me about rivers, briefly")
    thorough = ask("Write a comprehensive analysis of rivers")
    assert poem.creativity > plain.creativity
    assert poem.capabilities[ModelCapability.CREATIVITY] > plain.capabilities[ModelCapability.CREATIVITY]
    assert exact.accuracy > plain.accuracy
    assert exact.capabilities[ModelCapability.ACCURACY] > plain.capabilities[ModelCapability.ACCURACY]
    assert quick.speed > plain.speed
    assert quick.output_tokens < plain.output_tokens < thorough.output_tokens


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("What is the capital of France? Answer in one word.", 1, 10),
        ("Is 7 a prime number, yes or no?", 1, 10),
        ("Write a 500-word essay on climate", 500, 900),
        ("Write about climate in 1000 words", 1200, 1500),
        ("Give me a list of 10 ideas for a party", 200, 400),
        ("Describe it in two sentences", 40, 80),
        ("Write three paragraphs about owls", 300, 450),
        ("Hi", 10, 60),
        ("Thanks a lot", 10, 60),
        ("Summarize the following text: " + "The river runs to the sea. " * 200, 100, 400),
        ("Translate the following text: " + "The river runs to the sea. " * 200, 1000, 1800),
        ("Some words on words please, in other words", 50, 400),
    ],
)
def test_the_length_of_the_answer_is_expected(text, least, most):
    assert least <= ask(text).output_tokens <= most


def test_the_callers_limit_and_needs_shape_the_expected_length():
    text = "Write a comprehensive guide to Kubernetes"
    assert ask(text, max_output_tokens=20).output_tokens == 20
    assert ask(text, needs=Needs(structured_output=True)).output_tokens == 200
    assert ask(text, needs=Needs(thinking=True)).output_tokens > ask(text).output_tokens


def test_images_need_vision_and_take_room():
    plain = analyze([Message("user", "What is this?")])
    seen = analyze([Message("user", "What is this?", images=2)], needs=Needs(tools=True))
    assert seen.needs == Needs(tools=True, vision=True)
    assert plain.needs == Needs()
    assert seen.prompt_tokens > plain.prompt_tokens + 500


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("", 0, 0),
        ("a", 1, 1),
        ("The quick brown fox jumps over the lazy dog.", 9, 12),
        ("for i in range(10):\n    print(i, i ** 2)\n", 15, 28),
        ("日本語のテキストです。", 7, 13),
        ("Привет, как дела?", 5, 11),
        ("👍" * 10, 10, 30),
        ("x" * 6000, 900, 3000),
        ("The quick brown fox jumps over the lazy dog. " * 1000, 9_000, 12_000),
    ],
)
def test_tokens_are_estimated_for_every_script(text, least, most):
    assert least <= estimate_tokens(text) <= most


def test_a_conversation_counts_all_its_parts():
    once = estimate_prompt_tokens([Message("user", "Hello there")])
    assert estimate_prompt_tokens([Message("user", "Hello there")], 100) == once + 100
    assert estimate_prompt_tokens([Message("user", "Hello there", tool_calls=1)]) > once
    assert analyze([Message("user", "Hello there")], extra_tokens=100).prompt_tokens == once + 100
    long = [Message("user", "The quick brown fox jumps.")] * 20
    assert estimate_prompt_tokens(long) == pytest.approx(20 * estimate_prompt_tokens(long[:1]), rel=0.1)
    empty = [Message("user", "word " * 100), *[Message("assistant", "")] * 6]
    assert estimate_prompt_tokens(empty) > 100
