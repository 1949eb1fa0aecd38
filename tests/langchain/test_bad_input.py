"""Bad input: what a person reads when something is not as it should be. Every error says what to do next."""

import asyncio
import json
import os
import re
import sqlite3
import sys
import warnings

import pytest
from langchain_core.exceptions import ModelError
from langchain_ollama import ChatOllama
from ollama import ResponseError
from wire import FIRST, SECOND, answered_by, asked, collected, models, plain, routed

from langchain_routed_ollama import AllModelsFailed, HostUnreachable, ModelNotInstalled, NoModel, RoutedChatOllama
from routed_ollama import (
    AllModelsFailedError,
    ConfigurationError,
    HostUnreachableError,
    ModelFailure,
    NoModelError,
    RoutedOllamaError,
    RoutedOllamaWarning,
)
from routed_ollama.store._migrations import LOG
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel


@pytest.fixture
def server():
    with OllamaServer(models()) as running:
        yield running


@pytest.fixture
def dead_url():
    with OllamaServer() as gone:
        return gone.url


WAYS = {
    "invoke": lambda llm: llm.invoke("Hello"),
    "ainvoke": lambda llm: asyncio.run(llm.ainvoke("Hello")),
    "stream": lambda llm: list(llm.stream("Hello")),
    "astream": lambda llm: asyncio.run(collected(llm.astream("Hello"))),
}
ways = pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)


def error_of(ask, llm):
    with pytest.raises(Exception) as caught:  # noqa: PT011 (which one it is, is what the tests look at)
        ask(llm)
    return caught.value


# --- no server, no model ---------------------------------------------------------------------------------------------


@ways
@pytest.mark.parametrize(
    "fields", [{"models": None, "model": None}, {"models": None}, {}], ids=["any model", "preferred", "named"]
)
def test_no_server_is_one_error_that_names_the_url_and_says_what_to_do(ask, fields, dead_url):
    error = error_of(ask, routed(dead_url, **fields))
    assert isinstance(error, HostUnreachable)
    assert isinstance(error, HostUnreachableError)
    assert isinstance(error, ModelError)
    assert isinstance(error, ConnectionError)
    for words in (dead_url, "ollama serve", "base_url", "OLLAMA_HOST"):
        assert words in str(error)


@ways
def test_a_sole_model_on_no_server_fails_as_the_plain_class_does_and_the_hint_is_a_note(ask, dead_url):
    theirs = error_of(ask, plain(dead_url))
    ours = error_of(ask, routed(dead_url, models=[FIRST]))
    assert isinstance(ours, type(theirs))
    told = f"{ours} {' '.join(getattr(ours, '__notes__', []))}"
    for words in (dead_url, "ollama serve"):
        assert words in told


@ways
def test_a_server_that_is_started_later_is_found(ask, server):
    llm = routed(server.url)
    with server.fail(None, Fault.REFUSE):
        assert isinstance(error_of(ask, llm), HostUnreachable)
    ask(llm)
    assert asked(server) == [FIRST]


@ways
def test_no_model_installed_says_how_to_get_one(ask):
    with OllamaServer() as empty:
        error = error_of(ask, routed(empty.url, models=None, model=None))
        assert isinstance(error, NoModel)
        assert isinstance(error, NoModelError)
        assert isinstance(error, ModelError)
        assert "No model is installed" in str(error)
        assert "ollama pull" in str(error)


@ways
def test_only_models_that_cannot_chat_are_listed_with_the_reason(ask):
    with OllamaServer([ScriptedModel("nomic-embed-text", capabilities=["embedding"])]) as server:
        text = str(error_of(ask, routed(server.url, models=None, model=None)))
        assert "nomic-embed-text:latest: cannot chat" in text
        assert "ollama pull" in text


