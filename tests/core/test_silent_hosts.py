"""A host that says nothing keeps nobody: not the first request, not Ctrl-C, not the end of the process."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx
import pytest

from routed_ollama import (
    Candidate,
    FailureKind,
    HealthStatus,
    HostUnreachableError,
    Message,
    ModelNotInstalledError,
    Needs,
    Outcome,
    OutcomeKind,
    Router,
)
from routed_ollama.health import Looks, _looks, in_thread, wait_for_enough
from routed_ollama.testing import FakeClock, OllamaServer, ScriptedModel

HELLO = [Message("user", "hello")]
QUIET = {"health": {"interval": 0}}
PATIENCE = 30.0
"""Seconds that a test waits for what must come, on however slow a machine."""
FOR_EVER = 3600.0


class Late:
    """A server that is silent until it is released, and then has one model."""

    def __init__(self, answers: Callable[..., Any], model: str, capabilities: Sequence[str] = ("completion",)) -> None:
        with OllamaServer([ScriptedModel(model, capabilities=tuple(capabilities))]) as real:
            tags, ps = (httpx.get(f"{real.url}/api/{path}").content for path in ("tags", "ps"))
            show = httpx.post(f"{real.url}/api/show", json={"model": model}).content
        self.asked = threading.Event()
        self._tags = tags
        self._server = answers(tags=self._wait, ps=(200, ps), show=(200, show))
        self.url = self._server.url
        self.release = self._server.release.set

    def _wait(self, handler: Any) -> None:
        self.asked.set()
        self._server.release.wait(FOR_EVER)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(self._tags)))
        handler.end_headers()
        with suppress(OSError):  # who asked has left
            handler.wfile.write(self._tags)

    @property
    def silent(self) -> bool:
        return not self._server.release.is_set()

    @property
    def looks(self) -> int:
        """How often it was asked what it has."""
        return [path for _, path, _ in self._server.requests].count("/api/tags")


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A silent server is given up by nobody, so that only what does not wait for it goes on."""
    monkeypatch.setattr("routed_ollama.ollama_api._READ_SECONDS", FOR_EVER)
    monkeypatch.setattr("routed_ollama.ollama_api._SECONDS", FOR_EVER)


@pytest.fixture
def server() -> Iterator[OllamaServer]:
    with OllamaServer(["llama3.1:8b"]) as running:
        yield running


@pytest.fixture
def late(wrong_server) -> Late:
    return Late(wrong_server, "llava:7b", ("completion", "vision"))


@pytest.fixture
def make() -> Iterator[Callable[..., Router]]:
    made: list[Router] = []

    def router(*hosts: str, **options: Any) -> Router:
        made.append(Router(hosts=hosts, **{"store": "memory", "config": QUIET, **options}))
        return made[-1]

    yield router
    for one in made:
        one.close()


def names(router: Router) -> set[str]:
    return {info.name for info in router.models()}


def looking() -> int:
    return sum(thread.name == "routed-ollama-look" for thread in threading.enumerate())


async def plan(router: Router, way: str, **hints: Any) -> str:
    if way == "sync":
        return (await asyncio.to_thread(router.plan, HELLO, **hints)).recommendation.model
    return (await router.aplan(HELLO, **hints)).recommendation.model


both_ways = pytest.mark.parametrize("way", ["sync", "async"])


# --- one among several ------------------------------------------------------------------------------------------------


@both_ways
async def test_the_first_request_goes_on_without_it_and_it_joins_when_it_answers(server, late, make, way):
    before = looking()
    router = make(server.url, late.url)
    assert [await plan(router, way) for _ in range(3)] == ["llama3.1:8b"] * 3
    assert (late.silent, late.looks) == (True, 1)
    assert names(router) == {"llama3.1:8b"}
    late.release()
    server.wait_until(lambda: names(router) == {"llama3.1:8b", "llava:7b"})
    assert await plan(router, way, needs=Needs(vision=True)) == "llava:7b"
    assert late.looks == 1
    server.wait_until(lambda: looking() == before)


@both_ways
async def test_what_answers_by_the_time_all_others_have_failed_is_asked_as_well(server, late, make, way):
    """It was only slow: nobody's request fails for that."""
    router = make(server.url, late.url)
    plan = router.plan(HELLO) if way == "sync" else await router.aplan(HELLO)
    asked = []
    for attempt in plan:
        with attempt:
            asked.append(attempt.model)
            if attempt.host == late.url:
                attempt.commit()
                break
            late.release()
            server.wait_until(lambda: "llava:7b" in names(router))
            raise httpx.ReadError("gone")
    assert (set(asked[:-1]), asked[-1]) == ({"llama3.1:8b"}, "llava:7b")
    assert plan.route()["model"] == "llava:7b"


