"""Scripted models: what they say, and that they do what a request asks of a real one."""

from __future__ import annotations

import asyncio
import base64
import json
from enum import Enum
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from talking import CLIENT, chat, get, lines, post, streaming, text

from routed_ollama.testing import Gate, OllamaServer, Piece, ScriptedModel, ToolCall
from routed_ollama.testing.engine import GenerationRequest
from routed_ollama.testing.replies import Words, instance_of
from routed_ollama.testing.script import Writer

ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers",
        "parameters": {
            "type": "object",
            "required": ["a", "b"],
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        },
    },
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture
def serve():
    started = []

    def start(*models, **arguments):
        started.append(OllamaServer(models, **arguments).start())
        return started[-1]

    yield start
    for server in started:
        server.stop()


def test_a_model_left_to_itself_repeats_what_it_is_asked(serve):
    server = serve("m")
    assert text(server, prompt="Why?") == "You asked: Why?"
    assert (
        chat(server, messages=[{"role": "system", "content": "x"}]).json()["message"]["content"] == "You asked: nothing"
    )
    assert post(server, "/api/generate", model="m", prompt="Why?", stream=False).json()["response"] == "You asked: Why?"


def test_the_same_request_has_the_same_answer_and_a_seed_may_change_it(serve):
    server = serve("m")
    assert text(server) == text(server)
    assert text(server, options={"seed": 1}) != text(server, options={"seed": 2})
    assert text(server, options={"seed": 1, "temperature": 0}) == text(server, options={"seed": 2, "temperature": 0})


@pytest.mark.parametrize(
    "reply",
    [
        "one two",
        ["one", " two"],
        (part for part in ["one", " two"]),
        lambda request: "one two",
        lambda request: [Piece("one"), " two"],
        lambda request: (part for part in ["one", " two"]),
    ],
)
def test_a_reply_is_a_text_or_pieces_or_a_function_that_gives_them(serve, reply):
    pieces = [line["message"]["content"] for line in lines(serve(ScriptedModel("m", reply=reply)))]
    assert pieces == ["one", " two", ""]


def test_a_reply_may_come_from_an_async_generator(serve):
    async def reply(request):
        yield "one"
        await asyncio.sleep(0)
        yield Piece(" two")

    server = serve(ScriptedModel("m", reply=reply))
    assert text(server) == "one two"
    assert text(serve(ScriptedModel("m", reply=reply, thinking="Hm."))) == "one two"


def test_a_reply_function_sees_the_request(serve):
    seen = []
    model = ScriptedModel(
        "m", reply=lambda request: seen.append(request) or "ok", system="Be kind.", parameters={"top_k": 3}
    )
    image = base64.b64encode(b"picture").decode()
    messages = [
        {"role": "User", "content": "look", "images": [image]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]},
        {"role": "tool", "tool_name": "add", "content": "3"},
    ]
    chat(serve(model), messages=messages, tools=[ADD], options={"seed": 5}, format="json", think=False, logprobs=True)
    (request,) = seen
    assert [message.role for message in request.messages] == ["system", "user", "assistant", "tool"]
    assert request.messages[1].images == request.images == (b"picture",)
    assert request.messages[2].tool_calls[0].arguments == {"a": 1}
    assert request.messages[3].tool_name == "add"
    assert request.tools == (ADD,)
    assert request.options == {"top_k": 3, "seed": 5}
    assert (request.format, request.think, request.logprobs, request.streams) == ("json", False, True, False)
    assert request.body["messages"][0]["role"] == "User"


def test_a_system_message_of_the_request_replaces_the_models(serve):
    seen = []
    server = serve(ScriptedModel("m", reply=lambda request: seen.append(request) or "ok", system="Be kind."))
    chat(server, messages=[{"role": "system", "content": "Be short."}, {"role": "user", "content": "x"}])
    post(server, "/api/generate", model="m", prompt="x", system="Be quick.", stream=False)
    post(server, "/api/generate", model="m", prompt="x", stream=False)
    post(server, "/api/generate", model="m", prompt="x", raw=True, stream=False)
    assert [[message.content for message in request.messages] for request in seen] == [
        ["Be short.", "x"], ["Be quick.", "x"], ["Be kind.", "x"], [],
    ]  # fmt: skip


