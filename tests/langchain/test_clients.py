"""HTTP clients: proxies, certificates and transports of the user's own; what is secret stays where it belongs."""

import asyncio
import base64
import logging
import pickle
import shutil
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from langchain_ollama import ChatOllama
from pydantic import ValidationError
from wire import FIRST, answered_by, asked, models, plain, routed

from langchain_routed_ollama import HostUnreachable, RoutedChatOllama
from routed_ollama import Router
from routed_ollama.testing import Fault, OllamaServer

SECRET = "s3cret-p4ss"  # noqa: S105 (made up)
BASIC = "Basic " + base64.b64encode(f"ann:{SECRET}".encode()).decode()


@pytest.fixture
def server():
    with OllamaServer(models(capabilities=("completion", "tools", "thinking"))) as running:
        yield running


def with_credentials(url):
    return url.replace("http://", f"http://ann:{SECRET}@")


def authorizations(server):
    return [request.headers.get("authorization") for request in server.requests]


# --- proxies, certificates, transports -------------------------------------------------------------------------------


class Forward(BaseHTTPRequestHandler):
    """A proxy for plain HTTP."""

    protocol_version = "HTTP/1.0"
    seen: list[str] = []  # noqa: RUF012 (one list for the class is what is wanted)

    def _pass_on(self):
        self.seen.append(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        with httpx.Client(trust_env=False) as client:
            answer = client.request(self.command, self.path, content=body)
        self.send_response(answer.status_code)
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_POST = _pass_on  # noqa: N815 (the base class's names)

    def log_message(self, *args):
        pass


@pytest.fixture
def proxy():
    Forward.seen = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Forward) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("how", ["environment", "argument"])
def test_a_proxy_is_used(asynchronous, how, server, proxy, monkeypatch):
    if how == "environment":
        monkeypatch.setenv("HTTP_PROXY", proxy)
    llm = routed(server.url, client_kwargs={"proxy": proxy} if how == "argument" else {})
    answer = asyncio.run(llm.ainvoke("Hello")) if asynchronous else llm.invoke("Hello")
    assert answer.text == "You asked: Hello"
    paths = [path.removeprefix(server.url) for path in Forward.seen]
    assert paths[0] == "/api/tags"
    assert paths.count("/api/chat") == len(asked(server)) == 1


