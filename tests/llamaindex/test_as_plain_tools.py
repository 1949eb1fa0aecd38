"""Tools: what is sent, what is called, what is an error, as in the plain class; with and without a dead model first."""

import asyncio
import copy
import inspect

import pytest
from asking import AFTER_LOAD, ALONE, KINDS, PLAIN, bodies, calls_in, collect, subject_of
from llama_index.core.agent.react import ReActChatFormatter, ReActOutputParser
from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from routed_ollama.testing import ToolCall

ASK = "What is multiply of 6 and 7?"
WITH_TOOLS = ["chat_with_tools", "achat_with_tools", "stream_chat_with_tools", "astream_chat_with_tools"]
AND_CALL = ["predict_and_call", "apredict_and_call"]
TWO = [ToolCall(name="multiply", arguments={"a": 6, "b": 7}), ToolCall(name="sing", arguments={"title": "Rain"})]
kinds = pytest.mark.parametrize("kind", KINDS)
ways = pytest.mark.parametrize("method", WITH_TOOLS)
and_call = pytest.mark.parametrize("method", AND_CALL)


class Sung(BaseModel):
    title: str


def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


def sing(title: str) -> Sung:
    """Sing a song."""
    return Sung(title=title)


def fail(title: str) -> str:
    """Fail always."""
    raise RuntimeError(f"no voice for {title}")


TOOLS = [FunctionTool.from_defaults(fn=multiply), FunctionTool.from_defaults(fn=sing)]
FAILING = FunctionTool.from_defaults(fn=fail, name="sing")


def tool_requests(request):
    """Call both tools once; then say what came of it."""
    return "It is 42." if request.messages[-1].role == "tool" else list(TWO)


@kinds
@ways
def test_a_tool_is_called_with_arguments_that_it_takes(kind, method):
    with subject_of(kind) as subject:
        llm = subject.llm()
        response = collect(llm, method, TOOLS, user_msg=ASK)[-1]
        sent = subject.wire()
    selected = llm.get_tool_calls_from_response(response)
    assert [(each.tool_id, each.tool_name, each.tool_kwargs) for each in selected] == [
        ("multiply", "multiply", {"a": 6, "b": 7})  # the plain class has no other id
    ]
    assert TOOLS[0](**selected[0].tool_kwargs).raw_output == 42
    assert sent["messages"] == [{"role": "user", "content": ASK}]
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["multiply", "sing"]
    assert sent["tools"][0]["function"]["parameters"]["required"] == ["a", "b"]


@kinds
@pytest.mark.parametrize("method", ["stream_chat_with_tools", "astream_chat_with_tools"])
def test_every_chunk_of_a_stream_from_the_call_on_carries_it(kind, method):
    with subject_of(kind, reply=TWO[:1]) as subject:
        llm = subject.llm()
        chunks = collect(llm, method, TOOLS, user_msg=ASK)
    assert [len(llm.get_tool_calls_from_response(chunk)) for chunk in chunks] == [1] * len(chunks)
    assert {str(call.tool_kwargs) for chunk in chunks for call in calls_in(chunk)} == {"{'a': 6, 'b': 7}"}


@kinds
@ways
def test_of_parallel_calls_one_is_left_unless_they_are_allowed(kind, method):
    with subject_of(kind, reply=TWO) as subject:
        llm = subject.llm()

        def called(**kwargs):
            made = llm if not method.startswith("a") else subject.llm()  # plain clients outlive no event loop
            return [call.tool_name for call in calls_in(collect(made, method, TOOLS, user_msg=ASK, **kwargs)[-1])]

        assert called(allow_parallel_tool_calls=True) == ["multiply", "sing"]
        # Neither class can hold back what it has handed out already.
        assert called() == (["multiply", "sing"] if "stream" in method else ["multiply"])


@kinds
@ways
def test_that_a_tool_is_required_is_known_and_cannot_be_said_to_ollama(kind, method):
    with subject_of(kind, reply="I would rather talk.") as subject:
        llm = subject.llm()
        response = collect(llm, method, TOOLS, user_msg=ASK, tool_required=True, tool_choice="multiply")[-1]
        sent = bodies(subject.server)
    assert all({"tool_choice", "tool_required"}.isdisjoint(body) for body in sent)
    assert len(sent) == (2 if kind in {ALONE, AFTER_LOAD} else 1)  # ours asks the other one, too
    assert llm.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []
    with pytest.raises(ValueError, match="at least one tool call, but got 0"):
        llm.get_tool_calls_from_response(response)


@kinds
@ways
def test_an_argument_beside_the_tools_arrives(kind, method):
    with subject_of(kind, thinking="Tools would do.") as subject:
        assert calls_in(collect(subject.llm(), method, TOOLS, user_msg=ASK, think=True)[-1])
        # Known of the plain class: it drops everything but the tools.
        assert subject.wire().get("think") is (None if kind == PLAIN else True)


@kinds
def test_llamaindex_finds_the_argument_that_says_a_tool_is_required(kind):
    with subject_of(kind) as subject:
        assert "tool_required" in inspect.signature(subject.llm()._prepare_chat_with_tools).parameters


