"""An agent in a program: copies, threads, event loops, streams that are left, secrets, and no framework installed."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import subprocess
import sys
import threading

import ollama
import pytest
from agent_paths import bodies

from routed_ollama import (
    AgentInterface,
    HostUnreachableError,
    OllamaManager,
    Role,
    Router,
    create_agent,
    default_router,
    set_default_router,
)
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel

SECRET = "s3cret"  # noqa: S105 (for looking where it should not be)
CONFIG = {"health": {"interval": 0}}


@pytest.fixture
def server(monkeypatch):
    with OllamaServer(["llama3.1:8b"]) as running:
        monkeypatch.setenv("OLLAMA_HOST", running.url)
        yield running


@pytest.fixture
def make(server):
    made = []

    def agent(role="developer", **options):
        made.append(create_agent(role, **{"base_url": server.url, "config": CONFIG, "store": "memory", **options}))
        return made[-1]

    yield agent
    for one in made:
        one.close()


def unpickled(agent):
    return pickle.loads(pickle.dumps(agent))  # noqa: S301 (our own)


every_copy = pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, unpickled], ids=lambda way: way.__name__)


# Copies


@every_copy
def test_a_copy_has_the_role_the_settings_and_a_conversation_of_its_own(server, make, copied):
    agent = make(Role("poet", "Rhyme.", 0.9), memory=2, seed=3, keep_alive="5m", models=["llama3.1:8b"])
    agent.generate("one")
    other = copied(agent)
    assert other.generate("two") == "You asked: two"
    agent.generate("three")
    assert [turn.prompt for turn in other.history] == ["one", "two"]
    assert [turn.prompt for turn in agent.history] == ["one", "three"]
    _, by_copy, by_agent = bodies(server)
    for name in ("model", "options", "keep_alive"):
        assert by_copy[name] == by_agent[name]
    assert by_copy["messages"][:3] == by_agent["messages"][:3]
    for number in range(3):
        other.generate(str(number))
    assert len(other.history) == 2
    other.close()


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_share_the_router_which_outlives_them(make, copied):
    agent = make()
    with copied(agent) as other:
        assert other.router is agent.router
        other.generate("one")
    agent.generate("two")
    assert agent.router.performance()["llama3.1:8b"].total_requests == 2


def test_in_another_process_the_default_router_is_that_processes(server):
    try:
        agent = create_agent("tester")
        data = pickle.dumps(agent)
        set_default_router()
        revived = pickle.loads(data)  # noqa: S301 (our own)
        assert revived.router is default_router()
        assert revived.router is not agent.router
        assert revived.role == agent.role
    finally:
        set_default_router()


def test_another_process_goes_on_with_the_conversation(server, make, tmp_path):
    agent = make(memory=True, store=tmp_path / "history.sqlite3")
    agent.generate("one")
    (tmp_path / "agent").write_bytes(pickle.dumps(agent))
    code = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).generate('two'))"
    command = [sys.executable, "-c", code, str(tmp_path / "agent")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)  # noqa: S603 (our own)
    assert done.stdout == "You asked: two\n"
    assert [message["content"] for message in bodies(server)[-1]["messages"]][1:] == ["one", "You asked: one", "two"]


def test_what_may_be_secret_is_not_pickled(server, make):
    url = server.url.replace("http://", f"http://me:{SECRET}@")
    for agent in (make(base_url=url), make(base_url=None, config={**CONFIG, "hosts": [url]})):
        assert SECRET.encode() not in pickle.dumps(agent)
        assert SECRET.encode() not in pickle.dumps(agent.router)
    with pytest.raises(TypeError, match="client_kwargs is not pickled, since they may hold credentials"):
        pickle.dumps(make(client_kwargs={"headers": {"authorization": SECRET}}))
    assert copy.deepcopy(make(client_kwargs={"headers": {"authorization": SECRET}})).generate("Hi")
    assert bodies(server)
    assert server.requests[-1].headers["authorization"] == SECRET


# Secrets


@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.NOT_FOUND, Fault.LOAD_ERROR, None])
def test_no_text_about_an_agent_or_a_manager_holds_a_secret(server, make, fault, refused_url):
    url = (server.url if fault else refused_url).replace("http://", f"http://me:{SECRET}@")
    agent = make(base_url=url, client_kwargs={"headers": {"x-key": SECRET}})
    if fault:
        server.fail(None, fault)
    with pytest.raises((ollama.ResponseError, HostUnreachableError)) as caught:
        agent.generate("Hi")
    shown = [caught.value, caught.value.__cause__, agent, agent.router, agent.router.config, agent.role]
    assert not any(SECRET in f"{each} {each!r}" for each in shown)
    assert not any(SECRET in note for note in getattr(caught.value, "__notes__", ()))


# Threads and loops


def test_threads_each_with_a_loop_of_its_own_share_an_agent(server, make):
    agent = make(memory=3)
    met, failed = threading.Barrier(4), []

    async def ask(number):
        answers = await asyncio.gather(*(agent.agenerate(f"{number}.{turn}") for turn in range(3)))
        streamed = "".join([piece async for piece in agent.astream(f"{number} streamed")])
        return [*answers, streamed]

    def work(number):
        try:
            met.wait(10)
            for _ in range(2):
                expected = [f"You asked: {number}.{turn}" for turn in range(3)] + [f"You asked: {number} streamed"]
                assert asyncio.run(ask(number)) == expected
            assert agent.generate(f"{number}") == f"You asked: {number}"
        except BaseException as error:  # noqa: BLE001 (told by the test)
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert len(bodies(server)) == 4 * 9
    assert len(agent.history) == 3


def test_three_event_loops_in_a_row_leave_nothing_open(make, recwarn):
    agent = make(memory=True)

    async def talk():
        await agent.agenerate("one")
        return "".join([piece async for piece in agent.astream("two")])

    assert [asyncio.run(talk()) for _ in range(3)] == ["You asked: two"] * 3
    assert [turn.prompt for turn in agent.history] == ["one", "two"] * 3
    assert [warning for warning in recwarn if warning.category is ResourceWarning] == []


# Leaving, closing


class Leaving:
    """A reply that says a word, waits, and tells when whoever asked has left."""

    def __init__(self):
        self.left = threading.Event()

    async def __call__(self, _request):
        try:
            yield "one "
            await asyncio.Event().wait()
        finally:
            self.left.set()


@pytest.mark.parametrize("how", ["closed", "forgotten"])
def test_a_stream_that_is_left_closes_its_connection(server, make, how):
    reply = Leaving()
    server.add_model(ScriptedModel("slow:1b", reply=reply))
    agent = make(models=["slow:1b"])
    pieces = agent.stream("Count")
    assert next(pieces) == "one "
    if how == "closed":
        pieces.close()
    del pieces
    assert reply.left.wait(10)
    assert agent.router.performance() == {}


@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_an_async_stream_that_is_left_closes_its_connection(server, make, how):
    reply = Leaving()
    server.add_model(ScriptedModel("slow:1b", reply=reply))
    agent = make(models=["slow:1b"])
    pieces = agent.astream("Count")
    assert await anext(pieces) == "one "
    if how == "closed":
        await pieces.aclose()
    else:
        asking = asyncio.create_task(anext(pieces))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert await asyncio.to_thread(reply.left.wait, 10)
    assert agent.router.performance() == {}


async def test_closing_twice_is_closing_once_and_what_is_closed_opens_again(make):
    agent = make()
    for _ in range(2):
        agent.close()
        await agent.aclose()
    assert agent.generate("Hi") == await agent.agenerate("Hi") == "You asked: Hi"


def test_an_agent_closes_the_router_that_it_made_and_no_other(server):
    with Router(base_url=server.url, store="memory", config=CONFIG) as router:
        with AgentInterface("developer", router=router) as agent:
            agent.generate("Hi")
        assert router.recommend_model("Hi").model == "llama3.1:8b"


# Without a framework

BLOCKED = """
import sys

