"""What every adapter does alike about its servers, its scope and its router. Knows no framework, contacts nobody."""

from __future__ import annotations

import asyncio
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from routed_ollama import _fork
from routed_ollama._life import Closing
from routed_ollama.catalog import folded, with_tag
from routed_ollama.clients import ClientSettings
from routed_ollama.config import RouterConfig, default_host
from routed_ollama.errors import ConfigurationError
from routed_ollama.router import Router
from routed_ollama.types import Candidate

M = TypeVar("M")
C = TypeVar("C")


class PlainModels(ABC, Generic[M]):
    """Makes and keeps the framework's plain model of each candidate, and sees to the clients that were made for them.

    Args:
        ready: ready-made models, used as they are; of several of one candidate the first.
    """

    def __init__(self, ready: Mapping[Candidate, M]) -> None:
        self._ready = {_key(candidate): model for candidate, model in ready.items()}
        self._lock = threading.Lock()
        _fork.owns_locks(self)
        self._made: dict[tuple[Candidate, int | None], M] = {}
        self._by_host: dict[str, Any] = {}
        self._closers: list[weakref.finalize[[], PlainModels[M]]] = []
        self._async_clients: list[Any] = []

    def plain(self, candidate: Candidate, num_ctx: int | None) -> M:
        """Return the plain model of a candidate, with a context of that many tokens unless the user set one."""
        key = (candidate, num_ctx)
        made = self._made.get(key)
        if made is None:
            with self._lock:
                made = self._made.setdefault(key, self._make(candidate, num_ctx))
        return made

    def ready(self, candidate: Candidate) -> M | None:
        """Return the ready-made model of a candidate; None where there is none."""
        return self._ready.get(_key(candidate))

    @abstractmethod
    def _make(self, candidate: Candidate, num_ctx: int | None) -> M:
        """Return a new plain model; called under the lock."""

    def _kept(self, client: C) -> C:
        """Close a sync client's connections when these models are gone; the plain classes leave them open."""
        close: Callable[[], None] = client.close  # type: ignore[attr-defined]
        self._closers.append(weakref.finalize(self, close))
        return client

    def _akept(self, client: C) -> C:
        self._async_clients.append(client)
        return client

    def close(self) -> list[Any]:
        """Close the sync connections; the next request opens new ones. Return the async clients, which stay open.

        Their connections belong to event loops, and are closed with these.
        """
        with self._lock:
            closers, self._closers = self._closers, []
            clients, self._async_clients = self._async_clients, []
            self._by_host, self._made = {}, {}
        for close in closers:
            close()
        return clients

    async def aclose(self) -> None:
        """Close the connections of the running loop, too."""
        for client in self.close():
            await client.close()


def _key(candidate: Candidate) -> Candidate:
    """However a ready-made model's name is written, a server lists it in one way."""
    return candidate._replace(model=folded(candidate.model))


class OwnRouter(Router):
    """A router that a model made for itself, and makes anew when a field that it was made from changes.

    Args:
        made_from: the fields it is made from.
        clients: its servers, and what their clients are made from.
        **settings: as for ``Router``.
    """

    def __init__(self, made_from: Mapping[str, Any], clients: ClientSettings, **settings: Any) -> None:
        super().__init__(hosts=clients.all_urls(), client=clients.host_client, **settings)
        self.urls = tuple((clients.urls or {}).values())
        self._made_from = dict(made_from)

    def suits(self, given: Mapping[str, Any]) -> bool:
        """Whether these fields ask for nothing else than it was made from; what they leave out is no matter."""
        return all(value is None or value in ({}, self._made_from.get(name)) for name, value in given.items())


class ModelLife(Closing):
    """What every model has besides its fields: ``close``, ``aclose``, ``with`` and ``async with``.

    Its runtime has ``candidates`` with ``close`` and ``aclose``.
    """

    _runtime: Any
    router: Any

    def close(self) -> None:
        """Close its connections, and its router unless that is shared; what is asked again opens them again.

        Copies of the model share them. Connections that async requests made belong to their event loop: ``aclose``
        closes those of the running one, the others are closed with their loops.
        """
        if self._runtime is not None:
            self._runtime.candidates.close()
        if isinstance(self.router, OwnRouter):  # one that it was given is its owner's
            self.router.close()

    async def aclose(self) -> None:
        """Close its connections, those of the running event loop too, and its router unless that is shared."""
        if self._runtime is not None:
            await self._runtime.candidates.aclose()
        await asyncio.to_thread(self.close)


def given_router(router: Router | None, made_from: Mapping[str, Any]) -> Router | None:
    """Return the router that is to be used; None for one that is to be made.

    Args:
        router: what a model has: the user's, or one of its own from before a field changed.
        made_from: the fields that a router is made from, as they are now.
    """
    return None if isinstance(router, OwnRouter) and not router.suits(made_from) else router


def server_urls(
    hosts: Sequence[str] | None,
    base_url: str | None,
    config: Any,
    router: Router | None,
    *,
    ready_alone: bool = False,
) -> list[str]:
    """Return the servers that are a model's own, as they were written, credentials included.

    Args:
        hosts: several servers, where they were given.
        base_url: one server, where it was given.
        config: where the servers are found else.
        router: one that is used already, whose servers they are else.
        ready_alone: whether all models are ready-made ones, whose servers are enough.
    """
    if hosts or base_url:
        return list(hosts or [str(base_url)])
    if router is not None:
        return list(router.urls if isinstance(router, OwnRouter) else router.hosts)
    return list(RouterConfig.load(config).hosts) or ([] if ready_alone else [default_host()])


def router_of(
    given: Router | None, made_from: Mapping[str, Any], clients: ClientSettings, settings: Mapping[str, Any]
) -> Router:
    """Return the router of a model: the given one, told of the model's servers, or one that is made.

    Args:
        given: the router that is to be used; None for one that is to be made.
        made_from: the fields that it is made from.
        clients: the model's servers, and what their clients are made from.
        settings: as for ``Router``.
    """
    if given is None:
        return OwnRouter(made_from, clients, **settings)
    for url in clients.all_urls():  # a shared router may not know them yet
        given.add_host(url, clients.host_client)
    return given


def scope_of(
    models: Sequence[Any] | None, candidate_of: Callable[[Any], Candidate | None], kind: str
) -> tuple[str | Candidate, ...] | None:
    """Return what a router may choose among; None for every installed chat model.

    Args:
        models: names, and ready-made models of the framework.
        candidate_of: the candidate of a ready-made model; None for anything else.
        kind: what a ready-made model is called, for the error.

    Raises:
        ConfigurationError: there is none, or one is neither.
    """
    if models is None:
        return None
    scope: list[str | Candidate] = []
    for entry in models:
        found = with_tag(entry) if isinstance(entry, str) else candidate_of(entry)
        if found is None:
            raise ConfigurationError(f"models: expected names and {kind} instances, found {type(entry).__name__}.")
        scope.append(found)
    if not scope:
        raise ConfigurationError("models is empty. Leave it out to use every installed chat model.")
    return tuple(dict.fromkeys(scope))
