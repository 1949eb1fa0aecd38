"""The router of an agent, and the clients for its servers, from what its caller gave. Contacts nobody."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from routed_ollama._defaults import default_router
from routed_ollama.agent._clients import Clients
from routed_ollama.clients import ClientSettings
from routed_ollama.config import RouterConfig
from routed_ollama.errors import ConfigurationError
from routed_ollama.router import Router

Config = RouterConfig | Mapping[str, Any] | str | Path


def clients_of(router: Router, client_kwargs: Mapping[str, Any] | None) -> Clients:
    """Return the clients for a router's servers.

    Args:
        router: lends the credentials that it knows.
        client_kwargs: for the HTTP clients.
    """
    return Clients(ClientSettings(common=client_kwargs or {}, lends=router.credentials))


def router_of(router: Router | None, given: Mapping[str, Any]) -> Router:
    """Return the router that was given, one made of the settings that were, or the default one.

    Args:
        router: where it was given.
        given: settings for one that is to be made: those of ``Router``, and ``client_kwargs``.

    Raises:
        ConfigurationError: both were given, or one is of the wrong type.
    """
    settings = dict(given)
    client_kwargs = settings.pop("client_kwargs", None)
    if not isinstance(client_kwargs, Mapping | None):
        raise ConfigurationError(f"client_kwargs: expected a mapping, found {type(client_kwargs).__name__}.")
    if not isinstance(router, Router | None):
        raise ConfigurationError(f"router: expected a Router, found {type(router).__name__}.")
    if router is not None:
        if settings:
            raise ConfigurationError(
                f"{', '.join(settings)}: a router was given as well, and has its own. Give them to Router(...), or "
                "leave router out."
            )
        return router
    if not given:
        return default_router()
    if client_kwargs is not None:
        settings["client"] = ClientSettings(common=client_kwargs).host_client
    return Router(**settings)
