"""A model may be named in every way that Ollama itself reads: whatever the case, with or without what is default."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from routed_ollama import Candidate, Catalog, Router, create_agent, with_tag
from routed_ollama.testing import OllamaServer

SMALL, CUSTOM = "llama3.2:1b", "MyModel:latest"
WAYS = ["LLAMA3.2:1B", "library/llama3.2:1b", "registry.ollama.ai/library/Llama3.2:1b", "Library/LLAMA3.2:1b"]
every_way = pytest.mark.parametrize("name", WAYS)


@pytest.fixture
def server() -> Iterator[OllamaServer]:
    with OllamaServer([SMALL, CUSTOM, "llama3.1:8b"]) as running:
        yield running


def router(server: OllamaServer, models: list[str] | None = None, **settings: Any) -> Router:
    return Router(models, base_url=server.url, store="memory", **settings)


@every_way
def test_a_scope_a_wish_and_an_order_mean_the_installed_model(server, name) -> None:
    assert router(server, [name]).recommend_model("Hi").model == SMALL
    assert router(server).recommend_model("Hi", first=[name]).model == SMALL
    wished = router(server).recommend_model("Hi", preferred=name)
    assert [score.candidate.model for score in wished.scores if score.preference] == [SMALL]
    assert SMALL not in router(server).get_fallback_models(name, "Hi")


@pytest.mark.parametrize("name", ["mymodel", "MYMODEL:Latest", CUSTOM])
def test_a_model_is_asked_by_the_name_that_its_server_lists(server, name) -> None:
    with create_agent("writer", models=[name], base_url=server.url, store="memory") as agent:
        assert agent.generate("Hi").model == CUSTOM
    assert {request.model for request in server.requests if request.path == "/api/chat"} == {CUSTOM}


@every_way
def test_what_the_configuration_says_of_it_holds(server, name) -> None:
    capabilities = {name: {"code_generation": 1.0, "code_analysis": 1.0, "reasoning": 1.0, "accuracy": 1.0}}
    best = router(server, config={"model_capabilities": capabilities}).recommend_model("Write a function")
    assert best.model == SMALL
    assert "model_capabilities" in str(best.explain())
    leads = router(server, config={"task_specific_models": {"coding": [name]}}).recommend_model("Write a function")
    assert (leads.model, leads.scores[0].notes) == (SMALL, ("leads for coding",))
    assert "leads" in leads.reasoning


@every_way
def test_what_a_plain_model_did_is_recorded_of_the_installed_one(server, name) -> None:
    learning = router(server)
    learning.recommend_model("Hi")
    learning.record_performance(name, response_time=1.0)
    assert list(learning.performance()) == [SMALL]


def test_a_conversation_stays_with_it_however_it_was_written_down(server) -> None:
    stays = router(server).plan([], sticky=Candidate("LLAMA3.2:1b", server.url), stay=True)
    assert next(iter(stays)).model == SMALL


def test_names_that_differ_in_more_are_others() -> None:
    catalog = Catalog.of_names(["hf.co/library/x:latest", "somebody/library:1b"])
    assert [with_tag(name) for name in ("hf.co/library/x", "somebody/library:1b", "library")] == [
        "hf.co/library/x:latest",
        "somebody/library:1b",
        "library:latest",
    ]
    assert [info.name for info in catalog.find("HF.co/Library/X")] == ["hf.co/library/x:latest"]
    assert not catalog.find("x")
