"""The pitfalls of wrapping LlamaIndex's ``Ollama``, by number. Each check passes with ours, fails with a naive one.

Those of what subscribers hear are in ``test_pitfalls_of_events``; what more there is to say of ours, on every path, in
``test_surface``, ``test_events`` and ``test_lifecycle``.
"""

import copy
import re

import llama_index.core
import pytest
from asking import (
    FIRST,
    PROMPT,
    QUESTION,
    SECOND,
    Song,
    achat,
    asked,
    bodies,
    chat,
    collect,
    models,
    stream_chat,
    stream_structured_predict,
    structured_predict,
)
from llama_index.core import Settings
from llama_index.core.base.llms.types import AudioBlock, ChatMessage, MessageRole, TextBlock
from llama_index.core.tools import FunctionTool
from naive_llm import WINDOW, Naive, Ours

from routed_ollama import ContextLengthError, routing
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel

TOOLS = ("completion", "tools")
JSON = '{"title": "Rain", "year": 1999}'


def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


TOOL = FunctionTool.from_defaults(fn=multiply)
PRODUCT = "What is multiply of 6 and 7?"


@pytest.fixture
def server():
    with OllamaServer(models(capabilities=TOOLS)) as running:
        yield running


# --- section 3 of what is known to go wrong ---------------------------------------------------------------------------


def a_stream_falls_back_before_its_first_chunk(kind, server):
    """1. ``stream_chat`` raises only when it is read, which is after the loop over the models."""
    server.fail(FIRST, Fault.SERVER_ERROR)
    assert stream_chat(kind.make(server.url, **WINDOW)).raw["model"] == SECOND


def what_was_handed_out_is_not_repeated(kind, server):
    """1. Once text is out, another model's answer from its beginning is no answer."""
    for name in (FIRST, SECOND):
        server.add_model(ScriptedModel(name, reply="one two three four five six"))
    server.fail(FIRST, Fault.CRASH, after_chunks=3)
    chunks = collect(kind.make(server.url, **WINDOW), "astream_chat", QUESTION)
    assert "".join(chunk.delta for chunk in chunks) == "one two three four five six"


def metadata_asks_nobody(kind, server):
    """2. Engines read it before they ask anything; raising there defeats every fallback."""
    server.stop()
    assert kind.make(server.url).metadata.is_chat_model
    server.start()
    server.forget_requests()
    assert kind.make(server.url).metadata.context_window == 8192
    assert not server.requests


def loops_come_and_go(kind, server):
    """3. Three times ``asyncio.run``, and no model is blamed for a loop that was closed."""
    llm = kind.make(server.url, **WINDOW)
    for _ in range(3):
        assert achat(llm).raw["model"] == FIRST
    assert kind.failures(llm) == {}


def structured_predict_sends_the_schema(kind, server):
    """4. What is inherited uses tools; Ollama holds a model to a schema."""
    server.add_model(ScriptedModel(FIRST, reply=JSON))
    assert structured_predict(kind.make(server.url, **WINDOW)) == Song(title="Rain", year=1999)
    assert bodies(server)[0]["format"] == Song.model_json_schema()
    assert not bodies(server)[0].get("tools")


def structured_streams_send_it_too(kind, server):
    """4. ... and what streams as a tool's arguments comes out as an object of which every field is None."""
    server.add_model(ScriptedModel(FIRST, reply=JSON))
    assert stream_structured_predict(kind.make(server.url, **WINDOW)).model_dump() == {"title": "Rain", "year": 1999}
    assert bodies(server)[0]["format"] == Song.model_json_schema()


def the_window_that_is_reported_is_the_one_that_is_given(kind, server):
    """5. Prompts are sized by it once, whichever model answers in the end."""
    server.add_model(ScriptedModel(FIRST, context_length=131072))
    server.add_model(ScriptedModel(SECOND, context_length=16384))
    server.fail(FIRST, Fault.SERVER_ERROR)
    llm = kind.make(server.url)
    window = llm.metadata.context_window
    chat(llm)
    assert [body["options"]["num_ctx"] for body in bodies(server)] == [window, window]


