"""The recorder: what is learned of each request, once, from our own attempts and from the plain class alike."""

import asyncio
import contextlib

import pytest
from wire import FIRST, SECOND, asked, collected, models, plain, routed, whole

from langchain_routed_ollama import PerformanceCallbackHandler
from routed_ollama import Router
from routed_ollama.testing import Fault, Gate, OllamaServer, ScriptedModel


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


def records(router):
    return {name: (each.total_requests, each.success_rate) for name, each in router.performance().items()}


@ways
def test_the_recorder_on_the_plain_class_fills_the_same_history(ask, server):
    router = Router(base_url=server.url, store="memory")
    recorder = PerformanceCallbackHandler(router, host=server.url)
    ask(plain(server.url, callbacks=[recorder]), "Write a function that sorts a list")
    ask(routed(server.url, router=router, models=[SECOND], model=None, learn=None), "Write a function")
    assert records(router) == {FIRST: (1, 1.0), SECOND: (1, 1.0)}
    first, second = (router.performance()[name] for name in (FIRST, SECOND))
    assert first.average_response_time > 0
    assert second.average_response_time > 0
    assert first.quality_score > 0


def test_the_recorder_on_the_plain_class_records_failures_and_no_cancelling(server):
    router = Router(base_url=server.url, store="memory")
    llm = plain(server.url, callbacks=[PerformanceCallbackHandler(router, host=server.url)])
    next(llm.stream("Hello"))
    assert records(router) == {}
    server.fail(FIRST, Fault.SERVER_ERROR)
    with pytest.raises(Exception, match=r"500|error"):
        llm.invoke("Hello")
    assert records(router) == {FIRST: (1, 0.0)}


@ways
def test_nothing_is_recorded_twice_when_the_recorder_hears_the_router_too(ask, server):
    router = Router(base_url=server.url, store="memory")
    recorder = PerformanceCallbackHandler(router, host=server.url)
    llm = routed(server.url, router=router, learn=None, callbacks=[recorder], attempt_callbacks=[recorder])
    ask(llm, "Hello", {"callbacks": [recorder]})
    assert records(router) == {FIRST: (1, 1.0)}


def test_a_router_shared_by_two_models_records_each_request_once(server):
    router = Router(base_url=server.url, store="memory")
    for llm in [routed(server.url, router=router, learn=None)] * 2:
        llm.invoke("Hello")
    assert records(router) == {FIRST: (2, 1.0)}


def test_another_routers_recorder_can_listen_to_attempts(server):
    listening = Router(base_url=server.url, store="memory")
    server.fail(FIRST, Fault.SERVER_ERROR)
    recorder = PerformanceCallbackHandler(listening)
    routed(server.url, learn=None, attempt_callbacks=[recorder], callbacks=[recorder]).invoke("Hello")
    assert records(listening) == {FIRST: (1, 0.0), SECOND: (1, 1.0)}


@ways
def test_a_failed_attempt_is_recorded_as_the_models_and_the_answer_as_the_others(ask, server):
    server.fail(FIRST, Fault.SERVER_ERROR)
    llm = routed(server.url, learn=True)
    ask(llm, "Hello")
    assert records(llm.router) == {FIRST: (1, 0.0), SECOND: (1, 1.0)}


def test_who_stops_reading_blames_no_model():
    gate = Gate()
    with OllamaServer([ScriptedModel(FIRST, reply=["one ", gate, "two"])]) as server:
        llm = routed(server.url, models=[FIRST], learn=True)
        reader = llm.stream("Hello")
        assert next(reader).text == "one "
        reader.close()
        gate.open()
        assert records(llm.router) == {}
        assert llm.router.health_check_all_models()[FIRST] == "healthy"


def test_who_stops_reading_after_the_last_line_has_had_a_whole_answer(server):
    llm = routed(server.url, learn=True)
    reader = llm.stream("Hello")
    assert any(chunk.response_metadata.get("routing") for chunk in reader)  # stops at the first that has it
    reader.close()
    assert records(llm.router) == {FIRST: (1, 1.0)}


def test_a_cancelled_task_blames_no_model():
    gate = Gate()
    with OllamaServer([ScriptedModel(FIRST, reply=[gate, "one"])]) as server:
        llm = routed(server.url, models=[FIRST], learn=True)

        async def cancelled():
            task = asyncio.create_task(llm.ainvoke("Hello"))
            await asyncio.to_thread(gate.wait_reached)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        asyncio.run(cancelled())
        gate.open()
        assert records(llm.router) == {}


def test_what_the_caller_does_wrong_blames_no_model(server):
    llm = routed(server.url, learn=True, stop=["x"])
    with pytest.raises(ValueError, match="stop"):
        llm.invoke("Hello", stop=["y"])
    with pytest.raises(TypeError, match="temperature"):
        llm.invoke("Hello", temperature=1)
    assert records(llm.router) == {}
    assert asked(server) == []
