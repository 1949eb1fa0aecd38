"""The recorder: what is learned of each request, once, from our own attempts and from the plain class alike."""

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
    acomplete,
    asked,
    chat,
    complete,
    models,
    plain,
    routed,
    stream_chat,
    stream_complete,
)
from leaving import LEAVING
from llama_index.core import Settings
from llama_index.core.base.llms.types import AudioBlock, ChatMessage
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.llms.ollama import Ollama
from tooled import CHATS_WITH_TOOLS

from llamaindex_routed_ollama import PerformanceEventHandler
from routed_ollama import OutcomeKind, Router
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel

SONG = '{"title": "Rain", "year": 1999}'
named = {"ids": lambda path: path.__name__}


@pytest.fixture
def server():
    with OllamaServer(models(reply="one two three four")) as running:
        yield running


class Listening(Router):
    """A router that keeps what is recorded."""

    def __init__(self, url):
        super().__init__(base_url=url, store="memory", config={"health": {"interval": 0}})
        self.heard = []

    def record(self, outcome):
        self.heard.append(outcome)
        super().record(outcome)


def attached(router, server, name=FIRST):
    """The plain class with the handler on it."""
    manager = CallbackManager([PerformanceEventHandler(router, host=server.url)])
    return plain(server.url, model=name, callback_manager=manager)


def alone(router, _server):
    """Ours, over the first alone."""
    return routed(None, models=[FIRST], router=router, learn=None, max_attempts=1)


def row(outcome):
    """What a history keeps of an outcome, but for its times: whether they are there."""
    timed = [outcome.load_seconds, outcome.prompt_seconds, outcome.output_seconds, outcome.total_seconds]
    return (
        (outcome.model, outcome.host, outcome.kind, outcome.failure, outcome.error, outcome.task_type),
        (outcome.prompt_tokens, outcome.output_tokens, outcome.quality),
        [seconds is not None and seconds >= 0 for seconds in timed],
    )


def recorded(path, make, server, fault=None, **details):
    router = Listening(server.url)
    if fault is not None:
        server.fail(FIRST, fault, times=1, **details)
    with suppress(Exception):  # the history is what is looked at
        path(make(router, server))
    (outcome,) = router.heard
    return router, outcome


@pytest.mark.parametrize("path", [*CHATS, *STRUCTURED, *CHATS_WITH_TOOLS], **named)
def test_a_handler_on_the_plain_class_fills_the_same_history(path):
    reply = SONG if path in STRUCTURED else None
    with OllamaServer(models(reply=reply, capabilities=("completion", "tools"))) as server:
        (theirs, one), (ours, other) = (recorded(path, make, server) for make in (attached, alone))
    assert row(one) == row(other)
    assert one.kind is OutcomeKind.OK
    for router in (theirs, ours):
        learned = router.performance()[FIRST]
        assert (learned.total_requests, learned.success_rate) == (1, 1)
        assert learned.average_response_time > 0
        assert learned.tokens_per_second > 0
    assert theirs.performance()[FIRST].quality_score == ours.performance()[FIRST].quality_score


FAILING = [Fault.LOAD_ERROR, Fault.EMPTY, Fault.SERVER_ERROR, Fault.NOT_FOUND, Fault.BUSY, Fault.RESET]
IN_THE_MIDDLE = [Fault.CRASH, Fault.CUT, Fault.CLOSE, Fault.END_WITHOUT_DONE, Fault.MALFORMED]


@pytest.mark.parametrize(
    ("path", "fault"),
    [*((path, fault) for path in CHATS for fault in FAILING), *((path, f) for path in STREAMS for f in IN_THE_MIDDLE)],
    ids=lambda part: getattr(part, "__name__", str(part)),
)
def test_a_handler_on_the_plain_class_hears_the_same_failures(server, path, fault):
    # A whole answer that breaks off in its middle is another to the plain class, which does not stream it underneath.
    (_, one), (_, other) = (recorded(path, make, server, fault) for make in (attached, alone))
    assert (one.model, one.host, one.kind, one.failure) == (other.model, other.host, other.kind, other.failure)
    if fault is not Fault.RESET:  # the official client gives a whole answer's connection errors another class
        assert row(one)[0] == row(other)[0]


@pytest.mark.parametrize("path", [complete, acomplete, stream_complete], **named)
def test_a_completion_of_the_plain_class_is_one_request(server, path):
    router = Listening(server.url)
    path(attached(router, server))
    assert [outcome.output_tokens for outcome in router.heard] == [4]


@pytest.mark.parametrize("path", LEAVING, **named)
@pytest.mark.parametrize("make", [attached, alone], **named)
def test_who_leaves_a_stream_is_recorded_as_having_left(server, make, path):
    router = Listening(server.url)
    path(make(router, server))
    gc.collect()
    assert [(outcome.kind, outcome.failure) for outcome in router.heard] == [(OutcomeKind.CANCELLED, "cancelled")]
    assert router.performance() == {}


