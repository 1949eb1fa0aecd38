"""The project's own events, for subscribers of LlamaIndex's dispatcher.

    from llama_index.core.instrumentation import get_dispatcher

    get_dispatcher().add_event_handler(handler)      # hears these beside LlamaIndex's own

The events of an attempt itself (start, progress, end, exception) are LlamaIndex's, and name the model that was asked.
"""

from __future__ import annotations

from typing import Any

from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.events.base import BaseEvent

from routed_ollama import Candidate, CircuitState

dispatcher = get_dispatcher(__name__)


class _RoutedEvent(BaseEvent):
    @classmethod
    def class_name(cls) -> str:
        """Return the class's name."""
        return cls.__name__


class RouteDecidedEvent(_RoutedEvent):
    """A request begins: which model is asked first, which follow, and why.

    Attributes:
        request_id: the same in every event and record of a request.
        model: asked first.
        host: base URL of its server.
        task_type: what the prompt asks for.
        fallbacks: models that follow if it fails, best first.
        reason: in a sentence or two.
    """

    request_id: str
    model: str
    host: str
    task_type: str
    fallbacks: list[str]
    reason: str


class AttemptFailedEvent(_RoutedEvent):
    """A model did not deliver; where another can be asked, it is.

    Attributes:
        request_id: of the request.
        model: that was asked.
        host: base URL of its server.
        attempt: 1 for the first of the request.
        error: class and text of the error.
        exception: the error itself.
    """

    request_id: str
    model: str
    host: str
    attempt: int
    error: str
    exception: BaseException

    def model_dump(self, **kwargs: Any) -> dict[str, Any]:
        """Return plain values; the exception is in ``error``."""
        return super().model_dump(**{**kwargs, "exclude": {"exception", *(kwargs.get("exclude") or ())}})


class AnswerContinuedEvent(_RoutedEvent):
    """A model failed in mid-answer, and another goes on with the text.

    Attributes:
        request_id: of the request.
        model: that goes on.
        host: base URL of its server.
        continued_at: characters that had been handed out by then.
    """

    request_id: str
    model: str
    host: str
    continued_at: int


class CircuitOpenedEvent(_RoutedEvent):
    """A model, or a whole host when ``model`` is empty, failed too often and is left alone for a while."""

    model: str
    host: str


class CircuitClosedEvent(_RoutedEvent):
    """A model, or a whole host when ``model`` is empty, is asked again as usual."""

    model: str
    host: str


def circuit_changed(candidate: Candidate, state: CircuitState) -> None:
    """Tell subscribers of a circuit that opened or closed; one that lets a probe through is neither."""
    if state is CircuitState.OPEN:
        dispatcher.event(CircuitOpenedEvent(model=candidate.model, host=candidate.host))
    elif state is CircuitState.CLOSED:
        dispatcher.event(CircuitClosedEvent(model=candidate.model, host=candidate.host))
