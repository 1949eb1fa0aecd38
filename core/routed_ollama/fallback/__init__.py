"""The attempt plan, what each failure means, and the four loops."""

from routed_ollama.fallback.choice import Allowance, Choice
from routed_ollama.fallback.continuation import continuation_messages
from routed_ollama.fallback.exhausted import unreachable_message
from routed_ollama.fallback.failures import MEANINGS, FailureKind, Meaning, classify
from routed_ollama.fallback.loops import ChunkView, acall, astream, call, stream
from routed_ollama.fallback.plan import Attempt, AttemptPlan
from routed_ollama.fallback.seam import OverlapTrimmer
from routed_ollama.fallback.tools import OfferedTools

__all__ = [
    "MEANINGS",
    "Allowance",
    "Attempt",
    "AttemptPlan",
    "Choice",
    "ChunkView",
    "FailureKind",
    "Meaning",
    "OfferedTools",
    "OverlapTrimmer",
    "acall",
    "astream",
    "call",
    "classify",
    "continuation_messages",
    "stream",
    "unreachable_message",
]
