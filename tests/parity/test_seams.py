"""An answer that one model begins and another ends, over the wire: the text, what it took, its limits and its thoughts.

The same in both frameworks and in the core's agent, on both streaming paths. Which repetitions are left out at the seam
is the matter of ``tests/core/test_continuation.py``; here it is seen that they are, by every framework.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from columns import COLUMNS, FRAMEWORKS, SILENT, Ask, LangChain, LlamaIndex
from fault_table import BAD, GOOD
from langchain_core.callbacks import UsageMetadataCallbackHandler
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler

from routed_ollama import OutcomeKind, Router, TaskType, estimate_tokens
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel
from routed_ollama.testing.engine import Piece

THIRD = "third:1b"
FOX = "The quick brown fox jumps over the lazy dog."
PROMPT = "Say the sentence with the fox"


async def collected(column, llm, ask):
    return [chunk async for chunk in await column.astream(llm, ask)]


STREAMS = {
    "stream": lambda column, llm, ask: list(column.stream(llm, ask)),
    "stream, async": lambda column, llm, ask: asyncio.run(collected(column, llm, ask)),
}
streams = pytest.mark.parametrize("path", STREAMS.values(), ids=STREAMS)
columns = pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)


class Play:
    """Models of which each has the next go on where it breaks off, asked in their order; and what comes of it."""

    def __init__(self, server, column, names, **options):
        self.server = server
        self.recorded = []
        config = {"health": {"interval": 0}, "task_specific_models": {"general": list(names)}, **SILENT}
        self.router = Router(base_url=server.url, store="memory", config=config)
        record = self.router.record
        self.router.record = lambda outcome: (self.recorded.append(outcome), record(outcome))
        if column.name == "LlamaIndex" and options:
            options = {"additional_kwargs": options}
        self.column, self.llm = column, column.make(self.router, models=list(names), **options)

    def ask(self, path, **how):
        call = {"task_type": TaskType.GENERAL, **how.pop("call", {})}
        self.chunks = path(self.column, self.llm, Ask((PROMPT,), call=call, **how))
        return self.column.read(self.chunks)

    @property
    def bodies(self):
        return [request.body for request in self.server.requests if request.path == "/api/chat"]


def tokens_of(column, seen, last):
    """The usage that a framework shows for a whole answer: of the prompt, of the answer, and of both."""
    if column.name == "LangChain":
        usage = seen.message.usage_metadata
        return usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]
    if column.name == "LlamaIndex":
        usage = last.raw["usage"]
        return usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]
    return last.prompt_tokens, last.output_tokens, last.prompt_tokens + last.output_tokens


# The text

SAID = {
    "goes on": (" over the lazy dog.", FOX),
    "repeats the last words": ("fox jumps over the lazy dog.", FOX),
    "repeats the last word": ("jumps over the lazy dog.", FOX),
    "repeats the whole": (FOX, FOX),
    "repeats the whole with other white space": ("The quick\nbrown fox\njumps over the lazy dog.", FOX),
    "introduces it": ("Sure, continuing from where I was cut off:\n\nfox jumps over the lazy dog.", FOX),
    "repeats and ends": ("The quick brown fox jumps", "The quick brown fox jumps"),
    "other scripts": (
        " über die 谢谢 👨\u200d👩\u200d👧.",
        "The quick brown fox jumps über die 谢谢 👨\u200d👩\u200d👧.",
    ),
}


@streams
@columns
@pytest.mark.parametrize(("said", "whole"), SAID.values(), ids=SAID)
def test_the_text_is_what_was_handed_out_and_what_was_added(column, path, said, whole):
    with OllamaServer([ScriptedModel(BAD, FOX), ScriptedModel(GOOD, said)]) as server:
        server.fail(BAD, Fault.CLOSE, after_chunks=5)
        seen = Play(server, column, [BAD, GOOD]).ask(path)
    assert seen.text == whole
    assert seen.routing["model"] == GOOD
    assert seen.routing["continued_at"] == len("The quick brown fox jumps")


CODE = "Here you are:\n```python\ndef add(a, b):\n    return a + b\n```\nThat is all."


@streams
@columns
@pytest.mark.parametrize("cut", range(1, len(CODE), 7))
def test_code_is_whole_wherever_its_first_model_breaks_off(column, path, cut):
    """In the midst of a fence, of its language, of a line, of a word; the next model begins with everything."""
    with OllamaServer([ScriptedModel(BAD, [CODE[:cut], CODE[cut:]]), ScriptedModel(GOOD, list(CODE))]) as server:
        server.fail(BAD, Fault.END_WITHOUT_DONE, after_chunks=1)
        assert Play(server, column, [BAD, GOOD]).ask(path).text == CODE


@streams
@columns
@pytest.mark.parametrize("opens", [True, False], ids=["prefill", "asked"])
def test_several_seams_are_one_text(column, path, opens):
    replies = {BAD: FOX, GOOD: " over the moon and far away", THIRD: " the lazy dog."}
    models = [ScriptedModel(name, reply, continues_prefill=opens) for name, reply in replies.items()]
    with OllamaServer(models) as server:
        server.fail(BAD, Fault.CRASH, after_chunks=5)
        server.fail(GOOD, Fault.END_WITHOUT_DONE, after_chunks=1)
        play = Play(server, column, [BAD, GOOD, THIRD])
        seen = play.ask(path)
    assert seen.text == FOX
    assert seen.routing["continued_at"] == [len("The quick brown fox jumps"), len("The quick brown fox jumps over")]
    sent = [body["messages"][1:] for body in play.bodies]
    assert [[message["role"] for message in each] for each in sent] == [
        [],
        *([["assistant"]] * 2 if opens else [["assistant", "user"]] * 2),
    ]
    assert [each[0]["content"] for each in sent[1:]] == ["The quick brown fox jumps", "The quick brown fox jumps over"]
    if not opens:
        assert sent[1][1]["content"].endswith("Its last words are:\n\nThe quick brown fox jumps")


# What it took


def joined(column, path):
    """Two models break off, the third ends it; return what is told of it as plain values."""
    replies = {BAD: FOX, GOOD: "brown fox jumps over the moon and far away", THIRD: "over the lazy dog."}
    with OllamaServer([ScriptedModel(name, reply) for name, reply in replies.items()]) as server:
        server.fail(BAD, Fault.CRASH, after_chunks=4)
        server.fail(GOOD, Fault.CUT, after_chunks=5)
        play = Play(server, column, [BAD, GOOD, THIRD])
        seen = play.ask(path)
    parts = [
        (each["model"], each["prompt_tokens"], each["output_tokens"], each["estimated"])
        for each in seen.routing["attempts"]
    ]
    recorded = [(one.model, one.kind, one.prompt_tokens, one.output_tokens, one.quality) for one in play.recorded]
    return seen, parts, tokens_of(column, seen, play.chunks[-1]), recorded, play.chunks[-1]


@streams
def test_every_models_tokens_are_counted_and_what_is_estimated_says_so(path):
    with ThreadPoolExecutor(len(COLUMNS)) as threads:
        played = list(threads.map(lambda column: joined(column, path), COLUMNS))
    for seen, parts, usage, recorded, _ in played:
        assert seen.text == FOX
        (_, first, *_), (_, second, *_), (_, third, *_) = parts
        assert parts == [(BAD, first, 4, True), (GOOD, second, 5, True), (THIRD, third, 4, False)]
        assert first == played[0][1][0][1] > 0
        assert second == first + estimate_tokens("The quick brown fox")
        assert usage == (first + second + third, 4 + 5 + 4, first + second + third + 4 + 5 + 4)
        assert recorded == [
            (BAD, OutcomeKind.FAILED, None, None, None),
            (GOOD, OutcomeKind.FAILED, None, None, None),
            (THIRD, OutcomeKind.OK, third, 4, None),  # the end of an answer is none, so nobody judges it
        ]
    assert all((parts, usage, recorded) == played[0][1:4] for _, parts, usage, recorded, _ in played)


@streams
@pytest.mark.parametrize("column", FRAMEWORKS, ids=lambda column: column.name)
def test_what_the_last_server_told_stays_as_it_told_it(column, path):
    """Its durations go with its own counts; the speed of a model is not made of another's tokens."""
    seen, parts, _, _, last = joined(column, path)
    told = seen.message.response_metadata if column.name == "LangChain" else last.raw
    assert (told["prompt_eval_count"], told["eval_count"]) == parts[-1][1:3]


