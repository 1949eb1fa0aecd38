"""Settings: every argument of the plain class does what it does there, and what is secret stays where it belongs."""

import asyncio
import base64
import logging
import pickle
import shutil
import ssl
import subprocess
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from langchain_ollama import ChatOllama
from pydantic import ValidationError
from wire import FIRST, SECOND, answered_by, asked, bodies, collected, models, plain, routed

from langchain_routed_ollama import HostUnreachable, RoutedChatOllama
from routed_ollama import ConfigurationError, RoutedOllamaWarning, Router, Timeouts
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


# --- fields ----------------------------------------------------------------------------------------------------------


def test_every_field_of_the_plain_class_is_here_and_of_the_same_kind():
    theirs, ours = ChatOllama.model_fields, RoutedChatOllama.model_fields
    assert theirs.keys() - ours.keys() == set()
    ours_only = ours.keys() - theirs.keys()
    assert ours_only == {
        "models",
        "hosts",
        "prefer",
        "config",
        "router",
        "store",
        "mid_stream",
        "max_attempts",
        "max_retries",
        "timeouts",
        "timeout",
        "learn",
        "api_key",
        "attempt_callbacks",
    }
    for name in theirs.keys() - {"model"}:
        assert ours[name].get_default(call_default_factory=True) == theirs[name].get_default(
            call_default_factory=True
        ), name


REQUESTS = {
    "nothing": ({}, {}),
    "temperature": ({"temperature": 0.2}, {}),
    "every option": (
        {
            "mirostat": 1,
            "mirostat_eta": 0.2,
            "mirostat_tau": 4.0,
            "num_ctx": 2048,
            "num_gpu": 0,
            "num_thread": 2,
            "num_predict": 5,
            "repeat_last_n": 8,
            "repeat_penalty": 1.2,
            "temperature": 0.0,
            "seed": 7,
            "stop": ["END"],
            "tfs_z": 1.0,
            "top_k": 5,
            "top_p": 0.5,
        },
        {},
    ),
    "format": ({"format": "json"}, {}),
    "schema": ({"format": {"type": "object", "properties": {"n": {"type": "integer"}}}}, {}),
    "keep alive": ({"keep_alive": "3m"}, {}),
    "keep alive for ever": ({"keep_alive": -1}, {}),
    "keep alive not at all": ({"keep_alive": 0}, {}),
    "reasoning": ({"reasoning": True}, {}),
    "no reasoning": ({"reasoning": False}, {}),
    "reasoning level": ({"reasoning": "high"}, {}),
    "logprobs": ({"logprobs": True, "top_logprobs": 2}, {}),
    "call: stop": ({}, {"stop": ["END"]}),
    "call: options replace": ({"temperature": 0.2, "num_ctx": 2048}, {"options": {"seed": 1}}),
    "call: empty options": ({"temperature": 0.2}, {"options": {}}),
    "call: format": ({"format": "json"}, {"format": ""}),
    "call: response_format": (
        {},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object", "properties": {}}}}},
    ),
    "call: json_object": ({}, {"response_format": {"type": "json_object"}}),
    "call: keep alive": ({"keep_alive": "3m"}, {"keep_alive": "9m"}),
    "call: reasoning": ({}, {"reasoning": "low"}),
    "call: logprobs": ({}, {"logprobs": True, "top_logprobs": 1}),
    "call: tools": ({}, {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}),
    "call: strict": ({}, {"strict": True}),
    "call: model": ({}, {"model": SECOND}),
}


@pytest.mark.parametrize(("fields", "call"), REQUESTS.values(), ids=REQUESTS)
def test_the_request_is_the_one_that_the_plain_class_sends(fields, call, server):
    theirs, ours = plain(server.url, **fields), routed(server.url, **fields)
    theirs.invoke("Hello", **call)
    ours.invoke("Hello", **call)
    list(ours.stream("Hello", **call))
    asyncio.run(ours.ainvoke("Hello", **call))
    asyncio.run(collected(ours.astream("Hello", **call)))
    first, *others = bodies(server)
    assert others == [first] * 4


