"""From a client's keyword arguments to the same with bounded transports.

Given a transport, httpx ignores its proxy, proxy environment and TLS arguments. So they are read here, and mean what
they mean to httpx.
"""

from __future__ import annotations

import copy
import ipaddress
import os
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx

from routed_ollama.transport._joined import AsyncJoinedTransport, JoinedTransport
from routed_ollama.transport._phases import AsyncPhaseTransport, PhaseTransport
from routed_ollama.transport._pools import LoopPooledTransport, PooledTransport

_CONSUMED = frozenset({"transport", "mounts", "proxy", "verify", "cert", "http1", "limits"})
"""Arguments that are built into the transports. ``http2`` stays: httpx says at once when it is not installed."""

_Transport = httpx.BaseTransport | httpx.AsyncBaseTransport


def build_transport(
    client_kwargs: Mapping[str, Any] | None = None, *, async_: bool, joined: bool = False
) -> dict[str, Any]:
    """Keyword arguments for an httpx client, or one that passes them on as Ollama's do, with bounds on each phase.

    Nothing is connected and, with default TLS settings, no certificate is read before an ``https`` URL is asked for.

    Args:
        client_kwargs: what the client would have been given; not changed, and its headers are copied.
        async_: for an `httpx.AsyncClient`.
        joined: ask for a stream where a whole answer is wanted, so that its phases can be told apart.

    Returns:
        The arguments to use: ``transport`` and ``mounts`` are bounded; a transport of the user's own is wrapped.

    Example:
        >>> with httpx.Client(**build_transport({"headers": {"x-team": "a"}, "verify": False}, async_=False)) as client:
        ...     client.headers["x-team"]
        'a'
    """
    given = dict(client_kwargs or {})
    result = {name: value for name, value in given.items() if name not in _CONSUMED}
    if "headers" in result:
        result["headers"] = copy.deepcopy(result["headers"])
    settings = _PoolSettings.of(given)
    own = given.get("transport")
    made = settings.transport(async_=async_) if own is None else own
    result["transport"] = _bounded(made, async_=async_, owned=own is None)
    mounts: dict[str, _Transport | None] = {}
    for pattern, proxy in _proxies(given).items():
        mounts[pattern] = None if proxy is None else settings.transport(proxy, async_=async_)
    theirs: Mapping[str, _Transport | None] = given.get("mounts") or {}
    result["mounts"] = {
        pattern: None if mount is None else _bounded(mount, async_=async_, owned=pattern not in theirs)
        for pattern, mount in {**mounts, **theirs}.items()
    }
    return _joining(result, async_=async_) if joined else result


def _joining(result: dict[str, Any], *, async_: bool) -> dict[str, Any]:
    wrap: Any = AsyncJoinedTransport if async_ else JoinedTransport
    mounts = {pattern: None if mount is None else wrap(mount) for pattern, mount in result["mounts"].items()}
    return {**result, "transport": wrap(result["transport"]), "mounts": mounts}


@dataclass(frozen=True, slots=True)
class _PoolSettings:
    """What a connection pool is built from."""

    tls: ssl.SSLContext | None
    """``None``: the default, made when first needed."""
    trust_env: bool
    http1: bool
    http2: bool
    limits: httpx.Limits | None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> _PoolSettings:
        trust_env = given.get("trust_env", True)
        verify, cert = given.get("verify", True), given.get("cert")
        default = verify is True and cert is None
        # Settings of one's own are read at once, so that a wrong path is reported where it was given.
        tls = None if default else httpx.create_ssl_context(verify=verify, cert=cert, trust_env=trust_env)
        http1, http2 = given.get("http1", True), given.get("http2", False)
        return cls(tls, trust_env, http1, http2, given.get("limits"))

    def transport(self, proxy: httpx.Proxy | None = None, *, async_: bool) -> _Transport:
        if proxy is not None and proxy.url.scheme.startswith("socks"):
            httpx.HTTPTransport(**self.options("http", proxy))  # says at once when SOCKS support is not installed
        if async_:
            return LoopPooledTransport(lambda scheme: httpx.AsyncHTTPTransport(**self.options(scheme, proxy)))
        return PooledTransport(lambda scheme: httpx.HTTPTransport(**self.options(scheme, proxy)))

    def options(self, scheme: str, proxy: httpx.Proxy | None) -> dict[str, Any]:
        options: dict[str, Any] = {"http1": self.http1, "http2": self.http2, "proxy": proxy}
        if self.limits is not None:
            options["limits"] = self.limits
        options["verify"] = self.tls or self._default_tls(scheme)
        return options

    def _default_tls(self, scheme: str) -> ssl.SSLContext:
        if scheme != "https":
            return _no_tls()
        variables = ("SSL_CERT_FILE", "SSL_CERT_DIR") if self.trust_env else ()
        return _shared_tls(tuple(os.environ.get(name) for name in variables), self.http2)


@cache
def _no_tls() -> ssl.SSLContext:
    """Trusts nobody: for pools that only ever see ``http`` URLs."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@cache
def _shared_tls(environment: tuple[str | None, ...], http2: bool) -> ssl.SSLContext:  # noqa: ARG001 (see below)
    """The default settings, read once for each environment; httpcore writes the protocols it offers into them."""
    return httpx.create_ssl_context(trust_env=bool(environment))


def _bounded(transport: Any, *, async_: bool, owned: bool) -> _Transport:
    if isinstance(transport, PhaseTransport | AsyncPhaseTransport):
        return transport
    return AsyncPhaseTransport(transport, owned=owned) if async_ else PhaseTransport(transport, owned=owned)


def _proxies(given: Mapping[str, Any]) -> dict[str, httpx.Proxy | None]:
    """Which proxy serves which URLs: the one given, else the environment's unless the transport is the user's own."""
    proxy = given.get("proxy")
    if proxy is not None:
        return {"all://": proxy if isinstance(proxy, httpx.Proxy) else httpx.Proxy(proxy)}
    if given.get("transport") is not None or not given.get("trust_env", True):
        return {}
    return {pattern: None if url is None else httpx.Proxy(url) for pattern, url in _environment_proxies().items()}


def _environment_proxies() -> dict[str, str | None]:
    """Proxies of the environment, on Windows and macOS also the system's, as httpx's patterns; ``None``: go direct."""
    found = urllib.request.getproxies()
    proxies: dict[str, str | None] = {}
    for scheme in ("http", "https", "all"):
        if url := found.get(scheme):
            proxies[f"{scheme}://"] = url if "://" in url else f"http://{url}"
    exceptions = [name for entry in found.get("no", "").split(",") if (name := entry.strip())]
    if "*" in exceptions:
        return {}
    return proxies | {_pattern(name): None for name in exceptions}


def _pattern(name: str) -> str:
    """The pattern for one entry of ``NO_PROXY``: an address or ``localhost`` as it is, a domain with those below it."""
    if "://" in name:
        return name
    try:
        address = ipaddress.ip_address(name.split("/", maxsplit=1)[0])
    except ValueError:
        return f"all://{name}" if name.lower() == "localhost" else f"all://*{name}"
    return f"all://[{name}]" if address.version == 6 else f"all://{name}"  # noqa: PLR2004 (the protocol's version)
