"""One model of every setting, and the only one that takes a configuration file or the environment.

Precedence, the later stronger: defaults, file, environment, arguments. What is wrong is one error that names the file
or the variable, the key and what it must be; it repeats no password.

Read by ``_sources`` and not by pydantic-settings: what is needed of that is the thirty lines of ``environment``, and
the base install stays as small as it is.
"""

from __future__ import annotations

import ipaddress
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from routed_ollama._sources import PREFIX, environment, explain, plain_name, read_file, with_value, without_credentials
from routed_ollama.errors import ConfigurationError
from routed_ollama.types import ModelCapability, Prefer, TaskType

DEFAULT_PORT = 11434
DEFAULT_HOST = f"http://127.0.0.1:{DEFAULT_PORT}"
_SHORT = {
    "prefer": "routing__prefer",
    "learn": "routing__learn",
    "mid_stream": "fallback__mid_stream",
    "max_attempts": "fallback__max_attempts",
}
"""Arguments of a router, by where they stand in a file; the variables go by the same names."""
_LISTS = frozenset({"hosts", "task_specific_models"})
"""Keys whose variables may hold a list with commas between."""
_LISTED = 0.9
"""What a capability counts that is listed without a value."""

_Enum = TypeVar("_Enum", TaskType, ModelCapability)


def _enum_by_name(enum: type[_Enum]) -> Any:
    return Annotated[enum, BeforeValidator(lambda value: plain_name(value) if isinstance(value, str) else value)]


