"""One instance for everybody, and whoever leaves at whatever moment leaves nothing behind: counted on both sides.

On the server's side no slot stays taken and no connection open; on this side no task, no thread, no turn in a queue, no
lease of a circuit.
"""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from columns import COLUMNS, PROMPT, SILENT, Ask, aread
from fault_table import BAD, GOOD

from langchain_routed_ollama import RoutedChatOllama
from llamaindex_routed_ollama import RoutedOllama
from routed_ollama import CircuitState, OutcomeKind, Router, create_agent
from routed_ollama.testing import FakeClock, Fault, Gate, OllamaServer, ScriptedModel

QUIET = {"health": {"interval": 0}, **SILENT}
every_column = pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)


def said_back(request):
    return f"You said: {request.messages[-1].content}"


@pytest.fixture
def server():
    models = [ScriptedModel(name, reply=said_back, tokens_per_second=400) for name in (BAD, GOOD)]
    with OllamaServer(models, num_parallel=64) as running:
        yield running


@pytest.fixture
def router(server):
    with Router(hosts=[server.url], store="memory", config=QUIET) as made:
        yield made


def model_of(column, router, **settings):
    return column.make(router, models=[BAD, GOOD], model=BAD, **settings)


def at_rest(server):
    """Whether the server does nothing for anybody."""
    return all(resident.users == 0 for resident in server._api.scheduler.residents)


def connections(server):
    return len(server._listener._connections)


async def no_other_task():
    """See that every other task ends by itself: a generator that is collected is closed by a task of the loop's."""
    async with asyncio.timeout(10):
        while asyncio.all_tasks() != {asyncio.current_task()}:  # noqa: ASYNC110 (there is no event of it)
            await asyncio.sleep(0.01)


def assert_nothing_left(server, router):
    """See that nobody waits for an answer any more, on either side."""
    server.wait_until(lambda: at_rest(server))
    known = router._known
    assert known.views.in_flight.none
    assert not known.waits._turns


# Everybody at once


@every_column
def test_one_instance_serves_many_threads_and_several_event_loops_at_once(server, router, column):
    llm = model_of(column, router)

    def in_a_loop(number):
        async def together():
            asks = [Ask((f"loop {number}, task {task}",)) for task in range(16)]
            whole = [column.awhole(llm, ask) for ask in asks[::2]]
            parts = [aread(column, llm, ask) for ask in asks[1::2]]
            found = await asyncio.gather(*whole, *parts)
            return [seen.text for seen in found], [*asks[::2], *asks[1::2]]

        return asyncio.run(together())

    def in_a_thread(number):
        ask = Ask((f"thread {number}",))
        if number % 2:
            return [column.read(list(column.stream(llm, ask))).text], [ask]
        return [column.whole(llm, ask).text], [ask]

    with ThreadPoolExecutor(68) as pool:
        loops = [pool.submit(in_a_loop, number) for number in range(4)]
        threads = [pool.submit(in_a_thread, number) for number in range(64)]
        for each in (*loops, *threads):
            texts, asks = each.result()
            assert texts == [f"You said: {ask.said[0]}" for ask in asks]
    assert_nothing_left(server, router)


# Whoever leaves


def whole(column, llm):
    return column.awhole(llm, Ask())


def parts(column, llm):
    return aread(column, llm, Ask())


@every_column
@pytest.mark.parametrize("asking", [whole, parts], ids=["whole", "stream"])
def test_tasks_that_are_cancelled_at_any_moment_leave_nothing_behind(server, router, column, asking):
    llm = model_of(column, router)
    moments = random.Random(5)  # noqa: S311 (the same moments each time)
    router.recommend_model("so that the server is known")
    looks = connections(server)

    async def left(delay):
        task = asyncio.ensure_future(asking(column, llm))
        await asyncio.sleep(delay)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def main():
        await asking(column, llm)
        await asyncio.gather(*(left(moments.random() * 0.05) for _ in range(60)))
        for _ in range(20):
            await left(moments.random() * 0.01)
        await no_other_task()
        found = await asking(column, llm)
        assert found.text == f"You said: {PROMPT}"

    asyncio.run(main())
    assert_nothing_left(server, router)
    server.wait_until(lambda: connections(server) <= looks)
    assert all(each.success_rate == 1.0 for each in router.performance().values()), "leaving blames no model"


