"""Answers that are errors: status and text exactly as Ollama words them.

Those of 0.24 are recorded, or read from its source; later ones are read from the sources of v0.30.0 and v0.34.0.
"""

from __future__ import annotations

import json

from routed_ollama.testing.engine import EngineCrashedError, LoadFailedError, OutOfMemoryError
from routed_ollama.testing.scheduler import LoadTimedOutError, QueueFullError

QUEUE_FULL = "server busy, please try again.  maximum pending requests exceeded"
INPUT_TOO_LONG = "the input length exceeds the context length"
PROMPT_TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, "
    "adjust the context length in settings, or use a model with a longer context length"
)
RUNNER_STOPPED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details"
)
RUNNER_FAILED = "an error was encountered while running the model: unexpected EOF"
BAD_TOOL_CALL = 'error parsing tool call: raw=\'{"a": 6, "b"\', err=unexpected end of JSON input'
"""As for a model whose calls are parsed by Ollama itself (issue 12884 of ollama/ollama, for one)."""
REPEAT_LIMIT = "prediction aborted, token repeat limit reached"
"""From 0.34.1 on; before, such an answer ended without a word (llm/llama_server.go)."""


class ApiError(Exception):
    """Ends the handling of a request with ``{"error": text}`` at a status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def not_found(name: str) -> ApiError:
    """The model is not installed."""
    return ApiError(404, f"model '{name}' not found")


def cannot_load(error: Exception, *, llama_server: bool) -> ApiError:
    """What a client reads when its request could not be scheduled."""
    runner = "llama-server" if llama_server else "llama runner"
    if isinstance(error, QueueFullError):
        return ApiError(503, QUEUE_FULL)
    if isinstance(error, LoadTimedOutError):
        progress = "" if llama_server else "progress 0.00 - "
        return ApiError(500, f"timed out waiting for {runner} to start - {progress}")
    if isinstance(error, OutOfMemoryError):
        return ApiError(500, _out_of_memory(error, llama_server=llama_server))
    if isinstance(error, LoadFailedError):
        return ApiError(500, f"{runner} process has terminated: {error}")
    if isinstance(error, EngineCrashedError):
        return ApiError(500, RUNNER_STOPPED)
    return ApiError(500, str(error) or type(error).__name__)


def _out_of_memory(error: OutOfMemoryError, *, llama_server: bool) -> str:
    if llama_server:
        return f"llama-server reported out-of-memory during startup: {str(error) or 'failed to allocate buffer'}"
    if error.needed:
        needed, available = human_bytes(error.needed), human_bytes(error.available)
        return f"model requires more system memory ({needed}) than is available ({available})"
    return str(error) or "model requires more system memory than is available"


def human_bytes(count: int) -> str:
    """A size as Ollama writes it in errors.

    Example:
        >>> human_bytes(5_100_000_000)
        '4.7 GiB'
    """
    for factor, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def context_exceeded(prompt_tokens: int, num_ctx: int) -> str:
    """From 0.30 on, for a prompt that is too long: llama-server's own JSON inside the error's text."""
    inner = {
        "code": 400,
        "message": f"request ({prompt_tokens} tokens) exceeds the available context size ({num_ctx} tokens), "
        "try increasing it",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": prompt_tokens,
        "n_ctx": num_ctx,
    }
    return json.dumps({"error": inner}, separators=(",", ":"))
