"""What works without making a router first: functions of the module, over one router for the whole process.

That is made when it is first needed, from the environment (``OLLAMA_HOST``, ``ROUTED_OLLAMA_*``), and made anew when
that says something else.
"""

from __future__ import annotations

import os
from typing import Any, Final

from routed_ollama._sources import PREFIX
from routed_ollama.router import Router
from routed_ollama.types import HealthStatus

OllamaManager = Router
"""The same class under the name of the model manager that this grew out of."""
EnhancedOllamaManager = Router
"""And under its other name; each is assigned by itself, for a chain of names is no type to a type checker."""

_made: Final[dict[tuple[tuple[str, str], ...], Router]] = {}
_chosen: Final[list[Router]] = []


def default_router() -> Router:
    """Return the router that everything shares which was given none.

    Raises:
        ConfigurationError: the environment, or the file that it names, is wrong.

    Example:
        >>> default_router() is default_router()
        True
    """
    if _chosen:
        return _chosen[-1]
    says = tuple(sorted(item for item in os.environ.items() if item[0] == "OLLAMA_HOST" or item[0].startswith(PREFIX)))
    router = _made.get(says)
    if router is None:  # two threads may make one each; both then use the first
        router = _made.setdefault(says, Router())
    return router


def set_default_router(router: Router | None = None) -> None:
    """Share this router from now on; with None, one that is made anew when it is needed.

    Routers that were made here are closed; those that were given stay as they are.

    Args:
        router: the one to share.

    Raises:
        TypeError: it is no router.

    Example:
        >>> router = Router.from_models(["llama3.1:8b"])
        >>> set_default_router(router)
        >>> get_model_recommendations("Debug this authentication error")["primary_recommendation"]
        'llama3.1:8b'
        >>> set_default_router()
    """
    if not isinstance(router, Router | None):
        raise TypeError(f"router must be a Router or None, not {type(router).__name__}.")
    _chosen.clear()
    while _made:
        _made.popitem()[1].close()
    if router is not None:
        _chosen.append(router)


def get_model_recommendations(prompt: str, **hints: Any) -> dict[str, Any]:
    """Return which model fits a prompt, which follow if it fails, and why; nothing is sent to a model.

    Args:
        prompt: text.
        **hints: as for ``Router.plan``: ``task_type``, ``prefer``, ``scope``, ...

    Returns:
        ``primary_recommendation``, ``fallback_models``, ``reasoning``, ``task_characteristics``, ``scores``,
        ``health``.

    Raises:
        NoModelError: no model can serve; says why and what to do.
        HostUnreachableError: no server answers.
        ConfigurationError: a hint is none of its values.

    Example:
        >>> recommendations = get_model_recommendations("Debug this authentication error")  # doctest: +SKIP
        >>> print(f"Best model: {recommendations['primary_recommendation']}")  # doctest: +SKIP
        Best model: qwen2.5-coder:7b
    """
    return default_router().get_model_recommendations(prompt, **hints)


def health_check_models() -> dict[str, HealthStatus]:
    """Ask every server now and return each model's health, in a word. Loads no model.

    Raises:
        HostUnreachableError: no server answers.

    Example:
        >>> for model, status in health_check_models().items():  # doctest: +SKIP
        ...     print(f"{model}: {status}")
        llama3.1:8b: healthy
    """
    return default_router().health_check_all_models()
