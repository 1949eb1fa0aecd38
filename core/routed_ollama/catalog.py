"""What each model can do: Ollama's own metadata plus measured priors. A model never heard of is welcome.

The catalog is a snapshot that is replaced as a whole, so a decision reads it without a lock and never waits.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Protocol

from routed_ollama._frozen import FrozenDict
from routed_ollama.errors import RoutedOllamaError
from routed_ollama.ollama_api import OllamaHost, count_of, text_of
from routed_ollama.priors import capabilities_of, mathematics_of
from routed_ollama.types import ModelCapability, ModelInfo, Residency

_UNITS: Final = {"T": 1e3, "B": 1.0, "M": 1e-3, "K": 1e-6}
_SIZE: Final = re.compile(r"(?:(\d+)x)?(\d+(?:\.\d+)?)([tbm])(?![a-z0-9])", re.IGNORECASE)
_SIZE_ALONE: Final = re.compile(r"(?:(\d+)x)?(\d+(?:\.\d+)?)\s*([tbmk])", re.IGNORECASE)
"""A size that is the whole text may be in thousands; in a name "128k" is the length of its context."""
_NO_SIZE: Final = re.compile(r"\d{10,}")
"""Digits that are the size of nothing, whatever stands behind them."""
_OPEN_IF_LAST: Final = re.compile(r"""if\s+not\s+\(and\b(?=[^}]*"assistant")[^}]*\$last""")
"""``if not (and (eq .Role "assistant") $last)``: the closing mark is left out for a last message of the assistant."""
_LONGEST_TEMPLATE: Final = 2**15
"""Characters. The longest known, with tools and thinking, have about ten thousand."""
_SHOW_AT_ONCE: Final = 4
_SHOW_SECONDS: Final = 15.0
"""For the details of all models of a host together; what is not known by then is asked at the next look."""
_MOST_FLAGS: Final = 32
_DEFAULT_PARTS: Final = ("registry.ollama.ai/", "library/")
"""What a name may begin with that says nothing: a server lists it without."""
_CACHE_KEY: Final = "catalog"


class StateStore(Protocol):
    """Small states that outlive the process; what a store offers."""

    def load_state(self, key: str) -> Mapping[str, Any] | None:
        """Return a state, or None."""
        ...

    def save_state(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a state."""
        ...


@dataclass(frozen=True, slots=True)
class HostView:
    """What is known of one host.

    Attributes:
        models: installed models by name.
        resident: models in memory by name.
        seen_at: monotonic seconds of the last answer; None before the first.
        error: why the last look failed; empty when it did not.
    """

    models: Mapping[str, ModelInfo] = field(default_factory=lambda: MappingProxyType({}))
    resident: Mapping[str, Residency] = field(default_factory=lambda: MappingProxyType({}))
    seen_at: float | None = None
    error: str = ""

    def named(self, name: str) -> ModelInfo | None:
        """Return the installed model that a name means, in whatever case it is written; None where there is none."""
        info = self.models.get(name) or self.models.get(with_tag(name))
        if info is not None:
            return info
        wanted = folded(name)
        return next((info for installed, info in self.models.items() if folded(installed) == wanted), None)