def test_no_proxy_exceptions_and_trust_env_are_honoured(server, proxy, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", proxy)
    routed(server.url, client_kwargs={"trust_env": False}).invoke("Hello")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    routed(server.url).invoke("Hello")
    assert Forward.seen == []


def test_a_ready_made_model_keeps_its_proxy(server, proxy):
    ready = plain(server.url, client_kwargs={"proxy": proxy})
    routed(server.url, models=[ready], model=None).invoke("Hello")
    assert f"{server.url}/api/chat" in Forward.seen


@pytest.mark.filterwarnings("ignore:`verify=<str>` is deprecated")
def test_a_wrong_certificate_path_is_said_as_by_the_plain_class(server):
    errors = []
    for make in (plain, routed):
        with pytest.raises(OSError) as caught:  # noqa: PT011 (the texts are compared below)
            make(server.url, client_kwargs={"verify": "/no/such/bundle.pem"}).invoke("Hello")
        errors.append((type(caught.value), str(caught.value)))
    assert errors[0] == errors[1]


@pytest.mark.parametrize(
    "kwargs", [{"verify": False}, {"http1": True}, {"limits": httpx.Limits(max_connections=2)}], ids=str
)
def test_other_arguments_of_clients_are_taken_as_by_the_plain_class(kwargs, server):
    for make in (plain, routed):
        assert make(server.url, client_kwargs=kwargs).invoke("Hello").text == "You asked: Hello"


@pytest.fixture
def certificate(tmp_path):
    """Files of a certificate for 127.0.0.1 and of its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command to make a certificate with")
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)  # noqa: S603 (openssl)
    return files


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_certificate_of_the_users_own_is_trusted_and_no_other(asynchronous, certificate, server):
    class Front(Forward):
        def _pass_on(self):
            self.path = server.url + self.path
            super()._pass_on()

        do_GET = do_POST = _pass_on  # noqa: N815 (the base class's names)

    def ask(**kwargs):
        llm = routed(url, client_kwargs=kwargs)
        return asyncio.run(llm.ainvoke("Hello")) if asynchronous else llm.invoke("Hello")

    with ThreadingHTTPServer(("127.0.0.1", 0), Front) as front:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        front.socket = context.wrap_socket(front.socket, server_side=True)
        threading.Thread(target=front.serve_forever, daemon=True).start()
        url = f"https://127.0.0.1:{front.server_port}"
        try:
            assert ask(verify=ssl.create_default_context(cafile=certificate[0])).text == "You asked: Hello"
            assert ask(verify=False).text == "You asked: Hello"
            with pytest.raises(HostUnreachable) as caught:
                ask()
            assert "certificate verify failed" in f"{caught.value} {caught.value.__cause__}"
        finally:
            front.shutdown()


TAGS = {"models": [{"name": FIRST, "model": FIRST, "size": 1, "digest": "d", "details": {}}]}
LINES = (
    '{"model":"first:7b","message":{"role":"assistant","content":"From nowhere."},"done":false}\n'
    '{"model":"first:7b","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop",'
    '"eval_count":2,"prompt_eval_count":1}\n'
)


def answer_from_memory(request):
    replies = {"/api/tags": TAGS, "/api/ps": {"models": []}, "/api/show": {"capabilities": ["completion"]}}
    path = request.url.path
    return httpx.Response(200, text=LINES) if path == "/api/chat" else httpx.Response(200, json=replies[path])


def test_a_transport_of_the_users_own_carries_everything():
    seen = []

    def answer(request):
        seen.append(request.url.path)
        return answer_from_memory(request)

    transport = httpx.MockTransport(answer)
    kwargs = {"client_kwargs": {"transport": transport}}
    llm = RoutedChatOllama(base_url="http://nowhere.invalid", store="memory", **kwargs)
    assert llm.invoke("Hello").text == "From nowhere."
    assert {"/api/tags", "/api/chat"} <= set(seen)
    assert asyncio.run(llm.ainvoke("Hello")).text == "From nowhere."
    ready = ChatOllama(model=FIRST, base_url="http://nowhere.invalid", **kwargs)
    assert RoutedChatOllama(models=[ready], store="memory").invoke("Hello").text == "From nowhere."


def test_a_transport_for_sync_and_another_for_async(server):
    class Counting(httpx.HTTPTransport):
        count = 0

        def handle_request(self, request):
            Counting.count += 1
            return super().handle_request(request)

    class AsyncCounting(httpx.AsyncHTTPTransport):
        count = 0

        async def handle_async_request(self, request):
            AsyncCounting.count += 1
            return await super().handle_async_request(request)

    llm = routed(
        server.url,
        sync_client_kwargs={"transport": Counting()},
        async_client_kwargs={"transport": AsyncCounting()},
    )
    llm.invoke("Hello")
    before = Counting.count
    assert before >= 2
    asyncio.run(llm.ainvoke("Hello"))
    assert AsyncCounting.count == 1


# --- headers and credentials -----------------------------------------------------------------------------------------


def test_headers_are_sent_everywhere_and_not_changed(server):
    headers = {"X-Team": "a"}
    kwargs = {"headers": headers}
    llm = routed(with_credentials(server.url), client_kwargs=kwargs, validate_model_on_init=True)
    llm.invoke("Hello")
    asyncio.run(llm.ainvoke("Hello"))
    assert {request.headers.get("x-team") for request in server.requests} == {"a"}
    assert headers == {"X-Team": "a"}
    assert kwargs == {"headers": headers}


CREDENTIALS = {
    "url": (lambda url: {"base_url": with_credentials(url)}, BASIC),
    "hosts": (lambda url: {"hosts": [with_credentials(url)]}, BASIC),
    "config": (lambda url: {"config": {"hosts": [with_credentials(url)]}}, BASIC),
    "api_key": (lambda url: {"base_url": url, "api_key": SECRET}, f"Bearer {SECRET}"),
    "header": (
        lambda url: {"base_url": url, "client_kwargs": {"headers": {"authorization": f"Bearer {SECRET}"}}},
        f"Bearer {SECRET}",
    ),
    "own header before api_key": (
        lambda url: {
            "base_url": url,
            "api_key": "another",
            "client_kwargs": {"headers": {"authorization": f"Bearer {SECRET}"}},
        },
        f"Bearer {SECRET}",
    ),
    "ready": (lambda url: {"models": [ChatOllama(model=FIRST, base_url=with_credentials(url))]}, BASIC),
}
credentials = pytest.mark.parametrize(("give", "sent"), CREDENTIALS.values(), ids=CREDENTIALS)


@credentials
@pytest.mark.parametrize("validate", [False, True], ids=["", "validated"])
@pytest.mark.parametrize("named", [False, True], ids=["", "named"])
def test_credentials_are_a_header_of_every_request(give, sent, validate, named, server):
    fields = {"model": FIRST} if named else {}
    llm = RoutedChatOllama(store="memory", validate_model_on_init=validate, **fields, **give(server.url))
    llm.invoke("Hello")
    asyncio.run(llm.ainvoke("Hello"))
    assert set(authorizations(server)) == {sent}


def test_headers_for_sync_requests_alone_do_not_drop_the_credentials(server):
    llm = routed(with_credentials(server.url), sync_client_kwargs={"headers": {"x-team": "a"}})
    llm.invoke("Hello")
    asyncio.run(llm.ainvoke("Hello"))
    assert set(authorizations(server)) == {BASIC}
    chats = [request for request in server.requests if request.path == "/api/chat"]
    assert [request.headers.get("x-team") for request in chats] == ["a", None]


def test_a_key_in_the_environment_is_a_header_of_every_request(server, monkeypatch):
    monkeypatch.setenv("OLLAMA_API_KEY", SECRET)
    routed(server.url).invoke("Hello")
    assert set(authorizations(server)) == {f"Bearer {SECRET}"}


@credentials
def test_credentials_are_nowhere_to_be_read(give, sent, server, caplog):
    caplog.set_level(logging.DEBUG)
    llm = RoutedChatOllama(store="memory", **give(server.url))
    answer = llm.invoke("Hello")
    texts = [repr(llm), str(llm), repr(llm.router), str(answer), repr(answer.response_metadata), str(llm.asdict())]
    texts += [str(llm._identifying_params), str(llm.with_structured_output({"title": "t", "type": "object"}))]
    server.fail(None, Fault.SERVER_ERROR)
    with pytest.raises(Exception, match="error") as caught:
        llm.invoke("Hello")
    texts += [str(caught.value), repr(caught.value)]
    server.stop()
    with pytest.raises(Exception, match=r".") as caught:
        llm.invoke("Hello")
    texts += [str(caught.value), repr(caught.value), caplog.text]
    coded = BASIC.removeprefix("Basic ")
    assert [text for text in texts if SECRET in text or coded in text] == []


@pytest.mark.parametrize("wrong", [{"temperature": "warm"}, {"validate_model_on_init": True, "models": ["absent:7b"]}])
def test_credentials_are_not_in_what_is_said_of_wrong_arguments(wrong, server):
    with pytest.raises(ValidationError) as caught:
        RoutedChatOllama(base_url=with_credentials(server.url), api_key=SECRET, store="memory", **wrong)
    assert SECRET not in str(caught.value)


def test_each_server_gets_its_own_credentials_and_no_others(server):
    with OllamaServer(["elsewhere:7b"]) as other:
        llm = RoutedChatOllama(hosts=[with_credentials(server.url), other.url], store="memory")
        llm.invoke("Hello", model=FIRST)
        llm.invoke("Hello", model="elsewhere:7b")
        assert set(authorizations(server)) == {BASIC}
        assert set(authorizations(other)) == {None}


def test_headers_of_our_servers_do_not_reach_a_ready_made_models_server(server):
    with OllamaServer([FIRST, "elsewhere:7b"]) as other:
        ready = ChatOllama(model="elsewhere:7b", base_url=other.url, client_kwargs={"headers": {"x-theirs": "1"}})
        llm = routed(
            server.url, models=[FIRST, ready], model=None, api_key=SECRET, client_kwargs={"headers": {"x-ours": "1"}}
        )
        llm.invoke("Hello", model="elsewhere:7b")
        server.fail(FIRST, Fault.SERVER_ERROR)
        llm.invoke("Hello", model=FIRST)
        assert other.requests
        assert {(r.headers.get("authorization"), r.headers.get("x-ours")) for r in other.requests} == {(None, None)}
        assert {r.headers.get("x-theirs") for r in server.requests} == {None}


def test_headers_of_our_server_do_not_reach_the_other_servers_of_a_shared_router(server):
    with OllamaServer(["elsewhere:7b"]) as other:
        router = Router(hosts=[server.url, other.url], store="memory")
        llm = routed(server.url, models=None, router=router, api_key=SECRET, client_kwargs={"headers": {"x-ours": "1"}})
        assert answered_by(llm.invoke("Hello", model="elsewhere:7b")) == "elsewhere:7b"
        assert {(r.headers.get("authorization"), r.headers.get("x-ours")) for r in other.requests} == {(None, None)}


@pytest.mark.parametrize("of", ["a model", "the user"])
def test_a_shared_router_keeps_the_credentials(of, server):
    url = with_credentials(server.url)
    router = routed(url).router if of == "a model" else Router(base_url=url, store="memory")
    other = RoutedChatOllama(router=router)
    other.invoke("Hello")
    asyncio.run(other.ainvoke("Hello"))
    assert set(authorizations(server)) == {BASIC}


def test_a_pickle_keeps_the_credentials_it_was_made_with(server):
    made = pickle.loads(pickle.dumps(routed(with_credentials(server.url))))  # noqa: S301 (our own)
    made.invoke("Hello")
    assert set(authorizations(server)) == {BASIC}


def test_a_router_of_ones_own_serves_a_model_without_a_server_of_its_own(server):
    with Router(base_url=server.url, store="memory") as router:
        assert answered_by(RoutedChatOllama(router=router, model=FIRST).invoke("Hello")) == FIRST
