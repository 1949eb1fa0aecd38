"""Engines of one's own: whatever they do, clients read what they would read of a real server."""

from __future__ import annotations

import asyncio

import pytest
from talking import Background, chat, get, lines, streaming

from routed_ollama.testing import FakeClock, Fault, Finish, Gate, OllamaServer, Piece
from routed_ollama.testing.clock import SystemClock
from routed_ollama.testing.engine import (
    Engine,
    EngineCrashedError,
    EngineError,
    LoadFailedError,
    LoadSettings,
    ModelCard,
    OutOfMemoryError,
    Runner,
    digest_of,
)
from routed_ollama.testing.scheduler import Demand, Limits, Scheduler
from routed_ollama.testing.scripted import ScriptedModel

STOPPED = "model runner has unexpectedly stopped"


class Own:
    """The least that an engine and its runner must be."""

    alive = True

    def __init__(self, *script, name="own", load=None, tokens=1, close=None):
        self.script, self.error, self.tokens, self.gate = script, load, tokens, close
        self.closed = 0
        self.card = ModelCard(name=name, digest=digest_of(name), weights=digest_of("w", name), size=1000)

    async def load(self, settings):
        if self.error:
            raise self.error
        return self

    async def count_tokens(self, request):
        if isinstance(self.tokens, Exception):
            raise self.tokens
        return self.tokens

    async def generate(self, request):
        for item in self.script:
            if isinstance(item, Exception):
                raise item
            yield item

    async def close(self):
        self.closed += 1
        if self.gate:
            await self.gate.passed()


def test_it_is_an_engine_and_a_runner():
    assert isinstance(Own(), Engine)
    assert isinstance(Own(), Runner)
    assert isinstance(ScriptedModel("m"), Engine)


def test_the_least_there_is_answers_and_is_closed():
    engine = Own(Piece("hello"), Finish(prompt_tokens=3, output_tokens=1))
    with OllamaServer([engine]) as server:
        assert chat(server, "own").json()["message"]["content"] == "hello"
        assert get(server, "/api/ps")["models"][0]["name"] == "own:latest"
        assert (server.resident, server.loads) == (("own:latest",), {"own:latest": 1})
    assert engine.closed == 1


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("script", "text"),
    [
        ([EngineError("no such grammar")], "no such grammar"),
        ([EngineCrashedError("gone")], STOPPED),
        ([Piece("a"), EngineCrashedError("gone")], "an error was encountered while running the model: unexpected EOF"),
        ([Piece("a"), EngineError("odd")], "odd"),
        ([ZeroDivisionError("by nothing")], "ZeroDivisionError: by nothing"),
    ],
)
def test_what_fails_in_an_answer(script, text, stream):
    with OllamaServer([Own(*script)]) as server:
        answer = chat(server, "own", stream=stream)
        assert answer.status_code == (200 if stream and isinstance(script[0], Piece) else 500)
        assert text in answer.text.splitlines()[-1]


def test_a_runner_that_says_nothing_at_the_end_ends_without_done():
    with OllamaServer([Own(Piece("a"))]) as server:
        assert [line["done"] for line in lines(server, "own")] == [False]


def test_a_fault_of_a_runner_that_ends_without_a_word():
    with OllamaServer([Own(Piece("a"))]) as server, server.fail("own", Fault.EMPTY):
        assert lines(server, "own") == []


def test_a_runner_that_dies_while_it_counts():
    turns = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    with OllamaServer([Own(tokens=EngineCrashedError("gone"))]) as server:
        for stream in (True, False):
            answer = chat(server, "own", messages=turns, stream=stream)
            assert (answer.status_code, answer.json()["error"][: len(STOPPED)]) == (500, STOPPED)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (LoadFailedError("bad magic"), "llama runner process has terminated: bad magic"),
        (OutOfMemoryError("cannot allocate"), "cannot allocate"),
        (OutOfMemoryError(), "model requires more system memory than is available"),
        (
            OutOfMemoryError(needed=3000, available=100),
            "model requires more system memory (2.9 KiB) than is available (100 B)",
        ),
        (EngineCrashedError("gone"), STOPPED),
        (EngineError("odd"), "odd"),
        (EngineError(), "EngineError"),
    ],
)
def test_what_fails_in_a_load(error, text):
    with OllamaServer([Own(load=error)]) as server:
        answer = chat(server, "own")
        assert answer.status_code == 500
        assert answer.json()["error"].startswith(text)


