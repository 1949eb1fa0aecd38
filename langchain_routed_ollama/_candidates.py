"""The plain models that attempts are sent through: one ``ChatOllama`` per host, copied for each model.

A copy shares its clients, so twenty candidates cost what one does. Clients keep the user's proxy, certificates and
transport, bounded by phase; async connections belong to the loop that runs.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_ollama import ChatOllama
from ollama import AsyncClient, Client

from routed_ollama import Candidate, ClientSettings, default_host, normalize_host, with_tag


class Candidates:
    """Makes and keeps the plain model of each candidate.

    Args:
        urls: base URLs as the user wrote them, credentials included.
        fields: request fields for models that are built by name.
        settings: what the user gave for the HTTP clients.
        ready: ready-made models, used as they are.
    """

    def __init__(
        self,
        urls: Sequence[str],
        fields: Mapping[str, Any],
        settings: ClientSettings,
        *,
        ready: Sequence[ChatOllama] = (),
    ) -> None:
        self._urls = {normalize_host(url): url for url in urls}
        self._fields = dict(fields)
        self._settings = settings
        self._lock = threading.Lock()
        self._templates: dict[str, ChatOllama] = {}
        self._made: dict[tuple[Candidate, int | None], ChatOllama] = {}
        self._ready = {_candidate_of(model): model for model in reversed(ready)}

    def chat(self, candidate: Candidate, num_ctx: int | None) -> ChatOllama:
        """Return the plain model of a candidate, with a context of that many tokens unless the user set one."""
        key = (candidate, num_ctx)
        made = self._made.get(key)
        if made is None:
            with self._lock:
                made = self._made.setdefault(key, self._make(candidate, num_ctx))
        return made

    def _make(self, candidate: Candidate, num_ctx: int | None) -> ChatOllama:
        ready = self._ready.get(candidate)
        model = self._kept(_bounded_copy(ready), ready) if ready is not None else self._named(candidate)
        return model.model_copy(update={"num_ctx": num_ctx}) if num_ctx and model.num_ctx is None else model

    def _named(self, candidate: Candidate) -> ChatOllama:
        template = self._templates.get(candidate.host)
        if template is None:
            template = self._templates[candidate.host] = self._kept(self._template(candidate))
        return template.model_copy(update={"model": candidate.model})

    def _kept(self, model: ChatOllama, theirs: ChatOllama | None = None) -> ChatOllama:
        """Close a model's connections when these candidates are gone; the plain class leaves them open."""
        client = model._client  # noqa: SLF001 (ChatOllama's only handle on it)
        if isinstance(client, Client) and (theirs is None or client is not theirs._client):  # noqa: SLF001
            weakref.finalize(self, client.close)
        return model

    def _template(self, candidate: Candidate) -> ChatOllama:
        url = self._urls.get(candidate.host, candidate.host)
        return ChatOllama(
            model=candidate.model,
            base_url=candidate.host,
            client_kwargs={},
            sync_client_kwargs=self._settings.arguments(url, async_=False),
            async_client_kwargs=self._settings.arguments(url, async_=True),
            **self._fields,
        )

    def host_client(self, url: str) -> Callable[..., httpx.Client]:
        """Return what makes the client that asks a host what it has, over the user's own settings."""
        return self._settings.host_client(url)

    def hosts(self) -> list[str]:
        """Return the URLs, as the user wrote them."""
        return list(self._urls.values())

    def handlers_of(self, model: ChatOllama) -> list[BaseCallbackHandler]:
        """Return a ready-made model's own handlers; they hear its attempts."""
        callbacks = model.callbacks
        if isinstance(callbacks, BaseCallbackManager):
            return list(callbacks.handlers)
        return list(callbacks or ())

    def acquire(self, model: ChatOllama) -> None:
        """Wait as a ready-made model's own rate limiter asks."""
        if model.rate_limiter is not None:
            model.rate_limiter.acquire(blocking=True)

    async def aacquire(self, model: ChatOllama) -> None:
        """Async form of ``acquire``."""
        if model.rate_limiter is not None:
            await model.rate_limiter.aacquire(blocking=True)


def candidate_of(model: Any) -> Candidate | None:
    """Return the candidate that a ready-made model is; None for anything else."""
    return _candidate_of(model) if isinstance(model, ChatOllama) else None


def _candidate_of(model: ChatOllama) -> Candidate:
    return Candidate(with_tag(model.model), normalize_host(model.base_url or default_host()))


def ready_candidates(models: Sequence[ChatOllama]) -> list[tuple[Candidate, str, Callable[..., httpx.Client]]]:
    """Return each ready-made model's candidate, its URL, and what makes a client for asking its host."""
    found = []
    for model in models:
        url = model.base_url or default_host()
        found.append((_candidate_of(model), url, settings_of(model).host_client(url)))
    return found


def settings_of(model: Any, *, api_key: str | None = None, timeout: Any = None) -> ClientSettings:
    """Return the client settings of a model that has the plain class's fields for them."""
    return ClientSettings(
        model.client_kwargs or {}, model.sync_client_kwargs or {}, model.async_client_kwargs or {}, api_key, timeout
    )


def _bounded_copy(model: ChatOllama) -> ChatOllama:
    """Return a copy whose waits are bounded. The user's own stays as it is, and so do clients of another kind."""
    made = model.model_copy()
    url = model.base_url or default_host()
    settings = settings_of(model)
    if type(model._client) is Client:  # noqa: SLF001 (ChatOllama's only handle on its clients)
        made._client = Client(host=normalize_host(url), **settings.arguments(url, async_=False))  # noqa: SLF001
    if type(model._async_client) is AsyncClient:  # noqa: SLF001
        made._async_client = AsyncClient(host=normalize_host(url), **settings.arguments(url, async_=True))  # noqa: SLF001
    return made
