"""The error tree. Every message says what is wrong and what to do next.

RoutedOllamaError
├── ConfigurationError        an argument, a file or a variable is wrong: file, key and what was expected
├── NoModelError              nothing can be asked: none installed, none that can chat, none that has what is needed
│   ├── ModelNotInstalledError    a model was named that no host has
│   └── ContextLengthError        the prompt fits no model, and by how much
├── HostUnreachableError      no server answered (also httpx's ConnectError and the builtin one)
├── RedirectedError           a server sent the request on to another, which was not asked (also a ConnectionError)
├── AllModelsFailedError      every attempt failed; lists each with its cause
├── ModelFailure              one model did not deliver, where its framework's class has no error of its own
│   ├── EmptyAnswerError          it answered with nothing
│   ├── TruncatedStreamError      its stream ended without ``done``
│   ├── InvalidAnswerError        its answer could not be parsed as asked
│   ├── RepetitiveAnswerError     it says the same again and again
│   ├── RefusedAnswerError        it declines, for no reason that could be seen
│   ├── PromptCutError            it was given only a part of the prompt, and answered that
│   └── DeadlineExceededError     one of the bounds ran out (also a TimeoutError)
└── StoreError                history cannot be kept

RoutedOllamaWarning (a UserWarning) is what is said and then worked around.

Words of a server or a model may stand in a message; none of them steers a terminal, and none is a secret of the user's.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Final, cast

import httpx

_HARMLESS: Final = frozenset("\u00a0\u202f\u3000\u200c\u200d")
"""Not printable by Python's word, but what languages and emoji are written with: spaces, joiners."""
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def escaped(text: str, limit: int | None = None, *, keep: str = "") -> str:
    r"""Return a text with everything escaped that steers a terminal, breaks a line or turns the order of letters.

    Args:
        text: of a server, a model, or a person.
        limit: characters of it that are shown at most.
        keep: what is left as it is all the same, such as line breaks.

    Example:
        >>> escaped("red: \x1b[31m")
        'red: \\x1b[31m'
    """
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable():
        return text
    return "".join(
        each
        if each.isprintable() or each in _HARMLESS or each in keep
        else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


class RoutedOllamaError(Exception):
    """Base of every error that routed-ollama raises itself."""

    def __str__(self) -> str:
        """Return its message, of which nothing steers a terminal, whoever's words are in it."""
        return escaped(super().__str__(), keep="\n\t")

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what is pickled: no request that it tells of, for that holds headers and the prompt."""
        kind, arguments, *rest = cast("tuple[Any, ...]", super().__reduce__())
        return kind, arguments, *({**state, **_without_requests(state)} for state in rest)


class RoutedOllamaWarning(UserWarning):
    """Something was wrong and was worked around."""

    def __str__(self) -> str:
        """Return its message, of which nothing steers a terminal."""
        return escaped(super().__str__(), keep="\n\t")


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


class RedirectedError(RoutedOllamaError, ConnectionError):
    """A server sent the request on to another one.

    It was not followed: the request holds prompts and credentials, which are for the servers that were named.
    """


def refuse_elsewhere(asked: httpx.URL, target: httpx.URL) -> None:
    """Refuse a redirect, unless it stays with the same server: scheme, host and port.

    Args:
        asked: URL of the request.
        target: URL that the server sent it on to.

    Raises:
        RedirectedError: names both servers.
    """
    origin, other = _origin(asked), _origin(target)
    if origin != other:
        raise RedirectedError(
            f"{origin} sends requests on to {escaped(other, 200)}, which is another server and is not asked: prompts "
            "and credentials are for the servers that you named. If that is the right one, give it as base_url."
        )


def _origin(url: httpx.URL) -> str:
    name = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{name}:{url.port or _DEFAULT_PORTS.get(url.scheme, '')}"


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


class RepetitiveAnswerError(ModelFailure):
    """A model says the same again and again.

    Attributes:
        size: length of what it repeats, in characters; 0 when unknown.
    """

    def __init__(self, message: str, *, size: int = 0) -> None:
        super().__init__(message)
        self.size = size


class RefusedAnswerError(ModelFailure):
    """A model declined to answer what seems harmless, and said nothing else."""


class PromptCutError(ModelFailure):
    """A model's server cut the prompt without a word, so that its answer is to a part of it alone."""


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
    told = str(getattr(error, "error", None) or error)
    text = escaped(" ".join(told[: 8 * limit].split()), limit)
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def _without_requests(state: dict[str, Any]) -> dict[str, Any]:
    """Return what is to be changed in an error's state: the requests of httpx's errors are left out."""
    changed: dict[str, Any] = {"_request": None} if "_request" in state else {}
    if "errors" in state:
        changed["errors"] = tuple((label, _without_request(error)) for label, error in state["errors"])
    return changed


def _without_request(error: BaseException) -> BaseException:
    if getattr(error, "_request", None) is None:
        return error
    bare = copy.copy(error)
    bare.__dict__["_request"] = None
    return bare