BARRED = {"langchain_core", "langchain", "langchain_ollama", "langgraph", "llama_index", "typer", "rich", "pytest",
          "llama_cpp", "langchain_routed_ollama", "llamaindex_routed_ollama"}

class Bar:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BARRED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Bar())

import asyncio
from routed_ollama import OllamaManager, TaskType, create_agent, get_model_recommendations, health_check_models

agent = create_agent("developer", memory=True)
print(agent.generate("one", task_type=TaskType.CODING))
print("".join(agent.stream("two")))
print(asyncio.run(agent.agenerate("three")))
print(get_model_recommendations("Debug this")["primary_recommendation"])
print(health_check_models(), OllamaManager().recommend_model("Hi").model)
agent.router.close()
"""


def test_no_framework_need_be_installed(server):
    command = [sys.executable, "-W", "error", "-c", BLOCKED]
    done = subprocess.run(  # noqa: S603 (our own)
        command, check=False, capture_output=True, text=True, timeout=60, env={**os.environ, "OLLAMA_HOST": server.url}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:4] == ["You asked: one", "You asked: two", "You asked: three", "llama3.1:8b"]


def test_a_manager_is_told_of_what_its_agents_learn(server):
    with OllamaManager(base_url=server.url, store="memory") as manager:
        create_agent("writer", router=manager).generate("Hi")
        assert manager.performance()["llama3.1:8b"].total_requests == 1
