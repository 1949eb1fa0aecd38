"""A faithful local Ollama server and a clock to be moved by hand; public, for your own tests as well as ours.

Names are imported when they are first used, because pytest imports this package in every run.

Example:
    >>> from routed_ollama.testing import OllamaServer
    >>> with OllamaServer(models=["llama3.1:8b"]) as server:
    ...     server.url.startswith("http://127.0.0.1:")
    True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from routed_ollama.testing.clock import FakeClock
    from routed_ollama.testing.engine import Finish, GenerationRequest, Piece, ToolCall
    from routed_ollama.testing.faults import Fault
    from routed_ollama.testing.recorded import RecordedRequest
    from routed_ollama.testing.script import Gate
    from routed_ollama.testing.scripted import ScriptedModel
    from routed_ollama.testing.server import OllamaServer

__all__ = [
    "FakeClock",
    "Fault",
    "Finish",
    "Gate",
    "GenerationRequest",
    "OllamaServer",
    "Piece",
    "RecordedRequest",
    "ScriptedModel",
    "ToolCall",
]

_HOMES = {
    "FakeClock": "clock",
    "Fault": "faults",
    "Finish": "engine",
    "Gate": "script",
    "GenerationRequest": "engine",
    "OllamaServer": "server",
    "Piece": "engine",
    "RecordedRequest": "recorded",
    "ScriptedModel": "scripted",
    "ToolCall": "engine",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
