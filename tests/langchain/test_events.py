"""Events: what handlers, traces and graphs hear is what the plain class tells them; each attempt is told besides."""

import asyncio

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import (
    AsyncCallbackHandler,
    BaseCallbackHandler,
    UsageMetadataCallbackHandler,
    get_usage_metadata_callback,
)
from langchain_core.messages import AIMessageChunk
from langchain_core.tools import tool
from langchain_core.tracers.schemas import Run
from langgraph.graph import START, MessagesState, StateGraph
from wire import FIRST, SECOND, answered_by, collected, models, plain, routed, whole

from langchain_routed_ollama import RoutedChatOllama
from routed_ollama.testing import Fault, OllamaServer


class Heard(BaseCallbackHandler):
    """Everything that is heard, in order."""

    def __init__(self):
        self.events, self.tokens, self.runs, self.errors = [], [], {}, []

    def on_chat_model_start(self, serialized, messages, *, run_id, parent_run_id=None, metadata=None, **kwargs):
        self.events.append("start")
        self.runs[run_id] = {"parent": parent_run_id, "metadata": metadata or {}, "kwargs": kwargs}

    def on_llm_new_token(self, token, **kwargs):
        self.events.append("token")
        self.tokens.append(token)

    def on_llm_end(self, response, **kwargs):
        self.events.append("end")
        self.last = response.generations[0][0]

    def on_llm_error(self, error, **kwargs):
        self.events.append("error")
        self.errors.append(error)


class AsyncHeard(AsyncCallbackHandler):
    def __init__(self):
        self.events, self.tokens = [], []

    async def on_chat_model_start(self, *args, **kwargs):
        self.events.append("start")

    async def on_llm_new_token(self, token, **kwargs):
        self.events.append("token")
        self.tokens.append(token)

    async def on_llm_end(self, *args, **kwargs):
        self.events.append("end")


@pytest.fixture
def server():
    with OllamaServer(models(reply="Some words to hear.")) as running:
        yield running


def invoke(llm, prompt, config=None):
    return llm.invoke(prompt, config)


def ainvoke(llm, prompt, config=None):
    return asyncio.run(llm.ainvoke(prompt, config))


def stream(llm, prompt, config=None):
    return whole(llm.stream(prompt, config))


def astream(llm, prompt, config=None):
    return whole(asyncio.run(collected(llm.astream(prompt, config))))


ways = pytest.mark.parametrize("ask", [invoke, ainvoke, stream, astream], ids=lambda way: way.__name__)
dead = pytest.mark.parametrize("dead", [False, True], ids=["both live", "first dead"])


def heard_from(ask, llm, handler_class=Heard):
    handler = handler_class()
    ask(llm, "Hello", {"callbacks": [handler]})
    return handler


@dead
@pytest.mark.parametrize(
    ("ask", "handler_class"),  # LangChain calls async handlers from async paths only
    [
        (invoke, Heard),
        (ainvoke, Heard),
        (stream, Heard),
        (astream, Heard),
        (ainvoke, AsyncHeard),
        (astream, AsyncHeard),
    ],
)
def test_a_handler_hears_the_same_events_and_tokens(ask, dead, handler_class, server):
    theirs = heard_from(ask, plain(server.url), handler_class)
    if dead:
        server.fail(FIRST, Fault.CUT, after_chunks=0)
    ours = heard_from(ask, routed(server.url), handler_class)
    assert ours.events == theirs.events
    assert ours.tokens == theirs.tokens
    assert ours.events[0] == "start"
    assert ours.events.count("end") == 1


@ways
def test_the_end_event_carries_text_counts_and_route(ask, server):
    ours = heard_from(ask, routed(server.url))
    assert ours.last.text == "Some words to hear."
    assert ours.last.message.usage_metadata["output_tokens"] == 4
    assert ours.last.message.response_metadata["routing"]["model"] == FIRST