@pytest.mark.parametrize(
    ("fields", "call"),
    [
        ({"stop": ["x"]}, {"stop": ["y"]}),
        ({}, {"temperature": 0.1}),
        ({}, {"max_tokens": 5}),
        ({}, {"tool_choice": "any"}),
        ({}, {"surprise": 1}),
    ],
    ids=["stop twice", "temperature", "max_tokens", "tool_choice", "unknown"],
)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_a_call_may_not_have_is_refused_as_by_the_plain_class(fields, call, asynchronous, server):
    errors = []
    for llm in (plain(server.url, **fields), routed(server.url, **fields)):
        with pytest.raises((TypeError, ValueError)) as caught:
            asyncio.run(llm.ainvoke("Hello", **call)) if asynchronous else llm.invoke("Hello", **call)
        errors.append((type(caught.value), str(caught.value)))
    assert errors[0] == errors[1]
    assert asked(server) == []


def test_the_names_of_other_chat_models_are_mapped(server):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        llm = routed(server.url, max_tokens=3, timeout=20.0, max_retries=1, stop=["END"], api_key=SECRET)
        assert routed(server.url, request_timeout=20.0).timeout == 20.0
    assert llm.num_predict == 3
    llm.invoke("one two three four five")
    assert bodies(server)[0]["options"] == {"num_predict": 3, "stop": ["END"]}
    server.add_model("third:7b")
    server.fail(None, Fault.SERVER_ERROR)
    server.forget_requests()
    with pytest.raises(Exception, match="Every model"):
        llm.invoke("Hello", model="third:7b")
    assert len(asked(server)) == 2


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [("temprature", "temperature"), ("keepalive", "keep_alive"), ("modles", "models"), ("basee_url", "base_url")],
)
def test_an_unknown_argument_is_a_warning_that_names_the_nearest(wrong, nearest):
    with pytest.warns(RoutedOllamaWarning, match=f"'{wrong}'.*'{nearest}'") as caught:
        RoutedChatOllama(store="memory", **{wrong: 1})
    assert caught[0].filename == __file__


