"""What each failure means: by status, by text as real servers send it, by the class of a broken connection."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import ollama
import pytest

from routed_ollama import (
    MEANINGS,
    DeadlineExceededError,
    EmptyAnswerError,
    FailureKind,
    HostUnreachableError,
    InvalidAnswerError,
    PromptCutError,
    RefusedAnswerError,
    RepetitiveAnswerError,
    TruncatedStreamError,
    classify,
)
from routed_ollama.fallback.failures import context_wanted

# (status, text, kind); -1 is what the official client gives an error line in the middle of a stream.
RECORDED_FROM_0_24 = [
    (-1, "an error was encountered while running the model: unexpected EOF", "crashed"),
    (500, "an error was encountered while running the model: unexpected EOF", "crashed"),
    (
        500,
        (
            "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
            "check ollama server logs for details"
        ),
        "crashed",
    ),
    (400, '"embedder:latest" does not support chat', "unsupported"),
    (400, '"embedder" does not support chat', "unsupported"),
    (400, '"smollm2:135m" does not support thinking', "unsupported"),
    (400, "registry.ollama.ai/library/smollm2:135m does not support insert", "unsupported"),
    (400, "registry.ollama.ai/library/smollm2:135m does not support tools", "unsupported"),
    (400, "illegal base64 data at input byte 0", "caller"),
    (400, "invalid character 'n' looking for beginning of object key string", "caller"),
    (
        400,
        "json: cannot unmarshal string into Go struct field ChatRequest.messages of type []api.Message",
        "caller",
    ),
    (400, 'time: invalid duration "soon"', "caller"),
    (500, 'invalid format: "\\"yaml\\""; expected "json" or a valid JSON Schema object', "caller"),
    (500, 'option "temperature" must be of type float32', "caller"),
    (400, "invalid model name", "rejected"),
    (400, "missing request body", "rejected"),
    (400, "model is required", "rejected"),
    (400, "the input length exceeds the context length", "context"),
    (404, "model 'nosuch' not found", "missing"),
    (
        500,
        (
            "llama runner process has terminated: error loading model: missing tensor 'blk.30.attn_norm.weight'\n"
            "panic: unable to load model: /models/blobs/sha256-fb2bb254df5d"
        ),
        "load",
    ),
    (500, "timed out waiting for llama runner to start - progress 0.00 - ", "load"),
    (503, "server busy, please try again.  maximum pending requests exceeded", "busy"),
]

OTHER_TEXTS_OF_OLLAMA = [
    (404, 'model "x" not found, try pulling it first', "missing"),
    (500, "model requires more system memory (12.0 GiB) than is available (7.5 GiB)", "out_of_memory"),
    (500, "llama-server process has terminated: exit status 1", "load"),
    (500, "llama-server process has terminated: cudaMalloc failed: out of memory", "out_of_memory"),
    (500, "llama-server reported out-of-memory during startup: unable to allocate CUDA0 buffer", "out_of_memory"),
    (500, "timed out waiting for llama-server to start - progress 0.42 - ", "load"),
    (
        400,
        (
            '{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it",'
            '"type":"exceed_context_size_error","n_prompt_tokens":9000,"n_ctx":4096}}'
        ),
        "context",
    ),
    (400, "the prompt is longer than the context length currently available", "context"),
    (
        500,
        "error parsing tool call: raw='{\"path\": \"a\"]', err=invalid character ']' after object key:value pair",
        "invalid",
    ),
    (-1, "error parsing tool call: raw='We need to say: out of memory', err=invalid character 'W'", "invalid"),
    (500, "prediction aborted, token repeat limit reached", "repeating"),
    (-1, "prediction aborted, token repeat limit reached", "repeating"),
    (401, "unauthorized", "unauthorized"),
    (403, "ollama cloud is disabled: remote inference is unavailable", "unauthorized"),
    (499, "request canceled", "load"),
]

WITHOUT_A_KNOWN_TEXT = [
    (401, "", "unauthorized"),
    (403, "<html>a proxy said: not found</html>", "unauthorized"),
    (404, "", "missing"),
    (408, "", "server"),
    (418, "teapot", "rejected"),
    (422, "", "rejected"),
    (429, "slow down", "busy"),
    (500, "something new", "server"),
    (502, "<html>Bad Gateway</html>", "server"),
    (503, "", "busy"),
    (504, "", "server"),
    (-1, "something new", "crashed"),
]


@pytest.mark.parametrize(
    ("status", "text", "kind"), [*RECORDED_FROM_0_24, *OTHER_TEXTS_OF_OLLAMA, *WITHOUT_A_KNOWN_TEXT]
)
def test_a_servers_answer_is_known_by_its_text_and_status(status: int, text: str, kind: str) -> None:
    # The official client takes the text out of a JSON body {"error": text}, as here.
    assert classify(ollama.ResponseError(json.dumps({"error": text}), status)).value == kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ConnectError("refused"), "unreachable"),
        (httpx.ConnectTimeout("too long"), "unreachable"),
        (httpx.ProxyError("no way"), "unreachable"),
        (HostUnreachableError("nobody"), "unreachable"),
        (ConnectionError("Failed to connect to Ollama."), "unreachable"),  # as the official client raises it
        (ConnectionRefusedError(), "unreachable"),
        (ConnectionResetError(), "disconnected"),
        (ConnectionAbortedError(), "disconnected"),
        (BrokenPipeError(), "disconnected"),
        (httpx.ReadError("reset"), "disconnected"),
        (httpx.RemoteProtocolError("peer closed connection"), "disconnected"),
        (httpx.StreamClosed(), "disconnected"),
        (OSError("no route"), "disconnected"),
        (httpx.ReadTimeout("silence"), "deadline"),
        (httpx.PoolTimeout("full"), "deadline"),
        (TimeoutError(), "deadline"),
        (DeadlineExceededError("too long", phase="load"), "deadline"),
        (EmptyAnswerError(), "empty"),
        (InvalidAnswerError(), "invalid"),
        (RepetitiveAnswerError("again"), "repeating"),
        (RefusedAnswerError(), "refused"),
        (PromptCutError(), "context"),
        (TruncatedStreamError(), "truncated"),
        (ValueError("No data received from Ollama stream."), "empty"),
        (json.JSONDecodeError("no", "<html>", 0), "garbled"),
        (httpx.UnsupportedProtocol("ftp"), "caller"),
        (httpx.InvalidURL("what"), "caller"),
        (asyncio.CancelledError(), "cancelled"),
        (GeneratorExit(), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
        (SystemExit(), "cancelled"),
        (RuntimeError("Event loop is closed"), "cancelled"),
    ],
)
def test_a_broken_connection_is_known_by_its_class(error: BaseException, kind: str) -> None:
    assert classify(error).value == kind
    assert classify(error, sent=True).value == kind


class _Cancelled(BaseException):
    """How other event loops and greenlets cancel: not by an ``Exception``."""


@pytest.mark.parametrize("sent", [True, False, None])
def test_no_model_is_asked_after_a_cancellation_of_any_event_loop(sent: bool | None) -> None:
    assert classify(_Cancelled(), sent=sent) is FailureKind.CANCELLED


def test_an_unknown_error_is_the_callers_before_the_request_left_and_the_servers_after() -> None:
    error = KeyError("message")
    assert classify(error, sent=False) is FailureKind.CALLER
    assert classify(error) is FailureKind.CALLER
    assert classify(error, sent=True) is FailureKind.GARBLED


@pytest.mark.parametrize("error", [FileNotFoundError("pixel.png"), OSError("no route")])
def test_what_could_not_be_read_before_the_request_left_is_no_broken_connection(error: OSError) -> None:
    assert classify(error, sent=False) is FailureKind.CALLER


def test_every_kind_has_a_meaning_and_only_cancelling_and_the_callers_own_mistakes_stop() -> None:
    assert set(MEANINGS) == set(FailureKind)
    assert {kind for kind, meaning in MEANINGS.items() if not meaning.go_on} == {
        FailureKind.CANCELLED,
        FailureKind.CALLER,
    }


def test_no_model_is_blamed_for_what_it_could_not_help() -> None:
    blameless = {kind.value for kind, meaning in MEANINGS.items() if not meaning.blames_model}
    assert blameless == {
        "cancelled",
        "caller",
        "missing",
        "unsupported",
        "context",
        "rejected",
        "busy",
        "unreachable",
    }


def recorded_errors() -> set[tuple[int, str]]:
    """Every error a real server was recorded to answer with: the status, and the text as the client gives it."""
    found = set()
    for file in sorted((Path(__file__).parents[1] / "server" / "fixtures" / "ollama-0.24.0").glob("*.json")):
        for step in json.loads(file.read_text(encoding="utf-8"))["steps"]:
            for line in step["lines"] or ():
                text = line.removeprefix('{"error":')
                if text != line:
                    found.add((-1 if step["status"] == 200 else step["status"], str(json.loads(line)["error"])))
    return found


def test_every_recorded_error_is_in_the_table() -> None:
    recorded = recorded_errors()
    assert len(recorded) > 15
    expected = {text.partition("/models/")[0]: kind for _, text, kind in RECORDED_FROM_0_24}
    for status, text in recorded:
        kind = classify(ollama.ResponseError(text, status))
        assert kind.value == expected[text.partition("/models/")[0]], text


@pytest.mark.parametrize(
    ("text", "expected", "wanted"),
    [
        ("the input length exceeds the context length", 100, 4097),
        ("the input length exceeds the context length", 8000, 8000 * 1.25 + 1024),
        ('{"error":{"code":400,"n_prompt_tokens":9000,"n_ctx":4096}}', 100, 9000 + 1024),
        ("n_prompt_tokens: " + "9" * 5_000, 100, 4097),
    ],
)
def test_how_much_context_is_wanted_is_what_the_server_says_or_the_estimate(text, expected, wanted) -> None:
    assert context_wanted(ollama.ResponseError(text, 400), expected) == wanted
