"""Wrong settings, as people make them: wherever they are taken, one error says which file or variable and what to do.

No password is repeated, in errors or elsewhere.
"""

from __future__ import annotations

import json
import pickle
import re

import pytest

from routed_ollama import (
    ConfigurationError,
    OllamaManager,
    RouterConfig,
    TaskType,
    create_agent,
    get_model_recommendations,
    set_default_router,
)
from routed_ollama.cli import main

SECRET = "s3cret"  # noqa: S105 (for looking where it should not be)
FILES = {
    "empty": ("a.json", b"", "a.json is empty; JSON without any setting is {}"),
    "white space alone": ("a.json", b" \n", "is empty"),
    "broken JSON": ("a.json", b'{\n  "store": "memory",\n}', "a.json, line 3, column 1: not JSON"),
    "comments": ("a.json", b'// mine\n{"store": "memory"}', "line 1, column 1: not JSON"),
    "two objects": ("a.json", b'{"store": "memory"}\n{"hosts": []}', "line 2, column 1: not JSON: Extra data"),
    "a key twice": ("a.json", b'{"roles": {}, "roles": {}}', "a.json: the key 'roles' stands twice in one object"),
    "another format": ("a.yaml", b"store: memory", "not JSON: Expecting value. (TOML is what ends with .toml.)"),
    "too deep": ("a.json", b'{"roles": ' + b"[" * 200_000, "nested too deeply"),
    "a number too long": ("a.json", b'{"store": ' + b"9" * 5_000 + b"}", "a.json: Exceeds the limit"),
    "no object": ("a.json", b"[]", "a.json: expected an object at the top, found list"),
    "broken TOML": ("a.toml", b'store = "memory"\nhosts = [', "a.toml: not TOML"),
    "TOML, a key twice": ("a.TOML", b"store = 'a'\nstore = 'b'", "a.TOML: not TOML"),
    "TOML, too deep": ("a.toml", b"roles = " + b"[" * 200_000, "nested too deeply"),
    "Latin-1": ("a.json", b'{"store": "\xe4"}', "a.json is not UTF-8 text"),
    "UTF-16": ("a.toml", 'store = "memory"'.encode("utf-16"), "a.toml is not UTF-8 text"),
    "unknown key": ("a.json", b'{"task_specific_model": {}}', "did you mean 'task_specific_models'?"),
    "unknown key in a role": (
        "a.toml",
        b"[roles.developer]\ntemprature = 1",
        "a.toml: roles.developer.temprature: unknown key; did you mean 'temperature'?",
    ),
    "unknown weight": (
        "a.json",
        b'{"routing": {"weights": {"price": 1}}}',
        "routing.weights.price: unknown key; there are capability, performance, health",
    ),
    "wrong type of a role": ("a.json", b'{"roles": {"developer": "me"}}', "roles.developer: must be an object"),
    "wrong temperature": (
        "a.toml",
        b"[roles.developer]\ntemperature = 'hot'",
        "roles.developer.temperature: must be a number (found 'hot')",
    ),
    "a role twice": ("a.json", b'{"roles": {"Poet": {}, "poet": {}}}', "'Poet' and 'poet' are the same name"),
    "null for a section": ("a.json", b'{"model_capabilities": null}', "model_capabilities: must be an object"),
    "true for a number": ("a.json", b'{"routing": {"margin": true}}', "routing.margin: must be a number, not true"),
    "no finite number": ("a.json", b'{"health": {"interval": Infinity}}', "health.interval: must be a finite number"),
    "longer than can be waited": ("a.json", b'{"health": {"interval": 1e12}}', "health.interval: must be less than"),
    "no weight": (
        "a.json",
        b'{"routing": {"weights": {"capability": 0, "performance": 0, "health": 0}}}',
        "routing.weights: at least one of",
    ),
    "unknown phase": ("a.json", b'{"timeouts": {"conect": 1}}', "timeouts.conect: must be 'connect', "),
    "no time": ("a.json", b'{"timeouts": {"connect": 0}}', "a.json: timeouts.connect: must be greater than 0"),
    "no address": ("a.json", b'{"hosts": ["http://one", "http://h:port"]}', "a.json: hosts.1: 'http://h:port' is not"),
    "an empty address": ("a.json", b'{"hosts": [""]}', "a.json: hosts.0: must not be empty"),
    "an empty store": ("a.json", b'{"store": ""}', "a.json: store: must not be empty"),
    "an empty name": ("a.json", b'{"task_specific_models": {"coding": [""]}}', "task_specific_models.coding.0"),
}
VARIABLES = {
    "LEARN": ("perhaps", "routing.learn (in ROUTED_OLLAMA_LEARN): must be true or false (found 'perhaps')"),
    "PREFER": ("fast", "routing.prefer (in ROUTED_OLLAMA_PREFER): must be 'balanced', 'quality' or 'speed'"),
    "MAX_ATTEMPTS": ("0", "(in ROUTED_OLLAMA_MAX_ATTEMPTS): must be greater than or equal to 1"),
    "HEALTH": ("5", "health (in ROUTED_OLLAMA_HEALTH): must be an object"),
    "HEALTH__INTERVALL": ("5", "(in ROUTED_OLLAMA_HEALTH__INTERVALL): unknown key; did you mean 'interval'?"),
    "ROUTING__PREFER__NOW": ("speed", "routing.prefer (in ROUTED_OLLAMA_ROUTING__PREFER__NOW)"),
    "ROUTING__WEIGHTS": ("{", "ROUTED_OLLAMA_ROUTING__WEIGHTS is not JSON"),
    "ROLES": ('{"a": 1, "a": 2}', "ROUTED_OLLAMA_ROLES is not JSON: the key 'a' stands twice"),
    "ROLES__DEVELOPER__TEMPERATURE": ("hot", "(in ROUTED_OLLAMA_ROLES__DEVELOPER__TEMPERATURE): must be a number"),
    "TASK_SPECIFIC_MODELS__COOKING": ("a", "(in ROUTED_OLLAMA_TASK_SPECIFIC_MODELS__COOKING): must be 'coding', "),
    "TIMEOUTS__CONNECT": ("never", "timeouts.connect (in ROUTED_OLLAMA_TIMEOUTS__CONNECT): must be a number"),
    "HOSTS": (f"ftp://me:{SECRET}@h", "hosts.0 (in ROUTED_OLLAMA_HOSTS): 'ftp://h': expected http:// or https://"),
    "CONFIG": ("nowhere.toml", "'nowhere.toml' (named by ROUTED_OLLAMA_CONFIG): "),
}


