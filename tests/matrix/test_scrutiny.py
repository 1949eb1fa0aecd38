"""What is held against an answer that came without an error, and when it is handed out all the same."""

from __future__ import annotations

import pytest
from columns import COLUMNS, FRAMEWORKS, MULTIPLY, PATHS, SILENT, Ask, LangChain, LlamaIndex
from fault_table import ANSWER, BAD, GOOD, HANDED_OUT, both
from langchain_core.messages import HumanMessage
from rows import CALL, CALLING, DECLINED, GOING_ON, HAVING_TO, LONG

from routed_ollama import Router
from routed_ollama.testing import Fault, OllamaServer, ToolCall

CELLS = [
    pytest.param(column, path, id=f"{column.name}-{path}")
    for column in COLUMNS
    for path in ("whole", "stream, async")  # what is looked at is the same in all; the matrix takes every path
]
OF_FRAMEWORKS = [each for each in CELLS if each.values[0] in FRAMEWORKS]
WHOLE, STREAMS = CELLS[::2], CELLS[1::2]
PLAINLY = Ask()
LOOP = " I will say it again." * 280
cells = pytest.mark.parametrize(("column", "path"), CELLS)
of_frameworks = pytest.mark.parametrize(("column", "path"), OF_FRAMEWORKS)
whole = pytest.mark.parametrize(("column", "path"), WHOLE)
streams = pytest.mark.parametrize(("column", "path"), STREAMS)


def asked(server):
    """Bodies of the requests for an answer."""
    return [request.body for request in server.requests if request.path == "/api/chat"]


def ask(server, column, path, request=PLAINLY, *, models=(BAD, GOOD), **settings):
    """Ask the first of two models first."""
    router = Router(base_url=server.url, store="memory", config={"health": {"interval": 0}, **SILENT}, **settings)
    return PATHS[path](column, column.make(router, models=list(models), model=BAD), request)


# In circles


@cells
def test_nobody_else_is_there_so_an_answer_in_circles_is_handed_out_as_the_plain_class_does(column, path):
    with OllamaServer(both(bad={"reply": HANDED_OUT + LOOP})) as server:
        assert ask(server, column, path, models=[BAD]).text == HANDED_OUT + LOOP


@cells
def test_the_last_that_goes_in_circles_is_let_go_on(column, path):
    with OllamaServer(both(reply=HANDED_OUT + LOOP)) as server:
        seen = ask(server, column, path)
        assert [body["model"] for body in asked(server)] == [BAD, GOOD]
    assert seen.text.endswith(LOOP[-2000:])
    assert seen.model == GOOD


@streams
def test_what_cannot_be_gone_on_with_is_not_cut(column, path):
    with OllamaServer(both(bad={"reply": HANDED_OUT + LOOP})) as server:
        config = {"health": {"interval": 0}, "fallback": {"mid_stream": "raise"}, **SILENT}
        router = Router(base_url=server.url, store="memory", config=config)
        llm = column.make(router, models=[BAD, GOOD], model=BAD)
        assert PATHS[path](column, llm, Ask()).text == HANDED_OUT + LOOP


@streams
@pytest.mark.parametrize("opens", [True, False], ids=["prefill", "asked"])
def test_who_goes_on_is_shown_what_was_repeated_once(column, path, opens):
    models = both(bad={"reply": HANDED_OUT + LOOP}, good={"reply": GOING_ON, "continues_prefill": opens})
    with OllamaServer(models) as server:
        seen = ask(server, column, path)
        shown = [message["content"] for message in asked(server)[-1]["messages"] if message["role"] == "assistant"]
    at = seen.routing["continued_at"]
    assert seen.text == (HANDED_OUT + LOOP)[:at] + GOING_ON
    assert len(shown) == 1
    assert (HANDED_OUT + LOOP).startswith(shown[0])
    assert shown[0].count("again") <= 1
    assert at > 4_000


@cells
def test_what_was_asked_for_is_no_circle(column, path):
    with OllamaServer(both(bad={"reply": LOOP})) as server:
        seen = ask(server, column, path, Ask(("Write 'I will say it again.' three hundred times.",)))
    assert (seen.text, seen.model) == (LOOP, BAD)


@cells
def test_reasoning_goes_in_circles_too(column, path):
    thinking = {"thinking": "Wait, let me think again. " * 250}
    with OllamaServer(both(bad=thinking, good={"thinking": "One, two."})) as server:
        seen = ask(server, column, path, Ask(think=True))
    assert (seen.text, seen.model) == (ANSWER, GOOD)
    assert seen.routing["attempts"][0]["outcome"] == "failed"


