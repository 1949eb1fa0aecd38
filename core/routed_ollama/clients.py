"""Settings of the HTTP clients below a framework's own class: what the user gave, with every phase of a wait bounded.

Settings of the user's are copied, never changed; credentials go to the host they were given for, and nowhere else.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

from routed_ollama.transport import build_transport

Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What HTTP clients are made from.

    Attributes:
        common: keyword arguments of every client.
        sync: those of sync clients, stronger than ``common``.
        async_: those of async clients, stronger than ``common``.
        api_key: sent as a bearer token, unless a header or the URL says otherwise.
        timeout: seconds; an upper bound on every single wait.

    Example:
        >>> ClientSettings(api_key="k").arguments("http://127.0.0.1:11434", async_=False)["headers"]
        {'Authorization': 'Bearer k'}
    """

    common: Arguments = field(default_factory=dict, repr=False)
    sync: Arguments = field(default_factory=dict, repr=False)
    async_: Arguments = field(default_factory=dict, repr=False)
    api_key: str | None = field(default=None, repr=False)
    timeout: Any = None

    def arguments(self, url: str, *, async_: bool, joined: bool = False) -> dict[str, Any]:
        """Return the keyword arguments of an httpx client for a host, with bounded transports.

        Args:
            url: the host's, as the user wrote it: credentials in it become basic authentication.
            async_: for an `httpx.AsyncClient`.
            joined: ask for a stream where a whole answer is wanted, so that its phases can be told apart.
        """
        own = self.async_ if async_ else self.sync
        return build_transport({**self._common(url), **own}, async_=async_, joined=joined)

    def host_client(self, url: str) -> Callable[..., httpx.Client]:
        """Return what makes the client that asks a host what it has, over the user's own settings.

        Args:
            url: the host's, as the user wrote it; empty when its credentials are not to be used.
        """

        def make(**defaults: Any) -> httpx.Client:
            given = {**defaults, **self._common(url, timed=False), **self.sync, "timeout": defaults["timeout"]}
            if "Authorization" in given.get("headers", {}):
                given.pop("auth", None)
            return httpx.Client(**build_transport(given, async_=False))

        return make

    def _common(self, url: str, *, timed: bool = True) -> dict[str, Any]:
        common = dict(self.common)
        headers = copy.deepcopy(dict(common.get("headers") or {}))
        if self.api_key is not None:
            headers.setdefault("Authorization", f"Bearer {self.api_key}")
        if auth := _basic_auth(url):
            headers["Authorization"] = auth
        if headers:
            common["headers"] = headers
        if timed and self.timeout is not None:
            common["timeout"] = self.timeout
        return common


def _basic_auth(url: str) -> str | None:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if not parts.username:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"
