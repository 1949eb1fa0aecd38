"""Written out, read again, pickled, copied, changed: the model is whole after it, and nothing it said held a secret."""

import copy
import json
import logging
import pickle
import subprocess
import sys

import pytest
from asking import (
    FIRST,
    KINDS,
    PLAIN,
    PROMPT,
    QUESTION,
    SECOND,
    Heard,
    Song,
    bodies,
    chat,
    collect,
    models,
    plain,
    routed,
    subject_of,
    text,
)
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.llms.ollama import Ollama

from llamaindex_routed_ollama import RoutedOllama
from routed_ollama.testing import OllamaServer

FIELDS = {
    "temperature": 0.3,
    "additional_kwargs": {"top_k": 7, "stop": ["ten"]},
    "json_mode": True,
    "keep_alive": "7m",
    "thinking": "low",
    "context_window": 5000,
    "is_function_calling_model": False,
    "request_timeout": 25.0,
    "prompt_key": "question",
    "system_prompt": "Be brief.",
}
WRITTEN = {
    "to_dict": lambda llm: type(llm).from_dict(llm.to_dict()),
    "to_json": lambda llm: type(llm).from_json(llm.to_json()),
    "its fields": lambda llm: type(llm)(**llm.model_dump(exclude={"callback_manager", "class_name"})),
}
COPIED = {
    "pickle": lambda llm: pickle.loads(pickle.dumps(llm)),  # noqa: S301 (our own)
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "model_copy": lambda llm: llm.model_copy(),
    "deep model_copy": lambda llm: llm.model_copy(deep=True),
}
copies = pytest.mark.parametrize("duplicate", {**WRITTEN, **COPIED}.items(), ids=lambda pair: pair[0])
kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
@copies
@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
def test_a_copy_asks_just_as_its_original_does(kind, duplicate, used):
    name, copied = duplicate
    with subject_of(kind, thinking="Hm.") as subject:
        llm = subject.llm(**FIELDS)
        if used:
            chat(llm)
        if (kind, used, "deep" in name) == (PLAIN, True, True):
            with pytest.raises(TypeError):  # known of the plain class: its client cannot be copied
                copied(llm)
            return
        made = copied(llm)
        chat(made)
        theirs = subject.wire()
        chat(llm)
        assert theirs == subject.wire()
        assert theirs["options"] == {"num_ctx": 5000, "temperature": 0.3, "top_k": 7, "stop": ["ten"]}
    assert {name: getattr(made, name) for name in FIELDS} == FIELDS
    assert made.metadata == llm.metadata


@kinds
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, COPIED["pickle"]], ids=["copy", "deepcopy", "pickle"])
def test_one_that_gives_objects_can_be_copied(kind, duplicate):
    with subject_of(kind, reply='{"title": "Rain", "year": 1999}') as subject:
        llm = subject.llm().as_structured_llm(Song)
        assert collect(duplicate(llm), "chat", QUESTION)[-1].raw == Song(title="Rain", year=1999)


def test_what_a_copy_learns_its_original_knows():
    with OllamaServer(models()) as server:
        llm = routed(server.url, learn=True)
        for duplicate in (copy.deepcopy, copy.copy):
            chat(duplicate(llm))
        assert llm.router.performance()[FIRST].total_requests == 2


def test_a_pickle_holds_no_connection_and_answers_in_another_process():
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).complete('Hello').text)"
    with OllamaServer(models()) as server:
        llm = routed(server.url)
        chat(llm)
        done = subprocess.run(  # noqa: S603 (our own)
            [sys.executable, "-c", code], input=pickle.dumps(llm), capture_output=True, check=False, timeout=60
        )
    assert done.stdout.decode().strip() == "You asked: Hello", done.stderr.decode()


def test_a_history_in_a_file_is_found_again(tmp_path):
    with OllamaServer(models()) as server:
        llm = routed(server.url, store=tmp_path / "history.db", learn=True)
        chat(llm)
        llm.router.close()
        for duplicate in (WRITTEN["to_dict"], WRITTEN["to_json"], COPIED["pickle"]):
            made = duplicate(llm)
            assert made.router.performance()[FIRST].total_requests == 1
            made.router.close()


# --- changed fields ---------------------------------------------------------------------------------------------------

CHANGES = {
    "temperature": (0.9, lambda body: body["options"]["temperature"]),
    "additional_kwargs": ({"top_k": 3}, lambda body: {"top_k": body["options"]["top_k"]}),
    "context_window": (6000, lambda body: body["options"]["num_ctx"]),
    "json_mode": (True, lambda body: body["format"] == "json"),
    "keep_alive": ("9m", lambda body: body["keep_alive"]),
    "thinking": (True, lambda body: body["think"]),
}


