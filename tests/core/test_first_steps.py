"""What people do first, and wrongly: the error says so at once, and no other model answers in silence."""

import subprocess
import sys

import pytest

from routed_ollama import (
    Candidate,
    ConfigurationError,
    RoutedOllamaWarning,
    Router,
    TaskType,
    create_agent,
    get_model_recommendations,
    set_default_router,
)
from routed_ollama.testing import OllamaServer

PROGRAM = """
from pathlib import Path

from routed_ollama import (
    AgentInterface,
    EnhancedAgentInterface,
    EnhancedOllamaManager,
    OllamaManager,
    Recommendation,
    Role,
    TaskType,
    create_agent,
    get_model_recommendations,
    health_check_models,
    routing,
)


def manager() -> EnhancedOllamaManager:
    made: OllamaManager = OllamaManager(config=Path("routing.toml"), prefer="speed")
    return made


def agent() -> EnhancedAgentInterface:
    made: AgentInterface = create_agent(Role("poet", "You rhyme.", task_type=TaskType.GENERAL), memory=3, num_ctx=4096)
    return made


advice: Recommendation = manager().recommend_model("Debug this")
names: tuple[str, ...] = (advice.model, *advice.fallbacks, advice.reasoning)
seconds: dict[str, float | None] = {name: seen.average_response_time for name, seen in manager().performance().items()}
words: list[str] = [f"{model}: {status.value}" for model, status in health_check_models().items()]
best: str = get_model_recommendations("Debug this")["primary_recommendation"]
with routing(prefer="quality", session="mine"):
    answer: str = agent().generate("Hello", temperature=0.5)
    pieces: list[str] = [piece.model for piece in agent().stream("Hello")]


async def ask() -> list[str]:
    async with agent() as poet:
        return [await poet.agenerate("Hello"), *[piece async for piece in poet.astream("Hello")]]
"""


@pytest.fixture(autouse=True)
def fresh_default_router():
    set_default_router()
    yield
    set_default_router()


def test_a_program_of_ones_own_is_checked_strictly_without_a_complaint(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM, encoding="utf-8")
    run = subprocess.run(  # noqa: S603 (our own text)
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_names_alone_may_be_one_name():
    assert Router.from_models("llama3.1:8b").recommend_model("Hello").model == "llama3.1:8b"
    assert Router(Candidate("llama3.1:8b", "http://127.0.0.1:1"), store="memory").hosts


def test_what_is_said_with_a_prompt_counts_without_a_manager_of_ones_own(monkeypatch):
    with OllamaServer(["llama3.1:8b"]) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        said = get_model_recommendations("Hello", task_type="coding")
        assert said["task_characteristics"].task_type is TaskType.CODING
        with pytest.raises(ConfigurationError, match="found 'cooking'"):
            get_model_recommendations("Hello", task_type="cooking")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (5, "models: expected a list of names, found int"),
        ([5], "models: expected names, found int"),
        ([" "], "models: expected names, found an empty one"),
        ([], "models is empty"),
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    "make",
    [
        Router.from_models,
        lambda given: Router(given, store="memory"),
        lambda given: create_agent("developer", models=given, store="memory"),
    ],
    ids=["from_models", "Router", "create_agent"],
)
def test_models_that_are_no_names_are_said_to_be_none(make, given, says):
    with pytest.raises(ConfigurationError, match=says):
        make(given)


@pytest.mark.parametrize("make", [Router, lambda **given: create_agent("developer", **given)], ids=["Router", "agent"])
def test_hosts_that_are_no_list_are_said_to_be_none(make):
    with pytest.raises(ConfigurationError, match="hosts: expected a list of addresses, found int"):
        make(hosts=5, store="memory")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"timeout": 3}, r"create_agent\(role, timeouts="),
        ({"timeouts": {"connect": 3}}, r"create_agent\(role, timeouts="),
        ({"session": "mine"}, r"with routing\(session="),
        ({"memory": True}, r"create_agent\(role, memory=True\)"),
        ({"models": ["gemma2:9b"]}, "for one prompt there is model="),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_an_agents_and_no_prompts_is_said_with_its_place(option, says):
    with (
        OllamaServer(["llama3.1:8b"]) as server,
        create_agent("tester", base_url=server.url, store="memory") as agent,
        pytest.warns(RoutedOllamaWarning, match=says),
    ):
        assert agent.generate("Hi", **option) == "You asked: Hi"
