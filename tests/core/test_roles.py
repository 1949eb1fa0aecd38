"""Roles: the seven that are there, one's own, and what a configuration says of them."""

from __future__ import annotations

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


def test_a_role_of_ones_own_speaks_over_the_wire():
    with OllamaServer(["llama3.1:8b"]) as server:
        role = Role("poet", "Rhyme.", temperature=1.0, task_type=TaskType.GENERAL, options={"seed": 4})
        with create_agent(role, base_url=server.url, store="memory") as agent:
            assert agent.generate("Hello").routing["task_type"] == "general"
        body = [request.body for request in server.requests if request.path == "/api/chat"][-1]
        assert body["messages"][0] == {"role": "system", "content": "Rhyme."}
        assert body["options"] == {"temperature": 1.0, "seed": 4}