def load(config):
    RouterConfig.load(config)


def manager(config):
    OllamaManager(config=config)


def agent(config):
    create_agent("developer", config=config)


WITHOUT_ANY = (lambda: create_agent("tester"), lambda: get_model_recommendations("Hello"))
"""What takes its settings from the environment alone."""
every_reader = pytest.mark.parametrize("read", [load, manager, agent], ids=lambda read: read.__name__)


@pytest.fixture(autouse=True)
def fresh_default_router():
    set_default_router()
    yield
    set_default_router()


@pytest.fixture
def written(tmp_path):
    def write(name):
        file, text, says = FILES[name]
        (tmp_path / file).write_bytes(text)
        return tmp_path / file, says

    return write


def said_in_one_line(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Error: ")
    assert captured.err.count("\n") == 1
    return captured.err


# Files


@every_reader
@pytest.mark.parametrize("name", FILES)
def test_a_wrong_file_is_one_error_that_names_it(written, read, name):
    path, says = written(name)
    with pytest.raises(ConfigurationError) as caught:
        read(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None  # no traceback of what lies below


@pytest.mark.parametrize("name", FILES)
def test_the_command_says_it_in_one_line(written, name, capsys):
    path, says = written(name)
    assert main(["recommend", "Hello", "--config", str(path)]) == 1
    assert says in said_in_one_line(capsys)


@every_reader
@pytest.mark.parametrize("name", ["nowhere.json", ".", "nul\0byte.json", "~nobody-of-this-name/a.json", "a" * 5_000])
def test_what_cannot_be_read_is_named_with_what_to_do(tmp_path, read, name):
    path = name if name.startswith("~") else f"{tmp_path}/{name}"
    with pytest.raises(ConfigurationError, match=r"Cannot read the configuration file .*Check the path") as caught:
        read(path)
    assert repr(path.removesuffix("/."))[:-1] in str(caught.value)


@pytest.mark.parametrize("config", [5, True, ["a.json"], b"a.json", [("store", "memory")]])
@every_reader
def test_what_is_no_configuration_at_all_is_said(read, config):
    with pytest.raises(ConfigurationError, match=r"config: expected the path of a file.*found \w+"):
        read(config)


@pytest.mark.parametrize("path", ["", "  "])
def test_an_empty_path_is_an_error_and_an_empty_variable_is_none(path, monkeypatch):
    with pytest.raises(ConfigurationError, match="config: the path is empty"):
        RouterConfig.load(path)
    monkeypatch.setenv("ROUTED_OLLAMA_CONFIG", path)
    assert RouterConfig.load() == RouterConfig()


def test_an_empty_toml_file_says_nothing_and_that_is_fine(tmp_path):
    (tmp_path / "a.toml").write_text("# nothing yet\n", encoding="utf-8")
    assert RouterConfig.load(tmp_path / "a.toml") == RouterConfig()


# Variables


@pytest.mark.parametrize("name", VARIABLES)
def test_a_wrong_variable_is_one_error_that_names_it(name, monkeypatch, capsys):
    value, says = VARIABLES[name]
    monkeypatch.setenv(f"ROUTED_OLLAMA_{name}", value)
    for use in (
        RouterConfig.load,
        OllamaManager,
        lambda: create_agent("tester"),
        lambda: get_model_recommendations(""),
    ):
        with pytest.raises(ConfigurationError) as caught:
            use()
        assert says in str(caught.value)
        assert SECRET not in str(caught.value)
    assert main(["recommend", "Hello"]) == 1
    assert says in said_in_one_line(capsys)


def test_the_file_is_not_blamed_for_a_variable_nor_a_variable_for_the_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text("{}", encoding="utf-8")
    monkeypatch.setenv("ROUTED_OLLAMA_LEARN", "perhaps")
    with pytest.raises(ConfigurationError, match=r"^the environment: routing\.learn") as caught:
        RouterConfig.load(path)
    assert "a.json" not in str(caught.value)
    path.write_text('{"routing": {"margin": 2}}', encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"a\.json: routing\.margin: .*; routing\.learn \(in ROUTED"):
        RouterConfig.load(path)


@pytest.mark.parametrize("address", [f"ftp://me:{SECRET}@h", f"me:{SECRET}@a..b", "http://h:port", "exa mple"])
def test_a_wrong_ollama_host_is_named(address, monkeypatch, capsys):
    monkeypatch.setenv("OLLAMA_HOST", address)
    for use in (OllamaManager, *WITHOUT_ANY):
        with pytest.raises(ConfigurationError, match=r"^OLLAMA_HOST: ") as caught:
            use()
        assert SECRET not in str(caught.value)
    assert main(["recommend", "Hello"]) == 1
    assert "OLLAMA_HOST: " in said_in_one_line(capsys)


def test_an_address_must_be_text():
    with pytest.raises(ConfigurationError, match="http://host:port, not int"):
        OllamaManager(base_url=5)  # type: ignore[arg-type]


# What variables may say


def test_what_a_variable_adds_to_a_file_finds_its_place_in_any_writing(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    roles = {"Code-Reviewer": {"prompt": "Review.", "temperature": 0.9}, "poet": {"prompt": "Rhyme."}}
    path.write_text(json.dumps({"roles": roles, "task_specific_models": {"CODING": ["a"]}}), encoding="utf-8")
    monkeypatch.setenv("ROUTED_OLLAMA_ROLES__CODE_REVIEWER__TEMPERATURE", "0.1")
    monkeypatch.setenv("ROUTED_OLLAMA_ROLES__POET__TASK_TYPE", "GENERAL")
    monkeypatch.setenv("ROUTED_OLLAMA_TASK_SPECIFIC_MODELS__CODING", "b:1b, c:1b,")
    config = RouterConfig.load(path)
    reviewer, poet = config.roles.values()
    assert (reviewer.prompt, reviewer.temperature) == ("Review.", 0.1)
    assert (poet.prompt, poet.task_type) == ("Rhyme.", TaskType.GENERAL)
    assert config.task_specific_models == {TaskType.CODING: ["b:1b", "c:1b"]}


def test_options_of_a_role_are_numbers_where_they_look_like_it(monkeypatch):
    said = {"NUM_PREDICT": "100", "TOP_P": "0.5", "USE_MMAP": "false", "STOP": '["END"]', "X": "a b"}
    for name, value in said.items():
        monkeypatch.setenv(f"ROUTED_OLLAMA_ROLES__DEVELOPER__OPTIONS__{name}", value)
    options = RouterConfig.load().roles["developer"].options
    assert options == {"num_predict": 100, "top_p": 0.5, "use_mmap": False, "stop": ["END"], "x": "a b"}


# Secrets


@pytest.mark.parametrize(
    "data",
    [
        {"hosts": f"http://me:{SECRET}@h"},
        {"hosts": [f"ftp://me:{SECRET}@h"]},
        {"hosts": [f"http://me:a/{SECRET}@h"]},
        {"hosts": [f"http://me:a@{SECRET}@h:port"]},
        {"hosts": [{"url": f"http://me:{SECRET}@h"}]},
        {"stor": f"redis://me:{SECRET}@h"},
        {"api_key": SECRET},
        {"routing": {"token": SECRET}},
    ],
)
def test_no_error_repeats_a_password(data):
    with pytest.raises(ConfigurationError) as caught:
        RouterConfig.load(data)
    assert SECRET not in str(caught.value)


def test_a_configuration_shows_and_pickles_no_password():
    config = RouterConfig.load({"hosts": [f"http://me:{SECRET}@one:1", "two:2"], "store": f"redis://me:{SECRET}@h"})
    path = RouterConfig(store="kept@home/history.sqlite3")
    assert pickle.loads(pickle.dumps(path)) == path  # noqa: S301 (our own)
    assert SECRET in config.hosts[0]  # it is used
    for shown in (repr(config), str(config), f"{config}"):
        assert SECRET not in shown
        assert re.search(r"http://one:1.*two:2", shown)
    with OllamaManager(config=config.model_copy(update={"store": "memory"})) as router:
        assert SECRET not in repr(router)
        assert SECRET.encode() not in pickle.dumps(router) + pickle.dumps(config)
        assert pickle.loads(pickle.dumps(router)).hosts == ["http://one:1", "http://two:2"]  # noqa: S301 (our own)
