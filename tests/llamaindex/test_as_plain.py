"""What the plain class's own tests check of it, seen by a user: the same of ours, with and without a dead model first.

Every test runs on the plain class too, which proves that it is right. Beside the answer stands what crossed the wire.
"""

import pytest
from asking import (
    FIRST,
    KINDS,
    METHODS,
    PATHS,
    PLAIN,
    QUESTION,
    SECOND,
    Heard,
    bodies,
    collect,
    plain,
    subject_of,
    text,
)
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.llms.ollama import Ollama

from llamaindex_routed_ollama import RoutedOllama

ANSWER = "one two three four"
kinds = pytest.mark.parametrize("kind", KINDS)
chats = pytest.mark.parametrize("method", METHODS)


# --- what it is -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Ollama, RoutedOllama])
def test_it_is_an_llm_by_the_names_that_are_looked_for(kind):
    assert {BaseLLM.__name__, FunctionCallingLLM.__name__} <= {base.__name__ for base in kind.__mro__}
    assert kind.class_name().endswith("Ollama_llm")


@kinds
def test_what_it_says_of_itself(kind):
    with subject_of(kind) as subject:
        metadata = subject.llm(is_function_calling_model=False).metadata
        assert (metadata.context_window, metadata.num_output, metadata.is_chat_model) == (4096, 256, True)
        assert metadata.is_function_calling_model is False
        assert metadata.model_name in {FIRST, SECOND}
        assert subject.llm().metadata.is_function_calling_model is True
        assert not bodies(subject.server)


@kinds
@chats
def test_traces_learn_the_model_that_was_asked_and_its_window(own_instrumentation, kind, method):
    heard = Heard(events=[])
    own_instrumentation.add_event_handler(heard)
    with subject_of(kind) as subject:
        llm = subject.llm(temperature=0.3)
        collect(llm, method, QUESTION)
    told = heard.of("LLMChatStartEvent")[-1].model_dict
    assert (told["model_name"], told["context_window"]) == (SECOND, 4096)
    if kind != PLAIN:  # the plain class's payload has neither
        payload = llm.to_payload()
        assert (payload["model"], payload["temperature"]) == (llm.model, 0.3)


# --- answers ----------------------------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
def test_a_question_has_an_answer_on_every_path(kind, path):
    with subject_of(kind, reply=ANSWER) as subject:
        response = path(subject.llm())
        sent = subject.wire()
    assert text(response) == ANSWER
    assert ANSWER in str(response)
    assert sent.pop("messages") == [{"role": "user", "content": "Count to ten"}]
    assert sent == {"options": {"num_ctx": 4096, "temperature": None}, "tools": []}
    assert (response.raw["model"], response.raw["done"], response.raw["done_reason"]) == (SECOND, True, "stop")
    if kind != PLAIN:
        attempts = [(each["model"], each["outcome"]) for each in response.raw["routing"]["attempts"]]
        assert attempts == subject.attempts


@kinds
@chats
def test_tokens_are_counted_as_the_server_counts_them(kind, method):
    with subject_of(kind, reply=ANSWER) as subject:
        raw = collect(subject.llm(), method, QUESTION)[-1].raw
    counted = raw["prompt_eval_count"]
    assert raw["usage"] == {"prompt_tokens": counted, "completion_tokens": 4, "total_tokens": counted + 4}


@kinds
@chats
def test_roles_and_histories_are_sent_as_they_are(kind, method):
    conversation = [
        ChatMessage(role=MessageRole.SYSTEM, content="Be brief."),
        ChatMessage(content="Which numbers are there?"),
        ChatMessage(role=MessageRole.ASSISTANT, content="Many."),
        *QUESTION,
    ]
    with subject_of(kind) as subject:
        assert collect(subject.llm(), method, conversation)[-1].message.role is MessageRole.ASSISTANT
        sent = subject.wire()["messages"]
    assert [(each["role"], each["content"]) for each in sent] == [
        ("system", "Be brief."),
        ("user", "Which numbers are there?"),
        ("assistant", "Many."),
        ("user", "Count to ten"),
    ]


SENT = {
    "a temperature": ({"temperature": 0.2}, {}, {"options": {"num_ctx": 4096, "temperature": 0.2}}),
    "options, the stronger ones": (
        {"temperature": 0.2, "additional_kwargs": {"top_k": 7, "temperature": 1, "num_ctx": 2048}},
        {},
        {"options": {"num_ctx": 2048, "temperature": 1, "top_k": 7}},
    ),
    "json mode": ({"json_mode": True}, {}, {"format": "json"}),
    "a schema for one call": ({"json_mode": True}, {"format": {"type": "object"}}, {"format": {"type": "object"}}),
    "no format for one call": ({"json_mode": True}, {"format": None}, {}),
    "keep alive in words": ({"keep_alive": "7m"}, {}, {"keep_alive": "7m"}),
    "keep alive in seconds": ({"keep_alive": 90.0}, {}, {"keep_alive": 90.0}),
    "no tools": ({}, {"tools": []}, {}),
    "what it does not know is left out": ({}, {"temperature": 2, "num_predict": 1, "tool_choice": "auto"}, {}),
    "thinking": ({"thinking": True}, {}, {"think": True}),
    "thinking of a depth": ({"thinking": "low"}, {}, {"think": "low"}),
    "no thinking": ({"thinking": False}, {}, {"think": False}),
    "thinking for one call": ({}, {"think": True}, {"think": True}),
    "thinking for one call after all": ({"thinking": False}, {"think": "high"}, {"think": "high"}),
    # Known of the plain class: a call cannot switch thinking off. Its tests hold that, and so do we.
    "no thinking for one call": ({}, {"think": False}, {}),
    "no thinking for one call where it is on": ({"thinking": True}, {"think": False}, {"think": True}),
}


@kinds
@pytest.mark.parametrize("given", SENT)
def test_fields_and_arguments_arrive_at_the_model_that_answers(kind, given):
    fields, arguments, expected = SENT[given]
    with subject_of(kind, thinking="Numbers.") as subject:
        llm = subject.llm(**fields)
        for method in ("chat", "stream_chat"):
            collect(llm, method, QUESTION, **arguments)
            sent = subject.wire()
            del sent["messages"]
            assert sent == {"options": {"num_ctx": 4096, "temperature": None}, "tools": [], **expected}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != PLAIN])
@chats
def test_with_no_window_given_nothing_else_differs_on_the_wire(kind, method):
    """The plain class asks the server for the length a model was trained for, and sends that; ours needs not ask."""
    with subject_of(kind, context_length=8192) as subject:
        collect(plain(subject.server.url, model=SECOND, context_window=-1), method, QUESTION)
        theirs = subject.wire()
        collect(subject.llm(context_window=-1), method, QUESTION)
        ours = subject.wire()
    assert theirs["options"].pop("num_ctx") == 8192
    assert ours["options"].pop("num_ctx") in {None, 8192}
    assert theirs == ours