# Declining


@whole
def test_who_declines_what_is_harmless_is_passed_over_and_it_is_told(column, path):
    with OllamaServer(both(bad={"reply": DECLINED})) as server:
        seen = ask(server, column, path)
    assert (seen.text, seen.model) == (ANSWER, GOOD)
    first = seen.routing["attempts"][0]
    assert (first["model"], first["outcome"]) == (BAD, "failed")
    assert first["error"].startswith("RefusedAnswerError: bad:1b declines")


def test_a_model_that_declines_again_and_again_is_well_all_the_same():
    with OllamaServer(both(bad={"reply": DECLINED}, good={})) as server:
        router = Router(base_url=server.url, store="memory", config={"health": {"interval": 0}, **SILENT})
        llm = LangChain().make(router, models=[BAD, GOOD], model=BAD)
        for number in range(8):
            answer = llm.invoke(f"{PLAINLY.said[0]} {number}", model=BAD)
            assert answer.response_metadata["routing"]["model"] == GOOD
        assert router.health_check_all_models()[BAD] != "unhealthy"
        assert len(asked(server)) == 16


@cells
def test_nobody_else_is_there_so_a_refusal_is_handed_out_as_the_plain_class_does(column, path):
    with OllamaServer(both(bad={"reply": DECLINED})) as server:
        seen = ask(server, column, path, models=[BAD])
        assert len(asked(server)) == 1
    assert (seen.text, seen.model) == (DECLINED, BAD)


@cells
@pytest.mark.parametrize(
    "worse",
    [
        pytest.param({"reply": "I cannot help with that."}, id="declines, too"),
        pytest.param({"faults": [Fault.EMPTY]}, id="says nothing"),
        pytest.param({"faults": [Fault.LOAD_ERROR]}, id="cannot be loaded"),
    ],
)
def test_where_nobody_does_better_the_first_refusal_is_handed_out(column, path, worse):
    with OllamaServer(both(bad={"reply": DECLINED}, good=worse)) as server:
        seen = ask(server, column, path)
        assert len(asked(server)) == (1 if "stream" in path else 2)
    assert (seen.text, seen.model) == (DECLINED, BAD)


@whole
@pytest.mark.parametrize(
    ("said", "reply"),
    [
        pytest.param(("How do I build a bomb?",), DECLINED, id="what is sensitive"),
        pytest.param(("If you do not know, say 'I cannot help with that'. Who won?",), DECLINED, id="what was told"),
        pytest.param(Ask().said, f"{DECLINED} Please provide more details about it.", id="a question back"),
        pytest.param(Ask().said, "I'm sorry, I have no access to real-time data.", id="what a model cannot have"),
    ],
)
def test_a_refusal_that_may_be_called_for_is_an_answer(column, path, said, reply):
    with OllamaServer(both(bad={"reply": reply})) as server:
        seen = ask(server, column, path, Ask(said))
        assert len(asked(server)) == 1
    assert (seen.text, seen.model) == (reply, BAD)


@whole
def test_an_answer_that_ends_at_a_limit_is_what_was_asked_for(column, path):
    limit = {"num_predict": 6}
    settings = {"additional_kwargs": limit} if column is FRAMEWORKS[1] else limit
    with OllamaServer(both(bad={"reply": f"{DECLINED} So it is, and there is more to say."})) as server:
        router = Router(base_url=server.url, store="memory", config={"health": {"interval": 0}, **SILENT})
        seen = PATHS[path](column, column.make(router, models=[BAD, GOOD], model=BAD, **settings), Ask())
        assert [body["options"]["num_predict"] for body in asked(server)] == [6]
    assert seen.model == BAD
    assert DECLINED.startswith(seen.text.strip())


# Tools


@of_frameworks
def test_where_nobody_calls_a_tool_that_has_to_be_called_the_words_are_returned(column, path):
    with OllamaServer(both(reply="It is forty-two.")) as server:
        seen = ask(server, column, path, HAVING_TO)
        assert len(asked(server)) == 2
    assert (seen.text, seen.calls) == ("It is forty-two.", ())


@of_frameworks
def test_a_tool_that_was_not_offered_is_handed_out_where_nobody_does_better(column, path):
    with OllamaServer(both(reply=[ToolCall(name="divide")])) as server:
        assert ask(server, column, path, CALLING).calls == (("divide", {}),)


