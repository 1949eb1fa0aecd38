"""What a LlamaIndex user does all day, against any server (``pytest -m live --ollama URL``).

Nothing here depends on what a model says, only on what must be true of it.
"""

import asyncio

import pytest
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.callbacks import CallbackManager
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.llms.ollama import Ollama
from pydantic import BaseModel

from llamaindex_routed_ollama import PerformanceEventHandler, RoutedOllama
from routed_ollama import ModelNotInstalledError, Router, TaskType
from routed_ollama.testing.proxy import CuttingProxy

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

QUESTION = "Name the capital of France, and say in two sentences what it is known for."
SHORT = {"num_predict": 24, "num_thread": 1, "seed": 1}


class Fact(BaseModel):
    """A thing and its year."""

    name: str
    year: int


def routed(models, url, limit=24, **settings):
    """Over the models of a server, of which the first is preferred; no answer is long."""
    options = {**SHORT, "num_predict": limit}
    settings = {"store": "memory", "temperature": 0.0, "additional_kwargs": options, "context_window": 2048, **settings}
    return RoutedOllama(models=models, base_url=url, **settings)


@pytest.fixture
def llm(ollama_url, chat_models):
    return routed(chat_models, ollama_url, model=chat_models[0])


@pytest.fixture
def messages():
    return [ChatMessage(content=QUESTION)]


def test_every_path_gives_the_same_answer(llm, messages, chat_models):
    async def paths():
        chat = (await llm.achat(messages, model=chat_models[0])).message.content
        chunks = [chunk async for chunk in await llm.astream_chat(messages, model=chat_models[0])]
        return chat, "".join(chunk.delta or "" for chunk in chunks), (await llm.acomplete(QUESTION)).text

    answers = {llm.chat(messages, model=chat_models[0]).message.content, llm.complete(QUESTION).text}
    answers.add([*llm.stream_chat(messages, model=chat_models[0])][-1].message.content)
    answers.add([*llm.stream_complete(QUESTION)][-1].text)
    answers.update(asyncio.run(paths()))
    assert len(answers) == 1
    assert answers.pop().strip()


def test_the_answer_is_the_plain_classs(llm, ollama_url, messages, chat_models):
    plain = Ollama(
        model=chat_models[0], base_url=ollama_url, temperature=0.0, additional_kwargs=SHORT, context_window=2048
    )
    theirs, ours = plain.chat(messages), llm.chat(messages, model=chat_models[0])
    assert ours.message.content == theirs.message.content
    assert set(ours.raw) == set(theirs.raw) | {"routing"}
    assert ours.raw["usage"] == theirs.raw["usage"]


def test_the_route_says_who_answered_and_why(llm, chat_models):
    routing = llm.complete("Write a Python function that adds two numbers").raw["routing"]
    assert routing["model"] in chat_models
    assert routing["task_type"] == TaskType.CODING
    assert routing["reason"]
    assert [attempt["outcome"] for attempt in routing["attempts"]] == ["ok"]


@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize"])
def test_a_query_engine_answers(llm, mode):
    documents = [Document(text=text) for text in ("Paris lies on the Seine.", "Lyon lies on the Rhone.")]
    engine = VectorStoreIndex.from_documents(documents).as_query_engine(llm=llm, response_mode=mode)
    answer = engine.query("On which river does Paris lie?")
    assert str(answer).strip()
    assert len(answer.source_nodes) == 2


def test_a_query_engine_streams(llm):
    documents = [Document(text="Paris lies on the Seine.")]
    engine = VectorStoreIndex.from_documents(documents).as_query_engine(llm=llm, streaming=True)
    assert len([*engine.query("On which river does Paris lie?").response_gen]) > 1


def test_a_chat_engine_remembers(llm):
    engine = SimpleChatEngine.from_defaults(llm=llm)
    assert str(engine.chat("My name is Ann.")).strip()
    assert str(engine.chat("What is my name?")).strip()
    assert len(engine.chat_history) == 4


def test_an_object_is_what_was_asked_for(ollama_url, chat_models):
    llm = routed(chat_models, ollama_url, limit=256)
    prompt = PromptTemplate("The year in which {what} was finished, and its name")
    made = llm.structured_predict(Fact, prompt, what="the Eiffel Tower")
    assert isinstance(made, Fact)
    assert isinstance(llm.as_structured_llm(Fact).complete("The moon landing").raw, Fact)


def test_an_agent_calls_a_tool(ollama_url, tool_models):
    called = []

    def multiply(a: int, b: int) -> int:
        """Multiply two numbers."""
        called.append((a, b))
        return int(a) * int(b)

    agent = FunctionAgent(
        tools=[multiply], llm=routed(tool_models, ollama_url, limit=512), system_prompt="Use the tool for every number."
    )

    async def ask():
        return await agent.run("What is 6 times 7? Use the tool multiply.", max_iterations=5)

    assert str(asyncio.run(ask())).strip()
    assert called


def test_three_event_loops_in_a_row(llm, messages):
    for _ in range(3):
        assert asyncio.run(llm.achat(messages)).message.content.strip()


def test_a_dead_host_first_is_not_noticed(ollama_url, chat_models, messages):
    dead = Ollama(model=chat_models[0], base_url="http://127.0.0.1:9", context_window=2048)
    llm = routed([dead, *chat_models], ollama_url)
    assert llm.chat(messages).message.content.strip()


def test_a_cut_connection_is_not_noticed(ollama_url, chat_models, messages):
    if len(chat_models) < 2:
        pytest.skip("a sole model fails as the plain class does: a second one must be installed to go on with")
    with CuttingProxy(ollama_url) as proxy:
        llm = routed(chat_models, proxy.url)
        llm.chat([ChatMessage(content="hi")], model=chat_models[0])
        proxy.arm(3)
        *_, last = llm.stream_chat(messages, model=chat_models[0])
    routing = last.raw["routing"]
    assert [attempt["outcome"] for attempt in routing["attempts"]] == ["failed", "ok"]
    assert 0 < routing["continued_at"] <= len(last.message.content)


def test_what_is_not_installed_is_said(ollama_url):
    with pytest.raises(ModelNotInstalledError, match=r"no-such-model:1b.*ollama pull"):
        routed(["no-such-model:1b"], ollama_url).complete("hi")


def test_a_plain_model_teaches_the_router(ollama_url, chat_models):
    router = Router(base_url=ollama_url, store="memory")
    handler = PerformanceEventHandler(router, host=ollama_url)
    plain = Ollama(
        model=chat_models[0],
        base_url=ollama_url,
        callback_manager=CallbackManager([handler]),
        additional_kwargs=SHORT,
        context_window=2048,
    )
    plain.complete(QUESTION)
    record = router.performance()[chat_models[0]]
    assert (record.total_requests, record.success_rate) == (1, 1)
    assert record.tokens_per_second > 0
