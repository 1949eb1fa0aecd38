"""Deadlines by phase, over the wire: a raw loopback server that says what it is told to, when it is told to."""

from __future__ import annotations

import asyncio
import copy
import gc
import itertools
import os
import pickle
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx._utils import get_environment_proxies

from routed_ollama.errors import ConfigurationError, DeadlineExceededError
from routed_ollama.transport import (
    AsyncPhaseTransport,
    BetweenTokensDeadlineError,
    Bounds,
    ConnectDeadlineError,
    FirstTokenDeadlineError,
    PhaseTransport,
    Timeouts,
    TotalDeadlineError,
    attempt_bounds,
    build_transport,
)
from routed_ollama.transport import _build as build_module

LONG = 60.0
"""A bound that no test reaches."""


class Peer:
    """The server's side of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.head = ""

    def read_request(self) -> bool:
        received = b""
        while b"\r\n\r\n" not in received:
            more = self._sock.recv(65536)
            if not more:
                return False
            received += more
        self.head = received.decode("latin-1")
        return True

    def send(self, text: str) -> None:
        self._sock.sendall(text.encode("latin-1"))

    def headers(self, status: str = "200 OK", *more: str) -> None:
        self.send("\r\n".join([f"HTTP/1.1 {status}", "transfer-encoding: chunked", *more, "", ""]))

    def chunk(self, text: str) -> None:
        self.send(f"{len(text):x}\r\n{text}\r\n")

    def end(self) -> None:
        self.send("0\r\n\r\n")

    def answer(self, *chunks: str) -> None:
        self.headers()
        for chunk in chunks:
            self.chunk(chunk)
        self.end()

    def wait_until_left(self) -> None:
        while self._sock.recv(65536):
            pass


class Server:
    """Accepts connections and plays the same script on each, request after request."""

    def __init__(self, script: Callable[[Peer], None], tls: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.connections = 0
        self.heads: list[str] = []
        self.left = threading.Semaphore(0)
        """Released whenever a client has closed its connection."""
        host, port = self._listener.getsockname()
        self.netloc = f"{host}:{port}"
        self.url = f"{'https' if tls else 'http'}://{self.netloc}"
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                self._threads.append(threading.Thread(target=self._serve, args=(sock,), daemon=True))
                self._threads[-1].start()

    def _serve(self, sock: socket.socket) -> None:
        with suppress(OSError):
            sock = self._tls.wrap_socket(sock, server_side=True) if self._tls else sock
            self._sockets.append(sock)
            peer = Peer(sock)
            while peer.read_request():
                self.heads.append(peer.head)
                self._script(peer)
        sock.close()
        self.left.release()

    def close(self) -> None:
        # Linux wakes a thread that is in accept() only for a shutdown; others refuse that on a listening socket.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(script: Callable[[Peer], None], tls: ssl.SSLContext | None = None) -> Server:
        servers.append(Server(script, tls))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@contextmanager
def bounded(bounds: Bounds | None) -> Iterator[None]:
    token = attempt_bounds.set(bounds)
    try:
        yield
    finally:
        attempt_bounds.reset(token)


def stream_sync(url: str, bounds: Bounds | None, taken: list[str], **client: Any) -> None:
    with (
        bounded(bounds),
        httpx.Client(**build_transport({"timeout": None, **client}, async_=False)) as http,
        http.stream("GET", url) as response,
    ):
        taken.extend(chunk.decode() for chunk in response.iter_bytes())


def stream_async(url: str, bounds: Bounds | None, taken: list[str], **client: Any) -> None:
    async def main() -> None:
        with bounded(bounds):
            async with (
                httpx.AsyncClient(**build_transport({"timeout": None, **client}, async_=True)) as http,
                http.stream("GET", url) as response,
            ):
                async for chunk in response.aiter_bytes():
                    taken.append(chunk.decode())  # noqa: PERF401 (what came before an error is wanted too)

    asyncio.run(main())


Stream = Callable[..., None]
both_ways = pytest.mark.parametrize("stream", [stream_sync, stream_async], ids=["sync", "async"])


def silent(peer: Peer) -> None:
    peer.wait_until_left()


def silent_after_headers(peer: Peer) -> None:
    peer.headers()
    peer.wait_until_left()


def silent_after_one_chunk(peer: Peer) -> None:
    peer.headers()
    peer.chunk("a")
    peer.wait_until_left()


def trickling(peer: Peer) -> None:
    peer.headers()
    while True:
        peer.chunk("a")
        time.sleep(0.01)


# The phases


@both_ways
@pytest.mark.parametrize(
    "case",
    [
        (silent, Bounds(LONG, 0.2, LONG), FirstTokenDeadlineError, "first_token", []),
        (silent, Bounds(LONG, 0.2, LONG, loads=True), FirstTokenDeadlineError, "load", []),
        (silent_after_headers, Bounds(LONG, 0.2, LONG), FirstTokenDeadlineError, "first_token", []),
        (silent_after_one_chunk, Bounds(LONG, LONG, 0.2), BetweenTokensDeadlineError, "between_tokens", ["a"]),
    ],
    ids=["silent", "silent-load", "silent-after-headers", "silent-after-one-chunk"],
)
def test_a_silence_ends_at_the_bound_of_its_phase(serve, stream: Stream, case) -> None:
    script, bounds, error, phase, taken = case
    server = serve(script)
    got: list[str] = []
    with pytest.raises(error, match=rf"{server.url}.* 0\.2 s; timeouts=\{{'{phase}'") as raised:
        stream(server.url, bounds, got)
    assert isinstance(raised.value, DeadlineExceededError)
    assert isinstance(raised.value, httpx.ReadTimeout)
    assert isinstance(raised.value, TimeoutError)
    assert (raised.value.phase, raised.value.seconds) == (phase, 0.2)
    assert raised.value.request.url == server.url
    assert got == taken
    assert server.left.acquire(timeout=10), "the connection was not closed"


@both_ways
def test_the_first_bound_holds_until_the_first_byte_even_when_headers_come_early(serve, stream: Stream) -> None:
    def slow_start(peer: Peer) -> None:
        peer.headers()
        time.sleep(0.5)
        peer.send("1\r\na\r\n1\r\nb\r\n0\r\n\r\n")

    got: list[str] = []
    stream(serve(slow_start).url, Bounds(LONG, LONG, 0.1), got)
    assert "".join(got) == "ab"


@both_ways
def test_a_silence_within_the_answer_may_be_longer_than_the_first_bound(serve, stream: Stream) -> None:
    def pausing(peer: Peer) -> None:
        peer.headers()
        peer.chunk("a")
        time.sleep(1.2)
        peer.chunk("b")
        peer.end()

    got: list[str] = []
    stream(serve(pausing).url, Bounds(LONG, 1.0, LONG), got)
    assert got == ["a", "b"]


@both_ways
@pytest.mark.parametrize("script", [silent, silent_after_headers, silent_after_one_chunk, trickling])
def test_the_whole_answer_is_bounded_whatever_the_server_does(serve, stream: Stream, script) -> None:
    server = serve(script)
    with pytest.raises(TotalDeadlineError, match="not complete within") as raised:
        stream(server.url, Bounds(LONG, LONG, LONG, total=time.monotonic() + 0.3), [])
    assert raised.value.phase == "total"
    assert server.left.acquire(timeout=10), "the connection was not closed"


def test_a_chunk_that_comes_after_the_total_bound_is_not_handed_out(serve) -> None:
    go_on = threading.Event()

    def two_chunks(peer: Peer) -> None:
        peer.headers()
        peer.chunk("a")
        go_on.wait(10)
        peer.chunk("b")
        peer.end()

    now = [0.0]
    bounds = Bounds(LONG, LONG, LONG, total=50.0, clock=lambda: now[0])
    client = httpx.Client(**build_transport({"timeout": None}, async_=False))
    with client, bounded(bounds), client.stream("GET", serve(two_chunks).url) as response:
        chunks = response.iter_raw()
        assert next(chunks) == b"a"
        now[0] = 51.0
        go_on.set()
        with pytest.raises(TotalDeadlineError):
            next(chunks)


@both_ways
def test_nothing_is_sent_when_the_time_is_up_already(serve, stream: Stream) -> None:
    server = serve(silent)
    with pytest.raises(TotalDeadlineError):
        stream(server.url, Bounds(total=time.monotonic() - 1), [])
    assert server.connections == 0


@both_ways
def test_an_unbounded_phase_waits(serve, stream: Stream) -> None:
    got: list[str] = []
    stream(serve(lambda peer: peer.answer("a", "b")).url, Bounds(), got)
    assert "".join(got) == "ab"


@both_ways
def test_an_answer_within_a_total_bound_arrives(serve, stream: Stream) -> None:
    got: list[str] = []
    stream(serve(lambda peer: peer.answer("a", "b")).url, Bounds(total=time.monotonic() + LONG), got)
    assert "".join(got) == "ab"


@both_ways
def test_an_empty_body_is_an_answer(serve, stream: Stream) -> None:
    got: list[str] = []
    stream(serve(lambda peer: peer.send("HTTP/1.1 204 No Content\r\n\r\n")).url, Bounds(LONG, LONG, LONG), got)
    assert got == []


@both_ways
def test_the_clients_own_timeout_stays_an_upper_bound(serve, stream: Stream) -> None:
    with pytest.raises(FirstTokenDeadlineError, match="the client's own timeout allows no more") as raised:
        stream(serve(silent).url, Bounds(LONG, LONG, LONG), [], timeout=0.2)
    assert raised.value.seconds == 0.2
    with pytest.raises(BetweenTokensDeadlineError, match="the client's own timeout allows no more"):
        stream(serve(silent_after_one_chunk).url, Bounds(LONG, LONG, LONG), [], timeout=0.5)


@both_ways
def test_without_bounds_a_request_passes_unchanged(serve, stream: Stream) -> None:
    with pytest.raises(httpx.ReadTimeout) as raised:
        stream(serve(silent_after_one_chunk).url, None, [], timeout=0.2)
    assert not isinstance(raised.value, DeadlineExceededError)


@pytest.mark.parametrize("async_", [False, True], ids=["sync", "async"])
def test_a_connection_that_goes_back_to_the_pool_keeps_no_bound(serve, async_: bool) -> None:
    def second_is_slow(peer: Peer) -> None:
        if "/slow" in peer.head:
            peer.headers()
            time.sleep(0.5)
            peer.chunk("slow")
            peer.end()
        else:
            peer.answer("quick")

    server = serve(second_is_slow)

    async def main() -> str:
        async with httpx.AsyncClient(**build_transport({"timeout": None}, async_=True)) as client:
            with bounded(Bounds(LONG, LONG, 0.1)):
                await client.get(server.url)
            return (await client.get(server.url + "/slow")).text

    if async_:
        assert asyncio.run(main()) == "slow"
    else:
        with httpx.Client(**build_transport({"timeout": None}, async_=False)) as client:
            with bounded(Bounds(LONG, LONG, 0.1)):
                client.get(server.url)
            assert client.get(server.url + "/slow").text == "slow"
    assert server.connections == 1


def test_a_consumer_that_leaves_early_closes_the_connection(serve) -> None:
    server = serve(trickling)
    built = build_transport({}, async_=False)
    with (
        bounded(Bounds(LONG, LONG, LONG)),
        httpx.Client(**built) as client,
        client.stream("GET", server.url) as response,
    ):
        assert next(response.iter_raw()) == b"a"
    assert server.left.acquire(timeout=10)


async def test_an_async_consumer_that_leaves_early_closes_the_connection(serve) -> None:
    server = serve(trickling)
    built = build_transport({}, async_=True)
    with bounded(Bounds(LONG, LONG, LONG)):
        async with httpx.AsyncClient(**built) as client, client.stream("GET", server.url) as response:
            assert await anext(response.aiter_raw()) == b"a"
    assert await asyncio.to_thread(server.left.acquire, timeout=10)


# What transports of other kinds are told


def seen_timeouts(seen: list[dict[str, float | None]]) -> httpx.MockTransport:
    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(dict(request.extensions["timeout"]))
        if request.url.path == "/moved":
            return httpx.Response(307, headers={"location": "/"})
        return httpx.Response(200, text="ok")

    return httpx.MockTransport(handle)


@both_ways
def test_a_transport_of_the_users_own_is_told_the_bounds(stream: Stream) -> None:
    seen: list[dict[str, float | None]] = []
    got: list[str] = []
    stream("http://127.0.0.1/", Bounds(3, 30, 5), got, transport=seen_timeouts(seen))
    assert seen == [{"connect": 3, "read": 30, "write": 30, "pool": 30}]
    assert got == ["ok"]


@both_ways
def test_a_redirect_is_bounded_as_the_first_request(stream: Stream) -> None:
    seen: list[dict[str, float | None]] = []
    stream(
        "http://127.0.0.1/moved", Bounds(3, 30, 5), [], transport=seen_timeouts(seen), timeout=60, follow_redirects=True
    )
    assert seen == [{"connect": 3, "read": 30, "write": 30, "pool": 30}] * 2


def test_the_users_own_extensions_are_not_changed() -> None:
    seen: list[dict[str, float | None]] = []
    extensions = {"timeout": {"read": 7.0}}
    before = copy.deepcopy(extensions)
    with (
        bounded(Bounds(3, 30, 5)),
        httpx.Client(**build_transport({"transport": seen_timeouts(seen)}, async_=False)) as c,
    ):
        c.get("http://127.0.0.1/", extensions=extensions)
    assert seen[0]["read"] == 7.0
    assert extensions == before


@pytest.mark.parametrize(
    ("version", "expected"), [(b"HTTP/2", [30.0, 20.0, 5.0]), (b"HTTP/3", [30.0, 5.0, 5.0])], ids=["http2", "other"]
)
def test_a_transport_without_a_stream_to_bound_looks_the_bounds_up(version: bytes, expected: list[float]) -> None:
    """HTTP/2 looks its bound up at each read; others may not, so their bodies are bounded by silence alone."""
    seen: list[float | None] = []
    now = [0.0]

    class Body(httpx.SyncByteStream):
        def __init__(self, request: httpx.Request) -> None:
            self._request = request

        def __iter__(self) -> Iterator[bytes]:
            for chunk in (b"a", b"b"):
                seen.append(self._request.extensions["timeout"]["read"])
                yield chunk

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.extensions["timeout"]["read"])
        now[0] += 10
        return httpx.Response(200, stream=Body(request), extensions={"http_version": version})

    client = httpx.Client(**build_transport({"transport": httpx.MockTransport(handle), "timeout": None}, async_=False))
    with client, bounded(Bounds(3, 30, 5, clock=lambda: now[0])):
        client.get("http://127.0.0.1/")
    assert seen == expected


def raising(error: type[httpx.TimeoutException]) -> httpx.MockTransport:
    def handle(request: httpx.Request) -> httpx.Response:
        raise error("late", request=request)

    return httpx.MockTransport(handle)


@both_ways
def test_a_connection_that_does_not_come_about_is_named(stream: Stream) -> None:
    with pytest.raises(
        ConnectDeadlineError, match=r"no connection to http://h:1 within 3 s; timeouts=\{'connect'"
    ) as e:
        stream("http://u:secret@h:1/", Bounds(3, 30, 5), [], transport=raising(httpx.ConnectTimeout))
    assert isinstance(e.value, httpx.ConnectTimeout)
    assert "secret" not in str(e.value)
    with pytest.raises(ConnectDeadlineError, match="the client's own timeout"):
        stream("http://h/", Bounds(3, 30, 5), [], transport=raising(httpx.ConnectTimeout), timeout=1)
    with pytest.raises(ConnectDeadlineError) as e:
        stream("http://h/", Bounds(3, total=2, clock=lambda: 1.0), [], transport=raising(httpx.ConnectTimeout))
    assert (e.value.phase, e.value.seconds) == ("total", 1.0)


@both_ways
@pytest.mark.parametrize("error", [httpx.PoolTimeout, httpx.WriteTimeout])
def test_waits_of_the_clients_own_side_keep_their_error(stream: Stream, error: type[httpx.TimeoutException]) -> None:
    with pytest.raises(error) as raised:
        stream("http://h/", Bounds(3, 30, 5), [], transport=raising(error))
    assert type(raised.value) is error


@both_ways
def test_an_odd_timeout_within_a_body_keeps_its_error(stream: Stream) -> None:
    class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"a"
            raise httpx.WriteTimeout("odd")

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"a"
            raise httpx.WriteTimeout("odd")

    transport = httpx.MockTransport(lambda request: httpx.Response(200, stream=Body()))
    with pytest.raises(httpx.WriteTimeout) as raised:
        stream("http://h/", Bounds(3, 30, 5), [], transport=transport)
    assert type(raised.value) is httpx.WriteTimeout


def test_an_error_survives_pickling() -> None:
    with pytest.raises(ConnectDeadlineError) as raised:
        stream_sync("http://h:1/", Bounds(3, 30, 5), [], transport=raising(httpx.ConnectTimeout))
    twin = pickle.loads(pickle.dumps(raised.value))  # noqa: S301 (our own bytes)
    assert (type(twin), str(twin), twin.phase, twin.seconds) == (
        ConnectDeadlineError,
        str(raised.value),
        "connect",
        3.0,
    )


# What a client was configured with


@pytest.fixture
def no_proxies(monkeypatch) -> pytest.MonkeyPatch:
    for name, suffix in itertools.product(("http", "https", "all", "no"), ("_proxy", "_PROXY")):
        monkeypatch.delenv(name + suffix, raising=False)
        monkeypatch.delenv((name + suffix).upper(), raising=False)
    return monkeypatch


@both_ways
def test_the_environments_proxy_is_used_and_bounded(serve, stream: Stream, no_proxies) -> None:
    proxy = serve(lambda peer: peer.answer("by proxy"))
    no_proxies.setenv("HTTP_PROXY", proxy.netloc)
    no_proxies.setenv("NO_PROXY", "127.0.0.1,localhost,.internal")
    got: list[str] = []
    stream("http://ollama.example/api/tags", Bounds(LONG, LONG, LONG), got)
    assert got == ["by proxy"]
    assert proxy.heads[0].startswith("GET http://ollama.example/api/tags ")
    direct = serve(lambda peer: peer.answer("direct"))
    stream(direct.url, Bounds(LONG, LONG, LONG), got)
    assert got == ["by proxy", "direct"]
    no_proxies.delenv("NO_PROXY")
    stream(direct.url, Bounds(LONG, LONG, LONG), got, trust_env=False)
    assert got == ["by proxy", "direct", "direct"]
    silent_proxy = serve(silent)
    with pytest.raises(FirstTokenDeadlineError):
        stream("http://ollama.example/", Bounds(LONG, 0.2, LONG), [], proxy=silent_proxy.url)


@both_ways
def test_a_proxy_given_wins_over_the_environments(serve, stream: Stream, no_proxies) -> None:
    no_proxies.setenv("HTTP_PROXY", "127.0.0.1:1")
    proxy = serve(lambda peer: peer.answer("given"))
    got: list[str] = []
    stream("http://ollama.example/", Bounds(), got, proxy=httpx.Proxy(proxy.url, auth=("u", "p")))
    assert got == ["given"]
    assert "Proxy-Authorization: Basic" in proxy.heads[0]


@both_ways
def test_a_transport_given_wins_over_the_environments_proxy(stream: Stream, no_proxies) -> None:
    no_proxies.setenv("HTTP_PROXY", "127.0.0.1:1")
    got: list[str] = []
    stream("http://h/", Bounds(LONG, LONG, LONG), got, transport=seen_timeouts([]))
    assert got == ["ok"]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"http_proxy": "http://p:1"},
        {"https_proxy": "p:1", "all_proxy": "http://q:2"},
        {"http_proxy": "p:1", "no_proxy": "*, a.example"},
        {
            "http_proxy": "p:1",
            "no_proxy": "a.example,.b.example, 10.0.0.1,,10.0.0.0/8,::1,LOCALHOST,http://c.example,d:8",
        },
    ],
)
def test_the_environment_means_what_it_means_to_httpx(environment, no_proxies) -> None:
    for name, value in environment.items():
        no_proxies.setenv(name, value)
    assert build_module._environment_proxies() == get_environment_proxies()


def test_mounts_are_bounded_and_override_the_environment(serve, no_proxies) -> None:
    no_proxies.setenv("ALL_PROXY", "http://127.0.0.1:1")
    seen: list[dict[str, float | None]] = []
    kwargs = {"mounts": {"all://": None, "http://special": seen_timeouts(seen)}}
    built = build_transport(kwargs, async_=False)
    assert built["mounts"]["all://"] is None
    with httpx.Client(**built, timeout=LONG) as client, bounded(Bounds(3, 30, 5)):
        client.get("http://special/")
        assert client.get(serve(lambda peer: peer.answer("direct")).url).text == "direct"
    assert seen[0]["read"] == 30


@pytest.mark.parametrize("async_", [False, True], ids=["sync", "async"])
def test_the_input_is_not_changed(async_: bool) -> None:
    given = {"headers": {"x": "1"}, "timeout": 3, "verify": False, "follow_redirects": True, "mounts": {}}
    before = copy.deepcopy(given)
    built = build_transport(given, async_=async_)
    built["headers"]["authorization"] = "secret"
    assert given == before
    assert set(built) == {"headers", "timeout", "follow_redirects", "transport", "mounts"}
    assert build_transport(None, async_=async_).keys() == {"transport", "mounts"}


@pytest.mark.parametrize("async_", [False, True], ids=["sync", "async"])
def test_a_bounded_transport_is_not_bounded_twice(async_: bool) -> None:
    once = build_transport({}, async_=async_)
    assert build_transport(once, async_=async_)["transport"] is once["transport"]


@pytest.mark.filterwarnings("ignore:`cert=...` is deprecated:DeprecationWarning")
def test_wrong_settings_are_reported_where_they_are_given(tmp_path: Path, no_proxies) -> None:
    with pytest.raises(FileNotFoundError):
        build_transport({"verify": False, "cert": str(tmp_path / "none.pem")}, async_=False)
    with pytest.raises(ValueError, match="proxy"):
        build_transport({"proxy": "ftp://p"}, async_=False)
    with pytest.raises(ImportError, match="socks"):
        build_transport({"proxy": "socks5://127.0.0.1:1"}, async_=False)


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 (a fixed command)
    both = folder / "both.pem"
    both.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return both


@pytest.fixture
def tls_server(serve, certificate: Path) -> Server:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return serve(lambda peer: peer.answer("safe"), context)


@both_ways
def test_certificates_are_verified_as_the_client_was_told(tls_server, stream: Stream, certificate, monkeypatch) -> None:
    bounds = Bounds(LONG, LONG, LONG)
    got: list[str] = []
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        stream(tls_server.url, bounds, got)
    stream(tls_server.url, bounds, got, verify=False)
    stream(tls_server.url, bounds, got, verify=ssl.create_default_context(cafile=certificate))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    stream(tls_server.url, bounds, got)
    assert got == ["safe"] * 3
    with pytest.raises(httpx.ConnectError):
        stream(tls_server.url, bounds, got, trust_env=False)


@both_ways
@pytest.mark.filterwarnings("ignore:`cert=...` is deprecated:DeprecationWarning")
def test_a_client_certificate_is_shown(serve, stream: Stream, certificate: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate)
    server = serve(lambda peer: peer.answer("known"), context)
    got: list[str] = []
    stream(server.url, Bounds(LONG, LONG, LONG), got, verify=False, cert=str(certificate))
    assert got == ["known"]
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError, ssl.SSLError)):
        stream(server.url, Bounds(LONG, LONG, LONG), got, verify=False)


@both_ways
def test_a_silence_behind_tls_is_bounded_too(serve, stream: Stream, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = serve(silent_after_one_chunk, context)
    got: list[str] = []
    with pytest.raises(BetweenTokensDeadlineError):
        stream(server.url, Bounds(LONG, LONG, 0.2), got, verify=False)
    assert got == ["a"]


def test_plain_http_reads_no_certificates(serve) -> None:
    before = build_module._shared_tls.cache_info()
    got: list[str] = []
    stream_sync(serve(lambda peer: peer.answer("plain")).url, Bounds(), got)
    assert got == ["plain"]
    assert build_module._shared_tls.cache_info() == before


# One client, several event loops, threads and processes


def test_one_async_client_works_under_several_event_loops(serve) -> None:
    server = serve(lambda peer: peer.answer("hello"))
    client = httpx.AsyncClient(**build_transport({}, async_=True))

    async def ask_twice() -> list[str]:
        return [(await client.get(server.url)).text for _ in range(2)]

    for loops in range(1, 4):
        assert asyncio.run(ask_twice()) == ["hello", "hello"]
        assert server.connections == loops, "a loop did not reuse its connection"
        assert server.left.acquire(timeout=10), "a loop that ended left its connection open"


def test_one_async_client_works_under_loops_of_several_threads(serve) -> None:
    server = serve(lambda peer: peer.answer("hello"))
    client = httpx.AsyncClient(**build_transport({}, async_=True))
    together = threading.Barrier(2, timeout=10)

    async def ask() -> list[str]:
        together.wait()
        texts = [(await client.get(server.url)).text for _ in range(20)]
        together.wait()
        return texts

    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(asyncio.run, ask()) for _ in range(2)]
        assert [run.result(timeout=30) for run in runs] == [["hello"] * 20] * 2
    assert server.connections == 2


def test_closing_the_client_closes_its_loops_connections(serve) -> None:
    server = serve(lambda peer: peer.answer("hello"))

    async def main() -> None:
        async with httpx.AsyncClient(**build_transport({}, async_=True)) as client:
            await client.get(server.url)
        assert await asyncio.to_thread(server.left.acquire, timeout=10)
        unused = build_transport({}, async_=True)["transport"]
        await unused.aclose()

    asyncio.run(main())


async def test_a_response_may_outlive_its_client(serve) -> None:
    go_on = threading.Event()

    def two_chunks(peer: Peer) -> None:
        peer.headers()
        peer.chunk("a")
        go_on.wait(10)
        peer.chunk("b")
        peer.end()

    request = httpx.Request("GET", serve(two_chunks).url)
    with bounded(Bounds(LONG, LONG, LONG)):
        response = await httpx.AsyncClient(**build_transport({}, async_=True)).send(request, stream=True)
    gc.collect()
    await asyncio.sleep(0)  # what collecting has scheduled gets its turn
    go_on.set()
    assert await response.aread() == b"ab"


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_was_closed_without_shutting_down_is_forgotten(serve) -> None:
    server = serve(lambda peer: peer.answer("hello"))
    transport = build_transport({}, async_=True)["transport"]
    client = httpx.AsyncClient(transport=transport)

    async def ask() -> str:
        return (await client.get(server.url)).text

    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(ask()) == "hello"
    loop.close()
    assert asyncio.run(ask()) == "hello"
    assert loop not in transport._inner._by_loop
    del loop
    gc.collect()  # what asyncio says of the connections such a loop leaves is to be said here


def test_an_event_loop_is_not_kept_alive(serve) -> None:
    server = serve(lambda peer: peer.answer("hello"))
    transport = build_transport({}, async_=True)["transport"]
    client = httpx.AsyncClient(transport=transport)

    async def ask() -> str:
        return (await client.get(server.url)).text

    assert asyncio.run(ask()) == "hello"
    pools = next(iter(transport._inner._by_loop.values()), None)
    assert pools is None or (pools._pools == {} and pools._attendant is None)


def test_without_an_asyncio_loop_there_is_one_set_of_pools() -> None:
    """Another async library: nothing of asyncio is asked for. A coroutine that never waits can be driven by hand."""
    asked: list[str] = []

    def build(scheme: str) -> httpx.AsyncBaseTransport:
        asked.append(scheme)
        return httpx.MockTransport(lambda request: httpx.Response(200, text="ok"))

    transport = AsyncPhaseTransport(build_module.LoopPooledTransport(build))

    def drive(coroutine: Any) -> Any:
        with pytest.raises(StopIteration) as stopped:
            coroutine.send(None)
        return stopped.value.value

    request = httpx.Request("GET", "http://h/")
    assert drive(transport.handle_async_request(request)).status_code == 200
    assert drive(transport.handle_async_request(request)).status_code == 200
    assert asked == ["http"]
    drive(transport.aclose())
    assert drive(transport.handle_async_request(request)).status_code == 200
    assert asked == ["http", "http"]


def test_one_sync_transport_serves_many_clients_and_threads(serve) -> None:
    server = serve(lambda peer: peer.answer("hello"))
    transport = build_transport({}, async_=False)["transport"]
    clients = [httpx.Client(transport=transport) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        texts = list(threads.map(lambda client: client.get(server.url).text, clients * 5))
    assert texts == ["hello"] * 20
    for client in clients[:3]:
        client.close()
    assert clients[3].get(server.url).text == "hello", "closing one client must not take the transport from another"
    clients[3].close()


def test_a_transport_of_the_users_own_is_theirs_to_open_and_close() -> None:
    events: list[str] = []

    class Own(httpx.MockTransport):
        def __enter__(self) -> Any:
            events.append("enter")
            return self

        def __exit__(self, *error: object) -> None:
            events.append("exit")

        async def __aenter__(self) -> Any:
            events.append("enter")
            return self

        async def __aexit__(self, *error: object) -> None:
            events.append("exit")

    stream_sync("http://h/", Bounds(), [], transport=Own(lambda request: httpx.Response(200, text="a")))
    stream_async("http://h/", Bounds(), [], transport=Own(lambda request: httpx.Response(200, text="a")))
    assert events == []  # others may use it as well


def test_the_clients_limits_hold_and_the_wait_for_them_is_bounded(serve) -> None:
    built = build_transport({"limits": httpx.Limits(max_connections=1), "timeout": None}, async_=False)
    url = serve(silent_after_one_chunk).url
    bounds = Bounds(LONG, 0.2, LONG)
    client = httpx.Client(**built)
    with client, client.stream("GET", url), bounded(bounds), pytest.raises(httpx.PoolTimeout):
        client.get(url)


def test_a_wrapped_transport_may_stand_alone() -> None:
    transport = PhaseTransport(httpx.MockTransport(lambda request: httpx.Response(200, text="a")))
    with transport as entered:
        assert entered is transport
    transport.close()


FORKING = """
import os, sys, httpx
from routed_ollama.transport import build_transport
url = sys.argv[1]
sync = httpx.Client(**build_transport({}, async_=False))
idle = httpx.AsyncClient(**build_transport({}, async_=True))
assert sync.get(url).text == "hello"
child = os.fork()
assert sync.get(url).text == "hello"
if child:
    _, status = os.waitpid(child, 0)
    assert sync.get(url).text == "hello"
    sys.exit(os.waitstatus_to_exitcode(status))
