"""What HTTP clients are made from, host by host: the user's own settings, copied and never changed.

What is secret goes to the hosts it was given for, and to no other.
"""

from __future__ import annotations

import base64
import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import httpx
from langchain_ollama import ChatOllama

from routed_ollama import build_transport, default_host, normalize_host

_SECRET = frozenset({"headers", "auth", "cookies", "cert"})
"""Arguments of httpx clients that a host must not get unless they were given for it."""


@dataclass(frozen=True)
class ClientSettings:
    """What the clients of some hosts are made from.

    Attributes:
        urls: the hosts' URLs as the user wrote them, credentials included, by their normal form.
        common: ``client_kwargs``.
        sync: ``sync_client_kwargs``.
        async_: ``async_client_kwargs``.
        api_key: sent as a bearer token, unless the user's own headers say otherwise.
        timeout: seconds; an upper bound on every wait, as the plain class has it.
        others: what clients of further hosts are made from: those of ready-made models.
    """

    urls: Mapping[str, str]
    common: Mapping[str, Any]
    sync: Mapping[str, Any]
    async_: Mapping[str, Any]
    api_key: str | None = None
    timeout: float | None = None
    others: Mapping[str, ClientSettings] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Any, urls: Sequence[str], **more: Any) -> Self:
        """Read them from a model, ours or a plain one."""
        common, sync, async_ = model.client_kwargs, model.sync_client_kwargs, model.async_client_kwargs
        return cls({normalize_host(url): url for url in urls}, common or {}, sync or {}, async_ or {}, **more)

    @classmethod
    def of_ready(cls, model: ChatOllama) -> Self:
        """Read them from a ready-made model."""
        return cls.of(model, [model.base_url or default_host()])

    def all_urls(self) -> list[str]:
        """Return the URLs of all these hosts, as they were written."""
        others = {host: url for other in self.others.values() for host, url in other.urls.items()}
        return [*self.urls.values(), *(url for host, url in others.items() if host not in self.urls)]

    def arguments(self, host: str, *, async_: bool) -> dict[str, Any]:
        """Return the arguments of a host's client, with bounds on each phase.

        Args:
            host: URL in its normal form; one that is not among ``urls`` gets nothing secret.
            async_: for an ``httpx.AsyncClient``.
        """
        return build_transport(self._merged(host, async_=async_), async_=async_)

    def host_client(self, **defaults: Any) -> httpx.Client:
        """Return a client for asking a host what it has, over the user's own settings.

        Args:
            **defaults: the core's own arguments, ``base_url`` and ``timeout`` among them; that timeout stays.
        """
        given = self._merged(normalize_host(defaults["base_url"]), async_=False)
        key = os.environ.get("OLLAMA_API_KEY")  # where the official client finds it, too
        if key and not _authorization(given.get("headers", {})):
            given["headers"] = {**given.get("headers", {}), "Authorization": f"Bearer {key}"}
        if _authorization(given.get("headers", {})):
            defaults.pop("auth", None)
        return httpx.Client(**build_transport({**defaults, **given, "timeout": defaults["timeout"]}, async_=False))

    def _merged(self, host: str, *, async_: bool) -> dict[str, Any]:
        url = self.urls.get(host)
        if url is None and host in self.others:
            return self.others[host]._merged(host, async_=async_)  # noqa: SLF001 (of this very class)
        limit = {} if self.timeout is None else {"timeout": self.timeout}
        merged = {**self.common, **limit, **(self.async_ if async_ else self.sync)}
        if url is None:
            return {name: value for name, value in merged.items() if name not in _SECRET}
        headers = copy.deepcopy(dict(merged.get("headers") or {}))
        if self.api_key is not None and not _authorization(headers):
            headers["Authorization"] = f"Bearer {self.api_key}"
        if auth := _basic_auth(url):
            headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
            headers["Authorization"] = auth
        return {**merged, "headers": headers} if headers else merged


def _authorization(headers: Mapping[str, Any]) -> bool:
    return any(name.lower() == "authorization" for name in headers)


def _basic_auth(url: str) -> str | None:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if not parts.username:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"
