"""What a LangChain user does with a chat model, done with ours: as with the plain class, and the route besides."""

import asyncio
import json

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage, trim_messages
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_ollama import ChatOllama
from wire import FIRST, SECOND, answered_by, asked, bodies, collected, models, plain, routed, whole

from langchain_routed_ollama import RoutedChatOllama
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel

ROUTE = {
    "request_id",
    "model",
    "host",
    "task_type",
    "complexity",
    "score",
    "reason",
    "decision_seconds",
    "attempts",
}
ATTEMPT = {"model", "host", "outcome", "error", "seconds", "load_seconds", "first_token_seconds"}


@pytest.fixture
def server():
    with OllamaServer(models()) as running:
        yield running


def live(url, names, **kwargs):
    return RoutedChatOllama(models=names, model=names[0], base_url=url, store="memory", temperature=0, seed=1, **kwargs)


def invoke(llm, prompt, **kwargs):
    return llm.invoke(prompt, **kwargs)


def ainvoke(llm, prompt, **kwargs):
    return asyncio.run(llm.ainvoke(prompt, **kwargs))


def stream(llm, prompt, **kwargs):
    return whole(llm.stream(prompt, **kwargs))


def astream(llm, prompt, **kwargs):
    return whole(asyncio.run(collected(llm.astream(prompt, **kwargs))))


def batch(llm, prompt, **kwargs):
    return llm.batch([prompt], **kwargs)[0]


def abatch(llm, prompt, **kwargs):
    return asyncio.run(llm.abatch([prompt], **kwargs))[0]


WAYS = (invoke, ainvoke, stream, astream, batch, abatch)
ways = pytest.mark.parametrize("ask", WAYS, ids=lambda way: way.__name__)


@pytest.mark.live
@ways
def test_an_answer_is_what_the_plain_class_gives_and_the_route_besides(ask, ollama_url, chat_models):
    theirs = ask(
        ChatOllama(model=chat_models[0], base_url=ollama_url, temperature=0, seed=1, num_predict=20), "Say hi."
    )
    ours = ask(live(ollama_url, chat_models, num_predict=20), "Say hi.")
    assert type(ours) is type(theirs)
    assert ours.text.strip()
    assert ours.response_metadata.keys() - theirs.response_metadata.keys() == {"routing"}
    assert theirs.response_metadata.keys() - ours.response_metadata.keys() == set()
    assert ours.usage_metadata.keys() == theirs.usage_metadata.keys()
    assert all(count > 0 for count in ours.usage_metadata.values())
    assert ours.additional_kwargs.keys() == theirs.additional_kwargs.keys()
    assert ours.response_metadata["model"] == ours.response_metadata["model_name"] == answered_by(ours)


@ways
def test_text_tokens_and_metadata_are_those_of_the_model_that_answered(ask, server):
    theirs, ours = ask(plain(server.url), "Count to three"), ask(routed(server.url), "Count to three")
    timed = {"created_at", "total_duration", "load_duration", "prompt_eval_duration", "eval_duration", "routing"}
    steady = {key: value for key, value in ours.response_metadata.items() if key not in timed}
    assert steady == {key: value for key, value in theirs.response_metadata.items() if key not in timed}
    assert (ours.content, ours.usage_metadata) == (theirs.content, theirs.usage_metadata)


@pytest.mark.live
@ways
def test_the_route_has_exactly_these_keys_and_is_plain_json(ask, ollama_url, chat_models):
    routing = ask(live(ollama_url, chat_models, num_predict=5), "Say hi.").response_metadata["routing"]
    assert routing.keys() == ROUTE
    assert [attempt.keys() for attempt in routing["attempts"]] == [ATTEMPT]
    assert json.loads(json.dumps(routing)) == routing
    assert routing["attempts"][0]["outcome"] == "ok"
    assert routing["attempts"][0]["error"] is None
    assert routing["model"] in routing["reason"]


@ways
def test_a_route_tells_of_the_model_that_failed_before(ask, server):
    server.fail(FIRST, Fault.SERVER_ERROR, text="broken for the test")
    routing = ask(routed(server.url), "Hello").response_metadata["routing"]
    assert [(each["model"], each["outcome"]) for each in routing["attempts"]] == [(FIRST, "failed"), (SECOND, "ok")]
    assert "broken for the test" in routing["attempts"][0]["error"]
    assert (routing["model"], routing["host"]) == (SECOND, server.url)
    assert json.loads(json.dumps(routing)) == routing


