"""The fields of ``RoutedOllama``: every field of the plain class, and the router's own.

A test compares them with ``Ollama``'s, so that a new one there is noticed. What is written out by ``to_dict`` holds no
secret: headers, keys and what clients are made of stay out, and URLs lose their credentials.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.llms.ollama import Ollama
from pydantic import ConfigDict, Field, SecretStr, SkipValidation, field_serializer, field_validator
from pydantic.json_schema import SkipJsonSchema

from routed_ollama import MidStream, Prefer, Router, RouterConfig, Timeouts, normalize_host

OPTION_FIELDS = (
    "temperature",
    "context_window",
    "prompt_key",
    "json_mode",
    "additional_kwargs",
    "is_function_calling_model",
    "keep_alive",
    "thinking",
)
"""Fields of the plain class that go to every candidate built by name."""


class Fields(FunctionCallingLLM):
    """Fields only; see ``RoutedOllama``."""

    model_config = ConfigDict(hide_input_in_errors=True)  # URLs and headers hold credentials

    models: SkipValidation[list[Any]] | None = None
    """Names, and ready-made ``Ollama`` instances, to choose among; None for every installed chat model."""

    model: str | None = None
    """The preferred model: it answers unless another is expected to do better by a margin, or it cannot."""

    hosts: list[str] | None = None
    """Base URLs of several Ollama servers."""

    prefer: Prefer | None = None
    """The better answer (``"quality"``), the faster one (``"speed"``), or ``"balanced"``."""

    config: SkipValidation[Any] = Field(default=None, repr=False)
    """A ``RouterConfig``, a mapping, or the path of a JSON or TOML file."""

    router: SkipJsonSchema[Router | None] = Field(default=None, repr=False, exclude=True)
    """A router to share with other models; one is made when None."""

    store: SkipValidation[Any] = Field(default=None, repr=False)
    """Where history is kept: ``"memory"``, a path, ``sqlite:///path``, or a store; None for the user's state folder."""

    mid_stream: MidStream | None = None
    """``"continue"`` (default) or ``"raise"``: what to do when a model fails in mid-answer."""

    max_attempts: int | None = Field(default=None, ge=1)
    """How many models are asked at most; None for all."""

    timeouts: SkipValidation[Timeouts | Mapping[str, Any] | None] = None
    """Bounds by phase, in seconds: ``connect``, ``load``, ``first_token``, ``between_tokens``, ``total``."""

    learn: bool | None = None
    """False freezes the history, so that the same request gives the same choice."""

    api_key: SecretStr | None = Field(default=None, repr=False, exclude=True)
    """Sent to every host as a bearer token; default the environment variable ``OLLAMA_API_KEY``."""

    client_kwargs: SkipValidation[dict[str, Any]] = Field(default_factory=dict, repr=False, exclude=True)
    """Keyword arguments of the HTTP clients: ``proxy``, ``verify``, ``transport``, ..."""

    # What the plain class has: its documentation holds.
    base_url: str | None = Field(default=None, repr=False)
    temperature: float | None = None
    context_window: int = -1
    """Tokens; -1 for ``DEFAULT_CONTEXT_WINDOW``, which the router sees to."""
    request_timeout: float | None = Field(default=None, gt=0)
    """Seconds; an upper bound on every single wait. None leaves each phase its own."""
    prompt_key: str = "prompt"
    json_mode: bool = False
    additional_kwargs: dict[str, Any] = Field(default_factory=dict)
    is_function_calling_model: bool = True
    keep_alive: float | str | None = None
    thinking: bool | Literal["low", "medium", "high"] | None = None
    headers: dict[str, str] | None = Field(default=None, repr=False, exclude=True)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Show ready-made models by their names, for they may hold headers; and hosts without their passwords."""
        for name, value in super().__repr_args__():
            if name == "models" and value is not None:
                yield name, [entry.model if isinstance(entry, Ollama) else entry for entry in value]
            elif name == "hosts" and value is not None:
                yield name, [normalize_host(url) for url in value]
            else:
                yield name, value

    @field_validator("models", mode="before")
    @classmethod
    def _list_models(cls, value: Any) -> Any:
        if value is None:
            return None
        entries = [value] if isinstance(value, str) or not isinstance(value, list | tuple | set) else list(value)
        return [Ollama.from_dict(entry) if isinstance(entry, dict) else entry for entry in entries]

    @field_validator("store", mode="before")
    @classmethod
    def _path_as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value

    @field_serializer("models")
    def _dump_models(self, value: list[Any] | None) -> list[Any] | None:
        return None if value is None else [_dumped(entry) for entry in value]

    @field_serializer("base_url")
    def _dump_url(self, value: str | None) -> str | None:
        return None if value is None else normalize_host(value)

    @field_serializer("hosts")
    def _dump_urls(self, value: list[str] | None) -> list[str] | None:
        return None if value is None else [normalize_host(url) for url in value]

    @field_serializer("config")
    def _dump_config(self, value: Any) -> Any:
        if value is None or isinstance(value, str | Path):
            return None if value is None else str(value)
        settings = RouterConfig.load(value)
        data = settings.model_dump(mode="json", exclude_defaults=True, exclude={"store"})
        return {**data, "hosts": [normalize_host(url) for url in settings.hosts]}

    @field_serializer("store")
    def _dump_store(self, value: Any) -> str | None:
        location = value if isinstance(value, str) else None
        return None if location is None or "@" in location else location

    @field_serializer("timeouts")
    def _dump_timeouts(self, value: Any) -> Any:
        if value is None:
            return None
        bounds = Timeouts.of(value)
        return {name: getattr(bounds, name) for name in bounds.__dataclass_fields__}


def _dumped(entry: Any) -> Any:
    if not isinstance(entry, Ollama):
        return entry
    data = {name: value for name, value in entry.to_dict().items() if name != "headers"}
    return {**data, "base_url": normalize_host(entry.base_url)}