def test_a_mistake_in_a_script_is_seen(serve, caplog):
    def reply(request):
        yield "one"
        raise LookupError("no line left")

    server = serve(ScriptedModel("m", reply=reply))
    assert (chat(server).status_code, chat(server).json()) == (500, {"error": "LookupError: no line left"})
    assert lines(server)[-1] == {"error": "LookupError: no line left"}
    assert "no line left" in caplog.text


def test_a_script_may_change_the_server_it_runs_in(serve):
    def reply(request):
        yield "one"
        server.crash("m")
        yield " two"

    server = serve(ScriptedModel("m", reply=reply, tokens_per_second=200))
    assert "error" in lines(server)[-1]


# -- what a request asks for ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("a b c d", "stop", 4)),
        ({"num_predict": 2}, ("a b", "length", 2)),
        ({"num_predict": 4}, ("a b c d", "length", 4)),
        ({"num_predict": 5}, ("a b c d", "stop", 4)),
        ({"num_predict": 0}, ("a b c d", "stop", 4)),
        ({"num_predict": -1}, ("a b c d", "stop", 4)),
        ({"stop": ["c"]}, ("a b ", "stop", 3)),
        ({"stop": ["b c"]}, ("a ", "stop", 3)),
        ({"stop": ["d!"]}, ("a b c d", "stop", 4)),
        ({"stop": ["b", "a"]}, ("", "stop", 1)),
        ({"stop": [""]}, ("a b c d", "stop", 4)),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_it_stops_where_it_is_told(serve, options, expected, stream):
    server = serve(ScriptedModel("m", reply="a b c d"))
    received = lines(server, options=options) if stream else [chat(server, options=options).json()]
    words = "".join(line["message"]["content"] for line in received)
    assert (words, received[-1]["done_reason"], received[-1]["eval_count"]) == expected


@given(words=st.lists(st.text("ab", min_size=1, max_size=3), max_size=8), stop=st.text("ab", min_size=1, max_size=4))
def test_what_comes_out_is_the_text_up_to_the_stop(words, stop):
    writer = Writer(GenerationRequest(model="m", options={"stop": [stop]}), limit=1000)
    written = []
    for word in words:
        written.append(writer.add(word))
        if writer.ended:
            break
    written.append(writer.rest())
    assert "".join(piece.text for piece in written if piece) == "".join(words).partition(stop)[0]


def test_a_models_own_stop_counts_until_a_request_brings_one(serve):
    server = serve(ScriptedModel("m", reply="a b c d", parameters={"stop": "c"}))
    assert text(server) == "a b "
    assert text(server, options={"stop": ["b"]}) == "a "


def test_speeds_are_kept_and_counted(serve):
    server = serve(ScriptedModel("m", reply="a b c d e", tokens_per_second=100, prompt_tokens_per_second=200))
    final = chat(server).json()
    assert final["eval_duration"] >= 0.05e9
    assert final["prompt_eval_duration"] >= final["prompt_eval_count"] / 200 * 1e9
    parts = sum(final[f"{part}_duration"] for part in ("load", "prompt_eval", "eval"))
    assert final["total_duration"] >= parts


def test_log_probabilities_of_every_token(serve):
    server = serve(ScriptedModel("m", reply="a é"))
    entries = chat(server, logprobs=True, top_logprobs=2).json()["logprobs"]
    assert [entry["token"] for entry in entries] == ["a", " é"]
    assert entries[1]["bytes"] == list(" é".encode())
    assert [len(entry["top_logprobs"]) for entry in entries] == [2, 2]
    assert entries[0]["top_logprobs"][0]["logprob"] > entries[0]["top_logprobs"][1]["logprob"]
    streamed = lines(server, logprobs=True)
    thinker = serve(ScriptedModel("m", reply="a", thinking="b"))
    assert [entry["token"] for entry in chat(thinker, logprobs=True).json()["logprobs"]] == ["a"]
    assert [line["logprobs"][0]["token"] for line in streamed[:-1]] == ["a", " é"]
    assert "logprobs" not in streamed[-1]
    assert chat(server, top_logprobs=21).json() == {"error": "top_logprobs must be between 0 and 20"}


