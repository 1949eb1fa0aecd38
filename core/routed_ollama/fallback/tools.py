"""The tools of a request, and what an answer makes of them. Pure.

A call of a tool that was not offered is no answer. Where a tool has to be called, prose is none either; but models that
know their template badly write the call into the text (recorded: qwen2.5-coder), and what can only be meant as one is
taken for it. Where nothing has to be called, text stays text: it may be the example that was asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

_LONGEST: Final = 200_000
"""Characters of a text in which calls are looked for."""
_MOST: Final = 64
"""Values of JSON in it that are looked at."""
_DECODER: Final = json.JSONDecoder()
_OPENING: Final = re.compile(r"[{\[]")
_ARGUMENTS: Final = ("arguments", "parameters", "args", "input")
"""Under which names models write arguments."""
_ANY: Final = frozenset({"any", "required"})
_NONE: Final = frozenset({"auto", "none"})


class WrittenCall(NamedTuple):
    """A call that was written into the text."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class OfferedTools:
    """What a request offers, and whether it has to be used.

    Attributes:
        schemas: JSON schema of each tool's arguments, by its name.
        required: names of which one has to be called; empty where none has to.

    Example:
        >>> tool = {"type": "function", "function": {"name": "add", "parameters": {"properties": {"a": {}}}}}
        >>> offered = OfferedTools.of([tool], "any")
        >>> offered.problem(["subtract"], "")
        "it calls 'subtract', which was not offered"
        >>> offered.calls_in('{"name": "add", "arguments": {"a": 1}}')
        (WrittenCall(name='add', arguments={'a': 1}),)
    """

    schemas: Mapping[str, Mapping[str, Any]]
    required: frozenset[str] = frozenset()

    @classmethod
    def of(cls, definitions: Sequence[Any] | None, choice: Any = None) -> Self | None:
        """Return what is offered; None where there are no tools, or some whose names cannot be read.

        Args:
            definitions: as OpenAI has them, which are Ollama's, too.
            choice: which has to be called: True, ``"any"`` or ``"required"`` (one of them), a name, or a definition
                that holds a name. Anything else, such as ``"auto"``: none has to.
        """
        functions = [each.get("function") if isinstance(each, Mapping) else None for each in definitions or ()]
        schemas = {each["name"]: each.get("parameters") or {} for each in functions if each and each.get("name")}
        if not functions or len(schemas) < len(functions):
            return None
        return cls(schemas, _required(choice, frozenset(schemas)))

    def problem(self, called: Sequence[str], text: str) -> str:
        """Say what is wrong with an answer; empty when nothing is.

        Args:
            called: names of the tools that it calls.
            text: what it says besides.
        """
        unknown = next((name for name in called if name not in self.schemas), None)
        if unknown is not None:
            return f"it calls {unknown[:60]!r}, which was not offered"
        if not self.required or self.required.intersection(called):
            return ""
        if called:
            return f"it calls {called[0]!r}, where {' or '.join(sorted(self.required))} had to be called"
        return "" if self.calls_in(text) else "it calls no tool, and one had to be called"

    def calls_in(self, text: str) -> tuple[WrittenCall, ...]:
        """Return the calls that are written into a text, of those tools of which one has to be called."""
        if not self.required or len(text) > _LONGEST:
            return ()
        found = (self._call_of(value) for value in _objects(text))
        return tuple(call for call in found if call is not None)

    def _call_of(self, value: Mapping[str, Any]) -> WrittenCall | None:
        inner = value.get("function")
        value = inner if isinstance(inner, Mapping) else value
        name = next((value[key] for key in ("name", "function", "tool") if isinstance(value.get(key), str)), None)
        if name is not None and any(key in value for key in _ARGUMENTS):
            given = _arguments(next(value[key] for key in _ARGUMENTS if key in value))
            return WrittenCall(name, given) if name in self.required and given is not None else None
        if name in self.required and len(value) == 1:
            return WrittenCall(name, {})
        return self._by_arguments(value)

    def _by_arguments(self, value: Mapping[str, Any]) -> WrittenCall | None:
        """Return the call of the one tool that takes just these arguments."""
        fitting = [name for name in sorted(self.required) if _takes(self.schemas[name], value)]
        return WrittenCall(fitting[0], dict(value)) if len(fitting) == 1 else None


def _required(choice: Any, names: frozenset[str]) -> frozenset[str]:
    if isinstance(choice, Mapping):
        function = choice.get("function", choice)
        choice = function.get("name") if isinstance(function, Mapping) else None
    if choice is True or (isinstance(choice, str) and choice in _ANY - names):
        return names
    return frozenset({choice}) & names if isinstance(choice, str) and choice not in _NONE - names else frozenset()


def _arguments(given: Any) -> dict[str, Any] | None:
    """Return arguments, which some models write as a text of JSON once more."""
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return None
    return dict(given) if isinstance(given, Mapping) else None


def _takes(schema: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    """Whether these are the arguments that a tool takes: all that it must have, and none that it does not know."""
    properties, required = schema.get("properties") or {}, schema.get("required") or ()
    return bool(value) and set(value) <= set(properties) and set(required) <= set(value)


def _objects(text: str) -> Iterator[Mapping[str, Any]]:
    """Yield the objects that are written into a text, alone or in an array; what is in them is not looked into."""
    at = 0
    for _ in range(_MOST):
        opening = _OPENING.search(text, at)
        if opening is None:
            return
        at = opening.end()
        try:
            value, at = _DECODER.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            continue
        yield from (each for each in (value if isinstance(value, list) else [value]) if isinstance(each, Mapping))
