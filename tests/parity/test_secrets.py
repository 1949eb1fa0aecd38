"""What is secret goes to the server it was given for and nowhere else: one table for both frameworks and the agent.

However it was given, it is in no text that anybody could see, and no prompt or answer is in a log or a history.
"""

from __future__ import annotations

import base64
import json
import logging
import pickle
import threading
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from columns import PATHS, PROMPT, SILENT, Ask, Core, LangChain, LlamaIndex
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.load import dumpd, dumps
from langchain_ollama import ChatOllama
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.llms.ollama import Ollama

from langchain_routed_ollama import RoutedChatOllama
from llamaindex_routed_ollama import RoutedOllama
from routed_ollama import (
    AllModelsFailedError,
    RoutedOllamaError,
    Router,
    RouterConfig,
    create_agent,
    set_default_router,
)
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel

USER, SECRET = "ann", "pw/7%x"
"""With characters that are written otherwise in URLs; short, for long ones are cut where they are shown."""
TOKEN = "sk-t0ken-0"  # noqa: S105 (made up)
BASIC = base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
SECRETS = (SECRET, quote(SECRET, safe=""), BASIC, TOKEN)
MODEL, OTHER = "llama3.1:8b", "qwen2.5:7b"
ANSWER = "The walrus sings."


def with_password(url):
    """The URL of a server, with its user's password."""
    return url.replace("http://", f"http://{USER}:{quote(SECRET, safe='')}@")


def found_in(texts):
    """The texts that hold a secret, and which."""
    return [(secret, text) for text in texts for secret in SECRETS if secret in text]


# --- how it is given --------------------------------------------------------------------------------------------------

Give = Callable[[str, pytest.MonkeyPatch, Any], dict[str, Any]]


def in_the_environment(name: str, value: Callable[[str], str]) -> Give:
    def give(url, monkeypatch, _folder):
        monkeypatch.setenv("OLLAMA_HOST", url)
        monkeypatch.setenv(name, value(url))
        return {}

    return give


def in_a_file(url, _monkeypatch, folder):
    path = folder / "config.json"
    path.write_text(json.dumps({"hosts": [with_password(url)], **SILENT}))
    return {"config": str(path)}


AS_BASIC, AS_BEARER = f"Basic {BASIC}", f"Bearer {TOKEN}"
GIVEN: dict[str, tuple[Give, str, str]] = {
    "base_url": (lambda url, *_: {"base_url": with_password(url)}, "authorization", AS_BASIC),
    "hosts": (lambda url, *_: {"hosts": [with_password(url)]}, "authorization", AS_BASIC),
    "config": (lambda url, *_: {"config": {"hosts": [with_password(url)], **SILENT}}, "authorization", AS_BASIC),
    "file": (in_a_file, "authorization", AS_BASIC),
    "router": (
        lambda url, *_: {"router": Router(base_url=with_password(url), store="memory", config=SILENT)},
        "authorization",
        AS_BASIC,
    ),
    "OLLAMA_HOST": (in_the_environment("OLLAMA_HOST", with_password), "authorization", AS_BASIC),
    "ROUTED_OLLAMA_HOSTS": (in_the_environment("ROUTED_OLLAMA_HOSTS", with_password), "authorization", AS_BASIC),
    "OLLAMA_API_KEY": (in_the_environment("OLLAMA_API_KEY", lambda _: TOKEN), "authorization", AS_BEARER),
    "a header": (
        lambda url, *_: {"base_url": url, "client_kwargs": {"headers": {"X-API-Key": TOKEN}}},
        "x-api-key",
        TOKEN,
    ),
    "cookies": (
        lambda url, *_: {"base_url": url, "client_kwargs": {"cookies": {"session": TOKEN}}},
        "cookie",
        f"session={TOKEN}",
    ),
    "auth": (
        lambda url, *_: {"base_url": url, "client_kwargs": {"auth": (USER, SECRET)}},
        "authorization",
        AS_BASIC,
    ),
    "api_key": (lambda url, *_: {"base_url": url, "api_key": TOKEN}, "authorization", AS_BEARER),
    "ready-made": (lambda url, *_: {"models": [with_password(url)]}, "authorization", AS_BASIC),
}
"""Name, arguments for the model, and the header that the server is to receive."""
FOR_FRAMEWORKS = {"api_key", "ready-made"}


