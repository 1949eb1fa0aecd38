"""Which models a request may go to, as they are at this moment. Reads the catalog's snapshot; never waits."""

from __future__ import annotations

import difflib
import threading
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Final

from routed_ollama._memory import total_memory
from routed_ollama.catalog import Catalog, HostView, with_tag
from routed_ollama.errors import ModelNotInstalledError, RoutedOllamaWarning
from routed_ollama.health import CircuitBoard
from routed_ollama.performance import PerformanceHistory
from routed_ollama.scoring import ModelView, standing_bar
from routed_ollama.types import Candidate, ModelInfo

Scope = Sequence[str | Candidate]
"""Models that a request may go to: names (any host) and candidates (that host only)."""

_SUGGESTIONS: Final = 3
_MOST_SCOPES: Final = 64
"""Scopes are few, but names of single calls may be many."""


class InFlight:
    """How many requests each model is busy with, as far as this process knows."""

    def __init__(self) -> None:
        self._counts: dict[Candidate, int] = {}
        self._lock = threading.Lock()

    def add(self, candidate: Candidate, step: int) -> None:
        """Note that a request began (1) or ended (-1)."""
        with self._lock:
            count = self._counts.get(candidate, 0) + step
            if count > 0:
                self._counts[candidate] = count
            else:
                self._counts.pop(candidate, None)

    def of(self, candidate: Candidate) -> int:
        """Return the number of requests under way."""
        return self._counts.get(candidate, 0) if self._counts else 0

    @property
    def none(self) -> bool:
        """Whether no request is under way."""
        return not self._counts


class Views:
    """Makes the list of models that a decision looks at.

    Args:
        catalog: what is installed.
        history: for the recent record.
        circuits: for the state of each circuit.
        memory_share: models larger than this share of a local host's memory are left out, unless named.
    """

    def __init__(
        self, catalog: Catalog, history: PerformanceHistory, circuits: CircuitBoard, memory_share: float
    ) -> None:
        self._catalog = catalog
        self._history = history
        self._circuits = circuits
        self._memory_share = memory_share
        self.in_flight = InFlight()
        self._members_of: dict[tuple[object, ...], tuple[object, list[ModelView]]] = {}
        self._views_of: dict[tuple[object, ...], tuple[tuple[object, ...], list[ModelView]]] = {}
        self._untold: dict[str, None] = {}
        self._told: set[str] = set()

    def of(self, scope: Scope | None, extra: Sequence[str] = ()) -> list[ModelView]:
        """Return the models of a scope (None: every installed one) and those named besides."""
        key = (scope if scope is None or isinstance(scope, tuple) else tuple(scope), extra)
        snapshot = self._catalog.views
        quiet = self._circuits.all_closed and self.in_flight.none
        state = (snapshot, self._history.version)
        cached = self._views_of.get(key)
        if quiet and cached is not None and cached[0] == state:
            return cached[1]
        views = [self._now(view) for view in self._standing(key, snapshot)]
        if quiet:
            self._views_of[key] = (state, views)
        return views

    def _standing(self, key: tuple[Any, ...], snapshot: object) -> list[ModelView]:
        cached = self._members_of.get(key)
        if cached is None or cached[0] is not snapshot:
            if len(self._members_of) > _MOST_SCOPES:
                self._members_of.clear()
                self._views_of.clear()
            cached = (snapshot, self._members(*key))
            self._members_of[key] = cached
        return cached[1]

    def _now(self, view: ModelView) -> ModelView:
        info, resident, _, _, _, named, reachable, barred = view
        candidate = info.candidate
        return ModelView(
            info,
            resident,
            self.in_flight.of(candidate),
            self._circuits.state(candidate),
            self._history.recent_success(candidate),
            named,
            reachable,
            barred,
        )

    def _members(self, scope: Scope | None, extra: Sequence[str]) -> list[ModelView]:
        members: dict[Candidate, tuple[ModelInfo, bool]] = {}
        if scope is None:
            for view in self._catalog.views.values():
                members.update({info.candidate: (info, False) for info in view.models.values()})
        for entry in (*(scope or ()), *extra):
            found = self._find(entry)
            for info in found:
                members[info.candidate] = (info, True)
            if not found and not any(view.error for view in self._catalog.views.values()):
                self._untold[entry if isinstance(entry, str) else entry.model] = None
        views = self._catalog.views
        return [self._standing_view(info, views.get(info.host), named=named) for info, named in members.values()]

    def _find(self, entry: str | Candidate) -> list[ModelInfo]:
        if isinstance(entry, Candidate):
            found = self._catalog.find(entry.model, [entry.host])
            return found or self._guesses(entry.model, [entry.host])
        return self._catalog.find(entry) or self._guesses(entry, self._catalog.views)

    def _guesses(self, name: str, hosts: Iterable[str]) -> list[ModelInfo]:
        """A named model on a host that has not said yet what it has, is worth asking for."""
        views = self._catalog.views
        silent = [url for url in hosts if (view := views.get(url)) is None or view.seen_at is None]
        return [self._catalog.guess(with_tag(name), url) for url in silent]

    def _standing_view(self, info: ModelInfo, host: HostView | None, *, named: bool) -> ModelView:
        seen = host is not None and host.seen_at is not None and bool(info.host)
        return ModelView(
            info,
            resident=info.name in host.resident if host is not None and seen else None,
            named=named,
            reachable=host is None or not host.error,
            barred=standing_bar(info, named=named, too_large=not named and self._too_large(info)),
        )

    def _too_large(self, info: ModelInfo) -> bool:
        memory = total_memory()
        host = self._catalog.hosts.get(info.host)
        return bool(memory and info.size > memory * self._memory_share and host is not None and host.local)

    def not_installed(self, scope: Scope) -> ModelNotInstalledError | None:
        """Return the error for a scope of which no model is installed, with the nearest names; None if some is."""
        if self.of(scope):
            return None
        self._untold.clear()  # the error says it
        names = [entry.model if isinstance(entry, Candidate) else entry for entry in scope]
        hint = self._similar(names[0] if names else "")
        wanted = ", ".join(f"'{name}'" for name in names)
        return ModelNotInstalledError(
            f"model {wanted} not found: it is not installed.{hint} Install it with `ollama pull {names[0]}`."
        )

    def tell_missing(self) -> None:
        """Warn of each model that was named and is not installed, once; for a request that others serve."""
        if not self._untold:
            return
        untold, self._untold = self._untold, {}
        if len(self._told) > _MOST_SCOPES:
            self._told.clear()
        for name in untold.keys() - self._told:
            self._told.add(name)
            warnings.warn(
                f"model '{name}' is not installed, so others answer.{self._similar(name)}",
                RoutedOllamaWarning,
                stacklevel=2,
            )

    def _similar(self, name: str) -> str:
        """Return what is installed that a name may have meant, as a sentence."""
        installed = sorted({name for view in self._catalog.views.values() for name in view.models})
        near = difflib.get_close_matches(name, installed, n=_SUGGESTIONS, cutoff=0.4)
        if near:
            return f" Installed and similar: {', '.join(near)}."
        return f" Installed: {', '.join(installed[:8])}." if installed else ""