def a_prompt_that_fits_no_model_is_not_sent(kind, server):
    """5. Ollama would cut it silently."""
    for name in (FIRST, SECOND):
        server.add_model(ScriptedModel(name, context_length=2048))
    with pytest.raises(ContextLengthError):
        kind.make(server.url).complete("word " * 9000)
    assert not asked(server)


def metadata_stays_as_it_was(kind, server):
    """6. Engines keep what they once read of it."""
    llm = kind.make(server.url, **WINDOW)
    before = llm.metadata
    server.remove_model(FIRST)
    assert chat(llm).raw["model"] == SECOND
    assert llm.metadata.model_name == before.model_name
    assert llm.metadata == before


def tools_go_only_to_a_model_that_has_them(kind, server):
    """6. Another answers 400."""
    server.add_model(ScriptedModel(FIRST, capabilities=("completion",)))
    response = kind.make(server.url, **WINDOW).chat_with_tools([TOOL], PRODUCT)
    assert response.message.blocks[-1].tool_name == "multiply"
    assert asked(server) == [SECOND]


def hints_arrive_where_no_argument_does(kind, server):
    """7. Engines and agents pass nothing on."""
    llm = kind.make(server.url, **WINDOW)
    with routing(model=SECOND):
        assert llm.predict(PROMPT, topic="rain")
    assert asked(server) == [SECOND]


def a_conversation_with_tool_calls_stays_with_its_model(kind, server):
    """8. Its history carries calls and thoughts that another model did not write."""
    server.fail(FIRST, Fault.BUSY, times=1)
    llm, question = kind.make(server.url, **WINDOW), ChatMessage(content=PRODUCT)
    called = llm.chat_with_tools([TOOL], question)
    history = [question, called.message, ChatMessage(role=MessageRole.TOOL, content="42")]
    assert llm.chat_with_tools([TOOL], chat_history=history).raw["model"] == SECOND


def the_callers_history_is_not_changed(kind, server):
    """9. The plain class appends to it, so that asking again repeats the question."""
    llm = kind.make(server.url, **WINDOW)
    history = [ChatMessage(content="Good day"), ChatMessage(role=MessageRole.ASSISTANT, content="Good day")]
    before = copy.deepcopy(history)
    for _ in range(2):
        llm.chat_with_tools([TOOL], PRODUCT, chat_history=history)
    assert history == before
    assert [message["role"] for message in bodies(server)[-1]["messages"]] == ["user", "assistant", "user"]


def nothing_secret_is_written_out(kind, server):
    """10. ``to_dict`` of the plain class holds its headers."""
    llm = kind.make(server.url, headers={"Authorization": "Bearer t0ken"})
    assert "t0ken" not in f"{llm.to_dict()} {llm.to_json()}"


def a_used_one_can_be_copied(kind, server):
    """10. A used plain one cannot be copied deeply: its client holds locks."""
    llm = kind.make(server.url, **WINDOW)
    chat(llm)
    assert copy.deepcopy(llm).metadata == llm.metadata


def a_changed_field_is_in_force(kind, server):
    """10. What a wrapper builds of its fields must be built anew."""
    llm = kind.make(server.url, **WINDOW)
    chat(llm.model_copy(update={"temperature": 0.9}))
    assert bodies(server)[0]["options"]["temperature"] == 0.9


def no_tokenizer_is_needed(kind, server):
    """11. The global one is not the model's, and may have to be downloaded."""

    def none(_text):
        raise OSError("no network")

    Settings.tokenizer = none
    try:
        assert chat(kind.make(server.url, **WINDOW)).raw["model"] == FIRST
    finally:
        Settings._tokenizer = llama_index.core.global_tokenizer = None


