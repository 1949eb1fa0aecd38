"""Whole answers that are streamed underneath: the client must not notice, whatever becomes of the stream."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fault_table import ANSWER, BAD, GOOD, both

from routed_ollama.errors import TruncatedStreamError
from routed_ollama.testing import Fault, Gate, OllamaServer, Piece, ScriptedModel, ToolCall
from routed_ollama.transport import (
    BetweenTokensDeadlineError,
    Bounds,
    FirstTokenDeadlineError,
    PhaseTransport,
    TotalDeadlineError,
    attempt_bounds,
    build_transport,
)

LONG = 60.0
"""A bound that no test reaches."""
ONE = {"limits": httpx.Limits(max_connections=1), "timeout": httpx.Timeout(LONG, pool=2.0)}
"""One connection: who does not give it back has the next request fail."""
TIMES = ("created_at", "total_duration", "load_duration", "prompt_eval_duration", "eval_duration")


def client_of(*, async_=False, joined=True, **kwargs):
    made = build_transport({**kwargs, "trust_env": False}, async_=async_, joined=joined)
    return httpx.AsyncClient(**made) if async_ else httpx.Client(**made)


def sync_asks(url, *bodies, **kwargs):
    """What a client gets for these, one after the other; an exception in the place of an answer."""
    with client_of(**kwargs) as client:
        return [_caught(lambda body=body: client.post(url, json=body)) for body in bodies]


def async_asks(url, *bodies, **kwargs):
    async def ask():
        async with client_of(async_=True, **kwargs) as client:
            return [await _acaught(client.post(url, json=body)) for body in bodies]

    return asyncio.run(ask())


def _caught(post):
    try:
        return post()
    except Exception as error:  # noqa: BLE001 (which one, is what is tested)
        return error


async def _acaught(posting):
    try:
        return await posting
    except Exception as error:  # noqa: BLE001
        return error


both_kinds = pytest.mark.parametrize("ask", [sync_asks, async_asks], ids=["sync", "async"])


def chat(model=GOOD, **more):
    """The body of a request for a whole answer, its keys in the official client's order."""
    return {"model": model, "stream": False, **more, "messages": [{"role": "user", "content": "Count to ten"}]}


def timeless(answer):
    """An answer without what differs each time: times, and the identifiers of tool calls."""
    whole = {name: value for name, value in answer.json().items() if name not in TIMES}
    for call in whole.get("message", {}).get("tool_calls", ()):
        call["id"] = bool(call["id"])
    return whole


def asked_for(server):
    return [request.body["stream"] for request in server.requests if request.path in {"/api/chat", "/api/generate"}]


@pytest.fixture
def server():
    with OllamaServer(both()) as running:
        yield running


ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
CALLS = [ToolCall(name="add", arguments={"a": 1}), ToolCall(name="add", arguments={"stream": False})]
THINKER = {"capabilities": ("completion", "thinking", "tools"), "thinking": "Let me count."}
WHOLE = {
    "text": ({}, "chat", chat()),
    "thinking": (THINKER, "chat", chat(think=True)),
    "tool calls": ({"reply": CALLS}, "chat", chat(tools=[ADD])),
    "text between tool calls": (
        {"reply": ["One. ", CALLS[0], "Two. ", CALLS[1]]},
        "chat",
        chat(tools=[ADD]),
    ),
    "structured": ({"reply": '{"a": 1}'}, "chat", chat(format="json")),
    "cut at a limit": ({}, "chat", chat(options={"num_predict": 3})),
    "beyond ASCII": ({"reply": 'Grüße, 世界 \U0001f30d, und "mehr"\n'}, "chat", chat()),
    "probabilities": ({}, "chat", chat(logprobs=True, top_logprobs=2)),
    "nothing": ({"reply": ""}, "chat", chat()),
    "a load": ({}, "chat", {"model": GOOD, "stream": False, "messages": []}),
    "a completion": ({}, "generate", {"model": GOOD, "prompt": "Count", "stream": False}),
    "a completion that thinks": (
        THINKER,
        "generate",
        {"model": GOOD, "prompt": "Count", "stream": False, "think": True},
    ),
}


@both_kinds
@pytest.mark.parametrize("name", WHOLE)
def test_an_answer_is_what_the_plain_client_gets(ask, name):
    model, endpoint, body = WHOLE[name]
    with OllamaServer(both(**model)) as server:
        url = f"{server.url}/api/{endpoint}"
        (plain,) = ask(url, body, joined=False)
        (ours,) = ask(url, body)
        assert timeless(ours) == timeless(plain)
        assert set(ours.json()) == set(plain.json())
        assert (ours.status_code, ours.headers["content-type"].partition(";")[0]) == (200, "application/json")
        assert int(ours.headers["content-length"]) == len(ours.content)
        assert asked_for(server) == [False, True]