@pytest.mark.live
def test_one_chunk_of_a_stream_carries_the_route_and_the_last_is_marked(ollama_url, chat_models):
    chunks = list(live(ollama_url, chat_models, num_predict=10).stream("Say hi."))
    assert all(isinstance(chunk, AIMessageChunk) for chunk in chunks)
    assert [bool(chunk.response_metadata.get("routing")) for chunk in chunks].count(True) == 1
    assert chunks[-1].chunk_position == "last"
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_whole_batch_comes_back_in_its_order(server):
    prompts = [f"number {at}" for at in range(12)]
    answers = routed(server.url).batch(prompts, config={"max_concurrency": 4})
    assert [answer.text for answer in answers] == [f"You asked: {prompt}" for prompt in prompts]
    again = asyncio.run(routed(server.url).abatch(prompts))
    assert [answer.text for answer in again] == [answer.text for answer in answers]


@pytest.mark.live
def test_three_event_loops_one_after_the_other(ollama_url, chat_models):
    llm = live(ollama_url, chat_models, num_predict=5)
    for _ in range(3):
        assert asyncio.run(llm.ainvoke("Say hi.")).text.strip()
        assert whole(asyncio.run(collected(llm.astream("Say hi.")))).text.strip()


# --- reasoning, log probabilities, images are gates ------------------------------------------------------------------


@pytest.fixture
def thinkers():
    thinking = {"thinking": "Let me see.", "capabilities": ("completion", "tools", "thinking")}
    with OllamaServer(models(second=thinking, reply="Done.")) as running:
        yield running


@ways
@pytest.mark.parametrize("level", [True, "low"])
def test_reasoning_asks_only_a_model_that_thinks(ask, level, thinkers):
    answer = ask(routed(thinkers.url, reasoning=level), "Why?")
    assert answer.additional_kwargs["reasoning_content"] == "Let me see."
    assert answer.text == "Done."
    assert (asked(thinkers), bodies(thinkers)[0]["think"]) == ([SECOND], level)
    assert [block["type"] for block in answer.content_blocks] == ["reasoning", "text"]


def test_reasoning_per_call_gates_that_call_alone(thinkers):
    llm = routed(thinkers.url)
    assert answered_by(llm.invoke("Why?", reasoning=True)) == SECOND
    assert answered_by(llm.invoke("Why?")) == FIRST
    assert answered_by(routed(thinkers.url, reasoning=True).invoke("Why?", reasoning=False)) == FIRST


@pytest.mark.parametrize("top", [None, 2])
@ways
def test_log_probabilities_are_those_of_the_plain_class(ask, top, server):
    theirs = ask(plain(server.url, logprobs=True, top_logprobs=top), "Hello there")
    ours = ask(routed(server.url, logprobs=True, top_logprobs=top), "Hello there")
    assert ours.response_metadata["logprobs"] == theirs.response_metadata["logprobs"]
    assert "".join(entry["token"] for entry in ours.response_metadata["logprobs"]) == ours.text


# --- caches, limiters, counting --------------------------------------------------------------------------------------


def test_a_cache_answers_a_second_time_and_asks_nobody(server):
    llm = routed(server.url, cache=InMemoryCache())
    assert llm.invoke("Hello").text == llm.invoke("Hello").text
    assert asyncio.run(llm.ainvoke("Hello")).text == "You asked: Hello"
    assert len(asked(server)) == 1
    llm.invoke("Hello", stop=["x"])
    llm.bind(options={"seed": 1}).invoke("Hello")
    assert len(asked(server)) == 3


