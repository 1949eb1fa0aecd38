"""Tools and agents: only models with tools are asked, a conversation stays with its model, agents reach their end."""

import asyncio
import warnings

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableBinding
from langchain_core.tools import tool
from langgraph.prebuilt import create_react_agent
from pydantic import BaseModel
from wire import FIRST, SECOND, answered_by, asked, bodies, collected, models, plain, routed, whole

from langchain_routed_ollama import NoModel, RoutedChatOllama
from routed_ollama.testing import Fault, OllamaServer


@tool
def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


class Divide(BaseModel):
    """Divide one number by another."""

    a: int
    b: int


ADD = {"name": "add", "description": "Add.", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}


def subtract(a: int, b: int) -> int:
    """Subtract.

    Args:
        a: minuend.
        b: subtrahend.
    """
    return a - b


QUESTION = "What is multiply of 6 and 7?"


@pytest.fixture
def server():
    with OllamaServer(models()) as running:
        yield running


def answers(bound, prompt):
    """The same, in the four ways."""
    yield bound.invoke(prompt)
    yield asyncio.run(bound.ainvoke(prompt))
    yield whole(bound.stream(prompt))
    yield whole(asyncio.run(collected(bound.astream(prompt))))


@pytest.mark.parametrize(
    "definition", [multiply, Divide, subtract, ADD], ids=["tool", "pydantic", "function", "schema"]
)
def test_tools_of_every_kind_reach_the_model_as_from_the_plain_class(definition, server):
    theirs = plain(server.url).bind_tools([definition]).invoke(QUESTION)
    for ours in answers(routed(server.url).bind_tools([definition]), QUESTION):
        calls = [[{**call, "id": None} for call in answer.tool_calls] for answer in (ours, theirs)]
        assert calls[0] == calls[1]
        assert calls[0][0]["name"]
        assert ours.response_metadata["routing"]["model"] == FIRST
    assert len({str(body["tools"]) for body in bodies(server)}) == 1


@pytest.mark.live
def test_a_tool_is_called_and_its_result_is_used(ollama_url, tool_models):
    llm = RoutedChatOllama(models=tool_models, base_url=ollama_url, store="memory", temperature=0)
    bound = llm.bind_tools([multiply])
    call = bound.invoke("Use the tool multiply to multiply 6 by 7.")
    assert [each["name"] for each in call.tool_calls] == ["multiply"]
    result = multiply.invoke(call.tool_calls[0])
    final = bound.invoke([HumanMessage("Use the tool multiply to multiply 6 by 7."), call, result])
    assert final.response_metadata["routing"]["model"] == call.response_metadata["routing"]["model"]


def test_the_binding_stays_routed(server):
    bound = routed(server.url).bind_tools([multiply])
    assert isinstance(bound, RunnableBinding)
    assert isinstance(bound.bound, RoutedChatOllama)
    server.fail(FIRST, Fault.SERVER_ERROR)
    for answer in answers(bound, QUESTION):
        assert answered_by(answer) == SECOND
        assert answer.tool_calls[0]["args"] == {"a": 6, "b": 7}


@pytest.mark.parametrize("choice", ["any", "auto", "multiply", True, {"type": "function"}, None])
def test_tool_choice_is_ignored_as_by_the_plain_class(choice, server):
    assert routed(server.url).bind_tools([multiply], tool_choice=choice).invoke(QUESTION).tool_calls
    assert "tool_choice" not in bodies(server)[0]


def test_only_models_that_can_use_tools_are_asked():
    with OllamaServer(models(first={"capabilities": ["completion"]})) as server:
        for answer in answers(routed(server.url).bind_tools([multiply]), QUESTION):
            assert answered_by(answer) == SECOND
        assert set(asked(server)) == {SECOND}
        assert answered_by(routed(server.url).invoke(QUESTION)) == FIRST


def test_no_model_with_tools_is_an_error_that_says_so():
    with OllamaServer(models(capabilities=["completion"])) as server:
        with pytest.raises(NoModel, match=r"does not support tools.*ollama pull"):
            routed(server.url).bind_tools([multiply]).invoke(QUESTION)
        assert asked(server) == []


def test_a_sole_model_without_tools_fails_as_the_plain_class_does():
    with OllamaServer(models(capabilities=["completion"])) as server:
        texts = []
        for llm in (plain(server.url), routed(server.url, models=[FIRST])):
            with pytest.raises(Exception, match="does not support tools") as caught:
                llm.bind_tools([multiply]).invoke(QUESTION)
            texts.append((type(caught.value), str(caught.value)))
        assert texts[0] == texts[1]


