"""What subscribers hear: one truthful pair per attempt, tokens once, spans under their parents, our own events."""

import asyncio
import gc
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
    asked,
    chat,
    complete,
    models,
    plain,
    routed,
    stream_chat,
)
from llama_index.core.callbacks import (
    CallbackManager,
    CBEventType,
    EventPayload,
    LlamaDebugHandler,
    TokenCountingHandler,
)
from llama_index.core.instrumentation.span import active_span_id
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.llms.ollama import Ollama

from llamaindex_routed_ollama import AttemptFailedEvent, PerformanceEventHandler
from routed_ollama import Router
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel

named = {"ids": lambda path: path.__name__}


@pytest.fixture
def server():
    with OllamaServer(models(reply="one two three four")) as running:
        yield running


@pytest.fixture
def heard(own_instrumentation):
    handler = Heard(events=[])
    own_instrumentation.add_event_handler(handler)
    return handler


@pytest.mark.parametrize("path", PATHS, **named)
def test_one_pair_per_attempt_that_names_who_was_asked(server, heard, path):
    server.fail(FIRST, Fault.LOAD_ERROR)
    debug = LlamaDebugHandler(print_trace_on_end=False)
    path(routed(server.url, callback_manager=CallbackManager([debug])))
    assert [event.model_dict["model_name"] for event in heard.of("LLMChatStartEvent")] == [FIRST, SECOND]
    assert len(heard.of("LLMChatEndEvent")) == 1
    assert not heard.of("LLMCompletionStartEvent")
    pairs = debug.get_event_pairs(CBEventType.LLM)
    assert [pair[0].payload[EventPayload.SERIALIZED]["model_name"] for pair in pairs] == [FIRST, SECOND]
    assert EventPayload.EXCEPTION in pairs[0][1].payload
    assert EventPayload.RESPONSE in pairs[1][1].payload


@pytest.mark.parametrize("path", PATHS, **named)
def test_tokens_are_counted_once(server, path):
    counter = TokenCountingHandler()
    path(routed(server.url, callback_manager=CallbackManager([counter])))
    assert len(counter.llm_token_counts) == 1
    assert counter.completion_llm_token_count == 4


@pytest.mark.parametrize("path", PATHS, **named)
def test_an_attempts_span_is_inside_the_outer_calls(server, own_instrumentation, path):
    spans = SimpleSpanHandler()
    own_instrumentation.add_span_handler(spans)
    path(routed(server.url))
    by_id = {span.id_: span for span in spans.completed_spans}
    inner = [span for span in by_id.values() if span.id_.startswith("Ollama.")]
    assert len(inner) == 1
    assert by_id[inner[0].parent_id].id_.startswith("RoutedOllama.")
    assert [span.parent_id for span in by_id.values()].count(None) == 1


def test_a_span_is_not_left_behind_for_who_reads_a_stream(server, own_instrumentation):
    before = active_span_id.get()
    for _ in routed(server.url).stream_chat(QUESTION):
        assert active_span_id.get() == before
    assert active_span_id.get() == before


@pytest.mark.parametrize("path", CHATS, **named)
def test_our_own_events_tell_the_way_of_a_request(server, heard, path):
    server.fail(FIRST, Fault.LOAD_ERROR)
    routing = path(routed(server.url)).raw["routing"]
    (decided,), (failed,) = heard.of("RouteDecidedEvent"), heard.of("AttemptFailedEvent")
    assert (decided.model, decided.fallbacks, decided.request_id) == (FIRST, [SECOND], routing["request_id"])
    assert (failed.model, failed.attempt, failed.error) == (FIRST, 1, routing["attempts"][0]["error"])
    assert failed.span_id == decided.span_id is not None
    assert AttemptFailedEvent.class_name() == "AttemptFailedEvent"
    assert "exception" not in failed.model_dump()


@pytest.mark.parametrize("path", STREAMS, **named)
def test_a_continued_answer_is_an_event(server, heard, path):
    server.fail(FIRST, Fault.CUT, after_chunks=2)
    path(routed(server.url))
    (continued,) = heard.of("AnswerContinuedEvent")
    assert (continued.model, continued.continued_at) == (SECOND, len("one two"))


def test_circuits_are_events(server, heard):
    config = {"health": {"failure_threshold": 1, "recovery_timeout": 0.05, "interval": 0}}
    llm = routed(server.url, config=config, learn=True)
    with server.fail(FIRST, Fault.LOAD_ERROR):
        chat(llm)
    assert [(event.model, event.host) for event in heard.of("CircuitOpenedEvent")] == [(FIRST, server.url)]
    while not heard.of("CircuitClosedEvent"):
        chat(llm, model=FIRST)
    assert heard.of("CircuitClosedEvent")[0].model == FIRST


