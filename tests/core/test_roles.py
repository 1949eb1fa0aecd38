"""Roles: the seven that are there, one's own, and what a configuration says of them."""

from __future__ import annotations

import copy
import pickle

import pytest

from routed_ollama import ROLES, ConfigurationError, Role, RouterConfig, TaskType, create_agent
from routed_ollama.roles import find_role
from routed_ollama.testing import OllamaServer


def configured(roles):
    return RouterConfig.load({"roles": roles}).roles


def test_the_seven_roles_each_with_its_task_and_its_temperature():
    assert {name: role.task_type.value for name, role in ROLES.items()} == {
        "developer": "coding",
        "architect": "architecture",
        "tester": "testing",
        "debugger": "debugging",
        "writer": "documentation",
        "analyst": "analysis",
        "planner": "planning",
    }
    assert all(0 <= role.temperature <= 1 for role in ROLES.values())
    assert len({role.prompt for role in ROLES.values()}) == 7
    assert all(role.prompt.startswith("You ") for role in ROLES.values())


@pytest.mark.parametrize("name", ["developer", "Developer", " DEVELOPER "])
def test_a_role_is_found_in_any_case(name):
    assert find_role(name, {}) is ROLES["developer"]


@pytest.mark.parametrize("name", ["code-reviewer", "Code Reviewer", "CODE_REVIEWER"])
def test_a_role_of_several_words_is_found_in_any_writing(name):
    assert find_role(name, configured({"Code-Reviewer": {"prompt": "Review."}})).prompt == "Review."
    assert find_role(Role(name, "Other."), configured({"code_reviewer": {"temperature": 1}})).temperature == 1


def test_a_role_cannot_be_changed_and_is_the_same_after_a_copy_and_a_pickle():
    options = {"seed": 1}
    role = Role("poet", "Rhyme.", 0.9, "general", options)
    options["seed"] = 2
    assert role.task_type is TaskType.GENERAL
    for other in (role, copy.deepcopy(role), copy.copy(role), pickle.loads(pickle.dumps(role))):  # noqa: S301 (our own)
        assert other == role
        assert other.options == {"seed": 1}
        with pytest.raises(TypeError):
            other.options["seed"] = 3


def test_a_configuration_changes_what_it_names_and_nothing_else():
    role = find_role("developer", configured({"Developer": {"temperature": 0.9, "options": {"num_predict": 10}}}))
    assert (role.temperature, role.options) == (0.9, {"num_predict": 10})
    assert (role.prompt, role.task_type) == (ROLES["developer"].prompt, TaskType.CODING)
    assert ROLES["developer"].temperature == 0.2


def test_an_empty_prompt_and_a_temperature_of_zero_are_said_too():
    role = find_role("developer", configured({"developer": {"temperature": 0, "prompt": ""}}))
    assert (role.temperature, role.prompt) == (0, "")


def test_a_role_of_ones_own_from_the_configuration():
    role = find_role("poet", configured({"poet": {"prompt": "Rhyme.", "temperature": 1.2, "task_type": "general"}}))
    assert role == Role("poet", "Rhyme.", 1.2, TaskType.GENERAL)


def test_a_role_of_ones_own_as_an_object_which_a_configuration_may_tune():
    poet = Role("poet", "Rhyme.", options={"seed": 1, "top_k": 5})
    assert find_role(poet, {}) is poet
    tuned = find_role(poet, configured({"poet": {"options": {"seed": 2}}}))
    assert (tuned.prompt, tuned.options) == ("Rhyme.", {"seed": 2, "top_k": 5})


@pytest.mark.parametrize(
    ("name", "says"),
    [("tseter", "Did you mean 'tester'"), ("peot", "Did you mean 'poet'"), ("xyz", "There are: developer,.*poet")],
)
def test_an_unknown_role_is_an_error_that_says_which_there_are(name, says):
    with pytest.raises(ConfigurationError, match=says) as caught:
        find_role(name, configured({"poet": {}}))
    assert "`roles`" in str(caught.value)


