"""What keeps a model out of a request: each gate with its reason. Pure; nothing here is a matter of degree."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Final, NamedTuple

from routed_ollama.priors.flags import likely_flags
from routed_ollama.priors.names import profile_of
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
            not info.flags_known and "mute" in profile_of(info.name, info.family, info.parameters).variants,
            "completion",
            "looks like a model that does not chat (it embeds, ranks or guards); name it to use it",
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


def doubtful(
    views: Iterable[ModelView], flags: Sequence[str], asked_for: Container[str]
) -> tuple[Iterable[ModelView], list[Refusal]]:
    """Return the views that a request may go to, and the models refused for what their names do not say of them.

    None is refused for its name where no other model is known, or likely, to support what is needed.

    Args:
        views: all of them.
        flags: what is needed.
        asked_for: names of models that a caller wants first, whatever is thought of them.
    """
    if not flags:
        return views, []
    views = list(views)
    if all(view.info.flags_known for view in views) or not any(_likely(view, flags) for view in views):
        return views, []
    left, refused = [], []
    for view in views:
        info = view.info
        if info.flags_known or view.barred is not None or info.name in asked_for:
            left.append(view)
        elif missing := next((flag for flag in flags if flag not in _guessed(info)), ""):
            refused.append(Refusal(info.candidate, missing, f"is not known to support {missing}, as another model is"))
        else:
            left.append(view)
    return left, refused


def _likely(view: ModelView, flags: Sequence[str]) -> bool:
    info = view.info
    having = info.flags if info.flags_known else _guessed(info)
    return view.barred is None and having.issuperset(flags)


def _guessed(info: ModelInfo) -> frozenset[str]:
    return likely_flags(info.name, family=info.family, parameters=info.parameters)
