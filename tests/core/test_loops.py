"""The four loops, over the same scenarios: sync and async, whole and streamed. Chunks are text or small mappings."""

from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed_ollama import (
    AllModelsFailedError,
    Attempt,
    AttemptPlan,
    EmptyAnswerError,
    ModelInfo,
    OutcomeKind,
    Recommendation,
    TaskCharacteristics,
    TruncatedStreamError,
    acall,
    astream,
    call,
    estimate_tokens,
    stream,
)
from routed_ollama.fallback import Choice
from routed_ollama.testing import FakeClock

DONE = {"done": True}
Chunk = dict[str, Any]


class View:
    """Chunks as Ollama sends them, made small: ``{"text": ..., "tool": ..., "thinking": ..., "done": ...}``."""

    def text(self, chunk: Chunk, /) -> str:
        return chunk.get("text", "")

    def usable(self, chunk: Chunk, /) -> bool:
        return bool(chunk.get("text", "").strip() or chunk.get("tool") or chunk.get("thinking"))

    def only_text(self, chunk: Chunk, /) -> str:
        return "" if self.done(chunk) or not self.joinable(chunk) else self.text(chunk)

    def joinable(self, chunk: Chunk, /) -> bool:
        return not chunk.get("tool")

    def done(self, chunk: Chunk, /) -> bool:
        return bool(chunk.get("done"))

    def with_text(self, chunk: Chunk, text: str, /) -> Chunk:
        return {**chunk, "text": text}

    def with_route(self, chunk: Chunk, attempt: Attempt, /) -> Chunk:
        attempt.prompt_tokens, attempt.output_tokens = chunk.get("counts", (None, None))
        return {**chunk, "route": attempt.route(), "usage": attempt.usage()}


Part = str | Chunk | BaseException
Scripts = dict[str, Sequence[Part]]


class Models:
    """What each model sends, part by part; an exception is raised. Remembers what it was asked and what was closed."""

    def __init__(self, scripts: Scripts) -> None:
        self.scripts = scripts
        self.asked: list[tuple[str, str]] = []
        self.closed: list[str] = []
        self.sent: list[Chunk] = []

    def _parts(self, attempt: Attempt) -> Iterable[Part]:
        self.asked.append((attempt.model, attempt.continues))
        return self.scripts[attempt.model]

    def _chunk(self, part: Part) -> Chunk:
        if isinstance(part, BaseException):
            raise part
        self.sent.append({"text": part} if isinstance(part, str) else part)
        return self.sent[-1]

    def stream(self, attempt: Attempt) -> Generator[Chunk]:
        try:
            for part in self._parts(attempt):
                yield self._chunk(part)
        finally:
            self.closed.append(attempt.model)

    async def astream(self, attempt: Attempt) -> AsyncGenerator[Chunk]:
        try:
            for part in self._parts(attempt):
                await asyncio.sleep(0)
                yield self._chunk(part)
        finally:
            self.closed.append(attempt.model)

    def send(self, attempt: Attempt) -> str:
        """The whole answer, with the failures an adapter raises for it."""
        chunks = [self._chunk(part) for part in self._parts(attempt)]
        text = "".join(chunk.get("text", "") for chunk in chunks)
        if not text.strip():
            attempt.unusable = text
            raise EmptyAnswerError(attempt.model)
        return text

    async def asend(self, attempt: Attempt) -> str:
        await asyncio.sleep(0)
        return self.send(attempt)


def plan_of(names: Iterable[str], **options: Any) -> AttemptPlan:
    choices = [Choice(ModelInfo(name, host="http://one")) for name in names]
    return AttemptPlan(choices, Recommendation("request", TaskCharacteristics(), ()), FakeClock(), **options)


def streamed(plan: AttemptPlan, models: Models, **how: bool) -> list[Chunk]:
    return list(stream(plan, models.stream, View(), **how))


def astreamed(plan: AttemptPlan, models: Models, **how: bool) -> list[Chunk]:
    async def collect() -> list[Chunk]:
        return [chunk async for chunk in astream(plan, models.astream, View(), **how)]

    return asyncio.run(collect())


def called(plan: AttemptPlan, models: Models) -> str:
    return call(plan, models.send)


def acalled(plan: AttemptPlan, models: Models) -> str:
    return asyncio.run(acall(plan, models.asend))