def test_an_argument_like_no_other_is_a_warning_too():
    with pytest.warns(RoutedOllamaWarning, match="'zzqqxx' is ignored"):
        RoutedChatOllama(store="memory", zzqqxx=1)


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": "warm"},
        {"top_logprobs": 0},
        {"format": "yaml"},
        {"num_ctx": "many"},
        {"top_logprobs": 2, "logprobs": False},
    ],
    ids=str,
)
def test_what_the_plain_class_refuses_is_refused_when_it_is_made(fields):
    for make in (lambda: ChatOllama(model=FIRST, **fields), lambda: RoutedChatOllama(store="memory", **fields)):
        with pytest.raises(ValidationError):
            make()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"models": []}, "models is empty"),
        ({"models": [7]}, "expected names and ChatOllama instances, found int"),
        ({"prefer": "luck"}, "prefer"),
        ({"mid_stream": "pray"}, "mid_stream"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"timeout": -1}, "timeout"),
        ({"timeouts": {"frist_token": 3}}, "first_token"),
        ({"timeouts": {"total": -3}}, "total"),
        ({"base_url": "ftp://host"}, "expected http"),
        ({"hosts": ["http://a b"]}, "not the address"),
        ({"config": {"routing": {"prefer": "luck"}}}, "routing.prefer"),
        ({"config": "no/such/file.json"}, "no/such/file.json"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_when_it_is_made(fields, text):
    with pytest.raises((ConfigurationError, ValidationError), match=text):
        RoutedChatOllama(**{"store": "memory", **fields})


def test_making_one_waits_for_no_server_and_asks_none(server):
    routed(server.url)
    RoutedChatOllama(base_url="http://127.0.0.1:9", store="memory", models=[FIRST])
    assert server.requests == ()


def test_with_ready_made_models_alone_their_servers_alone_are_asked(server, monkeypatch):
    with OllamaServer([FIRST]) as usual:
        monkeypatch.setenv("OLLAMA_HOST", usual.url)
        RoutedChatOllama(models=[plain(server.url)], store="memory").invoke("Hello")
        assert usual.requests == ()
        assert asked(server) == [FIRST]


def test_a_model_that_one_of_several_servers_has_is_found_at_once(server):
    with OllamaServer(["elsewhere:7b"]) as other:
        llm = RoutedChatOllama(
            hosts=[server.url, other.url], models=[FIRST, "elsewhere:7b"], store="memory", validate_model_on_init=True
        )
        assert llm.invoke("Hello").text


def test_looking_for_models_where_no_server_is_fails_as_the_plain_class_does():
    with OllamaServer() as gone:
        url = gone.url
    errors = []
    for make in (plain, routed):
        with pytest.raises(Exception, match="connect") as caught:
            make(url, validate_model_on_init=True)
        errors.append((type(caught.value), str(caught.value)))
    assert errors[0] == errors[1]


@pytest.mark.parametrize(("fields", "names"), [({"models": [FIRST, "absent:7b"]}, "absent:7b"), ({}, None)])
def test_models_are_looked_for_at_once_when_that_is_asked_for(fields, names, server):
    make = lambda: routed(server.url, validate_model_on_init=True, **fields)  # noqa: E731
    if names:
        with pytest.raises(ValueError, match=names):
            make()
    else:
        make()
    assert server.requests
    assert asked(server) == []


def test_a_name_without_its_tag_is_found(server):
    server.add_model("plainname")
    for name in ("plainname", "plainname:latest"):
        assert answered_by(routed(server.url, models=[name], model=None).invoke("Hello")) == "plainname:latest"
    assert answered_by(routed(server.url, models=FIRST, model=None).invoke("Hello")) == FIRST


def test_the_environment_says_where_ollama_is(server, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", server.url.removeprefix("http://"))
    assert answered_by(RoutedChatOllama(store="memory").invoke("Hello")) in {FIRST, SECOND}


@pytest.mark.parametrize("fields", [{"hosts": []}, {"config": {}}], ids=["hosts", "config"])
def test_several_servers(fields, server):
    with OllamaServer(["elsewhere:7b"]) as other:
        both = [server.url, other.url]
        given = {"hosts": both} if "hosts" in fields else {"config": {"hosts": both}}
        llm = RoutedChatOllama(store="memory", **given)
        assert llm.invoke("Hello", model="elsewhere:7b").response_metadata["routing"]["host"] == other.url
        assert llm.invoke("Hello", model=FIRST).response_metadata["routing"]["host"] == server.url


@pytest.mark.parametrize("timeouts", [Timeouts(first_token=0.3), {"first_token": 0.3}], ids=["object", "mapping"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_time_limits_by_phase(timeouts, asynchronous, server):
    list(map(routed(server.url).invoke, ["Hello", "Hello"]))
    routed(server.url).invoke("Hello", model=SECOND)
    server.fail(FIRST, Fault.HANG)
    llm = routed(server.url, timeouts=timeouts)
    llm.router.health_check_all_models()  # both are in memory
    answer = asyncio.run(llm.ainvoke("Hello")) if asynchronous else llm.invoke("Hello")
    attempts = answer.response_metadata["routing"]["attempts"]
    assert [attempt["model"] for attempt in attempts] == [FIRST, SECOND]
    assert "timeouts={'first_token': ...}" in attempts[0]["error"]


@pytest.mark.parametrize(
    "limit", [{"timeout": 0.3}, {"client_kwargs": {"timeout": 0.3}}], ids=["timeout", "client_kwargs"]
)
def test_a_time_limit_as_the_plain_class_has_it(limit, server):
    server.fail(FIRST, Fault.HANG_BEFORE_HEADERS)
    assert answered_by(routed(server.url, **limit).invoke("Hello")) == SECOND


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


def test_a_router_shared_with_another_model_keeps_the_credentials(server):
    one = routed(with_credentials(server.url))
    other = RoutedChatOllama(router=one.router)
    other.invoke("Hello")
    assert set(authorizations(server)) == {BASIC}


def test_a_pickle_keeps_the_credentials_it_was_made_with(server):
    made = pickle.loads(pickle.dumps(routed(with_credentials(server.url))))  # noqa: S301 (our own)
    made.invoke("Hello")
    assert set(authorizations(server)) == {BASIC}


def test_a_router_of_ones_own_serves_a_model_without_a_server_of_its_own(server):
    with Router(base_url=server.url, store="memory") as router:
        assert answered_by(RoutedChatOllama(router=router, model=FIRST).invoke("Hello")) == FIRST
