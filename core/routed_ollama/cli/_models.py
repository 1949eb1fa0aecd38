"""``routed-ollama models``: what is thought of each model before it has answered, and what that rests on.

Law: a server is asked what it has, never to answer or to load. Names alone need no server.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import typer
from rich.table import Table
from rich.text import Text

from routed_ollama.catalog import Catalog, with_tag
from routed_ollama.cli._console import console, plain
from routed_ollama.config import default_host
from routed_ollama.errors import ConfigurationError, HostUnreachableError
from routed_ollama.fallback.plan import unreachable_message
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
        host: URL of a server; None for the usual one, or for none where names are given.

    Raises:
        HostUnreachableError: the server does not answer.
        ConfigurationError: a name is empty, or the server does not have it.
    """
    wanted = [name.strip() for name in names]
    if not all(wanted):
        raise ConfigurationError("A model's name is empty. Write them with spaces between: llama3.1:8b qwen3:4b")
    catalog = Catalog.of_names(wanted) if wanted and host is None else _asked(host or default_host())
    infos = {info.name: info for view in catalog.views.values() for info in view.models.values()}
    if host is not None and (missing := [name for name in wanted if with_tag(name) not in infos]):
        raise ConfigurationError(f"Not installed at {host}: {', '.join(missing)}. Installed: {', '.join(infos) or '-'}")
    chosen = {with_tag(name) for name in wanted} if host is not None and wanted else set(infos)
    known = [
        Known(
            info,
            catalog.resident(info),
            evidence_of(info.name, family=info.family, parameters=info.parameters),
        )
        for name, info in infos.items()
        if name in chosen
    ]
    return sorted(known, key=lambda each: (-strength_by(each.info.capabilities), each.info.name))


def _asked(url: str) -> Catalog:
    server = OllamaHost(url)
    catalog = Catalog([server])
    try:
        view = catalog.refresh(server.url)
    finally:
        server.close()
    if view.error:
        raise HostUnreachableError(unreachable_message(server.url, view.error))
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
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    longest = max(len(each.info.name) for each in known)
    table.add_column("model", overflow="fold", style="bold", min_width=min(longest, _NAME_WIDTH))
    for name in ("size", "quant", "context", "mem", *_COLUMNS.values()):
        table.add_column(name, justify="right")
    table.add_column("evidence", no_wrap=True)
    for each in known:
        table.add_row(*_row(each))
    out.print(table)
    out.print(Text(_LEGEND, style="dim"))


def _row(known: Known) -> tuple[str, ...]:
    info, evidence = known.info, known.evidence
    count = evidence.independent or evidence.maker
    return (
        plain(info.name),
        f"{info.parameters:.3g}B" if info.parameters else "?",
        plain(_quantization(info)) or "?",
        f"{info.context_length:,}" if info.context_length else "?",
        _IN_MEMORY[known.in_memory],
        *(f"{info.capabilities[capability]:.0%}".rstrip("%") for capability in _COLUMNS),
        f"{evidence.grade} ({count})" if count else evidence.grade,
    )


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
