"""In front of agents, workflows and memories: all is well, or the first model fails wherever it can."""

import asyncio

import pytest
from asking import FIRST, SECOND, asked, bodies, models, routed
from faulty import FAULTS, LATE, under
from llama_index.core.agent.workflow import (
    AgentStream,
    AgentWorkflow,
    CodeActAgent,
    FunctionAgent,
    ReActAgent,
    ToolCallResult,
)
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.memory import ChatMemoryBuffer, ChatSummaryMemoryBuffer, Memory
from llama_index.core.tools import FunctionTool

from routed_ollama import routing
from routed_ollama.testing import OllamaServer, ToolCall

QUESTION = "What is 6 times 7?"
ANSWER = "It is 42, as the tool says."
MULTIPLY = ToolCall(name="multiply", arguments={"a": 6, "b": 7})
HANDOFF = ToolCall(name="handoff", arguments={"to_agent": "counter", "reason": "It can count."})
CODE = "Let me see.\n<execute>\nprint(6 * 7)\n</execute>"
THOUGHT = 'Thought: I need a tool for it.\nAction: multiply\nAction Input: {"a": 6, "b": 7}'


def reply(request):
    """Enough of a mind for agents of all kinds: one call, with words before it, then the answer."""
    said = [message.content for message in request.messages]
    if any("Observation: 42" in text for text in said):
        return f"Thought: I can answer now.\nAnswer: {ANSWER}"
    if any("Action Input" in text for text in said):
        return THOUGHT
    if any("the solution to the task" in text for text in said):
        return (
            ANSWER
            if any(message.role != "system" and "42" in message.content for message in request.messages)
            else CODE
        )
    names = {tool["function"]["name"] for tool in request.tools}
    if request.messages[-1].role == "tool" and "42" in said[-1]:
        return ANSWER
    if "multiply" in names:
        return ["Let", " me", " ask", " the", " tool.", MULTIPLY]
    return ["That", " is", " for", " another.", HANDOFF] if "handoff" in names else ANSWER


class Tool:
    """A tool that counts its calls: a model's failure must not call it twice."""

    def __init__(self):
        self.calls = []

    def multiply(self, a: int, b: int) -> int:
        """Multiply two numbers."""
        self.calls.append((a, b))
        return a * b


@pytest.fixture
def tool():
    return Tool()


every_fault = pytest.mark.parametrize("fault", FAULTS)
# Where a stream breaks: in the words before a tool call, or after the call and before the last line.
every_place = pytest.mark.parametrize("after_chunks", [3, LATE], ids=["in the words", "after the call"])
streaming_or_not = pytest.mark.parametrize("streaming", [True, False], ids=["stream", "whole"])


def run(agent, question=QUESTION, **kwargs):
    """The answer, and the events on the way to it."""

    async def running():
        handler = agent.run(question, **kwargs)
        events = [event async for event in handler.stream_events()]
        return str(await handler), events

    return asyncio.run(running())


def results(events):
    """What the tools gave, in order."""
    return [str(event.tool_output) for event in events if isinstance(event, ToolCallResult)]


def streamed(events):
    """The text of all answers as it was streamed, delta by delta."""
    return "".join(event.delta for event in events if isinstance(event, AgentStream))


# --- one agent --------------------------------------------------------------------------------------------------------


@every_fault
@every_place
@streaming_or_not
def test_a_function_agent_answers_and_calls_its_tool_once(fault, after_chunks, streaming, tool):
    with under(fault, reply, after_chunks=after_chunks) as (llm, _server):
        answer, events = run(FunctionAgent(tools=[tool.multiply], llm=llm, streaming=streaming))
    assert answer == ANSWER
    assert tool.calls == [(6, 7)]
    assert results(events) == ["42"]
    if streaming:
        assert streamed(events) == f"Let me ask the tool.{ANSWER}"
        calls = [event.tool_calls for event in events if isinstance(event, AgentStream) and event.tool_calls]
        assert {call.tool_name for made in calls for call in made} == {"multiply"}


@every_fault
@every_place
@streaming_or_not
def test_a_react_agent_answers_and_calls_its_tool_once(fault, after_chunks, streaming, tool):
    with under(fault, reply, after_chunks=after_chunks) as (llm, _server):
        answer, events = run(ReActAgent(tools=[tool.multiply], llm=llm, streaming=streaming))
    assert answer == ANSWER
    assert tool.calls == [(6, 7)]
    assert results(events) == ["42"]
    if streaming:
        assert streamed(events) == f"{THOUGHT}Thought: I can answer now.\nAnswer: {ANSWER}"


@every_fault
@every_place
@streaming_or_not
def test_an_agent_that_writes_code_runs_it_once(fault, after_chunks, streaming):
    ran = []
    with under(fault, reply, after_chunks=after_chunks) as (llm, _server):
        agent = CodeActAgent(code_execute_fn=lambda code: ran.append(code) or "42", llm=llm, streaming=streaming)
        answer, _ = run(agent)
    assert answer == ANSWER
    assert ran == ["print(6 * 7)"]


