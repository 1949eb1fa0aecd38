"""What a ``RoutedChatOllama`` needs at run time and is not a field: router, candidates, handlers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from langchain_core.callbacks import BaseCallbackHandler
from langchain_ollama import ChatOllama

from langchain_routed_ollama._candidates import Candidates, candidate_of, ready_candidates, settings_of
from langchain_routed_ollama._fields import OPTION_FIELDS, Fields
from langchain_routed_ollama.callbacks import PerformanceCallbackHandler
from routed_ollama import Candidate, OwnRouter, Router, Timeouts, scope_of, server_urls

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx


MADE_FROM = ("hosts", "base_url", "config", "store", "learn", "api_key", "client_kwargs", "sync_client_kwargs")
"""Fields that a router is made from, and that no single request can be given."""


def made_from(model: Fields) -> dict[str, Any]:
    """Return the fields that a model's router is made from."""
    return {name: getattr(model, name) for name in MADE_FROM}


@dataclass(frozen=True)
class Runtime:
    """Made from the fields, and made anew when one changes.

    Attributes:
        router: decides and learns.
        candidates: the plain models.
        scope: what the router may choose among; None for every installed chat model.
        identity: what tells two models apart, for caches: all that an answer may depend on, and no secret.
        handlers: hear the attempts.
        every_token: whether one of them may want each token.
        timeouts: bounds by phase, where the model has its own.
    """

    router: Router
    candidates: Candidates
    scope: tuple[str | Candidate, ...] | None
    identity: Mapping[str, Any]
    handlers: tuple[BaseCallbackHandler, ...]
    every_token: bool
    timeouts: Timeouts | None

    @classmethod
    def of(cls, model: Fields) -> Self:
        """Make it from a model's fields. Contacts nobody.

        Raises:
            ConfigurationError: an argument is wrong.
        """
        ready = [entry for entry in model.models or () if isinstance(entry, ChatOllama)]
        given = model.router
        if isinstance(given, OwnRouter) and not given.suits(made_from(model)):
            given = None
        urls = _urls(model, given)
        candidates = _candidates(model, urls, ready)
        router = given or _router(model, urls, candidates)
        if not isinstance(router, OwnRouter) and (model.hosts or model.base_url):
            for url in urls:
                router.add_host(url, candidates.host_client(url))
        for _, url, client in ready_candidates(ready):
            router.add_host(url, client)
        scope = scope_of(model.models, candidate_of, "ChatOllama")
        own = tuple(model.attempt_callbacks or ())
        return cls(
            router=router,
            candidates=candidates,
            scope=scope,
            identity=_identity(model, scope, router, ready),
            handlers=(PerformanceCallbackHandler.of_attempts(router), *own),
            every_token=bool(own) or any(entry.callbacks for entry in ready),
            timeouts=None if model.timeouts is None else Timeouts.of(model.timeouts),
        )

    def validate(self, model: Fields) -> None:
        """Ask the server whether the named models are there, as the plain class does on demand.

        Raises:
            ValueError: a model is not installed, or no server answers; the plain class's own texts.
        """
        names: list[str | None] = [entry for entry in model.models or () if isinstance(entry, str)] or [model.model]
        for name in filter(None, names):
            ChatOllama(
                model=name,
                base_url=_urls(model, self.router)[0],
                client_kwargs=model.client_kwargs,
                sync_client_kwargs=model.sync_client_kwargs,
                validate_model_on_init=True,
            )
        if not any(names):
            self.router.recommend_model("")


def _identity(
    model: Fields, scope: tuple[str | Candidate, ...] | None, router: Router, ready: Sequence[ChatOllama]
) -> dict[str, Any]:
    identity: dict[str, Any] = {
        "models": None if scope is None else tuple(map(str, scope)),
        "model": model.model,
        "hosts": tuple(router.hosts),
        "prefer": model.prefer,
        **{name: getattr(model, name) for name in OPTION_FIELDS},
    }
    if settings := router.config.model_dump(include=_DECIDING, exclude_defaults=True):
        identity["config"] = settings
    if ready:
        identity["ready"] = tuple({name: getattr(entry, name) for name in OPTION_FIELDS} for entry in ready)
    return identity


_DECIDING = {"task_specific_models", "model_capabilities", "routing"}
"""Sections of the configuration that say who answers; none of them holds a secret."""


def _urls(model: Fields, router: Router | None) -> list[str]:
    return server_urls(model.hosts, model.base_url, model.config, router)


def _candidates(model: Fields, urls: Sequence[str], ready: Sequence[ChatOllama]) -> Candidates:
    fields = {name: getattr(model, name) for name in OPTION_FIELDS if getattr(model, name) is not None}
    key = None if model.api_key is None else model.api_key.get_secret_value()
    return Candidates(urls, fields, settings_of(model, api_key=key, timeout=model.timeout), ready=ready)


def _router(model: Fields, urls: Sequence[str], candidates: Candidates) -> Router:
    client: Callable[..., httpx.Client] = candidates.host_client("")
    return OwnRouter(
        made_from(model),
        urls,
        config=model.config,
        prefer=model.prefer,
        store=model.store,
        learn=model.learn,
        mid_stream=model.mid_stream,
        timeouts=model.timeouts,
        client=client,
    )
