"""Each fault as a client without any library sees it: streamed and not, once and for ever, for one model and all."""

from __future__ import annotations

import json

import httpx
import pytest
from talking import CLIENT, Background, body, chat, connected, get, lines, post, raw_request, rest, streaming, until

from routed_ollama.testing import Fault, Gate, OllamaServer, ScriptedModel

STOPPED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details"
)
FAILED = "an error was encountered while running the model: unexpected EOF"


@pytest.fixture
def server():
    with OllamaServer([ScriptedModel("m", reply="one two three four"), "other"]) as server:
        yield server


def raw_answer(server, **more):
    """Every byte of an answer, up to the end or the break of the connection."""
    with connected(server) as sock:
        sock.sendall(raw_request("/api/chat", body(**more), headers="Connection: close\r\n"))
        try:
            return rest(sock)
        except ConnectionResetError:
            return ConnectionResetError


def receive_all(sock, received):
    while part := sock.recv(65536):
        received += part


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("fault", "status", "text"),
    [
        (Fault.SERVER_ERROR, 500, "internal server error"),
        (Fault.BUSY, 503, "server busy, please try again.  maximum pending requests exceeded"),
        (Fault.NOT_FOUND, 404, "model 'm' not found"),
        (Fault.LOAD_ERROR, 500, "llama runner process has terminated: exit status 2"),
        (Fault.CRASH_BEFORE_TOKEN, 500, STOPPED),
    ],
)
def test_what_fails_before_the_first_token_is_a_status(server, fault, status, text, stream):
    server.fail("m", fault)
    answer = chat(server, stream=stream)
    assert (answer.status_code, answer.json()) == (status, {"error": text})
    assert chat(server, "other").status_code == 200


def test_a_text_of_ones_own(server):
    server.fail("m", Fault.SERVER_ERROR, text="no more")
    assert chat(server).json() == {"error": "no more"}


def test_too_little_memory_is_told_in_numbers(server):
    server.fail("m", Fault.OUT_OF_MEMORY)
    error = chat(server).json()["error"]
    assert error == "model requires more system memory (4.9 GiB) than is available (2.5 GiB)"


def test_faults_of_loading_wait_for_the_next_load(server):
    assert chat(server).status_code == 200
    fault = server.fail("m", Fault.LOAD_ERROR)
    assert chat(server).status_code == 200
    server.unload("m")
    assert chat(server).status_code == 500
    assert fault.hits == 1
    assert server.resident == ()


def test_a_slow_load_is_slow(server):
    server.fail("m", Fault.SLOW_LOAD, seconds=0.2, times=1)
    assert chat(server).json()["load_duration"] > 0.2e9


def test_a_load_that_never_ends_is_aborted_by_leaving(server):
    server.fail("m", Fault.SLOW_LOAD, times=1)
    with pytest.raises(httpx.ReadTimeout):
        CLIENT.post(f"{server.url}/api/chat", json=body(), timeout=0.2)
    assert chat(server).status_code == 200
    assert server.loads == {"m:latest": 1}


def test_a_reset_comes_before_any_answer(server):
    server.fail("m", Fault.RESET)
    assert raw_answer(server) is ConnectionResetError


@pytest.mark.parametrize(("fault", "resident"), [(Fault.HANG_BEFORE_HEADERS, ()), (Fault.HANG, ("m:latest",))])
def test_hanging_says_nothing_until_the_client_leaves(server, fault, resident):
    server.fail("m", fault, times=1)
    with pytest.raises(httpx.ReadTimeout):
        CLIENT.post(f"{server.url}/api/chat", json=body(), timeout=0.2)
    assert server.resident == resident
    assert get(server, "/api/version")["version"] == "0.24.0"
    assert chat(server).status_code == 200  # the slot is free again


def test_who_hangs_keeps_its_slot(server):
    server.fail("m", Fault.HANG, times=1)
    first = Background(CLIENT.post, f"{server.url}/api/chat", json=body(), timeout=1.0)
    server.wait_until(lambda: server.resident == ("m:latest",))
    second = Background(chat, server)
    with pytest.raises(httpx.ReadTimeout):
        first.result()
    assert second.result().json()["total_duration"] > 0.5e9


