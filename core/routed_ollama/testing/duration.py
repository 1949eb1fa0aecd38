"""Durations as Go writes them (``5m``, ``1h2m3.5s``), and Ollama's ``keep_alive``, which may also be in seconds."""

from __future__ import annotations

import math
import re
from typing import Any

from routed_ollama.testing.schema import WrongTypeError

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_TERM = re.compile(r"(\d*)(\.?)(\d*)([^\d.]*)", re.ASCII)
_LONGEST = (1 << 63) - 1
"""In nanoseconds; about 292 years."""
FOREVER = math.inf
LONGEST_SECONDS = _LONGEST / 1e9


def parse_duration(text: str) -> float:
    """Seconds of a duration as Go's ``time.ParseDuration`` reads it.

    Raises:
        WrongTypeError: it is none; the text is Go's.

    Example:
        >>> parse_duration("1m30s")
        90.0
    """
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in {"-", "+"} else text
    if rest == "0":
        return 0.0
    invalid = f'time: invalid duration "{text}"'
    if not rest:
        raise WrongTypeError(invalid)
    total = 0
    while rest:
        term = _TERM.match(rest)
        whole, _, fraction, unit = term.groups() if term else ("", "", "", "")
        if not (whole or fraction):
            raise WrongTypeError(invalid)
        if not unit:
            raise WrongTypeError(f'time: missing unit in duration "{text}"')
        if unit not in _UNITS:
            raise WrongTypeError(f'time: unknown unit "{unit}" in duration "{text}"')
        total += int(whole or 0) * _UNITS[unit] + int(float("0." + (fraction or "0")) * _UNITS[unit])
        rest = rest[term.end() :] if term else ""
    if total > _LONGEST:
        raise WrongTypeError(invalid)
    return sign * total / 1e9


def keep_alive(value: Any, struct: str, path: str) -> float | None:  # noqa: ARG001 - a checker's signature
    """How long a model stays in memory, in seconds: a number or a duration, negative for ever; None: it is not said."""
    if value is None:
        return None
    if isinstance(value, bool):
        raise WrongTypeError("Unsupported type: 'bool'")
    if isinstance(value, int | float):
        return FOREVER if value < 0 else float(value)
    if isinstance(value, str):
        seconds = parse_duration(value)
        return FOREVER if seconds < 0 else seconds
    raise WrongTypeError(
        f"Unsupported type: '{'[]interface {}' if isinstance(value, list) else 'map[string]interface {}'}'"
    )
