"""Which calls were offered, which had to be made, and which stand in the text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed_ollama.fallback.tools import OfferedTools


def tool(name, *, required=(), **properties):
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


NUMBER = {"type": "integer"}
MULTIPLY = tool("multiply", a=NUMBER, b=NUMBER, required=("a", "b"))
SEARCH = tool("search", query={"type": "string"}, limit=NUMBER, required=("query",))
NOW = tool("now")
TOOLS = [MULTIPLY, SEARCH, NOW]
SIX_BY_SEVEN = [("multiply", {"a": 6, "b": 7})]


@pytest.mark.parametrize(
    ("choice", "required"),
    [
        (None, ""),
        (False, ""),
        ("auto", ""),
        ("none", ""),
        (True, "multiply search now"),
        ("any", "multiply search now"),
        ("required", "multiply search now"),
        ("search", "search"),
        ({"type": "function", "function": {"name": "search"}}, "search"),
        ({"type": "tool", "name": "now"}, "now"),
        ("nosuch", ""),
        ({}, ""),
        (7, ""),
    ],
)
def test_a_choice_says_which_has_to_be_called(choice, required):
    assert OfferedTools.of(TOOLS, choice).required == set(required.split())


@pytest.mark.parametrize("definitions", [None, [], [print], [{"name": "raw"}], [MULTIPLY, {"function": {}}]])
def test_tools_that_cannot_be_read_are_none(definitions):
    assert OfferedTools.of(definitions, "any") is None


def test_a_tool_may_have_the_name_of_a_choice():
    offered = OfferedTools.of([tool("any"), tool("none"), MULTIPLY], "any")
    assert offered.required == {"any"}
    assert OfferedTools.of([tool("none"), MULTIPLY], "none").required == {"none"}


@pytest.mark.parametrize(
    ("choice", "called", "text", "problem"),
    [
        (None, [], "Forty-two.", ""),
        (None, ["multiply", "search"], "", ""),
        (None, ["divide"], "", "'divide', which was not offered"),
        (None, ["multiply", "divide"], "", "'divide', which was not offered"),
        ("any", [], "Forty-two.", "no tool"),
        ("any", [], "", "no tool"),
        ("any", ["search"], "", ""),
        ("multiply", ["search"], "", "multiply had to be called"),
        ("multiply", ["search", "multiply"], "", ""),
        ("any", [], '{"name": "multiply", "arguments": {"a": 6, "b": 7}}', ""),
        ("any", [], '{"name": "multiply", "arguments": {"a": 6,', "no tool"),
        ("any", [], '{"name": "divide", "arguments": {"a": 6, "b": 7}}', "no tool"),
    ],
)
def test_what_is_wrong_with_an_answer(choice, called, text, problem):
    found = OfferedTools.of(TOOLS, choice).problem(called, text)
    assert bool(found) == bool(problem)
    assert problem in found


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "multiply", "arguments": {"a": 6, "b": 7}}',
        '{"name": "multiply", "parameters": {"a": 6, "b": 7}}',
        '{"type": "function", "function": {"name": "multiply", "arguments": "{\\"a\\": 6, \\"b\\": 7}"}}',
        '{"function": "multiply", "args": {"a": 6, "b": 7}}',
        '```json\n{\n  "name": "multiply",\n  "arguments": {"a": 6, "b": 7}\n}\n```',
        'Sure! <tool_call>\n{"name": "multiply", "arguments": {"a": 6, "b": 7}}\n</tool_call>',
        '[TOOL_CALLS] [{"name": "multiply", "arguments": {"a": 6, "b": 7}}]',
        'I will multiply {a} by [b]: {"a": 6, "b": 7}',
    ],
)
def test_calls_are_found_in_the_text(text):
    assert list(OfferedTools.of(TOOLS, "any").calls_in(text)) == SIX_BY_SEVEN


def test_several_calls_come_in_their_order():
    text = '{"name": "now", "arguments": {}} and then {"query": "six"} and [{"name": "now"}, {"a": 6, "b": 7}]'
    found = OfferedTools.of(TOOLS, "any").calls_in(text)
    assert found == (("now", {}), ("search", {"query": "six"}), ("now", {}), *SIX_BY_SEVEN)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Forty-two.",
        '{"answer": 42}',
        '{"a": 6}',
        '{"a": 6, "b": 7, "c": 8}',
        '{"name": "multiply", "arguments": "six times seven"}',
        '{"name": "multiply", "arguments": [6, 7]}',
        '{"name": "multiply", "description": "Multiply two numbers."}',
        "[1, 2, 3]",
        "{" * 500,
        "[" * 100_000,
        '{"a":' * 5_000,
    ],
)
def test_what_is_no_call_is_none(text):
    assert OfferedTools.of(TOOLS, "any").calls_in(text) == ()


def test_arguments_that_fit_two_tools_are_none_of_them():
    other = tool("add", a=NUMBER, b=NUMBER, required=("a", "b"))
    assert OfferedTools.of([MULTIPLY, other], "any").calls_in('{"a": 6, "b": 7}') == ()
    assert list(OfferedTools.of([MULTIPLY, other], "multiply").calls_in('{"a": 6, "b": 7}')) == SIX_BY_SEVEN


def test_where_nothing_has_to_be_called_text_stays_text():
    text = '{"name": "multiply", "arguments": {"a": 6, "b": 7}}'
    assert OfferedTools.of(TOOLS).calls_in(text) == ()
    assert OfferedTools.of(TOOLS, "search").calls_in(text) == ()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "arguments", "a", "x"]), inner)
    ),
    max_leaves=8,
)


@given(values, st.text(max_size=20))
def test_no_text_breaks_it(value, around):
    OfferedTools.of(TOOLS, "any").problem([], around + json.dumps(value) + around)
