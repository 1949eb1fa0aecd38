"""Configuration: every key of a file, what is said about a wrong one, and what an address may look like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ollama._client import _parse_host

from routed_ollama import (
    ConfigurationError,
    ModelCapability,
    RoutedOllamaWarning,
    Router,
    RouterConfig,
    TaskType,
    default_host,
)
from routed_ollama.config import normalize_host

WHOLE: dict[str, Any] = {
    "$schema": "ignored, as every key that begins with a dollar",
    "task_specific_models": {
        "coding": ["codellama:13b", "codellama:7b"],
        "architecture": ["codellama:13b", "llama3.1:8b"],
    },
    "model_capabilities": {
        "codellama:13b": ["code_generation", "code_analysis", "accuracy"],
        "llama3.1:8b": {"reasoning": 0.8, "creativity": 0.7},
    },
    "routing": {
        "prefer": "quality",
        "weights": {"capability": 0.5, "performance": 0.3, "health": 0.2},
        "margin": 0.1,
        "sticky": False,
        "learn": False,
        "memory_share": 0.5,
        "explore": 0.1,
    },
    "roles": {
        "developer": {"temperature": 0.2, "task_type": "coding", "options": {"num_predict": 100}},
        "architect": {"temperature": 0.7, "prompt": "You design."},
    },
    "hosts": ["http://127.0.0.1:11434", "gpu.local"],
    "health": {
        "interval": 60,
        "failure_threshold": 5,
        "recovery_timeout": 10,
        "max_recovery_timeout": 100,
        "refresh": 1,
    },
    "fallback": {"max_attempts": 3, "mid_stream": "raise"},
    "store": "memory",
    "timeouts": {"connect": 1.5, "total": None},
}

TOML = """
hosts = ["http://127.0.0.1:11434"]
[task_specific_models]
coding = ["codellama:13b"]
[model_capabilities]
"codellama:13b" = ["code_generation"]
[routing]
prefer = "speed"
[fallback]
mid_stream = "raise"
"""


@pytest.fixture
def file(tmp_path: Path):
    def write(text: str, name: str = "router.json") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_every_key_of_a_json_file_is_taken(file) -> None:
    config = RouterConfig.load(file(json.dumps(WHOLE)))
    assert config.task_specific_models[TaskType.CODING] == ["codellama:13b", "codellama:7b"]
    assert config.model_capabilities["codellama:13b"] == {
        ModelCapability.CODE_GENERATION: 0.9,
        ModelCapability.CODE_ANALYSIS: 0.9,
        ModelCapability.ACCURACY: 0.9,
    }
    assert config.model_capabilities["llama3.1:8b"][ModelCapability.REASONING] == 0.8
    dumped = config.model_dump(mode="json", exclude_none=True)
    for section in ("routing", "health", "fallback", "hosts", "store"):
        assert dumped[section] == WHOLE[section]
    assert dumped["roles"]["developer"] == WHOLE["roles"]["developer"]
    assert config.roles["architect"].prompt == "You design."
    assert config.timeouts == {"connect": 1.5, "total": None}


def test_a_toml_file_is_taken_too(file) -> None:
    config = RouterConfig.load(str(file(TOML, "router.toml")))
    assert config.routing.prefer == "speed"
    assert config.fallback.mid_stream == "raise"
    assert config.task_specific_models == {TaskType.CODING: ["codellama:13b"]}


def test_a_file_with_a_byte_order_mark_is_read(file) -> None:
    assert RouterConfig.load(file('\ufeff{"store": "memory"}')).store == "memory"


@pytest.mark.parametrize("name", ["CODING", " Coding ", "coding"])
def test_tasks_and_capabilities_may_be_written_as_their_names_in_code(name: str) -> None:
    config = RouterConfig.load(
        {"task_specific_models": {name: ["a"]}, "model_capabilities": {"a": ["INSTRUCTION-FOLLOWING"]}}
    )
    assert list(config.task_specific_models) == [TaskType.CODING]
    assert list(config.model_capabilities["a"]) == [ModelCapability.INSTRUCTION_FOLLOWING]


def test_without_anything_the_defaults_hold() -> None:
    config = RouterConfig.load()
    assert config == RouterConfig()
    weights = config.routing.weights
    assert (weights.capability, weights.performance, weights.health) == (0.4, 0.4, 0.2)
    assert config.health.interval == 300
    assert config.fallback.max_attempts is None
    assert config.fallback.mid_stream == "continue"


def test_a_configuration_is_taken_as_it_is() -> None:
    config = RouterConfig()
    assert RouterConfig.load(config) is config


def test_the_environment_is_stronger_than_the_file_and_arguments_stronger_than_both(file, monkeypatch) -> None:
    path = file(json.dumps({"store": "from-file", "routing": {"prefer": "quality", "margin": 0.2}}))
    monkeypatch.setenv("ROUTED_OLLAMA_CONFIG", str(path))
    assert RouterConfig.load().store == "from-file"
    monkeypatch.setenv("ROUTED_OLLAMA_STORE", "memory")
    monkeypatch.setenv("ROUTED_OLLAMA_PREFER", "speed")
    config = RouterConfig.load()
    assert (config.store, config.routing.prefer, config.routing.margin) == ("memory", "speed", 0.2)
    with Router(prefer="balanced") as router:
        assert router.config.routing.prefer == "balanced"
        assert router.config.routing.margin == 0.2


def test_arguments_replace_what_they_name_and_nothing_else() -> None:
    config = RouterConfig.load(WHOLE)
    changed = config.overridden(prefer="speed", learn=True, mid_stream="continue", max_attempts=1, hosts=["a"])
    assert (changed.routing.prefer, changed.routing.learn) == ("speed", True)
    assert (changed.fallback.mid_stream, changed.fallback.max_attempts) == ("continue", 1)
    assert changed.hosts == ["a"]
    assert changed.routing.margin == 0.1
    assert config.overridden(prefer=None) == config


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"colour": "red"}, ["colour: unknown key; there are task_specific_models, ", "routing"]),
        ({"preffer": "speed"}, ["preffer: unknown key; did you mean 'routing.prefer'?"]),
        ({"max_attempts": 3}, ["max_attempts: unknown key; did you mean 'fallback.max_attempts'?"]),
        ({"routing": {"prefer": "fast"}}, ["routing.prefer", "'balanced'", "'speed'", "fast"]),
        ({"routing": {"learn": "perhaps"}}, ["routing.learn", "true or false", "perhaps"]),
        ({"routing": {"weights": {"capability": -1}}}, ["routing.weights.capability", "greater", "-1"]),
        ({"routing": "speed"}, ["routing", "speed"]),
        ({"routing": {"margin": 2}}, ["routing.margin", "less", "2"]),
        ({"task_specific_models": {"cooking": ["a"]}}, ["task_specific_models.cooking", "coding"]),
        ({"task_specific_models": {"coding": "a"}}, ["task_specific_models.coding", "list"]),
        ({"model_capabilities": {"a": {"speed": 2}}}, ["model_capabilities.a.speed", "less", "2"]),
        ({"model_capabilities": {"a": ["flying"]}}, ["model_capabilities.a.flying", "reasoning"]),
        ({"model_capabilities": {"a": [["flying"]]}}, ["model_capabilities.a", "flying"]),
        ({"model_capabilities": ["a"]}, ["model_capabilities", "object"]),
        ({"fallback": {"max_attempts": 0}}, ["fallback.max_attempts", "greater", "0"]),
        ({"fallback": {"mid_stream": "stop"}}, ["fallback.mid_stream", "continue"]),
        ({"health": {"interval": -1}}, ["health.interval", "greater"]),
        ({"health": {"failure_threshold": 1.5}}, ["health.failure_threshold", "whole number"]),
        ({"hosts": "http://one"}, ["hosts", "list"]),
        ({"roles": {"developer": {"temprature": 1}}}, ["roles.developer.temprature: unknown key; did"]),
        ({"timeouts": {"connect": "soon"}}, ["timeouts.connect", "number"]),
    ],
)
def test_a_wrong_value_is_an_error_that_names_file_and_key_and_what_was_expected(file, data, says) -> None:
    path = file(json.dumps(data))
    with pytest.raises(ConfigurationError) as caught:
        RouterConfig.load(path)
    for word in (str(path), *says):
        assert word in str(caught.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"routing\.prefer.*store"):
        RouterConfig.load({"routing": {"prefer": 1}, "store": 2})


def test_a_key_that_is_no_text_is_an_error_too() -> None:
    with pytest.raises(ConfigurationError, match="1"):
        RouterConfig.load({1: "one"})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.json", '{\n  "store": "memory",\n}', "a.json, line 3, column 1: not JSON"),
        ("a.json", "[]", "expected an object at the top, found list"),
        ("a.toml", 'store = "memory"\nhosts = [', "not TOML"),
        ("a.toml", 'x = 1\nstore = = "memory"', "line 2"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_that_says_where(file, name: str, text: str, says: str) -> None:
    path = file(text, name)
    with pytest.raises(ConfigurationError) as caught:
        RouterConfig.load(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_or_not_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"Cannot read the configuration file .*none\.json"):
        RouterConfig.load(tmp_path / "none.json")
    (tmp_path / "latin.json").write_bytes(b'{"store": "\xe4"}')
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        RouterConfig.load(tmp_path / "latin.json")


def test_a_wrong_argument_is_an_error_that_names_it() -> None:
    with pytest.raises(ConfigurationError, match=r"arguments.*routing\.prefer"):
        Router(prefer="fast")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"max_attempts"):
        Router(max_attempts=0)


def test_a_prefer_in_the_environment_does_not_hide_a_wrong_section(monkeypatch) -> None:
    monkeypatch.setenv("ROUTED_OLLAMA_PREFER", "speed")
    with pytest.raises(ConfigurationError, match="routing"):
        RouterConfig.load({"routing": "speed"})


def test_every_setting_has_a_variable(file, monkeypatch) -> None:
    monkeypatch.setenv("ROUTED_OLLAMA_CONFIG", str(file(json.dumps(WHOLE))))
    for name, value in {
        "HOSTS": "one.local, http://two.local:1",
        "LEARN": "true",
        "MAX_ATTEMPTS": "2",
        "MID_STREAM": "continue",
        "PREFER": " speed ",
        "ROUTING__WEIGHTS__HEALTH": "0.5",
        "ROUTING__MARGIN": "0",
        "HEALTH__INTERVAL": "7.5",
        "TIMEOUTS__CONNECT": "2",
        "ROLES__DEVELOPER__TEMPERATURE": "0.1",
        "ROLES__POET": '{"prompt": "Rhyme."}',
        "TASK_SPECIFIC_MODELS": '{"testing": ["a"]}',
        "TASK_SPECIFIC_MODELS__CODING": '["b"]',
        "STORE": "12",
    }.items():
        monkeypatch.setenv(f"ROUTED_OLLAMA_{name}", value)
    config = RouterConfig.load()
    assert config.hosts == ["one.local", "http://two.local:1"]
    assert (config.routing.learn, config.routing.prefer, config.routing.margin) == (True, "speed", 0)
    assert (config.routing.weights.health, config.routing.weights.capability) == (0.5, 0.5)
    assert (config.fallback.max_attempts, config.fallback.mid_stream) == (2, "continue")
    assert (config.health.interval, config.health.failure_threshold) == (7.5, 5)
    assert config.timeouts == {"connect": 2.0, "total": None}
    assert (config.roles["developer"].temperature, config.roles["poet"].prompt) == (0.1, "Rhyme.")
    assert config.task_specific_models == {TaskType.TESTING: ["a"], TaskType.CODING: ["b"]}
    assert config.store == "12"


def test_a_variable_can_say_that_there_is_no_limit_and_an_empty_one_says_nothing(file, monkeypatch) -> None:
    monkeypatch.setenv("ROUTED_OLLAMA_MAX_ATTEMPTS", "null")
    monkeypatch.setenv("ROUTED_OLLAMA_PREFER", "")
    config = RouterConfig.load(file(json.dumps(WHOLE)))
    assert config.fallback.max_attempts is None
    assert config.routing.prefer == "quality"


def test_a_variable_that_means_nothing_is_a_warning_that_suggests_the_nearest(monkeypatch) -> None:
    monkeypatch.setenv("ROUTED_OLLAMA_PREFFER", "speed")
    with pytest.warns(RoutedOllamaWarning, match="ROUTED_OLLAMA_PREFFER.*Did you mean ROUTED_OLLAMA_PREFER"):
        assert RouterConfig.load().routing.prefer == "balanced"
    monkeypatch.setenv("ROUTED_OLLAMA_PREFFER", "")
    monkeypatch.setenv("ROUTED_OLLAMA_XYZXYZ", "1")
    with pytest.warns(RoutedOllamaWarning, match="ROUTED_OLLAMA_XYZXYZ means nothing here.$"):
        RouterConfig.load()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("HOSTS", '["one"', "ROUTED_OLLAMA_HOSTS is not JSON"),
        ("MAX_ATTEMPTS", "many", r"fallback\.max_attempts \(in ROUTED_OLLAMA_MAX_ATTEMPTS\): must be a whole number"),
        ("HEALTH__INTERVALL", "3", r"\(in ROUTED_OLLAMA_HEALTH__INTERVALL\): unknown key; did you mean 'interval'"),
        ("LEARN", "perhaps", r"the environment: routing\.learn \(in ROUTED_OLLAMA_LEARN\): must be true or false"),
    ],
)
def test_a_variable_with_a_wrong_value_is_an_error(name: str, value: str, says: str, monkeypatch) -> None:
    monkeypatch.setenv(f"ROUTED_OLLAMA_{name}", value)
    with pytest.raises(ConfigurationError, match=says):
        RouterConfig.load()


# Addresses

V6 = "[0001:002:003:0004::1]"
ADDRESSES = [
    ("", "http://127.0.0.1:11434"),
    ("1.2.3.4", "http://1.2.3.4:11434"),
    (":56789", "http://127.0.0.1:56789"),
    ("1.2.3.4:56789", "http://1.2.3.4:56789"),
    ("http://1.2.3.4", "http://1.2.3.4:80"),
    ("https://1.2.3.4", "https://1.2.3.4:443"),
    ("https://1.2.3.4:56789", "https://1.2.3.4:56789"),
    ("example.com", "http://example.com:11434"),
    ("example.com:56789", "http://example.com:56789"),
    ("http://example.com", "http://example.com:80"),
    ("https://example.com", "https://example.com:443"),
    ("https://example.com:56789", "https://example.com:56789"),
    ("example.com/", "http://example.com:11434"),
    ("example.com:56789/", "http://example.com:56789"),
    ("example.com/path", "http://example.com:11434/path"),
    ("example.com:56789/path", "http://example.com:56789/path"),
    ("https://example.com:56789/path", "https://example.com:56789/path"),
    ("example.com:56789/path/", "http://example.com:56789/path"),
    (V6, f"http://{V6}:11434"),
    (f"{V6}:56789", f"http://{V6}:56789"),
    (f"http://{V6}", f"http://{V6}:80"),
    (f"https://{V6}", f"https://{V6}:443"),
    (f"https://{V6}:56789", f"https://{V6}:56789"),
    (f"{V6}/", f"http://{V6}:11434"),
    (f"{V6}:56789/path", f"http://{V6}:56789/path"),
]


@pytest.mark.parametrize(("text", "expected"), ADDRESSES)
def test_an_address_is_understood_as_the_official_client_understands_it(text: str, expected: str) -> None:
    assert normalize_host(text) == expected == _parse_host(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0.0.0", "http://127.0.0.1:11434"),  # noqa: S104 (nothing is bound)
        ("http://0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("[::]:11434", "http://127.0.0.1:11434"),
        (' "example.com" ', "http://example.com:11434"),
        ("HTTP://Example.COM", "http://example.com:80"),
        ("http://user:secret@example.com:1", "http://example.com:1"),
    ],
)
def test_where_a_server_listens_everywhere_it_is_reached_over_loopback_and_no_credentials_stay(
    text: str, expected: str
) -> None:
    assert normalize_host(text) == expected
    assert normalize_host(expected) == expected


@pytest.mark.parametrize(
    "text", ["ftp://example.com", "http://example.com:port", "http://[::1", "exa mple.com", "http://\u00fc..de"]
)
def test_what_is_no_address_is_an_error_that_repeats_it(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        normalize_host(text)
    assert text.rpartition("//")[2] in str(caught.value)


@pytest.mark.parametrize(
    "text", ["http://user:secret@example.com:port", "user:secret@example.com:port", "ftp://user:secret@example.com"]
)
def test_an_error_about_an_address_does_not_repeat_its_password(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        normalize_host(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("::1", "http://[::1]:11434"),
        ("2001:db8::7/ollama/", "http://[2001:db8::7]:11434/ollama"),
        ("http://::1", "http://[::1]:80"),
        ("::", "http://127.0.0.1:11434"),
        ("\" example.com:8080 '", "http://example.com:8080"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
    ],
)
def test_ollama_host_may_hold_what_ollama_takes(said: str, meant: str, monkeypatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", said)
    assert normalize_host(default_host()) == meant
    assert Router(store="memory").hosts == [meant]


@pytest.mark.parametrize(
    "said", ["[::1]:8080,http://two", "http://[::1]:8080, http://two", '["http://[::1]:8080", "http://two"]']
)
def test_a_variable_may_list_addresses_in_brackets(said: str, monkeypatch) -> None:
    monkeypatch.setenv("ROUTED_OLLAMA_HOSTS", said)
    assert Router(store="memory").hosts == ["http://[::1]:8080", "http://two:80"]


def test_the_default_host_is_what_ollama_host_says(monkeypatch) -> None:
    assert default_host() == "http://127.0.0.1:11434"
    monkeypatch.setenv("OLLAMA_HOST", "gpu.local:1234")
    with Router(store="memory") as router:
        assert router.host == "http://gpu.local:1234"
        assert router.hosts == ["http://gpu.local:1234"]
