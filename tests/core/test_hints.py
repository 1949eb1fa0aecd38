"""Hints around a call: what is in force where, for whom and how long; and what is no hint."""

from __future__ import annotations

import asyncio
import contextvars
import linecache
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from fault_table import BAD, GOOD, both

from routed_ollama import ConfigurationError, RoutedOllamaWarning, TaskType, create_agent, request_hints, routing
from routed_ollama.hints import warn_unknown
from routed_ollama.testing import OllamaServer


def in_force(**call):
    return request_hints(call)


def test_what_is_said_around_a_call_is_in_force_there_and_not_after():
    assert in_force() == {}
    with routing(prefer="speed", task_type="coding", model="a:1b", session="Ann"):
        assert in_force() == {"prefer": "speed", "task_type": TaskType.CODING, "model": "a:1b", "session": "Ann"}
    assert in_force() == {}


def test_an_inner_block_adds_to_an_outer_one_and_is_the_stronger():
    with routing(prefer="speed", model="a:1b"):
        with routing(model="b:1b", session="Ann"):
            assert in_force() == {"prefer": "speed", "model": "b:1b", "session": "Ann"}
        assert in_force() == {"prefer": "speed", "model": "a:1b"}
        with routing():
            assert in_force() == {"prefer": "speed", "model": "a:1b"}


def test_what_a_call_says_is_the_strongest():
    with routing(prefer="speed", task_type="coding", model="a:1b", session="Ann"):
        said = in_force(prefer="quality", task_type="testing", model="b:1b", session="Bob")
        assert said == {"prefer": "quality", "task_type": TaskType.TESTING, "model": "b:1b", "session": "Bob"}
        assert in_force(prefer=None, model=None) == in_force()


def test_what_concerns_the_routing_is_taken_out_of_a_calls_arguments():
    arguments = {"prefer": "speed", "session": None, "temperature": 0, "tools": []}
    assert request_hints(arguments) == {"prefer": "speed"}
    assert arguments == {"temperature": 0, "tools": []}


def test_what_is_found_can_be_changed_without_harm():
    with routing(prefer="speed"):
        in_force().clear()
        assert in_force() == {"prefer": "speed"}


def test_an_exception_ends_the_block_as_its_end_does():
    with routing(prefer="quality"):
        with pytest.raises(KeyError, match="mine"), routing(prefer="speed"):
            raise KeyError("mine")
        assert in_force() == {"prefer": "quality"}


@pytest.mark.parametrize("written", ["coding", "CODING", " Coding ", TaskType.CODING])
def test_a_task_is_known_in_any_writing(written):
    with routing(task_type=written):
        assert in_force() == in_force(task_type=written) == {"task_type": TaskType.CODING}


WRONG = [
    ("prefer", "cheap", "prefer: expected one of balanced, quality, speed; found 'cheap'"),
    ("prefer", ["speed"], "prefer: expected one of .*found"),
    ("task_type", "cooking", "task_type: expected one of coding, .*; found 'cooking'"),
    ("task_type", "", "task_type: expected one of"),
    ("task_type", 3, "task_type: .*found 3"),
    ("model", 5, "model: expected a name; found 5"),
    ("model", "", "model: expected a name; found ''"),
    ("model", ["a:1b"], "model: expected a name"),
    ("session", 0, "session: expected a name; found 0"),
    ("session", "  ", "session: expected a name"),
]


@pytest.mark.parametrize(("name", "value", "says"), WRONG)
def test_what_is_no_hint_is_an_error_that_says_what_there_is(name, value, says):
    with routing(prefer="quality"):
        with pytest.raises(ConfigurationError, match=says), routing(**{"model": "a:1b", name: value}):
            pytest.fail("the block was entered")
        with pytest.raises(ConfigurationError, match=says):
            in_force(**{name: value})
        assert in_force() == {"prefer": "quality"}


def test_an_unknown_name_is_an_error():
    with pytest.raises(TypeError, match="modle"), routing(modle="a:1b"):
        pytest.fail("the block was entered")


# Threads and tasks


def test_each_thread_has_its_own():
    meet = threading.Barrier(4)

    def said(model):
        with routing(model=model):
            meet.wait(10)
            found = in_force()
            meet.wait(10)
            return found

    names = ["a:1b", "b:1b", "c:1b", "d:1b"]
    with ThreadPoolExecutor(4) as threads:
        assert [found["model"] for found in threads.map(said, names)] == names
        assert list(threads.map(lambda _: in_force(), names)) == [{}] * 4


