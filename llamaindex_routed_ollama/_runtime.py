"""What a ``RoutedOllama`` needs at run time and is not a field: router, candidates, recorder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from llama_index.llms.ollama import Ollama
from ollama import AsyncClient, Client

from llamaindex_routed_ollama._candidates import Candidates, candidate_of, settings_of
from llamaindex_routed_ollama._fields import OPTION_FIELDS, Fields
from llamaindex_routed_ollama.callbacks import PerformanceEventHandler
from llamaindex_routed_ollama.events import circuit_changed
from routed_ollama import Candidate, ClientSettings, OwnRouter, Router, Timeouts, scope_of, server_urls

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
        scope = scope_of(model.models, candidate_of, "Ollama")
        given = model.router
        if isinstance(given, OwnRouter) and not given.suits(_made_from(model)):
            given = None
        urls = server_urls(model.hosts, model.base_url, model.config, given)
        candidates = _candidates(model, urls, ready, clients)
        router = given or _router(model, urls, candidates)
        if not isinstance(router, OwnRouter) and (model.hosts or model.base_url):
            for url in urls:
                router.add_host(url, candidates.host_client(url))
        for entry in ready:
            router.add_host(entry.base_url, settings_of(entry).host_client(entry.base_url))
        router.on_circuit_change(circuit_changed)
        timeouts = None if model.timeouts is None else Timeouts.of(model.timeouts)
        return cls(router, candidates, scope, PerformanceEventHandler.of_attempts(router), timeouts)


def _candidates(
    model: Fields, urls: Sequence[str], ready: Sequence[Ollama], clients: tuple[Client | None, AsyncClient | None]
) -> Candidates:
    key = os.environ.get("OLLAMA_API_KEY") if model.api_key is None else model.api_key.get_secret_value()
    common = dict(model.client_kwargs)
    if model.headers:
        common["headers"] = {**(common.get("headers") or {}), **model.headers}
    settings = ClientSettings(common, api_key=key or None, timeout=model.request_timeout)
    fields = {name: getattr(model, name) for name in OPTION_FIELDS}
    return Candidates(urls, fields, settings, ready=ready, clients=clients)


def _router(model: Fields, urls: Sequence[str], candidates: Candidates) -> Router:
    return OwnRouter(
        _made_from(model),
        urls,
        config=model.config,
        prefer=model.prefer,
        store=model.store,
        learn=model.learn,
        mid_stream=model.mid_stream,
        timeouts=model.timeouts,
        client=candidates.host_client(""),
    )
