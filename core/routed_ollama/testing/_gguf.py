"""What a GGUF file says of itself: its metadata and the shapes of its tensors, without reading its weights.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little endian). Arrays of the
metadata (a vocabulary has 50 000 entries and more) are skipped and reported as None, as Ollama reports them.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from types import MappingProxyType
from typing import Any

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_COUNT = struct.Struct("<Q")
_TYPE = struct.Struct("<I")
_HEADER = struct.Struct("<4sIQQ")

FILE_TYPES: Mapping[int, str] = MappingProxyType(
    dict(enumerate(["F32", "F16", "Q4_0", "Q4_1"]))
    | dict(enumerate(["Q8_0", "Q5_0", "Q5_1", "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L"], start=7))
    | dict(enumerate(["Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "IQ2_XXS", "IQ2_XS"], start=14))
    | dict(enumerate(["Q2_K_S", "IQ3_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ3_M"], start=21))
    | dict(enumerate(["IQ2_S", "IQ2_M", "IQ4_XS", "IQ1_M", "BF16"], start=28))
    | {36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4"}
)
"""``general.file_type`` in words; the numbers are llama.cpp's ``enum llama_ftype`` (include/llama.h)."""

TENSOR_TYPES: Mapping[int, str] = MappingProxyType(
    dict(enumerate(["F32", "F16", "Q4_0", "Q4_1"]))
    | dict(enumerate(["Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K"], start=6))
    | dict(enumerate(["IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS"], start=16))
    | dict(enumerate(["I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16"], start=24))
    | {34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4"}
)
"""A tensor's type in words; the numbers are ggml's ``enum ggml_type`` (include/ggml.h)."""


class GGUFError(ValueError):
    """The file is no GGUF, is cut short in its header, or is of a version that is not read here."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Name, type and shape of one tensor."""

    name: str
    type: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """Metadata and tensors of a GGUF file."""

    metadata: Mapping[str, Any]
    """Key to value; None for every array."""
    tensors: tuple[Tensor, ...]

    @property
    def architecture(self) -> str:
        """``general.architecture``, which is also the prefix of the architecture's own keys."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def context_length(self) -> int:
        """The longest context it was trained for, in tokens; 0 when it does not say."""
        return int(self.metadata.get(f"{self.architecture}.context_length") or 0)

    @property
    def parameter_count(self) -> int:
        """Number of weights, counted in the tensors."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    @property
    def quantization(self) -> str:
        """Type of most of its weights, such as ``Q4_K_M``; ``unknown`` when it does not say."""
        return FILE_TYPES.get(self.metadata.get("general.file_type", -1), "unknown")

    @property
    def chat_template(self) -> str:
        """Its chat template (Jinja); empty for a base model."""
        return str(self.metadata.get("tokenizer.chat_template") or "")


def read_header(path: str | os.PathLike[str]) -> GGUFHeader:
    """Read a GGUF file's header.

    Args:
        path: the file.

    Returns:
        Its metadata and its tensors' shapes.

    Raises:
        GGUFError: it is none, or is cut short; the text names the file and says what was expected.
        OSError: it cannot be read.

    Example:
        >>> read_header("model.gguf").context_length  # doctest: +SKIP
        8192
    """
    with Path(path).open("rb") as file:
        try:
            return _Reader(file).header()
        except (struct.error, UnicodeDecodeError) as error:
            raise GGUFError(f"{path}: its header ends early or is damaged ({error})") from error
        except GGUFError as error:
            raise GGUFError(f"{path}: {error}") from error


class _Reader:
    """Reads what a header holds, in the order in which it stands."""

    def __init__(self, file: BufferedReader) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size

    def header(self) -> GGUFHeader:
        magic, version, tensors, entries = self._unpack(_HEADER)
        if magic != _MAGIC:
            raise GGUFError(f"not a GGUF file: it begins with {magic!r}, not {_MAGIC!r}")
        if version not in _VERSIONS:
            raise GGUFError(f"GGUF version {version}; versions {_VERSIONS[0]} and {_VERSIONS[-1]} can be read")
        metadata = {self._string(): self._value(self._one(_TYPE)) for _ in range(entries)}
        return GGUFHeader(MappingProxyType(metadata), tuple(self._tensor() for _ in range(tensors)))

    def _tensor(self) -> Tensor:
        name = self._string()
        shape = tuple(self._one(_COUNT) for _ in range(self._one(_TYPE)))
        kind = self._one(_TYPE)
        self._skip(_COUNT.size)  # where its data begins
        return Tensor(name, TENSOR_TYPES.get(kind, str(kind)), shape)

    def _value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self._one(_SCALARS[kind])
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            self._skip_array()
            return None
        raise GGUFError(f"its header is damaged: no value has type {kind}")

    def _skip_array(self) -> None:
        kind, length = self._one(_TYPE), self._one(_COUNT)
        if kind in _SCALARS:
            self._skip(length * _SCALARS[kind].size)
        elif kind == _STRING:
            for _ in range(length):
                self._skip(self._one(_COUNT))
        else:  # llama.cpp has no arrays of arrays either
            raise GGUFError(f"its header is damaged: no array holds type {kind}")

    def _one(self, layout: struct.Struct) -> Any:
        return self._unpack(layout)[0]

    def _unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(self._file.read(layout.size))

    def _string(self) -> str:
        length = self._one(_COUNT)
        self._check(length)
        return self._file.read(length).decode()

    def _skip(self, length: int) -> None:
        self._check(length)
        self._file.seek(length, os.SEEK_CUR)

    def _check(self, length: int) -> None:
        """A damaged length can ask for more than there is, or than memory holds."""
        left = self._size - self._file.tell()
        if length > left:
            raise GGUFError(f"its header is damaged: {length} bytes follow where {left} are left")