def test_what_answers_is_no_ollama_server():
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer  # noqa: PLC0415
    from threading import Thread  # noqa: PLC0415

    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>Welcome</html>")

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as web:
        Thread(target=web.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{web.server_port}"
        text = str(error_of(WAYS["invoke"], routed(url, models=None, model=None)))
        web.shutdown()
    assert url in text
    assert "not like an Ollama server" in text


# --- named and not installed -----------------------------------------------------------------------------------------


@ways
def test_a_model_that_is_not_installed_is_named_with_the_nearest(ask, server):
    server.add_model("llama3.1:8b")
    error = error_of(ask, routed(server.url, models=["lama3.1:8b"], model=None))
    assert isinstance(error, ModelNotInstalled)
    assert isinstance(error, ModelError)
    assert isinstance(error, ResponseError)  # what the plain class raises
    assert error.status_code == 404
    for words in ("'lama3.1:8b' not found", "llama3.1:8b", "ollama pull lama3.1:8b"):
        assert words in str(error)


@ways
def test_a_preferred_model_that_is_not_installed_is_no_error_when_others_can_answer(ask, server):
    ask(routed(server.url, models=None, model="absent:7b"))
    ask(routed(server.url, models=["absent:7b", FIRST], model=None))
    assert set(asked(server)) <= {FIRST, SECOND}
    assert len(asked(server)) == 2


@ways
def test_a_model_deleted_meanwhile_is_passed_over(ask, server):
    llm = routed(server.url, config={"health": {"interval": 0}})  # no monitor, which might see it first
    ask(llm)
    server.remove_model(FIRST)
    ask(llm)
    assert asked(server) == [FIRST, FIRST, SECOND]


# --- all models fail -------------------------------------------------------------------------------------------------


@ways
def test_when_all_fail_one_error_lists_every_attempt_with_its_cause(ask, server):
    server.fail(FIRST, Fault.SERVER_ERROR, text="the first reason")
    server.fail(SECOND, Fault.EMPTY)
    server.add_model("third:7b")
    server.fail("third:7b", Fault.NOT_FOUND)
    error = error_of(ask, routed(server.url, models=[FIRST, "third:7b"], model=FIRST))
    assert isinstance(error, AllModelsFailed)
    assert isinstance(error, AllModelsFailedError)
    assert isinstance(error, RoutedOllamaError)
    assert isinstance(error, ModelError)
    assert error.is_retryable
    assert [label for label, _ in error.errors] == [f"{FIRST} @ {server.url}", f"third:7b @ {server.url}"]
    for words in (FIRST, "the first reason", "third:7b", "not found"):
        assert words in str(error)
    assert error.__cause__ is error.errors[-1][1]


@ways
@pytest.mark.parametrize(
    "fault",
    [
        Fault.SERVER_ERROR,
        Fault.NOT_FOUND,
        Fault.BUSY,
        Fault.LOAD_ERROR,
        Fault.OUT_OF_MEMORY,
        Fault.CRASH,
        Fault.CUT,
        Fault.MALFORMED,
    ],
)
def test_a_sole_candidate_raises_what_the_plain_class_raises(ask, fault, server):
    errors = []
    for llm in (plain(server.url), routed(server.url, models=[FIRST])):
        server.unload(FIRST)
        with server.fail(FIRST, fault, after_chunks=1):
            errors.append(error_of(ask, llm))
    theirs, ours = errors
    assert type(ours) is type(theirs)
    assert re.sub(r"\d+", "#", str(ours)) == re.sub(r"\d+", "#", str(theirs))


@ways
def test_an_answer_of_a_sole_candidate_that_lacks_its_end_is_an_error_and_not_an_answer(ask, server):
    server.fail(FIRST, Fault.END_WITHOUT_DONE)
    error = error_of(ask, routed(server.url, models=[FIRST]))
    assert isinstance(error, ModelFailure)
    assert isinstance(error, ModelError)
    assert FIRST in str(error)
    assert ask(plain(server.url))  # takes what came for a whole answer


@ways
@pytest.mark.parametrize("fault", [Fault.EMPTY, Fault.WHITESPACE])
def test_when_all_answer_with_nothing_the_answer_is_the_plain_classs(ask, fault, server):
    server.fail(None, fault)
    theirs, ours = ask(plain(server.url)), ask(routed(server.url))
    texts = [
        "".join(chunk.text for chunk in answer) if isinstance(answer, list) else answer.text
        for answer in (theirs, ours)
    ]
    assert texts[0] == texts[1]


# --- arguments and configuration -------------------------------------------------------------------------------------


def test_an_unknown_argument_is_ignored_with_a_warning_and_the_answer_comes(server):
    with pytest.warns(RoutedOllamaWarning, match="'temperatur' is ignored. Did you mean 'temperature'"):
        llm = routed(server.url, temperatur=1)
    assert llm.invoke("Hello").text


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("broken.json", '{"routing": {\n "prefer": }}', ("broken.json", "line 2")),
        ("broken.toml", "[routing\nprefer = 1", ("broken.toml", "TOML")),
        ("list.json", "[1]", ("list.json", "expected an object")),
        ("typo.json", '{"rooting": {}}', ("typo.json", "rooting")),
        ("value.json", '{"routing": {"prefer": "luck"}}', ("value.json", "routing.prefer", "luck", "balanced")),
        ("task.json", '{"task_specific_models": {"sleeping": ["a"]}}', ("task.json", "sleeping", "coding")),
        ("number.toml", "[health]\ninterval = -3", ("number.toml", "health.interval", "-3")),
    ],
)
@pytest.mark.parametrize("where", ["argument", "environment"])
def test_an_invalid_configuration_names_file_and_place_and_what_was_expected(
    name, text, words, where, tmp_path, monkeypatch
):
    file = tmp_path / name
    file.write_text(text)
    fields = {"config": str(file)} if where == "argument" else {}
    if where == "environment":
        monkeypatch.setenv("ROUTED_OLLAMA_CONFIG", str(file))
    with pytest.raises(ConfigurationError) as caught:
        RoutedChatOllama(store="memory", **fields)
    for each in words:
        assert each in str(caught.value)


def test_a_file_of_settings_is_in_force(server, tmp_path):
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"task_specific_models": {"general": [SECOND]}, "hosts": [server.url]}))
    assert answered_by(RoutedChatOllama(config=file, store="memory").invoke("Hello")) == SECOND


