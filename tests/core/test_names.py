"""The names, examples and configuration that people know, unchanged; and what stands behind the module's functions."""

from __future__ import annotations

import json
import threading
import time

import ollama
import pytest

import routed_ollama
from routed_ollama import (
    AgentInterface,
    ConfigurationError,
    EnhancedAgentInterface,
    EnhancedOllamaManager,
    HealthStatus,
    HostUnreachableError,
    ModelCapability,
    ModelInfo,
    ModelPerformance,
    OllamaManager,
    Router,
    TaskCharacteristics,
    TaskType,
    create_agent,
    default_router,
    get_model_recommendations,
    health_check_models,
    set_default_router,
)
from routed_ollama.testing import Fault, OllamaServer

EXAMPLE = """
agent = create_agent("developer")
response = agent.generate("Write a REST API endpoint", task_type=TaskType.CODING)

recommendations = get_model_recommendations("Debug this authentication error")
print(f"Best model: {recommendations['primary_recommendation']}")
print(f"Reasoning: {recommendations['reasoning']}")

health_status = health_check_models()
for model, status in health_status.items():
    print(f"{model}: {status}")
"""
TASK_MAP = """{"task_specific_models": {"coding": ["codellama:13b", "codellama:7b"], \
"architecture": ["codellama:13b", "llama3.1:8b"], "testing": ["llama3.1:8b", "codellama:7b"]}}"""
CAPABILITIES = """{"model_capabilities": {"codellama:13b": ["code_generation", "code_analysis", "accuracy"], \
"llama3.1:8b": ["reasoning", "creativity", "accuracy"]}}"""
MODELS = ("codellama:13b", "codellama:7b", "llama3.1:8b")


@pytest.fixture(autouse=True)
def fresh_default_router():
    set_default_router()
    yield
    set_default_router()


@pytest.fixture
def server(monkeypatch):
    with OllamaServer(MODELS) as running:
        monkeypatch.setenv("OLLAMA_HOST", running.url)
        yield running


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "config.json"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_the_example_runs_as_it_stands(server, capsys):
    names = {name: getattr(routed_ollama, name) for name in routed_ollama.__all__}
    exec(compile(EXAMPLE, "example", "exec"), names)  # noqa: S102 (the text above)
    assert names["response"] == "You asked: Write a REST API endpoint"
    assert names["response"].routing["task_type"] == "coding"
    best, reasoning, *health = capsys.readouterr().out.splitlines()
    chosen = best.removeprefix("Best model: ")
    assert chosen in MODELS
    assert reasoning.startswith("Reasoning: ")
    assert chosen in reasoning
    assert sorted(health) == [f"{model}: healthy" for model in sorted(MODELS)]


@pytest.mark.parametrize(
    ("prompt", "leads"),
    [
        ("Write a Python function that parses a date", ["codellama:13b", "codellama:7b"]),
        ("Design the architecture of a scalable microservice system", ["codellama:13b", "llama3.1:8b"]),
        ("Write unit tests with pytest for this parser", ["llama3.1:8b", "codellama:7b"]),
    ],
)
def test_the_task_map_says_who_leads(server, file, prompt, leads):
    with OllamaManager(config=file(TASK_MAP)) as manager:
        told = manager.get_model_recommendations(prompt)
        assert [told["primary_recommendation"], *told["fallback_models"]][:2] == leads
        assert manager.get_fallback_models(leads[0], prompt)[0] == leads[1]


def test_the_capability_map_says_what_a_model_is_good_at(server, file):
    with OllamaManager(config=str(file(CAPABILITIES))) as manager:
        manager.recommend_model("Hello")
        strengths = {info.name: info.capabilities for info in manager.models()}
    for name, listed in json.loads(CAPABILITIES)["model_capabilities"].items():
        assert {strengths[name][ModelCapability(each)] for each in listed} == {0.9}


def test_a_file_without_a_model_that_is_installed_does_no_harm(server, file):
    path = file('{"task_specific_models": {"coding": ["nobody:1b", "codellama:7b"]}}')
    with OllamaManager(config=path) as manager:
        assert manager.recommend_model("Write a Python function").model == "codellama:7b"