def test_thoughts_come_first_and_only_where_they_are_wanted(serve):
    server = serve(ScriptedModel("m", reply="So yes.", thinking="Well then."))
    message = chat(server).json()["message"]
    assert (message["thinking"], message["content"]) == ("Well then.", "So yes.")
    assert "thinking" not in chat(server, think=False).json()["message"]
    assert chat(server, think="high").json()["message"]["thinking"] == "Well then."
    first = lines(server)[0]["message"]
    assert first == {"role": "assistant", "content": "", "thinking": "Well"}
    assert post(server, "/api/generate", model="m", prompt="x", stream=False).json()["thinking"] == "Well then."
    assert "thinking" in post(server, "/api/show", model="m").json()["capabilities"]


def test_tools_are_called_with_values_from_the_question(serve):
    server = serve("m")
    message = chat(server, prompt="Please add 3 and 4", tools=[WEATHER, ADD]).json()["message"]
    (call,) = message["tool_calls"]
    assert call["function"] == {"index": 0, "name": "add", "arguments": {"a": 3, "b": 4}}
    assert call["id"].startswith("call_")
    assert message["content"] == ""
    weather = chat(server, prompt='How is it in "Paris"?', tools=[WEATHER, ADD]).json()["message"]["tool_calls"][0]
    assert weather["function"]["arguments"] == {"city": "Paris"}
    assert weather["id"] != call["id"]


def test_after_a_tool_has_answered_there_are_words(serve):
    messages = [{"role": "user", "content": "add 1 and 2"}, {"role": "tool", "content": "3"}]
    assert text(serve("m"), messages=messages, tools=[ADD]) == "The tool says: 3"


def test_tool_calls_of_ones_own_are_numbered_through(serve):
    calls = [ToolCall(name="a", arguments={"x": 1}), ToolCall(name="b", id="mine")]
    server = serve(ScriptedModel("m", tool_calls=calls))
    *streamed, last = lines(server, tools=[ADD])
    assert [line["message"]["tool_calls"][0]["function"]["index"] for line in streamed] == [0, 1]
    assert streamed[1]["message"]["tool_calls"][0]["id"] == "mine"
    assert last["done_reason"] == "stop"
    assert [call["function"]["name"] for call in chat(server, tools=[ADD]).json()["message"]["tool_calls"]] == [
        "a",
        "b",
    ]
    assert text(server) == "You asked: hi"  # without tools there is nothing to call


def test_text_thoughts_and_calls_in_one_script(serve):
    script = [Piece(thinking="Hm."), "Let me see.", ToolCall(name="add")]
    message = chat(serve(ScriptedModel("m", reply=script))).json()["message"]
    assert list(message) == ["role", "content", "thinking", "tool_calls"]


class Colour(Enum):
    RED = "red"


class Inner(BaseModel):
    number: float = Field(gt=3)
    other: Inner | None = None


class Outer(BaseModel):
    name: str = Field(min_length=12, max_length=14)
    colour: Colour
    kind: Literal["only"]
    count: int = Field(ge=5, le=6)
    less: int = Field(lt=0)
    inner: Inner
    many: list[Inner] = Field(min_length=2)
    pair: tuple[int, str]
    either: int | str
    flag: bool
    nothing: None
    optional: str | None = "given"


