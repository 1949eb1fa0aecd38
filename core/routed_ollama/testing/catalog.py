"""What is installed, and how ``/api/tags``, ``/api/ps`` and ``/api/show`` put it (ollama v0.24.0 server/routes.go)."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from routed_ollama.testing.engine import Engine, ModelCard
from routed_ollama.testing.errors import ApiError, not_found
from routed_ollama.testing.names import InvalidNameError, ModelName, NameRequiredError, parse_name
from routed_ollama.testing.scheduler import Listed

_FEATURES = {"image": "image generation"}
"""Capabilities whose name in an error is another."""


@dataclass(frozen=True, slots=True)
class Installed:
    """An installed model."""

    name: ModelName
    engine: Engine
    modified: float
    """UTC seconds."""

    @property
    def card(self) -> ModelCard:
        """What it says of itself."""
        return self.engine.card


class Catalog:
    """The installed models."""

    def __init__(self) -> None:
        self._models: dict[str, Installed] = {}

    def __iter__(self) -> Iterator[Installed]:
        return iter(tuple(self._models.values()))  # a snapshot: models are added from other threads

    def add(self, engine: Engine, now: float) -> Installed:
        """Install a model; one of the same name is replaced."""
        name = parse_name(engine.card.name)
        modified = engine.card.modified_at
        installed = Installed(name, engine, datetime.fromisoformat(modified).timestamp() if modified else now)
        self._models[name.key] = installed
        return installed

    def remove(self, name: str) -> Installed:
        """Delete a model.

        Raises:
            KeyError: it is not installed.
        """
        return self._models.pop(parse_name(name).key)

    def get(self, name: str) -> Installed:
        """A model by its name.

        Raises:
            NameRequiredError: the name is empty.
            InvalidNameError: it cannot be a name.
            KeyError: it is not installed.
        """
        return self._models[parse_name(name).key]


def look_up(catalog: Catalog, name: str, *, required: ApiError) -> Installed:
    """A model by what a request calls it.

    Raises:
        ApiError: it is missing (as given), cannot be a name, or is not installed.
    """
    try:
        return catalog.get(name)
    except NameRequiredError:
        raise required from None
    except InvalidNameError as error:
        raise ApiError(400, str(error)) from None
    except KeyError:
        raise not_found(name) from None


def check_capabilities(installed: Installed, wanted: Iterable[str], having: Collection[str]) -> None:
    """See to it that a model can do what a request needs, with the capabilities that it has.

    Raises:
        ApiError: 400 with what it cannot do.
    """
    lacking = [_FEATURES.get(each, each) for each in wanted if each not in having]
    if lacking:
        raise ApiError(400, f"{installed.name.full} does not support " + "\n".join(lacking))


def list_body(catalog: Catalog, *, llama_server: bool) -> dict[str, Any]:
    """The answer of ``/api/tags``: newest first."""
    models = sorted(catalog, key=lambda each: -int(each.modified))
    return {"models": [_listed(each, llama_server=llama_server) for each in models]}


def _listed(installed: Installed, *, llama_server: bool) -> dict[str, Any]:
    card = installed.card
    listed: dict[str, Any] = {"name": installed.name.short, "model": installed.name.short}
    listed |= {
        key: value for key, value in (("remote_model", card.remote_model), ("remote_host", card.remote_host)) if value
    }
    details = _details(card)
    listed |= {
        "modified_at": rfc3339(installed.modified),
        "size": card.size,
        "digest": card.digest,
        "details": details,
    }
    if llama_server:
        details["context_length"] = card.context_length
        listed["capabilities"] = list(card.capabilities)
    return listed


def ps_body(listed: Iterable[Listed]) -> dict[str, Any]:
    """The answer of ``/api/ps``."""
    return {
        "models": [
            {
                "name": each.name,
                "model": each.name,
                "size": each.card.resident_bytes(each.settings.num_ctx),
                "digest": each.card.digest,
                "details": _details(each.card),
                "expires_at": rfc3339(each.expires_at),
                "size_vram": 0,
                "context_length": each.settings.num_ctx,
            }
            for each in listed
        ]
    }


def show_body(installed: Installed, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of ``/api/show``."""
    card = installed.card
    system = fields.get("system") or card.system
    body: dict[str, Any] = {
        "license": card.license,
        "modelfile": _modelfile(installed, system, fields.get("options") or {}),
        "parameters": "\n".join(f"{name:<30} {_go_syntax(value)}" for name, value in _parameters(card.parameters)),
        "template": card.template,
        "system": system,
        "details": _details(card),
        "remote_model": card.remote_model,
        "remote_host": card.remote_host,
        "model_info": _model_info(card),
        "tensors": [dict(tensor) for tensor in card.tensors],
        "capabilities": list(card.capabilities),
        "modified_at": rfc3339(installed.modified),
    }
    return {key: value for key, value in body.items() if value or key == "model_info"}


def _details(card: ModelCard) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": card.family,
        "families": [card.family],
        "parameter_size": card.parameter_size,
        "quantization_level": card.quantization,
    }


def _model_info(card: ModelCard) -> dict[str, Any]:
    info = {"general.architecture": card.family, **card.model_info}
    info.setdefault(f"{info['general.architecture']}.context_length", card.context_length)
    return dict(sorted(info.items()))


def _modelfile(installed: Installed, system: str, options: Mapping[str, Any]) -> str:
    card = installed.card
    lines = [
        '# Modelfile generated by "ollama show"',
        "# To build a new Modelfile based on this, replace FROM with:",
        f"# FROM {installed.name.short}",
        "",
        f"FROM /models/blobs/sha256-{card.weights}",
        f"TEMPLATE {_quoted(card.template)}",
    ]
    if system:
        lines.append(f"SYSTEM {_quoted(system)}")
    parameters = _parameters({**card.parameters, **options})
    lines += [f"PARAMETER {name} {_quoted(_plain(value))}" for name, value in parameters]
    if card.license:
        lines.append(f"LICENSE {_quoted(card.license)}")
    return "\n".join(lines) + "\n"


def _parameters(parameters: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """One entry for each value; a list is several."""
    return [
        (name, each) for name, value in parameters.items() for each in (value if isinstance(value, list) else [value])
    ]


def _go_syntax(value: Any) -> str:
    """A value as Go source."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _quoted(text: str) -> str:
    """A text as a Modelfile needs it."""
    if "\n" not in text and text == text.strip(" "):
        return text
    return f'"""{text}"""' if '"' in text else f'"{text}"'


def rfc3339(seconds: float) -> str:
    """A time as Go writes it: UTC, down to what is not zero."""
    whole = int(seconds)
    text = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{seconds - whole:.9f}"[1:].rstrip("0").rstrip(".")
    return f"{text}{fraction}Z"