def test_a_host_that_joins_with_nothing_of_use_hides_no_error(server, late, make):
    """The only model is gone by then, which is what the caller is to read."""
    router, model = make(server.url, late.url), "llama3.1:8b"
    plan = router.plan(HELLO, scope=[model])
    for attempt in plan:
        with attempt:
            late.release()
            server.wait_until(lambda: "llava:7b" in names(router))
            missing = FailureKind.MISSING.value
            router.record(Outcome(model, attempt.host, OutcomeKind.FAILED, failure=missing))
            raise httpx.ReadError("gone")
    assert isinstance(plan.exhausted(), httpx.ReadError)


async def test_what_is_still_silent_then_is_not_waited_for(server, late, make):
    plan = make(server.url, late.url).plan(HELLO)
    for attempt in plan:
        with attempt:
            raise httpx.ReadError("gone")
    assert isinstance(plan.exhausted(), httpx.ReadError)
    assert late.silent


def test_no_request_is_sent_to_it_while_another_can_answer(server, late, make):
    scope = [Candidate("llama3.1:8b", late.url), Candidate("llama3.1:8b", server.url)]
    found = make(server.url, late.url).plan(HELLO, scope=scope)
    assert [choice.info.host for choice in found.choices] == [server.url]


def test_the_monitor_takes_it_in_too(server, late, make):
    router = make(server.url, late.url, config={"health": {"interval": 0.01}})
    router.plan(HELLO)
    server.wait_until(lambda: late.looks > 1)
    assert router.plan(HELLO).recommendation.model == "llama3.1:8b"
    late.release()
    server.wait_until(lambda: names(router) == {"llama3.1:8b", "llava:7b"})


EYES = {"needs": Needs(vision=True)}
HERS = {"scope": ["llava:7b"]}


@both_ways
@pytest.mark.parametrize("wish", [EYES, HERS], ids=["what only it can", "what only it has"])
async def test_who_can_be_served_by_it_alone_waits_for_it(server, late, make, way, wish):
    request = asyncio.create_task(plan(make(server.url, late.url), way, **wish))
    done, _ = await asyncio.wait([request], timeout=4 * _looks.GRACE_SECONDS)
    assert not done
    late.release()
    assert await request == "llava:7b"


def test_a_host_that_has_no_chat_model_is_not_enough(late, make):
    with OllamaServer([ScriptedModel("embedder:latest", capabilities=("embedding",))]) as mute:
        router = make(mute.url, late.url)
        request = in_thread(router.plan, HELLO)
        assert late.asked.wait(PATIENCE)
        assert not request.done()
        late.release()
        request.result(PATIENCE)
        assert names(router) == {"embedder:latest", "llava:7b"}


def test_who_asks_for_the_health_of_all_is_told_of_all(server, late, make):
    router = make(server.url, late.url)
    router.plan(HELLO)
    order: list[str] = []
    with ThreadPoolExecutor() as pool:
        health = pool.submit(router.health_check_all_models)
        health.add_done_callback(lambda _: order.append("told"))
        server.wait_until(lambda: late.looks > 1)
        order.append("released")
        late.release()
        assert health.result(PATIENCE) == dict.fromkeys(("llama3.1:8b", "llava:7b"), HealthStatus.HEALTHY)
    assert order == ["released", "told"]


def test_one_that_is_known_to_be_dead_costs_no_request_anything(server, wrong_server, make, monkeypatch):
    clock, silent = FakeClock(), Late(wrong_server, "llava:7b")
    monkeypatch.setattr("routed_ollama.ollama_api._READ_SECONDS", 0.05)
    router = make(server.url, silent.url, clock=clock)
    assert router.health_check_all_models() == {"llama3.1:8b": HealthStatus.HEALTHY}
    for _ in range(3):
        router.plan(HELLO)
    assert silent.looks == 1
    monkeypatch.setattr(_looks, "GRACE_SECONDS", FOR_EVER)
    clock.advance(2.0)
    with pytest.raises(ModelNotInstalledError):
        router.plan(HELLO, scope=[Candidate("mistral:7b", server.url)])


def test_one_that_another_process_found_dead_is_not_waited_for(server, late, make, tmp_path, monkeypatch):
    with Router(base_url=late.url, store=tmp_path / "kept.db", config=QUIET) as earlier:
        monkeypatch.setattr("routed_ollama.ollama_api._READ_SECONDS", 0.05)
        with pytest.raises(HostUnreachableError):
            earlier.plan(HELLO)
    monkeypatch.setattr("routed_ollama.ollama_api._READ_SECONDS", FOR_EVER)
    monkeypatch.setattr(_looks, "GRACE_SECONDS", FOR_EVER)
    router = make(server.url, late.url, store=tmp_path / "kept.db")
    assert router.plan(HELLO).recommendation.model == "llama3.1:8b"
    assert late.silent


