"""Where settings come from: a file, the environment. Returns plain data, and says which variable said what.

What cannot be read is one error that names the file or the variable. No password is repeated in it.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from routed_ollama.errors import ConfigurationError, RoutedOllamaWarning

PREFIX: Final = "ROUTED_OLLAMA_"
"""What the names of environment variables begin with."""
_SHOWN: Final = 60
"""Characters of a wrong value that are repeated."""
_IPV6: Final = re.compile(r"\[[^\]\s\"',{]*:[^\]\s\"',{]*\]")
"""What begins with a bracket as JSON does, and is an address."""
_WORDS: Final = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "list_type": "must be a list",
    "model_type": "must be an object",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
}
"""Pydantic's words for programmers, in those of a file."""


def plain_name(text: str) -> str:
    """Return a name as names are compared: in small letters, with ``_`` for ``-`` and for spaces.

    Example:
        >>> plain_name(" Code-Reviewer")
        'code_reviewer'
    """
    return re.sub(r"[\s-]+", "_", text.strip().lower())


def without_credentials(text: str) -> str:
    """Return an address as it may be shown: what may be a password is gone, whatever stands in it.

    Example:
        >>> without_credentials("http://me:p@ss/word@example.com:11434")
        'http://example.com:11434'
    """
    return re.sub(r"^(\s*[\w+.-]*://)?.*@", lambda found: found[1] or "", text, flags=re.DOTALL)


def read_file(source: str | os.PathLike[str], named_by: str = "") -> dict[str, Any]:
    """Return what stands in a JSON or TOML file.

    Args:
        source: its path; TOML where that ends with ``.toml``.
        named_by: the variable that names it.

    Raises:
        ConfigurationError: says which file, which line, and what to do.
    """
    path = Path(source)
    try:
        path = path.expanduser()
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text: {error}. Save it as UTF-8.") from None
    except (OSError, RuntimeError, ValueError) as error:  # not there, no such home, no such name
        reason = str(getattr(error, "strerror", None) or error).rstrip(".")
        by = f" (named by {named_by})" if named_by else ""
        raise ConfigurationError(
            f"Cannot read the configuration file {str(source)!r}{by}: {reason}. Check the path, or leave it out."
        ) from None
    data = _parsed(text, path)
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path}: expected an object at the top, found {type(data).__name__}.")
    return data


def _parsed(text: str, path: Path) -> Any:
    toml = path.suffix.lower() == ".toml"
    if not toml and not text.strip():
        raise ConfigurationError(f"{path} is empty; JSON without any setting is {{}}.")
    hint = "" if path.suffix.lower() in {".json", ".toml"} else " (TOML is what ends with .toml.)"
    try:
        return tomllib.loads(text) if toml else json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        place = f"{path}, line {error.lineno}, column {error.colno}"
        raise ConfigurationError(f"{place}: not JSON: {error.msg}.{hint}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: not TOML: {error}.") from None
    except RecursionError:
        raise ConfigurationError(f"{path}: nested too deeply to be a configuration.") from None
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}.") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; of a key that stands twice one would be lost unnoticed."""
    data = dict(pairs)
    if len(data) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object; put together what it holds")
    return data


class Said(NamedTuple):
    """What one variable of the environment says.

    Attributes:
        variable: its name.
        path: the sections and the key.
        value: what it holds: text, or what JSON says.
    """

    variable: str
    path: tuple[str, ...]
    value: Any


def environment(sections: Collection[str], short: Mapping[str, str], lists: Collection[str]) -> list[Said]:
    """Return what the environment says; a variable of ours that means nothing is a warning with the nearest name.

    Args:
        sections: the keys that there are at the top.
        short: variables that go by a shorter name.
        lists: sections whose values may be lists, with commas between.

    Raises:
        ConfigurationError: what begins as JSON is none.
    """
    found = []
    for variable in sorted(os.environ):
        name, text = variable.removeprefix(PREFIX).lower(), os.environ[variable].strip()
        if name in {variable.lower(), "config"} or not text:
            continue
        path = tuple(short.get(name, name).split("__"))
        if path[0] in sections:
            found.append(Said(variable, path, _value(variable, path, text, lists)))
            continue
        near = difflib.get_close_matches(name, [*sections, *short, "config"], n=1)
        hint = f" Did you mean {PREFIX}{near[0].upper()}?" if near else ""
        warnings.warn(f"The variable {variable} means nothing here.{hint}", RoutedOllamaWarning, stacklevel=4)
    return found


def _value(variable: str, path: tuple[str, ...], text: str, lists: Collection[str]) -> Any:
    if (text[0] in "[{" and not _IPV6.match(text)) or text == "null":
        try:
            return json.loads(text, object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"{variable} is not JSON: {error}.") from None
    if path[0] in lists:
        return [part.strip() for part in text.split(",") if part.strip()]
    if "options" not in path:
        return text  # the check knows what it is to be
    try:
        return json.loads(text)  # what Ollama takes is not known here: a number is one
    except ValueError:
        return text


def with_value(data: Any, path: tuple[str, ...], value: Any) -> Any:
    """Return nested data with one value replaced. What is no object is left for the check to complain of."""
    if not path:
        return value
    if not isinstance(data, Mapping):
        return data
    first = next((key for key in data if plain_name(str(key)) == plain_name(path[0])), path[0])
    return {**data, first: with_value(data.get(first, {}), path[1:], value)}


def explain(
    error: ValidationError,
    origin: str,
    said: Collection[Said] = (),
    keys_at: Callable[[tuple[str, ...]], Mapping[str, str]] = lambda _path: {},
) -> str:
    """Return everything that is wrong in one line: key, variable, what it must be, what was found.

    Args:
        error: of the check.
        origin: where the settings come from, beside variables.
        said: by variables.
        keys_at: returns what may be meant in a section, by name, with where it stands.
    """
    lines, blamed = [], []
    for detail in error.errors():
        path = tuple(str(part) for part in detail["loc"] if part != "[key]")
        variable = _variable(path, said)
        blamed.append(variable)
        by = f" (in {variable})" if variable else ""
        lines.append(f"{'.'.join(path) or 'top level'}{by}: {_complaint(detail, keys_at(path[:-1]))}")
    return f"{'the environment' if all(blamed) else origin}: {'; '.join(lines)}"


def _variable(path: tuple[str, ...], said: Collection[Said]) -> str:
    """Return the variable that said what is wrong; empty for none."""
    names = [plain_name(part) for part in path]
    for variable, keys, _ in said:
        if all(name == plain_name(key) for name, key in zip(names, keys, strict=False)):
            return variable
    return ""


def _complaint(detail: Any, keys: Mapping[str, str]) -> str:
    if detail["type"] == "extra_forbidden":  # its value is not repeated: it may be anything
        near = difflib.get_close_matches(str(detail["loc"][-1]), keys, n=1)
        there = ", ".join(name for name, place in keys.items() if name == place)
        return "unknown key; " + (f"did you mean {keys[near[0]]!r}?" if near else f"there are {there}")
    if detail["type"] == "value_error":  # our own words
        return str(detail["ctx"]["error"])
    words = detail["msg"].replace("Input should be", "must be")
    return f"{_WORDS.get(detail['type'], words)} (found {_shown(detail['input'])})"


def _shown(value: Any) -> str:
    text = without_credentials(str(value))
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