@streams
@columns
def test_an_answer_of_one_model_has_its_servers_own_figures_and_no_others(column, path):
    with OllamaServer([ScriptedModel(BAD, FOX), ScriptedModel(GOOD, FOX)]) as server:
        server.fail(BAD, Fault.SERVER_ERROR)
        seen = Play(server, column, [BAD, GOOD]).ask(path)
    for each in seen.routing["attempts"]:
        assert not each.keys() & {"prompt_tokens", "output_tokens", "estimated"}


@streams
def test_langchains_usage_handler_counts_every_model_and_llamaindexs_counter_those_that_have_figures(path):
    """The first hears the whole answer, the second each model; of one that broke off LlamaIndex counts nothing."""
    usage, counter = UsageMetadataCallbackHandler(), TokenCountingHandler(tokenizer=str.split)
    answers = {}
    for column in FRAMEWORKS:
        with OllamaServer([ScriptedModel(BAD, FOX), ScriptedModel(GOOD, FOX)]) as server:
            server.fail(BAD, Fault.CLOSE, after_chunks=4)
            play = Play(server, column, [BAD, GOOD])
            if column.name == "LangChain":
                play.llm.callbacks = [usage]
            else:
                play.llm.callback_manager = CallbackManager([counter])
            answers[column.name] = play.ask(path).routing["attempts"]
    (counted,) = usage.usage_metadata.values()
    broken, whole = answers["LangChain"]
    assert counted["output_tokens"] == broken["output_tokens"] + whole["output_tokens"] == 4 + 9
    assert counted["input_tokens"] == broken["prompt_tokens"] + whole["prompt_tokens"]
    assert counter.completion_llm_token_count == answers["LlamaIndex"][1]["output_tokens"]
    assert counter.prompt_llm_token_count == answers["LlamaIndex"][1]["prompt_tokens"]


