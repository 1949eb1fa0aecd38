"""A circuit per model and one per host, how processes share them, and the threads that look after things.

A circuit is closed (requests pass), open (none passes until its recovery time is over) or half open (one passes, as a
lease that expires, because an abandoned stream may report late or never).
"""

from __future__ import annotations

from routed_ollama.health._board import CircuitBoard
from routed_ollama.health._circuit import Circuit, CircuitSettings, Signal
from routed_ollama.health._looks import Looks, in_thread, wait_for_enough
from routed_ollama.health._monitor import HealthMonitor
from routed_ollama.health._words import health_words

__all__ = [
    "Circuit",
    "CircuitBoard",
    "CircuitSettings",
    "HealthMonitor",
    "Looks",
    "Signal",
    "health_words",
    "in_thread",
    "wait_for_enough",
]