def text_of(chunks: Iterable[Chunk]) -> str:
    return "".join(chunk.get("text", "") for chunk in chunks)


both_calls = pytest.mark.parametrize("ask", [called, acalled])
both_streams = pytest.mark.parametrize("ask", [streamed, astreamed])
all_paths = pytest.mark.parametrize("ask", [called, acalled, streamed, astreamed])
Ask = Callable[..., Any]


def answer(result: Any) -> str:
    return result if isinstance(result, str) else text_of(result)


# Before the commit point


@all_paths
@pytest.mark.parametrize(
    "fault",
    [
        [httpx.ConnectTimeout("slow")],
        [httpx.ReadError("reset")],
        [TimeoutError()],
        [" ", "\n", httpx.ReadError("reset")],
        [TruncatedStreamError("cut")],
    ],
    ids=["connect", "reset", "deadline", "after white space", "cut"],
)
def test_the_next_model_answers_and_nothing_of_the_first_is_seen(ask: Ask, fault: list[Part]) -> None:
    plan, models = plan_of("ab"), Models({"a": fault, "b": ["Hello", " world", DONE]})
    plan.choices = [Choice(ModelInfo("a", host="http://two")), *plan.choices[1:]]
    assert answer(ask(plan, models)) == "Hello world"
    assert models.asked == [("a", ""), ("b", "")]
    assert [record.outcome for record in plan.records] == [OutcomeKind.FAILED, OutcomeKind.OK]
    assert plan.committed
    assert not plan.answered


@both_streams
@pytest.mark.parametrize(
    "nothing", [[DONE], [" ", "\n", DONE], [""], [" "], []], ids=["empty", "white", "cut", "cut white", "no chunk"]
)
def test_a_stream_that_brings_nothing_is_a_failure(ask: Ask, nothing: list[Part]) -> None:
    models = Models({"a": nothing, "b": ["Hello", DONE]})
    assert text_of(ask(plan_of("ab"), models)) == "Hello"


@all_paths
def test_when_every_model_answers_with_nothing_the_empty_answer_is_returned(ask: Ask) -> None:
    plan, models = plan_of("ab"), Models({"a": [" ", DONE], "b": ["\n", DONE]})
    result = ask(plan, models)
    assert answer(result) == "\n"
    assert [record.error for record in plan.records] == [
        record.error for record in plan.records if (record.error or "").startswith("EmptyAnswerError")
    ]
    assert len(plan.records) == 2
    if not isinstance(result, str):
        assert result[-1]["route"]["model"] == "b"


@all_paths
def test_when_all_fail_one_error_lists_them(ask: Ask) -> None:
    last = httpx.ReadTimeout("silence")
    models = Models({"a": [httpx.PoolTimeout("full")], "b": [last]})
    with pytest.raises(
        AllModelsFailedError, match="a @ http://one: PoolTimeout: full\n  b @ http://one: ReadTimeout"
    ) as at:
        ask(plan_of("ab"), models)
    assert at.value.__cause__ is last


@all_paths
def test_a_sole_model_fails_with_its_own_exception(ask: Ask) -> None:
    error = httpx.ReadTimeout("silence")
    with pytest.raises(httpx.ReadTimeout) as caught:
        ask(plan_of("a", sole=True), Models({"a": [error]}))
    assert caught.value is error
    assert caught.value.__cause__ is None


@all_paths
@pytest.mark.parametrize("error", [KeyError("role"), KeyboardInterrupt()])
def test_the_callers_own_mistake_and_an_interrupt_end_it_at_once(ask: Ask, error: BaseException) -> None:
    models = Models({"a": [error], "b": ["Hello", DONE]})
    with pytest.raises(type(error)) as caught:
        ask(plan_of("ab"), models)
    assert caught.value is error
    assert [name for name, _ in models.asked] == ["a"]


@both_streams
@pytest.mark.parametrize("chunk", [{"thinking": "Hm"}, {"text": "x"}], ids=["think", "text"])
def test_the_commit_point_is_the_first_chunk_with_something_in_it(ask: Ask, chunk: Chunk) -> None:
    error = httpx.ReadError("reset")
    plan, models = plan_of("ab", mid_stream="raise"), Models({"a": ["", " ", chunk, error], "b": ["Hello", DONE]})
    with pytest.raises(httpx.ReadError) as caught:
        ask(plan, models)
    assert caught.value is error
    assert [name for name, _ in models.asked] == ["a"]