class Catalog:
    """The models of all hosts.

    Args:
        hosts: the servers.
        overrides: what the configuration says a model is good at.
        states: where what ``/api/show`` says is kept, by digest; None for this process only.
        clock: monotonic seconds.

    Example:
        >>> Catalog.of_names(["llama3.1:8b"]).find("llama3.1:8b")[0].parameters
        8.0
    """

    def __init__(
        self,
        hosts: Iterable[OllamaHost] = (),
        *,
        overrides: Mapping[str, Mapping[ModelCapability, float]] | None = None,
        states: StateStore | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hosts = {host.url: host for host in hosts}
        self._overrides = {folded(name): said for name, said in (overrides or {}).items()}
        self._states = states
        self._clock = clock
        self._shows: dict[str, dict[str, Any]] | None = None
        self._lock = threading.RLock()
        self._views: Mapping[str, HostView] = {url: HostView() for url in self._hosts}

    @classmethod
    def of_names(
        cls, names: Iterable[str], overrides: Mapping[str, Mapping[ModelCapability, float]] | None = None
    ) -> Catalog:
        """Return a catalog of names alone: no server is needed, and none is asked."""
        catalog = cls(overrides=overrides)
        models = {name: catalog.guess(name) for name in names}
        catalog._views = {"": HostView(models=models, seen_at=0.0)}
        return catalog

    def add_host(self, host: OllamaHost) -> None:
        """Take a further server in; does nothing for one that is known."""
        with self._lock:
            if host.url not in self._hosts:
                self._hosts[host.url] = host
                self._views = {**self._views, host.url: HostView()}

    @property
    def hosts(self) -> Mapping[str, OllamaHost]:
        """The servers by URL."""
        return self._hosts

    @property
    def views(self) -> Mapping[str, HostView]:
        """What is known of each host, as of now."""
        return self._views

    def find(self, name: str, hosts: Iterable[str] | None = None) -> list[ModelInfo]:
        """Return the installed models that a name means (``llama3`` means ``llama3:latest``), one per host."""
        views = self._views
        found = (views[url].named(name) for url in (views if hosts is None else hosts) if url in views)
        return [info for info in found if info is not None]

    def installed_name(self, name: str) -> str:
        """Return a name as the servers list it; one that none has, with its tag alone."""
        views = self._views.values()
        if any(name in view.models for view in views):
            return name
        return next((info.name for view in views if (info := view.named(name)) is not None), with_tag(name))

    def guess(self, name: str, host: str = "") -> ModelInfo:
        """Return what can be said of a model from its name alone."""
        info = ModelInfo(name=name, host=host, parameters=parameters_in(name), remote=is_remote(name, {}))
        return self._judged(info)

    def resident(self, info: ModelInfo) -> bool | None:
        """Whether a model is in memory; None when its host has not said."""
        view = self._views.get(info.host)
        if view is None or view.seen_at is None or info.host == "":
            return None
        return info.name in view.resident

    def allocated_context(self, info: ModelInfo) -> int:
        """Return the context a resident model was loaded with, in tokens; 0 when unknown."""
        view = self._views.get(info.host)
        residency = view.resident.get(info.name) if view else None
        return residency.context_length if residency else 0

    def note_used(self, info: ModelInfo) -> None:
        """Note that a model has just answered, so it is in memory until a host says otherwise."""
        view = self._views.get(info.host)
        if view is not None and view.seen_at is not None and info.name not in view.resident:
            resident = {**view.resident, info.name: Residency(info.name)}
            self._put(info.host, replace(view, resident=resident))

    def forget(self, info: ModelInfo) -> None:
        """Drop a model that its host says it does not have, until the next look."""
        view = self._views.get(info.host)
        if view is not None and info.name in view.models:
            self._put(info.host, replace(view, models={k: v for k, v in view.models.items() if k != info.name}))

    def note_silent(self, url: str) -> None:
        """Note that a host never heard of keeps a request waiting; it counts as unreachable until it answers."""
        with self._lock:
            view = self._views[url]
            if view.seen_at is None and not view.error:
                self._put(url, replace(view, error=f"{url} has not answered yet"))

    def _put(self, url: str, view: HostView) -> None:
        with self._lock:
            self._views = {**self._views, url: view}

    def refresh(self, url: str) -> HostView:
        """Ask a host what is installed and in memory, and return what is known of it then. Never raises.

        What a server says of a model is asked once per digest, and believed of its own models alone.
        """
        host, began = self._hosts[url], self._clock()
        try:
            tags = host.tags()
            resident = {entry.model: entry for entry in host.resident()}
            shows = self._show_all(host, tags)
        except RoutedOllamaError as error:
            view = self._views[url]
            if view.seen_at is None or view.seen_at <= began:  # else it has answered a later question
                view = replace(view, error=str(error))
        else:
            models = {
                entry["name"]: self._judged(model_info(entry, shows.get(_key(url, entry)), url)) for entry in tags
            }
            view = HostView(models=models, resident=resident, seen_at=self._clock())
        self._put(url, view)
        return view

    def refresh_resident(self, url: str) -> HostView:
        """Ask a host what is in memory, and return what is known of it then. Never raises."""
        view = self._views[url]
        try:
            resident = {entry.model: entry for entry in self._hosts[url].resident()}
        except RoutedOllamaError as error:
            view = replace(view, error=str(error))
        else:
            view = replace(view, resident=resident, seen_at=self._clock(), error="")
        self._put(url, view)
        return view

    def _show_all(self, host: OllamaHost, tags: list[dict[str, Any]]) -> Mapping[str, dict[str, Any]]:
        with self._lock:
            if self._shows is None:
                stored = self._states.load_state(_CACHE_KEY) if self._states else None
                self._shows = {k: v for k, v in (stored or {}).items() if isinstance(v, dict)}
            known = self._shows
        missing = {key: entry["name"] for entry in tags if (key := _key(host.url, entry)) not in known}
        if not missing:
            return known
        until = self._clock() + _SHOW_SECONDS
        with ThreadPoolExecutor(_SHOW_AT_ONCE, thread_name_prefix="routed-ollama-show") as pool:
            found = pool.map(lambda name: _show(host, name) if self._clock() < until else None, missing.values())
            shows = {key: show for key, show in zip(missing, found, strict=True) if show is not None}
        listed = {_key(host.url, entry) for entry in tags}
        with self._lock:  # a host that lists other models every time must not make it grow
            kept = {k: v for k, v in self._shows.items() if k in listed or not k.startswith(f"{host.url} ")}
            self._shows = {**kept, **shows}
            if self._states:
                self._states.save_state(_CACHE_KEY, self._shows)
            return self._shows

    def _judged(self, info: ModelInfo) -> ModelInfo:
        name, family, size, bits = _NO_SIZE.sub("", info.name), info.family, info.parameters, info.quantization
        prior = capabilities_of(name, family=family, parameters=size, quantization=bits)
        override = self._overrides.get(folded(info.name), {})
        # Whoever says how well it reasons says so of mathematics, too.
        said = ModelCapability.REASONING in override
        mathematics = None if said else mathematics_of(name, family=family, parameters=size, quantization=bits)
        return replace(info, capabilities=FrozenDict({**prior, **override}), mathematics=mathematics)


def with_tag(name: str) -> str:
    """Return a model's full name as a server lists it: Ollama takes ``llama3`` for ``llama3:latest``.

    Example:
        >>> with_tag("hf.co/a/b"), with_tag("phi3:mini"), with_tag("registry.ollama.ai/library/phi3")
        ('hf.co/a/b:latest', 'phi3:mini', 'phi3:latest')
    """
    if "/" in name:
        for part in _DEFAULT_PARTS:
            if name[: len(part)].lower() == part:
                name = name[len(part) :]
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def folded(name: str) -> str:
    """Return what is equal for names that mean the same model: Ollama compares them without regard to case.

    Example:
        >>> folded("Llama3") == folded("library/llama3:latest")
        True
    """
    return with_tag(name).lower()


def is_remote(name: str, entry: Mapping[str, Any]) -> bool:
    """Whether a model runs in somebody's cloud."""
    tag = with_tag(name).rpartition(":")[2]
    return bool(entry.get("remote_host") or entry.get("remote_model")) or tag == "cloud" or tag.endswith("-cloud")


def parameters_in(text: str) -> float:
    """Return the billions of parameters that a size or a model's name tells of; 0 when it tells of none.

    Example:
        >>> parameters_in("134.52M"), parameters_in("mixtral:8x7b"), parameters_in("llama3")
        (0.13452, 56.0, 0.0)
    """
    text = _NO_SIZE.sub("", text).strip()
    found = _SIZE_ALONE.fullmatch(text) or _SIZE.search(text.rpartition(":")[2]) or _SIZE.search(text)
    if found is None:
        return 0.0
    return int(found[1] or 1) * float(found[2]) * _UNITS[found[3].upper()]


def leaves_prefill_open(template: str) -> bool | None:
    """Whether a last assistant message is gone on with, judging by Ollama's chat template.

    A template without ``.Messages`` is rendered up to ``.Response``, so it stays open. One with ``.Messages`` stays
    open where it leaves the closing mark out for the last message. None for a model without a template.
    """
    if not template.strip() or len(template) > _LONGEST_TEMPLATE:
        return None
    if "{%" in template:  # Jinja, which 0.30 and later may show, says it in other words
        return None
    if ".Messages" not in template:
        return True
    if _OPEN_IF_LAST.search(template):
        return True
    assistant = template.partition('"assistant"')[2]
    return bool(re.search(r"if\s+(?:and\s+)?\(?not\s+\$last", assistant))


def model_info(entry: Mapping[str, Any], show: Mapping[str, Any] | None, host: str) -> ModelInfo:
    """Return what a server's list (an entry of ``/api/tags``) and its details (kept from ``/api/show``) say."""
    details = entry.get("details") if isinstance(entry.get("details"), dict) else {}
    assert isinstance(details, dict)  # noqa: S101 (for the type checker: the line above made sure)
    show = show or {}
    flags = entry.get("capabilities") or show.get("capabilities")
    size = text_of(details.get("parameter_size"))
    return ModelInfo(
        name=entry["name"],
        host=host,
        digest=text_of(entry.get("digest")),
        family=text_of(details.get("family")),
        parameters=parameters_in(size) or parameters_in(entry["name"]),
        quantization=text_of(details.get("quantization_level")),
        size=count_of(entry.get("size")),
        context_length=count_of(show.get("context_length")) or count_of(details.get("context_length")),
        flags=frozenset(_flags(flags)) if isinstance(flags, list) else frozenset(),
        flags_known=isinstance(flags, list),
        remote=is_remote(entry["name"], entry),
        continues_prefill=show.get("continues_prefill"),
    )


def _flags(said: list[Any]) -> list[str]:
    return [flag for flag in map(text_of, said[:_MOST_FLAGS]) if flag]


def _key(url: str, entry: Mapping[str, Any]) -> str:
    """Return what a model's details are kept by: with the host, for one may lie about the other's models."""
    return f"{url} {text_of(entry.get('digest')) or entry['name']}"


def _show(host: OllamaHost, name: str) -> dict[str, Any] | None:
    """Return the few facts worth keeping of ``/api/show``; None when the server cannot tell."""
    try:
        data = host.show(name)
    except RoutedOllamaError:
        return None
    info = data.get("model_info")
    info = info if isinstance(info, dict) else {}
    template, capabilities = data.get("template"), data.get("capabilities")
    context = count_of(info.get(f"{text_of(info.get('general.architecture'))}.context_length"))
    kept: dict[str, Any] = {"continues_prefill": leaves_prefill_open(template) if isinstance(template, str) else None}
    if context:
        kept["context_length"] = context
    if isinstance(capabilities, list):
        kept["capabilities"] = _flags(capabilities)
    return kept