@kinds
@ways
@pytest.mark.parametrize("message", [ASK, ChatMessage(content=ASK)], ids=["text", "message"])
def test_the_question_follows_the_history_which_stays_the_callers(kind, method, message):
    history = [
        ChatMessage(role=MessageRole.SYSTEM, content="You call tools."),
        ChatMessage(content="Good day."),
        ChatMessage(role=MessageRole.ASSISTANT, content="Good day."),
    ]
    before = copy.deepcopy(history)
    with subject_of(kind) as subject:
        assert calls_in(collect(subject.llm(), method, TOOLS, user_msg=message, chat_history=history)[-1])
        sent = subject.wire()["messages"]
    assert [each["role"] for each in sent] == ["system", "user", "assistant", "user"]
    assert sent[-1]["content"] == ASK
    # Known of the plain class: it appends the question to its caller's own list.
    assert history == (before if kind != PLAIN else [*before, ChatMessage(content=ASK)])


@kinds
@ways
def test_a_result_goes_back_and_is_answered(kind, method):
    with subject_of(kind, reply=tool_requests) as subject:
        llm = subject.llm()
        called = ChatMessage(
            role=MessageRole.ASSISTANT,
            blocks=[ToolCallBlock(tool_call_id="multiply", tool_name="multiply", tool_kwargs={"a": 6, "b": 7})],
        )
        result = ChatMessage(role=MessageRole.TOOL, content="42", additional_kwargs={"tool_call_id": "multiply"})
        history = [ChatMessage(content=ASK), called, result]
        response = collect(llm, method, TOOLS, chat_history=history)[-1]
        sent = subject.wire()["messages"]
    assert response.message.content == "It is 42."
    assert sent[1:] == [
        {"role": "assistant", "tool_calls": [{"function": {"name": "multiply", "arguments": {"a": 6, "b": 7}}}]},
        {"role": "tool", "content": "42"},
    ]


@kinds
@and_call
def test_a_tool_is_chosen_and_called(kind, method):
    with subject_of(kind) as subject:
        done = collect(subject.llm(), method, TOOLS, user_msg=ASK)[-1]
    assert (done.response, [source.tool_name for source in done.sources]) == ("42", ["multiply"])


@kinds
@and_call
def test_several_tools_are_called_where_that_is_allowed(kind, method):
    with subject_of(kind, reply=TWO) as subject:
        done = collect(subject.llm(), method, TOOLS, user_msg=ASK, allow_parallel_tool_calls=True)[-1]
    assert [source.raw_output for source in done.sources] == [42, Sung(title="Rain")]
    assert done.response == "42\n\ntitle='Rain'"


@kinds
@and_call
def test_an_answer_instead_of_a_call_is_an_error_only_where_that_is_asked(kind, method):
    with subject_of(kind, reply="I would rather talk.") as subject:
        done = collect(subject.llm(), method, TOOLS, user_msg=ASK, error_on_no_tool_call=False)[-1]
        assert (done.response, done.sources) == ("I would rather talk.", [])
        with pytest.raises(ValueError, match="at least one tool call"):
            collect(subject.llm(), method, TOOLS, user_msg=ASK)


@kinds
@and_call
def test_a_tool_that_fails_says_so_and_blames_no_model(kind, method):
    with subject_of(kind, reply=TWO[1:]) as subject:
        llm = subject.llm()
        done = collect(llm, method, [FAILING], user_msg="Sing!")[-1]
        assert (done.sources[0].is_error, "no voice for Rain" in done.response) == (True, True)
        with pytest.raises(ValueError, match="no voice for Rain"):
            collect(subject.llm(), method, [FAILING], user_msg="Sing!", error_on_tool_error=True)
        if kind != PLAIN:
            assert llm.router.health_check_all_models()["second:7b"] == "healthy"


@kinds
@and_call
def test_a_model_that_is_said_to_know_no_tools_is_asked_in_words(kind, method):
    """By the ReAct agent, which takes one step; without a formatter and a parser LlamaIndex cannot make it."""
    words = 'Thought: I need a tool.\nAction: multiply\nAction Input: {"a": 6, "b": 7}'
    react = {"react_chat_formatter": ReActChatFormatter(), "output_parser": ReActOutputParser()}
    with subject_of(kind, reply=words, capabilities=("completion",)) as subject:
        llm = subject.llm(is_function_calling_model=False)
        done = collect(llm, method, TOOLS, user_msg=ASK, **react)[-1]
        assert subject.wire()["tools"] == []
    assert (done.response, [source.tool_name for source in done.sources]) == ("42", ["multiply"])


@kinds
@pytest.mark.parametrize("streaming", [False, True])
def test_a_conversation_of_two_turns_with_a_tool_between(kind, streaming):
    """The messages that one turn gives are what the next takes."""
    method = WITH_TOOLS[3 if streaming else 1]

    async def turn(llm, history):
        made = await getattr(llm, method)(TOOLS[:1], chat_history=list(history))
        return [chunk async for chunk in made][-1] if streaming else made

    async def talk(llm):
        history = [ChatMessage(content=ASK)]
        response = await turn(llm, history)
        for call in llm.get_tool_calls_from_response(response)[:1]:
            result = str(TOOLS[0](**call.tool_kwargs).raw_output)
            history += [response.message, ChatMessage(role=MessageRole.TOOL, content=result)]
        return (await turn(llm, history)).message.content

    with subject_of(kind, reply=tool_requests) as subject:
        assert asyncio.run(talk(subject.llm())) == "It is 42."
