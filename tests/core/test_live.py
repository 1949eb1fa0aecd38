"""What somebody without a framework does all day, against any server (``pytest -m live --ollama URL``).

Nothing here depends on what a model says, only on what must be true of it.
"""

import asyncio
import json

import pytest

from routed_ollama import (
    OllamaManager,
    TaskType,
    create_agent,
    get_model_recommendations,
    health_check_models,
)
from routed_ollama.cli import main

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

QUESTION = "Name the capital of France, and say in two sentences what it is known for."


@pytest.fixture
def host(monkeypatch, ollama_url):
    """The server, where every program looks for it."""
    monkeypatch.setenv("OLLAMA_HOST", ollama_url)
    return ollama_url


@pytest.fixture
def agent(host, chat_models):
    with create_agent(
        "writer", models=chat_models, temperature=0, seed=1, num_predict=24, num_thread=1, store="memory"
    ) as made:
        yield made


def test_every_path_gives_the_same_answer(agent, chat_models):
    async def paths():
        whole = await agent.agenerate(QUESTION, model=chat_models[0])
        return str(whole), "".join([str(each) async for each in agent.astream(QUESTION, model=chat_models[0])])

    answers = {str(agent.generate(QUESTION, model=chat_models[0]))}
    answers.add("".join(map(str, agent.stream(QUESTION, model=chat_models[0]))))
    answers.update(asyncio.run(paths()))
    assert len(answers) == 1
    assert answers.pop().strip()


def test_the_examples_of_the_model_manager_run(host, chat_models):
    with create_agent("developer", num_predict=24, num_thread=1) as agent:
        assert str(agent.generate("Write a REST API endpoint", task_type=TaskType.CODING)).strip()
    found = get_model_recommendations("Debug this authentication error")
    assert found["primary_recommendation"]
    assert found["reasoning"]
    assert set(chat_models) <= set(health_check_models())


def test_a_manager_records_what_its_agents_did(host, chat_models):
    with OllamaManager() as manager, create_agent("tester", router=manager, num_predict=8, num_thread=1) as agent:
        agent.generate(QUESTION, model=chat_models[0])
        record = manager.performance()[chat_models[0]]
    assert (record.total_requests, record.success_rate) == (1, 1)
    assert record.tokens_per_second > 0


def test_the_command_line_says_which_model_would_answer(host, chat_models, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["recommend", QUESTION, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]
    assert main(["models"]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in chat_models)