def test_an_empty_answer_is_done_at_once(server):
    server.fail("m", Fault.EMPTY)
    (line,) = lines(server)
    assert (line["message"]["content"], line["done"], line["done_reason"], line["eval_count"]) == ("", True, "stop", 1)
    assert chat(server).json()["message"]["content"] == ""


def test_white_space_is_all_there_is(server):
    server.fail("m", Fault.WHITESPACE)
    *pieces, last = lines(server)
    assert [line["message"]["content"] for line in pieces] == [" ", "\n"]
    assert last["done"] is True
    assert chat(server).json()["message"]["content"] == " \n"


def test_a_crash_in_the_middle_ends_with_an_error_line_and_costs_a_load(server):
    server.fail("m", Fault.CRASH, times=1, after_chunks=2)
    first, second, last = lines(server)
    assert [first["message"]["content"], second["message"]["content"]] == ["one", " two"]
    assert last == {"error": FAILED}
    assert lines(server)[-1]["done"] is True
    assert server.loads == {"m:latest": 2}


def test_a_crash_in_the_middle_of_a_whole_answer_is_a_status(server):
    server.fail("m", Fault.CRASH)
    answer = chat(server)
    assert (answer.status_code, answer.json()) == (500, {"error": FAILED})


def test_a_crash_after_nothing_is_one_before_the_first_token(server):
    server.fail("m", Fault.CRASH, after_chunks=0)
    assert chat(server, stream=True).json() == {"error": STOPPED}


def test_a_cut_is_a_reset_after_what_was_sent(server):
    server.fail("m", Fault.CUT, after_chunks=2)
    with connected(server) as sock:
        sock.sendall(raw_request("/api/chat", body()))
        received = bytearray()
        with pytest.raises(ConnectionResetError):
            receive_all(sock, received)
    assert received.count(b'"done":') <= 2
    with pytest.raises(httpx.ReadError):
        chat(server)


def test_a_close_breaks_off_inside_a_chunk(server):
    server.fail("m", Fault.CLOSE, after_chunks=2)
    data = raw_answer(server)
    assert data.count(b'"done":false') == 2
    size, part = data.rsplit(b"\r\n", 2)[-2:]
    assert 0 < len(part) < int(size, 16)
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
        lines(server)
    assert raw_answer(server, stream=False) == b""


def test_a_stall_leaves_the_connection_open(server):
    server.fail("m", Fault.STALL, after_chunks=1)
    with CLIENT.stream("POST", f"{server.url}/api/chat", json=body(), timeout=0.3) as answer:
        received = answer.iter_lines()
        assert json.loads(next(received))["message"]["content"] == "one"
        with pytest.raises(httpx.ReadTimeout):
            next(received)


def test_an_end_without_done_is_a_proper_end(server):
    server.fail("m", Fault.END_WITHOUT_DONE, after_chunks=3)
    assert [line["done"] for line in lines(server)] == [False] * 3
    whole = chat(server).json()
    assert (whole["done"], whole["message"]["content"]) == (False, "one two three")
    assert "eval_count" not in whole
    server.heal()
    server.fail("m", Fault.END_WITHOUT_DONE, after_chunks=0)
    assert lines(server) == []


def test_a_malformed_line_is_no_json(server):
    server.fail("m", Fault.MALFORMED, after_chunks=1)
    with CLIENT.stream("POST", f"{server.url}/api/chat", json=body()) as answer:
        good, bad = answer.iter_lines()
    assert json.loads(good)["message"]["content"] == "one"
    with pytest.raises(json.JSONDecodeError):
        json.loads(bad)
    with pytest.raises(json.JSONDecodeError):
        chat(server).json()
    server.heal("m")
    server.fail("m", Fault.MALFORMED, text="<html>")
    assert chat(server).text == "<html>"


def test_a_fault_later_than_the_answer_strikes_before_its_end(server):
    server.fail("m", Fault.END_WITHOUT_DONE, after_chunks=99)
    assert [line["message"]["content"] for line in lines(server)] == ["one", " two", " three", " four"]


