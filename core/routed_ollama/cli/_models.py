"""``routed-ollama models``: what is thought of each model before it has answered, and what that rests on.

Law: a server is asked what it has, never to answer or to load. Names alone need no server.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import typer
from rich.text import Text

from routed_ollama.catalog import Catalog, folded
from routed_ollama.cli._console import console, plain
from routed_ollama.cli._sheet import Field, show_table
from routed_ollama.config import usual_hosts
from routed_ollama.errors import ConfigurationError, HostUnreachableError, RoutedOllamaWarning
from routed_ollama.fallback import unreachable_message
from routed_ollama.ollama_api import OllamaHost
from routed_ollama.priors import Evidence, evidence_of, strength_by
from routed_ollama.priors.names import profile_of
from routed_ollama.types import ModelCapability, ModelInfo

_C = ModelCapability
_COLUMNS: Final = {
    _C.CODE_GENERATION: "code", _C.CODE_ANALYSIS: "read", _C.REASONING: "logic", _C.ACCURACY: "facts",
    _C.INSTRUCTION_FOLLOWING: "instr", _C.CREATIVITY: "ideas", _C.SPEED: "speed",
}  # fmt: skip
_NAME_WIDTH: Final = 20
"""Columns that a model's name is given before it is folded."""
_IN_MEMORY: Final = {True: "yes", False: "no", None: "?"}
_LEGEND: Final = (
    "Percent of public benchmarks that each is expected to solve: writing and reading code, logic, facts, following "
    "instructions, ideas; compare models, not columns. Evidence: measured by others (in how many benchmarks), sparse "
    "(in one), reported by its maker, sibling of a measured one, or a curve over size and date."
)


@dataclass(frozen=True, slots=True)
class Known:
    """A model, and what is thought of it.

    Attributes:
        info: what the server or the name says.
        in_memory: whether it is loaded; None when nobody was asked.
        evidence: what its capabilities rest on.
    """

    info: ModelInfo
    in_memory: bool | None
    evidence: Evidence


def find(names: Sequence[str] = (), *, host: str | None = None) -> list[Known]:
    """Return what is known of models, the strongest first.

    Args:
        names: these alone, with or without a tag; without a server they need not be installed. Empty for all
            installed ones.
        host: URL of a server; None for the usual ones, or for none where names are given.

    Raises:
        HostUnreachableError: the server does not answer.
        ConfigurationError: a name is empty, or the server does not have it.
    """
    wanted = [name.strip() for name in names]
    if not all(wanted):
        raise ConfigurationError("A model's name is empty. Write them with spaces between: llama3.1:8b qwen3:4b")
    catalog = Catalog.of_names(wanted) if wanted and host is None else _asked([host] if host else usual_hosts())
    infos = [info for view in catalog.views.values() for info in view.models.values()]
    installed = dict.fromkeys(info.name for info in infos)
    known_names = {name.lower() for name in installed}
    if host is not None and (missing := [name for name in wanted if folded(name) not in known_names]):
        raise ConfigurationError(
            f"Not installed at {host}: {', '.join(missing)}. Installed: {', '.join(installed) or '-'}"
        )
    chosen = set(map(folded, wanted)) if host is not None and wanted else known_names
    known = [
        Known(
            info,
            catalog.resident(info),
            evidence_of(info.name, family=info.family, parameters=info.parameters),
        )
        for info in infos
        if info.name.lower() in chosen
    ]
    return sorted(known, key=lambda each: (-strength_by(each.info.capabilities), each.info.name, each.info.host))


def _asked(urls: Sequence[str]) -> Catalog:
    """Ask servers what they have; one that is silent is passed over while another answers."""
    servers = [OllamaHost(url) for url in urls]
    catalog = Catalog(servers)
    try:
        views = {server.url: catalog.refresh(server.url) for server in servers}
    finally:
        for server in servers:
            server.close()
    errors = [view.error for view in views.values() if view.error]
    if len(errors) == len(views):
        raise HostUnreachableError(unreachable_message(", ".join(views), errors[0]))
    for error in errors:
        warnings.warn(error, RoutedOllamaWarning, stacklevel=2)
    return catalog


def show(known: Sequence[Known], *, as_json: bool) -> None:
    """Print it."""
    if as_json:
        typer.echo(json.dumps([as_dict(each) for each in known], indent=2))
        return
    out = console()
    if not known:
        out.print("No model is installed. Install one, for example: `ollama pull llama3.2`.")
        return
    show_table(out, _fields(known))
    out.print(Text(_LEGEND, style="dim"))


def _fields(known: Sequence[Known]) -> list[Field]:
    """The table's columns; what a server says of a model may go where room lacks, what is thought of it stays."""
    infos = [each.info for each in known]
    hosts = [plain(info.host) for info in infos]
    percents = {
        name: [f"{info.capabilities[capability]:.0%}".rstrip("%") for info in infos]
        for capability, name in _COLUMNS.items()
    }
    return [
        Field("model", [plain(info.name) for info in infos], fold=_NAME_WIDTH, style="bold"),
        *([Field("host", hosts, fold=_NAME_WIDTH)] if len(set(hosts)) > 1 else ()),
        Field("size", [f"{info.parameters:.3g}B" if info.parameters else "?" for info in infos], figures=True, spare=4),
        Field("quant", [plain(_quantization(info)) or "?" for info in infos], figures=True, spare=1),
        Field("context", [_tokens(info) for info in infos], figures=True, spare=2),
        Field("mem", [_IN_MEMORY[each.in_memory] for each in known], figures=True, spare=3),
        *(Field(name, cells, figures=True, spare=20 - n) for n, (name, cells) in enumerate(percents.items())),
        Field("evidence", [_evidence(each.evidence) for each in known], spare=5),
    ]


def _tokens(info: ModelInfo) -> str:
    return f"{info.context_length:,}" if info.context_length else "?"


def _evidence(evidence: Evidence) -> str:
    count = evidence.independent or evidence.maker
    return f"{evidence.grade} ({count})" if count else evidence.grade


def _quantization(info: ModelInfo) -> str:
    return info.quantization or profile_of(info.name).quantization.upper()


def as_dict(known: Known) -> dict[str, Any]:
    """Return it as plain JSON values; null where nothing is known."""
    info = known.info
    return {
        "model": info.name,
        "host": info.host or None,
        "parameters": info.parameters or None,
        "size_bytes": info.size or None,
        "quantization": _quantization(info) or None,
        "context_length": info.context_length or None,
        "in_memory": known.in_memory,
        "capabilities": {capability.value: share for capability, share in info.capabilities.items()},
        "evidence": known.evidence._asdict(),
    }
