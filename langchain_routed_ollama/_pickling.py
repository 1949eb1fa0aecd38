"""Ready-made models in a pickle: as their class and fields, because clients hold locks and cannot be pickled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from langchain_ollama import ChatOllama
from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class _PackedModel:
    kind: type[ChatOllama]
    fields: dict[str, Any]


def packed(value: Any) -> Any:
    """Return a value that can be pickled for one that may hold ready-made models."""
    if isinstance(value, list):
        return [packed(item) for item in value]
    if isinstance(value, ChatOllama):
        return _PackedModel(type(value), {name: getattr(value, name) for name in value.model_fields_set})
    return value


def unpacked(value: Any) -> Any:
    """Return what ``packed`` was given."""
    if isinstance(value, list):
        return [unpacked(item) for item in value]
    return value.kind(**value.fields) if isinstance(value, _PackedModel) else value


def copied(value: Any) -> Any:
    """Return a copy of a field's value as far as values can be copied: lists and mappings, not what they hold."""
    if isinstance(value, list):
        return list(value)
    return dict(value) if isinstance(value, dict) else value


def private_of(model: BaseModel) -> dict[str, Any]:
    """Return what a copy of a routed model takes over besides its fields: all that is private, also a subclass's."""
    return {name: copied(value) for name, value in (model.__pydantic_private__ or {}).items() if name != "_runtime"}
