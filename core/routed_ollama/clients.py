"""What HTTP clients are made from, host by host: the user's own settings, copied and never changed.

What is secret goes to the hosts it was given for, and to no other; every phase of a wait is bounded.
"""

from __future__ import annotations

import base64
import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import httpx

from routed_ollama.config import normalize_host
from routed_ollama.transport import build_transport

Arguments = Mapping[str, Any]

_SECRET = frozenset({"headers", "auth", "cookies", "cert", "params"})
"""Arguments of httpx clients that a host must not get unless they were given for it."""


def _lends_none(_host: str) -> None:
    return None


@dataclass(frozen=True)
class ClientSettings:
    """What the clients of some hosts are made from.

    Attributes:
        urls: the hosts' URLs as the user wrote them, credentials included, by their normal form; None for every host.
        common: keyword arguments of every client.
        sync: those of sync clients, stronger than ``common``.
        async_: those of async clients, stronger than ``common``.
        api_key: sent as a bearer token, unless the user's own headers or the URL say otherwise.
        timeout: seconds; an upper bound on every single wait.
        others: what clients of further hosts are made from: those of ready-made models.
        lends: returns the credentials that a shared router knows for a host.

    Example:
        >>> ours = ClientSettings.of(["http://127.0.0.1:11434"], api_key="k")
        >>> ours.arguments("http://127.0.0.1:11434", async_=False)["headers"]
        {'Authorization': 'Bearer k'}
        >>> "headers" in ours.arguments("http://elsewhere:11434", async_=False)
        False
    """

    urls: Mapping[str, str] | None = field(default=None, repr=False)
    common: Arguments = field(default_factory=dict, repr=False)
    sync: Arguments = field(default_factory=dict, repr=False)
    async_: Arguments = field(default_factory=dict, repr=False)
    api_key: str | None = field(default=None, repr=False)
    timeout: Any = None
    others: Mapping[str, ClientSettings] = field(default_factory=dict, repr=False)
    lends: Callable[[str], httpx.Auth | None] = field(default=_lends_none, repr=False)

    @classmethod
    def of(cls, urls: Sequence[str], **more: Any) -> Self:
        """Return those of a list of hosts.

        Args:
            urls: as the user wrote them, credentials included.
            **more: the other attributes.

        Raises:
            ConfigurationError: a URL is no address.
        """
        return cls({normalize_host(url): url for url in urls}, **more)

    def all_urls(self) -> list[str]:
        """Return the URLs of all these hosts, as they were written."""
        own = self.urls or {}
        others = {host: url for other in self.others.values() for host, url in (other.urls or {}).items()}
        return [*own.values(), *(url for host, url in others.items() if host not in own)]

    def arguments(self, host: str, *, async_: bool, joined: bool = False) -> dict[str, Any]:
        """Return the keyword arguments of an httpx client for a host, with bounds on each phase.

        Args:
            host: URL in its normal form; one that is not among ``urls`` gets nothing secret.
            async_: for an ``httpx.AsyncClient``.
            joined: ask for a stream where a whole answer is wanted, so that its phases can be told apart.
        """
        return build_transport(self._merged(host, async_=async_), async_=async_, joined=joined)

    def host_client(self, **defaults: Any) -> httpx.Client:
        """Return a client for asking a host what it has, over the user's own settings.

        Args:
            **defaults: the router's own arguments, ``base_url`` and ``timeout`` among them; that timeout stays.
        """
        given = self._merged(normalize_host(str(defaults["base_url"])), async_=False)
        key = os.environ.get("OLLAMA_API_KEY")  # where the official client finds it, too
        if key and not defaults.get("auth") and not _authorization(given.get("headers", {})):
            given["headers"] = {**given.get("headers", {}), "Authorization": f"Bearer {key}"}
        if _authorization(given.get("headers", {})):
            defaults.pop("auth", None)
        return httpx.Client(**build_transport({**defaults, **given, "timeout": defaults["timeout"]}, async_=False))

    def _merged(self, host: str, *, async_: bool) -> dict[str, Any]:
        known = self.urls is None or host in self.urls
        if not known and host in self.others:
            return self.others[host]._merged(host, async_=async_)  # noqa: SLF001 (of this very class)
        limit = {} if self.timeout is None else {"timeout": self.timeout}
        merged = {**self.common, **limit, **(self.async_ if async_ else self.sync)}
        if not known:
            merged = {name: value for name, value in merged.items() if name not in _SECRET}
        headers = self._headers(host, merged.get("headers")) if known else {}
        lent = self.lends(host)
        if lent is not None and not _authorization(headers):
            merged = {"auth": lent, **merged}
        return {**merged, "headers": headers} if headers else merged

    def _headers(self, host: str, given: Any) -> dict[str, Any]:
        headers = copy.deepcopy(dict(given or {}))
        if self.api_key is not None and not _authorization(headers):
            headers["Authorization"] = f"Bearer {self.api_key}"
        if auth := _basic_auth((self.urls or {}).get(host, "")):
            headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
            headers["Authorization"] = auth
        return headers


def _authorization(headers: Mapping[str, Any]) -> bool:
    return any(name.lower() == "authorization" for name in headers)


def _basic_auth(url: str) -> str | None:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if not parts.username:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"
