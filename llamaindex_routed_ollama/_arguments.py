"""Arguments of the constructor: other classes' names for what is known here, and what of them is pickled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

from llama_index.llms.ollama import Ollama
from ollama import AsyncClient, Client

from llamaindex_routed_ollama._fields import Fields
from routed_ollama import warn_unknown

_RENAMED = {"timeout": "request_timeout"}
_OPTIONS = {"max_tokens": "num_predict", "stop": "stop", "num_predict": "num_predict", "num_ctx": "num_ctx"}
"""Names of other classes for what is an option of Ollama's, and so belongs into ``additional_kwargs``."""
_POSITIONS = tuple(signature(Ollama.__init__).parameters)[2:-1]
"""What the plain class takes by position after itself and the model, in its order; the last stands for all others."""

_SERVERS = ("base_url", "hosts", "router", "config")
"""Arguments that may say which servers there are."""


def by_name(given: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was given by position under its name, as the plain class takes it, and what was given by name.

    Raises:
        TypeError: there is too much of it, or something is given twice.
    """
    if len(given) > len(_POSITIONS):
        raise TypeError(f"At most {len(_POSITIONS) + 1} arguments can be given by position, not {len(given) + 1}.")
    placed = dict(zip(_POSITIONS, given, strict=False))
    if twice := placed.keys() & named.keys():
        raise TypeError(f"Given twice, by position and by name: {', '.join(sorted(twice))}.")
    return {**placed, **named}


def at_its_server(client: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields, with the address of a client of the user's where nothing else says which server to ask.

    Of a client that is not the official one, a wrapper perhaps, no address is known.
    """
    if not isinstance(client, Client | AsyncClient) or any(fields.get(name) is not None for name in _SERVERS):
        return dict(fields)
    return {**fields, "base_url": str(client._client.base_url)}  # noqa: SLF001 (it has no public name)


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