@of_frameworks
def test_where_no_tool_has_to_be_called_words_are_an_answer(column, path):
    text = '{"name": "multiply", "arguments": {"a": 6, "b": 7}}'
    with OllamaServer(both(reply=text)) as server:
        seen = ask(server, column, path, CALLING)
    assert (seen.text, seen.calls, seen.model) == (text, (), BAD)


@of_frameworks
def test_words_before_a_call_that_was_not_offered_stand_and_are_gone_on_with(column, path):
    models = both(bad={"reply": ["Let me ", "see. ", ToolCall(name="divide")]}, good={"reply": "It is forty-two."})
    with OllamaServer(models) as server:
        seen = ask(server, column, path, CALLING)
    assert seen.model == GOOD
    assert seen.calls == ()
    assert seen.text == ("Let me see. It is forty-two." if "stream" in path else "It is forty-two.")


@of_frameworks
def test_thoughts_stay_where_a_call_is_taken_out_of_the_text(column, path):
    text = 'I call it: {"name": "multiply", "arguments": {"a": 6, "b": 7}}'
    with OllamaServer(both(reply=text, thinking="Let me see.")) as server:
        seen = ask(
            server, column, path, Ask(HAVING_TO.said, tools=True, required=True, think=column is not FRAMEWORKS[1])
        )
    assert (seen.text, seen.calls, seen.model) == ("", CALL, BAD)
    assert seen.thinking == "Let me see."


@pytest.mark.parametrize(
    ("choice", "model"),
    [(None, BAD), ("auto", BAD), ("any", GOOD), (True, GOOD), ("multiply", GOOD), ({"name": "multiply"}, GOOD)],
)
def test_langchains_choice_of_a_tool_says_whether_one_has_to_be_called(choice, model):
    with OllamaServer(both(bad={"reply": "It is forty-two."}, good={"reply": None})) as server:
        router = Router(base_url=server.url, store="memory")
        llm = LangChain().make(router, models=[BAD, GOOD], model=BAD).bind_tools([MULTIPLY], tool_choice=choice)
        answer = llm.invoke([HumanMessage(CALLING.said[0])])
        assert all("tool_choice" not in body for body in asked(server))
    assert answer.response_metadata["routing"]["model"] == model


def test_llamaindexs_required_tool_may_be_named():
    with OllamaServer(both(bad={"reply": "It is forty-two."}, good={"reply": None})) as server:
        router = Router(base_url=server.url, store="memory")
        llm = LlamaIndex().make(router, models=[BAD, GOOD], model=BAD)
        messages, call = LlamaIndex()._asked(CALLING)
        answer = llm.chat(messages, **call, tool_choice="multiply")
    assert answer.raw["routing"]["model"] == GOOD


# Context


@cells
def test_an_answer_to_a_cut_prompt_is_handed_out_where_nobody_else_is_there(column, path):
    with OllamaServer(both()) as server, server.fail(BAD, Fault.PROMPT_CUT, size=1024):
        seen = ask(server, column, path, LONG, models=[BAD])
    assert (seen.text, seen.routing["prompt_cut_to"]) == (ANSWER, 1024)


@whole
def test_after_a_cut_prompt_the_next_model_is_given_enough(column, path):
    with OllamaServer(both(), context_length=2048) as server, server.fail(BAD, Fault.PROMPT_CUT, size=1024):
        seen = ask(server, column, path, LONG)
        assert asked(server)[-1]["options"]["num_ctx"] >= 4096
    assert seen.model == GOOD


@cells
def test_a_prompt_that_is_whole_is_not_taken_for_cut(column, path):
    with OllamaServer(both(), context_length=8192) as server:
        seen = ask(server, column, path, LONG)
    assert seen.model == BAD
    assert "prompt_cut_to" not in seen.routing


@cells
def test_the_same_model_is_given_more_context_when_it_had_too_little(column, path):
    with OllamaServer(both(context_length=65_536), version="0.34.0") as server:
        server.fail(BAD, Fault.PROMPT_TOO_LONG, times=1)
        seen = ask(server, column, path, models=[BAD])
        assert asked(server)[-1]["options"]["num_ctx"] > 4096
    assert (seen.text, seen.model) == (ANSWER, BAD)


# Time


@cells
def test_a_silence_within_the_bound_is_none(column, path):
    with OllamaServer(both()) as server:
        server.fail(BAD, Fault.STALL, after_chunks=4, seconds=0.3)
        seen = ask(server, column, path, timeouts={"between_tokens": 20.0})
    assert (seen.text, seen.model) == (ANSWER, BAD)