def ready_with(url, **kwargs):
    return {"models": [plain(url, **kwargs)], "model": None}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda _: {"models": [FIRST]}, lambda _: {"models": [SECOND], "model": SECOND}),
        (lambda _: {}, lambda _: {"model": SECOND}),
        (lambda _: {"temperature": 0.1}, lambda _: {"temperature": 0.9}),
        (lambda _: {"prefer": "speed"}, lambda _: {"prefer": "quality"}),
        (lambda _: {"format": "json"}, lambda _: {}),
        (lambda _: {"config": {"task_specific_models": {"general": [SECOND]}}}, lambda _: {}),
        (lambda url: ready_with(url, temperature=0.1), lambda url: ready_with(url, temperature=0.9)),
        (lambda url: ready_with(url, format="json"), ready_with),
        (ready_with, lambda _: {"models": [FIRST], "model": None, "num_ctx": 4096}),
    ],
    ids=[
        "models",
        "model",
        "temperature",
        "prefer",
        "format",
        "config",
        "ready options",
        "ready format",
        "ready num_ctx",
    ],
)
def test_two_models_that_may_answer_differently_share_no_cached_answer(one, other, server):
    cache = InMemoryCache()
    for settings in (one, other):
        routed(server.url, cache=cache, **settings(server.url)).invoke("Hello")
    assert len(asked(server)) == 2


def test_a_cache_shared_with_the_plain_class_is_not_mixed_up(server):
    cache = InMemoryCache()
    plain(server.url, cache=cache).invoke("Hello")
    assert "routing" in routed(server.url, cache=cache).invoke("Hello").response_metadata


def test_equal_models_share_a_cache_across_instances(server):
    cache = InMemoryCache()
    for _ in range(2):
        routed(server.url, cache=cache).invoke("Hello")
    assert len(asked(server)) == 1


class CountingLimiter(BaseRateLimiter):
    def __init__(self):
        self.acquired = 0

    def acquire(self, *, blocking=True):
        self.acquired += 1
        return True

    async def aacquire(self, *, blocking=True):
        return self.acquire()


@ways
def test_a_rate_limiter_counts_requests_not_attempts(ask, server):
    limiter = CountingLimiter()
    server.fail(FIRST, Fault.SERVER_ERROR)
    ask(routed(server.url, rate_limiter=limiter), "Hello")
    assert limiter.acquired == 1


def test_messages_are_counted_and_trimmed_without_downloading_a_tokenizer(server):
    llm = routed(server.url)
    assert 2 <= llm.get_num_tokens("How many tokens are in here?") <= 14
    long = [SystemMessage("Be brief."), *(HumanMessage(f"word {at} " * 50) for at in range(10))]
    counted = llm.get_num_tokens_from_messages(long)
    assert counted > 500
    kept = trim_messages(long, max_tokens=counted // 2, token_counter=llm, include_system=True, strategy="last")
    assert isinstance(kept[0], SystemMessage)
    assert kept[-1] == long[-1]
    assert 1 < len(kept) < len(long)


# --- what LangChain wraps around a model -----------------------------------------------------------------------------


@ways
def test_with_retry_asks_again_after_all_have_failed(ask, server):
    for name in (FIRST, SECOND):
        server.fail(name, Fault.SERVER_ERROR, times=1)
    llm = routed(server.url).with_retry(stop_after_attempt=3, wait_exponential_jitter=False)
    if ask in (stream, astream):  # LangChain does not retry streams; nor does it for the plain class
        with pytest.raises(Exception, match="Every model"):
            ask(llm, "Hello")
        return
    assert ask(llm, "Hello").text == "You asked: Hello"
    assert len(asked(server)) == 3


@ways
def test_with_fallbacks_goes_on_to_another_chat_model(ask, server):
    with OllamaServer([ScriptedModel("spare:7b", reply="spare")]) as other:
        for name in (FIRST, SECOND):
            server.fail(name, Fault.SERVER_ERROR)
        llm = routed(server.url).with_fallbacks([ChatOllama(model="spare:7b", base_url=other.url)])
        assert ask(llm, "Hello").text == "spare"


def test_as_a_fallback_of_the_plain_class(server):
    with OllamaServer() as gone:
        url = gone.url
    llm = plain(url).with_fallbacks([routed(server.url)])
    assert answered_by(llm.invoke("Hello")) == FIRST


@ways
def test_output_version_v1_gives_standard_blocks_as_the_plain_class_does(ask, thinkers):
    kwargs = {"output_version": "v1", "reasoning": True}
    theirs = ask(plain(thinkers.url, model=SECOND, **kwargs), "Why?")
    ours = ask(routed(thinkers.url, **kwargs), "Why?")
    assert ours.content == theirs.content
    assert [block["type"] for block in ours.content] == ["reasoning", "text"]
    assert ours.response_metadata["output_version"] == "v1"
    again = ask(routed(thinkers.url, **kwargs), [HumanMessage("Why?"), ours, HumanMessage("And now?")])
    assert again.text == "Done."
    assert answered_by(again) == SECOND


@pytest.mark.parametrize(
    ("disabled", "tools", "streams"),
    [(True, False, False), ("tool_calling", True, False), ("tool_calling", False, True)],
)
def test_disable_streaming_gives_one_chunk(disabled, tools, streams, server):
    llm = routed(server.url, disable_streaming=disabled)
    schema = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}
    chunks = list((llm.bind_tools([schema]) if tools else llm).stream("Hello you"))
    assert (len(chunks) > 1) is streams
    assert answered_by(whole(chunks)) == FIRST


