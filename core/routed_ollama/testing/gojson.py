"""JSON as Go's decoder reads it: the same first value of a body, the same words for what is wrong with it.

``json.loads`` does the work for every body that is right; only a wrong one is read again, byte by byte, to say what Go
says (``encoding/json`` scanner.go). As in Go, what follows the first value is not looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

_SPACE = b" \t\r\n"
_DIGITS = b"0123456789"
_LITERALS = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}
_MAX_DEPTH = 300
"""Go allows 10,000 levels, which is more than Python's stack holds; only malformed bodies are held to this."""
_SURROGATE = re.compile("[\ud800-\udfff]")


class EmptyBodyError(ValueError):
    """There is nothing but white space."""


class GoSyntaxError(ValueError):
    """Not JSON; the text is Go's."""


class NumberLiteral(float):
    """A number with a fraction or an exponent that remembers how it was written."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


def loads(body: bytes, *, keep_literals: bool = False) -> Any:
    """The first JSON value of a body.

    Args:
        body: as it arrived; bytes that are not UTF-8 become U+FFFD.
        keep_literals: give numbers with a fraction or exponent as :class:`NumberLiteral`.

    Raises:
        EmptyBodyError: there is none.
        GoSyntaxError: it is malformed.
    """
    parse_float = NumberLiteral if keep_literals else None
    try:
        value = json.loads(body.decode(errors="replace"), parse_constant=_no_constant, parse_float=parse_float)
    except (ValueError, RecursionError):
        end = first_value_end(body)
        value = json.loads(body[:end].decode(errors="replace"), parse_float=parse_float)
    return _without_surrogates(value) if b"\\ud" in body or b"\\uD" in body else value


def raw_field(body: bytes, name: str) -> str:
    """The text of a field of the body's object, as written; empty when it is not there.

    The body must be one that :func:`loads` accepts.
    """
    scanner = _Scanner(body)
    found = ""
    scanner.skip_space()
    for key, start, end in scanner.members():
        if key == name or (key.lower() == name.lower() and not found):
            found = body[start:end].decode(errors="replace")
    return found


def first_value_end(body: bytes) -> int:
    """Where the first value ends.

    Raises:
        EmptyBodyError: there is none.
        GoSyntaxError: it is malformed.
    """
    scanner = _Scanner(body)
    scanner.skip_space()
    if scanner.at >= len(body):
        raise EmptyBodyError("missing request body")
    scanner.value(0)
    return scanner.at


def _no_constant(text: str) -> NoReturn:
    raise ValueError(text)


def _without_surrogates(value: Any) -> Any:
    """Go replaces half a surrogate pair by U+FFFD; Python keeps it, and then cannot encode it."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


def _quoted(char: int) -> str:
    """A byte as Go quotes it in an error."""
    if char == ord("'"):
        return r"'\''"
    if char == ord('"'):
        return "'\"'"
    text = chr(char)
    if text.isprintable():
        return "'\\\\'" if text == "\\" else f"'{text}'"
    named = {7: r"\a", 8: r"\b", 9: r"\t", 10: r"\n", 11: r"\v", 12: r"\f", 13: r"\r"}
    return f"'{named.get(char) or (f'{chr(92)}x{char:02x}' if char < 128 else f'{chr(92)}u{char:04x}')}'"  # noqa: PLR2004 - the end of ASCII


class _Scanner:
    """Reads JSON byte by byte."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.at = 0

    def skip_space(self) -> None:
        while self.at < len(self._body) and self._body[self.at] in _SPACE:
            self.at += 1

    def value(self, depth: int) -> None:
        """Read one value; the cursor stands on its first byte."""
        char = self._peek()
        if char in b"{[":
            if depth >= _MAX_DEPTH:
                self._fail("exceeded max depth")
            if char == ord("{"):
                for _ in self.members(depth + 1):
                    pass
            else:
                self._array(depth + 1)
        elif char == ord('"'):
            self._string()
        elif char in _LITERALS:
            self._literal(_LITERALS[char])
        elif char == ord("-") or char in _DIGITS:
            self._number()
        else:
            self._fail("looking for beginning of value")

    def members(self, depth: int = 1) -> Iterator[tuple[str, int, int]]:
        """Read an object, member by member: name, and where its value starts and ends."""
        self.at += 1
        self.skip_space()
        if self._peek() == ord("}"):
            self.at += 1
            return
        while True:
            if self._peek() != ord('"'):
                self._fail("looking for beginning of object key string")
            key_at = self.at
            self._string()
            key = json.loads(self._body[key_at : self.at].decode(errors="replace"))
            self._expect(b":", "after object key")
            start = self.at
            self.value(depth)
            yield key, start, self.at
            if self._next_or_end(b"}", "after object key:value pair"):
                return

    def _array(self, depth: int) -> None:
        self.at += 1
        self.skip_space()
        if self._peek() == ord("]"):
            self.at += 1
            return
        while True:
            self.value(depth)
            if self._next_or_end(b"]", "after array element"):
                return

    def _next_or_end(self, end: bytes, where: str) -> bool:
        """After a member or element: whether the container ends; else the cursor goes to the next one."""
        self.skip_space()
        char = self._peek()
        if char == end[0]:
            self.at += 1
            return True
        if char != ord(","):
            self._fail(where)
        self.at += 1
        self.skip_space()
        return False

    def _expect(self, wanted: bytes, where: str) -> None:
        self.skip_space()
        if self._peek() != wanted[0]:
            self._fail(where)
        self.at += 1
        self.skip_space()

    def _string(self) -> None:
        self.at += 1
        while True:
            char = self._peek()
            if char == ord('"'):
                self.at += 1
                return
            if char == ord("\\"):
                self._escape()
            elif char < ord(" "):
                self._fail("in string literal")
            else:
                self.at += 1

    def _escape(self) -> None:
        self.at += 1
        char = self._peek()
        if char not in b'"\\/bfnrtu':
            self._fail("in string escape code")
        self.at += 1
        if char == ord("u"):
            for _ in range(4):
                if self._peek() not in b"0123456789abcdefABCDEF":
                    self._fail("in \\u hexadecimal character escape")
                self.at += 1

    def _literal(self, word: bytes) -> None:
        self.at += 1
        for wanted in word[1:]:
            if self._peek() != wanted:
                self._fail(f"in literal {word.decode()} (expecting {_quoted(wanted)})")
            self.at += 1

    def _number(self) -> None:
        if self._peek() == ord("-"):
            self.at += 1
            self._digit("in numeric literal")
        else:
            self.at += 1
        if self._body[self.at - 1] != ord("0"):
            self._digits()
        if self._optional(b"."):
            self._digit("after decimal point in numeric literal")
            self._digits()
        if self._optional(b"eE"):
            self._optional(b"+-")
            self._digit("in exponent of numeric literal")
            self._digits()

    def _digit(self, where: str) -> None:
        if self._peek() not in _DIGITS:
            self._fail(where)
        self.at += 1

    def _digits(self) -> None:
        while self._optional(_DIGITS):
            pass

    def _optional(self, wanted: bytes) -> bool:
        if self.at < len(self._body) and self._body[self.at] in wanted:
            self.at += 1
            return True
        return False

    def _peek(self) -> int:
        if self.at >= len(self._body):
            raise GoSyntaxError("unexpected EOF")
        return self._body[self.at]

    def _fail(self, where: str) -> NoReturn:
        raise GoSyntaxError(f"invalid character {_quoted(self._body[self.at])} {where}")