@both_kinds
def test_what_streams_already_passes_as_it_is(ask, server):
    told = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    told["tool_calls"][0]["function"]["arguments"] = {"stream": False}
    body = {"model": GOOD, "stream": True, "messages": [told, {"role": "user", "content": '"stream":false'}]}
    (answer,) = ask(f"{server.url}/api/chat", body)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert "".join(line["message"]["content"] for line in lines) == ANSWER
    assert len(lines) > len(ANSWER.split())
    assert server.requests[-1].body == body


@both_kinds
def test_only_the_requests_own_key_is_changed(ask, server):
    call = {"function": {"name": "f", "arguments": {"stream": False}}}
    said = [{"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "user", "content": '"stream":false'}]
    body = {"model": GOOD, "stream": False, "messages": said}
    (answer,) = ask(f"{server.url}/api/chat", body)
    assert answer.json()["message"]["content"] == ANSWER
    assert server.requests[-1].body == {**body, "stream": True}


@both_kinds
def test_other_requests_pass_as_they_are(ask, server):
    show, unsaid = ask(f"{server.url}/api/show", {"model": GOOD, "stream": False})[0], {"model": GOOD, "messages": []}
    assert "capabilities" in show.json()
    assert server.requests[-1].body == {"model": GOOD, "stream": False}
    ask(f"{server.url}/api/chat", unsaid)
    assert server.requests[-1].body == unsaid


# What the server says of a failure


@both_kinds
@pytest.mark.parametrize(
    "fault",
    [Fault.NOT_FOUND, Fault.BUSY, Fault.SERVER_ERROR, Fault.LOAD_ERROR, Fault.OUT_OF_MEMORY, Fault.CRASH_BEFORE_TOKEN],
)
def test_an_error_of_the_servers_is_what_the_plain_client_gets(ask, server, fault):
    server.fail(BAD, fault)
    url = f"{server.url}/api/chat"
    (plain,) = ask(url, chat(BAD), joined=False)
    ours, after = ask(url, chat(BAD), chat(), **ONE)
    assert (ours.status_code, ours.json()) == (plain.status_code, plain.json())
    assert after.json()["message"]["content"] == ANSWER


@both_kinds
def test_an_error_in_mid_stream_is_what_a_whole_answer_would_have_been(ask, server):
    server.fail(BAD, Fault.CRASH, after_chunks=4)
    url = f"{server.url}/api/chat"
    (plain,) = ask(url, chat(BAD), joined=False)
    ours, after = ask(url, chat(BAD), chat(), **ONE)
    assert (ours.status_code, ours.reason_phrase) == (500, "Internal Server Error")
    assert (ours.status_code, ours.json()) == (plain.status_code, plain.json())
    assert after.json()["message"]["content"] == ANSWER


@both_kinds
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.CUT, httpx.TransportError),
        (Fault.CLOSE, httpx.TransportError),
        (Fault.RESET, httpx.TransportError),
        (Fault.END_WITHOUT_DONE, TruncatedStreamError),
        (Fault.MALFORMED, json.JSONDecodeError),
    ],
)
@pytest.mark.parametrize("chunks", [0, 4])
def test_what_breaks_off_is_an_error_and_leaves_the_connection_free(ask, server, fault, error, chunks):
    server.fail(BAD, fault, after_chunks=chunks)
    broken, after = ask(f"{server.url}/api/chat", chat(BAD), chat(), **ONE)
    assert isinstance(broken, error)
    assert after.json()["message"]["content"] == ANSWER


@both_kinds
@pytest.mark.parametrize(
    ("fault", "bounds", "error"),
    [
        (Fault.HANG, (LONG, 0.2, LONG), FirstTokenDeadlineError),
        (Fault.STALL, (LONG, LONG, 0.2), BetweenTokensDeadlineError),
        (Fault.STALL, (LONG, LONG, LONG, 0.5), TotalDeadlineError),
    ],
)
def test_each_phase_of_a_whole_answer_is_bounded(ask, server, fault, bounds, error):
    server.fail(BAD, fault, after_chunks=4)
    token = attempt_bounds.set(Bounds(*bounds))
    try:
        (late,) = ask(f"{server.url}/api/chat", chat(BAD), **ONE)
    finally:
        attempt_bounds.reset(token)
    assert type(late) is error


# What lies between: chunks, compression, connections


