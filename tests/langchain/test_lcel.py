"""The swap: in a chain with a prompt, a retriever, tools and a parser, nothing changes but the model that answers."""

import asyncio
import re

import pytest
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.documents import Document
from langchain_core.output_parsers import JsonOutputParser, PydanticToolsParser, StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.tools import tool
from langchain_ollama import ChatOllama
from pydantic import BaseModel
from wire import FIRST, SECOND, asked, bodies, collected, models

from langchain_routed_ollama import RoutedChatOllama
from routed_ollama.testing import Fault, OllamaServer

# They are deprecated, and what many chains have.
pytestmark = pytest.mark.filterwarnings("ignore:.*(RunnableWithMessageHistory|InMemoryChatMessageHistory)")


class Shelf(BaseRetriever):
    """Finds the documents that share a word with the question."""

    def _get_relevant_documents(self, query, *, run_manager):
        shelf = ["Ollama runs models.", "LangChain chains them.", "Bread is baked."]
        words = set(re.findall(r"\w+", query.lower()))
        return [Document(text) for text in shelf if words & set(re.findall(r"\w+", text.lower()))]


@tool
def lookup(term: str) -> str:
    """Look a term up."""
    return f"{term}: see the manual"


class Verdict(BaseModel):
    """A verdict."""

    good: bool
    why: str


def question(given):
    return given["question"]


def joined(documents):
    return "\n".join(document.page_content for document in documents)


PROMPT = ChatPromptTemplate.from_messages([("system", "Answer from this:\n{context}"), ("human", "{question}")])
ASK = ChatPromptTemplate.from_template("{question}")


def called(message):
    return [lookup.invoke(call["args"]) for call in message.tool_calls]


def with_history(llm):
    histories = {}
    chain = ChatPromptTemplate.from_messages([MessagesPlaceholder("past"), ("human", "{question}")]) | llm
    return (
        RunnableWithMessageHistory(
            chain,
            lambda key: histories.setdefault(key, InMemoryChatMessageHistory()),
            input_messages_key="question",
            history_messages_key="past",
        ).with_config(configurable={"session_id": "1"})
        | StrOutputParser()
    )


CHAINS = {
    "prompt and parser": lambda llm: ASK | llm | StrOutputParser(),
    "retriever": lambda llm: (
        {
            "context": RunnableLambda(lambda given: given["question"]) | Shelf() | joined,
            "question": lambda g: g["question"],
        }
        | PROMPT
        | llm
        | StrOutputParser()
    ),
    "tools": lambda llm: ASK | llm.bind_tools([lookup]) | called,
    "tools parser": lambda llm: ASK | llm.bind_tools([Verdict]) | PydanticToolsParser(tools=[Verdict]),
    "structured": lambda llm: ASK | llm.with_structured_output(Verdict),
    "structured with raw": lambda llm: (
        ASK | llm.with_structured_output(Verdict, include_raw=True) | (lambda given: given["parsed"])
    ),
    "json": lambda llm: ASK | llm.bind(format="json") | JsonOutputParser(),
    "bound": lambda llm: ASK | llm.bind(stop=["END"], options={"seed": 1}) | StrOutputParser(),
    "parallel": lambda llm: RunnableParallel(a=ASK | llm | StrOutputParser(), b=RunnablePassthrough()),
    "history": with_history,
    "retry": lambda llm: ASK | llm.with_retry() | StrOutputParser(),
    "two in a row": lambda llm: (
        ASK | llm | (lambda message: {"question": message.text}) | ASK | llm | StrOutputParser()
    ),
}
chains = pytest.mark.parametrize("build", CHAINS.values(), ids=CHAINS)
QUESTION = {"question": "What does Ollama do? Is it 'good'?"}


@pytest.fixture
def server():
    with OllamaServer(models()) as running:
        yield running


def plain_chain(build, server):
    return build(ChatOllama(model=FIRST, base_url=server.url, temperature=0))