@every_column
def test_a_time_limit_of_the_callers_own_is_a_cancellation(server, router, column):
    server.fail(None, Fault.HANG)
    llm = model_of(column, router)

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await column.awhole(llm, Ask())

    asyncio.run(main())
    assert_nothing_left(server, router)
    assert router.performance() == {}, "leaving blames no model"


@every_column
def test_a_stream_that_is_left_frees_its_slot_and_its_connection(server, router, column):
    server.add_model(ScriptedModel(BAD, reply=["on and on "] * 5000, tokens_per_second=50))
    llm = model_of(column, router)
    stream = column.stream(llm, Ask())
    assert next(iter(stream)) is not None
    stream.close()
    assert_nothing_left(server, router)

    async def main():
        stream = await column.astream(llm, Ask())
        assert await anext(stream) is not None
        await stream.aclose()
        await asyncio.to_thread(server.wait_until, lambda: at_rest(server))
        await no_other_task()

    asyncio.run(main())
    assert_nothing_left(server, router)


@pytest.mark.skipif(sys.platform == "win32", reason="a wait for the network is not interrupted there")
@every_column
def test_a_keyboard_interrupt_in_a_wait_leaves_nothing_behind(server, router, column):
    assert threading.current_thread() is threading.main_thread()
    server.fail(None, Fault.HANG)
    llm = model_of(column, router)

    def interrupt():
        server.wait_until(lambda: not at_rest(server))
        os.kill(os.getpid(), signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:
        interrupted = pool.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            column.whole(llm, Ask())
        interrupted.result(30)
    assert_nothing_left(server, router)
    server.heal()
    assert column.whole(llm, Ask()).text == f"You said: {PROMPT}"
    assert all(each.success_rate == 1.0 for each in router.performance().values())


@every_column
def test_whoever_was_let_through_a_half_open_circuit_and_left_gives_its_turn_back(column):
    clock, gate = FakeClock(), Gate()
    with OllamaServer([ScriptedModel(BAD, reply=["on ", gate, "and on"])]) as server:
        failing = server.fail(BAD, Fault.SERVER_ERROR)
        with Router(hosts=[server.url], store="memory", config=QUIET, clock=clock) as router:
            llm = column.make(router, models=[BAD])
            for _ in range(3):
                with pytest.raises(Exception, match="internal server error"):
                    column.whole(llm, Ask())
            failing.clear()
            circuits = router._known.circuits
            (candidate,) = (info.candidate for info in router.models())
            assert circuits.state(candidate) is CircuitState.OPEN
            clock.advance(60)

            async def main():
                task = asyncio.ensure_future(column.awhole(llm, Ask()))
                assert await asyncio.to_thread(gate.wait_reached)
                assert not circuits.acquire(candidate), "one at a time"
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

            asyncio.run(main())
            assert circuits.acquire(candidate), "its turn was given back"
            circuits.release(candidate)
            gate.open()
            assert column.whole(llm, Ask()).text == "on and on"
            assert circuits.state(candidate) is CircuitState.CLOSED


# Closing


MADE = {
    "LangChain": RoutedChatOllama,
    "LlamaIndex": RoutedOllama,
    "core": lambda **settings: create_agent("silent", **settings),
}


def own(column, server, **settings):
    """A model, or an agent, that makes its router for itself."""
    config = {"health": {"interval": 60}, **SILENT}
    return MADE[column.name](base_url=server.url, models=[BAD], config=config, **settings)


def ours():
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("routed-ollama")}


