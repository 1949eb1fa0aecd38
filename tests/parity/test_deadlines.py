"""Waits that are legitimate and waits that are not, through both frameworks and the core's agent, in threads and tasks.

`tests/core/test_deadlines.py` says what makes the difference; here is that nobody's own way to ask loses it.
"""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from columns import COLUMNS, FRAMEWORKS, PATHS, PROMPT, SILENT, Ask, aread
from fault_table import ANSWER, BAD, GOOD

from routed_ollama import Router
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel, ToolCall

MANY = 64
FIRST = {"model": BAD}
"""A hint: or else another model would be expected to answer sooner, and chosen."""
PACE = 0.04
"""Seconds that an answer takes: all of them together longer than the first token of any may take."""
BOUNDS = {"connect": 30.0, "load": 60.0, "first_token": 1.0, "between_tokens": 30.0}
QUIET = {"health": {"interval": 0}, **SILENT}


@pytest.fixture
def routed():
    routers = []

    def make(column, server, timeouts, models=(BAD, GOOD)):
        routers.append(Router(hosts=[server.url], store="memory", timeouts=timeouts, config=QUIET))
        return column.make(routers[-1], models=list(models), model=BAD)

    yield make
    for router in routers:
        router.close()


def in_threads(column, llm):
    with ThreadPoolExecutor(MANY) as pool:
        asked = [pool.submit(column.whole, llm, Ask((f"{PROMPT}, {number}",), call=FIRST)) for number in range(MANY)]
        return [each.result() for each in asked]


def in_tasks(column, llm):
    async def all_at_once():
        return await asyncio.gather(
            *(column.awhole(llm, Ask((f"{PROMPT}, {number}",), call=FIRST)) for number in range(MANY))
        )

    return asyncio.run(all_at_once())


def in_streams(column, llm):
    async def all_at_once():
        return await asyncio.gather(
            *(aread(column, llm, Ask((f"{PROMPT}, {number}",), call=FIRST)) for number in range(MANY))
        )

    return asyncio.run(all_at_once())


@pytest.mark.parametrize(
    ("column", "at_once"),
    [
        *((column, way) for column in FRAMEWORKS for way in (in_threads, in_tasks)),
        (COLUMNS[0], in_streams),
        (COLUMNS[2], in_tasks),
    ],
    ids=lambda value: getattr(value, "name", None) or value.__name__,
)
def test_a_busy_slot_is_no_hang(routed, column, at_once):
    """Ollama answers one request at a time; whoever waits for their turn has been given up by nobody."""
    busy = ScriptedModel(BAD, reply=lambda request: f"For {request.messages[-1].content}", tokens_per_second=10 / PACE)
    with OllamaServer([busy, ScriptedModel(GOOD)], num_parallel=1) as server:
        llm = routed(column, server, BOUNDS)
        column.whole(llm, Ask())
        found = at_once(column, llm)
        asked = [request.model for request in server.requests if request.path == "/api/chat"]
    assert [seen.text for seen in found] == [f"For {PROMPT}, {number}" for number in range(MANY)]
    assert asked == [BAD] * (MANY + 1)
    waited = max(seen.routing["attempts"][0]["first_token_seconds"] for seen in found)
    assert waited > BOUNDS["first_token"] + 0.2, "nobody has waited longer than an idle model may take"


@pytest.mark.parametrize("column", FRAMEWORKS, ids=lambda column: column.name)
@pytest.mark.parametrize("path", ["whole", "whole, async"])
def test_a_model_that_falls_silent_after_two_tokens_is_given_up_though_nothing_streams(routed, column, path):
    with OllamaServer([ScriptedModel(BAD, reply=ANSWER), ScriptedModel(GOOD, reply=ANSWER)]) as server:
        llm = routed(column, server, {**BOUNDS, "between_tokens": 1.0})
        server.fail(BAD, Fault.STALL, after_chunks=2)
        seen = PATHS[path](column, llm, Ask())
    assert [(each["model"], each["outcome"]) for each in seen.routing["attempts"]] == [(BAD, "failed"), (GOOD, "ok")]
    assert "fell silent for 1 s" in seen.routing["attempts"][0]["error"]
    assert seen.text == ANSWER


