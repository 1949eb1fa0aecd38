"""Tool calls in the text of an answer: ``<tool_call>{"name": ..., "arguments": {...}}</tool_call>``, as it streams by.

That is the form of the Hermes, Qwen and SmolLM3 templates. Like Ollama, this reads the text and does not force it: a
model that writes its call in another form has answered with text, and so has one whose call is cut short or is no JSON.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

from routed_ollama.testing.engine import ToolCall

OPEN = "<tool_call>"
CLOSE = "</tool_call>"


class ToolCallReader:
    """Takes an answer piece by piece and parts text from calls. What may become a call is held back until it is clear.

    Example:
        >>> reader = ToolCallReader()
        >>> reader.feed("Let me see. <tool_")
        ('Let me see. ', ())
        >>> text, calls = reader.feed('call>{"name": "clock", "arguments": {}}</tool_call>', final=True)
        >>> text, calls[0].name
        ('', 'clock')
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self._enabled = enabled
        self._held = ""

    def feed(self, text: str, *, final: bool = False) -> tuple[str, tuple[ToolCall, ...]]:
        """Take the next piece.

        Args:
            text: the piece.
            final: whether it is the last; then nothing is held back any longer.

        Returns:
            The text that is certainly text, and the calls that are complete.
        """
        if not self._enabled:
            return text, ()
        held, shown, calls = self._held + text, "", []
        while (start := held.find(OPEN)) >= 0 and (end := held.find(CLOSE, start)) >= 0:
            whole = end + len(CLOSE)
            call = _call(held[start + len(OPEN) : end])
            shown += held[:start] if call else held[:whole]
            calls += [call] if call else []
            held = held[whole:]
        keep = 0 if final else _undecided(held)
        self._held = held[len(held) - keep :]
        return shown + held[: len(held) - keep], tuple(calls)


def _undecided(text: str) -> int:
    """How many characters at the end of a text belong to a call that has begun, or may begin one."""
    start = text.find(OPEN)
    if start >= 0:
        return len(text) - start
    longest = min(len(text), len(OPEN) - 1)
    return next((size for size in range(longest, 0, -1) if OPEN.startswith(text[-size:])), 0)


def _call(text: str) -> ToolCall | None:
    try:
        call: Any = json.loads(text)
        name, arguments = call["name"], call.get("arguments") or {}
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return None
    return ToolCall(name=name, arguments=arguments, id=f"call_{secrets.token_hex(4)}")
