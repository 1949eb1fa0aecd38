"""HTTP as Go's server speaks it: chunks that leave at once, clients that leave, and requests of every age and kind."""

from __future__ import annotations

import socket
import time

import httpx
import pytest
from talking import CLIENT, Background, body, chat, connected, lines, raw_request, rest, streaming, until

from routed_ollama.testing import Gate, OllamaServer, ScriptedModel


@pytest.fixture(scope="module")
def server():
    with OllamaServer(["m"]) as server:
        yield server


def test_a_consumer_holds_the_first_chunk_before_the_second_is_sent():
    gate = Gate()
    with OllamaServer([ScriptedModel("m", reply=["one", gate, " two"])]) as server, streaming(server) as received:
        assert next(received)["message"]["content"] == "one"
        assert gate.wait_reached()  # the model stands still: nothing more has been made
        gate.open()
        assert next(received)["message"]["content"] == " two"
        assert next(received)["done"] is True


def test_a_connection_is_used_again(server):
    with connected(server) as sock:
        for _ in range(3):
            sock.sendall(raw_request("/api/version"))
            assert until(sock, b'"}').startswith(b"HTTP/1.1 200 OK\r\n")


def test_requests_sent_ahead_are_answered_in_order(server):
    with connected(server) as sock:
        sock.sendall(raw_request("/api/version") + raw_request("/") + raw_request("/api/nosuch"))
        data = until(sock, b"404 page not found")
    assert data.index(b"0.24.0") < data.index(b"Ollama is running") < data.index(b"404 page not found")


def test_a_request_may_arrive_in_pieces(server):
    request = raw_request("/api/chat", body(stream=False))
    with connected(server) as sock:
        for at in range(0, len(request), 40):
            sock.sendall(request[at : at + 40])
        assert b"You asked: hi" in until(sock, b'"eval_duration"')


def test_a_client_that_wants_to_close_is_closed_on(server):
    with connected(server) as sock:
        sock.sendall(raw_request("/api/version", headers="Connection: close\r\n"))
        assert rest(sock).endswith(b'{"version":"0.24.0"}')


def test_http_1_0_gets_no_chunks(server):
    with connected(server) as sock:
        sock.sendall(raw_request("/api/chat", body(), version="1.0"))
        data = rest(sock)
    head, _, content = data.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert content.startswith(b'{"model"')
    assert content.endswith(b"}\n")


def test_who_waits_for_100_continue_gets_it(server):
    with connected(server) as sock:
        head, _, content = raw_request("/api/chat", body(stream=False), headers="Expect: 100-continue\r\n").partition(
            b"\r\n\r\n"
        )
        sock.sendall(head + b"\r\n\r\n")
        assert until(sock, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(content)
        assert b"200 OK" in until(sock, b'"done":true')


def test_what_is_not_http_is_refused(server):
    with connected(server) as sock:
        sock.sendall(b"nonsense\r\n\r\n")
        assert rest(sock).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_half_a_request_is_not_answered(server):
    with connected(server) as sock:
        sock.sendall(raw_request("/api/chat", body())[:-3])
        sock.shutdown(socket.SHUT_WR)
        assert rest(sock) == b""


def test_head_has_a_length_and_no_body(server):
    answer = CLIENT.head(f"{server.url}/api/tags")
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) > 100
    assert answer.content == b""


def test_a_trailing_slash_is_redirected(server):
    assert CLIENT.get(f"{server.url}/api/tags/").status_code == 301
    answer = httpx.post(f"{server.url}/api/chat/", json=body(stream=False), follow_redirects=True)
    assert answer.json()["done"] is True


def test_the_wrong_method_names_the_right_one(server):
    answer = CLIENT.delete(f"{server.url}/api/chat")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_who_does_not_read_holds_up_nobody_else_and_gets_everything():
    made = []

    def reply(_):
        for number in range(5000):
            made.append(number)
            yield "x" * 10_000

    with OllamaServer([ScriptedModel("long", reply=reply), "m"]) as server, connected(server) as sock:
        sock.sendall(raw_request("/api/chat", body("long")))
        until(sock, b"200 OK")
        server.wait_until(lambda: len(made) > 10 and quiet(made))
        assert len(made) < 5000  # the model waits for its reader
        assert chat(server).status_code == 200
        received = 0
        while not (data := sock.recv(1 << 20)).endswith(b"0\r\n\r\n"):
            received += len(data)
    assert received > 49_000_000


def quiet(made):
    """Whether nothing is added for a while."""
    before = len(made)
    time.sleep(0.1)
    return len(made) == before


def test_who_leaves_in_the_middle_frees_the_slot():
    gate = Gate()
    with OllamaServer([ScriptedModel("m", reply=lambda _: ["one", gate, "two"])]) as server:
        with streaming(server) as received:
            next(received)
            waiting = Background(lines, server)
            server.wait_for_request(count=2)
        gate.open()
        assert [line["message"]["content"] for line in waiting.result()] == ["one", "two", ""]


def test_who_leaves_without_having_read_frees_the_slot():
    made = []
    model = ScriptedModel("m", reply=lambda request: (made.append(1) or "x" * 10_000 for _ in range(5000)))
    with OllamaServer([model]) as server:
        with connected(server) as sock:
            sock.sendall(raw_request("/api/chat", body()))
            until(sock, b"200 OK")
            server.wait_until(lambda: len(made) > 10 and quiet(made))
        server.wait_until(lambda: not any(each.users for each in server._api.scheduler.residents))


def test_a_request_may_come_while_another_is_answered():
    gate = Gate()
    with OllamaServer([ScriptedModel("m", reply=["one", gate])]) as server, connected(server) as sock:
        sock.sendall(raw_request("/api/chat", body()))
        until(sock, b'"one"')
        sock.sendall(raw_request("/api/version"))
        gate.open()
        assert until(sock, b'{"version"').index(b"0\r\n\r\nHTTP/1.1 200 OK") > 0


def test_stopping_cuts_what_is_under_way_and_frees_the_port():
    gate = Gate()
    server = OllamaServer([ScriptedModel("m", reply=["one", gate])]).start()
    with streaming(server) as received:
        next(received)
        server.stop()
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            next(received)
    with pytest.raises(httpx.ConnectError):
        CLIENT.get(server.url)
    with OllamaServer(port=server.port) as again:
        assert CLIENT.get(again.url).text == "Ollama is running"


def test_stopping_waits_for_nobody_who_does_not_read():
    made = []
    model = ScriptedModel("m", reply=lambda request: (made.append(1) or "x" * 10_000 for _ in range(5000)))
    server = OllamaServer([model]).start()
    with connected(server) as sock:
        sock.sendall(raw_request("/api/chat", body()))
        until(sock, b"200 OK")
        server.wait_until(lambda: len(made) > 10 and quiet(made))
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < 5