def test_what_was_held_back_before_the_commit_point_is_handed_out_with_it() -> None:
    models = Models({"a": ["", " ", "x", "y", DONE]})
    chunks = stream(plan_of("a"), models.stream, View())
    assert [next(chunks) for _ in range(3)] == [{"text": ""}, {"text": " "}, {"text": "x"}]
    assert len(models.sent) == 3, "the stream must not run ahead of its consumer"
    assert text_of(chunks) == "y"


# After the commit point

LONG = "The quick brown fox jumps over "


@both_streams
@pytest.mark.parametrize(
    "broken", [[httpx.ReadError("reset")], []], ids=["connection breaks", "stream ends without done"]
)
def test_plain_text_is_gone_on_with_and_the_seam_is_marked(ask: Ask, broken: list[Part]) -> None:
    plan = plan_of("ab")
    models = Models({"a": [LONG, *broken], "b": ["the lazy", " dog.", DONE]})
    chunks = ask(plan, models)
    assert text_of(chunks) == "The quick brown fox jumps over the lazy dog."
    assert models.asked == [("a", ""), ("b", LONG)]
    assert models.closed == ["a", "b"]
    route = chunks[-1]["route"]
    assert route["model"] == "b"
    assert route["continued_at"] == len(LONG)
    assert [attempt["outcome"] for attempt in route["attempts"]] == ["failed", "ok"]


@both_streams
@pytest.mark.parametrize(
    "continuation",
    [
        ["fox jumps over the lazy dog.", DONE],
        ["fox ju", "mps ov", "er the lazy dog.", DONE],
        [*(LONG + "the lazy dog."), DONE],
        [LONG, "the lazy dog.", DONE],
        ["the lazy", " dog.", {"text": "", "done": True}],
        ["the lazy dog", {"text": ".", "done": True}],
    ],
)
def test_what_a_continuation_repeats_is_left_out(ask: Ask, continuation: list[Part]) -> None:
    models = Models({"a": [LONG, httpx.ReadError("reset")], "b": continuation})
    assert text_of(ask(plan_of("ab"), models)) == "The quick brown fox jumps over the lazy dog."


@both_streams
def test_a_continuation_that_only_repeats_adds_nothing_but_its_end(ask: Ask) -> None:
    plan = plan_of("ab")
    models = Models({"a": [LONG, httpx.ReadError("reset")], "b": ["fox jumps over ", DONE]})
    chunks = ask(plan, models)
    assert text_of(chunks) == LONG
    assert chunks[-1]["done"]
    assert chunks[-1]["route"]["model"] == "b"


@both_streams
def test_a_continuation_that_breaks_is_gone_on_with_in_turn(ask: Ask) -> None:
    plan = plan_of("abcd")
    models = Models(
        {
            "a": ["One, ", httpx.ReadError("reset")],
            "b": [httpx.ReadError("before a word")],
            "c": ["two, ", httpx.ReadError("reset")],
            "d": ["three.", DONE],
        }
    )
    chunks = ask(plan, models)
    assert text_of(chunks) == "One, two, three."
    assert models.asked == [("a", ""), ("b", "One, "), ("c", "One, "), ("d", "One, two, ")]
    assert chunks[-1]["route"]["continued_at"] == [5, 10]


@both_streams
def test_a_continuation_that_fails_everywhere_ends_in_the_error_that_lists_all(ask: Ask) -> None:
    models = Models({"a": ["One, ", OSError("cut")], "b": [OSError("b")], "c": ["two", OSError("c")]})
    with pytest.raises(AllModelsFailedError) as caught:
        ask(plan_of("abc"), models)
    assert [label for label, _ in caught.value.errors] == ["a @ http://one", "b @ http://one", "c @ http://one"]


def test_all_that_came_before_the_last_continuation_failed_was_handed_out() -> None:
    models = Models({"a": ["One, ", OSError("cut")], "b": [OSError("b")], "c": ["two", OSError("c")]})
    chunks = stream(plan_of("abc"), models.stream, View())
    assert [next(chunks)["text"], next(chunks)["text"]] == ["One, ", "two"]
    with pytest.raises(AllModelsFailedError):
        next(chunks)


