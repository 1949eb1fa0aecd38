"""What the rules on task types see by themselves: what is code, which test is the patient, other languages' words."""

import pytest

from routed_ollama.analysis import analyze
from routed_ollama.analysis.meanings import heard
from routed_ollama.analysis.reading import read
from routed_ollama.types import Message, TaskType


@pytest.mark.parametrize(
    "text",
    [
        "Using public transport, how do I get from Bern to Zermatt?",
        "Import taxes on a laptop I bring home from the US",
        "Public speaking tips for a shy person (short)",
        "class reunion invitation, twenty years",
        "class diagram for a library: which classes are there",
        "package insert for ibuprofen in plain words",
        "Private lessons: how much an hour?",
        "@everyone party at my place, make this funnier",
        "Const. Act of 1982, what is it?",
        "Let me know what to pack; sun; kids; two days; no car",
        "Def Leppard or Whitesnake, and why",
    ],
)
def test_a_sentence_is_no_code_for_its_first_word(text):
    reading = read(text)
    assert not reading.starts_as_code
    assert not reading.code


@pytest.mark.parametrize(
    "text",
    [
        "def add(a, b):\n    '''Sum of two numbers.'''\n",
        "async def load(url):\n    ...",
        "import os\nimport sys\n",
        "import { useState } from 'react'",
        "import numpy as np",
        "from typing import Any",
        "class Node:\n    pass",
        "class Account extends Base {",
        "public static int max(int[] a) {",
        "private final String name;",
        "const add = (a, b) =>",
        "package main\n\nfunc main() {}",
        "using System;\nnamespace A;",
        "using namespace std;",
        "fn main() {",
        "func (s *Server) Close() error {",
        "@dataclass\nclass Point:\n    x: int",
        "@app.get('/items')\nasync def items():",
        "export default function App() {",
        "#include <stdio.h>",
        "<!DOCTYPE html>",
    ],
)
def test_a_program_is_known_by_how_it_begins(text):
    assert read(text).starts_as_code


def test_what_formulas_are_made_of_is_no_code():
    assert not read(r"Show that $\frac{a}{b} = \frac{c}{d}$ gives $\sqrt{ad} = \sqrt{bc}$, with $a = 2$.").code
    assert read("a = {'x': 1}\nb = {'y': a['x']}\nprint(a, b)").code


@pytest.mark.parametrize(
    "text",
    [
        "my integration test fails on CI and passes on my laptop",
        "jest: all tests fail since we upgraded node",
        "this playwright test is flaky, about one run in ten",
        "warum schlägt der Test fehl? pytest, ValueError in der Fixture",
    ],
)
def test_a_test_that_fails_is_to_be_mended(text):
    assert analyze(text).task_type is TaskType.DEBUGGING


@pytest.mark.parametrize(
    "text",
    [
        "write a test that fails when the cache is cold",
        "test cases for a login that fails three times",
        "how do I test that a function fails with ValueError in pytest",
    ],
)
def test_failing_that_is_to_be_tested_is_testing(text):
    assert analyze(text).task_type is TaskType.TESTING


@pytest.mark.parametrize(
    ("task_type", "text"),
    [
        ("coding", "Écris une requête SQL qui donne les ventes par mois"),
        ("coding", "faz um dockerfile pra uma api em flask"),
        ("coding", "Schreibe eine Funktion, die Umlaute ersetzt"),
        ("testing", "Schreibe JUnit-5-Tests für die Klasse Rechnung"),
        ("testing", "genera pruebas unitarias para esta clase"),
        ("documentation", "Erstelle eine Bedienungsanleitung für den Beamer im Besprechungsraum"),
        ("planning", "crea un itinerario de cuatro días por Galicia"),
        ("general", "Formuliere diese Mail freundlicher: ich warte seit zwei Wochen auf Antwort"),
        ("general", "Écris un poème sur la pluie"),
    ],
)
def test_other_languages_words_are_heard(task_type, text):
    assert analyze(text).task_type == task_type


def test_what_is_heard_keeps_what_it_does_not_know():
    assert heard(["zeitplan", "xyzzy", "pytest"]) == ["plan", "xyzzy", "pytest"]


def test_english_words_are_heard_as_they_are():
    # "comment", "plan" and "code" are words of several languages.
    assert analyze("Add a comment to each line of this function").task_type is not TaskType.GENERAL
    assert "comments" in read("Please write the comments for this module and its tests").hits


@pytest.mark.parametrize(
    ("text", "english"),
    [
        ("warum ist das Bild in der Vorschau leer", False),
        ("Was kostet das Porto in die Schweiz", False),
        ("como se dice me gusta en alemán", False),
        ("what is the postage to Switzerland", True),
        ("a trip to La Paz and Los Angeles", True),
        ("fix it", True),
    ],
)
def test_a_language_is_told_by_the_most_of_its_small_words(text, english):
    assert read(text).english is english


def said(*texts):
    return analyze([Message("user" if at % 2 == 0 else "assistant", text) for at, text in enumerate(texts)]).task_type


@pytest.mark.parametrize(
    ("task_type", "first", "then"),
    [
        ("coding", "write a rest api in express for todos", "and also put auth on it"),
        ("coding", "create a react component for a login form", "can you make it look nicer"),
        ("debugging", "write a function that reads a csv", "doesn't work, it returns an empty list"),
        ("debugging", "write a python script that downloads a page", "it hangs"),
        ("analysis", "analyze these sales: jan 10 feb 20 mar 15, what do you see", "and what about march?"),
        ("planning", "12 week marathon plan please", "and on weekends?"),
    ],
)
def test_a_message_that_goes_on_has_the_type_of_what_it_goes_on_with(task_type, first, then):
    assert said(first, "Here it is.", then) == task_type


@pytest.mark.parametrize(
    ("task_type", "first", "then"),
    [
        ("general", "write a python function that dedups a list", "thanks!"),
        ("general", "write a python function that dedups a list", "cool. what should i cook tonight?"),
        ("general", "review this python function", "who was napoleon"),
        ("coding", "plan a 5 day trip to rome", "unrelated: how do i center a div"),
        ("planning", "what is a half marathon", "make me a 10 week plan for one"),
    ],
)
def test_a_message_of_its_own_keeps_its_own_type(task_type, first, then):
    assert said(first, "Here it is.", then) == task_type
