"""The error tree. Every message says what is wrong and what to do next.

RoutedOllamaError
├── ConfigurationError        an argument, a file or a variable is wrong: file, key and what was expected
├── NoModelError              nothing can be asked: none installed, none that can chat, none that has what is needed
│   ├── ModelNotInstalledError    a model was named that no host has
│   └── ContextLengthError        the prompt fits no model, and by how much
├── HostUnreachableError      no server answered (also httpx's ConnectError and the builtin one)
├── AllModelsFailedError      every attempt failed; lists each with its cause
├── ModelFailure              one model did not deliver, where its framework's class has no error of its own
│   ├── EmptyAnswerError          it answered with nothing
│   ├── TruncatedStreamError      its stream ended without ``done``
│   ├── InvalidAnswerError        its answer could not be parsed as asked
│   └── DeadlineExceededError     one of the bounds ran out (also a TimeoutError)
└── StoreError                history cannot be kept

RoutedOllamaWarning (a UserWarning) is what is said and then worked around.
"""

from __future__ import annotations

from collections.abc import Sequence

import httpx


class RoutedOllamaError(Exception):
    """Base of every error that routed-ollama raises itself."""


class RoutedOllamaWarning(UserWarning):
    """Something was wrong and was worked around."""


class ConfigurationError(RoutedOllamaError):
    """An argument, a configuration file or an environment variable is wrong."""


class NoModelError(RoutedOllamaError):
    """There is no model that could be asked."""


class ModelNotInstalledError(NoModelError):
    """A model was named that no configured host has."""


class ContextLengthError(NoModelError):
    """The prompt is longer than every model's context.

    Attributes:
        prompt_tokens: estimated length of the prompt, in tokens.
        context_length: the longest context there is, in tokens.
    """

    def __init__(self, message: str, *, prompt_tokens: int = 0, context_length: int = 0) -> None:
        super().__init__(message)
        self.prompt_tokens = prompt_tokens
        self.context_length = context_length


class HostUnreachableError(RoutedOllamaError, httpx.ConnectError, ConnectionError):
    """No Ollama server answered at the configured address.

    Also what the official client and plain model classes raise then, so that code which catches theirs goes on working.
    """


class AllModelsFailedError(RoutedOllamaError):
    """Every model that was tried failed.

    Attributes:
        errors: the error of each attempt, in order, as pairs of ``model @ host`` and exception.
    """

    def __init__(self, message: str, errors: Sequence[tuple[str, BaseException]] = ()) -> None:
        super().__init__(message)
        self.errors = tuple(errors)


class ModelFailure(RoutedOllamaError):  # noqa: N818 (it is the base of errors, and says whose failure it is)
    """One model did not deliver."""


class EmptyAnswerError(ModelFailure):
    """A model answered with nothing: no text, no tool call, no reasoning."""


class TruncatedStreamError(ModelFailure):
    """A model's stream ended before its last line."""


class InvalidAnswerError(ModelFailure):
    """A model's answer could not be parsed as asked."""


class DeadlineExceededError(ModelFailure, TimeoutError):
    """A bound of time ran out.

    Attributes:
        phase: ``connect``, ``load``, ``first_token``, ``between_tokens`` or ``total``.
        seconds: the bound.
    """

    def __init__(self, message: str, *, phase: str = "", seconds: float = 0.0) -> None:
        super().__init__(message)
        self.phase = phase
        self.seconds = seconds


class StoreError(RoutedOllamaError):
    """History cannot be read or written."""


def describe(error: BaseException, limit: int = 300) -> str:
    """Return an error's class and text on one line, shortened: ``ResponseError: model 'x' not found``."""
    text = " ".join(str(getattr(error, "error", None) or error).split())
    name = type(error).__name__
    if not text:
        return name
    return f"{name}: {text if len(text) <= limit else text[: limit - 1] + '…'}"