def _no_flag(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")  # noqa: TRY004 (pydantic tells of a ValueError)
    return value


def _values(entry: Any) -> Any:
    """Take ``["reasoning"]`` beside ``{"reasoning": 0.9}``."""
    return dict.fromkeys(map(str, entry), _LISTED) if isinstance(entry, list | tuple) else entry


def _address(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    try:
        normalize_host(value)
    except ConfigurationError as error:
        raise ValueError(str(error)) from None
    return value


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"must be a regular expression ({error})") from None
    return value


_Task = _enum_by_name(TaskType)
_Capability = _enum_by_name(ModelCapability)
_Number = Annotated[float, BeforeValidator(_no_flag), Field(allow_inf_nan=False)]
_Count = Annotated[int, BeforeValidator(_no_flag), Field(ge=1)]
_Share = Annotated[_Number, Field(ge=0.0, le=1.0)]
_Positive = Annotated[_Number, Field(gt=0.0)]
_NotNegative = Annotated[_Number, Field(ge=0.0)]
_Name = Annotated[str, Field(min_length=1)]
_Pattern = Annotated[_Name, AfterValidator(_pattern)]
_Phase = Literal[
    "connect",
    "load",
    "first_token",
    "between_tokens",
    "total",
    "queue",
    "restart",
    "load_floor",
    "load_ceiling",
    "first_token_ceiling",
    "between_tokens_ceiling",
]
_Bound = Annotated[float, BeforeValidator(_no_flag), Field(gt=0.0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Weights(_Section):
    """Shares of the score; they are normalised to sum to 1."""

    capability: _NotNegative = 0.4
    performance: _NotNegative = 0.4
    health: _NotNegative = 0.2

    @model_validator(mode="after")
    def _weighs_something(self) -> Weights:
        if not self.capability + self.performance + self.health:
            raise ValueError("at least one of capability, performance and health must be greater than 0")
        return self


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
    explore: _Share = 0.06
    """Share of decisions at which a model may be tried that judgements might show to be the better one: for as long as
    knowing it better is worth more than what trying it costs, and only if it is not much slower. Without judgements
    nothing is tried. 0 turns it off; ``learn: false`` does, too."""
    memory_share: Annotated[_Positive, Field(le=4.0)] = 0.9
    """Models larger than this share of a local host's memory are left out, unless named."""


class HealthConfig(_Section):
    """The monitor and the circuits."""

    interval: Annotated[_NotNegative, Field(le=threading.TIMEOUT_MAX)] = 300.0
    """Seconds between two looks of the background monitor; 0 turns it off."""
    failure_threshold: _Count = 3
    """Failures in a row that open a circuit."""
    recovery_timeout: _Positive = 30.0
    """Seconds an open circuit waits before it lets one request through; doubles at each further opening."""
    max_recovery_timeout: _Positive = 600.0
    refresh: _NotNegative = 5.0
    """How old, in seconds, the knowledge of what is in memory may grow before it is renewed off the request's way."""


class FallbackConfig(_Section):
    """What happens when a model fails."""

    max_attempts: _Count | None = None
    """None: every model that can serve."""
    mid_stream: Literal["continue", "raise"] = "continue"


class RoleConfig(_Section):
    """A role of an agent; what is left out keeps the role's default."""

    prompt: str | None = None
    temperature: _NotNegative | None = None
    task_type: _Task | None = None  # type: ignore[valid-type]
    options: dict[str, Any] = Field(default_factory=dict)


class RouterConfig(_Section):
    """Every setting of a router.

    Attributes:
        task_specific_models: models that lead for a task, in their order.
        task_rules: patterns (regular expressions, in any case) by task type: what is asked for where one of them is
            found in the request. The first that is found decides.
        model_capabilities: what a model is good at: a list of names, or names with values from 0 to 1.
        hosts: base URLs of Ollama servers; empty means ``OLLAMA_HOST``, else loopback port 11434.
        store: ``"memory"``, a path, a URL; None for the file in the user's state folder.
        timeouts: bounds in seconds by phase; see ``Timeouts``.

    Example:
        >>> RouterConfig.model_validate({"task_specific_models": {"CODING": ["codellama:13b"]}}).routing.prefer
        'balanced'
    """

    task_specific_models: dict[_Task, list[_Name]] = Field(default_factory=dict)  # type: ignore[valid-type]
    task_rules: dict[_Task, list[_Pattern]] = Field(default_factory=dict)  # type: ignore[valid-type]
    model_capabilities: dict[_Name, Annotated[dict[_Capability, _Share], BeforeValidator(_values)]] = Field(  # type: ignore[valid-type]
        default_factory=dict
    )
    routing: RoutingConfig = RoutingConfig()
    roles: dict[_Name, RoleConfig] = Field(default_factory=dict)
    hosts: list[Annotated[str, AfterValidator(_address)]] = Field(default_factory=list)
    health: HealthConfig = HealthConfig()
    fallback: FallbackConfig = FallbackConfig()
    store: _Name | None = None
    timeouts: dict[_Phase, _Bound | None] = Field(default_factory=dict)

    @field_validator("roles", mode="after")
    @classmethod
    def _told_apart(cls, roles: dict[str, RoleConfig]) -> dict[str, RoleConfig]:
        names: dict[str, str] = {}
        for name in roles:
            if (other := names.setdefault(plain_name(name), name)) != name:
                raise ValueError(f"{other!r} and {name!r} are the same name")
        return roles

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Yield what is shown of it: addresses without their credentials."""
        for name, value in super().__repr_args__():
            yield name, self._shown().get(str(name), value)

    def _shown(self) -> dict[str, Any]:
        return {
            "hosts": [without_credentials(host) for host in self.hosts],
            "store": self.store and re.sub(r"(?<=://)[^/]*@", "", self.store),
        }

    def __getstate__(self) -> dict[Any, Any]:
        """Return what is pickled: addresses without their credentials, as they are known to a router."""
        state = super().__getstate__()
        return {**state, "__dict__": {**state["__dict__"], **self._shown()}}

    @classmethod
    def load(cls, source: RouterConfig | Mapping[str, Any] | str | Path | None = None) -> RouterConfig:
        """Return the configuration of a file (JSON or TOML), a mapping, or the defaults, with the environment on top.

        ``ROUTED_OLLAMA_CONFIG`` names the file when ``source`` is None. Every key has a variable that overrides the
        file: ``ROUTED_OLLAMA_STORE``, ``ROUTED_OLLAMA_HOSTS`` (with commas between), ``ROUTED_OLLAMA_PREFER``,
        ``ROUTED_OLLAMA_LEARN``, ``ROUTED_OLLAMA_MID_STREAM``, ``ROUTED_OLLAMA_MAX_ATTEMPTS``; of the others the
        sections and the key, with two underscores between: ``ROUTED_OLLAMA_ROLES__DEVELOPER__TEMPERATURE`` (``_``
        stands for ``-`` and spaces, too). Objects, lists of other things than names, and ``null`` are written as JSON.

        Raises:
            ConfigurationError: says which file, line, key or variable is wrong and what it must be.
        """
        if isinstance(source, RouterConfig):
            return source
        origin, data = _data_of(source)
        said = environment(cls.model_fields, _SHORT, _LISTS)
        for each in said:
            data = with_value(data, each.path, each.value)
        data = {key: value for key, value in data.items() if not str(key).startswith("$")}
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ConfigurationError(explain(error, origin, said, _keys_at)) from None

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
            raise ConfigurationError(explain(error, "the arguments", keys_at=_keys_at)) from None


def _data_of(source: Mapping[str, Any] | str | Path | None) -> tuple[str, dict[str, Any]]:
    """Return where settings come from, in words, and what stands there."""
    if source is None:
        variable = f"{PREFIX}CONFIG"
        if path := os.environ.get(variable, "").strip():
            return path, read_file(path, variable)
        return "the configuration", {}
    if isinstance(source, Mapping):
        return "the configuration", dict(source)
    if not isinstance(source, str | Path):
        kind = type(source).__name__
        raise ConfigurationError(f"config: expected the path of a file, a mapping or a RouterConfig, found {kind}.")
    if not str(source).strip():
        raise ConfigurationError("config: the path is empty. Leave it out to use no file.")
    return str(source), read_file(source)


def _keys_at(path: Sequence[str]) -> dict[str, str]:
    """Return what may be meant in a section, with where it stands: its keys; at the top, names of arguments, too."""
    if path[:1] == ("roles",):
        return {name: name for name in RoleConfig.model_fields}
    model: type[BaseModel] = RouterConfig
    for name in path:
        kind = model.model_fields[name].annotation if name in model.model_fields else None
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return {}
        model = kind
    arguments = {} if path else {name: place.replace("__", ".") for name, place in _SHORT.items()}
    return {**{name: name for name in model.model_fields}, **arguments}


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
    if not isinstance(url, str):
        raise ConfigurationError(f"The address of a server is text, http://host:port, not {type(url).__name__}.")
    text = url.strip().strip("\"'") or DEFAULT_HOST
    if "://" not in text:
        text = f"http://{text}"
    try:
        parts = urlsplit(text)
        port = parts.port
        httpx.URL(text)
        (parts.hostname or "").encode("idna")  # what looks a name up does this, too
    except (ValueError, httpx.InvalidURL):
        parts, port = None, None
    shown = without_credentials(text)
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
    """Return the host that ``OLLAMA_HOST`` names, else loopback port 11434.

    Raises:
        ConfigurationError: what it holds is no address.
    """
    named = _bracketed(os.environ.get("OLLAMA_HOST", "").strip().strip("\"'").strip()) or DEFAULT_HOST
    try:
        normalize_host(named)
    except ConfigurationError as error:
        raise ConfigurationError(f"OLLAMA_HOST: {error}") from None
    return named


def _bracketed(address: str) -> str:
    """Return an address as a URL has it: Ollama takes one of IPv6 without its brackets."""
    scheme, mark, rest = address.rpartition("://")
    host, slash, path = rest.partition("/")
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return address
    return f"{scheme}{mark}[{host}]{slash}{path}"


def usual_hosts() -> list[str]:
    """Return the servers that are asked where nobody names one: the configuration's, else the default host.

    Raises:
        ConfigurationError: the environment, or the file that it names, is wrong.
    """
    return list(RouterConfig.load().hosts) or [default_host()]
