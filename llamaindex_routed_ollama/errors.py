"""The core's errors as code around the plain class knows them: what catches that one's catches these, too.

What is not installed is the official client's ``ResponseError`` besides; an answer that cannot be parsed is the
``ValueError`` that a parser raises, after which engines go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ollama import ResponseError

from routed_ollama import AllModelsFailedError, InvalidAnswerError, ModelNotInstalledError, RoutedOllamaError

_NOT_FOUND = 404
"""Status with which Ollama says that it does not have a model."""


class ModelNotInstalled(ModelNotInstalledError, ResponseError):  # noqa: N818 (the core's name, as the client's error)
    """A model was named that is not installed.

    Attributes:
        error: its message, as ``ResponseError`` has it.
        status_code: 404.
    """

    def __init__(self, message: str) -> None:
        ModelNotInstalledError.__init__(self, message)
        self.error = message
        self.status_code = _NOT_FOUND

    def __str__(self) -> str:
        """Return its message, without the status that ``ResponseError`` adds: it says all without."""
        return self.error


class AnswerUnfit(InvalidAnswerError, ValueError):  # noqa: N818
    """The answer of the one model that was asked could not be parsed."""


class AllAnswersUnfit(AllModelsFailedError, ValueError):  # noqa: N818
    """Every model that was tried failed, and what answers there were could not be parsed."""


def _as_caught(error: RoutedOllamaError) -> RoutedOllamaError:
    made: RoutedOllamaError
    if isinstance(error, ModelNotInstalledError):
        made = ModelNotInstalled(str(error))
    elif isinstance(error, InvalidAnswerError):
        made = AnswerUnfit(str(error))
    elif isinstance(error, AllModelsFailedError) and any(isinstance(e, InvalidAnswerError) for _, e in error.errors):
        made = AllAnswersUnfit(str(error), error.errors)
    else:
        return error
    made.__cause__ = error.__cause__ or error
    return made


@contextmanager
def errors_as_caught() -> Iterator[None]:
    """Raise from the block what code around the plain class catches; all other errors pass unchanged."""
    try:
        yield
    except RoutedOllamaError as error:
        made = _as_caught(error)
        if made is error:
            raise
        raise made from made.__cause__
