"""What keeps a model out of a request: each gate with its reason. Pure; nothing here is a matter of degree."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from routed_ollama.types import NO_NEEDS, CircuitState, ModelInfo, Refusal, TaskCharacteristics

ESTIMATE_SLACK: Final = 1.2
"""The prompt's length is an estimate; a model is refused only where even a fifth less would not fit."""
_BASE: Final = frozenset({"text", "base"})
"""Parts of a tag by which Ollama's library names models without chat training: ``llama2:7b-text-q4_0``."""
HEALTH_GATES: Final = frozenset({"circuit", "reachable"})


class ModelView(NamedTuple):
    """A model as it is at the moment of a decision."""

    info: ModelInfo
    resident: bool | None = None
    in_flight: int = 0
    circuit: CircuitState = CircuitState.CLOSED
    recent_success: float = 1.0
    """Share of its last requests that went well."""
    named: bool = False
    """Whether the user named it; then it is left out for nothing but what it cannot do."""
    reachable: bool = True
    barred: tuple[str, str] | None = None
    """Gate and reason that keep it out of every request; see ``standing_bar``."""


def standing_bar(info: ModelInfo, *, named: bool, too_large: bool = False) -> tuple[str, str] | None:
    """Return the gate and the reason that keep a model out of every request; None when there are none.

    Args:
        info: the model.
        named: whether the user named it; then only what cannot chat at all is kept out.
        too_large: whether it is larger than the memory of its host.
    """
    if info.flags_known and "completion" not in info.flags:
        return ("completion", "cannot chat (no completion capability)")
    base = not _BASE.isdisjoint(info.name.rpartition(":")[2].lower().split("-"))
    unnamed = (
        (info.remote, "remote", "runs in the cloud; name it to use it"),
        (
            not info.flags_known and "embed" in info.name,
            "completion",
            "looks like an embedding model; name it to use it",
        ),
        (base, "completion", "is a base model without chat training; name it to use it"),
        (too_large, "memory", "is larger than this machine's memory; name it to use it"),
    )
    return None if named else next(((gate_name, reason) for bars, gate_name, reason in unnamed if bars), None)


def gate(view: ModelView, task: TaskCharacteristics) -> Refusal | None:
    """Return why a model cannot serve a request; None when it can."""
    info = view.info
    found = view.barred
    if found is None:
        if info.flags_known and (missing := lacking(info, needed(task))):
            found = (missing, f"does not support {missing}")
        elif info.context_length and task.prompt_tokens > info.context_length * ESTIMATE_SLACK:
            over = task.prompt_tokens - info.context_length
            found = ("context", f"prompt of about {task.prompt_tokens} tokens exceeds its context by {over}")
        elif not view.reachable:
            found = ("reachable", "its host does not answer")
        elif view.circuit is CircuitState.OPEN:
            found = ("circuit", "failed repeatedly and is resting (circuit open)")
        else:
            return None
    return Refusal(info.candidate, *found)


def needed(task: TaskCharacteristics) -> tuple[str, ...]:
    """Return Ollama's flags that a request cannot do without."""
    needs = task.needs
    return tuple(flag for flag in ("tools", "vision", "thinking") if getattr(needs, flag)) if needs != NO_NEEDS else ()


def lacking(info: ModelInfo, flags: Iterable[str]) -> str:
    return next((flag for flag in flags if flag not in info.flags), "")
