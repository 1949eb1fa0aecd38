"""What is known of models: from real servers' words, from names alone, and from servers that answer nonsense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed_ollama import Catalog, ModelCapability, ModelInfo, with_tag
from routed_ollama.catalog import is_remote, leaves_prefill_open, model_info, parameters_in
from routed_ollama.ollama_api import OllamaHost
from routed_ollama.store import MemoryStore
from routed_ollama.testing import FakeClock, OllamaServer, ScriptedModel

RECORDED = Path(__file__).parents[1] / "server" / "fixtures" / "ollama-0.24.0" / "basics.json"


def recorded(step: str) -> dict[str, Any]:
    steps = json.loads(RECORDED.read_text(encoding="utf-8"))["steps"]
    return json.loads(next(one for one in steps if one["id"] == step)["lines"][0])


@pytest.fixture
def catalog_of():
    hosts: list[OllamaHost] = []

    def make(*servers, **options: Any) -> Catalog:
        hosts.extend(OllamaHost(server.url) for server in servers)
        return Catalog(hosts, **options)

    yield make
    for host in hosts:
        host.close()


MODELS = [
    ScriptedModel("llama3.1:8b", continues_prefill=True, context_length=131_072),
    ScriptedModel("qwen3:4b", thinking="Hm", continues_prefill=False),
    ScriptedModel("embedder:latest", capabilities=("embedding",)),
    ScriptedModel("big:latest", remote_host="https://ollama.com", remote_model="big"),
    ScriptedModel("zzyzx:3b", family="zzyzx", quantization="Q9_X"),
]


@pytest.mark.parametrize("version", ["0.24.0", "0.30.0"])
def test_what_a_server_says_of_its_models_is_known_without_loading_one(catalog_of, version: str) -> None:
    with OllamaServer(MODELS, version=version) as server:
        catalog = catalog_of(server)
        view = catalog.refresh(server.url)
        assert view.error == ""
        assert server.loads == {}
    llama, qwen, embedder, big, unknown = (view.models[model.card.name] for model in MODELS)
    assert llama.flags_known
    assert llama.flags == {"completion", "tools"}
    assert (llama.parameters, llama.context_length, llama.host) == (8.0, 131_072, server.url)
    assert llama.size > 1_000_000_000
    assert llama.digest
    assert llama.continues_prefill is True
    assert qwen.continues_prefill is False
    assert "thinking" in qwen.flags
    assert embedder.flags == {"embedding"}
    assert big.remote
    assert unknown.family == "zzyzx"
    assert all(0.0 <= value <= 1.0 for value in unknown.capabilities.values())
    assert set(unknown.capabilities) == set(ModelCapability)


def test_details_are_asked_once_per_digest_and_kept_for_other_processes(catalog_of) -> None:
    states = MemoryStore()

    def shows(server: OllamaServer) -> int:
        return sum(request.path == "/api/show" for request in server.requests)

    with OllamaServer([ScriptedModel("a:1b", weights="same"), ScriptedModel("alias:1b", weights="same")]) as server:
        first = catalog_of(server, states=states)
        first.refresh(server.url)
        first.refresh(server.url)
        assert 1 <= shows(server) <= 2, "aliases have one digest"
        asked = shows(server)
        second = catalog_of(server, states=states)
        assert second.refresh(server.url).models["a:1b"].context_length == 8192
        assert shows(server) == asked
        server.add_model("new:1b")
        assert set(second.refresh(server.url).models) == {"a:1b", "alias:1b", "new:1b"}
        assert shows(server) == asked + 1


def test_a_model_whose_details_the_server_cannot_give_is_known_by_its_entry(wrong_server, catalog_of) -> None:
    entry = {"name": "a:7b", "digest": "d", "size": 5, "details": {"family": "llama", "parameter_size": "7.2B"}}
    server = wrong_server(
        tags=(200, json.dumps({"models": [entry]}).encode()), ps=(200, b"{}"), show=(500, b"cannot read")
    )
    catalog = catalog_of(server)
    (info,) = catalog.refresh(server.url).models.values()
    assert (info.parameters, info.flags_known, info.continues_prefill) == (7.2, False, None)
    catalog.refresh(server.url)
    shows = [path for _, path, _ in server.requests if path == "/api/show"]
    assert len(shows) == 2, "what failed is asked again"


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"details": None, "size": "big", "digest": 5, "capabilities": "all"},
        {"details": {"parameter_size": 7, "family": ["llama"], "context_length": "long", "quantization_level": None}},
        {"details": [1], "size": -1.5, "capabilities": [1, None, {}]},
        {"details": {"context_length": -5}, "remote_host": {"a": 1}},
    ],
)
@pytest.mark.parametrize(
    "show",
    [
        b"{}",
        b'{"template": 5, "model_info": [1], "capabilities": 7}',
        b'{"model_info": {"general.architecture": {}, "{}.context_length": "x"}, "template": null}',
        b'{"model_info": {"general.architecture": "a", "a.context_length": "x"}}',
        b"<html>",
    ],
)
def test_nonsense_about_a_model_is_survived(wrong_server, catalog_of, entry: dict[str, Any], show: bytes) -> None:
    body = json.dumps({"models": [{"name": "a:7b", **entry}]}).encode()
    server = wrong_server(tags=(200, body), ps=(200, b'{"models": "none"}'), show=(200, show))
    view = catalog_of(server).refresh(server.url)
    assert view.error == ""
    info = view.models["a:7b"]
    assert info.parameters == 7.0
    assert info.context_length == 0
    assert info.size >= 0
    assert set(info.capabilities) == set(ModelCapability)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ["details", "size", "digest", "capabilities", "remote_host", "remote_model"]


@given(
    st.dictionaries(st.sampled_from(FIELDS), json_values),
    st.none() | st.dictionaries(st.sampled_from(["context_length", "capabilities", "continues_prefill"]), json_values),
)
def test_whatever_a_server_says_becomes_a_model(entry: dict[str, Any], show: dict[str, Any] | None) -> None:
    info = model_info({"name": "a:7b", **entry}, show, "http://one")
    assert info.candidate == ("a:7b", "http://one")
    assert info.context_length >= 0
    assert info.flags_known or not info.flags


def test_a_host_that_stops_answering_keeps_what_was_known_of_it(catalog_of) -> None:
    clock = FakeClock()
    with OllamaServer(["a:1b"]) as server:
        catalog = catalog_of(server, clock=clock)
        assert catalog.views[server.url].seen_at is None
        catalog.refresh(server.url)
        clock.advance(5.0)
    view = catalog.refresh(server.url)
    assert view.error
    assert set(view.models) == {"a:1b"}
    assert view.seen_at == 0.0
    server.start()
    assert catalog.refresh(server.url).error == ""
    server.stop()


# In memory


def test_what_is_in_memory_is_known_from_the_server_and_from_answers(catalog_of) -> None:
    with OllamaServer(["a:1b", "b:1b"]) as server:
        catalog = catalog_of(server)
        (guessed,) = [catalog.guess("a:1b", server.url)]
        assert catalog.resident(guessed) is None
        assert catalog.allocated_context(guessed) == 0
        catalog.hosts[server.url].load("a:1b")
        catalog.refresh(server.url)
        (a,), (b,) = catalog.find("a:1b"), catalog.find("b:1b")
        assert (catalog.resident(a), catalog.resident(b)) == (True, False)
        assert (catalog.allocated_context(a), catalog.allocated_context(b)) == (4096, 0)
        catalog.note_used(b)
        catalog.note_used(a)
        assert catalog.resident(b) is True
        assert catalog.allocated_context(a) == 4096, "noting a use forgets nothing"
        assert catalog.refresh_resident(server.url).resident.keys() == {"a:1b"}
        assert catalog.resident(b) is False
    assert catalog.refresh_resident(server.url).error
    assert catalog.resident(a) is True


def test_of_an_unknown_host_nothing_is_noted(catalog_of) -> None:
    catalog = Catalog()
    info = ModelInfo("a:1b", host="http://elsewhere")
    catalog.note_used(info)
    catalog.forget(info)
    assert catalog.views == {}
    assert catalog.resident(info) is None


def test_a_model_that_is_gone_is_forgotten_until_the_next_look(catalog_of) -> None:
    with OllamaServer(["a:1b"]) as server:
        catalog = catalog_of(server)
        catalog.refresh(server.url)
        (info,) = catalog.find("a:1b")
        catalog.forget(info)
        catalog.forget(info)
        assert catalog.find("a:1b") == []
        catalog.refresh(server.url)
        assert catalog.find("a:1b") == [info]


# Several hosts


def test_a_name_means_one_model_on_each_host(catalog_of) -> None:
    with OllamaServer(["a:latest"]) as one, OllamaServer(["a:latest", "b:1b"]) as two:
        catalog = catalog_of(one)
        catalog.add_host(OllamaHost(two.url))
        catalog.add_host(OllamaHost(two.url))
        assert list(catalog.hosts) == [one.url, two.url]
        catalog.refresh(one.url)
        catalog.refresh(two.url)
        assert [info.host for info in catalog.find("a")] == [one.url, two.url]
        assert [info.host for info in catalog.find("a", [two.url])] == [two.url]
        assert [info.host for info in catalog.find("b:1b")] == [two.url]
        assert catalog.find("b") == []
        catalog.hosts[two.url].close()


# Names alone


def test_names_alone_need_no_server() -> None:
    catalog = Catalog.of_names(["llama3.1:8b", "minimax-m2:cloud"])
    (info,) = catalog.find("llama3.1:8b")
    assert info.parameters == 8.0
    assert catalog.resident(info) is None
    assert catalog.find("minimax-m2:cloud")[0].remote


def test_what_the_configuration_says_a_model_is_good_at_goes_before_what_is_known() -> None:
    overrides = {"codellama:13b": {ModelCapability.CREATIVITY: 1.0}, "llama3": {ModelCapability.SPEED: 0.0}}
    plain, changed = (Catalog.of_names(["codellama:13b", "llama3:latest"], each) for each in (None, overrides))
    before, after = (catalog.find("codellama:13b")[0].capabilities for catalog in (plain, changed))
    assert after[ModelCapability.CREATIVITY] == 1.0
    assert after[ModelCapability.REASONING] == before[ModelCapability.REASONING]
    assert changed.find("llama3")[0].capabilities[ModelCapability.SPEED] == 0.0


def test_who_says_how_well_a_model_reasons_says_so_of_mathematics_too() -> None:
    name, said = "qwen2.5:7b", {ModelCapability.REASONING: 0.1}
    (known,) = Catalog.of_names([name]).find(name)
    (configured,) = Catalog.of_names([name], {name: said}).find(name)
    assert known.skills[-1] == known.mathematics != known.capabilities[ModelCapability.REASONING]
    assert configured.skills[-1] == configured.capabilities[ModelCapability.REASONING] == 0.1
    assert known.skills[:-1] == known.strengths


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("llama3", "llama3:latest"),
        ("llama3:8b", "llama3:8b"),
        ("user/model", "user/model:latest"),
        ("localhost:5000/user/model", "localhost:5000/user/model:latest"),
        ("hf.co/a/b:Q4_K_M", "hf.co/a/b:Q4_K_M"),
    ],
)
def test_a_name_without_a_tag_means_latest(name: str, full: str) -> None:
    assert with_tag(name) == full
    assert with_tag(full) == full


@pytest.mark.parametrize(
    ("text", "billions"),
    [
        ("134.52M", 0.13452),
        ("8.0B", 8.0),
        ("1.0T", 1000.0),
        ("512K", 0.000512),
        ("22 B", 22.0),
        ("", 0.0),
        ("unknown", 0.0),
        ("llama3.1:8b", 8.0),
        ("mixtral:8x7b", 56.0),
        ("qwen2.5-coder:0.5b-instruct-q4_K_M", 0.5),
        ("smollm2:135m", 0.135),
        ("qwen3:30b-a3b", 30.0),
        ("kimi-k2:1t-cloud", 1000.0),
        ("gemma3n:e4b", 4.0),
        ("hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M", 1.0),
        ("vicuna-13b", 13.0),
        ("llama3", 0.0),
        ("mistral:latest", 0.0),
        ("phi3:mini-128k", 0.0),
        ("llama3-gradient:1048k", 0.0),
        ("yi:34b-200k", 34.0),
    ],
)
def test_how_large_a_model_is_by_its_words(text: str, billions: float) -> None:
    assert parameters_in(text) == pytest.approx(billions)


@pytest.mark.parametrize(
    ("name", "entry", "remote"),
    [
        ("llama3", {}, False),
        ("gpt-oss:120b-cloud", {}, True),
        ("glm-4.6:cloud", {}, True),
        ("cloud", {}, False),
        ("a:1b", {"remote_host": "https://ollama.com"}, True),
        ("a:1b", {"remote_model": "a"}, True),
    ],
)
def test_which_models_run_in_somebodys_cloud(name: str, entry: dict[str, str], remote: bool) -> None:
    assert is_remote(name, entry) is remote


# Templates


@pytest.mark.parametrize(
    ("model", "open_"), [("qwen2.5-coder:0.5b", True), ("smollm2:135m", False), ("gemma3:270m", True)]
)
def test_whether_a_last_message_is_gone_on_with_as_recorded(model: str, open_: bool) -> None:
    assert leaves_prefill_open(recorded(f"show {model}")["template"]) is open_


@pytest.mark.parametrize(
    ("template", "open_"),
    [
        ("", None),
        ("  \n", None),
        ("{{ .System }} {{ .Prompt }} {{ .Response }}", True),
        ('{{ range .Messages }}{{ if eq .Role "assistant" }}{{ .Content }}<end>{{ end }}{{ end }}', False),
        ('{{ range .Messages }}{{ if eq .Role "assistant" }}{{ .Content }}{{ if not $last }}<end>{{ end }}', True),
        ('{{ .Messages }}{{ if not (and (eq .Role "assistant") $last) }}<end>{{ end }}', True),
        ('{{ .Messages }}{{ if not (and (eq .Role "user") $last) }}<end>{{ end }}', False),
        ('{{ .Messages }}{{ if not $last }}{{ .Tools }}{{ end }}{{ if eq .Role "assistant" }}x<end>', False),
    ],
)
def test_whether_a_template_leaves_a_last_message_open(template: str, open_: bool | None) -> None:
    assert leaves_prefill_open(template) is open_