@pytest.mark.parametrize("path", [path for path in PATHS if "complete" not in path.__name__], **named)
@pytest.mark.parametrize("fault", [None, Fault.LOAD_ERROR, Fault.EMPTY, Fault.CRASH, Fault.END_WITHOUT_DONE])
def test_a_handler_on_the_plain_class_fills_the_same_history(server, path, fault):
    def record(make):
        router = Router(base_url=server.url, store="memory")
        outcomes, record = [], router.record
        router.record = lambda outcome: (outcomes.append(outcome), record(outcome))
        if fault is not None:
            server.fail(FIRST, fault, times=1)
        with suppress(Exception):  # the history is what is looked at
            path(make(router))
        return [
            (o.model, o.host, o.kind, o.failure, o.error, o.task_type, o.output_tokens, o.quality) for o in outcomes
        ]

    def attached(router):
        manager = CallbackManager([PerformanceEventHandler(router, host=server.url)])
        return plain(server.url, callback_manager=manager)

    ours = record(lambda router: routed(None, models=[FIRST], router=router, max_attempts=1))
    theirs = record(attached)
    assert len(ours) == len(theirs) == 1
    if path in STREAMS or fault in {None, Fault.EMPTY, Fault.LOAD_ERROR}:  # else the server's whole answer hides it
        assert ours == theirs


def test_a_completion_of_the_plain_class_is_one_request(server):
    router = Router(base_url=server.url, store="memory")
    complete(plain(server.url, callback_manager=CallbackManager([PerformanceEventHandler(router, host=server.url)])))
    assert router.performance()[FIRST].total_requests == 1


def test_a_handler_beside_the_recorder_records_nothing_twice(server):
    router = Router(base_url=server.url, store="memory")
    manager = CallbackManager([PerformanceEventHandler(router)])
    chat(routed(None, router=router, callback_manager=manager))
    assert router.performance()[FIRST].total_requests == 1
    other = Router(base_url=server.url, store="memory")
    chat(routed(None, router=router, callback_manager=CallbackManager([PerformanceEventHandler(other)])))
    assert other.performance()[FIRST].total_requests == 1


def test_other_providers_are_left_alone():
    router = Router.from_models([FIRST])
    handler = PerformanceEventHandler(router)
    payload = {EventPayload.MESSAGES: QUESTION, EventPayload.SERIALIZED: {"class_name": "OpenAI", "model_name": "o"}}
    handler.on_event_start(CBEventType.LLM, payload, event_id="1")
    handler.on_event_end(CBEventType.LLM, {}, event_id="1")
    handler.on_event_start(CBEventType.RETRIEVE, {}, event_id="2")
    assert router.performance() == {}


def test_a_stream_that_nobody_reads_records_nothing(server):
    llm = routed(server.url, learn=True)
    llm.stream_chat(QUESTION)
    asyncio.run(llm.astream_chat(QUESTION))
    gc.collect()
    assert not asked(server)
    assert llm.router.performance() == {}


def test_a_stream_that_is_left_blames_nobody(server):
    llm = routed(server.url, learn=True)
    stream = llm.stream_chat(QUESTION)
    next(stream)
    stream.close()

    async def leave():
        stream = await llm.astream_chat(QUESTION)
        await anext(stream)
        await stream.aclose()

    asyncio.run(leave())
    assert llm.router.performance() == {}
    assert llm.router.health_check_all_models()[FIRST] == "healthy"


def test_a_stream_that_is_left_at_its_last_chunk_was_answered(server):
    llm = routed(server.url, learn=True)
    for chunk in llm.stream_chat(QUESTION):
        if "routing" in chunk.raw:
            break
    assert llm.router.performance()[FIRST].success_rate == 1


def test_a_ready_made_models_own_handlers_hear_its_attempts(server):
    counter = TokenCountingHandler()
    inside = Ollama(model=FIRST, base_url=server.url, callback_manager=CallbackManager([counter]))
    chat(routed(server.url, models=[inside]))
    assert counter.completion_llm_token_count == 4


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


@pytest.mark.parametrize("path", STRUCTURED, **named)
def test_an_unfit_answer_is_recorded_as_one(path):
    made = models(first={"reply": "I would rather chat."}, second={"reply": '{"title": "Rain", "year": 1999}'})
    with OllamaServer(made) as server:
        llm = routed(server.url, learn=True)
        path(llm)
        performance = llm.router.performance()
        assert (performance[FIRST].success_rate, performance[SECOND].success_rate) == (0, 1)


def test_thinking_and_images_are_as_in_the_plain_class():
    thoughtful = ScriptedModel(FIRST, thinking="Let me see.", capabilities=("completion", "thinking", "vision"))
    with OllamaServer([thoughtful]) as server:
        theirs = stream_chat(plain(server.url, thinking=True))
        ours = stream_chat(routed(server.url, models=[FIRST], thinking=True))
        assert ours.message == theirs.message
        assert ours.message.blocks[0].content == "Let me see."
