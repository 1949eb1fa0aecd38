"""The project's own events, for subscribers of LlamaIndex's dispatcher, beside LlamaIndex's own.

    RouteDecidedEvent      a request begins: whom it is asked of first, and why
    AttemptFailedEvent     a model did not deliver
    AnswerContinuedEvent   another goes on with the text of a stream that broke off
    CircuitOpenedEvent     a model, or a host, is left alone for a while
    CircuitClosedEvent     ... and is asked again

LlamaIndex's own events (start, progress, end, exception) are fired once per attempt, by the plain ``Ollama`` that is
asked, and name its model; so tokens are counted once. A completion is a chat to it. Both kinds tell the same story:
``span_id`` of ours is the span of the call to ``RoutedOllama``, which is the parent of its attempts' spans.

The dispatcher is the process's: a subscriber hears every model there is, and tells them apart by ``request_id`` (it is
in ``raw["routing"]`` too) or by the span. What a subscriber raises is swallowed by the dispatcher.

Example:
    >>> from llama_index.core.instrumentation import get_dispatcher
    >>> from llama_index.core.instrumentation.event_handlers import BaseEventHandler
    >>> class Watcher(BaseEventHandler):
    ...     @classmethod
    ...     def class_name(cls):
    ...         return "Watcher"
    ...     def handle(self, event, **kwargs):
    ...         if isinstance(event, CircuitOpenedEvent):
    ...             print(event.model, "rests")
    >>> watcher = Watcher()
    >>> get_dispatcher().add_event_handler(watcher)
    >>> circuit_changed(Candidate("llama3.1:8b", "http://127.0.0.1:11434"), CircuitState.OPEN)
    llama3.1:8b rests
    >>> get_dispatcher().event_handlers.remove(watcher)
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.events.base import BaseEvent
from llama_index.core.instrumentation.events.exception import ExceptionEvent
from pydantic import Field

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
    """A model did not deliver; where another can be asked, it is. Neither a cancelled request nor a caller's mistake.

    Attributes:
        request_id: of the request.
        model: that was asked.
        host: base URL of its server.
        attempt: 1 for the first of the request.
        error: class and text of the error.
        exception: the error itself; in no dump.
    """

    request_id: str
    model: str
    host: str
    attempt: int
    error: str
    exception: BaseException = Field(exclude=True)


class AnswerContinuedEvent(_RoutedEvent):
    """A model failed in mid-answer, and another goes on with the text. Fired when its first words are here.

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
    """A model, or a whole host when ``model`` is empty, failed too often and is left alone for a while.

    Attributes:
        model: that rests; empty for its whole host.
        host: base URL.
    """

    model: str
    host: str


class CircuitClosedEvent(_RoutedEvent):
    """A model, or a whole host when ``model`` is empty, is asked again as usual.

    Attributes:
        model: that is asked again; empty for its whole host.
        host: base URL.
    """

    model: str
    host: str


@contextmanager
def exceptions_told(span_id: str | None) -> Generator[None]:
    """Tell subscribers of the error that a stream ends in; the span of the call that made it is over by then."""
    try:
        yield
    except Exception as error:
        dispatcher.event(ExceptionEvent(exception=error, span_id=span_id))
        raise


def circuit_changed(candidate: Candidate, state: CircuitState) -> None:
    """Tell subscribers of a circuit that opened or closed; one that lets a probe through is neither."""
    if state is CircuitState.OPEN:
        dispatcher.event(CircuitOpenedEvent(model=candidate.model, host=candidate.host))
    elif state is CircuitState.CLOSED:
        dispatcher.event(CircuitClosedEvent(model=candidate.model, host=candidate.host))
