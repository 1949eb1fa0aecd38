"""Long conversations with an agent: their turns may be of any shape, and none of it has the model loaded anew."""

import copy
import pickle

import pytest
from agent_paths import bodies

from routed_ollama import AgentInterface, create_agent
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel

MODEL = "llama3.1:8b"
SHAPES = {
    "prose, then short remarks": lambda number: f"turn {number} " + "word " * (40 if number < 60 else 1),
    "short remarks, then prose": lambda number: f"turn {number} " + "word " * (1 if number < 60 else 40),
    "prose, then figures": lambda number: (
        "Go on like that, please. " * 10 if number < 40 else f"{number} {number * 7919}"
    ),
    "code, then thanks": lambda number: (
        f"def f{number}(x):\n    return [x[{number}], x[-1]]\n" * 8 if number < 30 else "ok"
    ),
}


@pytest.fixture
def server():
    with OllamaServer([ScriptedModel(MODEL, context_length=131_072)]) as running:
        yield running


@pytest.fixture
def agent(server):
    with create_agent(
        "writer", base_url=server.url, store="memory", memory=True, config={"health": {"interval": 0}}
    ) as made:
        yield made


@pytest.mark.parametrize("shape", SHAPES)
def test_a_memory_has_no_model_loaded_anew_whatever_its_turns_are_like(server, agent, shape):
    for number in range(120):
        agent.generate(SHAPES[shape](number))
    assert server.loads == {MODEL: 1}
    assert all("num_ctx" not in body["options"] for body in bodies(server))
    assert len(bodies(server)[-1]["messages"]) > 20  # what fits is sent all the same


def test_what_a_small_model_answered_once_forgets_nothing_of_what_the_large_one_heard():
    large, small, long = "large:7b", "small:1b", "word " * 800
    config = {"health": {"interval": 0}, "task_specific_models": {"coding": [large, small]}}
    models = [ScriptedModel(large, context_length=32_768), ScriptedModel(small, context_length=4096)]
    with (
        OllamaServer(models, context_length=32_768) as server,
        create_agent("developer", base_url=server.url, store="memory", memory=True, config=config) as agent,
    ):
        for number in range(6):
            agent.generate(f"{number} {long}")
            agent.health_check_all_models()  # looks at what is in memory
        with server.fail(large, Fault.SERVER_ERROR):
            assert agent.generate("6").model == small
        assert [turn.prompt.split()[0] for turn in agent.history] == list("0123456")
        assert [agent.generate(again).model for again in ("7", "8")] == [large, large]
        said = [
            message["content"].split()[0] for message in bodies(server)[-1]["messages"] if message["role"] == "user"
        ]
        assert said == list("012345678")
        for number in range(40):  # and yet it does not grow without end
            agent.generate(f"{number} {long}")
        assert len(agent.history) < 20


@pytest.mark.parametrize("same", [lambda agent: agent, copy.copy, lambda agent: pickle.loads(pickle.dumps(agent))])  # noqa: S301
def test_a_model_that_was_unloaded_meanwhile_forgets_nothing(same):
    models = [ScriptedModel(MODEL, context_length=32_768)]
    with (
        OllamaServer(models, context_length=32_768) as server,
        create_agent(
            "writer", base_url=server.url, store="memory", memory=True, config={"health": {"interval": 0}}
        ) as made,
    ):
        for number in range(6):
            made.generate(f"{number} {'word ' * 800}")
            made.health_check_all_models()
        agent = same(made)
        server.unload(MODEL)
        agent.health_check_all_models()
        agent.generate("6")
        assert len(agent.history) == 7
        agent.health_check_all_models()
        agent.generate("7")
        assert len(bodies(server)[-1]["messages"]) == 1 + 2 * 7 + 1


def test_a_class_of_ones_own_says_its_name(server):
    class Poet(AgentInterface):
        """An agent with a name."""

    with Poet("writer", base_url=server.url, store="memory") as poet:
        assert repr(poet).startswith("Poet('writer', Router(")
