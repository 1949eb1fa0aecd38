"""Reading the header of a GGUF file: what is found, and what is said of files that are damaged."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from routed_ollama.testing._gguf import GGUFError, Tensor, read_header

U32, STRING, ARRAY = 4, 8, 9


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def entry(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def array(kind: int, *items: bytes) -> bytes:
    return struct.pack("<IQ", kind, len(items)) + b"".join(items)


def tensor(name: str, kind: int, *shape: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, 0)


def gguf(entries: list[bytes], tensors: list[bytes] = [], *, magic: bytes = b"GGUF", version: int = 3) -> bytes:  # noqa: B006
    return struct.pack("<4sIQQ", magic, version, len(tensors), len(entries)) + b"".join(entries + tensors)


def read(folder: Path, data: bytes):
    path = folder / "model.gguf"
    path.write_bytes(data)
    return read_header(path)


def test_every_kind_of_value_is_read_and_arrays_are_skipped(tmp_path):
    scalars = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 10: "Q", 11: "q", 12: "d"}
    entries = [entry(f"kind{kind}", kind, struct.pack("<" + code, 7)) for kind, code in scalars.items()]
    entries += [
        entry("flag", 7, b"\x01"),
        entry("words", ARRAY, array(STRING, text("one"), text("zwei"))),
        entry("numbers", ARRAY, array(U32, b"\0" * 4, b"\0" * 4)),
        entry("last", STRING, text("größe")),
    ]
    metadata = read(tmp_path, gguf(entries)).metadata
    assert [metadata[f"kind{kind}"] for kind in scalars] == [7] * len(scalars)
    assert (metadata["flag"], metadata["words"], metadata["numbers"], metadata["last"]) == (True, None, None, "größe")


def test_what_a_model_says_of_itself(tmp_path):
    entries = [
        entry("general.architecture", STRING, text("llama")),
        entry("general.file_type", U32, struct.pack("<I", 15)),
        entry("llama.context_length", U32, struct.pack("<I", 4096)),
        entry("tokenizer.chat_template", STRING, text("{{ messages }}")),
    ]
    header = read(tmp_path, gguf(entries, [tensor("a", 12, 3, 5), tensor("b", 0, 7), tensor("c", 99, 1)]))
    assert header.tensors == (Tensor("a", "Q4_K", (3, 5)), Tensor("b", "F32", (7,)), Tensor("c", "99", (1,)))
    assert (header.architecture, header.context_length, header.quantization) == ("llama", 4096, "Q4_K_M")
    assert (header.parameter_count, header.chat_template) == (23, "{{ messages }}")


def test_a_model_that_says_nothing(tmp_path):
    header = read(tmp_path, gguf([]))
    assert (header.architecture, header.context_length, header.parameter_count) == ("", 0, 0)
    assert (header.quantization, header.chat_template) == ("unknown", "")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (gguf([], magic=b"GGML"), "not a GGUF file: it begins with b'GGML'"),
        (gguf([], version=1), "GGUF version 1; versions 2 and 3"),
        (b"GGUF", "ends early"),
        (gguf([entry("a", U32, b"\0")]), "ends early"),
        (gguf([text("a") + b"\x0d\0\0\0"]), "no value has type 13"),
        (gguf([entry("a", ARRAY, array(ARRAY))]), "no array holds type 9"),
        (gguf([struct.pack("<Q", 2**63)]), "9223372036854775808 bytes follow where 0 are left"),
        (gguf([entry("a", ARRAY, struct.pack("<IQ", U32, 2**62))]), "are left"),
        (gguf([entry("a", ARRAY, struct.pack("<IQ", STRING, 2**62))]), "ends early"),
        (gguf([entry("a", STRING, struct.pack("<Q", 1) + b"\xff")]), "damaged"),
        (gguf([], [text("t") + struct.pack("<I", 2**32 - 1)]), "ends early"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path, data, reason):
    with pytest.raises(GGUFError, match=reason) as caught:
        read(tmp_path, data)
    assert str(tmp_path / "model.gguf") in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "none.gguf")
