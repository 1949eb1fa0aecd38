"""The plain models that attempts are sent through: one ``ChatOllama`` per host, copied for each model.

A copy shares its clients, so twenty candidates cost what one does. Clients keep the user's proxy, certificates and
transport, bounded by phase; async connections belong to the loop that runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_ollama import ChatOllama
from ollama import AsyncClient, Client

from routed_ollama import Candidate, ClientSettings, PlainModels, default_host, normalize_host, with_tag


class Candidates(PlainModels[ChatOllama]):
    """Makes and keeps the plain model of each candidate.

    Args:
        clients: what HTTP clients are made from.
        fields: request fields for models that are built by name.
        ready: ready-made models, used as they are.
    """

    def __init__(self, clients: ClientSettings, fields: Mapping[str, Any], *, ready: Sequence[ChatOllama] = ()) -> None:
        super().__init__({candidate_of(model): model for model in reversed(ready)})
        self._clients = clients
        self._fields = dict(fields)

    def _make(self, candidate: Candidate, num_ctx: int | None) -> ChatOllama:
        ready = self.ready(candidate)
        model = self._closed(_bounded_copy(ready), ready) if ready is not None else self._named(candidate)
        return model.model_copy(update={"num_ctx": num_ctx}) if num_ctx and model.num_ctx is None else model

    def _named(self, candidate: Candidate) -> ChatOllama:
        template: ChatOllama | None = self._by_host.get(candidate.host)
        if template is None:
            template = self._by_host[candidate.host] = self._closed(self._template(candidate))
        return template.model_copy(update={"model": candidate.model})

    def _closed(self, model: ChatOllama, theirs: ChatOllama | None = None) -> ChatOllama:
        """Have a model's clients closed with these candidates, but for those that are the user's."""
        client, async_client = model._client, model._async_client  # noqa: SLF001 (ChatOllama's only handle on them)
        if isinstance(client, Client) and (theirs is None or client is not theirs._client):  # noqa: SLF001
            self._kept(client)
        if isinstance(async_client, AsyncClient) and (theirs is None or async_client is not theirs._async_client):  # noqa: SLF001
            self._akept(async_client)
        return model

    def _template(self, candidate: Candidate) -> ChatOllama:
        host, clients = candidate.host, self._clients
        return ChatOllama(
            model=candidate.model,
            base_url=host,
            client_kwargs={},
            sync_client_kwargs=clients.arguments(host, async_=False),
            async_client_kwargs=clients.arguments(host, async_=True),
            **self._fields,
        )

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


def candidate_of(model: ChatOllama) -> Candidate:
    """Return the candidate that a ready-made model is."""
    return Candidate(with_tag(model.model), normalize_host(model.base_url or default_host()))


def settings_of(model: Any, urls: Sequence[str] | None = None, **more: Any) -> ClientSettings:
    """Return what a model's clients are made from.

    Args:
        model: ours or a plain one.
        urls: its servers, as they were written; default a plain one's.
        **more: see ``ClientSettings``.
    """
    return ClientSettings.of(
        [model.base_url or default_host()] if urls is None else urls,
        common=model.client_kwargs or {},
        sync=model.sync_client_kwargs or {},
        async_=model.async_client_kwargs or {},
        **more,
    )


def _bounded_copy(model: ChatOllama) -> ChatOllama:
    """Return a copy whose waits are bounded. The user's own stays as it is, and so do clients of another kind."""
    made = model.model_copy()
    host, clients = candidate_of(model).host, settings_of(model)
    if type(model._client) is Client:  # noqa: SLF001 (ChatOllama's only handle on its clients)
        made._client = Client(host=host, **clients.arguments(host, async_=False))  # noqa: SLF001
    if type(model._async_client) is AsyncClient:  # noqa: SLF001
        made._async_client = AsyncClient(host=host, **clients.arguments(host, async_=True))  # noqa: SLF001
    return made
