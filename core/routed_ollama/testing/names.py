"""Model names, as Ollama reads them: ``[host/][namespace/]model[:tag]``, matched without regard to case.

Rules and limits: ollama v0.24.0 ``types/model/name.go`` and ``internal/modelref``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}", re.ASCII)
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}", re.ASCII)
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", re.ASCII)


class NameRequiredError(ValueError):
    """There is no name at all."""


class InvalidNameError(ValueError):
    """A name that cannot be one."""


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model's full name."""

    host: str
    namespace: str
    model: str
    tag: str

    @property
    def full(self) -> str:
        """All four parts."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def short(self) -> str:
        """As Ollama lists it: what is default is left out, except the tag."""
        tail = f"{self.model}:{self.tag}"
        if self.host.lower() != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{tail}"
        return tail if self.namespace.lower() == DEFAULT_NAMESPACE else f"{self.namespace}/{tail}"

    @property
    def key(self) -> str:
        """What is equal for names that mean the same model."""
        return self.full.lower()


def parse_name(text: str) -> ModelName:
    """Read a model's name; missing parts get their defaults.

    Raises:
        NameRequiredError: it is empty.
        InvalidNameError: it cannot be a name.

    Example:
        >>> parse_name("llama3.1").short
        'llama3.1:latest'
    """
    text = text.strip()
    if not text:
        raise NameRequiredError("model is required")
    rest, tag = text, ""
    if rest.rfind(":") > rest.rfind("/"):
        rest, _, tag = rest.rpartition(":")
        tag = tag or "!"  # promised by the colon but missing: not a name
    host, namespace, model = _split(rest)
    name = ModelName(host or DEFAULT_HOST, namespace or DEFAULT_NAMESPACE, model, tag or DEFAULT_TAG)
    patterns = ((_HOST, name.host), (_NAMESPACE, name.namespace), (_PART, name.model), (_PART, name.tag))
    if not all(pattern.fullmatch(part) for pattern, part in patterns):
        raise InvalidNameError("invalid model name")
    return name


def _split(text: str) -> tuple[str, str, str]:
    """Host, namespace and model; a part promised by a slash but missing becomes one that is invalid."""
    rest, slash, model = text.rpartition("/")
    if not slash:
        return "", "", model
    host, slash, namespace = rest.rpartition("/")
    if slash:
        host = host.partition("://")[2] or host
        return host or "!", namespace or "!", model or "!"
    return "", namespace or "!", model or "!"