@both_streams
def test_a_break_with_nobody_left_is_the_models_own_error(ask: Ask) -> None:
    error = httpx.ReadError("reset")
    with pytest.raises(httpx.ReadError) as caught:
        ask(plan_of("a"), Models({"a": ["One, ", error]}))
    assert caught.value is error


@both_streams
def test_one_whose_circuit_said_no_may_still_go_on_with_an_answer(ask: Ask) -> None:
    plan = plan_of("ab", admit=lambda candidate: candidate.model == "a")
    models = Models({"a": ["One, ", httpx.ReadError("reset")], "b": ["two.", DONE]})
    assert text_of(ask(plan, models)) == "One, two."


@both_streams
@pytest.mark.parametrize("options", [{"mid_stream": "raise"}, {"joinable": False}], ids=str)
def test_where_joining_is_off_or_impossible_the_break_is_raised(ask: Ask, options: dict[str, Any]) -> None:
    error = httpx.ReadError("reset")
    with pytest.raises(httpx.ReadError) as caught:
        ask(plan_of("ab", **options), Models({"a": ["One, ", error], "b": ["two.", DONE]}))
    assert caught.value is error


CALL: Chunk = {"text": "", "tool": "search"}
OTHER_CALL: Chunk = {"text": "", "tool": "fetch"}


def tools_of(chunks: Iterable[Chunk]) -> list[str]:
    return [chunk["tool"] for chunk in chunks if chunk.get("tool")]


@both_streams
@pytest.mark.parametrize("mid_stream", ["continue", "raise"])
@pytest.mark.parametrize("before", [[], [" "]], ids=["call first", "white space first"])
def test_a_tool_call_whose_stream_breaks_was_not_handed_out_so_the_next_model_is_asked_afresh(
    ask: Ask, before: list[Part], mid_stream: str
) -> None:
    models = Models({"a": [*before, CALL, httpx.ReadError("reset")], "b": [OTHER_CALL, DONE]})
    chunks = ask(plan_of("ab", mid_stream=mid_stream), models)
    assert tools_of(chunks) == ["fetch"]
    assert models.asked == [("a", ""), ("b", "")]
    assert chunks[-1]["route"]["model"] == "b"
    assert "continued_at" not in chunks[-1]["route"]


@both_streams
@pytest.mark.parametrize("broken", [[OSError("cut")], []], ids=["connection breaks", "stream ends without done"])
@pytest.mark.parametrize(
    "continuation",
    [
        ["search ", OTHER_CALL, DONE],
        [{"text": "search ", "tool": "fetch"}, DONE],
        [LONG, "search ", OTHER_CALL, DONE],
        ["fox jumps over search ", {"tool": "fetch", "done": True}],
    ],
    ids=["apart", "in one chunk", "begun anew", "repeated, with the last line"],
)
def test_text_before_a_tool_call_that_broke_off_is_gone_on_with(
    ask: Ask, continuation: list[Part], broken: list[Part]
) -> None:
    models = Models({"a": [LONG, CALL, *broken], "b": continuation})
    chunks = ask(plan_of("ab"), models)
    assert text_of(chunks) == LONG + "search "
    assert tools_of(chunks) == ["fetch"]
    assert models.asked == [("a", ""), ("b", LONG)]
    assert chunks[-1]["route"]["continued_at"] == len(LONG)


@both_streams
def test_a_continuation_that_is_a_tool_call_alone_is_handed_out(ask: Ask) -> None:
    models = Models({"a": [LONG, OSError("cut")], "b": [CALL, OTHER_CALL, DONE]})
    chunks = ask(plan_of("ab"), models)
    assert text_of(chunks) == LONG
    assert tools_of(chunks) == ["search", "fetch"]


@both_streams
def test_of_a_continuation_that_breaks_after_a_tool_call_its_text_is_kept_and_the_call_is_not(ask: Ask) -> None:
    models = Models(
        {"a": ["One, ", OSError("cut")], "b": ["two, ", CALL, OSError("cut")], "c": ["three.", OTHER_CALL, DONE]}
    )
    chunks = ask(plan_of("abc"), models)
    assert text_of(chunks) == "One, two, three."
    assert tools_of(chunks) == ["fetch"]
    assert models.asked == [("a", ""), ("b", "One, "), ("c", "One, two, ")]
    assert chunks[-1]["route"]["continued_at"] == [5, 10]


