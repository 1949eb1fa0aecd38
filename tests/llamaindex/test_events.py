"""What subscribers hear: one truthful pair per attempt, tokens once, spans under their parents, our own events."""

import doctest
import gc
import importlib
from contextlib import suppress

import pytest
from asking import (
    CHATS,
    FIRST,
    PATHS,
    QUESTION,
    SECOND,
    STREAMS,
    STRUCTURED,
    Heard,
    achat,
    asked,
    chat,
    models,
    plain,
    routed,
    stream_chat,
)
from leaving import LEAVING
from llama_index.core import Settings
from llama_index.core.base.llms.types import AudioBlock, ChatMessage
from llama_index.core.callbacks import (
    CallbackManager,
    CBEventType,
    EventPayload,
    LlamaDebugHandler,
    TokenCountingHandler,
)
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.instrumentation.span import active_span_id
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.llms.ollama import Ollama
from tooled import WITH_TOOLS

from llamaindex_routed_ollama import AttemptFailedEvent, RoutedOllama
from routed_ollama import NoModelError, Router
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel

EVERY = [*PATHS, *STRUCTURED, *WITH_TOOLS]
NO_MONITOR = {"health": {"interval": 0}}
named = {"ids": lambda path: path.__name__}


def reply(request):
    return '{"title": "Rain", "year": 1999}' if request.format else "one two three four"


@pytest.fixture
def server():
    made = [ScriptedModel(name, reply=reply) for name in (FIRST, SECOND)]
    with OllamaServer(made) as running:
        yield running


@pytest.fixture
def tooled_server():
    with OllamaServer(models(capabilities=("completion", "tools"))) as running:
        yield running


def server_for(path, request):
    return request.getfixturevalue("tooled_server" if path in WITH_TOOLS else "server")


@pytest.fixture
def heard(own_instrumentation):
    handler = Heard(events=[])
    own_instrumentation.add_event_handler(handler)
    return handler


@pytest.fixture
def spans(own_instrumentation):
    handler = SimpleSpanHandler()
    own_instrumentation.add_span_handler(handler)
    return handler


def debugging():
    return LlamaDebugHandler(print_trace_on_end=False)


def pairs(debug):
    """Whom each pair names, and whether it ended in an answer or an exception."""
    found = []
    for start, *end in debug.get_event_pairs(CBEventType.LLM):
        payload = end[0].payload if end else {}
        how = {EventPayload.EXCEPTION: "failed", EventPayload.RESPONSE: "answered"}
        ended = [text for key, text in how.items() if key in payload]
        found.append((start.payload[EventPayload.SERIALIZED]["model_name"], *ended))
    return found


# --- the framework's own, once per attempt ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", EVERY, **named)
def test_one_pair_per_attempt_that_names_who_was_asked(heard, path, request):
    server = server_for(path, request)
    server.fail(FIRST, Fault.LOAD_ERROR)
    debug = debugging()
    path(routed(server.url, callback_manager=CallbackManager([debug])))
    assert [event.model_dict["model_name"] for event in heard.of("LLMChatStartEvent")] == [FIRST, SECOND]
    assert len(heard.of("LLMChatEndEvent")) == 1
    assert len(heard.of("SpanDropEvent")) + len(heard.of("ExceptionEvent")) == 1
    assert not heard.of("LLMCompletionStartEvent")
    assert pairs(debug) == [(FIRST, "failed"), (SECOND, "answered")]


@pytest.mark.parametrize("path", STREAMS, **named)
def test_a_seam_is_a_failure_and_an_answer(server, heard, path):
    server.fail(FIRST, Fault.CUT, after_chunks=2)
    debug, counter = debugging(), TokenCountingHandler()
    path(routed(server.url, callback_manager=CallbackManager([debug, counter])))
    assert pairs(debug) == [(FIRST, "failed"), (SECOND, "answered")]
    assert [each.completion_token_count for each in counter.llm_token_counts] == [0, 4]  # nobody counted the first's
    kinds = ["LLMChatStartEvent", "ExceptionEvent", "AttemptFailedEvent", "LLMChatStartEvent"]
    told = [name for event in heard.events if "InProgress" not in (name := type(event).__name__)]
    assert told == ["RouteDecidedEvent", *kinds, "AnswerContinuedEvent", "LLMChatEndEvent"]


@pytest.mark.parametrize("path", EVERY, **named)
def test_tokens_are_counted_once(path, heard, request):
    server = server_for(path, request)
    counter = TokenCountingHandler()
    path(routed(server.url, callback_manager=CallbackManager([counter])))
    (count,), (end,) = counter.llm_token_counts, heard.of("LLMChatEndEvent")
    usage = end.response.raw["usage"]
    assert (count.prompt_token_count, count.completion_token_count) == (
        usage["prompt_tokens"],
        usage["completion_tokens"],
    )


