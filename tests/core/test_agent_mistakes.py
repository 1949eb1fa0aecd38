"""A caller's mistakes with an agent: said at once and as what they are; no model is asked in vain, and none blamed."""

from __future__ import annotations

import ollama
import pytest
from agent_paths import bodies, every_path

from routed_ollama import ConfigurationError, Role, RoutedOllamaWarning, create_agent, set_default_router
from routed_ollama.testing import OllamaServer, ScriptedModel

GOOD = "llama3.1:8b"


@pytest.fixture
def server():
    with OllamaServer([GOOD, "gemma2:9b"]) as running:
        yield running


@pytest.fixture
def make(server):
    made = []

    def agent(role="developer", **options):
        defaults = {"base_url": server.url, "config": {"health": {"interval": 0}}, "store": "memory"}
        made.append(create_agent(role, **{**defaults, **options}))
        return made[-1]

    yield agent
    for one in made:
        one.close()


# When it is made


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"model": 5}, "model: expected a name, found int"),
        ({"model": " "}, "model: expected a name, found an empty one"),
        ({"models": [GOOD, ""]}, "models: expected names, found an empty one"),
        ({"models": [None]}, "models: expected names, found NoneType"),
        ({"base_url": 5}, "http://host:port, not int"),
        ({"base_url": "ftp://h"}, "expected http:// or https://"),
        (
            {"router": "http://h", "base_url": None, "config": None, "store": None},
            "router: expected a Router, found str",
        ),
        ({"client_kwargs": "x"}, "client_kwargs: expected a mapping, found str"),
        ({"config": 5}, "config: expected the path of a file, a mapping or a RouterConfig, found int"),
        ({"store": 5}, "store: an object of type int is no store"),
        ({"timeouts": "soon"}, "timeouts: total must be a positive number"),
        ({"options": 5}, "options: expected a mapping, found int"),
        ({"system": "You rhyme."}, r"system: no option of an agent. That is the role's prompt: Role\("),
    ],
)
def test_a_wrong_argument_is_one_error_that_names_it(make, arguments, says):
    with pytest.raises(ConfigurationError, match=says):
        make(**arguments)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": ""}, "Role: name must not be empty"),
        ({"name": 5}, "Role: name must be text, not int"),
        ({"prompt": ["Rhyme."]}, "Role: prompt must be text, not list"),
        ({"temperature": "hot"}, "Role 'poet': temperature: must be a number"),
        ({"temperature": -1}, "Role 'poet': temperature: must be greater than or equal to 0"),
        ({"task_type": "cooking"}, "Role 'poet': task_type: must be 'coding', .*found 'cooking'"),
        ({"options": 5}, "Role: options must be a mapping, not int"),
    ],
)
def test_a_wrong_role_is_said_where_it_is_made(fields, says):
    with pytest.raises(ConfigurationError, match=says):
        Role(**{"name": "poet", **fields})


def test_a_misspelt_argument_is_a_warning_that_suggests_it(make):
    for given, meant in {"memmory": "memory", "modell": "model", "temprature": "temperature"}.items():
        with pytest.warns(RoutedOllamaWarning, match=f"'{given}'. Did you mean '{meant}'"):
            make(**{given: True})


def test_one_server_may_stand_alone_for_several(server, make):
    assert make(base_url=None, hosts=server.url).generate("Hi") == "You asked: Hi"


def test_the_default_router_must_be_a_router(server, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", server.url)
    with pytest.raises(TypeError, match="router must be a Router or None, not str"):
        set_default_router(server.url)  # type: ignore[arg-type]
    with create_agent("developer") as agent:
        assert agent.generate("Hi") == "You asked: Hi"
    set_default_router()


# When it is asked


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"stream": True}, r"Call stream\(\) or astream\(\)"),
        ({"messages": []}, "memory=True keeps the conversation"),
        ({"format": "json"}, "An agent answers in text"),
        ({"tools": []}, "An agent calls no tools"),
        ({"images": []}, "images are what the adapters are for"),
        ({"options": ["seed"]}, "options: expected a mapping, found list"),
        ({"model": 5}, "model: expected a name, found int"),
        ({"model": ""}, "model: expected a name, found an empty one"),
        ({"task_type": 5}, "task_type: expected one of coding"),
        ({"prefer": []}, "prefer: expected one of balanced"),
    ],
)
@every_path
def test_what_an_agent_does_not_take_is_an_error_that_says_what_to_do(server, make, path, option, says):
    with pytest.raises(ConfigurationError, match=says):
        path(make(), "Hi", **option)
    assert bodies(server) == []


@pytest.mark.parametrize("option", [{"temperature": "hot"}, {"num_ctx": "4096"}, {"num_predict": "x"}, {"stop": 5}])
@every_path
def test_an_option_of_the_wrong_type_is_the_servers_error_once_and_blames_nobody(server, make, path, option):
    agent = make(memory=True)
    agent.generate("Hi")  # so that there is something to fit into a context
    asked = len(bodies(server))
    with pytest.raises(ollama.ResponseError, match=f'option "{next(iter(option))}" must be of type'):
        path(agent, "Hi", **option)
    assert len(bodies(server)) == asked + 1
    assert [found.success_rate for found in agent.router.performance().values()] == [1.0]
    assert set(agent.health_check_all_models().values()) == {"healthy"}
    assert len(agent.history) == 1


@every_path
def test_a_text_that_cannot_be_sent_blames_nobody(server, make, path):
    agent = make()
    with pytest.raises(UnicodeEncodeError):
        path(agent, "\ud800")
    assert bodies(server) == []
    assert agent.router.performance() == {}


@every_path
def test_options_may_be_given_as_for_the_official_client(server, make, path):
    path(make(seed=1), "Hi", options={"seed": 2, "top_p": 0.5}, stop="END", max_tokens=9)
    found = bodies(server)[-1]["options"]
    assert found == {"temperature": 0.2, "seed": 2, "top_p": 0.5, "stop": ["END"], "num_predict": 9}


def test_a_hint_around_a_call_may_be_written_as_its_name_in_code(make):
    assert make("writer").generate("Hi", task_type=" Coding ").routing["task_type"] == "coding"


def test_a_model_that_is_not_there_is_passed_over_for_one_that_is(server, make):
    server.add_model(ScriptedModel("phi3:mini"))
    with pytest.warns(RoutedOllamaWarning, match="'nobody:1b' is not installed"):
        assert make(models=["phi3:mini"]).generate("Hi", model="nobody:1b").model == "phi3:mini"
