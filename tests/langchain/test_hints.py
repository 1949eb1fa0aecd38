"""Hints around what LangChain runs: chains, batches, agents, events, caches; what all frameworks share is in parity."""

import asyncio

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from pydantic import BaseModel
from wire import FIRST, SECOND, answered_by, asked, collected, models, routed, whole

from langchain_routed_ollama import RoutedChatOllama
from routed_ollama import routing
from routed_ollama.testing import OllamaServer


@pytest.fixture
def server():
    with OllamaServer(models()) as running:
        yield running


def test_a_chain_is_reached(server):
    chain = ChatPromptTemplate.from_template("Count to {n}") | routed(server.url) | StrOutputParser()
    with routing(model=SECOND):
        assert chain.invoke({"n": "ten"}) == "You asked: Count to ten"
        assert asyncio.run(chain.ainvoke({"n": "ten"})) == "You asked: Count to ten"
        assert "".join(chain.stream({"n": "ten"})) == "You asked: Count to ten"
        assert "".join(asyncio.run(collected(chain.astream({"n": "ten"})))) == "You asked: Count to ten"
    chain.invoke({"n": "ten"})
    assert asked(server) == [SECOND] * 4 + [FIRST]


def test_every_request_of_a_batch_is_reached(server):
    llm = routed(server.url)
    with routing(model=SECOND):
        answers = [*llm.batch(["one", "two", "three"]), *asyncio.run(llm.abatch(["four", "five"]))]
        answers += [answer for _, answer in llm.batch_as_completed(["six", "seven"])]
    assert [answered_by(answer) for answer in answers] == [SECOND] * 7


def test_branches_that_run_at_once_may_have_each_their_own(server):
    llm = routed(server.url)

    def ask(model):
        def asking(prompt):
            with routing(model=model):
                return answered_by(llm.invoke(prompt))

        async def aasking(prompt):
            with routing(model=model):
                return answered_by(await llm.ainvoke(prompt))

        return RunnableLambda(asking, aasking)

    branches = RunnableParallel({f"{at} {name}": ask(name) for at in range(4) for name in (FIRST, SECOND)})
    for found in (branches.invoke("Count"), asyncio.run(branches.ainvoke("Count"))):
        assert found == {branch: branch.partition(" ")[2] for branch in found}


def test_what_is_bound_is_stronger_than_what_is_around(server):
    llm = routed(server.url)
    with routing(model=SECOND, task_type="planning"):
        bound = llm.bind(model=FIRST).invoke("Count")
        plain = llm.invoke("Count")
    assert (answered_by(bound), answered_by(plain)) == (FIRST, SECOND)
    assert bound.response_metadata["routing"]["task_type"] == "planning"


def test_structured_output_is_reached(server):
    class Number(BaseModel):
        n: int

    chain = routed(server.url).with_structured_output(Number)
    with routing(model=SECOND):
        assert isinstance(chain.invoke("Give me 3"), Number)
        assert list(chain.stream("Give me 3"))[-1] == Number(n=3)
    assert asked(server) == [SECOND] * 2


@tool
def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


def test_an_agent_is_reached_in_every_step(server):
    agent = create_agent(routed(server.url), [multiply])
    question = {"messages": [("user", "What is multiply of 6 and 7?")]}
    with routing(model=SECOND, session="Ann"):
        last = agent.invoke(question)["messages"][-1]
        asyncio.run(agent.ainvoke(question))
        for _ in agent.stream(question, stream_mode="messages"):
            pass
    assert "42" in last.text
    assert asked(server) == [SECOND] * 6


def test_two_agents_at_once_are_kept_apart(server):
    agent = create_agent(routed(server.url), [multiply])

    async def ask(model):
        with routing(model=model):
            result = await agent.ainvoke({"messages": [("user", "What is multiply of 6 and 7?")]})
        return {answered_by(message) for message in result["messages"] if message.type == "ai"}

    async def ask_all():
        return await asyncio.gather(*[ask(model) for model in (FIRST, SECOND) * 3])

    assert asyncio.run(ask_all()) == [{FIRST}, {SECOND}] * 3


async def test_a_stream_of_events_is_reached(server):
    llm = routed(server.url)
    with routing(model=SECOND):
        events = await collected(llm.astream_events("Count", version="v2"))
    (end,) = [event for event in events if event["event"] == "on_chat_model_end"]
    assert answered_by(end["data"]["output"]) == SECOND


def test_a_stream_that_is_taken_inside_keeps_to_it(server):
    llm = routed(server.url)
    with routing(model=SECOND):
        inside = whole(llm.stream("Count"))
    assert (answered_by(inside), answered_by(whole(llm.stream("Count")))) == (SECOND, FIRST)


def test_hints_of_the_field_and_of_the_surroundings_add_up(server):
    llm = RoutedChatOllama(base_url=server.url, store="memory", prefer="quality", models=[FIRST, SECOND])
    with routing(task_type="debugging", model=SECOND):
        route = llm.invoke("Count").response_metadata["routing"]
    assert (route["model"], route["task_type"]) == (SECOND, "debugging")


@pytest.mark.parametrize("hint", [{"model": SECOND}, {"prefer": "speed"}, {"task_type": "planning"}], ids=str)
def test_a_cache_does_not_answer_for_another_hint(server, hint):
    llm = routed(server.url, cache=InMemoryCache())
    for _ in range(2):
        llm.invoke("Count")
        with routing(**hint):
            llm.invoke("Count")
    assert len(asked(server)) == 2