def test_the_names_are_those_of_the_same_classes():
    assert OllamaManager is EnhancedOllamaManager is Router
    assert AgentInterface is EnhancedAgentInterface
    with OllamaManager() as manager:
        agent = EnhancedAgentInterface("developer", router=manager)
        for name in (
            "recommend_model",
            "record_performance",
            "health_check_all_models",
            "get_fallback_models",
            "get_model_recommendations",
        ):
            assert callable(getattr(manager, name))
            assert callable(getattr(agent, name))
    for kind in (ModelPerformance, ModelInfo, TaskCharacteristics):
        assert isinstance(kind, type)


def test_a_manager_learns_and_tells(server):
    with OllamaManager() as manager:
        manager.record_performance(
            "codellama:7b",
            task_type=TaskType.CODING,
            response_time=2.0,
            tokens_per_second=30.0,
            success=True,
            quality_score=8.0,
        )
        found = manager.performance()["codellama:7b"]
        assert isinstance(found, ModelPerformance)
        assert (found.average_response_time, found.success_rate, found.quality_score) == (2.0, 1.0, 8.0)
        assert (round(found.tokens_per_second), found.total_requests) == (30, 1)
        assert found.last_updated > 0
        assert set(manager.health_check_all_models()) == set(MODELS)
        assert "codellama:7b" not in manager.get_fallback_models("codellama:7b")


def test_recommendations_are_a_mapping_of_six(server):
    told = get_model_recommendations("Debug this authentication error")
    assert list(told) == [
        "primary_recommendation",
        "fallback_models",
        "reasoning",
        "task_characteristics",
        "scores",
        "health",
    ]
    assert told["task_characteristics"].task_type is TaskType.DEBUGGING
    assert {told["primary_recommendation"], *told["fallback_models"]} == set(told["scores"]) == set(MODELS)
    assert max(told["scores"], key=told["scores"].get) == told["primary_recommendation"]
    assert set(told["health"].values()) == {HealthStatus.HEALTHY}


QUICK, GOOD = "codellama:7b", "codellama:13b"


@pytest.fixture
def experienced(server, tmp_path):
    """A history in which one model is quick and the other good."""
    store = tmp_path / "history.sqlite3"
    with OllamaManager(store=store) as manager:
        for _ in range(40):
            manager.record_performance(QUICK, response_time=1.0, tokens_per_second=300.0, quality_score=5.0)
            manager.record_performance(GOOD, response_time=60.0, tokens_per_second=5.0, quality_score=9.5)
    return {"store": store, "models": [QUICK, GOOD]}


@pytest.mark.parametrize(("prefer", "chosen"), [("speed", QUICK), ("quality", GOOD)])
@pytest.mark.parametrize("way", ["file", "environment", "argument", "request", "around"])
def test_speed_or_quality_is_preferred_wherever_it_is_said(experienced, file, monkeypatch, way, prefer, chosen):
    other = "quality" if prefer == "speed" else "speed"
    if way == "file":
        experienced["config"] = file(json.dumps({"routing": {"prefer": prefer}}))
    elif way == "environment":  # stronger than the file
        experienced["config"] = file(json.dumps({"routing": {"prefer": other}}))
        monkeypatch.setenv("ROUTED_OLLAMA_PREFER", prefer)
    else:  # stronger than both
        monkeypatch.setenv("ROUTED_OLLAMA_PREFER", other)
    if way == "argument":
        experienced["prefer"] = prefer
    with create_agent("writer", **experienced) as agent:
        if way == "request":
            answer = agent.generate("Hello", task_type="general", prefer=prefer)
        elif way == "around":
            with routed_ollama.routing(prefer=prefer):
                answer = agent.generate("Hello", task_type="general")
        else:
            answer = agent.generate("Hello", task_type="general")
            assert agent.recommend_model("Hello", task_type="general").model == chosen
        assert answer.model == chosen