@both_streams
def test_a_continuation_of_which_nothing_was_handed_out_leaves_no_seam(ask: Ask) -> None:
    models = Models({"a": ["One, ", OSError("cut")], "b": [CALL, OSError("cut")], "c": ["two.", DONE]})
    chunks = ask(plan_of("abc"), models)
    assert text_of(chunks) == "One, two."
    assert tools_of(chunks) == []
    assert chunks[-1]["route"]["continued_at"] == 5


@both_streams
def test_what_follows_a_tool_call_keeps_its_order(ask: Ask) -> None:
    models = Models({"a": ["Wait. ", CALL, "There. ", {"thinking": "Hm"}, OTHER_CALL, DONE]})
    chunks = ask(plan_of("a"), models)
    own = {"route": None, "usage": None}
    assert [{**chunk, **own} for chunk in chunks] == [{**chunk, **own} for chunk in models.sent]


def test_a_tool_call_is_handed_out_with_the_last_line_and_text_before_it_at_once() -> None:
    models = Models({"a": ["Wait. ", CALL, DONE]})
    chunks = stream(plan_of("a"), models.stream, View())
    assert next(chunks) == {"text": "Wait. "}
    assert models.sent == [{"text": "Wait. "}]
    assert next(chunks) == CALL
    assert models.sent[-1] == DONE
    assert next(chunks)["done"]


def test_a_consumer_that_leaves_with_the_tool_call_has_had_the_whole_answer() -> None:
    plan, models = plan_of("ab"), Models({"a": [CALL, DONE], "b": []})
    chunks = stream(plan, models.stream, View())
    assert next(chunks) == CALL
    chunks.close()
    assert [record.outcome for record in plan.records] == [OutcomeKind.OK]


@both_streams
def test_with_nobody_left_a_broken_tool_call_is_the_models_own_error(ask: Ask) -> None:
    error = httpx.ReadTimeout("silence")
    with pytest.raises(httpx.ReadTimeout) as caught:
        ask(plan_of("a"), Models({"a": [CALL, error]}))
    assert caught.value is error


# A continuation that says nothing


@both_streams
@pytest.mark.parametrize("nothing", [[DONE], [" ", "\n", DONE], ["", DONE]], ids=["at once", "white", "empty"])
def test_a_continuation_that_says_nothing_is_followed_by_the_next(ask: Ask, nothing: list[Part]) -> None:
    models = Models({"a": ["One, ", OSError("cut")], "b": nothing, "c": ["two.", DONE]})
    chunks = ask(plan_of("abc"), models)
    assert text_of(chunks) == "One, two."
    assert models.asked[-1] == ("c", "One, ")
    assert [attempt["outcome"] for attempt in chunks[-1]["route"]["attempts"]] == ["failed", "failed", "ok"]
    assert chunks[-1]["route"]["continued_at"] == 5


@both_streams
def test_when_nobody_adds_anything_the_answer_ends_as_it_stands(ask: Ask) -> None:
    plan, models = plan_of("abc"), Models({"a": ["One.", OSError("cut")], "b": [" ", DONE], "c": [DONE]})
    chunks = ask(plan, models)
    assert text_of(chunks) == "One."
    assert chunks[-1]["done"]
    assert "continued_at" not in chunks[-1]["route"]
    assert [record.outcome for record in plan.records] == [OutcomeKind.FAILED] * 3


@both_streams
def test_what_was_empty_before_the_answer_began_does_not_end_it(ask: Ask) -> None:
    models = Models({"a": [" ", DONE], "b": ["One, ", OSError("cut")], "c": [OSError("cut")]})
    with pytest.raises(AllModelsFailedError):
        ask(plan_of("abc"), models)


@both_streams
def test_a_model_that_finds_its_message_open_and_ends_it_at_once_finds_the_answer_whole(ask: Ask) -> None:
    plan, models = plan_of("abc"), Models({"a": ["One.", OSError("cut")], "b": [DONE], "c": ["Two.", DONE]})
    plan.choices = [Choice(replace(choice.info, continues_prefill=True)) for choice in plan.choices]
    chunks = ask(plan, models)
    assert text_of(chunks) == "One."
    assert chunks[-1]["route"]["model"] == "b"
    assert [name for name, _ in models.asked] == ["a", "b"]