@ways
def test_when_all_fail_one_error_event_is_heard(ask, server):
    server.fail(None, Fault.SERVER_ERROR)
    handler = Heard()
    with pytest.raises(Exception, match="Every model") as caught:
        ask(routed(server.url), "Hello", {"callbacks": [handler]})
    assert handler.events == ["start", "error"]
    assert handler.errors == [caught.value]


def test_what_traces_say_of_a_request(server):
    theirs, ours = (
        next(iter(heard_from(invoke, llm).runs.values()))
        for llm in (plain(server.url, temperature=0.5), routed(server.url, temperature=0.5))
    )
    keys = ("ls_provider", "ls_model_name", "ls_model_type", "ls_temperature")
    assert {key: ours["metadata"].get(key) for key in keys} == {key: theirs["metadata"].get(key) for key in keys}
    named = next(iter(heard_from(lambda llm, p, c: llm.invoke(p, c, model=SECOND), routed(server.url)).runs.values()))
    assert named["metadata"]["ls_model_name"] == SECOND


# --- counts ----------------------------------------------------------------------------------------------------------


@ways
@dead
def test_tokens_are_counted_once(ask, dead, server):
    if dead:
        server.fail(FIRST, Fault.CUT, after_chunks=2)
    handler = UsageMetadataCallbackHandler()
    with get_usage_metadata_callback() as context:
        llm = routed(server.url, mid_stream="continue")
        answer = ask(llm, "Hello", {"callbacks": [handler]})
    assert list(handler.usage_metadata) == [answered_by(answer)]
    assert (
        sum(count["total_tokens"] for count in handler.usage_metadata.values()) == answer.usage_metadata["total_tokens"]
    )
    assert context.usage_metadata == handler.usage_metadata


def test_tokens_of_an_agent_are_counted_once(server):
    @tool
    def look(place: str) -> str:
        """Look somewhere."""
        return "nothing there"

    with OllamaServer(models()) as chatty:
        totals = []
        for llm in (plain(chatty.url), routed(chatty.url)):
            with get_usage_metadata_callback() as counted:
                create_agent(llm, [look]).invoke({"messages": [("human", "look at 'home'")]})
            totals.append(counted.usage_metadata)
        assert totals[0] == totals[1]


# --- event streams ---------------------------------------------------------------------------------------------------


def told(events):
    """Names and texts of events, without what differs from run to run."""
    return [
        (
            event["event"],
            chunk.text if isinstance(chunk := event["data"].get("chunk"), AIMessageChunk) else None,
            out.text if hasattr(out := event["data"].get("output"), "text") else None,
        )
        for event in events
    ]


@dead
def test_astream_events_v2_tells_the_same(dead, server):
    theirs = told(asyncio.run(collected(plain(server.url).astream_events("Hello", version="v2"))))
    if dead:
        server.fail(FIRST, Fault.CUT, after_chunks=0)
    ours = told(asyncio.run(collected(routed(server.url).astream_events("Hello", version="v2"))))
    assert ours == theirs
    assert ours[-1][2] == "Some words to hear."


def v3_events(llm):
    return [dict(event) for event in llm.stream_events("Hello", version="v3")]


async def v3_events_async(llm):
    return [dict(event) async for event in await llm.astream_events("Hello", version="v3")]


@pytest.mark.filterwarnings("ignore:.*is in beta")
@dead
@pytest.mark.parametrize("tell", [v3_events, lambda llm: asyncio.run(v3_events_async(llm))], ids=["sync", "async"])
def test_events_v3_tell_the_same(dead, tell, server):
    theirs = [(event["event"], event.get("delta")) for event in tell(plain(server.url))]
    if dead:
        server.fail(FIRST, Fault.CUT, after_chunks=0)
    ours = [(event["event"], event.get("delta")) for event in tell(routed(server.url))]
    assert ours == theirs
    assert len(ours) > 5


