"""Deadlines by phase below a framework's own client: nothing here knows Ollama, and nothing waits without a bound.

`Timeouts` is what a person configures, `Bounds` what one attempt may take; `attempt_bounds` carries them to the
transports that `build_transport` puts under a client, together with the client's proxy and TLS settings.
"""

from routed_ollama.transport._bounds import Bounds, Expected, Marks, Patience, Timeouts, attempt_bounds
from routed_ollama.transport._build import build_transport
from routed_ollama.transport._errors import (
    BetweenTokensDeadlineError,
    ConnectDeadlineError,
    FirstTokenDeadlineError,
    TotalDeadlineError,
)
from routed_ollama.transport._joined import answer_heard
from routed_ollama.transport._phases import AsyncPhaseTransport, PhaseTransport

__all__ = [
    "AsyncPhaseTransport",
    "BetweenTokensDeadlineError",
    "Bounds",
    "ConnectDeadlineError",
    "Expected",
    "FirstTokenDeadlineError",
    "Marks",
    "Patience",
    "PhaseTransport",
    "Timeouts",
    "TotalDeadlineError",
    "answer_heard",
    "attempt_bounds",
    "build_transport",
]
