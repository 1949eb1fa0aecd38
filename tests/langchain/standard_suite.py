"""LangChain's own integration suite, for the plain class and for ours, on the same server over the wire.

Not collected by itself: ``test_standard_integration.py`` runs the routed ones, and all three beside each other.
"""

import atexit
import os
from functools import cache

from langchain_ollama import ChatOllama
from langchain_tests.integration_tests import ChatModelIntegrationTests

from langchain_routed_ollama import RoutedChatOllama
from routed_ollama.testing import OllamaServer, ScriptedModel

CAPABILITIES = ("completion", "tools", "vision")


def joke_in_json_mode(request):
    """JSON mode leaves the keys to the prompt, and the suite's prompt asks for these; else the default answers."""
    return '{"setup": "Why?", "punchline": "Because."}' if request.format == "json" else None


@cache
def server():
    """One server for all suites; its models answer as the suite's prompts ask."""
    names = ("llama3.1:8b", "qwen2.5:7b")
    models = [ScriptedModel(name, reply=joke_in_json_mode, capabilities=CAPABILITIES) for name in names]
    running = OllamaServer(models=models).start()
    atexit.register(running.stop)
    return running


def url():
    """The server that is asked: the scripted one, unless a real one is given."""
    return os.environ.get("STANDARD_SUITE_URL") or server().url


def models():
    """Two of its models (maybe the same twice)."""
    names = (os.environ.get("STANDARD_SUITE_MODELS") or "llama3.1:8b,qwen2.5:7b").split(",")
    return names[0], names[-1]


@cache
def dead_host():
    """An address where nothing listens."""
    with OllamaServer() as gone:
        return gone.url


class Suite(ChatModelIntegrationTests):
    """What the plain class supports, so that nothing it runs is skipped.

    Images are left out of the suite because its test downloads one; ``test_images.py`` has ours.
    """

    @property
    def chat_model_params(self):
        limit = {"num_predict": 1024} if os.environ.get("STANDARD_SUITE_URL") else {}  # small real models go on and on
        return {"model": models()[0], "base_url": url(), "temperature": 0, "seed": 1, **limit}

    @property
    def supports_json_mode(self):
        return True

    @property
    def has_tool_choice(self):
        return False

    @property
    def model_override_value(self):
        return models()[1]


class PlainSuite(Suite):
    """The plain class."""

    @property
    def chat_model_class(self):
        return ChatOllama


class RoutedSuite(Suite):
    """Ours, over every model of the server."""

    @property
    def chat_model_class(self):
        return RoutedChatOllama

    @property
    def chat_model_params(self):
        return {**super().chat_model_params, "store": "memory"}


class DeadFirstSuite(RoutedSuite):
    """Ours, with a model first in the list whose host is dead."""

    @property
    def chat_model_params(self):
        plain = super().chat_model_params
        dead = ChatOllama(model=models()[0], base_url=dead_host())
        return {**plain, "models": [dead, *dict.fromkeys(models())]}


__all__ = ["DeadFirstSuite", "PlainSuite", "RoutedSuite"]
