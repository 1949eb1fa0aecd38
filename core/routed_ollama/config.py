"""One model of every setting, and the only place that reads a configuration file or the environment.

Precedence, the later stronger: defaults, file, environment, arguments.

Read here and not by pydantic-settings: what is needed of that is the thirty lines of ``_with_environment``, and the
base install stays as small as it is.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from routed_ollama.errors import ConfigurationError, RoutedOllamaWarning
from routed_ollama.types import ModelCapability, Prefer, TaskType

DEFAULT_PORT = 11434
DEFAULT_HOST = f"http://127.0.0.1:{DEFAULT_PORT}"
PREFIX = "ROUTED_OLLAMA_"
"""What the names of environment variables begin with."""
_SHORT = {
    "prefer": "routing__prefer",
    "learn": "routing__learn",
    "mid_stream": "fallback__mid_stream",
    "max_attempts": "fallback__max_attempts",
}
"""Variables that go by the name of the argument."""

_Enum = TypeVar("_Enum", TaskType, ModelCapability)


def _enum_by_name(enum: type[_Enum]) -> Any:
    def find(value: Any) -> Any:
        return value.strip().lower().replace("-", "_") if isinstance(value, str) else value

    return Annotated[enum, BeforeValidator(find)]


_Task = _enum_by_name(TaskType)
_Capability = _enum_by_name(ModelCapability)
_Share = Annotated[float, Field(ge=0.0, le=1.0)]
_Positive = Annotated[float, Field(gt=0.0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Weights(_Section):
    """Shares of the score; they are normalised to sum to 1."""

    capability: Annotated[float, Field(ge=0.0)] = 0.4
    performance: Annotated[float, Field(ge=0.0)] = 0.4
    health: Annotated[float, Field(ge=0.0)] = 0.2


class RoutingConfig(_Section):
    """How the choice is made."""

    prefer: Prefer = "balanced"
    weights: Weights = Weights()
    margin: _Share = 0.05
    """By how much (0..1 of the score) another model must be better before the preferred one is left."""
    sticky: bool = True
    """Whether a conversation stays with the model that is answering it: unless another is better by the margin, or,
    where it carries that model's tool calls or reasoning, unless that fails. One that has a name (``session``) stays in
    either case."""
    learn: bool = True
    """False freezes the history: nothing is recorded, so the same request gives the same choice."""
    memory_share: Annotated[float, Field(gt=0.0, le=4.0)] = 0.9
    """Models larger than this share of a local host's memory are left out, unless named."""


class HealthConfig(_Section):
    """The monitor and the circuits."""

    interval: Annotated[float, Field(ge=0.0)] = 300.0
    """Seconds between two looks of the background monitor; 0 turns it off."""
    failure_threshold: Annotated[int, Field(ge=1)] = 3
    """Failures in a row that open a circuit."""
    recovery_timeout: _Positive = 30.0
    """Seconds an open circuit waits before it lets one request through; doubles at each further opening."""
    max_recovery_timeout: _Positive = 600.0
    refresh: Annotated[float, Field(ge=0.0)] = 5.0
    """How old, in seconds, the knowledge of what is in memory may grow before it is renewed off the request's way."""


class FallbackConfig(_Section):
    """What happens when a model fails."""

    max_attempts: Annotated[int, Field(ge=1)] | None = None
    """None: every model that can serve."""
    mid_stream: Literal["continue", "raise"] = "continue"


class RoleConfig(_Section):
    """A role of an agent; what is left out keeps the role's default."""

    prompt: str | None = None
    temperature: Annotated[float, Field(ge=0.0)] | None = None
    task_type: _Task | None = None  # type: ignore[valid-type]
    options: dict[str, Any] = Field(default_factory=dict)