@pytest.mark.parametrize("column", FRAMEWORKS, ids=lambda column: column.name)
def test_a_tool_call_that_is_held_back_is_waited_for(routed, column):
    """Ollama hands a tool call out at once, however long it takes to write."""
    call = ToolCall(name="multiply", arguments={"a": 6, "b": 7})
    slow = ScriptedModel(BAD, reply=[call], tokens_per_second=0.5)
    with OllamaServer([slow, ScriptedModel(GOOD)]) as server:
        llm = routed(column, server, {**BOUNDS, "load": 0.1, "first_token_ceiling": 30})
        seen = column.whole(llm, Ask(tools=True))
    assert (seen.model, seen.calls) == (BAD, (("multiply", {"a": 6, "b": 7}),))


@pytest.mark.parametrize("column", FRAMEWORKS, ids=lambda column: column.name)
def test_a_hang_of_a_model_in_memory_is_not_waited_for_as_long_as_a_load(routed, column):
    """Whatever context the framework asks for: asking for the same again loads nothing."""
    with OllamaServer([ScriptedModel(BAD), ScriptedModel(GOOD)]) as server:
        llm = routed(column, server, {**BOUNDS, "load": 600.0})
        assert column.whole(llm, Ask()).model == BAD
        server.fail(BAD, Fault.HANG)
        seen = column.whole(llm, Ask())
    assert seen.model == GOOD
    assert "'first_token'" in seen.routing["attempts"][0]["error"]


# A server that is restarted


SPOKEN = " ".join(f"word{number}" for number in range(40))
TOGETHER = 200


def restarted(server):
    """Stop a server as whoever updates it does, and start it again."""
    server.stop()
    server.start()


def half_and_half(column, llm, begun):
    """Ask many at once, in threads and in tasks; begun is set once they have all been sent."""

    async def in_tasks():
        return await asyncio.gather(*(column.awhole(llm, Ask()) for _ in range(TOGETHER // 2)))

    with ThreadPoolExecutor(TOGETHER // 2 + 1) as pool:
        tasks = pool.submit(asyncio.run, in_tasks())
        threads = [pool.submit(column.whole, llm, Ask()) for _ in range(TOGETHER // 2)]
        begun()
        return [*(each.result() for each in threads), *tasks.result()]


@pytest.mark.parametrize(
    ("column", "others"), list(zip(FRAMEWORKS, (0, 1), strict=True)), ids=["the only server", "one of two servers"]
)
def test_a_restart_in_the_middle_of_many_requests_is_noticed_by_nobody(column, others):
    """With another server it answers at once; the only one is waited for, and answers afresh."""
    words = {"reply": SPOKEN, "tokens_per_second": 200}
    with OllamaServer([ScriptedModel(BAD, **words)], num_parallel=32) as server:
        others = [OllamaServer([ScriptedModel(BAD, **words)], num_parallel=32).start() for _ in range(others)]
        hosts = [server.url, *(other.url for other in others)]
        with Router(hosts=hosts, store="memory", config=QUIET, timeouts={"connect": 30, "restart": 30}) as router:
            llm = column.make(router, models=[BAD])
            column.whole(llm, Ask())

            def once_all_are_there():
                sent = lambda request: request.path == "/api/chat"  # noqa: E731
                server.wait_for_request(sent, count=TOGETHER // 4, timeout=60)
                restarted(server)

            found = half_and_half(column, llm, once_all_are_there)
        for other in others:
            other.stop()
    assert [seen.text for seen in found] == [SPOKEN] * TOGETHER
    assert threading.active_count() < TOGETHER
