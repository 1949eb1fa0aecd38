"""Copies: pickled, copied, bound, reconfigured, changed in place; each works, and none disturbs another."""

import asyncio
import copy
import pickle
import subprocess
import sys
import threading

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import ConfigurableField
from langchain_ollama import ChatOllama
from wire import FIRST, SECOND, answered_by, asked, bodies, models, plain, routed

from langchain_routed_ollama import RoutedChatOllama
from routed_ollama import Router
from routed_ollama.testing import Fault, OllamaServer


@pytest.fixture
def server():
    with OllamaServer(models()) as running:
        yield running


COPIES = {
    "pickle": lambda llm: pickle.loads(pickle.dumps(llm)),  # noqa: S301 (our own)
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "model_copy": lambda llm: llm.model_copy(),
    "deep model_copy": lambda llm: llm.model_copy(deep=True),
    "model_construct of a deepcopy": lambda llm: copy.deepcopy(copy.deepcopy(llm)),
}
copies = pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)


@copies
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
def test_a_copy_answers_as_the_original_does(duplicate, used, server):
    llm = routed(server.url, temperature=0.3, client_kwargs={"headers": {"x-team": "a"}})
    if used:
        llm.invoke("Hello")
    made = duplicate(llm)
    assert made.invoke("Hello").text == asyncio.run(llm.ainvoke("Hello")).text
    assert asyncio.run(made.ainvoke("Hello")).text == "You asked: Hello"
    assert [body["options"] for body in bodies(server)] == [{"temperature": 0.3}] * len(bodies(server))
    assert {request.headers.get("x-team") for request in server.requests} == {"a"}
    assert (made.models, made.model) == (llm.models, llm.model)


@copies
def test_a_copy_of_one_with_ready_made_models_keeps_them(duplicate, server):
    ready = [plain(server.url, temperature=0.9), ChatOllama(model=SECOND, base_url=server.url, top_k=5)]
    made = duplicate(routed(server.url, models=ready))
    made.invoke("Hello")
    made.invoke("Hello", model=SECOND)
    assert [body["options"] for body in bodies(server)] == [{"temperature": 0.9}, {"top_k": 5}]


@copies
def test_a_copy_goes_on_with_another_model_too(duplicate, server):
    server.fail(FIRST, Fault.SERVER_ERROR)
    assert answered_by(duplicate(routed(server.url)).invoke("Hello")) == SECOND


@copies
def test_structured_output_and_tools_work_on_a_copy(duplicate, server):
    schema = {"title": "n", "description": "d", "type": "object", "properties": {"n": {"type": "integer"}}}
    made = duplicate(routed(server.url))
    assert made.with_structured_output(schema).invoke("It is 7") == {"n": 7}
    assert made.bind_tools([{**schema}]).invoke("It is 7").tool_calls[0]["args"] == {"n": 7}


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy], ids=["deepcopy", "copy"])
def test_copies_share_what_was_learned(duplicate, server):
    llm = routed(server.url, learn=True)
    made = duplicate(llm)
    made.invoke("Hello")
    assert llm.router.performance()[FIRST].total_requests == 1


def test_a_pickle_holds_no_connection_and_works_in_another_process(server):
    data = pickle.dumps(routed(server.url))
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).invoke('Hello').text)"
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=False, timeout=60)  # noqa: S603 (our own)
    assert done.stdout.decode().strip() == "You asked: Hello", done.stderr.decode()


def test_history_in_a_file_is_found_again_by_a_pickle(server, tmp_path):
    llm = routed(server.url, store=tmp_path / "history.db", learn=True)
    llm.invoke("Hello")
    llm.router.close()
    made = pickle.loads(pickle.dumps(llm))  # noqa: S301 (our own)
    assert made.router.performance()[FIRST].total_requests == 1
    made.router.close()


def test_a_bound_chain_can_be_copied_and_pickled(server):
    chain = routed(server.url).with_structured_output(
        {"title": "n", "description": "d", "type": "object", "properties": {"n": {"type": "integer"}}}
    )
    for made in (copy.deepcopy(chain), pickle.loads(pickle.dumps(chain))):  # noqa: S301 (our own)
        assert made.invoke("It is 7") == {"n": 7}


# --- changed fields --------------------------------------------------------------------------------------------------

