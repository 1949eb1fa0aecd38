"""LlamaIndex's LLM over all the models a person has in Ollama."""

try:
    import llama_index.llms.ollama as _llama_index_ollama
except ImportError as error:  # the base install knows no framework
    raise ImportError(
        "llamaindex_routed_ollama needs llama-index-llms-ollama. "
        'Install it with: pip install "routed-ollama[llamaindex]"'
    ) from error

from llamaindex_routed_ollama._version import __version__
from llamaindex_routed_ollama.base import RoutedOllama
from llamaindex_routed_ollama.callbacks import PerformanceEventHandler
from llamaindex_routed_ollama.events import (
    AnswerContinuedEvent,
    AttemptFailedEvent,
    CircuitClosedEvent,
    CircuitOpenedEvent,
    RouteDecidedEvent,
)

del _llama_index_ollama

__all__ = [
    "AnswerContinuedEvent",
    "AttemptFailedEvent",
    "CircuitClosedEvent",
    "CircuitOpenedEvent",
    "PerformanceEventHandler",
    "RouteDecidedEvent",
    "RoutedOllama",
    "__version__",
]
