"""Hints around a call and in it, the same in both frameworks and in the core's agent."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from columns import COLUMNS, PATHS, SILENT, Ask, aread
from fault_table import ANSWER, BAD, GOOD, both

from routed_ollama import ConfigurationError, Router, routing
from routed_ollama.testing import Gate, OllamaServer, ScriptedModel

FROZEN = {"health": {"interval": 0}, "routing": {"learn": False}, **SILENT}
"""What is loaded or was fast makes no difference."""

every_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
columns = pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)


@pytest.fixture
def server():
    with OllamaServer(both()) as running:
        yield running


def model_of(column, server, *, models=(BAD, GOOD), **settings):
    router = Router(base_url=server.url, store="memory", config=FROZEN)
    return column.make(router, models=list(models), **{"model": models[0], **settings})


def bodies(server):
    return [request.body for request in server.requests if request.path == "/api/chat"]


@columns
@every_path
def test_what_is_said_around_a_request_counts_for_it_and_not_after(server, column, path):
    llm = model_of(column, server)
    with routing(model=GOOD, task_type="planning"):
        inside = path(column, llm, Ask())
    after = path(column, llm, Ask())
    assert (inside.model, inside.routing["task_type"]) == (GOOD, "planning")
    assert (after.model, after.routing["task_type"]) == (BAD, "coding")


@columns
@every_path
def test_the_calls_own_words_are_stronger(server, column, path):
    llm = model_of(column, server)
    with routing(model=GOOD, task_type="planning"):
        seen = path(column, llm, Ask(call={"model": BAD, "task_type": "TESTING"}))
        half = path(column, llm, Ask(call={"task_type": "testing"}))
    assert (seen.model, seen.routing["task_type"]) == (BAD, "testing")
    assert (half.model, half.routing["task_type"]) == (GOOD, "testing")


@columns
@every_path
def test_a_preference_changes_the_choice(column, path):
    names = ["llama3.2:1b", "llama3.3:70b"]
    slow = ScriptedModel(names[1], reply=ANSWER)
    with OllamaServer([ScriptedModel(names[0], reply=ANSWER), slow]) as server:
        llm = model_of(column, server, models=names, model=None)
        with routing(prefer="speed"):
            assert path(column, llm, Ask()).model == names[0]
            assert path(column, llm, Ask(call={"prefer": "quality"})).model == names[1]
        with routing(prefer="quality"):
            assert path(column, llm, Ask()).model == names[1]


@columns
@every_path
def test_a_session_belongs_to_those_who_name_it(server, column, path):
    llm = model_of(column, server, model=None)
    usual = path(column, llm, Ask()).model
    other = GOOD if usual == BAD else BAD
    with routing(session="Ann", model=other):
        path(column, llm, Ask())
    with routing(session="Ann"):
        assert path(column, llm, Ask()).model == other
    with routing(session="Bob"):
        assert path(column, llm, Ask()).model == usual
    assert path(column, llm, Ask()).model == usual


@columns
@every_path
def test_hints_are_for_the_routing_alone(server, column, path):
    llm = model_of(column, server)
    path(column, llm, Ask())
    with routing(model=BAD, task_type="planning", prefer="speed", session="Ann"):
        path(column, llm, Ask(call={"prefer": "quality"}))
    plain, hinted = bodies(server)
    assert hinted == plain


@columns
@every_path
@pytest.mark.parametrize(
    ("call", "says"),
    [
        ({"prefer": "cheap"}, "prefer: expected one of balanced, quality, speed; found 'cheap'"),
        ({"task_type": "cooking"}, "task_type: expected one of coding, .*; found 'cooking'"),
        ({"model": 5}, "model: expected a name"),
    ],
)
def test_what_is_no_hint_is_an_error_before_anybody_is_asked(server, column, path, call, says):
    with pytest.raises(ConfigurationError, match=says):
        path(column, model_of(column, server), Ask(call=call))
    assert bodies(server) == []


# Streams


@columns
def test_a_stream_takes_what_was_in_force_when_it_was_asked_for(server, column):
    llm = model_of(column, server)
    with routing(model=GOOD):
        inside = column.stream(llm, Ask())
    outside = column.stream(llm, Ask())
    with routing(model=GOOD):
        assert column.read(list(outside)).model == BAD
    assert column.read(list(inside)).model == GOOD


@columns
async def test_an_async_stream_takes_what_was_in_force_when_it_was_asked_for(server, column):
    llm = model_of(column, server)
    with routing(model=GOOD):
        inside = await column.astream(llm, Ask())
    outside = await column.astream(llm, Ask())
    with routing(model=GOOD):
        assert column.read([chunk async for chunk in outside]).model == BAD
    assert column.read([chunk async for chunk in inside]).model == GOOD


@columns
def test_streams_that_are_taken_in_turns_have_each_their_own(server, column):
    llm = model_of(column, server)

    def begun(model):
        with routing(model=model):
            stream = iter(column.stream(llm, Ask()))
            return stream, [next(stream)]

    streams = [begun(model) for model in (BAD, GOOD, BAD, GOOD)]
    for _ in range(3):
        for stream, chunks in streams:
            chunks.append(next(stream))
    assert [column.read([*chunks, *stream]).model for stream, chunks in streams] == [BAD, GOOD, BAD, GOOD]


# Many at once


@columns
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_tasks_at_once_have_each_their_own(server, column, streamed):
    llm = model_of(column, server)
    kinds = ["planning", "testing", "debugging", "analysis"]

    async def ask(at):
        with routing(model=(BAD, GOOD)[at % 2], task_type=kinds[at % 4], session=f"session {at}"):
            await asyncio.sleep(0)
            seen = await (aread(column, llm, Ask()) if streamed else column.awhole(llm, Ask()))
            return seen.model, seen.routing["task_type"]

    async def ask_all():
        return await asyncio.gather(*map(ask, range(12)))

    assert asyncio.run(ask_all()) == [((BAD, GOOD)[at % 2], kinds[at % 4]) for at in range(12)]


@columns
@every_path
def test_threads_at_once_have_each_their_own(server, column, path):
    llm = model_of(column, server)
    meet = threading.Barrier(4)

    def ask(at):
        with routing(model=(BAD, GOOD)[at % 2]):
            meet.wait(10)
            return path(column, llm, Ask()).model

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(ask, range(8))) == [BAD, GOOD] * 4


@columns
def test_sessions_at_once_stay_each_with_their_own(server, column):
    llm = model_of(column, server, model=None)

    async def talk(at):
        name = (BAD, GOOD)[at % 2]
        with routing(session=f"session {at}"):
            with routing(model=name):
                first = await column.awhole(llm, Ask())
            return [first.model, *[(await column.awhole(llm, Ask())).model for _ in range(3)]]

    async def talk_all():
        return await asyncio.gather(*map(talk, range(6)))

    assert asyncio.run(talk_all()) == [[(BAD, GOOD)[at % 2]] * 4 for at in range(6)]


@columns
async def test_a_task_that_was_started_before_does_not_hear_of_it(server, column):
    llm, go = model_of(column, server), asyncio.Event()

    async def later():
        await go.wait()
        return (await column.awhole(llm, Ask())).model

    before = asyncio.create_task(later())
    with routing(model=GOOD):
        inside = asyncio.create_task(later())
        await asyncio.sleep(0)
    go.set()
    assert (await before, await inside) == (BAD, GOOD)


@columns
async def test_a_hint_is_gone_when_its_request_was_cancelled(server, column):
    gate = Gate()
    server.add_model(ScriptedModel(GOOD, reply=[gate, "one"]))
    llm = model_of(column, server)

    async def ask():
        with routing(model=GOOD):
            return await column.awhole(llm, Ask())

    asking = asyncio.create_task(ask())
    assert await asyncio.to_thread(gate.wait_reached)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    gate.open()
    assert (await column.awhole(llm, Ask())).model == BAD