# --- which model answers ---------------------------------------------------------------------------------------------


@ways
def test_a_model_named_for_a_call_comes_first(ask, server):
    llm = routed(server.url)
    assert answered_by(ask(llm, "Hello", model=SECOND)) == SECOND
    assert answered_by(ask(llm, "Hello")) == FIRST


def test_a_model_named_for_a_call_need_not_be_one_of_the_list_and_may_fail(server):
    server.add_model("third:7b")
    llm = routed(server.url)
    assert answered_by(llm.invoke("Hello", model="third:7b")) == "third:7b"
    server.fail("third:7b", Fault.SERVER_ERROR)
    assert answered_by(llm.invoke("Hello", model="third:7b")) == FIRST
    assert answered_by(llm.invoke("Hello", model="absent:7b")) == FIRST


def test_task_type_and_preference_per_call_concern_the_routing_alone(server):
    llm = routed(server.url, config={"task_specific_models": {"testing": [SECOND]}})
    answer = llm.invoke("Hello", task_type="testing", prefer="speed")
    assert answer.response_metadata["routing"]["task_type"] == "testing"
    assert (answered_by(answer), answered_by(llm.invoke("Hello"))) == (SECOND, FIRST)
    assert not {"task_type", "prefer"} & bodies(server)[0].keys()


def test_the_model_that_is_read_back_is_the_preferred_one(server):
    assert routed(server.url).model == FIRST
    assert routed(server.url, model=None).model is None


@ways
def test_a_conversation_stays_with_the_model_whose_tool_calls_are_in_it(ask, server):
    llm = routed(server.url)
    call = {"name": "f", "args": {}, "id": "1"}
    route = {"host": server.url, "model": SECOND}
    said = AIMessage("", tool_calls=[call], response_metadata={"model": SECOND, "routing": route})
    assert answered_by(ask(llm, [HumanMessage("Hello"), said, ToolMessage("42", tool_call_id="1")])) == SECOND
    assert answered_by(ask(llm, "Hello")) == FIRST


# --- contexts and memory ---------------------------------------------------------------------------------------------


def test_the_context_grows_once_and_is_not_varied():
    with OllamaServer([ScriptedModel(FIRST, context_length=32_768)], context_length=4096) as server:
        llm = routed(server.url, models=[FIRST])
        for prompt in ("Hello", "word " * 6_000, "Hello", "word " * 5_000, "Hello"):
            llm.invoke(prompt)
        sizes = [body["options"].get("num_ctx") for body in bodies(server)]
        assert sizes[0] is None
        assert len(set(sizes[1:])) == 1
        assert sizes[1] >= 6_000
        assert server.loads == {FIRST: 2}


def test_options_of_a_call_do_not_shrink_a_context_that_has_grown():
    with OllamaServer([ScriptedModel(FIRST, context_length=32_768)], context_length=4096) as server:
        llm = routed(server.url, models=[FIRST])
        llm.invoke("word " * 6_000)
        llm.invoke("Hello", options={"seed": 1})
        llm.invoke("Hello", options={})
        llm.invoke("Hello", options={"num_ctx": 2048})
        grown = bodies(server)[0]["options"]["num_ctx"]
        sent = [body["options"] for body in bodies(server)[1:]]
        assert sent == [{"seed": 1, "num_ctx": grown}, {"num_ctx": grown}, {"num_ctx": 2048}]


def test_a_context_of_the_users_own_is_what_is_sent(server):
    llm = routed(server.url, num_ctx=8192)
    llm.invoke("word " * 5_000)
    llm.invoke("Hello")
    assert [body["options"]["num_ctx"] for body in bodies(server)] == [8192, 8192]
