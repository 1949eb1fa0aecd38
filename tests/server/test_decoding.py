"""Malformed bodies are answered in the words of Go's own decoder, recorded in ``fixtures/go-decoder.json``."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed_ollama.testing import OllamaServer, ScriptedModel, calls, gojson
from routed_ollama.testing.errors import ApiError
from routed_ollama.testing.options import merged

CASES = json.loads((Path(__file__).parent / "fixtures" / "go-decoder.json").read_text("utf-8"))
SHAPES = {"chat": calls.CHAT, "generate": calls.GENERATE, "show": calls.SHOW}


def body_of(case):
    return case["body"].encode("latin-1")


@pytest.fixture(scope="module")
def client():
    model = ScriptedModel("m", capabilities=["completion", "tools", "thinking"])
    with OllamaServer([model]) as server, httpx.Client(base_url=server.url) as client:
        yield client


@pytest.mark.parametrize("case", [each for each in CASES if "error" in each], ids=lambda case: ascii(case["body"][:60]))
def test_what_is_malformed_is_refused_in_gos_words(client, case):
    answer = client.post(f"/api/{case['endpoint']}", content=body_of(case))
    assert (answer.status_code, answer.json()) == (400, {"error": case["error"]})


@pytest.mark.parametrize(
    "case", [each for each in CASES if "error" not in each], ids=lambda case: ascii(case["body"][:60])
)
def test_what_go_accepts_is_accepted(case):
    fields, _ = calls.decode(body_of(case), SHAPES[case["endpoint"]])
    if "keep_alive_ns" in case:
        assert min(fields["keep_alive"] * 1e9, 2**63 - 1) == pytest.approx(case["keep_alive_ns"])
    if "format" in case:
        assert json.dumps(gojson.raw_field(body_of(case), "format")) == case["format"]
    if "option_error" in case:
        with pytest.raises(ApiError) as refused:
            merged(fields["options"])
        assert (refused.value.status, refused.value.text) == (500, case["option_error"])
    elif "options" in fields:
        merged(fields["options"])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_valid_json_ends_where_it_ends(value):
    text = json.dumps(value, ensure_ascii=False).encode()
    assert gojson.first_value_end(text + b" rest") == len(text)
    assert gojson.loads(text) == value


@given(st.text(st.sampled_from('{}[]":,\\ntrufalse0123.eE+- x'), max_size=12))
def test_what_is_refused_is_what_python_refuses_too(text):
    body = text.encode()
    try:
        end = gojson.first_value_end(body)
    except ValueError:
        with pytest.raises(ValueError, match="char"):
            json.loads(text)
    else:
        json.loads(body[:end])


def test_deep_nesting_is_refused_not_crashed_on(client):
    answer = client.post("/api/chat", content=b'{"a":' + b"[" * 20_000)
    assert answer.status_code == 400


def test_half_a_surrogate_pair_does_not_break_the_answer(client):
    raw = b'{"model":"m","stream":false,"messages":[{"role":"user","content":"\\ud83d"}]}'
    answer = client.post("/api/chat", content=raw).json()
    assert "\ufffd" in answer["message"]["content"]
