"""Tool calls in the text of an answer: what is a call, what is text, however the pieces fall."""

from __future__ import annotations

import pytest

from routed_ollama.testing._llamacpp_tools import ToolCallReader


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("answer", "text", "names"),
    [
        ("no call at all", "no call at all", []),
        ("a < b <tool", "a < b <tool", []),
        ('<tool_call>{"name": "a", "arguments": {}}</tool_call>', "", ["a"]),
        (
            'say <tool_call>\n{"name": "a"}\n</tool_call> and <tool_call>{"name":"b"}</tool_call>.',
            "say  and .",
            ["a", "b"],
        ),
        ('<tool_call>{"name": "cut short', '<tool_call>{"name": "cut short', []),
        ("<tool_call>no json</tool_call>!", "<tool_call>no json</tool_call>!", []),
        ("<tool_call>[1]</tool_call>", "<tool_call>[1]</tool_call>", []),
        ('<tool_call>{"name": 5}</tool_call>', '<tool_call>{"name": 5}</tool_call>', []),
        (
            '<tool_call>{"name": "a", "arguments": 5}</tool_call>',
            '<tool_call>{"name": "a", "arguments": 5}</tool_call>',
            [],
        ),
    ],
)
def test_calls_are_parted_from_text_however_it_arrives(answer, text, names, size):
    reader, shown, calls = ToolCallReader(), "", []
    for start in range(0, len(answer), size):
        more, found = reader.feed(answer[start : start + size])
        shown, calls = shown + more, [*calls, *found]
    more, found = reader.feed("", final=True)
    assert shown + more == text
    assert [call.name for call in (*calls, *found)] == names


def test_text_is_not_searched_when_no_tools_were_offered():
    text = '<tool_call>{"name": "a"}</tool_call>'
    assert ToolCallReader(enabled=False).feed(text) == (text, ())