def test_the_status_of_a_streamed_refusal_is_told_before_anything_else():
    with OllamaServer(["m"]) as server:
        for stream, content_type in ((True, "application/json"), (False, "application/json; charset=utf-8")):
            answer = chat(server, format=["yaml"], stream=stream)
            assert (answer.status_code, answer.headers["content-type"]) == (500, content_type)
            assert answer.json()["error"].startswith('invalid format: "[\\"yaml\\"]"')


def test_who_comes_while_a_model_leaves_waits_until_it_is_gone():
    gate = Gate()
    engine = Own(Piece("a"), Finish(), close=gate)
    with OllamaServer([engine]) as server:
        chat(server, "own", keep_alive=0)
        assert gate.wait_reached()
        again = Background(chat, server, "own", keep_alive=0)
        unload = Background(server.unload, "own")
        server.wait_for_request(count=2)
        assert again.running
        gate.open()
        assert again.result().status_code == 200
        unload.result()
        assert server.loads == {"own:latest": 2}
    assert engine.closed == 2


# -- what happens in one turn of the event loop -----------------------------------------------------------------------


def demand(name="m", keep_alive=None, **settings):
    wanted = LoadSettings(num_ctx=4096, **settings)
    return Demand(name, Own(name=name), wanted, wanted, keep_alive)


def scheduler(**limits):
    async def load(wanted):
        return await wanted.engine.load(wanted.settings)

    return Scheduler(Limits(**limits), SystemClock(), load)


async def turns(count=20):
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("turn", range(1, 12))
async def test_whoever_leaves_at_whatever_turn_leaves_nothing_in_use(turn):
    server = scheduler()
    request = asyncio.create_task(server.acquire(demand()))
    await turns(turn)
    request.cancel()
    result = (await asyncio.gather(request, return_exceptions=True))[0]
    await turns()
    for resident in server.residents:
        assert resident.users == (0 if isinstance(result, asyncio.CancelledError) else 1)
    assert (await server.acquire(demand())).users == (1 if isinstance(result, asyncio.CancelledError) else 2)
    await server.close()


@pytest.mark.parametrize("turn", range(1, 12))
async def test_closing_at_whatever_turn_ends_everything(turn):
    server = scheduler(max_loaded=1)
    busy = asyncio.create_task(server.acquire(demand("busy")))
    await turns()
    requests = [busy, *(asyncio.create_task(server.acquire(demand(name, keep_alive=0))) for name in ("next", "other"))]
    await turns(turn)
    await server.close()
    await asyncio.wait(requests, timeout=5)
    assert all(request.done() for request in requests)
    assert server.residents == ()


@pytest.mark.parametrize("turn", range(1, 12))
async def test_a_load_that_fails_as_its_client_leaves_is_forgotten(turn):
    server = scheduler()
    wanted = demand()
    wanted.engine.error = LoadFailedError("bad magic")
    request = asyncio.create_task(server.acquire(wanted))
    await turns(turn)
    request.cancel()
    (result,) = await asyncio.gather(request, return_exceptions=True)
    assert isinstance(result, LoadFailedError | asyncio.CancelledError)
    assert server.residents == ()
    await server.close()


async def test_closing_waits_for_who_is_leaving():
    gate = Gate()
    server = scheduler()
    wanted = demand(keep_alive=0)
    wanted.engine.gate = gate
    server.release(await server.acquire(wanted))
    await turns()
    closing = asyncio.create_task(server.close())
    await turns()
    assert not closing.done()
    gate.open()
    await closing
    assert (wanted.engine.closed, server.residents) == (1, ())


async def test_a_timer_that_falls_due_as_a_request_comes_unloads_nobody():
    clock = FakeClock()
    server = scheduler()
    server._clock = clock
    resident = await server.acquire(demand(keep_alive=5))
    server.release(resident)
    clock.advance(6)  # due, but the loop has not called yet
    assert await server.acquire(demand()) is resident
    await turns()
    assert server.residents == (resident,)
    server.release(resident)
    await server.close()


def test_a_stream_that_is_left_at_once_and_often_leaves_no_slot_taken():
    with OllamaServer([ScriptedModel("m", reply=["x"] * 1000)]) as server:
        for _ in range(20):
            with streaming(server) as received:
                next(received)
        assert chat(server).status_code == 200
        (resident,) = server._api.scheduler.residents
        server.wait_until(lambda: resident.users == 0)