def test_an_instance_fits_a_schema_as_people_write_them(serve):
    schema = Outer.model_json_schema()
    made = Outer.model_validate_json(text(serve("m"), prompt="17 bottles", format=schema))
    assert made.count == 6
    assert "other" not in made.inner.model_fields_set


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, "text"),
        ({"type": ["null", "integer"]}, 1),
        ({"type": "null"}, None),
        ({"const": 3}, 3),
        ({"enum": ["x", "y"]}, "x"),
        ({"properties": {"a": {"type": "boolean"}}}, {"a": True}),
        ({"items": {"type": "number"}}, [1.5]),
        (
            {
                "allOf": [
                    {"properties": {"a": {"const": 1}}, "required": ["a"]},
                    {"properties": {"b": {"const": 2}}, "required": ["b"]},
                ]
            },
            {"a": 1, "b": 2},
        ),
        ({"oneOf": [{"type": "null"}, {"const": 1}]}, 1),
        ({"anyOf": [{"type": "null"}]}, None),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"const": 7}}}, 7),
        ({"$ref": "#/nowhere"}, "text"),
        ({"type": "string", "format": "date"}, "2024-01-01"),
        ({"type": "integer", "exclusiveMinimum": 4}, 5),
        ({"type": "number", "maximum": -1}, -1),
        (True, "text"),
    ],
)
def test_instances_of_schemas(schema, expected):
    assert instance_of(schema) == expected


def test_a_schema_that_never_ends_is_cut():
    endless = {
        "$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["n"]}},
        "$ref": "#/$defs/n",
    }
    assert json.dumps(instance_of(endless)).count("n") > 5
    assert instance_of({"$ref": "#"}) == "text"
    assert instance_of({"$ref": "#/a/0", "a": [1]}) == "text"


def test_words_give_their_numbers_once():
    words = Words("7 of 9")
    assert [words.number(0), words.number(0), words.number(0)] == [7, 9, 0]


def test_format_json_gives_an_object(serve):
    assert json.loads(text(serve("m"), format="json")) == {}


@pytest.mark.parametrize(("continues", "expected"), [(True, " asked: hi"), (False, "You asked: hi")])
def test_a_last_assistant_message_is_continued_where_the_template_leaves_it_open(serve, continues, expected):
    server = serve(ScriptedModel("m", continues_prefill=continues))
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "You"}]
    assert text(server, messages=messages) == expected
    assert ("$last" in post(server, "/api/show", model="m").json()["template"]) == continues
    if continues:
        messages[-1]["content"] = "Something else"
        assert text(server, messages=messages) == " You asked: hi"


# -- what a model says of itself --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "family", "parameters"),
    [
        ("llama3.1:8b", "llama", "8.0B"),
        ("qwen2.5-coder:0.5b", "qwen2", "500.00M"),
        ("gemma3:270m", "gemma3", "270.00M"),
        ("mistral:7b-instruct-q4_0", "llama", "7.0B"),
        ("something", "something", "8.0B"),
        ("123", "llama", "8.0B"),
    ],
)
def test_family_and_parameters_are_read_from_the_name(name, family, parameters):
    card = ScriptedModel(name).card
    assert (card.family, card.parameter_size) == (family, parameters)


def test_sizes_follow_parameters_and_bits():
    sizes = [
        ScriptedModel(f"m:{size}", quantization=bits).card.size
        for size, bits in [("1b", "Q4_0"), ("1b", "F16"), ("2b", "F16"), ("2b", "odd")]
    ]
    assert sizes[0] < sizes[1] < sizes[2]
    assert sizes[3] == ScriptedModel("m:2b", quantization="Q4_K_M").card.size


def test_digests_differ_where_models_do():
    digest = ScriptedModel("m").card.digest
    assert digest == ScriptedModel("m").card.digest
    others = [
        ScriptedModel("n"),
        ScriptedModel("m", system="x"),
        ScriptedModel("m", parameters={"seed": 1}),
        ScriptedModel("m", template="x"),
    ]
    assert len({digest, *(model.card.digest for model in others)}) == 5


