"""Health in a word. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from routed_ollama.types import CircuitState

_RECENT: Final = 20
"""Requests that "recent" means."""
_DEGRADED_SUCCESS: Final = 0.9
_DEGRADED_SLOWNESS: Final = 3.0


def health_words(
    state: CircuitState, outcomes: Iterable[bool], recent_seconds: float | None, usual_seconds: float | None
) -> str:
    """Return a model's health in a word.

    Args:
        state: of its circuit.
        outcomes: whether each recent request went well, newest last; the last 20 count.
        recent_seconds: its usual response time lately, in seconds per output token or whole, as the caller measures it.
        usual_seconds: the same over its whole record.

    Returns:
        ``unhealthy`` when the circuit is open; ``degraded`` when it is half open, under 90 % of recent requests went
        well or they took three times the usual time; else ``healthy``.

    Example:
        >>> health_words(CircuitState.CLOSED, [True] * 9 + [False] * 2, None, None)
        'degraded'
    """
    if state is CircuitState.OPEN:
        return "unhealthy"
    recent = list(outcomes)[-_RECENT:]
    poor = bool(recent) and sum(recent) / len(recent) < _DEGRADED_SUCCESS
    slow = bool(recent_seconds and usual_seconds and recent_seconds >= _DEGRADED_SLOWNESS * usual_seconds)
    return "degraded" if state is CircuitState.HALF_OPEN or poor or slow else "healthy"