@pytest.mark.parametrize("path", EVERY, **named)
@pytest.mark.parametrize("fault", [None, Fault.LOAD_ERROR])
def test_an_attempts_span_is_inside_the_outer_calls(spans, path, fault, request):
    server = server_for(path, request)
    if fault is not None:
        server.fail(FIRST, fault)
    path(routed(server.url))
    by_id = {span.id_: span for span in [*spans.completed_spans, *spans.dropped_spans]}
    inner = [span for span in by_id.values() if span.id_.startswith("Ollama.")]
    assert len(inner) == (1 if fault is None else 2)
    assert all(by_id[span.parent_id].id_.startswith("RoutedOllama.") for span in inner)
    roots = [span.id_ for span in by_id.values() if span.parent_id is None]
    assert len([root for root in roots if "_prepare_chat_with_tools" not in root]) == 1
    assert not spans.open_spans


def test_a_span_is_not_left_behind_for_who_reads_a_stream(server):
    before = active_span_id.get()
    for _ in routed(server.url).stream_chat(QUESTION):
        assert active_span_id.get() == before
    assert active_span_id.get() == before


@pytest.mark.parametrize("path", LEAVING, **named)
def test_a_stream_that_is_left_ends_in_the_exception_of_being_left(server, heard, spans, path):
    debug = debugging()
    path(routed(server.url, callback_manager=CallbackManager([debug])))
    gc.collect()
    assert pairs(debug) == [(FIRST, "failed")]
    (left,) = heard.of("ExceptionEvent")
    assert isinstance(left.exception, GeneratorExit)
    assert not heard.of("AttemptFailedEvent")
    assert not heard.of("LLMChatEndEvent")
    assert not spans.open_spans


@pytest.mark.parametrize("path", ["stream_chat", "stream_complete", "astream_chat", "astream_complete"])
def test_a_stream_that_nobody_reads_is_heard_of_by_nobody(server, heard, path):
    debug = debugging()
    llm = routed(server.url, callback_manager=CallbackManager([debug]))
    asked_for = QUESTION if "chat" in path else "Count to ten"
    made = getattr(llm, path)(asked_for)
    if path.startswith("a"):
        with suppress(StopIteration):
            made.send(None)
    del made
    gc.collect()
    assert (heard.events, pairs(debug), asked(server)) == ([], [], [])


@pytest.mark.parametrize("path", ["chat", "stream_chat"])
def test_a_callers_mistake_is_heard_of_as_by_the_plain_class(server, heard, path):
    audio = [ChatMessage(blocks=[AudioBlock(audio=b"abc", format="wav")])]
    told = []
    for make in (plain, routed):
        debug = debugging()
        heard.events.clear()
        with pytest.raises(ValueError, match="Unsupported block type"):
            list(getattr(make(server.url, callback_manager=CallbackManager([debug])), path)(audio))
        kinds = {type(event).__name__ for event in heard.events}
        told.append((pairs(debug), kinds & {"LLMChatStartEvent", "LLMChatEndEvent", "SpanDropEvent"}))
    assert told[0] == told[1]
    assert not heard.of("AttemptFailedEvent")


# --- whose handlers hear ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["model", "settings before", "settings after", "on access"])
@pytest.mark.parametrize("path", [chat, achat, stream_chat], **named)
def test_handlers_hear_wherever_they_are_set(server, path, where):
    debug = debugging()
    manager = CallbackManager([debug])
    try:
        if where == "settings before":
            Settings.callback_manager = manager
        llm = routed(server.url, **({"callback_manager": manager} if where == "model" else {}))
        if where == "on access":
            llm.callback_manager = manager
        if where == "settings after":
            Settings.llm = llm
            Settings.callback_manager = manager
            llm = Settings.llm
        path(llm)
    finally:
        Settings._callback_manager = None
    assert pairs(debug) == [(FIRST, "answered")]


def test_a_ready_made_models_own_handlers_hear_its_attempts(server):
    counter = TokenCountingHandler()
    inside = Ollama(model=FIRST, base_url=server.url, callback_manager=CallbackManager([counter]))
    chat(routed(server.url, models=[inside]))
    assert counter.completion_llm_token_count == 4


def test_handlers_of_two_models_hear_each_their_own(server, heard):
    debugs = [debugging(), debugging()]
    llms = [
        routed(server.url, model=name, callback_manager=CallbackManager([debug]), learn=True)
        for name, debug in zip((FIRST, SECOND), debugs, strict=True)
    ]
    for llm in (*llms, llms[1]):
        chat(llm)
    assert [len(pairs(debug)) for debug in debugs] == [1, 2]
    assert [sum(each.total_requests for each in llm.router.performance().values()) for llm in llms] == [1, 2]
    assert len({event.request_id for event in heard.of("RouteDecidedEvent")}) == 3  # the dispatcher is the process's


class Limiter:
    def __init__(self):
        self.waits = 0

    def acquire(self):
        self.waits += 1

    async def async_acquire(self):
        self.waits += 1


@pytest.mark.parametrize("path", PATHS, **named)
def test_a_rate_limiter_is_asked_once_per_attempt(server, path):
    limiter = Limiter()
    server.fail(FIRST, Fault.LOAD_ERROR)
    path(routed(server.url, rate_limiter=limiter))
    assert limiter.waits == 2