async def test_each_task_has_its_own():
    both_inside, inside = asyncio.Event(), []

    async def said(model):
        with routing(model=model):
            inside.append(model)
            if len(inside) == 2:
                both_inside.set()
            await both_inside.wait()
            return in_force()["model"]

    assert await asyncio.gather(said("a:1b"), said("b:1b")) == ["a:1b", "b:1b"]
    assert in_force() == {}


async def test_what_is_started_inside_the_block_keeps_it_and_what_runs_already_does_not_see_it():
    go = asyncio.Event()

    async def later():
        await go.wait()
        return in_force()

    before = asyncio.create_task(later())
    with routing(session="Ann"):
        inside = asyncio.create_task(later())
        assert await asyncio.to_thread(in_force) == {"session": "Ann"}
    go.set()
    assert (await before, await inside) == ({}, {"session": "Ann"})


def test_a_thread_is_told_by_a_copied_context():
    found = []
    with routing(session="Ann"):
        context = contextvars.copy_context()
    thread = threading.Thread(target=lambda: found.append(context.run(in_force)))
    thread.start()
    thread.join(10)
    assert found == [{"session": "Ann"}]


def left_elsewhere():
    """A block that is entered in one context and left in another, as frameworks do with what depends on `yield`."""
    with routing(session="Ann"):
        yield


def test_a_block_may_be_left_in_another_context():
    block = left_elsewhere()
    contextvars.copy_context().run(next, block)
    with routing(prefer="speed"):
        block.close()
        assert in_force() == {"prefer": "speed"}


def test_an_error_passes_a_block_that_is_left_in_another_context():
    block = left_elsewhere()
    contextvars.copy_context().run(next, block)
    with pytest.raises(KeyError, match="theirs"):
        block.throw(KeyError("theirs"))


async def test_an_async_generator_may_be_closed_by_another_task():
    async def numbers():
        with routing(session="Ann"):
            yield in_force()

    stream = numbers()
    assert await asyncio.create_task(anext(stream)) == {"session": "Ann"}
    await stream.aclose()
    assert in_force() == {}


# Streams, by the core's own agent


@pytest.fixture
def agent():
    with (
        OllamaServer(both()) as server,
        create_agent(
            "developer",
            base_url=server.url,
            store="memory",
            model=BAD,
            models=[BAD, GOOD],
            config={"health": {"interval": 0}},
        ) as made,
    ):
        yield made


def test_a_stream_takes_what_was_in_force_when_it_was_asked_for(agent):
    with routing(model=GOOD, task_type="planning"):
        inside = agent.stream("Count")
    outside = agent.stream("Count")
    with routing(model=GOOD):
        *_, last = outside
    assert (last.model, last.routing["task_type"]) == (BAD, "coding")
    *_, last = inside
    assert (last.model, last.routing["task_type"]) == (GOOD, "planning")


async def test_an_async_stream_takes_what_was_in_force_when_it_was_asked_for(agent):
    with routing(model=GOOD, task_type="planning"):
        inside = agent.astream("Count")
    outside = agent.astream("Count")
    with routing(model=GOOD):
        assert [piece async for piece in outside][-1].model == BAD
    assert [piece async for piece in inside][-1].model == GOOD


async def test_requests_at_once_have_each_their_own(agent):
    async def ask(model):
        with routing(model=model):
            return (await agent.agenerate("Count")).model

    names = [BAD, GOOD] * 5
    assert await asyncio.gather(*map(ask, names)) == names


# Names that mean nothing


def test_a_name_that_means_nothing_is_a_warning_that_suggests_the_nearest():
    def given_to(**arguments):
        warn_unknown(arguments, ["temperature", "top_k"])

    with pytest.warns(RoutedOllamaWarning) as caught:
        given_to(temprature=1, top_k=2, zzz=3)
    assert [str(warning.message) for warning in caught] == [
        "Unknown argument 'temprature' is ignored. Did you mean 'temperature'?",
        "Unknown argument 'zzz' is ignored.",
    ]
    assert {linecache.getline(warning.filename, warning.lineno).strip() for warning in caught} == {
        "given_to(temprature=1, top_k=2, zzz=3)"
    }
