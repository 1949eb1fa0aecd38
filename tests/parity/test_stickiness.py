"""Conversations stay with their model: who is answering goes on, unless it fails or another is clearly better."""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager

import pytest
from columns import COLUMNS, FRAMEWORKS, PATHS, SILENT, Ask, Result
from fault_table import BAD, GOOD, both, leads
from langchain_core.messages import messages_from_dict, messages_to_dict
from llama_index.core.llms import ChatMessage

from routed_ollama import Router
from routed_ollama.testing import Fault, OllamaServer

QUESTION = "What is multiply of 6 and 7?"
FROZEN = {"health": {"interval": 0}, "routing": {"learn": False}, **SILENT}
"""What is loaded or was fast makes no difference; only who is answering does."""

every_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
frameworks = pytest.mark.parametrize("column", FRAMEWORKS, ids=lambda column: column.name)
columns = pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)


class Talk:
    """A conversation with models of which one would be asked first, begun by the other."""

    def __init__(self, server, column, path, *, config=FROZEN, **settings) -> None:
        self.server, self.column, self.path = server, column, path
        self.router = Router(base_url=server.url, store="memory", config=config)
        self.llm = column.make(self.router, models=[BAD, GOOD], remembers=True, **settings)
        self.usual = self.router.recommend_model("Count to ten", scope=[BAD, GOOD]).model
        self.other = GOOD if self.usual == BAD else BAD
        self.said = []

    def say(self, *said, **how):
        """Go on with it; return who answered."""
        self.said += said
        self.said.append(self.path(self.column, self.llm, Ask(tuple(self.said), **how)))
        return self.said[-1].model


@contextmanager
def talking(column, path, *, config=FROZEN, **models):
    with OllamaServer(both(**{"reply": None, **models})) as server:
        yield Talk(server, column, path, config=config)


BEGUN = {
    "tool calls": ({}, {"tools": True}, (Result("42"),)),
    "thoughts": ({"thinking": "Let me see."}, {"think": True}, ("And 6 and 8?",)),
}
begun = pytest.mark.parametrize("what", BEGUN)
"""By a message that only its writer understands wholly; what follows on it."""


@frameworks
@every_path
@begun
@pytest.mark.parametrize("config", [FROZEN, {**FROZEN, **leads("general")}], ids=["equal", "another leads"])
def test_it_stays_where_tool_calls_or_thoughts_are(column, path, what, config):
    models, how, then = BEGUN[what]
    with talking(column, path, config=config, **models) as talk:
        assert talk.say(QUESTION, **how, call={"model": talk.other}) == talk.other
        assert talk.say(*then, **how) == talk.other


@frameworks
@every_path
@begun
def test_if_its_model_fails_it_moves_and_stays_with_the_next(column, path, what):
    models, how, then = BEGUN[what]
    with talking(column, path, **models) as talk:
        assert talk.say(QUESTION, **how, call={"model": talk.other}) == talk.other
        with talk.server.fail(talk.other, Fault.SERVER_ERROR):
            assert talk.say(*then, **how) == talk.usual
        assert talk.say("And 6 and 9?", **how) == talk.usual


@frameworks
@every_path
def test_it_stays_where_they_lie_further_back(column, path):
    with talking(column, path, config={**FROZEN, **leads("general")}) as talk:
        assert talk.say(QUESTION, tools=True, call={"model": talk.other}) == talk.other
        assert talk.say(Result("42"), tools=True) == talk.other
        assert talk.say("Thank you. And 6 and 8?", tools=True) == talk.other


@columns
@every_path
def test_a_plain_conversation_stays_among_equals(column, path):
    with talking(column, path) as talk:
        assert talk.say("Count to ten", call={"model": talk.other}) == talk.other
        assert talk.say("Go on") == talk.other
        with talk.server.fail(talk.other, Fault.SERVER_ERROR):
            assert talk.say("Go on") == talk.usual
        assert talk.say("Go on") == talk.usual