# --- the history -----------------------------------------------------------------------------------------------------


def answered(url, file):
    """A model with its history in that file, after one answer."""
    llm = routed(url, store=file, learn=True)
    assert llm.invoke("Hello").text == "You asked: Hello"
    llm.router.close()
    return llm


@pytest.mark.parametrize("content", [b"SQLite format 3\x00" + b"\xff" * 4096, b"\x00" * 100])
def test_a_corrupt_history_is_moved_aside_with_a_warning_and_the_answer_comes(content, server, tmp_path):
    file = tmp_path / "history.db"
    file.write_bytes(content)
    with pytest.warns(RoutedOllamaWarning, match="history.db"):
        answered(server.url, file)
    kept = [each for each in tmp_path.iterdir() if each.read_bytes() == content]
    assert len(kept) == 1
    assert kept[0] != file
    assert routed(server.url, store=file).router.performance()[FIRST].total_requests == 1


def test_a_file_that_is_no_history_is_an_error_and_stays_as_it_is(server, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("Buy milk.")
    with pytest.raises(ConfigurationError, match=r"is a text, and no history\. It was left as it is"):
        routed(server.url, store=file)
    assert [each.read_text() for each in tmp_path.iterdir()] == ["Buy milk."]


def test_a_history_of_a_newer_version_is_left_alone_and_memory_used_instead(server, tmp_path):
    file = tmp_path / "history.db"
    answered(server.url, file)
    with sqlite3.connect(file) as database:
        database.execute(f"INSERT INTO {LOG} VALUES (9999, 'from the future', 0)")  # noqa: S608 (a constant)
    database.close()
    before = file.read_bytes()
    with pytest.warns(RoutedOllamaWarning, match="newer"):
        llm = answered(server.url, file)
    assert llm.router.performance()[FIRST].total_requests == 1
    assert file.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are another matter there")
def test_a_read_only_home_means_memory_with_one_warning(server, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o555)
    if os.access(home, os.W_OK):  # the superuser may write anywhere: a file stands in the way instead
        home.chmod(0o755)
        home.rmdir()
        home.write_text("in the way")
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(home))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        llm = RoutedChatOllama(base_url=server.url)
        assert llm.invoke("Hello").text
        assert llm.invoke("Hello again").text
        llm.router.close()
    told = [str(each.message) for each in caught if issubclass(each.category, RoutedOllamaWarning)]
    assert len(told) == 1
    assert "memory" in told[0]


# --- prompts ---------------------------------------------------------------------------------------------------------


def test_a_prompt_that_fits_no_model_says_by_how_much():
    with OllamaServer(models(context_length=2048)) as server:
        with pytest.raises(NoModelError, match=r"exceeds its context by [0-9]+") as caught:
            routed(server.url).invoke("word " * 5_000)
        assert caught.value.context_length == 2048
        assert caught.value.prompt_tokens > 4000
        assert isinstance(caught.value, ModelError)
        assert asked(server) == []


@pytest.mark.parametrize("prompt", ["", "   ", [("human", "")]], ids=["empty", "white", "empty message"])
def test_an_empty_prompt_is_treated_as_by_the_plain_class(prompt, server):
    assert routed(server.url).invoke(prompt).text == plain(server.url).invoke(prompt).text


def test_no_messages_at_all_are_a_value_error_and_load_no_model(server):
    for llm in (plain(server.url), routed(server.url)):
        with pytest.raises(ValueError, match=r"No data|no messages"):
            llm.invoke([])
    assert asked(server) == [FIRST]  # by the plain class


@pytest.mark.parametrize("wrong", [7, None, {"a": 1}, [7]], ids=str)
def test_what_is_no_prompt_is_refused_as_by_the_plain_class(wrong, server):
    errors = [error_of(lambda llm: llm.invoke(wrong), llm) for llm in (plain(server.url), routed(server.url))]
    assert type(errors[0]) is type(errors[1])
    assert str(errors[0]) == str(errors[1])
    assert asked(server) == []


@pytest.mark.parametrize("hint", [{"task_type": "sleeping"}, {"prefer": "luck"}], ids=str)
def test_a_wrong_hint_names_what_is_allowed_and_blames_no_model(hint, server):
    llm = routed(server.url, learn=True)
    with pytest.raises(ConfigurationError, match=next(iter(hint.values()))) as caught:
        llm.invoke("Hello", **hint)
    assert ("coding" if "task_type" in hint else "balanced") in str(caught.value)
    assert llm.router.performance() == {}


def test_one_bad_server_of_two_disturbs_nobody(server, dead_url):
    llm = RoutedChatOllama(hosts=[dead_url, server.url], models=[FIRST], store="memory")
    assert llm.invoke("Hello").response_metadata["routing"]["host"] == server.url


def test_a_dead_ready_made_model_disturbs_nobody(server, dead_url):
    llm = routed(server.url, models=[ChatOllama(model="dead:7b", base_url=dead_url), SECOND], model=None)
    assert answered_by(llm.invoke("Hello")) == SECOND