@kinds
@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("how", ["set", "copied"])
def test_a_changed_field_is_in_force_from_then_on(kind, name, how):
    value, read = CHANGES[name]
    with subject_of(kind, thinking="Hm.") as subject:
        llm = subject.llm(temperature=0.1, additional_kwargs={"top_k": 1})
        chat(llm)
        if how == "set":
            setattr(llm, name, value)
            changed = llm
        else:
            changed = llm.model_copy(update={name: value})
        chat(changed)
        assert read(subject.wire()) == getattr(changed, name) == value
        assert how == "set" or getattr(llm, name) != value


# --- secrets ----------------------------------------------------------------------------------------------------------

SECRETS = ("hunter2", "s3cr3t", "t0ken", "pa55")


def secretive(server, **fields):
    """One that has been told every kind of secret there is."""
    with_password = server.url.replace("http://", "http://ann:hunter2@")
    given = {
        "models": [FIRST, Ollama(model=SECOND, base_url=server.url, headers={"Authorization": "Bearer t0ken"})],
        "hosts": [with_password],
        "headers": {"x-key": "s3cr3t"},
        "api_key": "t0ken",
        "client_kwargs": {"headers": {"x-other": "pa55"}, "cookies": {"session": "s3cr3t"}},
        "config": {"hosts": [with_password], "health": {"interval": 0}},
        **fields,
    }
    return routed(None, **given)


def outputs(llm):
    """Every way in which it says what it is."""
    return {
        "to_dict": str(llm.to_dict()),
        "to_json": llm.to_json(),
        "model_dump": str(llm.model_dump()),
        "model_dump_json": llm.model_dump_json(),
        "repr": repr(llm),
        "str": str(llm),
        "to_payload": str(llm.to_payload()),
        "metadata": str(llm.metadata),
        "as_structured_llm": str(llm.as_structured_llm(Song).to_dict()),
        "schema": json.dumps(llm.model_json_schema(mode="serialization")),
    }


@pytest.mark.parametrize("store", ["memory", "redis://:pa55@127.0.0.1:1/0"])
def test_nothing_it_says_of_itself_holds_a_secret(store):
    with OllamaServer(models()) as server:
        llm = secretive(server)
        llm.__dict__["store"] = store  # as it was given; nobody is to connect to it here
        said = outputs(llm)
        chat(llm)
        sent = server.requests[-1].headers
    assert [(name, secret) for name in said for secret in SECRETS if secret in said[name]] == []
    assert (sent["x-key"], sent["x-other"]) == ("s3cr3t", "pa55")  # and where it belongs it is


@pytest.mark.parametrize("model", [FIRST, SECOND], ids=["by name", "ready-made"])
def test_neither_traces_nor_logs_nor_answers_hold_a_secret(own_instrumentation, caplog, model):
    caplog.set_level(logging.DEBUG)
    heard, debug = Heard(events=[]), LlamaDebugHandler(print_trace_on_end=False)
    own_instrumentation.add_event_handler(heard)
    with OllamaServer(models(reply='{"title": "Rain", "year": 1999}')) as server:
        llm = secretive(server, callback_manager=CallbackManager([debug]))
        answers = [chat(llm, model=model), *collect(llm, "stream_chat", QUESTION, model=model)]
        llm.structured_predict(Song, PROMPT, {"model": model}, topic="rain")
        assert {body["model"] for body in bodies(server)} == {model}
        headers = dict(server.requests[-1].headers)
    assert any(secret in str(headers) for secret in SECRETS)
    told = [str(event.model_dump()) for event in heard.events]
    told += [str(event.payload) for pair in debug.get_llm_inputs_outputs() for event in pair]
    told += [str(answer.raw) for answer in answers] + [caplog.text]
    assert len(told) > 6
    assert [(secret, one) for one in told for secret in SECRETS if secret in one] == []


def test_after_its_secrets_are_lost_it_works_where_none_are_needed():
    with OllamaServer(models()) as server:
        made = RoutedOllama.from_dict(secretive(server).to_dict())
        assert text(chat(made)) == "You asked: Count to ten"
        assert (made.headers, made.api_key, made.client_kwargs) == (None, None, {})


def test_the_plain_class_is_written_out_with_its_headers():
    """Known of it, and why ours leaves them out."""
    assert "t0ken" in str(plain("http://127.0.0.1:1", headers={"Authorization": "Bearer t0ken"}).to_dict())
