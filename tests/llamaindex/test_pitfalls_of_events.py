"""The pitfalls of what subscribers hear. Each check passes with ours, fails with a naive one; see ``test_pitfalls``."""

import re

import pytest
from asking import FIRST, QUESTION, SECOND, Heard, chat, collect, complete, models
from llama_index.core import Settings
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler, TokenCountingHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from naive_llm import WINDOW, Naive, Ours

from routed_ollama.testing import Fault, OllamaServer


@pytest.fixture
def server():
    with OllamaServer(models()) as running:
        yield running


def listening():
    handler = Heard(events=[])
    get_dispatcher().add_event_handler(handler)
    return handler


def events_come_once_and_name_who_was_asked(kind, server):
    """1, 2. A pair around the loop doubles the inner one, and names the first model whoever answers."""
    server.fail(FIRST, Fault.SERVER_ERROR)
    heard = listening()
    complete(kind.make(server.url, **WINDOW))
    started = [e for e in heard.events if type(e).__name__.endswith("StartEvent")]
    assert [event.model_dict["model_name"] for event in started] == [FIRST, SECOND]


def tokens_are_counted_once(kind, server):
    """1. Two pairs are two counts."""
    counter = TokenCountingHandler()
    Settings.callback_manager = CallbackManager([counter])
    try:
        chat(kind.make(server.url, **WINDOW))
    finally:
        Settings._callback_manager = None
    assert len(counter.llm_token_counts) == 1


def the_users_callbacks_hear_each_attempt(kind, server):
    """3. ``Settings.llm`` sets the callback manager anew; the inner models must hear of it."""
    server.fail(FIRST, Fault.SERVER_ERROR)
    llm = kind.make(server.url, **WINDOW)
    debug = LlamaDebugHandler(print_trace_on_end=False)
    llm.callback_manager = CallbackManager([debug])
    chat(llm)
    assert len(debug.get_event_pairs(CBEventType.LLM)) == 2


class Limiter:
    """Counts who waits."""

    def __init__(self):
        self.waits = 0

    def acquire(self):
        self.waits += 1


def the_rate_limiter_is_asked_per_attempt(kind, server):
    """3. Only decorated methods ask it."""
    server.fail(FIRST, Fault.SERVER_ERROR)
    limiter = Limiter()
    chat(kind.make(server.url, **WINDOW, rate_limiter=limiter))
    assert limiter.waits == 2


def a_streams_span_has_its_parent(kind, server):
    """4. The outer span is closed by the time a second model is asked."""
    server.fail(FIRST, Fault.SERVER_ERROR)
    spans = SimpleSpanHandler()
    get_dispatcher().add_span_handler(spans)
    collect(kind.make(server.url, **WINDOW), "astream_chat", QUESTION)
    by_id = {span.id_: span for span in spans.completed_spans}
    parents = [by_id.get(span.parent_id) for span in by_id.values() if span.id_.startswith("Ollama.")]
    assert len(parents) == 2
    assert all(parent is not None and "astream_chat" in parent.id_ for parent in parents), "a root"


def a_decision_and_a_failure_are_events(kind, server):
    """5. A failed whole answer leaves only the text of its error in the framework's own events."""
    server.fail(FIRST, Fault.SERVER_ERROR)
    heard = listening()
    chat(kind.make(server.url, **WINDOW))
    assert heard.of("RouteDecidedEvent")[0].model == FIRST
    assert heard.of("AttemptFailedEvent")[0].exception.status_code == 500


def who_stops_reading_blames_nobody(kind, server):
    """6. Closing a stream surfaces as an exception in it."""
    llm = kind.make(server.url, **WINDOW)
    stream = llm.stream_chat(QUESTION)
    next(stream)
    stream.close()
    assert kind.failures(llm) == {}


def a_stream_that_nobody_reads_is_no_request(kind, server):
    """6. Nothing was asked, so nothing begins."""
    heard = listening()
    kind.make(server.url, **WINDOW).stream_chat(QUESTION)
    assert not heard.of("LLMChatStartEvent")


CHECKS = {
    events_come_once_and_name_who_was_asked: "contains 2 more items",
    tokens_are_counted_once: "2 == 1",
    the_users_callbacks_hear_each_attempt: "1 == 2",
    the_rate_limiter_is_asked_per_attempt: "1 == 2",
    a_streams_span_has_its_parent: "a root",
    a_decision_and_a_failure_are_events: "out of range",
    who_stops_reading_blames_nobody: "'first:7b': 1",
    a_stream_that_nobody_reads_is_no_request: "LLMChatStartEvent",
}
"""Each with what the naive one ends in: another end would be a slip of the check."""


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_ours(check, server):
    check(Ours, server)


@pytest.mark.parametrize(("check", "end"), CHECKS.items(), ids=lambda part: getattr(part, "__name__", ""))
def test_the_naive_one_falls_into_it(check, end, server):
    with pytest.raises((Exception, pytest.fail.Exception), match=re.escape(end)):
        check(Naive, server)