@every_column
def test_with_closes_everything_and_what_was_closed_opens_again(server, column, tmp_path):
    before = ours()
    with own(column, server, store=tmp_path / "history.sqlite3") as llm:
        assert column.whole(llm, Ask()).text == f"You said: {PROMPT}"
        assert connections(server)
        router = llm.router
    server.wait_until(lambda: connections(server) == 0 and ours() <= before)
    assert [outcome.kind for outcome in router._known.store.outcomes()] == [OutcomeKind.OK]
    assert column.whole(llm, Ask()).text == f"You said: {PROMPT}"
    llm.close()
    llm.close()
    server.wait_until(lambda: connections(server) == 0)


@every_column
async def test_async_with_closes_the_loops_connections_too(server, column, tmp_path):
    async with own(column, server, store=tmp_path / "history.sqlite3") as llm:
        found = await asyncio.gather(*(column.awhole(llm, Ask()) for _ in range(8)))
        assert {seen.text for seen in found} == {f"You said: {PROMPT}"}
        assert connections(server)
    await asyncio.to_thread(server.wait_until, lambda: connections(server) == 0)
    assert (await column.awhole(llm, Ask())).text == f"You said: {PROMPT}"
    await llm.aclose()
    await asyncio.to_thread(server.wait_until, lambda: connections(server) == 0)


@every_column
def test_closing_one_of_several_that_share_a_router_closes_nothing_of_the_others(server, column):
    config = {**QUIET, "health": {"interval": 60}}
    with Router(hosts=[server.url], store="memory", config=config) as router:
        first, second = model_of(column, router), model_of(column, router)
        assert column.whole(first, Ask()).text == column.whole(second, Ask()).text
        first.close()
        assert router._known.monitor.running
        assert column.whole(second, Ask()).text == f"You said: {PROMPT}"
        second.close()


async def test_a_router_is_closed_without_holding_up_the_loop(server, tmp_path):
    async with Router(hosts=[server.url], store=tmp_path / "history.sqlite3", config=QUIET) as router:
        assert (await router.arecommend_model("Hi")).model in {BAD, GOOD}
    await asyncio.to_thread(server.wait_until, lambda: connections(server) == 0)


ENDING = {
    "LangChain": """
from langchain_routed_ollama import RoutedChatOllama
llm = RoutedChatOllama(models=["bad:1b"], base_url=url)
ask, aask, stream, astream = llm.invoke, llm.ainvoke, llm.stream, llm.astream
""",
    "LlamaIndex": """
from llamaindex_routed_ollama import RoutedOllama
llm = RoutedOllama(models=["bad:1b"], base_url=url)
ask, aask, stream = llm.complete, llm.acomplete, llm.stream_complete
async def astream(prompt):
    async for chunk in await llm.astream_complete(prompt):
        yield chunk
""",
    "core": """
from routed_ollama import create_agent
llm = create_agent("developer", base_url=url)
ask, aask, stream, astream = llm.generate, llm.agenerate, llm.stream, llm.astream
""",
}
LEAVING = """
import asyncio, sys, threading
url = sys.argv[1]
{made}
ask("Hi")
async def main():
    asyncio.get_running_loop().slow_callback_duration = 60  # a slow machine is no news
    await asyncio.gather(*(aask("Hi") for _ in range(4)))
    async for _ in astream("Hi"):
        pass
asyncio.run(main())
threads = [threading.Thread(target=ask, args=("Hi",)) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
left = iter(stream("Hi"))
next(left)
"""


@pytest.mark.parametrize("name", ENDING)
def test_a_program_that_closes_nothing_ends_at_once_and_in_silence(server, name, tmp_path):
    script = LEAVING.format(made=ENDING[name])
    command = [sys.executable, "-X", "dev", "-W", "ignore", "-W", "error::ResourceWarning", "-c", script, server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)  # noqa: S603 (ourselves)
    assert (done.returncode, done.stderr) == (0, "")
    server.wait_until(lambda: connections(server) == 0)
