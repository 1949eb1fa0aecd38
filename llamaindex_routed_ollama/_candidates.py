"""The plain models that attempts are sent through: one ``Ollama`` per candidate, over one pair of clients per host.

Clients keep the user's proxy, certificates and transport, bounded by phase; a whole answer is asked for as a stream
underneath, so that its phases can be told apart. Async connections belong to the loop that runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.llms.ollama import Ollama
from llama_index.llms.ollama.base import DEFAULT_REQUEST_TIMEOUT
from ollama import AsyncClient, Client

from routed_ollama import Candidate, ClientSettings, PlainModels, normalize_host, with_tag

DEFAULT_CONTEXT_WINDOW = 8192
"""Tokens that every candidate is given where the user asks for no context of their own, unless it was trained for less.

Engines and memories size their prompts by it once, before any model is chosen. It is twice what Ollama allocates by
default: enough for a query over four chunks of LlamaIndex's usual 1024 tokens, and small beside a model's weights.
"""


class Candidates(PlainModels[Ollama]):
    """Makes and keeps the plain model of each candidate.

    Args:
        fields: of the plain class, for models that are built by name.
        settings: what HTTP clients are made from.
        ready: ready-made models, used as they are.
        clients: the user's own sync and async client for models that are built by name; None where there is none.
    """

    def __init__(
        self,
        fields: Mapping[str, Any],
        settings: ClientSettings,
        *,
        ready: Sequence[Ollama] = (),
        clients: tuple[Client | None, AsyncClient | None] = (None, None),
    ) -> None:
        super().__init__({_candidate_of(model): model for model in reversed(ready)})
        self._fields = dict(fields)
        self._settings = settings
        self._theirs = clients

    def _make(self, candidate: Candidate, num_ctx: int | None) -> Ollama:
        ready = self.ready(candidate)
        if ready is not None:
            made = self._bounded_copy(ready, candidate)
        else:
            client, async_client = self.clients_of(candidate.host)
            # A window of its own keeps the plain class from asking the server for one, in every request.
            fields = {"context_window": -1, **self._fields, "model": candidate.model, "base_url": candidate.host}
            made = Ollama(client=client, async_client=async_client, **fields)
        if made.context_window > 0:
            return made
        update = {
            "context_window": num_ctx or DEFAULT_CONTEXT_WINDOW,
            "additional_kwargs": {"num_ctx": num_ctx, **made.additional_kwargs},
        }
        return made.model_copy(update=update)

    def clients_of(self, host: str) -> tuple[Client, AsyncClient]:
        """Return the sync and the async client of a host: the user's own, or those made for it."""
        clients: tuple[Client, AsyncClient] | None = self._by_host.get(host)
        if clients is None:
            sync, async_ = self._theirs
            clients = (
                sync or self._kept(_sync_client(host, self._settings)),
                async_ or self._akept(_async_client(host, self._settings)),
            )
            self._by_host[host] = clients
        return clients

    def _bounded_copy(self, ready: Ollama, candidate: Candidate) -> Ollama:
        """Return a copy whose waits are bounded; a client that it has already is used as it is."""
        made = ready.model_copy()
        settings = settings_of(ready)
        if made._client is None:  # noqa: SLF001 (asking the property would make one without bounds)
            made._client = self._kept(_sync_client(candidate.host, settings))  # noqa: SLF001
        if made._async_client is None:  # noqa: SLF001
            made._async_client = self._akept(_async_client(candidate.host, settings))  # noqa: SLF001
        return made

    def handlers_of(self, candidate: Candidate) -> list[BaseCallbackHandler]:
        """Return a ready-made model's own handlers; they hear its attempts."""
        ready = self.ready(candidate)
        return [] if ready is None else list(ready.callback_manager.handlers)


def _sync_client(host: str, settings: ClientSettings) -> Client:
    return Client(host=host, **settings.arguments(host, async_=False, joined=True))


def _async_client(host: str, settings: ClientSettings) -> AsyncClient:
    return AsyncClient(host=host, **settings.arguments(host, async_=True, joined=True))


def settings_of(model: Ollama) -> ClientSettings:
    """Return a plain model's client settings. Its usual time limit was not chosen by anybody; the phases' own hold."""
    limit = None if model.request_timeout == DEFAULT_REQUEST_TIMEOUT else model.request_timeout
    common = {"headers": model.headers} if model.headers else {}
    return ClientSettings.of([model.base_url], common=common, timeout=limit)


def candidate_of(model: Any) -> Candidate | None:
    """Return the candidate that a ready-made model is; None for anything else."""
    return _candidate_of(model) if isinstance(model, Ollama) else None


def _candidate_of(model: Ollama) -> Candidate:
    return Candidate(with_tag(model.model), normalize_host(model.base_url))
