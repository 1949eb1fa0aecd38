"""How long a wait may last: what is known of a model, what else its server does, and what was set. Over the wire.

Bounds are a second and a little, and what must outlast them takes more: nothing hangs on how fast the machine is.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from fault_table import BAD, GOOD

from routed_ollama import AgentInterface, ConfigurationError, Message, Router, create_agent
from routed_ollama.config import RouterConfig
from routed_ollama.testing import FakeClock, Fault, Gate, OllamaServer, ScriptedModel
from routed_ollama.transport import Expected, FirstTokenDeadlineError, Timeouts
from routed_ollama.types import Needs

SECOND = {"connect": 5.0, "load": 60.0, "first_token": 1.0, "between_tokens": 1.0}
"""A second for the first token, and more than any test waits for a load."""
LONGER = 2.0
"""Seconds: longer than the bounds on what is no load, with the time that reading a short prompt is given."""
SILENT = {"roles": {"silent": {}}, "health": {"interval": 0}}


def ask(agent: AgentInterface, model: str, **options: Any) -> Any:
    return agent.generate("Count to ten", model=model, **options)


def aask(agent: AgentInterface, model: str, **options: Any) -> Any:
    return asyncio.run(agent.agenerate("Count to ten", model=model, **options))


both_ways = pytest.mark.parametrize("asking", [ask, aask], ids=["sync", "async"])


class World:
    """Servers and agents that end with the test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def server(self, *models: Any, **settings: Any) -> OllamaServer:
        return self._stack.enter_context(OllamaServer(models, **settings))

    def agent(self, *servers: OllamaServer, **timeouts: Any) -> AgentInterface:
        router = Router(
            hosts=[server.url for server in servers],
            store="memory",
            config=SILENT,
            timeouts={**SECOND, **timeouts},
        )
        self._stack.callback(router.close)
        return self._stack.enter_context(create_agent("silent", router=router))


@pytest.fixture
def world() -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack)