def test_what_it_said_last_is_believed_not_what_was_heard_last(server, make):
    """One that begins to answer while an earlier question hangs is there, whatever becomes of that question."""
    clock = FakeClock()
    catalog = make(server.url, clock=clock)._known.catalog
    hangs, answers = threading.Event(), threading.Event()
    host = catalog.hosts[server.url]
    real, host.tags = host.tags, lambda: (hangs.set(), answers.wait(PATIENCE), refused())

    def refused() -> None:
        raise HostUnreachableError("it hung")

    earlier = in_thread(catalog.refresh, server.url)
    assert hangs.wait(PATIENCE)
    host.tags = real
    clock.advance(1.0)
    assert catalog.refresh(server.url).error == ""
    answers.set()
    earlier.result(PATIENCE)
    assert catalog.views[server.url].error == ""


def test_what_it_said_before_it_was_lost_does_not_bring_it_back(late, make):
    clock = FakeClock()
    router = make(late.url, clock=clock)
    earlier = in_thread(router.health_check_all_models)
    assert late.asked.wait(PATIENCE)
    clock.advance(1.0)
    refused = FailureKind.UNREACHABLE.value
    router.record(Outcome("llava:7b", late.url, OutcomeKind.FAILED, failure=refused, response_time=0.0))
    late.release()
    earlier.result(PATIENCE)
    router.plan(HELLO)
    assert late.looks == 2


# --- what a look is made of -------------------------------------------------------------------------------------------


def test_an_error_in_a_look_is_raised_where_it_is_waited_for():
    def broken(_url: str) -> None:
        raise ZeroDivisionError

    looks = Looks(broken)
    with pytest.raises(ZeroDivisionError):
        wait_for_enough(looks.begin(["http://one"]), lambda: False)
    assert looks.under_way(["http://one"]) == set()


def test_an_error_in_a_look_that_nobody_waits_for_is_told(caplog, monkeypatch):
    monkeypatch.setattr(_looks, "GRACE_SECONDS", 0.0)
    go = threading.Event()

    def broken(_url: str) -> None:
        go.wait(PATIENCE)
        raise ZeroDivisionError

    looks = Looks(broken).begin(["http://one"])
    assert wait_for_enough(looks, lambda: True) == ["http://one"]
    told = threading.Event()
    looks["http://one"].add_done_callback(lambda _: told.set())
    with caplog.at_level(logging.WARNING, "routed_ollama"):
        go.set()
        assert told.wait(PATIENCE)
    assert [record.getMessage() for record in caplog.records] == ["what http://one has could not be taken in"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_does_not_think_that_it_is_looking(late):
    looks = Looks(lambda _url: late.asked.set() or late._server.release.wait(PATIENCE))
    looks.begin([late.url])
    assert late.asked.wait(PATIENCE)
    child = os.fork()
    if child == 0:
        os._exit(len(looks.under_way([late.url])))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(looks.under_way([late.url])) == 1


# --- the end of a program ---------------------------------------------------------------------------------------------

BEGINNING = """
import asyncio, sys
from routed_ollama import Message, Router, ollama_api
ollama_api._READ_SECONDS = ollama_api._SECONDS = 3600.0
router = Router(hosts=sys.argv[1:], store="memory")
hello = [Message("user", "hello")]
"""
STOPPED = {
    "sync": "router.plan(hello)",
    "async": "asyncio.run(router.aplan(hello))",
    "health": "router.health_check_all_models()",
}


def program(script: str, *urls: str) -> subprocess.Popen[str]:
    options = ["-X", "dev", "-W", "ignore", "-W", "error::ResourceWarning"]
    command = [sys.executable, *options, "-c", BEGINNING + script, *urls]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # noqa: S603 (ourselves)


@pytest.mark.skipif(sys.platform == "win32", reason="no signal can be sent there to one process alone")
@pytest.mark.parametrize("script", STOPPED.values(), ids=list(STOPPED))
def test_ctrl_c_does_not_wait_for_it(late, script):
    with program(script, late.url) as running:
        assert late.asked.wait(PATIENCE)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=PATIENCE)
    assert late.silent
    assert said.strip().endswith("KeyboardInterrupt")


def test_a_program_that_is_done_does_not_wait_for_it(server, late):
    with program("print(router.plan(hello).recommendation.model, file=sys.stderr)", server.url, late.url) as running:
        _, said = running.communicate(timeout=PATIENCE)
    assert (said, running.returncode) == ("llama3.1:8b\n", 0)
    assert late.silent