CHANGES = {
    "temperature": (0.9, lambda body: body["options"]["temperature"]),
    "num_ctx": (8192, lambda body: body["options"]["num_ctx"]),
    "format": ("json", lambda body: body["format"]),
    "keep_alive": ("7m", lambda body: body["keep_alive"]),
    "stop": (["x"], lambda body: body["options"]["stop"]),
    "model": (SECOND, lambda body: body["model"]),
    "models": ([SECOND], lambda body: body["model"]),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
def test_a_changed_field_is_in_force_from_the_next_request(name, used, server):
    value, sent = CHANGES[name]
    llm = routed(server.url, **({"model": None} if name == "models" else {}))
    if used:
        llm.invoke("Hello")
    setattr(llm, name, value)
    llm.invoke("Hello")
    assert sent(bodies(server)[-1]) == (value[0] if name == "models" else value)


@pytest.mark.parametrize("name", CHANGES)
def test_a_copy_with_another_field_leaves_the_original_alone(name, server):
    value, sent = CHANGES[name]
    config = {"health": {"interval": 0}}  # what the copy has loaded is not looked at meanwhile
    llm = routed(server.url, config=config, **({"model": None, "models": [FIRST]} if name == "models" else {}))
    before = llm.invoke("Hello") and bodies(server)[-1]
    llm.model_copy(update={name: value}).invoke("Hello")
    assert sent(bodies(server)[-1]) == (value[0] if name == "models" else value)
    llm.invoke("Hello")
    assert bodies(server)[-1] == before


def change_in_place(llm, **fields):
    for name, value in fields.items():
        setattr(llm, name, value)
    return llm


def reconfigured(llm, **fields):
    configurable = llm.configurable_fields(**{name: ConfigurableField(id=name) for name in fields})
    return configurable.with_config(configurable=fields)


REBUILDS = {
    "model_copy": lambda llm, **fields: llm.model_copy(update=fields),
    "assignment": change_in_place,
    "configurable_fields": reconfigured,
}
rebuilds = pytest.mark.parametrize("rebuild", REBUILDS.values(), ids=REBUILDS)


@rebuilds
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
@pytest.mark.parametrize("named", [False, True], ids=["all models", "named models"])
def test_another_base_url_means_that_server_alone(rebuild, used, named, server):
    with OllamaServer(models()) as other:
        llm = routed(server.url, models=[FIRST, SECOND] if named else None)
        if used:
            llm.invoke("Hello")
        server.forget_requests()
        made = rebuild(llm, base_url=other.url)
        assert made.invoke("Hello").response_metadata["routing"]["host"] == other.url
        other.fail(None, Fault.SERVER_ERROR)
        with pytest.raises(Exception, match="Every model"):
            made.invoke("Hello")
        assert asked(server) == []


@rebuilds
def test_another_configuration_is_in_force(rebuild, server):
    llm = routed(server.url)
    assert answered_by(llm.invoke("Hello")) == FIRST
    made = rebuild(llm, config={"task_specific_models": {"general": [SECOND]}})
    assert answered_by(made.invoke("Hello")) == SECOND


@rebuilds
def test_a_router_of_ones_own_stays(rebuild, server):
    router = Router(base_url=server.url, store="memory")
    made = rebuild(routed(server.url, router=router), temperature=0.5)
    made.invoke("Hello")
    assert router.performance()[FIRST].total_requests == 1


# --- what LangChain does to a model ----------------------------------------------------------------------------------


def test_configurable_fields_change_one_call_and_keep_what_was_learned(server):
    llm = routed(server.url, models=[FIRST], model=None, learn=True)
    configurable = llm.configurable_fields(temperature=ConfigurableField(id="t"), models=ConfigurableField(id="m"))
    configurable.invoke("Hello")
    answer = configurable.with_config(configurable={"t": 0.9, "m": [SECOND]}).invoke("Hello")
    assert answered_by(answer) == SECOND
    assert [body["options"] for body in bodies(server)] == [{}, {"temperature": 0.9}]
    assert sum(each.total_requests for each in llm.router.performance().values()) == 2


def test_configurable_alternatives_choose_between_ours_and_the_plain_class(server):
    llm = routed(server.url).configurable_alternatives(
        ConfigurableField(id="llm"), default_key="routed", plain=plain(server.url, model=SECOND)
    )
    assert "routing" in llm.invoke("Hello").response_metadata
    other = llm.with_config(configurable={"llm": "plain"}).invoke("Hello")
    assert (other.response_metadata["model"], "routing" in other.response_metadata) == (SECOND, False)


class Runs(BaseCallbackHandler):
    def __init__(self):
        self.seen = []

    def on_chat_model_start(self, serialized, messages, *, tags=None, metadata=None, name=None, **kwargs):
        self.seen.append((name, tags, (metadata or {}).get("mine")))


def test_with_config_names_tags_and_marks_a_run(server):
    handler = Runs()
    llm = routed(server.url).with_config(run_name="ask", tags=["t"], metadata={"mine": 1}, callbacks=[handler])
    llm.invoke("Hello")
    assert handler.seen == [("ask", ["t"], 1)]


def test_bind_adds_arguments_to_each_call(server):
    llm = routed(server.url).bind(options={"seed": 3}, stop=["x"]).bind(keep_alive="1m")
    for answer in (llm.invoke("Hello"), next(llm.stream("Hello")), asyncio.run(llm.ainvoke("Hello"))):
        assert answer.text
    assert all(body["options"] == {"seed": 3} and body["keep_alive"] == "1m" for body in bodies(server))


def test_many_threads_use_one_model(server):
    llm = routed(server.url)
    texts = {}
    threads = [
        threading.Thread(target=lambda at=at: texts.update({at: llm.invoke(f"number {at}").text})) for at in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert texts == {at: f"You asked: number {at}" for at in range(8)}


def test_two_models_with_other_settings_do_not_disturb_each_other(server):
    router = Router(base_url=server.url, store="memory")
    one, other = (RoutedChatOllama(router=router, model=FIRST, temperature=t, store="memory") for t in (0.1, 0.9))
    for llm in (one, other, one):
        llm.invoke("Hello")
    assert [body["options"]["temperature"] for body in bodies(server)] == [0.1, 0.9, 0.1]