@both_streams
def test_the_reasoning_of_a_continuation_is_left_out_and_says_something_all_the_same(ask: Ask) -> None:
    thought: Chunk = {"thinking": "I am to go on."}
    models = Models({"a": [{"thinking": "Hm"}, LONG, OSError("cut")], "b": [thought, "the lazy", " dog.", DONE]})
    chunks = ask(plan_of("ab"), models)
    assert [chunk["thinking"] for chunk in chunks if chunk.get("thinking")] == ["Hm"]
    assert text_of(chunks) == LONG + "the lazy dog."


# What it took


def counted(prompt: int, output: int) -> Chunk:
    return {"done": True, "counts": (prompt, output)}


TASK = TaskCharacteristics(prompt_tokens=30)


def parts_of(chunks: list[Chunk]) -> list[tuple[Any, ...]]:
    names = ("model", "prompt_tokens", "output_tokens", "estimated")
    return [tuple(part.get(name) for name in names) for part in chunks[-1]["route"]["attempts"]]


@both_streams
def test_of_a_joined_answer_every_part_is_counted_and_what_is_estimated_says_so(ask: Ask) -> None:
    plan = plan_of("abcd")
    plan.recommendation = Recommendation("request", TASK, ())
    models = Models(
        {
            "a": ["", {"thinking": "Hm"}, "The quick ", "brown fox ", "jumps ", CALL, OSError("cut")],
            "b": [OSError("before a word")],
            "c": ["fox ", "jumps over ", "the ", "lazy ", OSError("cut")],
            "d": [{"thinking": "On"}, "dog", ".", counted(50, 4)],
        }
    )
    chunks = ask(plan, models)
    assert text_of(chunks) == "The quick brown fox jumps over the lazy dog."
    stood = estimate_tokens("The quick brown fox jumps ")
    assert parts_of(chunks) == [
        ("a", 30, 5, True),
        ("b", None, None, None),
        ("c", 30 + stood, 4, True),
        ("d", 50, 4, False),
    ]
    assert chunks[-1]["usage"] == (30 + 30 + stood + 50, 5 + 4 + 4)


@both_streams
def test_an_answer_that_one_model_gave_is_counted_by_its_server_alone(ask: Ask) -> None:
    models = Models({"a": [" ", OSError("cut")], "b": ["One.", counted(9, 1)]})
    chunks = ask(plan_of("ab"), models)
    assert chunks[-1]["usage"] is None
    assert parts_of(chunks) == [("a", None, None, None), ("b", None, None, None)]


@both_streams
def test_what_the_last_server_does_not_count_is_estimated_too(ask: Ask) -> None:
    models = Models({"a": ["One, ", OSError("cut")], "b": ["two", ".", DONE]})
    chunks = ask(plan_of("ab"), models)
    assert parts_of(chunks) == [("a", 0, 1, True), ("b", estimate_tokens("One, "), 2, True)]
    assert chunks[-1]["usage"] == (estimate_tokens("One, "), 3)


@both_streams
def test_what_a_fresh_answer_takes_the_place_of_has_no_part_in_it(ask: Ask) -> None:
    models = Models({"a": ["[1, ", OSError("cut")], "b": ["[1, 2]", counted(9, 3)]})
    chunks = ask(plan_of("ab", joinable=False), models, replaces=True)
    assert chunks[-1]["usage"] is None


def test_a_limit_holds_for_the_whole_answer() -> None:
    left: list[Any] = []

    def send(attempt: Attempt) -> Generator[Chunk]:
        left.append([attempt.left_of(limit) for limit in (100, 3, -1, None, "many")])
        yield from models.stream(attempt)

    models = Models(
        {
            "a": ["One, ", "two, ", "three, ", OSError("cut")],
            "b": ["two, ", "three, ", "four, ", "five, ", OSError("cut")],
            "c": ["six.", DONE],
        }
    )
    assert text_of(stream(plan_of("abc"), send, View())) == "One, two, three, four, five, six."
    assert left[0] == [100, 3, -1, None, "many"]
    assert left[1] == [97, 1, -1, None, "many"]
    assert left[2] == [97 - estimate_tokens("four, five, "), 1, -1, None, "many"]


