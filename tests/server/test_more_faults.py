"""Faults that concern what is asked and what is said: abilities, prompts, tool calls, silences, floods."""

from __future__ import annotations

import httpx
import pytest
from talking import CLIENT, body, chat, connected, lines, raw_request, streaming, until

from routed_ollama.testing import FakeClock, Fault, OllamaServer, ScriptedModel

TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
LONG = "word " * 2000


@pytest.fixture
def server():
    model = ScriptedModel("m", reply="one two three four", capabilities=("completion", "tools", "thinking"))
    with OllamaServer([model], context_length=64) as server:
        yield server


def said(received):
    return [line["message"]["content"] for line in received]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("fault", "asked", "text"),
    [
        (Fault.NO_TOOLS, {"tools": [TOOL]}, "registry.ollama.ai/library/m:latest does not support tools"),
        (Fault.NO_THINKING, {"think": True}, '"m" does not support thinking'),
    ],
)
def test_an_ability_that_is_claimed_is_denied_to_whoever_needs_it(server, fault, asked, text, stream):
    server.fail("m", fault)
    assert (
        fault.removeprefix("no_") in CLIENT.post(f"{server.url}/api/show", json={"model": "m"}).json()["capabilities"]
    )
    assert chat(server, stream=stream).status_code == 200
    answer = chat(server, stream=stream, **asked)
    assert (answer.status_code, answer.json()) == (400, {"error": text})


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("version", "part"),
    [
        ("0.24.0", "the input length exceeds the context length"),
        ("0.34.0", '"type":"exceed_context_size_error","n_prompt_tokens":128,"n_ctx":64'),
    ],
)
def test_a_prompt_that_is_too_long_is_refused_in_the_words_of_the_version(version, part, stream):
    with OllamaServer(["m"], version=version, context_length=64) as server:
        server.fail("m", Fault.PROMPT_TOO_LONG)
        answer = chat(server, stream=stream)
    assert answer.status_code == 400
    assert part in answer.json()["error"]


def test_a_prompt_is_cut_without_a_word(server):
    server.fail("m", Fault.PROMPT_CUT, size=10)
    answer = chat(server, prompt=LONG, options={"num_ctx": 8192})
    assert (answer.status_code, answer.json()["prompt_eval_count"]) == (200, 10)
    assert chat(server).json()["prompt_eval_count"] < 10  # what is shorter is not cut
    server.heal()
    assert chat(server, prompt=LONG, options={"num_ctx": 8192}).json()["prompt_eval_count"] > 2000


@pytest.mark.parametrize("stream", [True, False])
def test_after_the_head_nothing_comes(server, stream):
    server.fail("m", Fault.HANG_AFTER_HEADERS)
    with connected(server) as sock:
        sock.sendall(raw_request("/api/chat", body(stream=stream)))
        head = until(sock, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert (b"application/x-ndjson" if stream else b"application/json") in head
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(1)


def test_a_stall_of_some_seconds_ends():
    clock = FakeClock()
    with OllamaServer([ScriptedModel("m", reply="one two three")], clock=clock) as server:
        server.fail("m", Fault.STALL, after_chunks=1, seconds=5)
        with streaming(server) as received:
            assert next(received)["message"]["content"] == "one"
            server.wait_until(lambda: clock.pending)
            clock.advance(5)
            assert said(received) == [" two", " three", ""]


def test_a_drip_never_ends():
    clock = FakeClock()
    with OllamaServer([ScriptedModel("m", reply="one two three")], clock=clock) as server:
        server.fail("m", Fault.DRIP, after_chunks=1)
        with streaming(server) as received:
            heard = [next(received)]
            for _ in range(5):
                server.wait_until(lambda: clock.pending)
                clock.advance(1)
                heard.append(next(received))
    assert said(heard) == ["one", *(f" drop-{number}" for number in range(1, 6))]
    assert not any(line["done"] for line in heard)


def test_the_same_phrase_comes_until_nothing_more_may(server):
    server.fail("m", Fault.REPEAT, after_chunks=2, text=" na")
    *pieces, last = lines(server)
    assert said(pieces) == ["one", " two"] + [" na"] * 638
    assert (last["done_reason"], last["eval_count"]) == ("length", 640)  # ten contexts
    assert said(lines(server, options={"num_predict": 5}))[:-1] == ["one", " two", " na", " na", " na"]
    server.heal()
    server.fail("m", Fault.REPEAT)
    whole = chat(server, options={"num_predict": 60}).json()
    assert whole["message"]["content"].count("I will say it again.") == 11


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault.BAD_TOOL_CALL, "error parsing tool call: raw="),
        (Fault.REPEAT_LIMIT, "prediction aborted, token repeat limit reached"),
    ],
)
def test_what_the_model_says_ends_its_answer_and_costs_no_load(server, fault, text):
    server.fail("m", fault, after_chunks=2)
    *pieces, last = lines(server)
    assert said(pieces) == ["one", " two"]
    assert last["error"].startswith(text)
    answer = chat(server)
    assert answer.status_code == 500
    assert answer.json()["error"].startswith(text)
    assert server.loads == {"m:latest": 1}


def test_a_line_is_as_long_as_is_asked_for(server):
    server.fail("m", Fault.LONG_LINE, after_chunks=1, size=3_000_000)
    received = lines(server)
    assert [len(text) for text in said(received)] == [3, 3_000_000, 4, 6, 5, 0]
    assert received[-1]["done"] is True
    assert len(chat(server).json()["message"]["content"]) == 3_000_018


def test_who_leaves_a_flood_frees_the_slot(server):
    server.fail("m", Fault.LONG_LINE, times=1)
    with CLIENT.stream("POST", f"{server.url}/api/chat", json=body()) as answer:
        assert len(next(answer.iter_raw(1000))) == 1000
    assert chat(server).json()["done"] is True


def test_who_leaves_after_the_head_frees_the_slot(server):
    server.fail("m", Fault.HANG_AFTER_HEADERS, times=1)
    with pytest.raises(httpx.ReadTimeout):
        CLIENT.post(f"{server.url}/api/chat", json=body(), timeout=0.2)
    assert chat(server).status_code == 200
