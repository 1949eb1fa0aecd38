"""Options of a request: their types, and which of them a model is loaded with.

Names, types and defaults: ollama v0.24.0 ``api/types.go`` (``Options``, ``Runner``, ``DefaultOptions``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from routed_ollama.testing.engine import LoadSettings, ModelCard
from routed_ollama.testing.errors import ApiError

_INTEGERS = frozenset(
    {"num_keep", "seed", "num_predict", "top_k", "repeat_last_n", "num_ctx", "num_batch", "num_gpu", "main_gpu",
     "num_thread", "draft_num_predict"},
)  # fmt: skip
_FLOATS = frozenset(
    {"top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty"},
)
LEAST_CONTEXT = 4
LEAST_VISION_CONTEXT = 2048
"""Both from ollama v0.24.0 server/sched.go, ``GetRunner``."""


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the model and then of the request, checked; null counts as left out, unknown names are ignored.

    Raises:
        ApiError: 500, naming the option and the type it must have.
    """
    result: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            if value is not None:
                _check(name, value, result)
    return result


def _check(name: str, value: Any, result: dict[str, Any]) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in _INTEGERS:
        result[name] = int(value) if number else _refuse(name, "integer")
    elif name in _FLOATS:
        result[name] = value if number else _refuse(name, "float32")
    elif name == "use_mmap":
        result[name] = value if isinstance(value, bool) else _refuse(name, "boolean")
    elif name == "stop":
        if not isinstance(value, list | tuple):
            _refuse(name, "array")
        if not all(isinstance(item, str) for item in value):
            _refuse(name, "an array of strings")
        result[name] = list(value)


def _refuse(name: str, wanted: str) -> Any:
    raise ApiError(
        500,
        f'option "{name}" must be of type {wanted}'
        if wanted != "an array of strings"
        else f'option "{name}" must be of {wanted}',
    )


def load_settings(
    card: ModelCard, options: Mapping[str, Any], *, default_num_ctx: int, num_parallel: int, shift: bool
) -> LoadSettings:
    """With what a request wants its model loaded; the context as asked, not cut to what the model was trained for."""
    asked = max(options.get("num_ctx", default_num_ctx), LEAST_CONTEXT)
    return LoadSettings(
        num_ctx=max(asked, LEAST_VISION_CONTEXT) if "vision" in card.capabilities else asked,
        num_parallel=num_parallel if "completion" in card.capabilities else 1,
        num_batch=options.get("num_batch", 512),
        num_gpu=options.get("num_gpu", -1),
        main_gpu=options.get("main_gpu", 0),
        use_mmap=options.get("use_mmap"),
        num_thread=options.get("num_thread", 0),
        draft_num_predict=options.get("draft_num_predict", 0),
        context_shift=shift,
    )


def within_training(settings: LoadSettings, card: ModelCard) -> LoadSettings:
    """The same with no more context than the model was trained for."""
    return settings if settings.num_ctx <= card.context_length else replace(settings, num_ctx=card.context_length)
