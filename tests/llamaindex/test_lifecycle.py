"""How long things live: event loops, threads, cancelled tasks, copies, and what is left when a model is gone."""

import asyncio
import copy
import gc
import pickle
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from asking import (
    CHATS,
    FIRST,
    PATHS,
    QUESTION,
    STRUCTURED,
    achat,
    asked,
    astream_chat,
    chat,
    collect,
    models,
    plain,
    routed,
    stream_chat,
    text,
)
from leaving import LEAVING, aleave, aleave_a_completion
from llama_index.core.llms import ChatMessage
from tooled import WITH_TOOLS

from llamaindex_routed_ollama import RoutedOllama
from routed_ollama import OutcomeKind, Router
from routed_ollama.testing import Gate, OllamaServer, ScriptedModel

SONG = '{"title": "Rain", "year": 1999}'
CHECKED_BY = {"config": {"health": {"interval": 0}}}
"""No monitor: whoever is connected is connected for an answer."""

MONITOR = "routed-ollama-health"
named = {"ids": lambda path: path.__name__}


ASYNC = [path for path in [*PATHS, *STRUCTURED] if path.__name__.startswith("a")]
ASYNC_WITH_TOOLS = [path for path in WITH_TOOLS if path.__name__.startswith("a")]


class Listening(Router):
    """A router that keeps what is recorded."""

    def __init__(self, **kwargs):
        super().__init__(store="memory", config={"health": {"interval": 0}}, **kwargs)
        self.heard = []

    def record(self, outcome):
        self.heard.append((outcome.model, outcome.kind))
        super().record(outcome)


@pytest.fixture
def server():
    made = models(reply=SONG, capabilities=("completion", "tools"))
    with OllamaServer(made, num_parallel=32) as running:
        yield running


def echo(request):
    return f"You said {request.messages[-1].content}"


# --- event loops and threads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ASYNC, **named)
def test_three_event_loops_in_a_row(server, path):
    llm = routed(server.url, learn=True)
    for _ in range(3):
        path(llm)
    assert asked(server) == [FIRST] * 3
    assert llm.router.performance()[FIRST].success_rate == 1


@pytest.mark.parametrize("path", ASYNC_WITH_TOOLS, **named)
def test_three_event_loops_in_a_row_with_tools(path):
    with OllamaServer(models(capabilities=("completion", "tools"))) as server:
        llm = routed(server.url, learn=True)
        for _ in range(3):
            path(llm)
        assert asked(server) == [FIRST] * 3


def said_by(llm, number):
    """What is answered to one of many, by the path that its number falls to."""
    path = PATHS[number % len(PATHS)]
    prompt = f"number {number}"
    asked_for = prompt if "complete" in path.__name__ else [ChatMessage(content=prompt)]
    return text(collect(llm, path.__name__, asked_for)[-1])


def test_sixteen_threads_on_every_path_get_each_their_own_answer():
    with OllamaServer(models(reply=echo), num_parallel=16) as server:
        llm = routed(server.url, learn=True)
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda number: said_by(llm, number), range(64)))
        assert answers == [f"You said number {number}" for number in range(64)]
        assert sum(each.total_requests for each in llm.router.performance().values()) == 64


def test_two_event_loops_at_once():
    gate = Gate()
    with OllamaServer(models(reply=["one ", gate, "two"]), num_parallel=4) as server:
        llm = routed(server.url, models=[FIRST])
        with ThreadPoolExecutor(2) as pool:  # each loop stands in its own thread, in the middle of an answer
            answers = [pool.submit(achat, llm), pool.submit(astream_chat, llm)]
            server.wait_for_request(lambda request: request.path == "/api/chat", count=2)
            gate.wait_reached()
            gate.open()
            assert [text(answer.result()) for answer in answers] == ["one two", "one two"]


def test_a_stream_may_be_read_in_another_thread_and_another_task_than_asked_for(server):
    llm = routed(server.url)
    made = llm.stream_chat(QUESTION)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: list(made)[-1].message.content).result() == SONG

    async def elsewhere():
        stream = await asyncio.create_task(llm.astream_chat(QUESTION))

        async def read():
            return [chunk async for chunk in stream][-1].message.content

        return await asyncio.create_task(read())

    assert asyncio.run(elsewhere()) == SONG


# --- cancelled, and left ----------------------------------------------------------------------------------------------


async def cancel(work):
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work


async def time_out(work):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await work


async def whole(llm):
    await llm.achat(QUESTION)


async def streamed(llm):
    async for _ in await llm.astream_chat(QUESTION):
        pass


async def completed(llm):
    async for _ in await llm.astream_complete("Count to ten"):
        pass


@pytest.mark.parametrize("stop", [cancel, time_out], **named)
@pytest.mark.parametrize("ask", [whole, streamed, completed], **named)
@pytest.mark.parametrize("words", [0, 2], ids=["before the first token", "in mid-answer"])
def test_a_cancelled_task_blames_no_model_and_ends_its_request(ask, stop, words):
    gate = Gate()
    with OllamaServer(models(reply=[*["one "] * words, gate, "two"])) as server:
        router = Listening(base_url=server.url)
        llm = routed(None, router=router, learn=None)

        async def stopped():
            work = asyncio.create_task(ask(llm))
            await asyncio.to_thread(gate.wait_reached)
            await stop(work)
            await asyncio.to_thread(server.unload, FIRST)  # as soon as nobody uses it any more
            await asyncio.to_thread(server.wait_until, lambda: not server.resident)

        asyncio.run(stopped())
        assert asked(server) == [FIRST]
        assert router.heard == [(FIRST, OutcomeKind.CANCELLED)]
        assert router.performance() == {}
        assert router.health_check_all_models()[FIRST] == "healthy"


