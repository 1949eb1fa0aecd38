"""However a model's name is written, it is one model: for ready-made models and for recorders, in both frameworks."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_ollama import ChatOllama
from llama_index.core.callbacks import CallbackManager
from llama_index.llms.ollama import Ollama

from langchain_routed_ollama import PerformanceCallbackHandler, RoutedChatOllama
from llamaindex_routed_ollama import PerformanceEventHandler, RoutedOllama
from routed_ollama import Router
from routed_ollama.testing import OllamaServer

LISTED = "llama3.2:1b"
WAYS = ["LLAMA3.2:1B", "library/llama3.2:1b", "registry.ollama.ai/library/llama3.2:1b"]
WARM = 0.37
every_way = pytest.mark.parametrize("name", WAYS)


def langchain(name: str, server: OllamaServer) -> Any:
    ready = ChatOllama(model=name, base_url=server.url, temperature=WARM)
    answer = RoutedChatOllama(models=[ready], base_url=server.url, store="memory").invoke("Hi")
    return answer.response_metadata["routing"]["model"]


def llamaindex(name: str, server: OllamaServer) -> Any:
    ready = Ollama(model=name, base_url=server.url, temperature=WARM, callback_manager=CallbackManager())
    return RoutedOllama(models=[ready], base_url=server.url, store="memory").complete("Hi").raw["routing"]["model"]


@every_way
@pytest.mark.parametrize("ask", [langchain, llamaindex])
def test_a_ready_made_model_is_used_as_it_is(name, ask):
    with OllamaServer([LISTED, "llama3.1:8b"]) as server:
        assert ask(name, server) == LISTED
        [request] = [each for each in server.requests if each.path == "/api/chat"]
    assert request.body["options"]["temperature"] == WARM


@every_way
def test_what_plain_models_did_is_recorded_of_one_model(name):
    with OllamaServer([LISTED, "llama3.1:8b"]) as server, Router(base_url=server.url, store="memory") as router:
        router.recommend_model("Hi")
        handler = PerformanceCallbackHandler(router, host=server.url)
        ChatOllama(model=name, base_url=server.url, callbacks=[handler]).invoke("Hi")
        manager = CallbackManager([PerformanceEventHandler(router, host=server.url)])
        Ollama(model=name, base_url=server.url, callback_manager=manager).complete("Hi")
        assert {model: record.total_requests for model, record in router.performance().items()} == {LISTED: 2}
