"""What a ``RoutedOllama`` needs at run time and is not a field: router, candidates, recorder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from llama_index.llms.ollama import Ollama
from ollama import AsyncClient, Client

from llamaindex_routed_ollama._candidates import Candidates, candidate_of, settings_of
from llamaindex_routed_ollama._fields import OPTION_FIELDS, Fields
from llamaindex_routed_ollama.callbacks import PerformanceEventHandler
from llamaindex_routed_ollama.events import circuit_changed
from routed_ollama import (
    Candidate,
    ClientSettings,
    Router,
    Timeouts,
    given_router,
    normalize_host,
    router_of,
    scope_of,
    server_urls,
)

MADE_FROM = ("hosts", "base_url", "config", "store", "learn", "api_key", "headers", "client_kwargs")
"""Fields that a router is made from, and that no single request can be given."""


def _made_from(model: Fields) -> dict[str, Any]:
    return {name: getattr(model, name) for name in MADE_FROM}


@dataclass(frozen=True)
class Runtime:
    """Made from the fields, and made anew when one changes.

    Attributes:
        router: decides and learns.
        candidates: the plain models.
        scope: what the router may choose among; None for every installed chat model.
        recorder: hears the attempts.
        timeouts: bounds by phase, where the model has its own.
    """

    router: Router
    candidates: Candidates
    scope: tuple[str | Candidate, ...] | None
    recorder: PerformanceEventHandler
    timeouts: Timeouts | None

    @classmethod
    def of(cls, model: Fields, clients: tuple[Client | None, AsyncClient | None]) -> Self:
        """Make it from a model's fields. Contacts nobody.

        Raises:
            ConfigurationError: an argument is wrong.
        """
        ready = [entry for entry in model.models or () if isinstance(entry, Ollama)]
        made_from = _made_from(model)
        given = given_router(model.router, made_from)
        settings = _clients(model, given, ready)
        router = router_of(given, made_from, settings, _settings(model))
        scope = scope_of(model.models, candidate_of, "Ollama")
        fields = {name: getattr(model, name) for name in OPTION_FIELDS}
        candidates = Candidates(fields, settings, ready=ready, clients=clients)
        router.on_circuit_change(circuit_changed)
        timeouts = None if model.timeouts is None else Timeouts.of(model.timeouts)
        return cls(router, candidates, scope, PerformanceEventHandler.of_attempts(router), timeouts)


def _clients(model: Fields, router: Router | None, ready: Sequence[Ollama]) -> ClientSettings:
    common = dict(model.client_kwargs)
    if model.headers:
        common["headers"] = {**(common.get("headers") or {}), **model.headers}
    ready_alone = bool(model.models) and len(ready) == len(model.models or ())
    return ClientSettings.of(
        server_urls(model.hosts, model.base_url, model.config, router, ready_alone=ready_alone),
        common=common,
        api_key=None if model.api_key is None else model.api_key.get_secret_value(),
        timeout=model.request_timeout,
        others={normalize_host(entry.base_url): settings_of(entry) for entry in reversed(ready)},
        **({} if router is None else {"lends": router.credentials}),
    )


def _settings(model: Fields) -> dict[str, Any]:
    names = ("config", "prefer", "store", "learn", "mid_stream", "timeouts")
    return {name: getattr(model, name) for name in names}
