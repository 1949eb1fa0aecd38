"""LangChain's chat model over all the models a person has in Ollama."""

try:
    import langchain_ollama as _langchain_ollama
except ImportError as error:  # the base install knows no framework
    raise ImportError(
        'langchain_routed_ollama needs langchain-ollama. Install it with: pip install "routed-ollama[langchain]"'
    ) from error

from langchain_routed_ollama._version import __version__
from langchain_routed_ollama.callbacks import PerformanceCallbackHandler
from langchain_routed_ollama.chat_models import RoutedChatOllama
from langchain_routed_ollama.errors import (
    AllAnswersUnfit,
    AllModelsFailed,
    AnswerUnfit,
    HostUnreachable,
    ModelFailed,
    ModelNotInstalled,
    NoModel,
    PromptTooLong,
)

del _langchain_ollama

__all__ = [
    "AllAnswersUnfit",
    "AllModelsFailed",
    "AnswerUnfit",
    "HostUnreachable",
    "ModelFailed",
    "ModelNotInstalled",
    "NoModel",
    "PerformanceCallbackHandler",
    "PromptTooLong",
    "RoutedChatOllama",
    "__version__",
]