# --- who is given it, and all that it says ----------------------------------------------------------------------------


class Heard(BaseCallbackHandler):
    """Writes down all that LangChain tells its tracers."""

    run_inline = True

    def __init__(self):
        self.told = []

    def __getattribute__(self, name):
        if not name.startswith("on_"):
            return super().__getattribute__(name)
        return lambda *args, **kwargs: self.told.append(f"{name} {args} {kwargs}")


class Events(BaseEventHandler):
    """Writes down all that LlamaIndex tells of itself."""

    told: list[str]

    def handle(self, event, **_):
        self.told.append(f"{event!r} {event.model_dump()}")


class SecretLangChain(LangChain):
    """``RoutedChatOllama``, told secrets."""

    def __init__(self):
        self.heard = Heard()

    def told(self, *, models=None, **given):
        ready = {} if models is None else {"models": [ChatOllama(model=MODEL, base_url=models[0])]}
        return RoutedChatOllama(**{"store": "memory", "callbacks": [self.heard], **ready, **given})

    def says(self, llm):
        bound = llm.with_structured_output({"title": "t", "type": "object", "properties": {}})
        tracing = llm._get_ls_params(), llm._identifying_params, llm._get_invocation_params(), llm.lc_attributes
        yield from (repr(llm), str(llm), repr(bound), dumps(llm), str(dumpd(llm)), str(llm.to_json()), str(tracing))
        yield from (str(llm.asdict()), repr(llm.get_graph()), llm.get_name(), str(list(llm.__repr_args__())))
        yield from self.heard.told


class SecretLlamaIndex(LlamaIndex):
    """``RoutedOllama``, told secrets."""

    def __init__(self):
        self.debug, self.events = LlamaDebugHandler(print_trace_on_end=False), Events(told=[])
        self.manager = CallbackManager([self.debug])

    def told(self, *, models=None, **given):
        ready = {} if models is None else {"models": [Ollama(model=MODEL, base_url=models[0], context_window=4096)]}
        if self.events not in get_dispatcher().event_handlers:
            get_dispatcher().add_event_handler(self.events)
        return RoutedOllama(**{"store": "memory", "callback_manager": self.manager, **ready, **given})

    def says(self, llm):
        yield from (repr(llm), str(llm), str(llm.to_dict()), llm.to_json(), str(llm.to_payload()), repr(llm.metadata))
        yield from (str(llm.model_dump()), llm.model_dump_json(), str(list(llm.__repr_args__())))
        yield from map(str, self.debug.get_event_pairs())
        yield from self.events.told


class SecretCore(Core):
    """An agent, told secrets."""

    def told(self, **given):
        given = given or {"config": SILENT}
        config = {} if {"router", "config"} & given.keys() else {"config": SILENT}
        store = {} if "router" in given else {"store": "memory"}
        return create_agent("silent", **{**store, **config, **given})

    def says(self, agent):
        yield from (repr(agent), str(agent), repr(agent.role), repr(agent.history))


KINDS = {"LangChain": SecretLangChain, "LlamaIndex": SecretLlamaIndex, "core": SecretCore}


@pytest.fixture(params=KINDS)
def column(request, monkeypatch):
    """One of the three."""
    monkeypatch.setattr(get_dispatcher(), "event_handlers", [])
    yield KINDS[request.param]()
    set_default_router()


@pytest.fixture
def server():
    with OllamaServer([ScriptedModel(MODEL, reply=ANSWER)]) as running:
        yield running


def made(column, how, server, monkeypatch, folder):
    """A model of a column that was given a secret in one way; and the header the server is to receive."""
    if how in FOR_FRAMEWORKS and column.name == "core":
        pytest.skip("agents take no such argument")
    give, *header = GIVEN[how]
    return column.told(**give(server.url, monkeypatch, folder)), header