def line(text="", *, done=False, **more):
    said = {"message": {"role": "assistant", "content": text}, "done": done, **more}
    return json.dumps(said, ensure_ascii=False).encode() + b"\n"


SAID = ["Grüße, ", "世界 ", "\U0001f30d ", "und mehr"]
STREAM = b"".join(map(line, SAID)) + line(done=True, done_reason="stop", eval_count=4)


def chunked(pieces, *headers, end=b"0\r\n\r\n"):
    """Answer with these pieces, each a chunk of its own."""

    def answer(handler):
        handler.send_response(200)
        for name, value in (("Transfer-Encoding", "chunked"), ("Content-Type", "application/x-ndjson"), *headers):
            handler.send_header(name, value)
        handler.end_headers()
        for piece in pieces:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            handler.wfile.flush()
        handler.wfile.write(end)
        handler.close_connection = not end

    return answer


def in_pieces(data, size):
    return [data[at : at + size] for at in range(0, len(data), size)]


@both_kinds
@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
def test_chunks_may_end_anywhere(ask, wrong_server, size):
    server = wrong_server(chat=chunked(in_pieces(STREAM, size)))
    (answer,) = ask(f"{server.url}/api/chat", chat())
    assert answer.json()["message"] == {"role": "assistant", "content": "".join(SAID)}
    assert answer.json()["eval_count"] == 4


@both_kinds
@pytest.mark.parametrize("size", [1, 16, 10_000])
@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_proxy_may_compress_the_stream(ask, wrong_server, name, pack, size):
    server = wrong_server(chat=chunked(in_pieces(pack(STREAM), size), ("Content-Encoding", name)))
    (answer,) = ask(f"{server.url}/api/chat", chat())
    assert answer.json()["message"]["content"] == "".join(SAID)
    assert "content-encoding" not in answer.headers


@both_kinds
@pytest.mark.parametrize(
    "data",
    [STREAM.rstrip(b"\n"), STREAM.replace(b"\n", b"\r\n"), b"\n\n" + STREAM.replace(b"\n", b"\n\n")],
    ids=["no last line break", "two characters", "empty lines"],
)
def test_lines_may_be_broken_as_others_break_them(ask, wrong_server, data):
    server = wrong_server(chat=chunked([data]))
    (answer,) = ask(f"{server.url}/api/chat", chat())
    assert answer.json()["message"]["content"] == "".join(SAID)


@both_kinds
def test_a_last_line_need_not_repeat_the_message(ask, wrong_server):
    last = json.dumps({"done": True, "eval_count": 4}).encode()
    server = wrong_server(chat=chunked([*map(line, SAID), last]))
    (answer,) = ask(f"{server.url}/api/chat", chat())
    assert answer.json()["message"] == {"role": "assistant", "content": "".join(SAID)}


@both_kinds
@pytest.mark.parametrize("last", [STREAM, line("One ") + b'{"error": "kaputt"}\n'], ids=["done", "error"])
def test_a_connection_that_breaks_after_the_last_line_breaks_nothing(ask, wrong_server, last):
    server = wrong_server(chat=chunked([last], end=b""))
    (answer,) = ask(f"{server.url}/api/chat", chat())
    assert answer.json().get("error", "kaputt") == "kaputt"
    assert answer.status_code == (500 if b"kaputt" in last else 200)


@both_kinds
@pytest.mark.parametrize("data", [[], [b"\n"], [line("One ")[:20]], [line("One ")]], ids=str)
def test_an_answer_without_a_last_line_is_none(ask, wrong_server, data):
    server = wrong_server(chat=chunked(data))
    (answer,) = ask(f"{server.url}/api/chat", chat())
    assert isinstance(answer, TruncatedStreamError | json.JSONDecodeError)


@both_kinds
def test_a_server_that_does_not_stream_is_understood(ask, wrong_server):
    server = wrong_server(chat=(200, line("".join(SAID), done=True)))
    (answer,) = ask(f"{server.url}/api/chat", chat())
    assert answer.json()["message"]["content"] == "".join(SAID)


@both_kinds
def test_headers_and_cookies_of_the_answer_are_kept(ask, wrong_server):
    answered = chunked([STREAM], ("X-Request-Id", "7"), ("Set-Cookie", "lane=2"), ("Set-Cookie", "row=3"))
    server = wrong_server(chat=answered)
    first, _ = ask(f"{server.url}/api/chat", chat(), chat())
    assert (first.headers["x-request-id"], first.http_version) == ("7", "HTTP/1.1")
    assert server.requests[1][2]["cookie"] == "lane=2; row=3"


# What the user put below


