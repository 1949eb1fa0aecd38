"""In front of what LlamaIndex's users have: engines, agents, extractors; with and without a dead model first."""

import asyncio
import json

import pytest
from asking import FIRST, SECOND, Song, asked, models, routed
from llama_index.core import Document, Settings, SummaryIndex, VectorStoreIndex
from llama_index.core.agent.workflow import AgentWorkflow, CodeActAgent, FunctionAgent, ReActAgent
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.evaluation import FaithfulnessEvaluator
from llama_index.core.extractors import QuestionsAnsweredExtractor, SummaryExtractor, TitleExtractor
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import RouterQueryEngine
from llama_index.core.schema import TextNode
from llama_index.core.selectors import LLMSingleSelector
from llama_index.core.tools import QueryEngineTool

from routed_ollama import routing
from routed_ollama.testing import Fault, OllamaServer, ToolCall

FACTS = [Document(text=f"Fact {number}: the answer is {number}.") for number in range(3)]
QUESTION = "What is the answer?"
# A stream that breaks after a tool call was handed out cannot be joined: there the error is raised, by design.
FAULTS = {"none": None, "500 at load": (Fault.LOAD_ERROR, {}), "empty": (Fault.EMPTY, {})}


def reply(request):  # noqa: PLR0911 (a table of answers)
    """Enough of a mind for selectors, question generators, agents and schemas."""
    prompt = " ".join(message.content for message in request.messages)
    if request.messages[-1].role == "tool":
        return "The product is 42."
    if request.tools:
        return [ToolCall(name="multiply", arguments={"a": 6, "b": 7})]
    if request.format:
        return json.dumps({"title": "Rain", "year": 1999})
    if "Observation: 42" in prompt:
        return "Thought: I can answer.\nAnswer: 42"
    if "Action Input" in prompt:
        return 'Thought: I need a tool.\nAction: multiply\nAction Input: {"a": 6, "b": 7}'
    if "sub_question" in prompt:
        return '```json\n{"items": [{"sub_question": "What is fact 1?", "tool_name": "facts"}]}\n```'
    if "choice" in prompt:
        return '[{"choice": 1, "reason": "It fits."}]'
    if "execute" in prompt:
        return "The work is done: 42."
    return "YES, the answer is 42 as it says."


def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


@pytest.fixture(params=FAULTS)
def llm(request):
    with OllamaServer(models(reply=reply, capabilities=("completion", "tools"), size=10**9)) as server:
        if fault := FAULTS[request.param]:
            server.fail(FIRST, fault[0], **fault[1])
        # Bounds of the first token grow with the prompt, and the prompts here are long: one bound for every wait.
        config = {"health": {"failure_threshold": 1, "recovery_timeout": 600}}
        Settings.llm = model = routed(server.url, request_timeout=0.3, config=config)
        yield model
        assert asked(server)


@pytest.fixture
def index():
    return VectorStoreIndex.from_documents(FACTS)


MODES = ["refine", "compact", "tree_summarize", "simple_summarize", "accumulate", "compact_accumulate"]


@pytest.mark.parametrize("mode", MODES)
def test_query_engines(llm, index, mode):
    assert "42" in str(index.as_query_engine(response_mode=mode).query(QUESTION))


def test_query_engines_in_every_other_way(llm, index):
    engine = index.as_query_engine()
    assert "42" in str(asyncio.run(engine.aquery(QUESTION)))
    assert "42" in "".join(index.as_query_engine(streaming=True).query(QUESTION).response_gen)
    found = index.as_query_engine(output_cls=Song).query(QUESTION)
    assert json.loads(str(found.response if isinstance(found.response, str) else found.response.model_dump_json()))


@pytest.mark.parametrize("mode", ["simple", "context", "condense_question", "condense_plus_context"])
def test_chat_engines(llm, index, mode):
    engine = SimpleChatEngine.from_defaults() if mode == "simple" else index.as_chat_engine(chat_mode=mode)
    assert "42" in str(engine.chat(QUESTION))
    assert "42" in "".join(engine.stream_chat("And again?").response_gen)
    assert "42" in str(asyncio.run(engine.achat("Once more?")))


def test_selectors_and_sub_questions(llm, index):
    tools = [
        QueryEngineTool.from_defaults(index.as_query_engine(), name="facts", description="Facts."),
        QueryEngineTool.from_defaults(
            SummaryIndex.from_documents(FACTS).as_query_engine(), name="summary", description="A summary."
        ),
    ]
    router = RouterQueryEngine(selector=LLMSingleSelector.from_defaults(), query_engine_tools=tools)
    assert "42" in str(router.query(QUESTION))
    assert "42" in str(asyncio.run(router.aquery(QUESTION)))


@pytest.mark.parametrize("kind", [FunctionAgent, ReActAgent])
@pytest.mark.parametrize("streaming", [True, False])
def test_agents(llm, kind, streaming):
    agent = kind(tools=[multiply], llm=llm, streaming=streaming)

    async def run():
        return str(await agent.run("What is 6 times 7?"))

    for _ in range(3):  # three event loops
        assert "42" in asyncio.run(run())


def test_a_workflow_of_agents_and_memory(llm):
    agents = [
        FunctionAgent(name="one", description="Counts.", tools=[multiply], llm=llm, can_handoff_to=["two"]),
        FunctionAgent(name="two", description="Sums.", tools=[multiply], llm=llm),
    ]
    workflow = AgentWorkflow(agents=agents, root_agent="one")
    memory = ChatMemoryBuffer.from_defaults(llm=llm)

    async def run():
        return str(await workflow.run("What is 6 times 7?", memory=memory))

    assert "42" in asyncio.run(run())
    assert len(memory.get()) >= 2


def test_an_agent_that_writes_code(llm):
    agent = CodeActAgent(code_execute_fn=lambda code: code, llm=llm)

    async def run():
        return str(await agent.run("execute: what is 6 times 7?"))

    assert "42" in asyncio.run(run())


def test_extractors_and_evaluators(llm):
    extractors = [TitleExtractor(llm=llm), SummaryExtractor(llm=llm), QuestionsAnsweredExtractor(llm=llm, questions=1)]
    nodes = IngestionPipeline(transformations=extractors).run(nodes=[TextNode(text="The answer is 42.")])
    assert {"document_title", "section_summary", "questions_this_excerpt_can_answer"} <= set(nodes[0].metadata)
    assert FaithfulnessEvaluator(llm=llm).evaluate(response="42", contexts=["It is 42."]).passing


def test_a_hint_reaches_what_an_agent_asks():
    with OllamaServer(models(reply=reply, capabilities=("completion", "tools"))) as server:
        agent = FunctionAgent(tools=[multiply], llm=routed(server.url))

        async def run():
            with routing(model=SECOND):
                return str(await agent.run("What is 6 times 7?"))

        assert "42" in asyncio.run(run())
        assert asked(server) == [SECOND, SECOND]
