"""The cutting proxy before a real HTTP server on loopback: what passes, what is cut, and what the other side sees."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from routed_ollama.testing.proxy import CuttingProxy

WAIT = 20.0
LINES = [*({"model": "a:latest", "message": {"content": f"word{i} "}, "done": False} for i in range(6))]
LAST = {"model": "a:latest", "message": {"content": '"done":true'}, "done": True}


def ndjson(*lines: dict) -> list[bytes]:
    return [json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines]


class Upstream:
    """A server whose answers the test writes."""

    def __init__(self) -> None:
        self.reply: Callable[[BaseHTTPRequestHandler, bytes], None] = stream_of(ndjson(*LINES, LAST))
        self.requests: list[tuple[str, str, list[tuple[str, str]], bytes]] = []
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                upstream.requests.append((self.command, self.path, self.headers.items(), body))
                with suppress(ConnectionError):  # clients that leave are what many of these tests are about
                    upstream.reply(self, body)

            do_GET = do_POST = do_HEAD = handle_any  # noqa: N815 - the names http.server looks for

            def log_message(self, *_: object) -> None:
                """Keep the test's output clean."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"


def stream_of(
    pieces: list[bytes], *, finish: bool = True, content_type: str = "application/x-ndjson"
) -> Callable[[BaseHTTPRequestHandler, bytes], None]:
    """An answer that sends these pieces as chunks."""

    def reply(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", content_type)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for piece in pieces:
            chunk(handler, piece)
        if finish:
            chunk(handler, b"")
        else:
            handler.close_connection = True

    return reply


def chunk(handler: BaseHTTPRequestHandler, piece: bytes) -> None:
    handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    handler.wfile.flush()


def whole(body: bytes, *, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Callable:
    def reply(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(status, "As It Was Said")
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    return reply


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    thread = threading.Thread(target=upstream.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield upstream
    upstream.server.shutdown()
    thread.join()
    upstream.server.server_close()


@pytest.fixture
def proxy(upstream: Upstream) -> Iterator[CuttingProxy]:
    with CuttingProxy(upstream.url) as proxy:
        yield proxy


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=WAIT) as client:
        yield client


def chat(client: httpx.Client, proxy: CuttingProxy, model: str = "a", path: str = "/api/chat") -> tuple[bytes, bool]:
    """What arrives of an answer, and whether it arrived whole."""
    received = b""
    try:
        with client.stream("POST", proxy.url + path, json={"model": model, "messages": []}) as response:
            for piece in response.iter_raw():
                received += piece
    except httpx.TransportError:
        return received, False
    return received, True


def test_everything_passes_unchanged(upstream, proxy, client):
    upstream.reply = whole(b"\x00\xffbinary", status=418, headers=(("X-Twice", "1"), ("X-Twice", "2"), ("Date", "now")))
    body = b'{"model": "a", "odd":  "spacing"}'
    response = client.post(
        proxy.url + "/api/show?q=%20x", content=body, headers={"X-Mine": "yes", "Accept-Encoding": "x"}
    )
    assert (response.status_code, response.reason_phrase, response.content) == (
        418,
        "As It Was Said",
        b"\x00\xffbinary",
    )
    assert response.headers.get_list("x-twice") == ["1", "2"]
    method, path, headers, received = upstream.requests[0]
    assert (method, path, received) == ("POST", "/api/show?q=%20x", body)
    sent = {name.lower(): value for name, value in headers}
    assert (sent["x-mine"], sent["accept-encoding"]) == ("yes", "x")
    assert "http://" + sent["host"] == upstream.url


def test_a_connection_is_used_again(upstream, proxy):
    upstream.reply = whole(b"one")
    connection = http.client.HTTPConnection(proxy.url.removeprefix("http://"), timeout=WAIT)
    for method in ("GET", "HEAD", "GET"):
        connection.request(method, "/")
        answer = connection.getresponse()
        assert answer.getheader("content-length") == "3"
        assert answer.read() == (b"" if method == "HEAD" else b"one")
    connection.close()


def test_a_request_sent_before_the_answer_to_the_first_is_answered_too(upstream, proxy):
    asked, sent = threading.Event(), threading.Event()

    def reply(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        asked.set()
        assert sent.wait(WAIT)
        whole(b"ok")(handler, body)

    upstream.reply = reply
    with socket.create_connection(address(proxy), WAIT) as raw:
        raw.sendall(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert asked.wait(WAIT)
        raw.sendall(b"GET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        sent.set()
        received = b"".join(iter(lambda: raw.recv(4096), b""))
    assert received.count(b"200 As It Was Said") == 2
    assert [path for _, path, _, _ in upstream.requests] == ["/1", "/2"]


def test_a_body_announced_first_is_asked_for(upstream, proxy):
    upstream.reply = whole(b"ok")
    with socket.create_connection(address(proxy), WAIT) as raw:
        raw.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n"
        )
        assert raw.recv(4096).startswith(b"HTTP/1.1 100")
        raw.sendall(b"body")
        assert b"".join(iter(lambda: raw.recv(4096), b"")).endswith(b"ok")
    assert upstream.requests[0][3] == b"body"


def test_what_is_no_http_ends_the_connection(proxy):
    with socket.create_connection(address(proxy), WAIT) as raw:
        raw.sendall(b"\x16\x03\x01 not http\r\n\r\n")
        assert raw.recv(4096) == b""


def address(proxy: CuttingProxy) -> tuple[str, int]:
    url = httpx.URL(proxy.url)
    return url.host, url.port or 0


def test_a_path_and_a_slash_in_the_upstream_url_are_kept(upstream, client):
    upstream.reply = whole(b"ok")
    with CuttingProxy(upstream.url + "/behind/") as proxy:
        client.get(proxy.url + "/api/tags")
    assert upstream.requests[0][1] == "/behind/api/tags"


def test_a_stream_is_passed_on_as_it_comes(upstream, proxy, client):
    """The consumer holds line 1 before the server has sent line 2."""
    seen = threading.Event()
    first, second = ndjson(LINES[0], LAST)

    def reply(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        stream_of([first], finish=False)(handler, body)
        assert seen.wait(WAIT)
        chunk(handler, second)
        chunk(handler, b"")

    upstream.reply = reply
    with client.stream("POST", proxy.url + "/api/chat", json={"model": "a"}) as response:
        pieces = response.iter_raw()
        assert next(pieces) == first
        seen.set()
        assert b"".join(pieces) == second


@pytest.mark.parametrize("grouping", ["one by one", "all at once", "byte by byte"])
def test_a_stream_is_cut_after_the_line(upstream, client, grouping):
    lines = ndjson(*LINES, LAST)
    text = b"".join(lines)
    pieces = {"one by one": lines, "all at once": [text], "byte by byte": [bytes([byte]) for byte in text]}
    upstream.reply = stream_of(pieces[grouping])
    with CuttingProxy(upstream.url, cut_after_chunks=3) as proxy:
        assert chat(client, proxy) == (b"".join(lines[:3]), False)
        assert proxy.cuts == 1
        assert chat(client, proxy) == (text, True)
    assert proxy.cuts == 1


def test_a_reset_is_a_reset_for_the_client(upstream):
    """Read from the socket: client libraries word it differently."""
    with CuttingProxy(upstream.url, cut_after_chunks=3, reset=True) as proxy:
        with socket.create_connection(address(proxy), WAIT) as raw:
            raw.sendall(b'POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{"model":"a"}')
            with pytest.raises(ConnectionResetError):
                b"".join(iter(lambda: raw.recv(4096), b""))
        assert proxy.cuts == 1


def test_it_cuts_as_often_as_it_is_told_and_again_when_armed_again(upstream, proxy, client):
    proxy.arm(1, times=2)
    assert [chat(client, proxy)[1] for _ in range(3)] == [False, False, True]
    proxy.arm(2)
    assert chat(client, proxy) == (b"".join(ndjson(*LINES[:2])), False)
    assert proxy.cuts == 3


def test_nothing_reaches_the_client_when_cut_after_no_line(upstream, proxy, client):
    proxy.arm(0)
    assert chat(client, proxy) == (b"", False)


def test_only_the_model_it_is_armed_for_is_cut(upstream, proxy, client):
    proxy.arm(1, model="b")
    assert chat(client, proxy, "a")[1]
    assert not chat(client, proxy, "b:latest")[1]


def test_an_answer_that_is_whole_before_the_cut_is_no_cut(upstream, proxy, client):
    """The last line may arrive without its end of stream; it is an answer all the same."""
    proxy.arm(len(LINES) + 1)
    assert chat(client, proxy)[1]
    proxy.arm(50)
    assert chat(client, proxy)[1]
    assert proxy.cuts == 0


@pytest.mark.parametrize("case", ["another path", "not streamed"])
def test_only_streamed_chat_answers_are_cut(upstream, proxy, client, case):
    proxy.arm(1)
    if case == "not streamed":
        upstream.reply = stream_of(ndjson(*LINES, LAST), content_type="application/json; charset=utf-8")
    assert chat(client, proxy, path="/api/pull" if case == "another path" else "/api/chat")[1]
    assert proxy.cuts == 0


def test_a_request_that_names_no_model_is_still_passed_and_cut(upstream, proxy, client):
    proxy.arm(1)
    with (
        pytest.raises(httpx.TransportError),
        client.stream("POST", proxy.url + "/api/chat", content=b"{nope") as response,
    ):
        response.read()
    assert upstream.requests[0][3] == b"{nope"


def test_the_server_sees_a_client_that_leaves(upstream, proxy, client):
    """Ollama stops generating when its client has gone; behind the proxy its client is the proxy."""
    gone = threading.Event()
    upstream.reply = watch_for_departure(gone, ndjson(LINES[0]))
    with client.stream("POST", proxy.url + "/api/chat", json={"model": "a"}) as response:
        next(response.iter_raw())
    assert gone.wait(WAIT)


def test_the_server_sees_a_client_that_leaves_before_the_answer_begins(upstream, proxy):
    gone, asked = threading.Event(), threading.Event()

    def reply(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        asked.set()
        wait_for_end(handler)
        gone.set()

    upstream.reply = reply
    with socket.create_connection(address(proxy), WAIT) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert asked.wait(WAIT)
    assert gone.wait(WAIT)


def test_the_server_sees_the_cut_as_a_client_that_leaves(upstream, proxy, client):
    gone = threading.Event()
    upstream.reply = watch_for_departure(gone, ndjson(*LINES[:3]))
    proxy.arm(2)
    assert not chat(client, proxy)[1]
    assert gone.wait(WAIT)


def watch_for_departure(gone: threading.Event, pieces: list[bytes]) -> Callable:
    def reply(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        stream_of(pieces, finish=False)(handler, body)
        wait_for_end(handler)
        gone.set()

    return reply


def wait_for_end(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.settimeout(WAIT)
    with suppress(ConnectionError):  # a reset says the same
        assert handler.connection.recv(1) == b""


def test_a_server_that_breaks_off_breaks_off_for_the_client(upstream, proxy, client):
    upstream.reply = stream_of(ndjson(*LINES[:2]), finish=False)
    assert chat(client, proxy) == (b"".join(ndjson(*LINES[:2])), False)
    assert proxy.cuts == 0


def test_a_server_that_is_not_there_is_a_502_that_names_it(client):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with CuttingProxy(url.replace("//", "//user:secret@")) as proxy:
            response = client.get(proxy.url + "/api/tags")
    assert response.status_code == 502
    assert url in response.json()["error"]
    assert "secret" not in response.text


def test_stopping_ends_the_answers_under_way(upstream, client):
    gone = threading.Event()
    upstream.reply = watch_for_departure(gone, ndjson(LINES[0]))
    with (
        CuttingProxy(upstream.url) as proxy,
        client.stream("POST", proxy.url + "/api/chat", json={"model": "a"}) as response,
    ):
        pieces = response.iter_raw()
        next(pieces)
        proxy.close()
        with pytest.raises(httpx.TransportError):
            next(pieces)
    assert gone.wait(WAIT)


def test_it_can_be_started_again_and_has_no_url_while_it_is_stopped(upstream, client):
    upstream.reply = whole(b"ok")
    proxy = CuttingProxy(upstream.url)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="with statement"):
            _ = proxy.url
        with proxy.start() as same:
            assert same.start() is proxy
            assert client.get(proxy.url).text == "ok"
    proxy.close()


def test_a_proxy_that_cannot_start_says_why(upstream, monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    proxy = CuttingProxy(upstream.url)
    with pytest.raises(OSError, match=r"."):
        proxy.start()
    proxy.close()


@pytest.mark.parametrize(("after", "times"), [(-1, 1), (1, -1)])
def test_negative_numbers_are_refused(after, times):
    with pytest.raises(ValueError, match="count from 0"):
        CuttingProxy("http://127.0.0.1:1", cut_after_chunks=after, times=times)


def test_started_again_it_listens_where_it_did(upstream: Upstream) -> None:
    with CuttingProxy(upstream.url) as proxy:
        url = proxy.url
        proxy.close()
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)
        proxy.start()
        assert proxy.url == url
        assert httpx.get(url).status_code == 200