class RouterConfig(_Section):
    """Every setting of a router.

    Attributes:
        task_specific_models: models that lead for a task, in their order.
        model_capabilities: what a model is good at: a list of names, or names with values from 0 to 1.
        hosts: base URLs of Ollama servers; empty means ``OLLAMA_HOST``, else loopback port 11434.
        store: ``"memory"``, a path, a URL; None for the file in the user's state folder.
        timeouts: bounds in seconds by phase; see ``Timeouts``.

    Example:
        >>> RouterConfig.model_validate({"task_specific_models": {"CODING": ["codellama:13b"]}}).routing.prefer
        'balanced'
    """

    task_specific_models: dict[_Task, list[str]] = Field(default_factory=dict)  # type: ignore[valid-type]
    model_capabilities: dict[str, dict[_Capability, _Share]] = Field(default_factory=dict)  # type: ignore[valid-type]
    routing: RoutingConfig = RoutingConfig()
    roles: dict[str, RoleConfig] = Field(default_factory=dict)
    hosts: list[str] = Field(default_factory=list)
    health: HealthConfig = HealthConfig()
    fallback: FallbackConfig = FallbackConfig()
    store: str | None = None
    timeouts: dict[str, float | None] = Field(default_factory=dict)

    @classmethod
    def load(cls, source: RouterConfig | Mapping[str, Any] | str | Path | None = None) -> RouterConfig:
        """Return the configuration of a file (JSON or TOML), a mapping, or the defaults, with the environment on top.

        ``ROUTED_OLLAMA_CONFIG`` names the file when ``source`` is None. Every key has a variable that overrides the
        file: ``ROUTED_OLLAMA_STORE``, ``ROUTED_OLLAMA_HOSTS`` (with commas between), ``ROUTED_OLLAMA_PREFER``,
        ``ROUTED_OLLAMA_LEARN``, ``ROUTED_OLLAMA_MID_STREAM``, ``ROUTED_OLLAMA_MAX_ATTEMPTS``; of the others the
        sections and the key, with two underscores between: ``ROUTED_OLLAMA_HEALTH__INTERVAL``. Objects, lists and
        ``null`` are written as JSON.

        Raises:
            ConfigurationError: says which file, line or key is wrong and what was expected.
        """
        if isinstance(source, RouterConfig):
            return source
        origin = "the configuration"
        if source is None:
            source = os.environ.get("ROUTED_OLLAMA_CONFIG") or {}
        if isinstance(source, str | Path):
            origin = str(source)
            source = _read(Path(source).expanduser())
        return cls._checked(_with_environment(dict(source)), origin)

    @classmethod
    def _checked(cls, data: dict[str, Any], origin: str) -> RouterConfig:
        data = {key: value for key, value in data.items() if not str(key).startswith("$")}
        data["model_capabilities"] = _capability_values(data.get("model_capabilities", {}), origin)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ConfigurationError(_explain(error, origin)) from None

    def overridden(self, **changes: Any) -> RouterConfig:
        """Return a copy in which arguments replace what the file said; None changes nothing.

        Args:
            **changes: ``prefer``, ``learn``, ``mid_stream``, ``max_attempts``, ``store``, ``hosts``, ``timeouts``.

        Raises:
            ConfigurationError: names the argument and what was expected.
        """
        sections = {"prefer": "routing", "learn": "routing", "mid_stream": "fallback", "max_attempts": "fallback"}
        data = self.model_dump()
        for key, value in changes.items():
            if value is None:
                continue
            section = sections.get(key)
            (data[section] if section else data)[key] = value
        try:
            return type(self).model_validate(data)
        except ValidationError as error:
            raise ConfigurationError(_explain(error, "the arguments")) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError(
            f"Cannot read the configuration file {path}: {error.strerror}. Check the path, or leave it out."
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text: {error}. Save it as UTF-8.") from None
    try:
        data = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"{path}, line {error.lineno}, column {error.colno}: not JSON: {error.msg}.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: not TOML: {error}.") from None
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path}: expected an object at the top, found {type(data).__name__}.")
    return data