@pytest.mark.parametrize("path", LEAVING, **named)
def test_who_leaves_a_stream_ends_its_request_at_once(path):
    gate = Gate()
    with OllamaServer(models(reply=["one ", gate, "two"])) as server:
        router = Listening(base_url=server.url)
        path(routed(None, router=router, learn=None))
        server.unload(FIRST)
        server.wait_until(lambda: not server.resident)
        assert router.heard == [(FIRST, OutcomeKind.CANCELLED)]


def test_an_async_stream_is_closed_by_the_time_that_leaving_it_returns():
    gate = Gate()
    with OllamaServer(models(reply=["one ", gate, "two"])) as server:
        llm = routed(server.url)

        async def left():
            stream = await llm.astream_chat(QUESTION)
            await anext(stream)
            await stream.aclose()
            server.unload(FIRST)  # while it waits, nothing runs in this loop that could still close the stream
            server.wait_until(lambda: not server.resident, timeout=2)

        asyncio.run(left())


@pytest.mark.parametrize("path", [aleave, aleave_a_completion], **named)
def test_an_event_loop_that_ends_after_a_stream_was_left_has_nothing_to_complain_of(server, path, caplog):
    path(routed(server.url))
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []


# --- what is left behind ----------------------------------------------------------------------------------------------


def nothing(llm):
    return llm.metadata


@pytest.fixture
def unclosed(server):
    """What was collected before it was closed, of the connections to this server: other tests leave some, too."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        yield lambda: [str(each.message) for each in caught if f", {server.port})" in str(each.message)]


@pytest.mark.parametrize("path", [nothing, *CHATS, *STRUCTURED[:2], *LEAVING], **named)
def test_a_model_that_is_gone_leaves_no_connection_and_no_thread(server, unclosed, path):
    def use():
        llm = RoutedOllama(FIRST, base_url=server.url, store="memory")  # with its monitor
        path(llm)
        return [weakref.ref(part) for part in (llm, llm.router, llm._running.candidates)]

    def all_is_gone():
        gc.collect()  # again, for the monitor may have been looking
        monitors = [thread for thread in threading.enumerate() if thread.name == MONITOR and thread not in before]
        return not (any(part() for part in gone) or server._listener._connections or monitors)

    before = threading.enumerate()
    gone = use()
    server.wait_until(all_is_gone)
    assert unclosed() == []


def test_a_changed_model_closes_what_it_no_longer_needs(server, unclosed):
    llm = routed(server.url, **CHECKED_BY)
    chat(llm)
    before = len(server._listener._connections)
    for temperature in (0.1, 0.5, 0.9):
        llm.temperature = temperature
        chat(llm)
        achat(llm)
    gc.collect()
    server.wait_until(lambda: len(server._listener._connections) <= before)
    assert unclosed() == []


def test_an_unclosed_connection_would_be_noticed(server, unclosed):
    chat(plain(server.url))  # nobody closes the plain class's
    gc.collect()
    assert unclosed()


# --- copies -----------------------------------------------------------------------------------------------------------


COPIES = [
    pytest.param(lambda llm: pickle.loads(pickle.dumps(llm)), id="pickle"),  # noqa: S301 (our own)
    pytest.param(copy.deepcopy, id="deepcopy"),
    pytest.param(copy.copy, id="copy"),
    pytest.param(lambda llm: llm.model_copy(update={"temperature": 0.5}), id="model_copy"),
]


@pytest.mark.parametrize("duplicate", COPIES)
def test_copies_are_made_and_used_in_threads_while_the_original_answers(server, duplicate):
    llm = routed(server.url, **CHECKED_BY)

    def used(_number):
        made = duplicate(llm)
        return {text(chat(llm)), text(chat(made)), text(achat(made)), text(stream_chat(duplicate(made)))}

    with ThreadPoolExecutor(8) as pool:
        assert set().union(*pool.map(used, range(16))) == {SONG}
    assert server.loads == {FIRST: 1}


def test_routers_of_their_own_over_one_server_do_not_undo_each_others_window(server):
    for _ in range(2):
        for llm in [routed(server.url, **CHECKED_BY) for _ in range(2)]:
            chat(llm)
    assert server.loads == {FIRST: 1}


def test_a_pickled_model_answers_in_another_event_loop_and_thread(server):
    async def pickled():
        llm = routed(server.url)
        await llm.achat(QUESTION)
        return pickle.dumps(llm)

    data = asyncio.run(pickled())
    with ThreadPoolExecutor(1) as pool:
        assert text(pool.submit(lambda: achat(pickle.loads(data))).result()) == SONG  # noqa: S301 (our own)


def test_a_copy_of_one_that_is_answering_goes_its_own_way():
    gate = Gate()
    slow = ScriptedModel(FIRST, reply=["one ", gate, "two"])
    with OllamaServer([slow], num_parallel=2) as server:
        llm = routed(server.url, models=[FIRST])
        stream = llm.stream_chat(QUESTION)
        next(stream)
        made = copy.deepcopy(llm)
        del llm
        gc.collect()
        gate.open()
        assert list(stream)[-1].message.content == "one two"
        assert text(chat(made)) == "one two"