def test_everything_it_says_is_shown(serve):
    model = ScriptedModel(
        "me/mine:1b",
        capabilities=["completion"],
        template="{{ .Prompt }}",
        system="Be.\nKind",
        license="MIT",
        parameters={"stop": ["<a>", "b c "], "temperature": 0.5, "penalize_newline": True},
        model_info={"general.architecture": "odd", "odd.block_count": 2},
        context_length=77,
    )
    shown = post(serve(model), "/api/show", model="me/mine:1b", options={"seed": 3}).json()
    assert shown["model_info"] == {"general.architecture": "odd", "odd.block_count": 2, "odd.context_length": 77}
    assert shown["license"] == "MIT"
    assert shown["parameters"].splitlines() == [
        'stop                           "<a>"',
        'stop                           "b c "',
        "temperature                    0.5",
        "penalize_newline               true",
    ]
    assert shown["modelfile"].splitlines()[5:] == [
        "TEMPLATE {{ .Prompt }}",
        'SYSTEM "Be.',
        'Kind"',
        "PARAMETER stop <a>",
        'PARAMETER stop "b c "',
        "PARAMETER temperature 0.5",
        "PARAMETER penalize_newline true",
        "PARAMETER seed 3",
        "LICENSE MIT",
    ]
    assert post(serve(model), "/api/show", name="me/mine:1b", system="Other").json()["system"] == "Other"


def test_models_in_a_cloud_are_listed_and_answer_nobody(serve):
    server = serve(ScriptedModel("big:cloud", remote_host="https://cloud.example:443", remote_model="big"))
    (listed,) = get(server, "/api/tags")["models"]
    assert (listed["remote_host"], listed["remote_model"]) == ("https://cloud.example:443", "big")
    assert (chat(server, "big:cloud").status_code, chat(server, "big:cloud").json()) == (401, {"error": "unauthorized"})


def test_a_gate_can_be_opened_before_anybody_comes(serve):
    gate = Gate()
    assert not gate.wait_reached(timeout=0.01)
    gate.open()
    assert text(serve(ScriptedModel("m", reply=lambda _: ["a", gate, "b"]))) == "ab"


def test_a_gate_forgets_a_server_that_is_gone(serve):
    gate = Gate()
    server = serve(ScriptedModel("m", reply=["a", gate]))
    with streaming(server) as received:
        next(received)
        gate.wait_reached()
        server.stop()
    gate.open()


def test_generate_gives_a_context_unless_it_is_raw(serve):
    server = serve("m")
    assert all(
        isinstance(token, int)
        for token in post(server, "/api/generate", model="m", prompt="hi there", stream=False).json()["context"]
    )
    assert "context" not in post(server, "/api/generate", model="m", prompt="hi", raw=True, stream=False).json()
    error = post(server, "/api/generate", model="m", prompt="hi", raw=True, template="x").json()
    assert error == {"error": "raw mode does not support template, system, or context"}


def test_a_suffix_needs_a_model_that_can_insert(serve):
    seen = []
    server = serve(
        ScriptedModel(
            "m", reply=lambda request: seen.append(request.suffix) or "ok", capabilities=["completion", "insert"]
        )
    )
    assert post(server, "/api/generate", model="m", prompt="a", suffix="b", stream=False).json()["response"] == "ok"
    assert seen == ["b"]


@pytest.mark.parametrize(
    ("endpoint", "payload"), [("chat", {"messages": [{"role": "user", "content": "x"}]}), ("generate", {"prompt": "x"})]
)
def test_an_embedding_model_neither_chats_nor_generates(serve, endpoint, payload):
    server = serve(ScriptedModel("m", capabilities=["embedding"]))
    assert post(server, f"/api/{endpoint}", model="m", **payload).json() == {
        "error": f'"m" does not support {endpoint}'
    }


def test_generate_without_a_model_is_not_found_and_show_says_so(serve):
    server = serve()
    assert post(server, "/api/generate", prompt="x").json() == {"error": "model '' not found"}
    assert CLIENT.post(f"{server.url}/api/show", content=b"").json() == {"error": "missing request body"}
