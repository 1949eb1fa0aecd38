"""What can go wrong with one model, once for the tests of the core, of both frameworks and of their parity.

Two models on one server: the bad one is asked first while nothing is known against it, the good one answers then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from routed_ollama.testing import Fault, OllamaServer, ScriptedModel

BAD, GOOD = "bad:1b", "good:1b"
ANSWER = "one two three four five six seven eight nine ten"
HANDED_OUT = "one two three four"
"""What a stream has said when it breaks off."""

WAIT = {"connect": 5.0, "load": 0.2, "first_token": 0.8, "between_tokens": 1.0}
"""Limits for what never ends by itself: a second and a little before the first token, a second after it."""

Made = TypeVar("Made")


@dataclass(frozen=True)
class Trouble:
    """What is wrong with the bad model.

    Attributes:
        fault: None: its whole server is gone.
        after_chunks: so much of the answer is said before.
        endless: whether it never ends by itself, so that somebody must stop waiting.
        loses: whether what was sent may be lost on the way: a reset takes with it what was not read yet.
        more: further arguments of ``OllamaServer.fail``.
    """

    fault: Fault | None
    after_chunks: int | None = None
    endless: bool = False
    loses: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def mid_stream(self) -> bool:
        """Whether something has been said before."""
        return bool(self.after_chunks)

    @property
    def details(self) -> dict[str, Any]:
        """Arguments of ``OllamaServer.fail``."""
        return {**self.more, **({} if self.after_chunks is None else {"after_chunks": self.after_chunks})}

    @property
    def timeouts(self) -> dict[str, float] | None:
        """Limits of time to be given; the defaults where it ends by itself, which a busy machine may need."""
        return WAIT if self.endless else None

    def said(self, continued_at: int) -> bool:
        """Whether this much may have been handed out when a stream broke off."""
        return continued_at == len(HANDED_OUT) or (self.loses and continued_at < len(HANDED_OUT))


FAULTS = {
    "connection refused": Trouble(None),
    "500 at load": Trouble(Fault.LOAD_ERROR),
    "404": Trouble(Fault.NOT_FOUND),
    "hang before the first token": Trouble(Fault.HANG, endless=True),
    "cut in mid-stream": Trouble(Fault.CUT, 4, loses=True),
    "closed in mid-stream": Trouble(Fault.CLOSE, 4),
    "error line in mid-stream": Trouble(Fault.CRASH, 4),
    "stall in mid-stream": Trouble(Fault.STALL, 4, endless=True),
    "ends without done": Trouble(Fault.END_WITHOUT_DONE, 4),
    "ends with nothing said": Trouble(Fault.END_WITHOUT_DONE, 0),
    "line that is not JSON": Trouble(Fault.MALFORMED, 4),
    "empty answer": Trouble(Fault.EMPTY),
    "white space alone": Trouble(Fault.WHITESPACE),
    "reset before any answer": Trouble(Fault.RESET),
    "queue full": Trouble(Fault.BUSY),
    "500 of its own": Trouble(Fault.SERVER_ERROR),
    "out of memory": Trouble(Fault.OUT_OF_MEMORY),
    "crash before the first token": Trouble(Fault.CRASH_BEFORE_TOKEN),
}


def both(*, bad: dict[str, Any] | None = None, good: dict[str, Any] | None = None, **each: Any) -> list[ScriptedModel]:
    """Return the two models, with what is said for each and for both.

    The good one is smaller: after memory ran out nothing as large is tried.
    """
    each = {"reply": ANSWER, **each}
    return [
        ScriptedModel(GOOD, **{"size": 10**8, **each, **(good or {})}),
        ScriptedModel(BAD, **{**each, **(bad or {})}),
    ]


def leads(task_type: str) -> dict[str, Any]:
    """Return a configuration by which the bad model leads, and nobody looks after the servers meanwhile."""
    return {"health": {"interval": 0}, "task_specific_models": {task_type: [BAD, GOOD]}}


def with_trouble(server: OllamaServer, name: str, make: Callable[[Sequence[str]], Made]) -> Made:
    """Return what is made over both models, with that trouble on the bad one from then on.

    Args:
        server: has both.
        name: of the trouble.
        make: takes the URLs of the servers; what it returns has a ``router``.
    """
    trouble = FAULTS[name]
    if trouble.fault is not None:
        server.fail(BAD, trouble.fault, **trouble.details)
        return make([server.url])
    server.remove_model(BAD)
    with OllamaServer([BAD]) as gone:
        made: Any = make([gone.url, server.url])
        made.router.recommend_model("so that it is known")  # ... and only then its server ends
    return made


def assert_mended(name: str, routing: dict[str, Any], *, streamed: bool) -> None:
    """See that a route says what happened: the bad model failed, and why; the good one answered."""
    attempts = routing["attempts"]
    assert (attempts[0]["model"], attempts[0]["outcome"]) == (BAD, "failed")
    assert attempts[0]["error"]
    assert attempts[-1]["outcome"] == "ok"
    assert routing["model"] == GOOD
    trouble = FAULTS[name]
    if streamed and trouble.mid_stream:
        assert trouble.said(routing.get("continued_at", 0))
    else:
        assert "continued_at" not in routing