def test_something_else_is_no_role():
    with pytest.raises(TypeError, match="role must be a name or a Role, not dict"):
        find_role({"name": "poet"}, {})  # type: ignore[arg-type]


FILES = {
    "roles.json": """
        {"roles": {"developer": {"temperature": 0.9, "options": {"num_predict": 7, "stop": ["END"]}},
                   "Code-Reviewer": {"prompt": "Review.", "temperature": 0, "task_type": "ANALYSIS"}}}
    """,
    "roles.toml": """
        [roles.developer]
        temperature = 0.9
        options = { num_predict = 7, stop = ["END"] }
        [roles.Code-Reviewer]
        prompt = "Review."
        temperature = 0
        task_type = "ANALYSIS"
    """,
    "environment": {
        "DEVELOPER__TEMPERATURE": "0.9",
        "DEVELOPER__OPTIONS__NUM_PREDICT": "7",
        "DEVELOPER__OPTIONS__STOP": "END",
        "CODE_REVIEWER": '{"prompt": "Review.", "temperature": 0, "task_type": "ANALYSIS"}',
    },
}


@pytest.mark.parametrize("source", FILES)
def test_what_a_file_or_the_environment_says_of_a_role_is_what_a_model_hears(source, tmp_path, monkeypatch):
    said = FILES[source]
    if isinstance(said, str):
        (tmp_path / source).write_text(said, encoding="utf-8")
        monkeypatch.setenv("ROUTED_OLLAMA_CONFIG", str(tmp_path / source))
    else:
        for name, value in said.items():
            monkeypatch.setenv(f"ROUTED_OLLAMA_ROLES__{name}", value)
    with OllamaServer(["llama3.1:8b"]) as server:
        for name in ("developer", "code reviewer"):
            with create_agent(name, base_url=server.url, store="memory") as agent:
                answer = agent.generate("Hello")
        assert answer.routing["task_type"] == "analysis"
        developer, reviewer = (request.body for request in server.requests if request.path == "/api/chat")
    assert developer["options"] == {"temperature": 0.9, "num_predict": 7, "stop": ["END"]}
    assert developer["messages"][0]["content"] == ROLES["developer"].prompt
    assert reviewer["options"] == {"temperature": 0}
    assert reviewer["messages"][0] == {"role": "system", "content": "Review."}


def test_a_variable_is_stronger_than_the_file_and_an_argument_stronger_than_both(tmp_path, monkeypatch):
    path = tmp_path / "a.toml"
    path.write_text("[roles.developer.options]\ntop_k = 1\ntop_p = 0.1\nseed = 1", encoding="utf-8")
    monkeypatch.setenv("ROUTED_OLLAMA_ROLES__DEVELOPER__OPTIONS__TOP_P", "0.2")
    monkeypatch.setenv("ROUTED_OLLAMA_ROLES__DEVELOPER__OPTIONS__SEED", "2")
    with (
        OllamaServer(["llama3.1:8b"]) as server,
        create_agent("developer", base_url=server.url, config=path, store="memory", seed=3) as agent,
    ):
        agent.generate("Hello")
        agent.generate("Hello", seed=4)
        bodies = [request.body for request in server.requests if request.path == "/api/chat"]
    assert bodies[0]["options"] == {"temperature": 0.2, "top_k": 1, "top_p": 0.2, "seed": 3}
    assert bodies[1]["options"]["seed"] == 4


def test_a_role_of_ones_own_speaks_over_the_wire():
    with OllamaServer(["llama3.1:8b"]) as server:
        role = Role("poet", "Rhyme.", temperature=1.0, task_type=TaskType.GENERAL, options={"seed": 4})
        with create_agent(role, base_url=server.url, store="memory") as agent:
            assert agent.generate("Hello").routing["task_type"] == "general"
        body = [request.body for request in server.requests if request.path == "/api/chat"][-1]
        assert body["messages"][0] == {"role": "system", "content": "Rhyme."}
        assert body["options"] == {"temperature": 1.0, "seed": 4}
