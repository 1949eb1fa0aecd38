"""What a ``RoutedChatOllama`` needs at run time and is not a field: router, candidates, handlers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from langchain_core.callbacks import BaseCallbackHandler
from langchain_ollama import ChatOllama

from langchain_routed_ollama._candidates import Candidates, ready_candidates, settings_of
from langchain_routed_ollama._fields import OPTION_FIELDS, Fields
from langchain_routed_ollama.callbacks import PerformanceCallbackHandler
from routed_ollama import Candidate, ConfigurationError, Router, RouterConfig, Timeouts, default_host, with_tag

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx


MADE_FROM = ("hosts", "base_url", "config", "store", "learn", "api_key", "client_kwargs", "sync_client_kwargs")
"""Fields that a router is made from, and that no single request can be given."""


class OwnRouter(Router):
    """A router that a model made for itself, and makes anew when a field that it was made from changes.

    Args:
        model: whose router it is.
        urls: its servers, credentials included.
        **settings: as for ``Router``.
    """

    def __init__(self, model: Fields, urls: Sequence[str], **settings: Any) -> None:
        super().__init__(hosts=urls, **settings)
        self.urls = tuple(urls)
        self._made_from = {name: getattr(model, name) for name in MADE_FROM}

    def suits(self, model: Fields) -> bool:
        """Whether a model asks for nothing else than this router was made from; what it leaves out is no matter."""
        given = {name: getattr(model, name) for name in MADE_FROM}
        return all(value is None or value in ({}, self._made_from[name]) for name, value in given.items())


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
        given = None if isinstance(model.router, OwnRouter) and not model.router.suits(model) else model.router
        urls = _urls(model, given)
        candidates = _candidates(model, urls, ready)
        router = given or _router(model, urls, candidates)
        if not isinstance(router, OwnRouter) and (model.hosts or model.base_url):
            for url in urls:
                router.add_host(url, candidates.host_client(url))
        for _, url, client in ready_candidates(ready):
            router.add_host(url, client)
        scope = _scope(model, ready)
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
    """Return the servers that are the model's own, as they were written, credentials included."""
    if model.hosts or model.base_url:
        return list(model.hosts or [str(model.base_url)])
    if router is not None:
        return list(router.urls if isinstance(router, OwnRouter) else router.hosts)
    return list(RouterConfig.load(model.config).hosts) or [default_host()]


def _candidates(model: Fields, urls: Sequence[str], ready: Sequence[ChatOllama]) -> Candidates:
    fields = {name: getattr(model, name) for name in OPTION_FIELDS if getattr(model, name) is not None}
    key = None if model.api_key is None else model.api_key.get_secret_value()
    return Candidates(urls, fields, settings_of(model, api_key=key, timeout=model.timeout), ready=ready)


def _router(model: Fields, urls: Sequence[str], candidates: Candidates) -> Router:
    client: Callable[..., httpx.Client] = candidates.host_client("")
    return OwnRouter(
        model,
        urls,
        config=model.config,
        prefer=model.prefer,
        store=model.store,
        learn=model.learn,
        mid_stream=model.mid_stream,
        timeouts=model.timeouts,
        client=client,
    )


def _scope(model: Fields, ready: Sequence[ChatOllama]) -> tuple[str | Candidate, ...] | None:
    if model.models is None:
        return None
    by_identity = {
        id(entry): candidate for entry, (candidate, _, _) in zip(ready, ready_candidates(ready), strict=True)
    }
    scope: list[str | Candidate] = []
    for entry in model.models:
        if isinstance(entry, ChatOllama):
            scope.append(by_identity[id(entry)])
        elif isinstance(entry, str):
            scope.append(with_tag(entry))
        else:
            raise ConfigurationError(f"models: expected names and ChatOllama instances, found {type(entry).__name__}.")
    if not scope:
        raise ConfigurationError("models is empty. Leave it out to use every installed chat model.")
    return tuple(dict.fromkeys(scope))