# Chunks that replace what stood before


@both_streams
def test_where_each_chunk_stands_for_all_before_a_fresh_answer_follows_one_that_broke_off(ask: Ask) -> None:
    models = Models({"a": ["[1, ", OSError("cut")], "b": ["[1, 2, ", OSError("cut")], "c": ["[1, 2, 3]", DONE]})
    chunks = ask(plan_of("abc", joinable=False), models, replaces=True)
    assert [chunk["text"] for chunk in chunks if "text" in chunk] == ["[1, ", "[1, 2, ", "[1, 2, 3]"]
    assert [continues for _, continues in models.asked] == ["", "", ""]
    assert chunks[-1]["route"]["model"] == "c"
    assert "continued_at" not in chunks[-1]["route"]


@both_streams
@pytest.mark.parametrize("options", [{"mid_stream": "raise"}, {}], ids=str)
def test_a_replaceable_answer_is_raised_when_asked_for_or_when_nobody_is_left(ask: Ask, options: Any) -> None:
    error = httpx.ReadTimeout("silence")
    with pytest.raises(httpx.ReadTimeout) as caught:
        ask(plan_of("ab" if options else "a", **options), Models({"a": ["[1, ", error], "b": []}), replaces=True)
    assert caught.value is error


@both_streams
def test_a_model_that_broke_off_only_to_think_is_followed_by_a_fresh_answer(ask: Ask) -> None:
    models = Models({"a": [{"thinking": "Hm"}, httpx.ReadError("reset")], "b": ["Four.", DONE]})
    chunks = ask(plan_of("ab"), models)
    assert text_of(chunks) == "Four."
    assert models.asked[1] == ("b", "")


@both_streams
def test_reasoning_that_broke_off_is_followed_by_a_fresh_answer_where_no_text_could_be_joined(ask: Ask) -> None:
    models = Models({"a": [{"thinking": "Hm"}, OSError("cut")], "b": ["{}", DONE]})
    assert text_of(ask(plan_of("ab", joinable=False), models)) == "{}"


@both_streams
def test_a_connection_that_breaks_after_the_last_line_breaks_nothing(ask: Ask) -> None:
    plan, models = plan_of("ab"), Models({"a": ["One.", DONE, httpx.ReadError("reset")], "b": ["Two.", DONE]})
    chunks = ask(plan, models)
    assert text_of(chunks) == "One."
    assert models.asked == [("a", "")]
    assert [record.outcome for record in plan.records] == [OutcomeKind.OK]


pieces = st.lists(st.text("ab \n", min_size=1, max_size=8), min_size=1, max_size=6)


@given(pieces, st.integers(0, 6), pieces)
def test_the_whole_is_what_was_handed_out_and_what_was_added(first: list[str], cut: int, second: list[str]) -> None:
    """Whatever is trimmed is an end of what stood already: no other character is lost, none is doubled."""
    models = Models({"a": [*first[:cut], OSError("cut")], "b": [*second, DONE]})
    plan = plan_of("ab")
    try:
        whole = text_of(stream(plan, models.stream, View()))
    except AllModelsFailedError:
        assert not "".join(second).strip()
        return
    emitted = "".join(first[:cut])
    if not emitted.strip():  # nothing was handed out: a fresh answer, or the empty one where both had none
        assert whole == "".join(second)
        return
    added = "".join(second)
    assert whole.startswith(emitted)
    rest = whole[len(emitted) :]
    assert added.endswith(rest)
    repeated = added[: len(added) - len(rest)]
    assert repeated == "" or emitted.endswith(repeated) or repeated == emitted


# hold


@both_streams
def test_an_answer_that_must_be_checked_is_handed_out_whole_or_not_at_all(ask: Ask) -> None:
    plan = plan_of("ab")
    models = Models({"a": ["half", httpx.ReadError("reset")], "b": ["who", "le", DONE]})
    chunks = ask(plan, models, hold=True)
    assert text_of(chunks) == "whole"
    assert "continued_at" not in chunks[-1]["route"]
    assert models.asked == [("a", ""), ("b", "")]


