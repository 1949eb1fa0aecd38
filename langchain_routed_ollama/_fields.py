"""The fields of ``RoutedChatOllama``: every field of the plain class, and the router's own.

A test compares them with ``ChatOllama``'s, so that a new one there is noticed.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.chat_models import BaseChatModel
from pydantic import ConfigDict, Field, SecretStr, SkipValidation, field_validator, model_validator

from routed_ollama import MidStream, Prefer, RoutedOllamaWarning, Router, Timeouts

RENAMED = {"max_tokens": "num_predict", "request_timeout": "timeout"}
"""Names that other chat models use for the same thing."""

OPTION_FIELDS = (
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
    "num_ctx",
    "num_gpu",
    "num_thread",
    "num_predict",
    "repeat_last_n",
    "repeat_penalty",
    "temperature",
    "seed",
    "logprobs",
    "top_logprobs",
    "stop",
    "tfs_z",
    "top_k",
    "top_p",
    "format",
    "keep_alive",
    "reasoning",
)
"""Fields of the plain class that go to every candidate built by name."""


class Fields(BaseChatModel):
    """Fields only; see ``RoutedChatOllama``."""

    model_config = ConfigDict(hide_input_in_errors=True)  # URLs and headers hold credentials

    models: SkipValidation[list[Any]] | None = None
    """Names, and ready-made ``ChatOllama`` instances, to choose among; None for every installed chat model."""

    model: str | None = None
    """The preferred model: it answers unless another is expected to do better by a margin, or it cannot."""

    hosts: list[str] | None = Field(default=None, repr=False)
    """Base URLs of several Ollama servers."""

    prefer: Prefer | None = None
    """The better answer (``"quality"``), the faster one (``"speed"``), or ``"balanced"``."""

    config: SkipValidation[Any] = Field(default=None, repr=False)
    """A ``RouterConfig``, a mapping, or the path of a JSON or TOML file."""

    router: Router | None = Field(default=None, repr=False, exclude=True)
    """A router to share with other models; one is made when None."""

    store: SkipValidation[Any] = Field(default=None, repr=False)
    """Where history is kept: ``"memory"``, a path, ``sqlite:///path``, or a store; None for the user's state folder."""

    mid_stream: MidStream | None = None
    """``"continue"`` (default) or ``"raise"``: what to do when a model fails in mid-answer."""

    max_attempts: int | None = Field(default=None, ge=1)
    """How many models are asked at most; None for all."""

    max_retries: int | None = Field(default=None, ge=0)
    """As other chat models name it: ``max_attempts`` less one."""

    timeouts: SkipValidation[Timeouts | Mapping[str, Any] | None] = None
    """Bounds by phase, in seconds: ``connect``, ``load``, ``first_token``, ``between_tokens``, ``total``."""

    timeout: float | None = Field(default=None, gt=0)
    """Seconds; an upper bound on every single wait, as ``client_kwargs={"timeout": ...}`` is."""

    learn: bool | None = None
    """False freezes the history, so that the same request gives the same choice."""

    api_key: SecretStr | None = Field(default=None, repr=False)
    """Sent to every host as a bearer token; default the environment variable ``OLLAMA_API_KEY``."""

    attempt_callbacks: list[BaseCallbackHandler] | None = Field(default=None, repr=False, exclude=True)
    """Handlers that hear each attempt as a run of its own, failed ones included."""

    # What the plain class has: its documentation holds.
    reasoning: bool | str | None = None
    validate_model_on_init: bool = False
    mirostat: int | None = None
    mirostat_eta: float | None = None
    mirostat_tau: float | None = None
    num_ctx: int | None = None
    num_gpu: int | None = None
    num_thread: int | None = None
    num_predict: int | None = None
    repeat_last_n: int | None = None
    repeat_penalty: float | None = None
    temperature: float | None = None
    seed: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    stop: list[str] | None = None
    tfs_z: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    format: Literal["", "json"] | dict[str, Any] | None = None
    keep_alive: int | str | None = None
    base_url: str | None = Field(default=None, repr=False)
    client_kwargs: dict[str, Any] | None = Field(default_factory=dict, repr=False)
    async_client_kwargs: dict[str, Any] | None = Field(default_factory=dict, repr=False)
    sync_client_kwargs: dict[str, Any] | None = Field(default_factory=dict, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _map_names(cls, data: Any) -> Any:
        """Map other chat models' names, and warn of names that mean nothing here."""
        if not isinstance(data, dict):
            return data
        mapped: dict[str, Any] = {str(RENAMED.get(name, name)): value for name, value in data.items()}
        known: list[str] = list(cls.model_fields)
        known += [field.alias for field in cls.model_fields.values() if field.alias]
        for name in [name for name in mapped if name not in known]:
            near = [each for each in difflib.get_close_matches(name, known, n=1) if each != f"disable_{name}"]
            hint = f" Did you mean {near[0]!r}?" if near else ""
            warnings.warn(f"Unknown argument {name!r} is ignored.{hint}", RoutedOllamaWarning, stacklevel=4)
            mapped.pop(name)
        return mapped

    def __repr_args__(self) -> Any:
        """Say of a ready-made model its name alone: its URL and headers hold credentials."""
        for name, value in super().__repr_args__():
            yield name, [_shown(entry) for entry in value] if name == "models" and value else value

    @field_validator("models", mode="before")
    @classmethod
    def _list_models(cls, value: Any) -> Any:
        if value is None:
            return None
        return [value] if isinstance(value, str) or not isinstance(value, list | tuple | set) else list(value)

    @field_validator("top_logprobs")
    @classmethod
    def _positive(cls, value: int | None) -> int | None:
        if value is not None and value < 1:  # the words are the plain class's, for whoever looks for them
            raise ValueError("`top_logprobs` must be a positive integer.")
        return value

    @model_validator(mode="after")
    def _imply_logprobs(self) -> Self:
        """Switch ``logprobs`` on where ``top_logprobs`` needs it, here and not in each candidate."""
        if self.top_logprobs is None or self.logprobs is True:
            return self
        if self.logprobs is False:
            raise ValueError("`top_logprobs` needs `logprobs`, which is explicitly `False`. Leave one of them out.")
        self.logprobs = True
        text = "`top_logprobs` needs `logprobs`. Setting `logprobs=True` automatically."
        warnings.warn(text, RoutedOllamaWarning, stacklevel=4)
        return self

    @field_validator("store", mode="before")
    @classmethod
    def _path_as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value


def _shown(entry: Any) -> str:
    return entry if isinstance(entry, str) else f"{type(entry).__name__} {getattr(entry, 'model', '')}".strip()
