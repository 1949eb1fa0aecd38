"""The matrix of faults: what is wrong with the first of two models, and what must come of it on every path.

A row says what goes wrong and who is to blame. What a user sees of it, with the plain class and with ours, is not
written here: it is played, and told in ``docs/faults.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from columns import Ask
from fault_table import Trouble

from routed_ollama.testing import Fault, ToolCall

MODEL, HOST, NOBODY = "the model", "the host", "nobody"
NEWER = "0.34.0"
"""A version of Ollama whose models run in ``llama-server``, with other texts than 0.24."""

BEFORE = {"connect": 5.0, "load": 0.1, "first_token": 0.9, "between_tokens": 20.0}
WITHIN = {"first_token": 20.0, "between_tokens": 1.0}
ALL_IN_ALL = {"total": 1.0}
"""Seconds. Both models have the same bounds, and the second needs some time, too, where many are asked at once."""

CALLING = Ask(("What is multiply of 6 and 7?",), tools=True)
HAVING_TO = Ask(("What is multiply of 6 and 7?",), tools=True, required=True)
SONG = Ask(("Name a song",), song=True, parts=False)
THINKING = Ask(think=True)
LONG = Ask((" ".join(f"word {number}" for number in range(1_000)),))
"""Two thousand words, each a token at least."""
DECLINED = "I'm sorry, but I can't assist with that request."
SONG_TEXT = '{"title": "Singing", "year": 1952}'
CALL = (("multiply", {"a": 6, "b": 7}),)
GOING_ON = " and that is all there is to say."
"""What the second model says that is to go on with a text which could be of any length."""


@dataclass(frozen=True)
class Row:
    """One fault.

    Attributes:
        trouble: what is wrong with the first model; None where it is what it says.
        kind: what kind of failure is recorded; empty for none.
        blames: whom it is held against.
        ask: what both are asked.
        bad, good: what else is said of the two models.
        version: of Ollama.
        context: tokens that a server gives by itself.
        waits: limits of time; None for the usual ones.
        any_length: whether as much of the answer is handed out as happens to come until then.
        unresolved: whether it is the name of the server that is gone.
        stands: whether the first model's answer is taken: for a stream, that has been handed out; for a call as well.
        once: whether it takes so much memory that few are played at once, and of the plain classes the sync ways alone.
    """

    trouble: Trouble | None
    kind: str
    blames: str = MODEL
    ask: Ask = field(default_factory=Ask)
    bad: Mapping[str, Any] = field(default_factory=dict)
    good: Mapping[str, Any] = field(default_factory=dict)
    version: str = "0.24.0"
    context: int = 4096
    waits: Mapping[str, float] | None = None
    any_length: bool = False
    unresolved: bool = False
    stands: frozenset[str] = frozenset()
    once: bool = False


def _before(fault: Fault) -> Row:
    return Row(Trouble(fault, endless=True), "deadline", waits=BEFORE)


def _within(**more: Any) -> Row:
    return Row(Trouble(Fault.STALL, 4, endless=True, more=more), "deadline", waits=WITHIN)


def _asked(ask: Ask, kind: str, blames: str = MODEL, *, trouble: Trouble | None = None, **bad: Any) -> Row:
    reply = SONG_TEXT if ask.song else None
    return Row(trouble, kind, blames, ask, bad, {"reply": reply})


STREAMED = frozenset({"stream", "stream, async"})
EVERYWHERE = STREAMED | {"whole", "whole, async"}

GROUPS: dict[str, dict[str, Row]] = {
    "No connection": {
        "connection refused": Row(Trouble(None), "unreachable", HOST),
        "name of the server does not resolve": Row(Trouble(None), "unreachable", HOST, unresolved=True),
        "reset before the headers": Row(Trouble(Fault.RESET), "disconnected"),
    },
    "Silence": {
        "accepted, then silent": _before(Fault.HANG_BEFORE_HEADERS),
        "silent before the first token": _before(Fault.HANG),
        "headers, then silent": _before(Fault.HANG_AFTER_HEADERS),
        "silent in mid-stream": _within(),
        "silent for 5 s between two tokens": _within(seconds=5),
        "slow drip that never ends": Row(
            Trouble(Fault.DRIP, 4, endless=True, more={"seconds": 0.1}),
            "deadline",
            waits=ALL_IN_ALL,
            any_length=True,
        ),
    },
    "Load and memory": {
        "500, cannot be loaded (up to 0.24)": Row(Trouble(Fault.LOAD_ERROR), "load"),
        "500, cannot be loaded (from 0.30)": Row(Trouble(Fault.LOAD_ERROR), "load", version=NEWER),
        "500, out of memory at load (up to 0.24)": Row(Trouble(Fault.OUT_OF_MEMORY), "out_of_memory"),
        "500, out of memory at load (from 0.30)": Row(Trouble(Fault.OUT_OF_MEMORY), "out_of_memory", version=NEWER),
        "500, runner died before the first token": Row(Trouble(Fault.CRASH_BEFORE_TOKEN), "crashed"),
        "500, something else": Row(Trouble(Fault.SERVER_ERROR), "server"),
        "503, queue full": Row(Trouble(Fault.BUSY), "busy", NOBODY),
        "404, removed while the server runs": Row(Trouble(Fault.NOT_FOUND), "missing", NOBODY),
    },
    "Broken streams": {
        "line with an error": Row(Trouble(Fault.CRASH, 4), "crashed"),
        "connection reset in mid-stream": Row(Trouble(Fault.CUT, 4, loses=True), "disconnected"),
        "connection cut in mid-line": Row(Trouble(Fault.CLOSE, 4), "disconnected"),
        "clean end without `done`": Row(Trouble(Fault.END_WITHOUT_DONE, 4), "truncated"),
        "clean end with nothing at all": Row(Trouble(Fault.END_WITHOUT_DONE, 0), "truncated"),
        "line that is no JSON": Row(Trouble(Fault.MALFORMED, 4), "garbled"),
        "line of 50 MB": Row(Trouble(Fault.LONG_LINE, 4), "invalid", once=True),
    },
    "Answers that are none": {
        "empty answer": Row(Trouble(Fault.EMPTY), "empty"),
        "white space alone": Row(Trouble(Fault.WHITESPACE), "empty"),
        "the same phrase without end": Row(Trouble(Fault.REPEAT, 4), "repeating", context=160, any_length=True),
        "Ollama's own limit of repeated tokens (from 0.34.1)": Row(Trouble(Fault.REPEAT_LIMIT, 4), "repeating"),
        "refusal of a harmless request": Row(None, "refused", bad={"reply": DECLINED}, stands=STREAMED),
    },
    "Tools, thinking, structure": {
        "400, no tools, though it says so": _asked(CALLING, "unsupported", NOBODY, trouble=Trouble(Fault.NO_TOOLS)),
        "400, no thinking, though it says so": Row(
            Trouble(Fault.NO_THINKING), "unsupported", NOBODY, THINKING, {"thinking": "Hm."}, {"thinking": "Hm."}
        ),
        "tool call that is no JSON": _asked(CALLING, "invalid", trouble=Trouble(Fault.BAD_TOOL_CALL, 0), reply="Well"),
        "call of a tool that was not offered": _asked(CALLING, "invalid", reply=[ToolCall(name="divide")]),
        "prose where a tool has to be called": _asked(HAVING_TO, "invalid", reply="It is forty-two."),
        "broken JSON where a tool has to be called": _asked(HAVING_TO, "invalid", reply='{"name": "multiply", "argu'),
        "call written into the text where a tool has to be called": Row(
            None,
            "",
            NOBODY,
            HAVING_TO,
            {"reply": '```json\n{"name": "multiply", "arguments": {"a": 6, "b": 7}}\n```'},
            stands=EVERYWHERE,
        ),
        "object that does not validate": _asked(SONG, "invalid", reply='{"title": "Singing"}'),
        "prose instead of an object": _asked(SONG, "invalid", reply="I would rather chat."),
    },
    "Context": {
        "400, prompt too long (up to 0.24)": Row(Trouble(Fault.PROMPT_TOO_LONG), "context", NOBODY, LONG),
        "400, prompt too long (from 0.30)": Row(Trouble(Fault.PROMPT_TOO_LONG), "context", NOBODY, LONG, version=NEWER),
        "prompt cut without a word": Row(
            Trouble(Fault.PROMPT_CUT, more={"size": 1_024}), "context", NOBODY, LONG, stands=STREAMED
        ),
    },
}
ROWS = {name: row for rows in GROUPS.values() for name, row in rows.items()}