@pytest.mark.parametrize("make", [attached, alone], **named)
def test_a_callers_mistake_blames_no_model(server, make):
    router = Listening(server.url)
    with pytest.raises(ValueError, match="Unsupported block type"):
        make(router, server).chat([ChatMessage(blocks=[AudioBlock(audio=b"abc", format="wav")])])
    assert [(outcome.kind, outcome.failure) for outcome in router.heard] == [(OutcomeKind.CANCELLED, "caller")]
    assert router.performance() == {}


def test_a_handler_beside_the_recorder_records_nothing_twice(server):
    router, other = Listening(server.url), Listening(server.url)
    for listening in (router, other):
        manager = CallbackManager([PerformanceEventHandler(listening)])
        chat(routed(None, router=router, learn=None, callback_manager=manager))
    assert (len(router.heard), len(other.heard)) == (2, 1)


def test_a_handler_in_the_settings_hears_the_plain_class_and_leaves_ours_to_its_router(server):
    router = Listening(server.url)
    try:
        Settings.callback_manager = CallbackManager([PerformanceEventHandler(router, host=server.url)])
        chat(routed(None, router=router, learn=None))
        chat(plain(server.url, model=SECOND))
    finally:
        Settings._callback_manager = None
    assert [outcome.model for outcome in router.heard] == [FIRST, SECOND]


def test_models_with_routers_of_their_own_record_nothing_of_each_other(server):
    routers = [Listening(server.url) for _ in range(3)]
    llms = [routed(None, router=router, learn=None) for router in routers]
    for number, llm in enumerate(llms):
        for _ in range(number):
            chat(llm)
    assert [len(router.heard) for router in routers] == [0, 1, 2]


def test_other_providers_are_left_alone():
    router = Router.from_models([FIRST])
    handler = PerformanceEventHandler(router)
    payload = {EventPayload.MESSAGES: QUESTION, EventPayload.SERIALIZED: {"class_name": "OpenAI", "model_name": "o"}}
    handler.on_event_start(CBEventType.LLM, payload, event_id="1")
    handler.on_event_end(CBEventType.LLM, {}, event_id="1")
    handler.on_event_start(CBEventType.RETRIEVE, {}, event_id="2")
    assert router.performance() == {}


def test_a_stream_that_nobody_reads_records_nothing(server):
    router = Listening(server.url)
    llm = alone(router, server)
    llm.stream_chat(QUESTION)
    asyncio.run(llm.astream_chat(QUESTION))
    gc.collect()
    assert not asked(server)
    assert not router.heard


def test_a_stream_that_is_left_at_its_last_chunk_was_answered(server):
    router = Listening(server.url)
    for chunk in alone(router, server).stream_chat(QUESTION):
        if "routing" in chunk.raw:
            break
    assert [outcome.kind for outcome in router.heard] == [OutcomeKind.OK]


@pytest.mark.parametrize("path", PATHS, **named)
def test_a_failed_attempt_is_recorded_as_the_firsts_and_the_answer_as_the_seconds(server, path):
    server.fail(FIRST, Fault.LOAD_ERROR)
    router = Listening(server.url)
    path(routed(None, router=router, learn=None))
    assert [(o.model, o.kind) for o in router.heard] == [(FIRST, OutcomeKind.FAILED), (SECOND, OutcomeKind.OK)]
    assert len({outcome.request_id for outcome in router.heard}) == 1


@pytest.mark.parametrize("path", STRUCTURED, **named)
def test_an_unfit_answer_is_recorded_as_one(path):
    made = models(first={"reply": "I would rather chat."}, second={"reply": SONG})
    with OllamaServer(made) as server:
        llm = routed(server.url, learn=True)
        path(llm)
        performance = llm.router.performance()
        assert (performance[FIRST].success_rate, performance[SECOND].success_rate) == (0, 1)


def test_thoughts_alone_are_an_answer_to_the_recorder_and_blocks_as_in_the_plain_class():
    thoughtful = ScriptedModel(FIRST, thinking="Let me see.", capabilities=("completion", "thinking"))
    with OllamaServer([thoughtful]) as server:
        router = Listening(server.url)
        theirs = stream_chat(Ollama(model=FIRST, base_url=server.url, context_window=4096, thinking=True))
        ours = stream_chat(routed(None, models=[FIRST], router=router, learn=None, thinking=True))
        assert ours.message == theirs.message
        assert ours.message.blocks[0].content == "Let me see."
        assert [outcome.kind for outcome in router.heard] == [OutcomeKind.OK]
