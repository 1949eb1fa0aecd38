"""Long conversations with an agent: their turns may be of any shape, and none of it has the model loaded anew."""

import pytest
from agent_paths import bodies

from routed_ollama import AgentInterface, create_agent
from routed_ollama.testing import OllamaServer, ScriptedModel

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


def test_a_class_of_ones_own_says_its_name(server):
    class Poet(AgentInterface):
        """An agent with a name."""

    with Poet("writer", base_url=server.url, store="memory") as poet:
        assert repr(poet).startswith("Poet('writer', Router(")