def routed_chain(build, server):
    return build(RoutedChatOllama(model=FIRST, base_url=server.url, temperature=0, store="memory"))


def normal(value):
    """A value without what differs from run to run: identifiers and times."""
    return re.sub(r"'?id'?[=:] ?'[^']*'", "id", str(value))


WAYS = {
    "invoke": lambda chain: chain.invoke(QUESTION),
    "ainvoke": lambda chain: asyncio.run(chain.ainvoke(QUESTION)),
    "stream": lambda chain: sorted(map(str, chain.stream(QUESTION))),  # what runs side by side has no order
    "astream": lambda chain: sorted(map(str, asyncio.run(collected(chain.astream(QUESTION))))),
    "batch": lambda chain: chain.batch([QUESTION] * 2, {"max_concurrency": 1}),
    "abatch": lambda chain: asyncio.run(chain.abatch([QUESTION] * 2, {"max_concurrency": 1})),
}


@chains
@pytest.mark.parametrize("run", WAYS.values(), ids=WAYS)
def test_outputs_are_the_same_in_every_way(build, run, server):
    theirs, ours = normal(run(plain_chain(build, server))), normal(run(routed_chain(build, server)))
    assert ours == theirs
    assert theirs


@chains
def test_the_same_is_asked_of_the_same_model(build, server):
    plain_chain(build, server).invoke(QUESTION)
    theirs = bodies(server)
    server.forget_requests()
    routed_chain(build, server).invoke(QUESTION)
    assert bodies(server) == theirs


def steps(chain):
    """Every event of a chain: what kind, of which part, with how much text. Names of the model class aside."""

    def said(event):
        value = event["data"].get("chunk", event["data"].get("output"))
        text = getattr(value, "text", None)
        return text if isinstance(text, str) else None

    def told(event):
        name = event["name"].replace("RoutedChatOllama", "ChatOllama")
        return event["event"], name, len(event["parent_ids"]), said(event)

    events = asyncio.run(collected(chain.astream_events(QUESTION, version="v2")))
    return sorted(map(told, events), key=str)  # what runs side by side has no order


@chains
@pytest.mark.parametrize("dead", [False, True], ids=["both live", "first dead"])
def test_events_are_the_same(build, dead, server):
    theirs = steps(plain_chain(build, server))
    if dead:
        server.fail(FIRST, Fault.SERVER_ERROR)
    ours = steps(routed_chain(build, server))
    assert ours == theirs


@chains
@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.EMPTY, Fault.CUT])
def test_a_dead_model_is_not_noticed(build, fault, server):
    theirs = normal(plain_chain(build, server).invoke(QUESTION))
    server.fail(FIRST, fault)
    ours = routed_chain(build, server)
    assert normal(ours.invoke(QUESTION)) == theirs
    assert normal(asyncio.run(ours.ainvoke(QUESTION))) == theirs
    assert SECOND in asked(server)


@chains
def test_the_chain_looks_the_same_from_outside(build, server):
    theirs, ours = plain_chain(build, server), routed_chain(build, server)
    assert ours.get_input_jsonschema() == theirs.get_input_jsonschema()
    assert str(ours.get_output_jsonschema()).replace("RoutedChatOllama", "ChatOllama") == str(
        theirs.get_output_jsonschema()
    )
    shapes = [[node.name for node in chain.get_graph().nodes.values()] for chain in (theirs, ours)]
    assert [name.replace("RoutedChatOllama", "ChatOllama") for name in shapes[1]] == shapes[0]


@pytest.mark.live
@pytest.mark.parametrize("name", ["prompt and parser", "retriever", "json", "history"])
def test_a_chain_over_any_server(name, ollama_url, chat_models):
    llm = RoutedChatOllama(models=chat_models, base_url=ollama_url, store="memory", temperature=0, num_predict=200)
    asking = {"question": "What does Ollama do? Answer in JSON."}
    assert CHAINS[name](llm).invoke(asking) is not None