@columns
@every_path
@pytest.mark.parametrize("margin", [0.05, 0.9])
def test_a_plain_conversation_leaves_for_one_that_is_better_by_a_margin(column, path, margin):
    config = {
        **FROZEN,
        "routing": {"learn": False, "margin": margin},
        "model_capabilities": {
            name: dict.fromkeys(["accuracy", "reasoning", "instruction_following", "speed", "creativity"], value)
            for name, value in ((BAD, 1.0), (GOOD, 0.0))
        },
    }
    with talking(column, path, config=config) as talk:
        assert talk.usual == BAD
        assert talk.say("Count to ten", call={"model": GOOD}) == GOOD
        assert talk.say("Go on") == (BAD if margin < 0.5 else GOOD)


@columns
def test_it_can_be_switched_off(column):
    config = {**FROZEN, "routing": {"learn": False, "sticky": False}}
    with talking(column, PATHS["whole"], config=config) as talk:
        assert talk.say("Count to ten", call={"model": talk.other}) == talk.other
        assert talk.say("Go on") == talk.usual


@frameworks
@begun
def test_it_can_be_switched_off_for_tool_calls_and_thoughts_too(column, what):
    models, how, then = BEGUN[what]
    config = {**FROZEN, "routing": {"learn": False, "sticky": False}}
    with talking(column, PATHS["whole"], config=config, **models) as talk:
        assert talk.say(QUESTION, **how, call={"model": talk.other}) == talk.other
        assert talk.say(*then, **how) == talk.usual


@frameworks
@every_path
def test_the_one_that_is_named_for_a_call_comes_first_all_the_same(column, path):
    with talking(column, path) as talk:
        talk.say(QUESTION, tools=True, call={"model": talk.other})
        assert talk.say(Result("42"), tools=True, call={"model": talk.usual}) == talk.usual


@frameworks
def test_a_model_that_is_gone_is_no_hindrance(column):
    with talking(column, PATHS["whole"]) as talk:
        talk.say(QUESTION, tools=True, call={"model": talk.other})
        talk.server.remove_model(talk.other)
        talk.router.health_check_all_models()
        assert talk.say(Result("42"), tools=True) == talk.usual


@frameworks
def test_a_model_that_cannot_do_what_is_asked_next_is_left(column):
    config = {**FROZEN, **leads("general")}
    with talking(column, PATHS["whole"], config=config, bad={"capabilities": ("completion", "vision")}) as talk:
        assert talk.say("Count to ten", call={"model": talk.other}) == talk.other == GOOD
        assert talk.say("What is this?", image=True) == talk.usual


STORED = {
    "LangChain": lambda message: messages_from_dict(json.loads(json.dumps(messages_to_dict([message]))))[0],
    "LlamaIndex": lambda message: ChatMessage.model_validate_json(message.model_dump_json()),
}


@frameworks
@begun
def test_a_conversation_may_have_been_stored_in_between(column, what):
    models, how, then = BEGUN[what]
    with talking(column, PATHS["whole"], **models) as talk:
        talk.say(QUESTION, **how, call={"model": talk.other})
        first = talk.said[-1]
        talk.said[-1] = type(first)(first.text, first.routing, message=STORED[column.name](first.message))
        assert talk.say(*then, **how) == talk.other


@frameworks
def test_conversations_at_once_stay_each_with_their_own(column):
    with talking(column, PATHS["whole"]) as talk:

        async def converse(number, model):
            said = [f"Question {number}"]
            answered = []
            for turn in range(4):
                call = {} if turn else {"model": model}
                seen = await talk.column.awhole(talk.llm, Ask(tuple(said), call=call))
                said += [seen, f"Question {number} again"]
                answered.append(seen.model)
            return answered

        async def all_of_them():
            names = [talk.usual, talk.other] * 4
            return await asyncio.gather(*[converse(at, name) for at, name in enumerate(names)]), names

        found, names = asyncio.run(all_of_them())
        assert found == [[name] * 4 for name in names]


@frameworks
def test_two_models_may_say_the_same(column):
    with talking(column, PATHS["whole"], reply="Yes.") as talk:
        talk.say("Is it raining?", call={"model": talk.other})
        column.whole(talk.llm, Ask(("Is it cold?",), call={"model": talk.usual}))
        assert talk.say("And now?") == talk.other
