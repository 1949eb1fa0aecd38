"""Which server the demonstration talks to: the Ollama that runs, else a small one of our own over real models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from routed_ollama.config import normalize_host, usual_hosts
from routed_ollama.errors import HostUnreachableError, RoutedOllamaError
from routed_ollama.fallback import unreachable_message
from routed_ollama.ollama_api import OllamaHost


@dataclass(frozen=True, slots=True)
class Place:
    """A server to show things on.

    Attributes:
        url: base URL, with the credentials it needs.
        packaged: whether it is our own, over models that were installed as packages.
        why: how it came to be chosen, for people.
        about: what its models are, by name.
        config: what the router is told of them.
        max_tokens: how long answers may become, in tokens.
    """

    url: str = field(repr=False)
    packaged: bool
    why: str
    about: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int = 96


_CODE: Final = ("code_generation", "code_analysis")
_ELSE: Final = ("reasoning", "creativity", "accuracy", "instruction_following")
"""What the two names of the stand-in are declared to be good at."""


@contextmanager
def place(host: str | None) -> Iterator[Place]:
    """Find the server, or start one for as long as the block lasts.

    Args:
        host: URL of a server that is to be used and no other.

    Raises:
        HostUnreachableError: the named server does not answer.
        RoutedOllamaError: no server answers and there is no model to stand in; says what to install.
    """
    url = _with_credentials(host or usual_hosts()[0])
    server = OllamaHost(url)
    try:
        usable = any(_can_chat(server, model["name"]) for model in server.tags())
    except HostUnreachableError as error:
        if host is not None:
            raise HostUnreachableError(unreachable_message(server.url)) from error
        silence = f"No Ollama answers at {server.url}"
        cause: Exception | None = error
    else:
        if usable or host is not None:
            yield Place(url, packaged=False, why=f"Ollama {server.version()} runs at {server.url}.")
            return
        silence, cause = f"The Ollama at {server.url} has no chat model yet (try `ollama pull llama3.2`)", None
    finally:
        server.close()
    with _packaged(silence, cause) as ours:
        yield ours


def _can_chat(server: OllamaHost, model: str) -> bool:
    return "completion" in server.show(model).get("capabilities", ["completion"])


def _with_credentials(given: str) -> str:
    """The URL in full, as ``OLLAMA_HOST`` may leave out all but the name; credentials are for the server alone."""
    credentials = httpx.URL(given if "://" in given else f"http://{given}").userinfo
    return str(httpx.URL(normalize_host(given)).copy_with(userinfo=credentials))


@contextmanager
def _packaged(silence: str, cause: Exception | None) -> Iterator[Place]:
    from routed_ollama.testing import OllamaServer  # noqa: PLC0415 (only where no Ollama runs)
    from routed_ollama.testing.llamacpp import find_demo_models  # noqa: PLC0415

    try:
        models = find_demo_models(num_thread=1)
    except ImportError as error:
        raise RoutedOllamaError(f"{silence}, and no model stands in: {error}") from cause
    plain, coder = (model.card.name for model in models)
    with OllamaServer(models, max_loaded_models=1) as server:
        yield Place(
            server.url,
            packaged=True,
            why=(
                f"{silence}, so a local server stands in for it, over a real but very small model: SmolLM2 with 135 "
                "million parameters. It is there under two names: the second is told to write code and declared to be "
                "better at it, the first at everything else, so that there is a choice to make. Both are the same "
                "weights: expect real answers, not good ones."
            ),
            about={model.card.name: model.about for model in models},
            config={"model_capabilities": {coder: dict.fromkeys(_CODE, 0.4), plain: dict.fromkeys(_ELSE, 0.4)}},
            max_tokens=32,
        )
