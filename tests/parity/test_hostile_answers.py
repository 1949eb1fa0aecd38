"""What a server may send instead of an answer: another model answers, in both frameworks and the agent."""

from __future__ import annotations

import gzip
import json
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import pytest
from columns import COLUMNS, PATHS, SILENT, Ask

from routed_ollama import AllModelsFailedError, Router
from routed_ollama.testing import OllamaServer, ScriptedModel

BAD, GOOD = "bad:7b", "good:7b"
ANSWER = "Here it is."
MEGABYTE = 2**20


def line(content: Any = "", *, done: bool = False, **more: Any) -> bytes:
    """A line of an answer."""
    message = {"role": "assistant", "content": content}
    return json.dumps({"model": BAD, "message": message, "done": done, **more}).encode() + b"\n"


def lines(*parts: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    """An answer of these lines, which ends properly."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        head(handler)
        handler.wfile.write(b"".join(parts))

    return answer


def head(handler: BaseHTTPRequestHandler, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content_Type": "application/x-ndjson", "Connection": "close", **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()


@cache
def bomb() -> bytes:
    """128 MB of blanks in gzip."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return b"".join(packer.compress(b" " * MEGABYTE) for _ in range(128)) + packer.flush()


def packed(data: bytes, *, name: str = "gzip") -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        head(handler, Content_Encoding=name)
        handler.wfile.write(data)

    return answer


def endless(data: bytes, status: int = 200) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        head(handler, status)
        while True:
            handler.wfile.write(data)

    return answer


END = line(done=True, done_reason="stop", eval_count=1, prompt_eval_count=1)
DEEP = b"[" * 100_000 + b"]" * 100_000
UNFIT = {
    "a line of 50 MB": lines(line("x" * 50 * MEGABYTE), END),
    "a line without end": endless(b"x" * 65536),
    "an error without end": endless(b"no \n" * 16384, 500),
    "a packed line": packed(bomb()),
    "packed as nobody asked": packed(b"\x28\xb5\x2f\xfd" + b"x" * 64, name="zstd"),
    "packed twice": packed(gzip.compress(gzip.compress(line(ANSWER) + END)), name="gzip, gzip"),
    "no gzip": packed(b"not packed at all"),
    "brackets": lines(DEEP + b"\n"),
    "a deep answer": lines(b'{"message": ' + DEEP + b"}\n"),
    "a deep error": lines(b'{"error": ' + DEEP + b"}\n"),
    "a number of digits": lines(b'{"done": ' + b"9" * 5_000 + b"}\n"),
    "a list": lines(b"[1, 2]\n"),
    "text": lines(b'"hello"\n'),
    "nothing": lines(b"null\n"),
    "a message that is text": lines(b'{"message": "hello", "done": true}\n'),
    "a message that is a list": lines(b'{"message": [1], "done": true}\n'),
    "content that is none": lines(line({"a": 1}), END),
    "an error that is none": lines(b'{"error": {"a": [1]}}\n'),
    "tools that are none": lines(b'{"message": {"role": "assistant", "tool_calls": "all"}, "done": true}\n'),
    "NUL": lines(b"\0" * 65536),
}


class Bad:
    """A server with one model, whose answers are not fit."""

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler], None]) -> None:
        facts = {
            "/api/tags": {"models": [{"name": BAD}]},
            "/api/ps": {"models": []},
            "/api/show": {"capabilities": ["completion"]},
        }

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                if self.path == "/api/chat":
                    answer(self)
                    return
                body = json.dumps(facts[self.path]).encode()
                head(self, Content_Length=str(len(body)))
                self.wfile.write(body)

            do_GET = do_POST = handle_any  # noqa: N815 (the names http.server looks for)

            def log_message(self, *_: object) -> None:
                """Keep the test's output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # clients that turn away
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def good():
    with OllamaServer([ScriptedModel(GOOD, reply=ANSWER)]) as running:
        yield running


def asks(column, router):
    """Ask in every way; return what was seen, the bad model first every time."""
    for path, run in PATHS.items():
        llm = column.make(router, models=[BAD, GOOD], model=BAD)
        yield path, run(column, llm, Ask(call={"model": BAD}))


@pytest.mark.parametrize("kind", UNFIT)
def test_another_model_answers(kind, good) -> None:
    config = {"health": {"interval": 0, "failure_threshold": 1000}, **SILENT}
    with Bad(UNFIT[kind]) as bad:
        for column in COLUMNS:
            with Router(hosts=[bad.url, good.url], store="memory", config=config) as router:
                for path, seen in asks(column, router):
                    assert (path, seen.text) == (path, ANSWER)
                    assert [each["outcome"] for each in seen.routing["attempts"]][-1] == "ok"
                    assert len(json.dumps(seen.routing)) < 10_000


@pytest.mark.parametrize("kind", ["a line of 50 MB", "a packed line"])
def test_it_takes_no_memory_worth_the_name(kind, good) -> None:
    config = {"health": {"interval": 0, "failure_threshold": 1000}, **SILENT}
    column = COLUMNS[1]  # joins whole answers, and so holds the most
    with Bad(UNFIT[kind]) as bad, Router(hosts=[bad.url, good.url], store="memory", config=config) as router:
        llm = column.make(router, models=[BAD, GOOD], model=BAD)
        column.whole(llm, Ask(call={"model": BAD}))
        tracemalloc.start()
        try:
            assert column.whole(llm, Ask(call={"model": BAD})).text == ANSWER
            assert tracemalloc.get_traced_memory()[1] < 140 * MEGABYTE
        finally:
            tracemalloc.stop()


HOSTILE = "\x1b]0;owned\x07\x1b[31m\u202e" + "x" * 1000


@pytest.mark.parametrize("status", [500, 400, 503, 200])
def test_an_errors_words_are_escaped_where_they_are_told_on(status) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        head(handler, status)
        handler.wfile.write(json.dumps({"error": HOSTILE}).encode() + b"\n")

    with Bad(answer) as one, Bad(answer) as two:
        for column in COLUMNS:
            with Router(hosts=[one.url, two.url], store="memory", config=SILENT) as router:
                for path, run in PATHS.items():
                    with pytest.raises(AllModelsFailedError) as caught:
                        run(column, column.make(router), Ask())
                    assert path
                    assert r"\x1b]0;owned\x07" in str(caught.value)
                    assert str(caught.value).replace("\n", "").isprintable()
                    assert len(str(caught.value)) < 5_000


@pytest.mark.parametrize(
    "figure",
    [-5, 0, 10**18, 10**30, 10**400, -(10**18)],
    ids=["negative", "zero", "large", "huge", "endless", "very negative"],
)
def test_figures_that_are_none_hurt_neither_answer_nor_decision(figure, good) -> None:
    names = ("eval_count", "prompt_eval_count", "eval_duration", "prompt_eval_duration", "load_duration")
    end = line(done=True, done_reason="stop", **dict.fromkeys((*names, "total_duration"), figure))
    config = {"health": {"interval": 0}, **SILENT}
    with Bad(lines(line("Hello."), end)) as bad:
        for column in COLUMNS:
            with Router(hosts=[bad.url, good.url], store="memory", config=config) as router:
                for path, seen in asks(column, router):
                    assert (path, seen.text, seen.model) == (path, "Hello.", BAD)
                rows = router.recommend_model("Hello").rows()
                assert all(0 <= row["total"] <= 2 and row["seconds"] >= 0 for row in rows)
                json.dumps(rows, allow_nan=False)
