"""The core's errors as LangChain knows them: each is a ``ModelError`` besides, and keeps its cause."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from langchain_core.exceptions import (
    ContextOverflowError,
    ModelConnectionError,
    ModelError,
    ModelNotFoundError,
    OutputParserException,
)
from ollama import ResponseError

from routed_ollama import (
    AllModelsFailedError,
    ContextLengthError,
    HostUnreachableError,
    InvalidAnswerError,
    ModelFailure,
    ModelNotInstalledError,
    NoModelError,
    RedirectedError,
    RoutedOllamaError,
    TruncatedStreamError,
)


class AllModelsFailed(AllModelsFailedError, ModelError):  # noqa: N818 (the core's name, as LangChain's error)
    """Every model that was tried failed; ``errors`` lists each attempt with its cause."""

    is_retryable = True


class NoModel(NoModelError, ModelError):  # noqa: N818
    """There is no model that could be asked."""


class ModelNotInstalled(ModelNotInstalledError, ModelNotFoundError, ResponseError):  # noqa: N818
    """A model was named that is not installed; the official client's error for it as well (status 404)."""

    def __init__(self, message: str) -> None:
        ModelNotInstalledError.__init__(self, message)
        self.error = message
        self.status_code = 404

    def __str__(self) -> str:
        return self.error


class PromptTooLong(ContextLengthError, ContextOverflowError):  # noqa: N818
    """The prompt is longer than every model's context."""


class ModelFailed(ModelFailure, ModelError):  # noqa: N818
    """The one model that was asked did not deliver."""

    is_retryable = True


class AllAnswersUnfit(AllModelsFailed, OutputParserException):
    """No model's answer could be parsed as asked; the parser's own kind of error as well.

    Its ``llm_output`` is the last answer that a parser refused, where that parser tells: most do.
    """

    observation = llm_output = None
    send_to_llm = False

    def __init__(self, message: str, errors: Sequence[tuple[str, BaseException]] = ()) -> None:
        AllModelsFailed.__init__(self, message, errors)
        self.llm_output = next(filter(None, (_refused(error) for _, error in reversed(self.errors))), None)


class AnswerUnfit(ModelFailed, InvalidAnswerError, OutputParserException):  # noqa: N818
    """The answer of the one model that was asked could not be parsed; the parser's own kind of error as well."""

    observation = llm_output = None
    send_to_llm = False

    def __init__(self, message: str) -> None:
        ModelFailed.__init__(self, message)


def _refused(error: BaseException) -> str | None:
    """Return the answer that a parser refused, where that is what an error comes of."""
    cause = error.__cause__
    return cause.llm_output if isinstance(cause, OutputParserException) else None


class NoData(ModelFailed, TruncatedStreamError, ValueError):  # noqa: N818
    """Nothing at all came of the one model that was asked; the plain class raises ``ValueError`` then."""


class HostUnreachable(HostUnreachableError, ModelConnectionError):  # noqa: N818
    """No Ollama server answered."""


def as_model_error(error: BaseException) -> BaseException:
    """Return a core error as LangChain's; any other exception unchanged."""
    made: Any = None
    if isinstance(error, AllModelsFailedError):
        unfit = any(isinstance(each, InvalidAnswerError) for _, each in error.errors)
        made = (AllAnswersUnfit if unfit else AllModelsFailed)(str(error), error.errors)
    elif isinstance(error, ModelNotInstalledError):
        made = ModelNotInstalled(str(error))
    elif isinstance(error, ContextLengthError):
        made = PromptTooLong(str(error), prompt_tokens=error.prompt_tokens, context_length=error.context_length)
    elif isinstance(error, HostUnreachableError | RedirectedError):
        made = HostUnreachable(str(error))
    elif isinstance(error, NoModelError):
        made = NoModel(str(error))
    elif isinstance(error, ModelFailure) and not isinstance(error, (ModelError, TimeoutError)):
        made = (AnswerUnfit if isinstance(error, InvalidAnswerError) else ModelFailed)(str(error))
    if made is None:
        return error
    made.__cause__ = error.__cause__ or error
    return made  # type: ignore[no-any-return]


@contextmanager
def langchain_errors() -> Iterator[None]:
    """Raise the core's errors as LangChain's from the block; all others pass unchanged."""
    try:
        yield
    except RoutedOllamaError as error:
        made = as_model_error(error)
        if made is error:
            raise
        raise made from made.__cause__