sys.exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_opens_connections_of_its_own(serve) -> None:
    server = serve(lambda peer: peer.answer("hello"))
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING, server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 (ourselves)
    assert (done.returncode, done.stderr) == (0, "")
    assert server.connections == 2


def test_the_official_client_can_be_bounded(serve) -> None:
    ollama = pytest.importorskip("ollama")
    server = serve(silent_after_headers)
    client = ollama.Client(host=server.url, **build_transport({}, async_=False))
    with client, bounded(Bounds(LONG, 0.2, LONG)), pytest.raises(FirstTokenDeadlineError):
        list(client.chat("m", stream=True))


# Timeouts


def test_defaults_are_those_of_the_documentation() -> None:
    assert Timeouts.of(None) == Timeouts(connect=3, load=600, first_token=30, between_tokens=30, total=None)


def test_timeouts_are_made_of_what_a_person_wrote() -> None:
    own = Timeouts(total=5)
    assert Timeouts.of(own) is own
    assert Timeouts.of({"load": None, "connect": 1}) == Timeouts(load=None, connect=1)
    assert Timeouts.of(60) == Timeouts(total=60)
    assert Timeouts(first_token=float("inf")).first_token is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"first_tokens": 1}, "unknown key 'first_tokens'; did you mean 'first_token'"),
        ({"xyz": 1}, "unknown key 'xyz'; known are connect, load, first_token, between_tokens, total"),
        ({"load": 0}, "load must be a positive number of seconds or None, not 0"),
        ({"load": -1}, "load must be"),
        ({"load": float("nan")}, "load must be"),
        ({"load": "30"}, "load must be"),
        ({"load": True}, "load must be"),
        ("30", "total must be"),
        (False, "total must be"),
    ],
)
def test_wrong_timeouts_name_the_key(value, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Timeouts.of(value)


def test_bounds_add_up_what_comes_before_the_first_token() -> None:
    def clock() -> float:
        return 7.0

    timeouts = Timeouts(load=600, first_token=30, total=100)
    warm = timeouts.bounds(prompt_seconds=2, wait=3, clock=clock)
    assert warm == Bounds(3.0, 35.0, 30.0, 107.0, loads=False, clock=clock)
    cold = timeouts.bounds(resident=False, clock=clock)
    assert (cold.first, cold.total, cold.loads) == (630.0, 107.0, True)
    assert Timeouts(load=None).bounds(resident=False).first is None
    assert Timeouts(load=None).bounds().first == 30.0
    assert Timeouts(first_token=None).bounds().first is None
    assert Timeouts().bounds().total is None
