"""Arguments of the constructor: other classes' names for what is known here, and what of them is pickled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.llms.ollama import Ollama

from llamaindex_routed_ollama._fields import Fields
from routed_ollama import warn_unknown

_RENAMED = {"timeout": "request_timeout"}
_OPTIONS = {"max_tokens": "num_predict", "stop": "stop", "num_predict": "num_predict", "num_ctx": "num_ctx"}
"""Names of other classes for what is an option of Ollama's, and so belongs into ``additional_kwargs``."""


def known(kind: type[Fields], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was given as fields of a class: other classes' names mapped, names that mean nothing warned of."""
    fields = {_RENAMED.get(name, name): value for name, value in given.items() if name not in _OPTIONS}
    options = {_OPTIONS[name]: value for name, value in given.items() if name in _OPTIONS and value is not None}
    if options:
        fields["additional_kwargs"] = {**(fields.get("additional_kwargs") or {}), **options}
    retries = fields.pop("max_retries", None)
    if retries is not None:
        fields.setdefault("max_attempts", retries + 1)
    if fields.get("additional_kwargs", {}) is None:
        del fields["additional_kwargs"]
    warn_unknown(fields, (*kind.model_fields, *_OPTIONS, *_RENAMED, "class_name"), stacklevel=4)  # to_dict adds it
    return {name: value for name, value in fields.items() if name in kind.model_fields}


def packed(entry: Any) -> Any:
    """Return what is pickled of an entry of ``models``: a ready-made one's fields as they were given, no client."""
    if not isinstance(entry, Ollama):
        return entry
    return {name: getattr(entry, name) for name in entry.model_fields_set if name != "callback_manager"}