def test_a_record_has_the_units_that_it_says(server):
    with OllamaManager(store="memory") as manager:
        agent = create_agent("developer", router=manager, models=["codellama:7b"])
        began = time.time()
        agent.generate("Count")
        server.fail("codellama:7b", Fault.SERVER_ERROR)
        with pytest.raises(ollama.ResponseError):
            agent.generate("Count")
        found = manager.performance()["codellama:7b"]
    assert 0 < found.average_response_time <= time.time() - began  # seconds, of the answer that succeeded
    assert found.tokens_per_second > 0
    assert 0.3 < found.success_rate < 0.7  # a share
    assert 0 < found.quality_score <= 10
    assert found.total_requests == 2
    assert began <= found.last_updated <= time.time()


@pytest.mark.parametrize(
    ("given", "found"), [(None, TaskType.CODING), ("testing", TaskType.TESTING), (TaskType.ANALYSIS, TaskType.ANALYSIS)]
)
def test_what_an_agent_records_counts_for_its_kind_of_task(server, given, found):
    with OllamaManager(store="memory") as manager:
        agent = create_agent("developer", router=manager)
        agent.record_performance("codellama:7b", task_type=given, response_time=1.0)
        assert manager.performance(found)["codellama:7b"].total_requests == 1
        with pytest.raises(ConfigurationError, match="task_type: expected one of"):
            agent.record_performance("codellama:7b", task_type="cooking", response_time=1.0)
        with pytest.raises(ConfigurationError, match="model: expected a name"):
            agent.record_performance("", response_time=1.0)


async def test_what_is_given_to_the_async_forms_counts(server):
    with OllamaManager() as manager:
        told = await manager.aget_model_recommendations("Hello", scope=["llama3.1:8b"])
        assert (told["primary_recommendation"], told["fallback_models"]) == ("llama3.1:8b", [])
        assert await manager.aget_fallback_models("llama3.1:8b", scope=["llama3.1:8b"]) == []


# The default router


def test_the_functions_share_one_router_which_the_agents_share_too(server):
    agent = create_agent("developer")
    agent.generate("Hello")
    health_check_models()
    assert agent.router is default_router()
    assert sum(found.total_requests for found in default_router().performance().values()) == 1


def test_a_changed_environment_is_noticed(server, monkeypatch):
    first = default_router()
    assert default_router() is first
    with OllamaServer(["gemma2:9b"]) as other:
        monkeypatch.setenv("OLLAMA_HOST", other.url)
        assert list(health_check_models()) == ["gemma2:9b"]
        monkeypatch.setenv("ROUTED_OLLAMA_PREFER", "speed")
        assert default_router().config.routing.prefer == "speed"
    monkeypatch.delenv("ROUTED_OLLAMA_PREFER")
    monkeypatch.setenv("OLLAMA_HOST", server.url)
    assert default_router() is first


def test_a_router_of_ones_own_may_be_the_default_and_is_left_open(server):
    with Router(base_url=server.url, store="memory") as router:
        set_default_router(router)
        assert default_router() is router
        assert create_agent("writer").router is router
        set_default_router()
        assert default_router() is not router
        assert router.recommend_model("Hello").model in MODELS


def test_threads_that_come_at_once_get_the_same_router(server):
    met = threading.Barrier(8)
    found = []

    def come():
        met.wait(10.0)
        found.append(default_router())

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    assert len(found) == 8
    assert set(map(id, found)) == {id(default_router())}


def test_an_unhealthy_model_is_said_to_be(server):
    server.fail("codellama:7b", Fault.LOAD_ERROR)
    agent = create_agent("developer", models=["codellama:7b"])
    for _ in range(3):
        with pytest.raises(Exception, match="llama runner process has terminated"):
            agent.generate("Hello")
    assert health_check_models()["codellama:7b"] == "unhealthy"


def test_without_a_server_the_error_says_what_to_do(refused_url, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", refused_url)
    for ask in (health_check_models, lambda: get_model_recommendations("Hello")):
        with pytest.raises(HostUnreachableError, match=f"{refused_url}.*ollama serve"):
            ask()


def test_a_wrong_environment_is_an_error_when_it_is_needed(monkeypatch):
    monkeypatch.setenv("ROUTED_OLLAMA_PREFER", "fast")
    with pytest.raises(ConfigurationError, match=r"routing\.prefer"):
        health_check_models()
