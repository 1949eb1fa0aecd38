"""From 0.30 on: capabilities in the list, other words for the same failures, prompts cut or refused in another way."""

from __future__ import annotations

import json

import pytest
from talking import chat, get, post

from routed_ollama.testing import Fault, OllamaServer, ScriptedModel

LONG = "alpha beta gamma delta " * 200  # 1154 tokens with its frame
OPTIONS = {"num_ctx": 512, "num_predict": 2}


def serve(version, **card):
    return OllamaServer([ScriptedModel("m", **card)], version=version)


@pytest.mark.parametrize(
    ("version", "told"), [("0.24.0", False), ("0.29.9", False), ("0.30.0", True), ("0.34.0-rc1", True), ("v1.0", True)]
)
def test_capabilities_are_listed_from_0_30_on(version, told):
    with serve(version) as server:
        (listed,) = get(server, "/api/tags")["models"]
        assert listed.get("capabilities") == (["completion", "tools"] if told else None)
        assert listed["details"].get("context_length") == (8192 if told else None)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault.LOAD_ERROR, "llama-server process has terminated: exit status 2"),
        (Fault.OUT_OF_MEMORY, "llama-server reported out-of-memory during startup: failed to allocate buffer"),
    ],
)
def test_failures_in_the_words_of_0_30(fault, text):
    with serve("0.30.0") as server:
        server.fail("m", fault)
        assert (chat(server).status_code, chat(server).json()) == (500, {"error": text})


def test_a_load_that_is_given_up():
    with OllamaServer([ScriptedModel("m", load_seconds=9)], version="0.30.0", load_timeout=0.01) as server:
        assert chat(server).json() == {"error": "timed out waiting for llama-server to start - "}


@pytest.mark.parametrize(("version", "evaluated"), [("0.24.0", 512), ("0.30.0", 511), ("0.31.0", 258)])
def test_what_is_too_long_is_cut(version, evaluated):
    with serve(version) as server:
        assert chat(server, prompt=LONG, options=OPTIONS).json()["prompt_eval_count"] == evaluated
        whole = post(server, "/api/generate", model="m", prompt=LONG, options=OPTIONS, stream=False).json()
        assert whole["prompt_eval_count"] == evaluated


def refusal(server, **more):
    answer = chat(server, prompt=LONG, options=OPTIONS, **more)
    assert answer.status_code == 400
    return answer.json()["error"]


@pytest.mark.parametrize("stream", [True, False])
def test_what_must_not_be_cut_is_refused(stream):
    with serve("0.24.0") as server:
        assert refusal(server, truncate=False, stream=stream) == "the input length exceeds the context length"
    with serve("0.30.0") as server:
        inner = json.loads(refusal(server, truncate=False, stream=stream))["error"]
        assert (inner["type"], inner["n_ctx"], inner["code"]) == ("exceed_context_size_error", 512, 400)
        assert inner["n_prompt_tokens"] > 512


def test_a_model_with_a_template_of_its_own_refuses_from_0_30_on():
    with serve("0.30.0", native_template=True) as server:
        assert "exceed_context_size_error" in refusal(server)
        assert post(server, "/api/generate", model="m", prompt=LONG, options=OPTIONS, stream=False).status_code == 200
    with serve("0.24.0", native_template=True) as server:
        assert chat(server, prompt=LONG, options=OPTIONS).status_code == 200


def test_without_shifting_a_long_prompt_is_refused_from_0_31_on():
    with serve("0.34.0") as server:
        assert refusal(server, shift=False).startswith(
            "the prompt is longer than the context length currently available"
        )
    with serve("0.30.0") as server:
        assert chat(server, prompt=LONG, options=OPTIONS, shift=False).status_code == 200


def test_contexts_are_compared_as_they_were_cut_and_shifting_is_part_of_the_load():
    with serve("0.30.0", context_length=2048) as server:
        chat(server, options={"num_ctx": 9999})
        chat(server, options={"num_ctx": 2048})
        assert server.loads == {"m:latest": 1}
        chat(server, options={"num_ctx": 2048}, shift=False)
        assert server.loads == {"m:latest": 2}


def test_old_messages_go_first_and_system_messages_stay():
    seen = []
    turns = [{"role": "system", "content": "Be brief."}]
    for number in range(12):
        turns += [
            {"role": "user", "content": f"{number} " + LONG[:300]},
            {"role": "assistant", "content": f"answer {number}"},
        ]
    turns.append({"role": "user", "content": "And now?"})
    with serve("0.24.0", reply=lambda request: seen.append(request.messages) or "ok") as server:
        answer = chat(server, messages=turns, options=OPTIONS).json()
        assert answer["prompt_eval_count"] <= 512
        assert seen[0][0].content == "Be brief."
        assert seen[0][-1].content == "And now?"
        assert 2 < len(seen[0]) < 15
        chat(server, messages=[*turns, {"role": "user", "content": LONG}], options=OPTIONS)
        assert [message.content for message in seen[1]] == ["Be brief.", LONG]
        assert refusal(server, messages=turns, truncate=False) == "the input length exceeds the context length"