class Faulty(BaseCallbackHandler):
    """A handler with a mistake in it."""

    def __init__(self, when):
        super().__init__([], [])
        self.when = when

    def on_event_start(self, event_type, payload=None, event_id="", parent_id="", **kwargs):
        self._hear("start")
        return event_id

    def on_event_end(self, event_type, payload=None, event_id="", **kwargs):
        self._hear("end")

    def _hear(self, when):
        if when == self.when:
            raise ConnectionError("a mistake in a handler")  # of a class that a failing model raises, too

    def start_trace(self, trace_id=None):
        pass

    def end_trace(self, trace_id=None, trace_map=None):
        pass


@pytest.mark.parametrize("when", ["start", "end"])
@pytest.mark.parametrize("path", CHATS, **named)
def test_what_a_handler_raises_is_raised_as_by_the_plain_class_and_blames_no_model(server, path, when):
    for make in (plain, routed):
        llm = make(server.url, callback_manager=CallbackManager([Faulty(when)]))
        with pytest.raises(ConnectionError, match="a mistake in a handler"):
            path(llm)
    assert asked(server) == ([] if when == "start" else [FIRST, FIRST])
    llm = routed(server.url, callback_manager=CallbackManager([Faulty(when)]), learn=True)
    with suppress(ConnectionError):
        path(llm)
    records = {name: each.success_rate for name, each in llm.router.performance().items()}
    assert records == ({} if when == "start" else {FIRST: 1.0})


@pytest.mark.parametrize("path", CHATS, **named)
def test_a_budget_of_tokens_that_is_spent_asks_nobody_else(server, path):
    llm = routed(server.url, callback_manager=CallbackManager([TokenCountingHandler(token_budget=5)]))
    for _ in range(2):
        with pytest.raises(ValueError, match="Token budget exceeded"):
            path(llm)
    assert asked(server) == [FIRST]


def test_what_a_subscriber_raises_is_nobodys_business(server, own_instrumentation):
    class Broken(Heard):
        def handle(self, event, **kwargs):
            raise RuntimeError("a mistake in a subscriber")

    own_instrumentation.add_event_handler(Broken())
    assert chat(routed(server.url)).raw["routing"]["attempts"][0]["outcome"] == "ok"


# --- our own ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CHATS, **named)
@pytest.mark.parametrize("fault", [Fault.LOAD_ERROR, Fault.EMPTY, Fault.CUT, Fault.END_WITHOUT_DONE, Fault.MALFORMED])
def test_our_own_events_tell_the_way_of_a_request(server, heard, path, fault):
    server.fail(FIRST, fault)
    routing = path(routed(server.url)).raw["routing"]
    (decided,), (failed,) = heard.of("RouteDecidedEvent"), heard.of("AttemptFailedEvent")
    assert (decided.model, decided.fallbacks, decided.request_id) == (FIRST, [SECOND], routing["request_id"])
    assert (failed.model, failed.attempt, failed.error) == (FIRST, 1, routing["attempts"][0]["error"])
    assert failed.span_id == decided.span_id is not None
    assert "exception" not in failed.model_dump()
    assert FIRST in failed.model_dump_json()
    assert AttemptFailedEvent.class_name() == failed.model_dump()["class_name"] == "AttemptFailedEvent"


@pytest.mark.parametrize("path", STREAMS, **named)
def test_a_continued_answer_is_an_event(server, heard, path):
    server.fail(FIRST, Fault.CUT, after_chunks=2)
    path(routed(server.url))
    (continued,) = heard.of("AnswerContinuedEvent")
    assert (continued.model, continued.continued_at) == (SECOND, len("one two"))


def test_circuits_are_events_once_however_many_models_share_a_router(server, heard):
    config = {"health": {"failure_threshold": 1, "recovery_timeout": 0.05, "interval": 0}}
    router = Router(base_url=server.url, store="memory", config=config)
    llm, _other = [routed(None, router=router, learn=None) for _ in range(2)]
    llm.temperature = 0.5  # is made anew
    with server.fail(FIRST, Fault.LOAD_ERROR):
        chat(llm)
    assert [(event.model, event.host) for event in heard.of("CircuitOpenedEvent")] == [(FIRST, server.url)]
    while not heard.of("CircuitClosedEvent"):
        chat(llm, model=FIRST)
    assert [event.model for event in heard.of("CircuitClosedEvent")] == [FIRST]


@pytest.mark.parametrize("path", STREAMS, **named)
def test_a_request_that_nobody_can_serve_is_an_exception_in_its_span(server, heard, path):
    for name in (FIRST, SECOND):
        server.remove_model(name)
    with pytest.raises(NoModelError):
        path(RoutedOllama(base_url=server.url, store="memory", config=NO_MONITOR))
    (event,) = heard.of("ExceptionEvent")
    assert isinstance(event.exception, NoModelError)
    assert event.span_id.startswith("RoutedOllama.")


@pytest.mark.parametrize("module", ["events", "callbacks"])
def test_examples_run(module):
    found = doctest.testmod(importlib.import_module(f"llamaindex_routed_ollama.{module}"))
    assert found.attempted
    assert not found.failed