def test_refusing_closes_the_port_and_what_waits_on_it_and_can_be_undone(server):
    with connected(server) as idle:
        idle.sendall(raw_request("/api/version"))
        until(idle, b'"}')
        fault = server.fail(None, Fault.REFUSE)
        assert idle.recv(10) == b""
    with pytest.raises(ConnectionRefusedError), connected(server):
        pass
    fault.clear()
    assert chat(server).status_code == 200


def test_refusing_lets_answers_under_way_finish():
    gate = Gate()
    with OllamaServer([ScriptedModel("m", reply=["one", gate, "two"])]) as server, streaming(server) as received:
        next(received)
        with server.fail(None, Fault.REFUSE):
            gate.open()
            assert [line["done"] for line in received] == [False, True]


def test_a_server_that_refuses_can_be_stopped():
    server = OllamaServer().start()
    with server.fail(None, Fault.REFUSE):
        server.stop()
        server.stop()
    with server:
        assert CLIENT.get(server.url).status_code == 200


def test_faults_of_one_model_do_not_mind_calls_that_name_none(server):
    server.fail("m", Fault.BUSY)
    assert chat(server, ":").json() == {"error": "invalid model name"}
    assert CLIENT.post(f"{server.url}/api/chat", json={"model": 3}).status_code == 400
    assert CLIENT.post(f"{server.url}/api/chat", json=[]).status_code == 400


def test_a_server_can_begin_by_refusing():
    server = OllamaServer(["m"])
    server.fail(None, "refuse")
    with server:
        with pytest.raises(ConnectionRefusedError), connected(server):
            pass
        server.heal()
        assert chat(server).status_code == 200


def test_two_refusals_end_with_the_second(server):
    first, second = server.fail(None, Fault.REFUSE), server.fail(None, Fault.REFUSE)
    first.clear()
    with pytest.raises(ConnectionRefusedError), connected(server):
        pass
    second.clear()
    second.clear()
    assert chat(server).status_code == 200


@pytest.mark.parametrize("arguments", [{"model": "m"}, {"model": None, "times": 1}])
def test_refusing_is_for_all_and_until_cleared(server, arguments):
    with pytest.raises(ValueError, match="RESET"):
        server.fail(arguments.pop("model"), Fault.REFUSE, **arguments)


def test_faults_are_used_up_in_the_order_they_were_set(server):
    server.fail("m", Fault.BUSY, times=2)
    server.fail("m", Fault.SERVER_ERROR, times=1)
    assert [chat(server).status_code for _ in range(4)] == [503, 503, 500, 200]


def test_faults_for_all_models_and_their_end(server):
    with server.fail(None, Fault.BUSY) as fault:
        assert [chat(server, name).status_code for name in ("m", "other")] == [503, 503]
    assert fault.hits == 2
    assert chat(server).status_code == 200


def test_healing_one_model_leaves_the_others(server):
    server.fail("m", Fault.BUSY)
    server.fail("other", Fault.BUSY)
    server.heal("m")
    assert [chat(server, name).status_code for name in ("m", "other")] == [200, 503]


def test_names_of_faults_and_models_as_a_client_writes_them(server):
    server.fail("M:latest", "busy")
    assert chat(server, "m").status_code == 503


def test_other_endpoints_can_fail_too(server):
    server.fail(None, Fault.SERVER_ERROR, endpoints=["/api/tags", "/api/show"])
    assert CLIENT.get(f"{server.url}/api/tags").status_code == 500
    assert post(server, "/api/show", model="m").status_code == 500
    assert chat(server).status_code == 200


def test_a_model_can_be_broken_from_the_start():
    models = [ScriptedModel("m", faults=[Fault.BUSY]), ScriptedModel("broken", load_error="no such tensor")]
    with OllamaServer(models) as server:
        assert chat(server).status_code == 503
        assert chat(server, "broken").json() == {"error": "llama runner process has terminated: no such tensor"}


def test_generate_fails_the_same_way(server):
    server.fail("m", Fault.CRASH)
    answer = post(server, "/api/generate", model="m", prompt="hi")
    first, last = map(json.loads, answer.text.splitlines())
    assert first["response"] == "one"
    assert last == {"error": FAILED}