@every_fault
def test_one_agent_serves_one_event_loop_after_another(fault, tool):
    with under(fault, reply, after_chunks=LATE) as (llm, _server):
        agent = FunctionAgent(tools=[tool.multiply], llm=llm)
        assert [run(agent)[0] for _ in range(3)] == [ANSWER] * 3
    assert tool.calls == [(6, 7)] * 3


# --- tools without an agent -------------------------------------------------------------------------------------------


@every_fault
@every_place
def test_tools_are_called_in_every_way_without_an_agent(fault, after_chunks, tool):
    made = FunctionTool.from_defaults(tool.multiply)

    async def asynchronous(llm):
        last = [chunk async for chunk in await llm.astream_chat_with_tools([made], user_msg=QUESTION)][-1]
        whole = await llm.achat_with_tools([made], user_msg=QUESTION)
        return [last, whole, await llm.apredict_and_call([made], QUESTION)]

    with under(fault, reply, after_chunks=after_chunks) as (llm, _server):
        *told, done = asyncio.run(asynchronous(llm))
        told += [llm.chat_with_tools([made], user_msg=QUESTION)]
        told += [list(llm.stream_chat_with_tools([made], user_msg=QUESTION))[-1]]
        calls = [llm.get_tool_calls_from_response(each) for each in told]
        assert [[call.tool_kwargs for call in each] for each in calls] == [[{"a": 6, "b": 7}]] * 4
        assert [each.message.content for each in told] == ["Let me ask the tool."] * 4
        assert done.response == llm.predict_and_call([made], QUESTION).response == "42"
    assert tool.calls == [(6, 7)] * 2


# --- several agents ---------------------------------------------------------------------------------------------------


@every_fault
@every_place
@streaming_or_not
def test_agents_hand_over_to_each_other(fault, after_chunks, streaming, tool):
    with under(fault, reply, after_chunks=after_chunks) as (llm, _server):
        host = FunctionAgent(name="host", description="Receives.", llm=llm, can_handoff_to=["counter"])
        counter = FunctionAgent(name="counter", description="Counts.", tools=[tool.multiply], llm=llm)
        for agent in (host, counter):
            agent.streaming = streaming
        memory = ChatMemoryBuffer.from_defaults(llm=llm)
        answer, events = run(AgentWorkflow(agents=[host, counter], root_agent="host"), memory=memory)
    assert answer == ANSWER
    assert tool.calls == [(6, 7)]
    assert [name.split()[1] for name in results(events)[:1]] == ["counter"]
    assert results(events)[1:] == ["42"]
    told = [message for message in memory.get_all() if message.role == "assistant"]
    assert told[-1].content == ANSWER


# --- memory -----------------------------------------------------------------------------------------------------------

WORDS = "one two three four five six seven eight nine ten eleven twelve"


def histories(llm):
    limit = 60
    return {
        "buffer": ChatMemoryBuffer.from_defaults(llm=llm, token_limit=limit),
        "summary": ChatSummaryMemoryBuffer.from_defaults(llm=llm, token_limit=limit),
        "memory": Memory.from_defaults(token_limit=limit, chat_history_token_ratio=0.9, token_flush_size=10),
    }


@every_fault
@pytest.mark.parametrize("kind", ["buffer", "summary", "memory"])
def test_a_memory_with_a_limit_of_tokens_sends_what_fits(fault, kind):
    with under(fault, lambda _request: WORDS) as (llm, server):
        engine = SimpleChatEngine.from_defaults(memory=histories(llm)[kind])
        for number in range(5):
            assert engine.chat(f"Count, the {number}. time").response == WORDS
        sent = [body["messages"] for body in bodies(server) if "4. time" in body["messages"][-1]["content"]]
    assert 1 <= len(sent[-1]) < 9
    assert ("system" in {message["role"] for message in sent[-1]}) == (kind == "summary")


def test_a_memory_is_sized_by_the_context_window():
    llm = routed("http://127.0.0.1:9", context_window=1000)
    assert ChatMemoryBuffer.from_defaults(llm=llm).token_limit == 750


# --- hints ------------------------------------------------------------------------------------------------------------


def test_a_hint_reaches_what_an_agent_asks(tool):
    with OllamaServer(models(reply=reply, capabilities=("completion", "tools"))) as server:
        agent = FunctionAgent(tools=[tool.multiply], llm=routed(server.url))
        with routing(model=SECOND):
            assert run(agent)[0] == ANSWER
        assert asked(server) == [SECOND, SECOND]


def test_an_agents_run_stays_with_the_model_that_called_the_tool(tool):
    with under("500 at load", reply) as (llm, server):
        assert run(FunctionAgent(tools=[tool.multiply], llm=llm))[0] == ANSWER
        assert asked(server) == [FIRST, SECOND, SECOND]