def of_the_router(router):
    """All that a router says of itself and of what it knows."""
    ranking = router.recommend_model(PROMPT)
    yield from (repr(router), str(router), repr(router.config), str(router.config), repr(router.timeouts))
    yield from (repr(router.hosts), repr(router.models()), repr(ranking), ranking._repr_html_(), str(ranking.rows()))
    yield from (repr(router.performance()), repr(router.get_model_recommendations(PROMPT)))
    for url, host in router._known.catalog.hosts.items():
        yield from (url, repr(host), repr(router.credentials(url)), repr(router._known.catalog.views))


def of_an_error(error):
    """All that an exception says, those behind it included, and what a tool prints that shows local variables."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield from (str(error), repr(error), str(vars(error)), str(getattr(error, "__notes__", "")))
        for _, other in getattr(error, "errors", ()):
            yield from of_an_error(other)
        for frame in traceback.TracebackException.from_exception(error, capture_locals=True).stack:
            if "routed_ollama" in frame.filename:
                yield f"{frame.filename}:{frame.lineno} {frame.locals}"
        error = error.__cause__ or error.__context__


def failures(column, llm, server):
    """The errors of a model that fails, of one that breaks off, and of a server that is gone."""
    faults = (Fault.SERVER_ERROR, Fault.CRASH, Fault.RESET, Fault.NOT_FOUND)
    for fault, path in zip(faults, PATHS, strict=True):
        with server.fail(None, fault):
            yield from failing(column, llm, path)
    server.stop()
    yield from failing(column, llm, "whole")


def failing(column, llm, path):
    try:
        PATHS[path](column, llm, Ask())
    except Exception as error:  # noqa: BLE001 (whatever it is, is what is looked at)
        yield error


@pytest.mark.filterwarnings("error::routed_ollama.RoutedOllamaWarning")
@pytest.mark.parametrize("how", GIVEN)
def test_it_is_sent_to_its_server_and_nowhere_to_be_read(how, column, server, monkeypatch, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    llm, (header, value) = made(column, how, server, monkeypatch, tmp_path)
    seen = [run(column, llm, Ask()) for run in PATHS.values()]
    sent = [request.headers.get(header) for request in server.requests]
    assert set(sent) == {value}
    texts = [*column.says(llm), *of_the_router(llm.router), *map(repr, seen)]
    errors = list(failures(column, llm, server))
    assert len(errors) >= 4
    texts += [text for error in errors for text in of_an_error(error)]
    texts += [*column.says(llm), caplog.text, *capfd.readouterr()]
    assert len("".join(texts)) > 10_000
    assert found_in(texts) == []


@pytest.mark.parametrize("how", ["base_url", "OLLAMA_HOST"])
def test_no_prompt_and_no_answer_is_in_a_log_or_a_history(how, column, server, monkeypatch, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    give, *_ = GIVEN[how]
    history = tmp_path / "history.sqlite3"
    llm = column.told(**{**give(server.url, monkeypatch, tmp_path), "store": str(history)})
    for run in PATHS.values():
        run(column, llm, Ask(("What does the zebra say?",)))
    for error in failures(column, llm, server):
        assert "zebra" not in str(error)
    llm.router.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("history.sqlite3*"))
    assert MODEL.encode() in kept
    assert [word for word in (b"zebra", b"walrus", *map(str.encode, SECRETS)) if word in kept] == []
    told = caplog.text + "".join(capfd.readouterr())
    assert [word for word in ("zebra", "walrus") if word in told] == []


# --- pickles ----------------------------------------------------------------------------------------------------------

FROM_OUTSIDE = ("OLLAMA_HOST", "ROUTED_OLLAMA_HOSTS", "OLLAMA_API_KEY", "file")
"""What another process finds where it stands."""


@pytest.mark.parametrize("how", FROM_OUTSIDE)
def test_a_pickle_holds_no_secret_that_is_found_where_it_is_opened(how, column, server, monkeypatch, tmp_path):
    llm, (header, value) = made(column, how, server, monkeypatch, tmp_path)
    PATHS["whole"](column, llm, Ask())
    data = pickle.dumps(llm)
    assert [secret for secret in SECRETS if secret.encode() in data] == []
    if column.name == "core" and how == "file":  # an agent is pickled with what the file said, and not with its path
        return
    revived = pickle.loads(data)  # noqa: S301 (our own)
    before = len(server.requests)
    PATHS["whole"](column, revived, Ask())
    assert {one.headers.get(header) for one in server.requests[before:]} == {value}


@pytest.mark.parametrize("how", ["base_url", "a header", "api_key"])
def test_a_models_pickle_works_elsewhere_as_the_plain_classs_does_with_what_it_was_given(
    how, server, monkeypatch, tmp_path
):
    for column in (SecretLangChain(), SecretLlamaIndex()):
        llm, (header, value) = made(column, how, server, monkeypatch, tmp_path)
        revived = pickle.loads(pickle.dumps(llm))  # noqa: S301 (our own)
        before = len(server.requests)
        PATHS["whole"](column, revived, Ask())
        assert {one.headers.get(header) for one in server.requests[before:]} == {value}
    give, *_ = GIVEN["a header"]
    with pytest.raises(TypeError, match="may hold credentials"):  # a new class, and strict from the start
        pickle.dumps(SecretCore().told(**give(server.url, monkeypatch, tmp_path)))


def test_what_is_no_model_holds_no_secret_in_a_pickle(column, server, monkeypatch, tmp_path):
    server.add_model(ScriptedModel(OTHER, reply=ANSWER))
    llm, _ = made(column, "base_url", server, monkeypatch, tmp_path)
    seen = PATHS["whole"](column, llm, Ask())
    errors = list(failures(column, llm, server))
    assert any(isinstance(error, AllModelsFailedError) for error in errors)
    assert all(isinstance(error, RoutedOllamaError) for error in errors)
    config = RouterConfig(hosts=[with_password(server.url)])
    things = [llm.router, config, llm.router.performance(), llm.router.models(), seen.routing, *errors]
    for thing in things:
        data = pickle.dumps(thing)
        assert [secret for secret in SECRETS if secret.encode() in data] == []
        assert PROMPT.encode() not in data
        assert str(pickle.loads(data)) == str(thing) or not isinstance(thing, Exception)  # noqa: S301 (our own)


# --- redirects --------------------------------------------------------------------------------------------------------


class Front:
    """Stands before a server and passes requests on, but for those that it redirects."""

    def __init__(self, upstream):
        front, self.moved, self.seen = self, {}, []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                front.seen.append((self.path, dict(self.headers)))
                status, location = next((m for p, m in front.moved.items() if self.path.startswith(p)), (0, ""))
                if status:
                    self.tell(status, b"moved", location=location.replace("PATH", self.path))
                    return
                path = self.path.removeprefix("/moved")
                with httpx.Client(trust_env=False) as client:
                    found = client.request(self.command, f"{upstream}{path}", content=body)
                self.tell(found.status_code, found.content, content_type=found.headers["content-type"])

            def tell(self, status, body, **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = answer  # noqa: N815 (the names http.server looks for)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # clients that turn away
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def front(server):
    with Front(server.url) as running:
        yield running


def to_another_port(front, other):
    return f"{other.url}PATH"


ELSEWHERE = {
    "another port": to_another_port,
    "another name": lambda front, _: f"http://localhost:{front.port}/movedPATH",
    "another scheme": lambda front, _: f"https://127.0.0.1:{front.port}/movedPATH",
    "no scheme": lambda _, other: f"{other.url.removeprefix('http:')}PATH",
    "with a password": lambda _, other: with_password(f"{other.url}PATH"),
    "no host": lambda *_: "http:///movedPATH",
}
ALL_HEADERS = {"Authorization": f"Bearer {TOKEN}", "X-API-Key": TOKEN}


@pytest.mark.parametrize(
    ("part", "status"),
    [("/api/", 302), ("/api/", 308), *(("/api/chat", status) for status in (301, 302, 303, 307, 308))],
    ids=lambda value: {"/api/": "everything", "/api/chat": "chats"}.get(value, str(value)),
)
def test_nobody_is_sent_to_another_server(part, status, column, front):
    with OllamaServer([MODEL]) as other:
        front.moved = {part: (status, to_another_port(front, other))}
        client_kwargs = {"headers": ALL_HEADERS, "cookies": {"session": TOKEN}}
        llm = column.told(base_url=front.url, client_kwargs=client_kwargs)
        for path in PATHS:
            (error,) = failing(column, llm, path)
            assert isinstance(error, RoutedOllamaError | ConnectionError)
            assert f"sends requests on to {other.url}" in str(error)
            assert found_in([str(error)]) == []
        llm.router.health_check_all_models() if part == "/api/chat" else None
        assert not other.requests
    assert front.seen


@pytest.mark.parametrize("where", ELSEWHERE)
def test_what_another_server_is(where, column, front):
    with OllamaServer([MODEL]) as other:
        front.moved = {"/api/chat": (307, ELSEWHERE[where](front, other))}
        llm = column.told(base_url=front.url)
        for path in ("whole", "stream, async"):
            (error,) = failing(column, llm, path)
            assert "which is another server" in str(error)
            assert found_in([str(error)]) == []
        assert not other.requests
    assert {path for path, _ in front.seen} <= {"/api/tags", "/api/ps", "/api/show", "/api/chat"}


def test_another_server_that_does_not_redirect_answers(column, front):
    with OllamaServer([ScriptedModel(OTHER, reply=ANSWER)]) as other:
        front.moved = {"/api/chat": (307, "http://127.0.0.1:1/PATH")}
        llm = column.told(hosts=[front.url, other.url])
        for path in PATHS:
            assert PATHS[path](column, llm, Ask()).text == ANSWER


@pytest.mark.parametrize("location", ["/movedPATH", "http://127.0.0.1:PORT/movedPATH", "moved"])
def test_a_redirect_to_the_same_server_is_followed_with_all_that_was_given(location, column, front, server):
    if location == "moved":
        front.moved = {"/api/chat": (308, "../moved/api/chat")}
    else:
        front.moved = {"/api/": (307, location.replace("PORT", str(front.port)))}
    llm = column.told(base_url=front.url, client_kwargs={"headers": ALL_HEADERS})
    for path in PATHS:
        assert PATHS[path](column, llm, Ask()).text == ANSWER
    chats = [headers for path, headers in front.seen if path == "/moved/api/chat"]
    assert len(chats) == len(PATHS)
    assert {(each["authorization"], each["x-api-key"]) for each in chats} == {(f"Bearer {TOKEN}", TOKEN)}


# --- what is wrong with what was given --------------------------------------------------------------------------------


def test_a_header_that_cannot_be_sent_is_not_repeated(column, server, caplog):
    caplog.set_level(logging.DEBUG)
    llm = column.told(base_url=server.url, client_kwargs={"headers": {"X-API-Key": f"{TOKEN}\n"}})
    errors = [error for path in PATHS for error in failing(column, llm, path)]
    assert len(errors) == len(PATHS)
    assert "line break" in str(errors[0])
    assert found_in([text for error in errors for text in of_an_error(error)] + [caplog.text]) == []


WRONG = {
    "base_url": lambda url: {"base_url": [with_password(url)]},
    "no address": lambda url: {"base_url": f"{with_password(url)}x"},
    "hosts": lambda url: {"hosts": [{"url": with_password(url)}]},
    "api_key": lambda _: {"api_key": [TOKEN]},
    "headers": lambda _: {"headers": f"Bearer {TOKEN}"},
    "client_kwargs": lambda _: {"client_kwargs": f"Bearer {TOKEN}"},
    "config": lambda url: {"config": {"hosts": [f"{with_password(url)}x"], "health": {"interval": "never"}}},
    "a proxy": lambda _: {"client_kwargs": {"proxy": f"ftp://{USER}:{quote(SECRET, safe='')}@127.0.0.1:1"}},
}


@pytest.mark.filterwarnings("ignore::routed_ollama.RoutedOllamaWarning")
@pytest.mark.parametrize("what", WRONG)
def test_wrong_arguments_are_not_repeated(what, column):
    error = None
    try:
        PATHS["whole"](column, column.told(**WRONG[what]("http://127.0.0.1:1")), Ask())
    except Exception as raised:  # noqa: BLE001 (whatever it is, is what is looked at)
        error = raised
    texts = []
    while error is not None:
        texts += [str(error), repr(error), *traceback.format_exception(error)]
        error = error.__cause__ or error.__context__
    assert texts
    assert found_in(texts) == []
