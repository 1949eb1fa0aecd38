"""Types of a request's fields and the words for a wrong one, as Go's decoder says them.

A checker is called with a value, the struct's name and the path of fields that lead to it, and gives the value back as
the server uses it, or raises. Which struct an error names depends on how Ollama's types are built: types with a decoder
of their own (``Message``, tool properties) are named after the struct around them. All of this was compared with Go's
own decoder on ollama v0.24.0 ``api/types.go`` (tests/server/fixtures/go-decoder.json).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from routed_ollama.testing.gojson import NumberLiteral

Checker = Callable[[Any, str, str], Any]


class WrongTypeError(ValueError):
    """A value of the wrong type; the text is Go's."""


class InexactNumberError(ValueError):
    """A whole number was expected; the body must be read again to quote the one that is there."""


def _kind(value: object) -> str:
    """What Go calls a JSON value."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float):
        return "number"
    return "array" if isinstance(value, list) else "object"


def wrong(value: object, struct: str, path: str, go_type: str, literal: str = "") -> NoReturn:
    """Raise what Go says about a value that does not fit."""
    what = f"{_kind(value)} {literal}" if literal else _kind(value)
    where = f"struct field {struct}.{path}" if path else "value"
    raise WrongTypeError(f"json: cannot unmarshal {what} into Go {where} of type {go_type}")


def string(value: Any, struct: str, path: str) -> str:
    """A string; null is empty."""
    if value is None:
        return ""
    if not isinstance(value, str):
        wrong(value, struct, path, "string")
    return value


def flag(value: Any, struct: str, path: str) -> bool:
    """True or false; null is false."""
    if value is None:
        return False
    if not isinstance(value, bool):
        wrong(value, struct, path, "bool")
    return value


def optional_flag(value: Any, struct: str, path: str) -> bool | None:
    """True, false or null."""
    return None if value is None else flag(value, struct, path)


def integer(go_type: str = "int", bits: int = 64) -> Checker:
    """A whole number, written as one; null is 0."""
    low, high = (0, (1 << bits) - 1) if go_type.startswith("u") else (-(1 << bits - 1), (1 << bits - 1) - 1)

    def check(value: Any, struct: str, path: str) -> int:
        if value is None:
            return 0
        if isinstance(value, NumberLiteral):
            wrong(value, struct, path, go_type, value.text)
        if isinstance(value, float):
            raise InexactNumberError
        if isinstance(value, bool) or not isinstance(value, int):
            wrong(value, struct, path, go_type)
        if not low <= value <= high:
            wrong(value, struct, path, go_type, str(value))
        return value

    return check


def anything(value: Any, struct: str, path: str) -> Any:  # noqa: ARG001 - a checker's signature
    """Any value."""
    return value


def options(value: Any, struct: str, path: str) -> dict[str, Any]:
    """An object of anything; null is empty."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        wrong(value, struct, path, "map[string]interface {}")
    return value


def sequence(item: Checker, go_type: str) -> Checker:
    """An array; null is empty."""

    def check(value: Any, struct: str, path: str) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, list):
            wrong(value, struct, path, go_type)
        return [item(each, struct, path) for each in value]

    return check


class Struct:
    """An object with known fields; names match without regard to case, unknown ones are ignored.

    Args:
        name: the type's name in an error about the value itself.
        fields: a checker for each.
        own_decoder: the type decodes itself, so an error inside names the struct around it.
    """

    def __init__(self, name: str, fields: Mapping[str, Checker], *, own_decoder: bool = False) -> None:
        self._name = name
        self._fields = dict(fields)
        self._names = {field.lower(): field for field in fields}
        self._own_decoder = own_decoder

    def __call__(self, value: Any, struct: str = "", path: str = "") -> dict[str, Any]:
        """Check an object; fields that are missing stay missing, and null is an empty object."""
        if value is None:
            return {}
        if not isinstance(value, dict):
            wrong(value, struct, path, f"api.{self._name}")
        inner = struct if self._own_decoder else self._name
        prefix = f"{path}." if path else ""
        result = {}
        for key, item in value.items():
            name = key if key in self._fields else self._names.get(key.lower(), "")
            if name:
                result[name] = self._fields[name](item, inner, prefix + name)
        return result


def ordered_map(item: Checker | None) -> Callable[[Any, str, str], dict[str, Any]]:
    """An object that keeps its order; Ollama reads it with a library that has its own words for anything else."""

    def check(value: Any, struct: str, path: str) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise WrongTypeError("Value looks like object, but can't find closing '}' symbol")
        return {key: item(each, struct, path) if item else each for key, each in value.items()}

    return check


def property_type(value: Any, struct: str, path: str) -> list[str]:
    """A type's name, or several."""
    if isinstance(value, str):
        return [value]
    return list(sequence(string, "[]string")(value, struct, path))


_BASE64_JUNK = re.compile(r"[\r\n]+")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_BYTE = integer("uint8", 8)


def image(value: Any, struct: str, path: str) -> bytes:
    """Bytes: base64, or an array of numbers."""
    if value is None:
        return b""
    if isinstance(value, list):
        return bytes(_BYTE(each, struct, path) for each in value)
    if not isinstance(value, str):
        wrong(value, struct, path, "api.ImageData")
    text = _BASE64_JUNK.sub("", value)
    if not _BASE64.fullmatch(text):
        raise WrongTypeError(f"illegal base64 data at input byte {_base64_error(value)}")
    return binascii.a2b_base64(text)


def _base64_error(text: str) -> int:
    """Where Go's decoder stops: at the first byte that cannot stand there, counting line ends."""
    quantum = 0
    data = text.encode()
    for index, char in enumerate(data):
        if char in b"\r\n":
            continue
        if char == ord("="):
            return _padding_error(data, index, quantum)
        if not re.match(rb"[A-Za-z0-9+/]", bytes((char,))):
            return index
        quantum = (quantum + 1) % 4
    return len(data) - quantum


def _padding_error(data: bytes, index: int, quantum: int) -> int:
    """Where the padding that begins at an index goes wrong."""
    if quantum < 2:  # noqa: PLR2004 - padding stands for the third or fourth character of four
        return index
    at = index + 1
    if quantum == 2:  # noqa: PLR2004 - two characters need two
        while at < len(data) and data[at] in b"\r\n":
            at += 1
        if at == len(data):
            return len(data)
        if data[at] != ord("="):
            return at - 1
        at += 1
    while at < len(data) and data[at] in b"\r\n":
        at += 1
    return at


def think(value: Any, struct: str, path: str) -> bool | str | None:  # noqa: ARG001 - a checker's signature
    """True, false, or a level."""
    if value is None or isinstance(value, bool):
        return value
    allowed = '"high", "medium", "low", "max", true, or false'
    if not isinstance(value, str):
        raise WrongTypeError(f"think must be a boolean or string ({allowed})")
    if value not in {"high", "medium", "low", "max"}:
        raise WrongTypeError(f'invalid think value: "{value}" (must be {allowed})')
    return value
