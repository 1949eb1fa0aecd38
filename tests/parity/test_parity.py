"""One table of scenarios x paths x frameworks: the same scenario is the same to both.

The same route, attempts, outcomes, recorded performance, and the same error of the core.
"""

import asyncio
from dataclasses import dataclass

import pytest
from langchain_core.exceptions import ModelError
from llama_index.core.llms import ChatMessage

from langchain_routed_ollama import RoutedChatOllama
from llamaindex_routed_ollama import RoutedOllama
from routed_ollama import OutcomeKind, RoutedOllamaError, Router, routing
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel

FIRST, SECOND = "first:7b", "second:7b"
ANSWER = "one two three four five six"
PROMPT = "Write a function that counts to ten"
TIMEOUTS = {"connect": 2, "load": 1, "first_token": 0.3, "between_tokens": 0.3}


@dataclass(frozen=True)
class Seen:
    """What a person sees of one request."""

    text: str
    routing: dict
    error: BaseException | None = None


def langchain_whole(llm):
    message = llm.invoke(PROMPT)
    return Seen(message.content, message.response_metadata["routing"])


def langchain_awhole(llm):
    message = asyncio.run(llm.ainvoke(PROMPT))
    return Seen(message.content, message.response_metadata["routing"])


def langchain_stream(llm):
    return _summed(list(llm.stream(PROMPT)))


def langchain_astream(llm):
    async def chunks():
        return [chunk async for chunk in llm.astream(PROMPT)]

    return _summed(asyncio.run(chunks()))


def _summed(chunks):
    message = chunks[0] + chunks[1:] if len(chunks) > 1 else chunks[0]
    return Seen(message.content, message.response_metadata["routing"])


MESSAGES = [ChatMessage(content=PROMPT)]


def llamaindex_whole(llm):
    return _read(llm.chat(MESSAGES))


def llamaindex_awhole(llm):
    return _read(asyncio.run(llm.achat(MESSAGES)))


def llamaindex_stream(llm):
    return _read(list(llm.stream_chat(MESSAGES))[-1])


def llamaindex_astream(llm):
    async def last():
        return [chunk async for chunk in await llm.astream_chat(MESSAGES)][-1]

    return _read(asyncio.run(last()))


def _read(response):
    return Seen(response.message.content or "", response.raw["routing"])


PATHS = {
    "whole": (langchain_whole, llamaindex_whole),
    "whole, async": (langchain_awhole, llamaindex_awhole),
    "stream": (langchain_stream, llamaindex_stream),
    "stream, async": (langchain_astream, llamaindex_astream),
}

SCENARIOS = {
    "all is well": [],
    "500 at load": [(FIRST, Fault.LOAD_ERROR, {})],
    "404": [(FIRST, Fault.NOT_FOUND, {})],
    "hang": [(FIRST, Fault.HANG, {})],
    "cut": [(FIRST, Fault.CUT, {"after_chunks": 3})],
    "closed": [(FIRST, Fault.CLOSE, {"after_chunks": 3})],
    "stall": [(FIRST, Fault.STALL, {"after_chunks": 3})],
    "crash in mid-stream": [(FIRST, Fault.CRASH, {"after_chunks": 3})],
    "no done": [(FIRST, Fault.END_WITHOUT_DONE, {"after_chunks": 3})],
    "no JSON": [(FIRST, Fault.MALFORMED, {"after_chunks": 3})],
    "empty": [(FIRST, Fault.EMPTY, {})],
    "white space": [(FIRST, Fault.WHITESPACE, {})],
    "reset": [(FIRST, Fault.RESET, {})],
    "busy": [(FIRST, Fault.BUSY, {})],
    "out of memory": [(FIRST, Fault.OUT_OF_MEMORY, {})],
    "all empty": [(None, Fault.EMPTY, {})],
    "all fail": [(None, Fault.SERVER_ERROR, {})],
    "all hang": [(None, Fault.HANG, {})],
    "nothing installed of that name": [],
    "a hint from around": [],
}


def over(kind, router, scenario):
    models = ["nobody:1b"] if scenario.startswith("nothing") else [FIRST, SECOND]
    return kind(models=models, model=models[0], router=router, temperature=0)


def outcome(kind, path, scenario):
    """What becomes of one request, as plain values, and its error."""
    models = [ScriptedModel(FIRST, reply=ANSWER), ScriptedModel(SECOND, reply=ANSWER, size=10**8)]
    with OllamaServer(models) as server:
        for model, fault, details in SCENARIOS[scenario]:
            server.fail(model, fault, **details)
        router = Router(base_url=server.url, store="memory", timeouts=TIMEOUTS, config={"health": {"interval": 0}})
        recorded, record = [], router.record
        router.record = lambda one: (recorded.append(one), record(one))
        seen, llm = None, over(kind, router, scenario)
        try:
            if scenario.startswith("a hint"):
                with routing(model=SECOND, task_type="planning", prefer="speed"):
                    seen = path(llm)
            else:
                seen = path(llm)
        except Exception as error:  # noqa: BLE001 (which one it is, is what is compared)
            seen = Seen("", {}, error)
        asked = [
            (request.model, request.body["messages"]) for request in server.requests if request.path == "/api/chat"
        ]
    route = seen.routing
    return {
        "text": seen.text,
        "asked": asked,
        "route": {name: route.get(name) for name in ("model", "task_type", "complexity", "score", "continued_at")},
        "attempts": [(each["model"], each["outcome"]) for each in route.get("attempts", ())],
        "recorded": [_told(one) for one in recorded],
    }, seen.error


def _told(one):
    # Of an answer that broke off, one framework has the time of the first token, the other has not.
    figures = (one.prompt_tokens, one.output_tokens, one.quality, one.first_token_seconds is None)
    known = (one.model, one.kind, one.failure, one.error, one.task_type, one.was_resident)
    return known + figures if one.kind is OutcomeKind.OK else known


def core_class(error):
    """The error's class of the core, else its own."""
    if error is None:
        return None
    return next((kind for kind in type(error).__mro__ if kind.__module__ == "routed_ollama.errors"), type(error))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_same_scenario_is_the_same_in_both(scenario, path):
    langchain, llamaindex = PATHS[path]
    theirs, their_error = outcome(RoutedChatOllama, langchain, scenario)
    ours, our_error = outcome(RoutedOllama, llamaindex, scenario)
    assert ours == theirs
    assert core_class(our_error) is core_class(their_error)
    if isinstance(our_error, RoutedOllamaError):
        assert isinstance(their_error, ModelError)
        assert not isinstance(our_error, ModelError)


def test_what_one_framework_learns_the_other_uses():
    with OllamaServer([ScriptedModel(FIRST), ScriptedModel(SECOND)]) as server:
        router = Router(base_url=server.url, store="memory", config={"health": {"failure_threshold": 1}})
        langchain = RoutedChatOllama(models=[FIRST, SECOND], model=FIRST, router=router)
        llamaindex = RoutedOllama(models=[FIRST, SECOND], model=FIRST, router=router)
        with server.fail(FIRST, Fault.SERVER_ERROR):
            assert llamaindex.chat(MESSAGES).raw["routing"]["model"] == SECOND
        assert langchain.invoke(PROMPT).response_metadata["routing"]["model"] == SECOND  # the circuit is open
        assert router.performance()[SECOND].total_requests == 2