def test_an_empty_list_of_tools_needs_no_tools():
    with OllamaServer(models(capabilities=["completion"])) as server:
        assert answered_by(routed(server.url).bind_tools([]).invoke("Hello")) == FIRST


# --- the conversation ------------------------------------------------------------------------------------------------


def test_a_tools_result_goes_to_the_model_that_called_it(server):
    llm = routed(server.url)
    bound = llm.bind_tools([multiply])
    call = bound.invoke(QUESTION, model=SECOND)
    history = [HumanMessage(QUESTION), call, multiply.invoke(call.tool_calls[0])]
    for answer in answers(bound, history):
        assert (answered_by(answer), answer.text) == (SECOND, "The tool says: 42")


def test_if_that_model_fails_another_takes_the_conversation_over(server):
    bound = routed(server.url).bind_tools([multiply])
    call = bound.invoke(QUESTION)
    server.fail(FIRST, Fault.SERVER_ERROR)
    history = [HumanMessage(QUESTION), call, multiply.invoke(call.tool_calls[0])]
    for answer in answers(bound, history):
        assert (answered_by(answer), answer.text) == (SECOND, "The tool says: 42")


def test_messages_are_sent_as_the_plain_class_sends_them(server):
    call = {"name": "multiply", "args": {"a": 6, "b": 7}, "id": "1"}
    history = [
        ("system", "Be brief."),
        HumanMessage([{"type": "text", "text": QUESTION}], name="ann"),
        AIMessage("", tool_calls=[call]),
        ToolMessage("42", tool_call_id="1", name="multiply", status="error"),
        AIMessage("It is 42."),
        HumanMessage(["Thanks", {"type": "text", "text": "a lot"}]),
    ]
    for llm in (plain(server.url), routed(server.url)):
        llm.bind_tools([multiply]).invoke(history)
    assert bodies(server)[0] == bodies(server)[1]


def test_nothing_a_caller_handed_in_is_changed(server):
    history = [HumanMessage([{"type": "text", "text": "Hello"}]), AIMessage("Hi", response_metadata={"model": SECOND})]
    copies = [message.model_copy(deep=True) for message in history]
    tools, options = [dict(ADD)], {"seed": 1}
    routed(server.url).bind_tools(tools).invoke([*history, ("human", "Go on")], options=options)
    assert (history, tools, options) == (copies, [ADD], {"seed": 1})


# --- agents ----------------------------------------------------------------------------------------------------------


def react_agent(llm):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and still what many have
        return create_react_agent(llm, [multiply])


AGENTS = {"create_agent": lambda llm: create_agent(llm, [multiply]), "create_react_agent": react_agent}
agents = pytest.mark.parametrize("make", AGENTS.values(), ids=AGENTS)
ASK = {"messages": [("human", QUESTION)]}


def talk(state):
    return [(message.type, message.text) for message in state["messages"]]


@agents
@pytest.mark.parametrize("dead", [False, True], ids=["both live", "first dead"])
def test_an_agent_runs_to_its_end(make, dead, server):
    theirs = talk(make(plain(server.url)).invoke(ASK))
    if dead:
        server.fail(FIRST, Fault.SERVER_ERROR)
    agent = make(routed(server.url))
    for state in (agent.invoke(ASK), asyncio.run(agent.ainvoke(ASK))):
        assert talk(state) == theirs
        assert {answered_by(m) for m in state["messages"] if m.type == "ai"} == {SECOND if dead else FIRST}
    assert theirs[-1] == ("ai", "The tool says: 42")


@agents
def test_an_agent_streams_its_steps(make, server):
    agent = make(routed(server.url))
    steps = list(agent.stream(ASK, stream_mode="updates"))
    assert [len(step) for step in steps] == [1, 1, 1]
    assert asyncio.run(collected(agent.astream(ASK, stream_mode="updates")))[-1].keys() == steps[-1].keys()


@agents
def test_an_agent_whose_model_dies_half_way_ends_all_the_same(make, server):
    """The first model calls the tool, and is dead when the result comes."""
    agent = make(routed(server.url))
    states = agent.stream(ASK, stream_mode="values")
    for state in states:
        if state["messages"][-1].type == "ai" and state["messages"][-1].tool_calls:
            server.fail(FIRST, Fault.SERVER_ERROR)
    assert [answered_by(message) for message in state["messages"] if message.type == "ai"] == [FIRST, SECOND]
    assert state["messages"][-1].text == "The tool says: 42"


def test_an_agent_with_a_response_format_gets_it(server):
    class Product(BaseModel):
        """The result."""

        value: int

    for llm in (plain(server.url), routed(server.url)):
        state = create_agent(llm, [], response_format=Product).invoke({"messages": [("human", "Give me 42")]})
        assert state["structured_response"] == Product(value=42)