def _with_environment(data: dict[str, Any]) -> dict[str, Any]:
    known = [*RouterConfig.model_fields, *_SHORT, "config"]
    for variable in sorted(os.environ):
        name = variable.removeprefix(PREFIX).lower()
        if name == variable.lower() or name == "config" or not os.environ[variable].strip():
            continue
        first, *keys = _SHORT.get(name, name).split("__")
        if first not in RouterConfig.model_fields:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {PREFIX}{near[0].upper()}?" if near else ""
            warnings.warn(f"The variable {variable} means nothing here.{hint}", RoutedOllamaWarning, stacklevel=4)
            continue
        data = _with_value(data, [first, *keys], _from_text(variable, first, os.environ[variable].strip()))
    return data


def _with_value(data: Any, path: list[str], value: Any) -> Any:
    """Return nested data with one value replaced. What is no object is left for the check to complain of."""
    if not path:
        return value
    if not isinstance(data, Mapping):
        return data
    return {**data, path[0]: _with_value(data.get(path[0], {}), path[1:], value)}


def _from_text(variable: str, section: str, text: str) -> Any:
    if text[0] in "[{" or text == "null":
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigurationError(f"{variable} is not JSON: {error.msg} (at character {error.pos}).") from None
    return [part.strip() for part in text.split(",")] if section == "hosts" else text


def _capability_values(value: Any, origin: str) -> Any:
    """Accept ``["reasoning"]`` beside ``{"reasoning": 0.9}``: a listed capability counts 0.9."""
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{origin}: model_capabilities: expected an object of model names.")
    listed = 0.9
    return {
        name: dict.fromkeys(map(str, entry), listed) if isinstance(entry, list | tuple) else entry
        for name, entry in value.items()
    }


def _explain(error: ValidationError, origin: str) -> str:
    lines = []
    for detail in error.errors():
        key = ".".join(str(part) for part in detail["loc"] if part != "[key]")
        lines.append(f"{key or 'top level'}: {detail['msg']} (found {str(detail['input'])[:60]!r})")
    return f"{origin} is not valid: " + "; ".join(lines)


def normalize_host(url: str) -> str:
    """Return a base URL in the form in which hosts are compared: scheme, host, port, path; no credentials.

    Understands what ``OLLAMA_HOST`` may hold: ``example.com``, ``:8080``, ``0.0.0.0`` (a listening address; it is
    reached over loopback), ``https://host/path``.

    Raises:
        ConfigurationError: when it is no address.

    Example:
        >>> normalize_host("0.0.0.0:8080")
        'http://127.0.0.1:8080'
    """
    text = url.strip().strip("\"'") or DEFAULT_HOST
    if "://" not in text:
        text = f"http://{text}"
    try:
        parts = urlsplit(text)
        port = parts.port
        httpx.URL(text)
    except (ValueError, httpx.InvalidURL):
        parts, port = None, None
    shown = re.sub(r"(^|//)[^/]*@", r"\1", text)
    if parts is None or re.search(r"\s", parts.netloc):
        raise ConfigurationError(f"{shown!r} is not the address of a server; expected http://host:port.")
    if parts.scheme not in {"http", "https"}:
        raise ConfigurationError(f"{shown!r}: expected http:// or https://, found {parts.scheme}://.")
    name = parts.hostname or "127.0.0.1"
    if name in {"0.0.0.0", "::"}:  # noqa: S104 (recognised, not bound)
        name = "127.0.0.1"
    if ":" in name:
        name = f"[{name}]"
    explicit = "://" in url
    default = {"http": 80, "https": 443}[parts.scheme] if explicit else DEFAULT_PORT
    return f"{parts.scheme}://{name}:{port or default}{parts.path.rstrip('/')}"


def default_host() -> str:
    """Return the host that ``OLLAMA_HOST`` names, else loopback port 11434."""
    return os.environ.get("OLLAMA_HOST") or DEFAULT_HOST