@pytest.mark.live
def test_events_of_any_server(ollama_url, chat_models):
    llm = RoutedChatOllama(models=chat_models, base_url=ollama_url, store="memory", num_predict=10)
    names = [event["event"] for event in asyncio.run(collected(llm.astream_events("Say hi.", version="v2")))]
    assert (names[0], names[-1]) == ("on_chat_model_start", "on_chat_model_end")
    assert set(names[1:-1]) == {"on_chat_model_stream"}
    message = llm.stream_events("Say hi.", version="v3").output
    assert message.response_metadata["routing"]["model"] in chat_models


def graph_of(llm):
    graph = StateGraph(MessagesState)
    graph.add_node("answer", lambda state: {"messages": [llm.invoke(state["messages"])]})
    graph.add_edge(START, "answer")
    return graph.compile()


@dead
def test_a_graph_streams_each_token_once(dead, server):
    def texts(llm):
        return [
            chunk.text
            for chunk, _ in graph_of(llm).stream({"messages": [("human", "Hello")]}, stream_mode="messages")
            if isinstance(chunk, AIMessageChunk)
        ]

    theirs = texts(plain(server.url))
    if dead:
        server.fail(FIRST, Fault.CUT, after_chunks=0)
    assert texts(routed(server.url)) == theirs
    assert "".join(theirs) == "Some words to hear."


def test_an_agent_streams_its_messages_once():
    @tool
    def look(place: str) -> str:
        """Look somewhere."""
        return "nothing there"

    ask = {"messages": [("human", "look at 'home'")]}
    with OllamaServer(models()) as chatty:
        texts = [
            [message.text for message, _ in create_agent(llm, [look]).stream(ask, stream_mode="messages")]
            for llm in (plain(chatty.url), routed(chatty.url))
        ]
    assert texts[0] == texts[1]


# --- attempts --------------------------------------------------------------------------------------------------------


@ways
def test_each_attempt_is_a_run_of_its_own_for_who_wants_to_hear_it(ask, server):
    server.fail(FIRST, Fault.SERVER_ERROR, text="broken for the test")
    handler = Heard()
    answer = ask(routed(server.url, attempt_callbacks=[handler]), "Hello")
    names = [run["metadata"]["ls_model_name"] for run in handler.runs.values()]
    marks = [run["metadata"]["routed_ollama"] for run in handler.runs.values()]
    assert names == [FIRST, SECOND]
    assert handler.events == ["start", "error", "start", *["token"] * (handler.events.count("token")), "end"]
    assert "broken for the test" in str(handler.errors[0])
    assert [mark["attempt"] for mark in marks] == [1, 2]
    assert {mark["request_id"] for mark in marks} == {answer.response_metadata["routing"]["request_id"]}
    assert "".join(handler.tokens) == "Some words to hear."


def test_an_attempt_names_the_run_it_belongs_to(server):
    outer, inner = Heard(), Heard()
    routed(server.url, attempt_callbacks=[inner]).invoke("Hello", {"callbacks": [outer]})
    (run_id,) = outer.runs
    assert [run["parent"] for run in inner.runs.values()] == [run_id]


def test_a_handler_that_raises_breaks_nothing(server):
    class Broken(BaseCallbackHandler):
        def on_chat_model_start(self, *args, **kwargs):
            raise RuntimeError("broken for the test")

    llm = routed(server.url, attempt_callbacks=[Broken()], callbacks=[Broken()])
    assert llm.invoke("Hello").text == "Some words to hear."


def test_a_trace_has_one_run_for_a_request(server):
    from langchain_core.tracers.base import BaseTracer  # noqa: PLC0415

    class Roots(BaseTracer):
        def __init__(self):
            super().__init__()
            self.roots = []

        def _persist_run(self, run: Run):
            self.roots.append(run)

    tracer = Roots()
    server.fail(FIRST, Fault.SERVER_ERROR)
    (routed(server.url) | (lambda message: message.text)).invoke("Hello", {"callbacks": [tracer]})
    (root,) = tracer.roots
    assert [run.run_type for run in root.child_runs] == ["llm", "chain"]
    assert root.child_runs[0].child_runs == []