def test_nothing_is_handed_out_of_a_held_answer_before_its_last_line() -> None:
    models = Models({"a": ["who", "le", DONE]})
    chunks = stream(plan_of("a"), models.stream, View(), hold=True)
    next(chunks)
    assert models.sent[-1] == DONE
    chunks.close()


# Leaving early


def test_a_consumer_that_leaves_blames_nobody_and_the_models_stream_is_closed() -> None:
    plan, models = plan_of("ab"), Models({"a": ["One, ", "two, ", DONE], "b": []})
    chunks = stream(plan, models.stream, View())
    next(chunks)
    chunks.close()
    assert models.closed == ["a"]
    assert [record.outcome for record in plan.records] == [OutcomeKind.CANCELLED]
    assert [name for name, _ in models.asked] == ["a"]


async def test_an_async_consumer_that_leaves_blames_nobody_and_the_models_stream_is_closed() -> None:
    plan, models = plan_of("ab"), Models({"a": ["One, ", "two, ", DONE], "b": []})
    async with aclosing(astream(plan, models.astream, View())) as chunks:
        await anext(chunks)
    assert models.closed == ["a"]
    assert [record.outcome for record in plan.records] == [OutcomeKind.CANCELLED]


async def test_a_consumer_that_leaves_on_the_last_line_has_had_the_whole_answer() -> None:
    plan, models = plan_of("a"), Models({"a": ["One.", DONE]})
    for chunk in stream(plan, models.stream, View()):
        if chunk.get("done"):
            break
    del chunk
    assert [record.outcome for record in plan.records] == [OutcomeKind.OK]
    plan = plan_of("a")
    async with aclosing(astream(plan, models.astream, View())) as chunks:
        async for chunk in chunks:
            if chunk.get("done"):
                break
    assert [record.outcome for record in plan.records] == [OutcomeKind.OK]


async def test_a_task_that_is_cancelled_blames_nobody() -> None:
    waiting = asyncio.Event()

    async def never(_attempt: Attempt) -> str:
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    plan = plan_of("ab")
    task = asyncio.create_task(acall(plan, never))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [record.outcome for record in plan.records] == [OutcomeKind.CANCELLED]


async def test_a_task_that_is_cancelled_after_the_last_line_is_still_cancelled() -> None:
    reached = asyncio.Event()

    async def lingers(_attempt: Attempt) -> AsyncGenerator[Chunk]:
        yield {"text": "One."}
        yield DONE
        reached.set()
        await asyncio.Event().wait()

    plan = plan_of("ab")

    async def consume() -> list[Chunk]:
        return [chunk async for chunk in astream(plan, lingers, View())]

    task = asyncio.create_task(consume())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [record.model for record in plan.records] == ["a"]


async def test_a_stream_nobody_began_asks_nobody() -> None:
    plan, models = plan_of("a"), Models({"a": ["One.", DONE]})
    stream(plan, models.stream, View()).close()
    await astream(plan, models.astream, View()).aclose()
    assert models.asked == []
    assert plan.records == []


# The route


@both_streams
def test_the_last_chunk_and_no_other_carries_the_route(ask: Ask) -> None:
    chunks = ask(plan_of("a"), Models({"a": ["One, ", "two.", DONE]}))
    assert ["route" in chunk for chunk in chunks] == [False, False, True]
    route = chunks[-1]["route"]
    assert json.loads(json.dumps(route)) == route
    assert (route["model"], route["host"], route["request_id"]) == ("a", "http://one", "request")
    assert route["attempts"] == [
        {
            "model": "a",
            "host": "http://one",
            "outcome": "ok",
            "error": None,
            "seconds": 0.0,
            "load_seconds": None,
            "first_token_seconds": None,
        }
    ]


class Weighed(dict[str, Any]):
    """A chunk of which it can be told whether somebody still has it."""


def test_a_stream_keeps_the_text_it_has_handed_out_and_not_the_chunks() -> None:
    sent: list[weakref.ref[Weighed]] = []

    def send(_attempt: Attempt) -> Generator[Chunk]:
        for at in range(100):
            chunk = Weighed(text=f"{at} ")
            sent.append(weakref.ref(chunk))
            yield chunk
            del chunk
        yield DONE

    left = [sum(chunk() is not None for chunk in sent) for _ in stream(plan_of("a"), send, View())]
    assert max(left) <= 3  # in the hands of the model, of the loop, of the reader
