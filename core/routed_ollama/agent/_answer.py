"""Answers as an agent's caller gets them, and the pieces they arrive in. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from routed_ollama.fallback import Attempt


@dataclass(frozen=True, slots=True)
class Piece:
    """One line of Ollama's answer.

    Attributes:
        text: plain text.
        thinking: reasoning.
        called: whether it carries a tool call.
        final: the server's figures, on its last line.
        routing: the route, on the last piece of an answer that is handed out.
    """

    text: str
    thinking: str = ""
    called: bool = False
    final: Mapping[str, Any] | None = None
    routing: dict[str, Any] | None = None

    @classmethod
    def of(cls, line: Any) -> Self:
        """Return a line of the official client (its ``ChatResponse``) as a piece."""
        message = line.message
        final = line.model_dump(exclude={"message"}, exclude_none=True) if line.done else None
        return cls(message.content or "", message.thinking or "", bool(message.tool_calls), final)

    @property
    def usable(self) -> bool:
        """Whether it carries a tool call, reasoning, or text that is more than white space."""
        return bool(self.text.strip() or self.thinking or self.called)


class Pieces:
    """How the core's loops look at pieces; see ``routed_ollama.ChunkView``."""

    def text(self, chunk: Piece, /) -> str:
        """Return its plain text."""
        return chunk.text

    def usable(self, chunk: Piece, /) -> bool:
        """Whether it carries a tool call, reasoning, or text that is more than white space."""
        return chunk.usable

    def joinable(self, chunk: Piece, /) -> bool:
        """Whether it is plain text, which another model can go on with."""
        return not chunk.called

    def only_text(self, chunk: Piece, /) -> str:
        """Return the text of a piece that is text and nothing else, and not the last; empty for any other."""
        return "" if chunk.final is not None or chunk.called else chunk.text

    def done(self, chunk: Piece, /) -> bool:
        """Whether it is the server's last line."""
        return chunk.final is not None

    def with_text(self, chunk: Piece, text: str, /) -> Piece:
        """Return it with other text."""
        return replace(chunk, text=text)

    def with_route(self, chunk: Piece, attempt: Attempt, /) -> Piece:
        """Return the last piece with the route, and with the figures of all who had a part in the answer."""
        final = dict(chunk.final or {})
        attempt.prompt_tokens, attempt.output_tokens = final.get("prompt_eval_count"), final.get("eval_count")
        routing, total = attempt.route(), attempt.usage()
        if total is not None:
            final |= {"prompt_eval_count": total.prompt_tokens, "eval_count": total.output_tokens}
        return replace(chunk, final=final, routing=routing)


class AgentResponse(str):  # noqa: SLOT000 (copies and pickles keep what is in its dictionary)
    """An answer, or a piece of a streamed one: text, with how it came about.

    It is a ``str`` and may be used as one. Of a stream, the last piece carries the route and the figures (its text may
    be empty), each piece its part of the reasoning.

    Attributes:
        routing: who was asked and why, as plain JSON values: ``model``, ``task_type``, ``reason``, ``attempts``, ...
        thinking: the model's reasoning, where it showed some.
        prompt_tokens, output_tokens: as Ollama counted them; None when it did not. Where one model went on with what
            another had begun, of both: ``routing["attempts"]`` says how many were each's, and which are estimated.
        done_reason: why the model stopped: ``stop``, or ``length`` when the answer was cut at a limit.

    Example:
        >>> answer = AgentResponse("Hello.", routing={"model": "llama3.1:8b"})
        >>> answer.upper(), answer.model
        ('HELLO.', 'llama3.1:8b')
    """

    routing: dict[str, Any] | None
    thinking: str
    prompt_tokens: int | None
    output_tokens: int | None
    done_reason: str | None

    def __new__(
        cls,
        text: str = "",
        *,
        routing: dict[str, Any] | None = None,
        thinking: str = "",
        figures: Mapping[str, Any] | None = None,
    ) -> Self:
        """Make one; ``figures`` are those of Ollama's last line."""
        made = super().__new__(cls, text)
        figures = figures or {}
        made.routing = routing
        made.thinking = thinking
        made.prompt_tokens = figures.get("prompt_eval_count")
        made.output_tokens = figures.get("eval_count")
        made.done_reason = figures.get("done_reason")
        return made

    @property
    def model(self) -> str:
        """Name of the model that answered; empty on a piece that is not the last."""
        return str((self.routing or {}).get("model", ""))

    @classmethod
    def whole(cls, pieces: Sequence[Piece], routing: dict[str, Any]) -> Self:
        """Return the answer that came in these pieces."""
        text, thinking = "".join(p.text for p in pieces), "".join(p.thinking for p in pieces)
        return cls(text, routing=routing, thinking=thinking, figures=pieces[-1].final)

    @classmethod
    def part(cls, piece: Piece) -> Self:
        """Return one piece of a streamed answer."""
        return cls(piece.text, routing=piece.routing, thinking=piece.thinking, figures=piece.final)