def a_callers_mistake_is_asked_of_nobody(kind, server):
    """12. Every model would refuse it, and each would be blamed."""
    llm = kind.make(server.url, **WINDOW)
    with pytest.raises(ValueError, match="Unsupported block type"):
        llm.chat([ChatMessage(blocks=[TextBlock(text="hear"), AudioBlock(audio=b"abc", format="wav")])])
    assert kind.failures(llm) == {}


def the_payload_names_model_and_temperature(kind, server):
    """13. Traces look for both."""
    payload = kind.make(server.url, **WINDOW, temperature=0.3).to_payload()
    assert (payload["model"], payload["temperature"]) == (FIRST, 0.3)


# --- what users need most ---------------------------------------------------------------------------------------------


def a_load_may_take_longer_than_a_silence(kind, server):
    """Need 2. One limit of time for both either gives up on every load or waits for ever."""
    server.fail(FIRST, Fault.SLOW_LOAD, seconds=0.6)
    server.fail(SECOND, Fault.SLOW_LOAD, seconds=0.6)
    llm = kind.make(server.url, timeouts={"load": 20, "first_token": 0.3}, **WINDOW)
    assert chat(llm).raw["model"] == FIRST


def a_model_is_not_loaded_anew_for_its_window(kind, server):
    """Need 9. Any change of it loads the model again."""
    llm = kind.make(server.url)
    first = ScriptedModel(FIRST, context_length=131072)
    server.add_model(first)
    for words in (5, 500, 3000, 5):
        llm.complete("word " * words)
    assert server.loads == {FIRST: 1}
    assert {body["options"]["num_ctx"] for body in bodies(server)} == {8192}


def an_unfit_answer_is_followed_by_the_next_models(kind, server):
    """Need 10. A schema is no promise: small models answer in prose."""
    server.add_model(ScriptedModel(FIRST, reply="I would rather chat."))
    server.add_model(ScriptedModel(SECOND, reply=JSON))
    assert structured_predict(kind.make(server.url, **WINDOW)) == Song(title="Rain", year=1999)


CHECKS = {
    a_stream_falls_back_before_its_first_chunk: "internal server error",
    what_was_handed_out_is_not_repeated: "one two threeone two",
    metadata_asks_nobody: "Failed to connect",
    loops_come_and_go: SECOND,
    structured_predict_sends_the_schema: "at least one tool call",
    structured_streams_send_it_too: "format",
    the_window_that_is_reported_is_the_one_that_is_given: "16384 != 131072",
    a_prompt_that_fits_no_model_is_not_sent: "DID NOT RAISE",
    metadata_stays_as_it_was: "second:7b",
    tools_go_only_to_a_model_that_has_them: "'first:7b' != 'second:7b'",
    hints_arrive_where_no_argument_does: "'first:7b' != 'second:7b'",
    a_conversation_with_tool_calls_stays_with_its_model: "'first:7b' == 'second:7b'",
    the_callers_history_is_not_changed: "contains 2 more items",
    nothing_secret_is_written_out: "t0ken",
    a_used_one_can_be_copied: "cannot pickle",
    a_changed_field_is_in_force: "None == 0.9",
    no_tokenizer_is_needed: "no network",
    a_callers_mistake_is_asked_of_nobody: "contains 2 more items",
    the_payload_names_model_and_temperature: "model",
    a_load_may_take_longer_than_a_silence: "timed out",
    a_model_is_not_loaded_anew_for_its_window: "131072",
    an_unfit_answer_is_followed_by_the_next_models: "at least one tool call",
}
"""Each with what the naive one ends in: another end would be a slip of the check."""


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_ours(check, server):
    check(Ours, server)


@pytest.mark.parametrize(("check", "end"), CHECKS.items(), ids=lambda part: getattr(part, "__name__", ""))
def test_the_naive_one_falls_into_it(check, end, server):
    with pytest.raises((Exception, pytest.fail.Exception), match=re.escape(end)):
        check(Naive, server)
