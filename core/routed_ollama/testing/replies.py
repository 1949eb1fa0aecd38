"""What a scripted model says when nobody told it what to say: sensible, the same each time, and as it was asked to.

With tools it calls one, with a ``format`` it gives the smallest instance, else it repeats the request. Values are taken
from the request's own words, so that "magic_function(3)" is called with 3.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from routed_ollama.testing.engine import GenerationRequest, ToolCall

_OPENINGS = ("You asked: ", "You said: ", "Your words were: ")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_QUOTED = re.compile(r"[\"'`“]([^\"'`”]+)[\"'`”]")
_TYPES = {"object": {}, "array": [], "boolean": True, "null": None, "integer": 1, "number": 1.5, "string": "text"}
_LONGEST = 100
"""Items of an array at most."""
_DEEPEST = 8
"""Levels of a recursive schema that are followed before it is cut with null."""


def default_text(request: GenerationRequest) -> str:
    """The answer in words: JSON where a format is asked for, else an echo that depends on nothing but the request."""
    if request.format is not None:
        schema = request.format if isinstance(request.format, Mapping) else {"type": "object"}
        return json.dumps(instance_of(schema, Words(last_words(request))), ensure_ascii=False)
    last = request.messages[-1] if request.messages else None
    if last is not None and last.role == "tool":
        return f"The tool says: {last.content}"
    opening = _OPENINGS[request.options.get("seed", 0) % len(_OPENINGS)] if _varies(request) else _OPENINGS[0]
    return opening + (last_words(request) or "nothing")


def default_tool_calls(request: GenerationRequest) -> tuple[ToolCall, ...]:
    """The call a model that was given tools makes: the tool that is named in the question, else the first.

    None when there are no tools, when a tool has just answered, or when the answer must have a format.
    """
    last = request.messages[-1] if request.messages else None
    if not request.tools or request.format is not None or (last is not None and last.role != "user"):
        return ()
    words = last_words(request)
    functions = [tool.get("function") or {} for tool in request.tools]
    chosen = next((each for each in functions if each.get("name") and each["name"] in words), functions[0])
    arguments = instance_of(chosen.get("parameters") or {"type": "object"}, Words(words))
    return (ToolCall(name=chosen.get("name", ""), arguments=arguments if isinstance(arguments, Mapping) else {}),)


def last_words(request: GenerationRequest) -> str:
    """The last thing the user said."""
    if not request.messages:
        return request.prompt
    return next((each.content for each in reversed(request.messages) if each.role == "user"), "")


def _varies(request: GenerationRequest) -> bool:
    return bool(request.options.get("temperature", 0.8)) and request.options.get("seed", -1) >= 0


class Words:
    """Values found in a text: numbers in their order, quoted parts, and the text itself."""

    def __init__(self, text: str) -> None:
        self._text = text.strip()
        self._numbers: Iterator[str] = iter(_NUMBER.findall(text))
        self._quoted: Iterator[str] = itertools.chain(_QUOTED.findall(text))

    def number(self, default: float) -> float:
        """The next number, or the default when there is none left."""
        return float(next(self._numbers, default))

    def text(self) -> str:
        """The next quoted part, or the whole text."""
        return next(self._quoted, "") or self._text or str(_TYPES["string"])


def instance_of(schema: Mapping[str, Any], words: Words | None = None) -> Any:
    """The smallest value that fits a JSON schema.

    Follows ``$ref``, ``anyOf``, ``oneOf``, ``allOf``, ``const``, ``enum``, ``default``, bounds, lengths and required
    properties; patterns are not followed. Properties are all given where none is required.

    Args:
        schema: the schema.
        words: where values come from; without it they are fixed.

    Example:
        >>> instance_of({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
        {'n': 1}
    """
    return _Builder(schema, words or Words("")).build(schema, 0)


class _Builder:
    """Builds one instance."""

    def __init__(self, root: Mapping[str, Any], words: Words) -> None:
        self._root = root
        self._words = words

    def build(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, Mapping) or depth > _DEEPEST:
            return None if depth > _DEEPEST else str(_TYPES["string"])
        schema = self._resolved(schema)
        fixed = next((schema[key] for key in ("const", "default") if key in schema), None)
        if fixed is not None or schema.get("enum"):
            return schema["enum"][0] if fixed is None else fixed
        kind = _kind(schema)
        builders: dict[str, Callable[[], Any]] = {
            "object": lambda: self._object(schema, depth),
            "array": lambda: self._array(schema, depth),
            "integer": lambda: self._number(schema, whole=True),
            "number": lambda: self._number(schema, whole=False),
            "string": lambda: self._string(schema),
        }
        return builders[kind]() if kind in builders else _TYPES.get(kind)

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        items: Sequence[Any] = schema.get("prefixItems") or [schema.get("items") or {"type": "string"}]
        count = len(items) if "prefixItems" in schema else min(max(1, schema.get("minItems", 1)), _LONGEST)
        return [self.build(items[min(at, len(items) - 1)], depth + 1) for at in range(count)]

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """A schema with its references and choices taken."""
        for _ in range(_DEEPEST):
            if "$ref" in schema:
                schema = {**self._lookup(schema["$ref"]), **{k: v for k, v in schema.items() if k != "$ref"}}
                continue
            choices = schema.get("anyOf") or schema.get("oneOf")
            if choices:
                plain = [each for each in choices if each.get("type") != "null"] or choices
                schema = {**{k: v for k, v in schema.items() if k not in {"anyOf", "oneOf", "default"}}, **plain[0]}
                continue
            if "allOf" in schema:
                merged: dict[str, Any] = {k: v for k, v in schema.items() if k != "allOf"}
                for part in schema["allOf"]:
                    merged = _merge(merged, self._resolved(part))
                schema = merged
                continue
            break
        return schema

    def _lookup(self, reference: str) -> Mapping[str, Any]:
        node: Any = self._root
        for part in filter(None, reference.lstrip("#").split("/")):
            key = part.replace("~1", "/").replace("~0", "~")
            node = node.get(key, {}) if isinstance(node, Mapping) else {}
        return node if isinstance(node, Mapping) else {}

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties: Mapping[str, Any] = schema.get("properties") or {}
        wanted = schema.get("required") or (properties if depth == 0 else ())
        return {name: self.build(properties.get(name, {}), depth + 1) for name in wanted}

    def _number(self, schema: Mapping[str, Any], *, whole: bool) -> float:
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        value = self._words.number(float(_TYPES["integer" if whole else "number"]))  # type: ignore[arg-type]
        step = 1 if whole else 0.5
        if low is not None and (value < low or ("exclusiveMinimum" in schema and value <= low)):
            value = low + (step if "exclusiveMinimum" in schema else 0)
        if high is not None and (value > high or ("exclusiveMaximum" in schema and value >= high)):
            value = high - (step if "exclusiveMaximum" in schema else 0)
        return int(value) if whole else value

    def _string(self, schema: Mapping[str, Any]) -> str:
        formats = {"date": "2024-01-01", "date-time": "2024-01-01T00:00:00Z", "time": "00:00:00",
                   "email": "user@example.com", "uri": "https://example.com",
                   "uuid": "00000000-0000-4000-8000-000000000000"}  # fmt: skip
        text = formats.get(schema.get("format", "")) or self._words.text()
        return text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength", len(text) + 100)]


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    if isinstance(kind, str):
        return kind
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema else "string"


def _merge(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**left, **right}
    merged["properties"] = {**left.get("properties", {}), **right.get("properties", {})}
    merged["required"] = [*left.get("required", ()), *right.get("required", ())]
    return merged