@both_kinds
def test_a_transport_and_mounts_of_the_users_own_are_used(ask, server):
    seen = []

    class Counting(httpx.HTTPTransport):
        def handle_request(self, request):
            seen.append((type(self).__name__, json.loads(request.content)["stream"]))
            return super().handle_request(request)

    class AsyncCounting(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request):
            seen.append((type(self).__name__, json.loads(request.content)["stream"]))
            return await super().handle_async_request(request)

    own = AsyncCounting if ask is async_asks else Counting
    (first,) = ask(f"{server.url}/api/chat", chat(), transport=own())
    (second,) = ask(f"{server.url}/api/chat", chat(), mounts={"all://127.0.0.1": own()})
    assert first.json()["message"]["content"] == second.json()["message"]["content"] == ANSWER
    assert seen == [(own.__name__, True)] * 2


@both_kinds
def test_a_transport_that_has_read_the_answer_already_is_understood(ask):
    # as one that writes traffic into a log does
    (answer,) = ask(
        "http://ollama.invalid/api/chat",
        chat(),
        transport=httpx.MockTransport(lambda _request: httpx.Response(200, content=STREAM)),
    )
    assert answer.json()["message"]["content"] == "".join(SAID)


@both_kinds
def test_a_proxy_is_used(ask, server):
    # Ollama's server takes what a proxy is sent as well: the whole URL.
    (answer,) = ask("http://ollama.invalid/api/chat", chat(), proxy=server.url)
    assert answer.json()["message"]["content"] == ANSWER
    assert asked_for(server) == [True]


def test_it_closes_what_it_made_and_not_what_it_was_given():
    closed = []

    class Own(httpx.BaseTransport):
        def close(self):
            closed.append(self)

    client_of(transport=Own()).close()
    assert closed == []
    client_of(transport=PhaseTransport(Own())).close()
    assert len(closed) == 1


# Many at once, cancelled, forked


def numbered(count=12):
    """A model that repeats its prompt, and prompts that differ."""
    bodies = [chat() | {"messages": [{"role": "user", "content": f"number {at}"}]} for at in range(count)]
    return bodies, [f"You asked: number {at}" for at in range(count)]


def test_threads_get_each_their_own_answer():
    bodies, expected = numbered()
    with OllamaServer([GOOD]) as server, client_of() as client, ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda body: client.post(f"{server.url}/api/chat", json=body), bodies))
    assert [answer.json()["message"]["content"] for answer in answers] == expected


def test_tasks_get_each_their_own_answer_in_one_loop_after_another():
    bodies, expected = numbered()
    client = client_of(async_=True)

    async def ask(url):
        answers = await asyncio.gather(*[client.post(url, json=body) for body in bodies])
        return [answer.json()["message"]["content"] for answer in answers]

    with OllamaServer([GOOD]) as server:
        assert [asyncio.run(ask(f"{server.url}/api/chat")) for _ in range(3)] == [expected] * 3


async def test_a_cancelled_request_leaves_the_connection_free(server):
    gate = Gate()
    server.add_model(ScriptedModel(BAD, reply=["one ", gate, "two"]))
    async with client_of(async_=True, **ONE) as client:
        asking = asyncio.create_task(client.post(f"{server.url}/api/chat", json=chat(BAD)))
        assert await asyncio.to_thread(gate.wait_reached)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        gate.open()
        answer = await client.post(f"{server.url}/api/chat", json=chat())
    assert answer.json()["message"]["content"] == ANSWER


FORKING = """
import os, sys, httpx
from routed_ollama.transport import build_transport
url, body = sys.argv[1] + "/api/generate", {"model": "good:1b", "stream": False, "prompt": "Count to ten"}
client = httpx.Client(**build_transport({}, async_=False, joined=True))
ask = lambda: client.post(url, json=body).json()["response"]
assert ask().startswith("one")
child = os.fork()
assert ask().startswith("one")
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_asks_over_a_connection_of_its_own(server):
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING, server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 (ourselves)
    assert (done.returncode, done.stderr) == (0, "")
    assert asked_for(server) == [True] * 3


def test_a_long_thought_and_a_long_answer_are_whole(server):
    thoughts, words = [f"thought {at} " for at in range(500)], [f"word {at} " for at in range(500)]
    reply = [*[Piece(thinking=thought) for thought in thoughts], *words]
    server.add_model(ScriptedModel(GOOD, reply=reply, capabilities=("completion", "thinking")))
    (answer,) = sync_asks(f"{server.url}/api/chat", chat(think=True))
    assert answer.json()["message"] == {
        "role": "assistant",
        "content": "".join(words),
        "thinking": "".join(thoughts),
    }
