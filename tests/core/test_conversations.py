"""Who answers which conversation: what a message is known by, how much is remembered, and that no text is."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest

from routed_ollama import Candidate, Conversations, conversations, fingerprint

ANN, BOB = Candidate("a:1b", "http://one"), Candidate("b:1b", "http://two")


# What a message is known by


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("4",), ("4",)),
        (("",), ("", [])),
        (("4", [["add", {"a": 1, "b": 2}]]), ("4", (("add", {"b": 2, "a": 1}),))),
        (("", [["add", {"of": {"a": 1, "b": [1]}}]]), ("", [["add", {"of": {"b": (1,), "a": 1}}]])),
        (("", [["add", OrderedDict(a=1)]]), ("", [["add", {"a": 1}]])),
    ],
)
def test_the_same_is_known_again(one, other):
    assert fingerprint(*one) == fingerprint(*other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("4",), ("5",)),
        (("4",), ("4 ",)),
        (("4",), ("4", [["add", {}]])),
        (("", [["add", {"a": 1}]]), ("", [["add", {"a": 2}]])),
        (("", [["add", {"a": 1}]]), ("", [["sub", {"a": 1}]])),
        (("", [["add", {"a": 1}], ["sub", {}]]), ("", [["sub", {}], ["add", {"a": 1}]])),
        (("", [["add", {"a": {"b": 1}}]]), ("", [["add", {"a": 1, "b": 1}]])),
        (("", [["add", {}]]), ("", [["add", []]])),
        (("", [["add", '{"a": 1}']]), ("", [["add", {"a": 1}]])),
    ],
)
def test_what_differs_is_told_apart(one, other):
    assert fingerprint(*one) != fingerprint(*other)


@pytest.mark.parametrize("value", [date(2026, 11, 1), {1: "a", "b": 2}, {("a", 1): None}, b"\xff", {3, 4}, 1j, object])
def test_whatever_a_caller_puts_into_a_history_has_one(value):
    assert fingerprint("", [["add", {"a": value}]]) == fingerprint("", [["add", {"a": value}]])


@pytest.mark.parametrize("text", ["Grüße, 世界 \U0001f30d", "\ud800", "\0", "x" * 1_000_000], ids=range(4))
def test_any_text_has_one_of_the_same_length(text):
    assert len(fingerprint(text)) == len(fingerprint("")) == 32


# What is remembered


def test_who_answered_last_is_known_for_each():
    known = Conversations()
    assert known.of("Ann") is None
    known.note("Ann", ANN)
    known.note("Bob", BOB)
    assert (known.of("Ann"), known.of("Bob")) == (ANN, BOB)
    known.note("Ann", BOB)
    assert known.of("Ann") == BOB


def test_the_one_that_was_silent_longest_is_forgotten_first():
    known, most = Conversations(), conversations._MOST
    for at in range(most):
        known.note(f"session {at}", ANN)
    known.note("session 0", BOB)  # it goes on
    known.note("one more", ANN)
    assert known.of("session 0") == BOB
    assert known.of("session 1") is None
    assert known.of("session 2") == known.of("one more") == ANN


def test_many_threads_may_note_and_ask_at_once(monkeypatch):
    monkeypatch.setattr(conversations, "_MOST", 50)
    known, start = Conversations(), threading.Barrier(8)

    def work(name):
        start.wait(10)
        for at in range(500):
            known.note(f"{name} {at}", Candidate(f"{name}:{at}", ""))
            found = known.of(f"{name} {at}")
            assert found is None or found.model == f"{name}:{at}"
        return name

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, "abcdefgh")) == list("abcdefgh")
    assert len(known._by_key) == 50


def test_no_text_is_kept():
    known = Conversations()
    known.note(f"message {fingerprint('My password is hunter2', [['login', {'password': 'hunter2'}]])}", ANN)
    assert "hunter2" not in repr(known._by_key)


FORKING = """
import os, sys, threading
from routed_ollama import Candidate, Conversations
known, held = Conversations(), threading.Event()
known.note("Ann", Candidate("a:1b", ""))

def hold():
    with known._lock:
        held.set()
        threading.Event().wait()

threading.Thread(target=hold, daemon=True).start()
held.wait(10)
child = os.fork()
if not child:
    known.note("Bob", Candidate("b:1b", ""))
    os._exit(known.of("Ann").model + known.of("Bob").model != "a:1bb:1b")
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_wait_for_a_thread_that_it_does_not_have():
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 (ourselves)
    assert (done.returncode, done.stderr) == (0, "")