# Its limits


@streams
@columns
def test_a_limit_holds_for_the_whole_answer(column, path):
    rest = " over the lazy dog and over everything else that there is"
    with OllamaServer([ScriptedModel(BAD, FOX), ScriptedModel(GOOD, rest)]) as server:
        server.fail(BAD, Fault.CLOSE, after_chunks=5)
        play = Play(server, column, [BAD, GOOD], num_predict=8, stop=["END"], top_k=7)
        seen = play.ask(path)
    assert seen.text == "The quick brown fox jumps over the lazy"
    first, second = (body["options"] for body in play.bodies)
    assert (first["num_predict"], second["num_predict"]) == (8, 3)
    assert {**first, "num_predict": 3} == second
    assert second["stop"] == ["END"]


@streams
@columns
def test_a_stop_sequence_ends_a_continuation_too(column, path):
    with OllamaServer([ScriptedModel(BAD, FOX), ScriptedModel(GOOD, " over END and more")]) as server:
        server.fail(BAD, Fault.CLOSE, after_chunks=5)
        seen = Play(server, column, [BAD, GOOD], stop=["END"]).ask(path)
    assert seen.text.rstrip() == "The quick brown fox jumps over"


@streams
@pytest.mark.parametrize("stop", [{"stop": ["END"]}, {"options": {"num_predict": 8, "stop": ["END"]}}], ids=str)
def test_langchains_options_of_a_call_are_kept(path, stop):
    with OllamaServer([ScriptedModel(BAD, FOX), ScriptedModel(GOOD, " over END and more")]) as server:
        server.fail(BAD, Fault.CLOSE, after_chunks=5)
        play = Play(server, LangChain(), [BAD, GOOD], **({} if "options" in stop else {"num_predict": 8}))
        play.ask(path, call=stop)
    assert [(body["options"]["num_predict"], body["options"]["stop"]) for body in play.bodies] == [
        (8, ["END"]),
        (3, ["END"]),
    ]


# Its thoughts

THOUGHT = "Let me see."


def thinking(**more):
    return [ScriptedModel(BAD, FOX, thinking=THOUGHT), ScriptedModel(GOOD, FOX, thinking="I am to go on.", **more)]


@streams
@columns
def test_what_goes_on_does_not_think_again(column, path):
    with OllamaServer(thinking()) as server:
        server.fail(BAD, Fault.CLOSE, after_chunks=3 + 4)
        play = Play(server, column, [BAD, GOOD])
        seen = play.ask(path, think=True)
    assert (seen.text, seen.thinking) == (FOX, THOUGHT)
    assert [body.get("think") for body in play.bodies] == [True, False]
    assert seen.routing["continued_at"] == len("The quick brown fox")
    assert [each["output_tokens"] for each in seen.routing["attempts"]] == [3 + 4, 9]


@streams
@columns
def test_a_model_that_thinks_all_the_same_keeps_its_thoughts_to_itself(column, path):
    obstinate = ScriptedModel(GOOD, [Piece(thinking="On."), FOX], capabilities=["completion", "thinking"])
    with OllamaServer([ScriptedModel(BAD, FOX, thinking=THOUGHT), obstinate]) as server:
        server.fail(BAD, Fault.CLOSE, after_chunks=3 + 4)
        seen = Play(server, column, [BAD, GOOD]).ask(path, think=True)
    assert (seen.text, seen.thinking) == (FOX, THOUGHT)


@streams
@columns
def test_one_that_broke_off_in_its_thoughts_is_followed_by_a_fresh_answer(column, path):
    with OllamaServer(thinking()) as server:
        server.fail(BAD, Fault.CLOSE, after_chunks=2)
        play = Play(server, column, [BAD, GOOD])
        seen = play.ask(path, think=True)
    assert seen.text == FOX
    assert seen.thinking == "Let me" + "I am to go on."
    assert "continued_at" not in seen.routing
    assert [len(body["messages"]) for body in play.bodies] == [1, 1]
    assert [body.get("think") for body in play.bodies] == [True, True]
    broken, whole = seen.routing["attempts"]
    assert (broken["output_tokens"], broken["estimated"], whole["estimated"]) == (2, True, False)


@streams
def test_the_blocks_of_llamaindex_hold_the_whole_answer(path):
    with OllamaServer(thinking()) as server:
        server.fail(BAD, Fault.CLOSE, after_chunks=3 + 4)
        seen = Play(server, LlamaIndex(), [BAD, GOOD]).ask(path, think=True)
    thought, text = seen.message.blocks
    assert (thought.content, text.text) == (THOUGHT, FOX)
