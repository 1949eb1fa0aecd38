"""Streams, thoughts and histories, where the plain class's own tests look: the same of ours, after a dead model too.

Every test runs on the plain class too, which proves that it is right. Beside the answer stands what crossed the wire.
"""

import pytest
from asking import KINDS, METHODS, QUESTION, STREAMED, calls_in, collect, subject_of, thoughts_in
from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock, ThinkingBlock, ToolCallBlock

ANSWER = "one two three four"
THOUGHTS = "They want numbers, I think."
THINKS = {"reply": ANSWER, "thinking": THOUGHTS}
kinds = pytest.mark.parametrize("kind", KINDS)
chats = pytest.mark.parametrize("method", METHODS)
streams = pytest.mark.parametrize("method", STREAMED)


# --- streams ----------------------------------------------------------------------------------------------------------


@kinds
@streams
def test_every_chunk_adds_to_the_text_that_it_says_whole(kind, method):
    with subject_of(kind, reply=ANSWER) as subject:
        chunks = collect(subject.llm(), method, QUESTION)
    assert [chunk.delta for chunk in chunks] == ["one", " two", " three", " four", ""]
    so_far = ""
    for chunk in chunks:
        so_far += chunk.delta
        assert chunk.message.content == so_far
        assert (chunk.message.role, str(chunk)) == (MessageRole.ASSISTANT, f"assistant: {so_far}")
    assert [chunk.raw["done"] for chunk in chunks] == [False] * 4 + [True]
    assert ["usage" in chunk.raw for chunk in chunks] == [False] * 4 + [True]


@kinds
@pytest.mark.parametrize("method", ["stream_complete", "astream_complete"])
def test_every_chunk_of_a_completion_says_the_whole_text(kind, method):
    with subject_of(kind, reply=ANSWER) as subject:
        chunks = collect(subject.llm(), method, "Count to ten")
    assert "".join(chunk.delta for chunk in chunks) == chunks[-1].text == ANSWER
    assert [chunk.text for chunk in chunks[:2]] == ["one", "one two"]


# --- thinking ---------------------------------------------------------------------------------------------------------


@kinds
@chats
@pytest.mark.parametrize(
    ("field", "argument", "thinks"),
    [(True, None, True), (True, False, True), (None, "low", True), (False, True, True), (False, None, False)],
)
def test_a_thought_is_a_block_of_its_own_before_the_text(kind, method, field, argument, thinks):
    arguments = {} if argument is None else {"think": argument}
    with subject_of(kind, **THINKS) as subject:
        response = collect(subject.llm(thinking=field), method, QUESTION, **arguments)[-1]
    assert thoughts_in(response) == (THOUGHTS if thinks else "")
    assert response.message.content == ANSWER
    assert [type(block) for block in response.message.blocks] == [ThinkingBlock] * thinks + [TextBlock]


@kinds
@streams
def test_thoughts_stream_as_deltas_before_the_text(kind, method):
    with subject_of(kind, **THINKS) as subject:
        chunks = collect(subject.llm(thinking=True), method, QUESTION)
    deltas = [chunk.additional_kwargs["thinking_delta"] for chunk in chunks]
    assert deltas == ["They", " want", " numbers,", " I", " think.", None, None, None, None, None]
    assert "".join(chunk.delta for chunk in chunks[:5]) == ""
    assert [thoughts_in(chunk) for chunk in chunks[:2]] == ["They", "They want"]
    assert {thoughts_in(chunk) for chunk in chunks[4:]} == {THOUGHTS}


@kinds
@chats
def test_thoughts_of_a_history_go_back_to_the_model(kind, method):
    answered = ChatMessage(
        role=MessageRole.ASSISTANT, blocks=[ThinkingBlock(content="32 times 4."), TextBlock(text="128")]
    )
    with subject_of(kind, **THINKS) as subject:
        llm = subject.llm(thinking=True)
        response = collect(llm, method, [*QUESTION, answered, *QUESTION], think=False)[-1]
        sent = subject.wire()["messages"][1]
    assert thoughts_in(response) == THOUGHTS
    assert sent == {"role": "assistant", "content": "128", "thinking": "32 times 4."}


# --- tool calls in a history, and none in an answer -------------------------------------------------------------------


@kinds
@chats
def test_tool_calls_of_a_history_go_back_to_the_model(kind, method):
    looked = ChatMessage(
        role=MessageRole.ASSISTANT,
        blocks=[
            ThinkingBlock(content="A tool knows."),
            ToolCallBlock(tool_name="weather", tool_kwargs={"place": "London"}),
            TextBlock(text="It rains."),
        ],
    )
    with subject_of(kind, reply=ANSWER) as subject:
        chunks = collect(subject.llm(), method, [*QUESTION, looked, *QUESTION])
        sent = subject.wire()["messages"][1]
    assert sent == {
        "role": "assistant",
        "content": "It rains.",
        "thinking": "A tool knows.",
        "tool_calls": [{"function": {"name": "weather", "arguments": {"place": "London"}}}],
    }
    assert not [call for chunk in chunks for call in calls_in(chunk)]
    assert [block.text for block in chunks[-1].message.blocks] == [ANSWER]


@kinds
@chats
def test_an_answer_without_tool_calls_has_an_empty_list_of_them(kind, method):
    conversation = [ChatMessage(role=MessageRole.SYSTEM, content="You call tools."), *QUESTION]
    with subject_of(kind, reply=ANSWER) as subject:
        llm = subject.llm()
        response = collect(llm, method, conversation, tools=[])[-1]
    assert llm.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []
    assert calls_in(response) == response.message.additional_kwargs.get("tool_calls", []) == []
    with pytest.raises(ValueError, match="at least one tool call"):
        llm.get_tool_calls_from_response(response)
