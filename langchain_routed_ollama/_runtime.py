"""What a ``RoutedChatOllama`` needs at run time and is not a field: router, candidates, handlers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from langchain_core.callbacks import BaseCallbackHandler
from langchain_ollama import ChatOllama
from pydantic import ValidationError

from langchain_routed_ollama._candidates import Candidates, candidate_of, settings_of
from langchain_routed_ollama._fields import OPTION_FIELDS, Fields
from langchain_routed_ollama.callbacks import PerformanceCallbackHandler
from routed_ollama import Candidate, ClientSettings, Router, Timeouts, given_router, router_of, scope_of, server_urls

MADE_FROM = ("hosts", "base_url", "config", "store", "learn", "api_key", "client_kwargs", "sync_client_kwargs")
"""Fields that a router is made from, and that no single request can be given."""


def _made_from(model: Fields) -> dict[str, Any]:
    return {name: getattr(model, name) for name in MADE_FROM}


@dataclass(frozen=True)
class Runtime:
    """Made from the fields, and made anew when one changes.

    Attributes:
        router: decides and learns.
        clients: what clients of the model's own hosts are made from.
        candidates: the plain models.
        scope: what the router may choose among; None for every installed chat model.
        identity: what tells two models apart, for caches: all that an answer may depend on, and no secret.
        handlers: hear the attempts.
        every_token: whether one of them may want each token.
        timeouts: bounds by phase, where the model has its own.
    """

    router: Router
    clients: ClientSettings
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
        made_from = _made_from(model)
        given = given_router(model.router, made_from)
        clients = _clients(model, given, ready)
        router = router_of(given, made_from, clients, _settings(model))
        scope = scope_of(model.models, _candidate_of, "ChatOllama")
        own = tuple(model.attempt_callbacks or ())
        return cls(
            router=router,
            clients=clients,
            candidates=Candidates(clients, _options(model), ready=ready),
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
            problems = [self._problem(name, host) for host in self.router.hosts]
            if all(problems):
                raise next(filter(None, problems))
        if not any(names):
            self.router.recommend_model("")

    def _problem(self, name: str, host: str) -> Exception | None:
        """What the plain class finds wrong with a model on a host."""
        clients = self.clients.arguments(host, async_=False)
        settings: Any = {"base_url": host, "client_kwargs": {}, "sync_client_kwargs": clients}
        try:
            ChatOllama(model=name, validate_model_on_init=True, **settings)
        except ValidationError as error:
            return ValueError(error.errors()[0]["msg"].removeprefix("Value error, "))
        except ConnectionError as error:
            return error
        return None


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


def _clients(model: Fields, router: Router | None, ready: Sequence[ChatOllama]) -> ClientSettings:
    ready_alone = bool(model.models) and len(ready) == len(model.models or ())
    return settings_of(
        model,
        server_urls(model.hosts, model.base_url, model.config, router, ready_alone=ready_alone),
        api_key=None if model.api_key is None else model.api_key.get_secret_value(),
        timeout=model.timeout,
        others={candidate_of(entry).host: settings_of(entry) for entry in reversed(ready)},
        **({} if router is None else {"lends": router.credentials}),
    )


def _options(model: Fields) -> dict[str, Any]:
    return {name: getattr(model, name) for name in OPTION_FIELDS if getattr(model, name) is not None}


def _settings(model: Fields) -> dict[str, Any]:
    names = ("config", "prefer", "store", "learn", "mid_stream", "timeouts")
    return {name: getattr(model, name) for name in names}


def _candidate_of(entry: Any) -> Candidate | None:
    return candidate_of(entry) if isinstance(entry, ChatOllama) else None
