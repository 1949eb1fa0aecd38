"""The errors of an exceeded bound. Each is httpx's own error of that kind too: code written for httpx catches it."""

from __future__ import annotations

from typing import ClassVar, Self

import httpx

from routed_ollama.errors import DeadlineExceededError


class _DeadlineError(DeadlineExceededError, httpx.TimeoutException):
    """A bound that ran out below an httpx client."""

    text: ClassVar[str]

    def __init__(
        self, message: str, *, phase: str = "", seconds: float = 0.0, request: httpx.Request | None = None
    ) -> None:
        DeadlineExceededError.__init__(self, message, phase=phase, seconds=seconds)
        # TimeoutError's constructor does not call the next in line, so httpx's part is initialised by name.
        httpx.TimeoutException.__init__(self, message, request=request)

    @classmethod
    def after(cls, phase: str, seconds: float, request: httpx.Request, *, own: bool) -> Self:
        """The error for a bound that ran out on a request; ``own``: the client's bound, not one of `Timeouts`."""
        origin = f"{request.url.scheme}://{request.url.netloc.decode('ascii')}"
        told = cls.text.format(origin=origin, seconds=f"{seconds:.3f}".rstrip("0").rstrip("."))
        hint = "the client's own timeout allows no more" if own else f"timeouts={{{phase!r}: ...}} allows longer"
        return cls(f"{told}; {hint}", phase=phase, seconds=seconds, request=request)


class ConnectDeadlineError(_DeadlineError, httpx.ConnectTimeout):
    """No connection within ``Timeouts.connect``."""

    text = "no connection to {origin} within {seconds} s"


class FirstTokenDeadlineError(_DeadlineError, httpx.ReadTimeout):
    """No first byte of an answer in time; its phase is ``load`` where loading was allowed for, else ``first_token``."""

    text = "no answer from {origin} began within {seconds} s"


class BetweenTokensDeadlineError(_DeadlineError, httpx.ReadTimeout):
    """A silence within an answer longer than ``Timeouts.between_tokens``."""

    text = "the answer from {origin} fell silent for {seconds} s"


class TotalDeadlineError(_DeadlineError, httpx.ReadTimeout):
    """An answer not complete within ``Timeouts.total``."""

    text = "the answer from {origin} was not complete within {seconds} s"