def chat(server: OllamaServer, model: str, **more: Any) -> httpx.Response:
    """Ask as another program does, which this router knows nothing of."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": False, **more}
    return httpx.post(f"{server.url}/api/chat", json=body, timeout=60)


def attempts(answer: Any) -> list[tuple[str, str]]:
    return [(each["model"], each["outcome"]) for each in answer.routing["attempts"]]


# What is known of a model

SMALL, LARGE, HUGE = 0.5, 160.0, 1600.0
"""Seconds that its size lets expect of a load."""


@pytest.mark.parametrize(
    ("timeouts", "expected", "bound"),
    [
        ({}, Expected(), 600.0),
        ({}, Expected(load_by_size=HUGE), 3600.0),
        ({}, Expected(load=2.0, load_by_size=SMALL), 60.0),
        ({}, Expected(load=60.0, load_by_size=SMALL), 300.0),
        ({}, Expected(load=300.0, load_by_size=SMALL), 1500.0),
        ({}, Expected(load=2.0, load_by_size=LARGE), 480.0),
        ({}, Expected(load=5000.0), 3600.0),
        ({"load_floor": 10}, Expected(load=1.0), 10.0),
        ({"load_ceiling": 900}, Expected(load=1000.0), 900.0),
        ({"load": 90}, Expected(load=60.0), 90.0),
        ({"load": 90}, Expected(load=1.0), 90.0),
        ({"load": 90, "load_ceiling": 200}, Expected(load=60.0), 200.0),
        ({"load": None}, Expected(load=60.0), None),
    ],
)
def test_how_long_a_load_may_take_follows_the_models_loads_and_its_size(timeouts, expected, bound) -> None:
    assert Timeouts(**timeouts).adapted(expected).load == bound


TOOLS = 2000
"""Tokens that may be held back."""


@pytest.mark.parametrize(
    ("timeouts", "expected", "first", "between"),
    [
        ({}, Expected(), 30.0, 30.0),
        ({}, Expected(token=0.02), 30.0, 30.0),
        ({}, Expected(token=4.0), 30.0, 80.0),
        ({}, Expected(token=100.0), 30.0, 600.0),
        ({}, Expected(elsewhere=20.0), 90.0, 30.0),
        ({}, Expected(elsewhere=1000.0), 600.0, 30.0),
        ({}, Expected(token=0.05, held_back=TOOLS), 130.0, 100.0),
        ({}, Expected(token=0.001, held_back=TOOLS), 32.0, 30.0),
        ({}, Expected(held_back=TOOLS), 150.0, 120.0),
        ({"first_token": 5, "between_tokens": 5}, Expected(token=4.0, elsewhere=20.0, held_back=TOOLS), 5.0, 5.0),
        ({"first_token": 5, "first_token_ceiling": 8}, Expected(elsewhere=20.0), 8.0, 30.0),
        ({"between_tokens": 5, "between_tokens_ceiling": 8}, Expected(token=4.0), 30.0, 8.0),
        ({"between_tokens_ceiling": None}, Expected(token=100.0), 30.0, 2000.0),
        ({"first_token": None, "between_tokens": None}, Expected(token=100.0, elsewhere=20.0), None, None),
    ],
)
def test_how_long_a_silence_may_last_follows_how_fast_the_model_writes(timeouts, expected, first, between) -> None:
    adapted = Timeouts(**timeouts).adapted(expected)
    assert (adapted.first_token, adapted.between_tokens) == (first, between)


def test_what_adapts_can_be_set_in_a_file_and_by_name(tmp_path) -> None:
    (tmp_path / "a.toml").write_text("[timeouts]\nload_floor = 5\nload_ceiling = 900\nqueue = 20\nrestart = 3\n")
    config = RouterConfig.load(tmp_path / "a.toml")
    timeouts = Router(config=config, store="memory").timeouts
    assert (timeouts.load_floor, timeouts.load_ceiling, timeouts.queue, timeouts.restart) == (5.0, 900.0, 20.0, 3.0)
    assert (timeouts.load, timeouts.first_token_ceiling, timeouts.between_tokens_ceiling) == (600.0, 600.0, 600.0)
    assert Timeouts(**{name: getattr(timeouts, name) for name in timeouts.__dataclass_fields__}) == timeouts
    with pytest.raises(ConfigurationError, match="load_ceiling must be a positive number"):
        Timeouts(load_ceiling=0)


def first_bound(router: Router, model: str, **hints: Any) -> Any:
    return next(iter(router.plan([Message("user", "Hi")], scope=[model], **hints))).allowance.bounds


def test_a_model_whose_loads_take_long_is_given_longer(world) -> None:
    clock = FakeClock()
    models = [ScriptedModel("quick:1b", load_seconds=2.0), ScriptedModel("slow:1b", load_seconds=60.0)]
    server = world.server(*models, clock=clock, max_loaded_models=1)
    router = Router(hosts=[server.url], store="memory", config=SILENT)
    agent = create_agent("silent", router=router)
    unknown = first_bound(router, "slow:1b").first
    with ThreadPoolExecutor(1) as pool:
        for model, seconds in (("quick:1b", 2.0), ("slow:1b", 60.0)):
            answer = pool.submit(ask, agent, model)
            while not answer.done():
                clock.advance(seconds / 20)
                threading.Event().wait(0.01)
            assert attempts(answer.result()) == [(model, "ok")]
    for model in ("quick:1b", "slow:1b"):
        server.unload(model)
    router.health_check_all_models()
    quick, slow = (first_bound(router, model) for model in ("quick:1b", "slow:1b"))
    assert quick.loads
    assert slow.loads
    assert 90.0 < quick.first < slow.first < unknown
    assert slow.first > 329.0, "five times what it took, and the first token's own time"
    router.close()


# What the server does for others


@both_ways
def test_a_cold_load_has_its_time(world, asking) -> None:
    server = world.server(ScriptedModel(BAD), ScriptedModel(GOOD))
    server.fail(BAD, Fault.SLOW_LOAD, seconds=LONGER, times=1)
    answer = asking(world.agent(server), BAD)
    assert attempts(answer) == [(BAD, "ok")]
    assert answer.routing["attempts"][0]["first_token_seconds"] > LONGER


def unload(server: OllamaServer) -> None:
    server.unload(BAD)


def push_out(server: OllamaServer) -> None:
    """Another program asks for another model, and there is room for one."""
    assert chat(server, "other:1b").status_code == 200


def be_told_to_go(server: OllamaServer) -> None:
    """Another program wants it out of the way."""
    assert chat(server, BAD, keep_alive=0, messages=[]).status_code == 200


@pytest.mark.parametrize(
    ("gone", "asking"), [(unload, ask), (push_out, aask), (be_told_to_go, ask)], ids=lambda how: how.__name__
)
def test_a_model_that_is_no_longer_in_memory_has_the_time_of_its_load(world, asking, gone) -> None:
    """As far as this router knew it was there: it had just answered."""
    server = world.server(ScriptedModel(BAD), ScriptedModel(GOOD), ScriptedModel("other:1b"), max_loaded_models=1)
    agent = world.agent(server)
    assert attempts(asking(agent, BAD)) == [(BAD, "ok")]
    gone(server)
    server.fail(BAD, Fault.SLOW_LOAD, seconds=LONGER, times=1)
    assert not first_bound(agent.router, BAD).loads
    assert attempts(asking(agent, BAD)) == [(BAD, "ok")]


def test_a_model_that_unloads_itself_after_each_answer_is_not_given_up_either(world) -> None:
    server = world.server(ScriptedModel(BAD), ScriptedModel(GOOD))
    agent = world.agent(server)
    ask(agent, BAD, keep_alive=0)
    server.wait_until(lambda: not server.resident)
    server.fail(BAD, Fault.SLOW_LOAD, seconds=LONGER)
    assert attempts(ask(agent, BAD, keep_alive=0)) == [(BAD, "ok")]


@both_ways
def test_a_model_in_memory_that_says_nothing_is_given_up_whoever_asks_what_is_in_memory(world, asking) -> None:
    server = world.server(ScriptedModel(BAD), ScriptedModel(GOOD))
    agent = world.agent(server)
    asking(agent, BAD)
    server.fail(BAD, Fault.HANG)
    answer = asking(agent, BAD)
    assert attempts(answer) == [(BAD, "failed"), (GOOD, "ok")]
    assert "began within" in answer.routing["attempts"][0]["error"]
    assert "'first_token'" in answer.routing["attempts"][0]["error"]
    assert any(request.path == "/api/ps" for request in server.requests[-8:])


def test_a_load_waits_until_a_busy_model_has_left(world) -> None:
    slow = ScriptedModel("slow:1b", reply=" ".join("abcdef"), tokens_per_second=6 / LONGER)
    server = world.server(slow, ScriptedModel(BAD), max_loaded_models=1)
    agent = world.agent(server, load=1.0)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, agent, "slow:1b")
        server.wait_until(lambda: server.resident == ("slow:1b",))
        assert attempts(ask(agent, BAD)) == [(BAD, "ok")]
        assert attempts(first.result(30)) == [("slow:1b", "ok")]


def test_a_load_waits_for_the_loads_before_it(world) -> None:
    slow = [ScriptedModel(name, load_seconds=1.5) for name in ("slow:1b", "slow:2b")]
    server = world.server(*slow, ScriptedModel(BAD))
    agent = world.agent(server, load=1.5)
    with ThreadPoolExecutor(3) as pool:
        asked = []
        for at, name in enumerate(["slow:1b", "slow:2b", BAD], 1):
            asked.append(pool.submit(ask, agent, name))
            server.wait_for_request(lambda request: request.path == "/api/chat", count=at)
        assert [attempts(each.result(60)) for each in asked] == [
            [("slow:1b", "ok")],
            [("slow:2b", "ok")],
            [(BAD, "ok")],
        ]


def test_a_load_behind_one_that_never_ends_has_its_own_time_after_that_was_given_up(world) -> None:
    server = world.server(ScriptedModel(BAD), ScriptedModel("good:3b", load_seconds=1.0), ScriptedModel(GOOD))
    server.fail(BAD, Fault.SLOW_LOAD)
    agent = world.agent(server, load=1.0)
    with ThreadPoolExecutor(1) as pool:
        hung = pool.submit(ask, agent, BAD)
        server.wait_until(lambda: server.loading == BAD)
        assert attempts(ask(agent, "good:3b")) == [("good:3b", "ok")]
        assert attempts(hung.result(30))[0] == (BAD, "failed")


def test_a_context_that_a_model_has_already_is_no_load(world) -> None:
    """Else every hang of a model with a context of its own would be waited for as long as a load."""
    server = world.server(ScriptedModel(BAD, context_length=32_768), ScriptedModel(GOOD))
    agent = world.agent(server)
    assert first_bound(agent.router, BAD, context=8192).loads
    plan = agent.router.plan([Message("user", "Hi")], scope=[BAD], context=8192)
    for attempt in plan:
        with attempt:
            chat(server, BAD, options={"num_ctx": attempt.allowance.num_ctx})
            attempt.commit()
            break
    agent.router.health_check_all_models()
    known = first_bound(agent.router, BAD, context=8192)
    assert not known.loads
    assert first_bound(agent.router, BAD, context=16_384).loads, "another context is a load"


# Waits that nobody here can see


def test_a_slot_that_another_program_has_taken_is_learned_of(world) -> None:
    gate = Gate()

    def reply(request: Any) -> Any:
        return ["a", gate] if request.messages[-1].content == "Hi" else "b"

    server = world.server(ScriptedModel(BAD, reply=reply), ScriptedModel(GOOD))
    agent = world.agent(server, first_token=30.0)
    usual = first_bound(agent.router, BAD).first
    ask(agent, BAD)
    with ThreadPoolExecutor(2) as pool:
        pool.submit(chat, server, BAD)
        assert gate.wait_reached()
        waiting = pool.submit(ask, agent, BAD)
        server.wait_for_request(lambda request: request.path == "/api/chat", count=3)
        threading.Event().wait(1.0)
        gate.open()
        assert attempts(waiting.result(30)) == [(BAD, "ok")]
    known = agent.router._known
    assert known.waits.elsewhere(known.catalog.find(BAD)[0].candidate) > 0.2
    assert first_bound(agent.router, BAD).first < usual, "it is in memory now"
    assert agent.router.timeouts.adapted(Expected(elsewhere=0.5)).first_token == 31.5


def test_a_tool_call_is_given_the_time_in_which_the_server_holds_it_back(world) -> None:
    """Ollama hands a tool call out at once, however long it takes to write; over the wire: `tests/parity`."""
    router = world.agent(world.server(ScriptedModel(BAD)), first_token_ceiling=30).router
    with_tools, without = (first_bound(router, BAD, needs=Needs(tools=tools)).first for tools in (True, False))
    assert with_tools - without == pytest.approx(29.0)


# What is set


def test_a_queue_is_waited_for_as_long_as_is_allowed_for_each_that_is_ahead(world) -> None:
    dripping = ScriptedModel(BAD, reply=["drip"] * 1000, tokens_per_second=4)
    server = world.server(dripping, ScriptedModel(GOOD))
    agent = world.agent(server, queue=0.5)
    ask(agent, BAD, num_predict=1)
    stream = agent.stream("Count", model=BAD)
    assert next(stream)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, agent, BAD)
        while not waiting.done():
            next(stream)
        assert attempts(waiting.result()) == [(BAD, "failed"), (GOOD, "ok")]
    stream.close()


@both_ways
def test_a_clients_own_limit_stays_above_all(world, asking) -> None:
    server = world.server(ScriptedModel(BAD), ScriptedModel(GOOD))
    server.fail(BAD, Fault.SLOW_LOAD, times=1)
    router = Router(hosts=[server.url], store="memory", config=SILENT, timeouts=SECOND)
    with create_agent("silent", router=router, client_kwargs={"timeout": 1.0}) as agent:
        answer = asking(agent, BAD)
    assert attempts(answer) == [(BAD, "failed"), (GOOD, "ok")]
    assert "the client's own timeout" in answer.routing["attempts"][0]["error"]
    router.close()


def test_the_whole_is_bounded_while_a_queue_moves_on(world) -> None:
    dripping = ScriptedModel(BAD, reply=["drip"] * 1000, tokens_per_second=20)
    agent = world.agent(world.server(dripping), total=1.5)
    with pytest.raises(Exception, match=r"was not complete within 1\.\d+ s"):
        ask(agent, BAD)


# Nothing is left behind


class Left:
    """Knows when a client has left an answer that goes on without end."""

    def __init__(self, *said: str) -> None:
        self._said = said
        self.gone = threading.Event()

    async def __call__(self) -> AsyncIterator[str]:
        try:
            for word in self._said:
                yield word
            await asyncio.Event().wait()
        finally:
            self.gone.set()


@both_ways
@pytest.mark.parametrize("said", [(), ("one ", "two ")], ids=["before the first token", "after two tokens"])
def test_a_server_hears_that_it_was_given_up_and_stops(world, asking, said) -> None:
    left = Left(*said)
    server = world.server(ScriptedModel(BAD, reply=lambda _request: left()), ScriptedModel(GOOD, reply="Done."))
    answer = asking(world.agent(server, load=1.0), BAD)
    assert str(answer) == "Done."
    assert left.gone.wait(10), "it goes on for nobody"


def test_a_hung_model_keeps_a_queue_no_longer_than_one_request(world) -> None:
    server = world.server(ScriptedModel(BAD), ScriptedModel(GOOD), num_parallel=1)
    agent = world.agent(server)
    ask(agent, BAD)
    server.fail(BAD, Fault.HANG)
    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(ask, agent, BAD) for _ in range(16)]
        found = [attempts(each.result(60)) for each in asked]
    assert found == [[(BAD, "failed"), (GOOD, "ok")]] * 16


def test_a_deadline_says_how_long_was_really_waited(world) -> None:
    server = world.server(ScriptedModel(BAD))
    agent = world.agent(server, load=1.0)
    server.fail(BAD, Fault.SLOW_LOAD)
    with pytest.raises(FirstTokenDeadlineError, match=r"'load'") as raised:
        ask(agent, BAD)
    assert 2.0 <= raised.value.seconds < 4.0
