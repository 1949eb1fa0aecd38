"""What an agent remembers, over the wire: whole turns that fit the model that answers, whichever that is."""

from __future__ import annotations

import ollama
import pytest
from agent_paths import bodies, every_path

from routed_ollama import (
    ContextLengthError,
    Message,
    Role,
    create_agent,
)
from routed_ollama.agent._conversation import fitting
from routed_ollama.analysis import estimate_tokens
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel

LARGE, SMALL = "large:7b", "small:1b"
LONG = "word " * 800
CONFIG = {"health": {"interval": 0}, "task_specific_models": {"coding": [LARGE, SMALL]}}


@pytest.fixture
def server():
    """A model with a long context and one with a short one, on a server that gives as much as a model takes."""
    models = [ScriptedModel(LARGE, context_length=32_768), ScriptedModel(SMALL, context_length=4096)]
    with OllamaServer(models, context_length=32_768) as running:
        yield running


@pytest.fixture
def make(server):
    made = []

    def agent(role="developer", **options):
        made.append(create_agent(role, **{"base_url": server.url, "config": CONFIG, "store": "memory", **options}))
        return made[-1]

    yield agent
    for one in made:
        one.close()


@pytest.fixture
def grown(make):
    """An agent whose conversation has grown beyond what the small model takes."""
    agent = make(memory=True)
    for number in range(6):
        assert agent.generate(f"{number} {LONG}").model == LARGE
        agent.health_check_all_models()  # looks at what is in memory
    assert len(agent.history) == 6
    return agent


def last_body(server):
    return bodies(server)[-1]


def prompts(body):
    """What users said in a request, by its first word."""
    return [message["content"].split()[0] for message in body["messages"] if message["role"] == "user"]


def fits(body, context):
    return sum(estimate_tokens(message["content"]) for message in body["messages"]) < context


# Another model answers


@every_path
def test_a_smaller_model_still_answers_with_as_much_of_the_memory_as_it_takes(server, grown, path):
    server.fail(LARGE, Fault.SERVER_ERROR)
    answer = path(grown, "next")
    assert answer.model == SMALL
    assert [attempt["outcome"] for attempt in answer.routing["attempts"]] == ["failed", "ok"]
    body = last_body(server)
    assert prompts(body)[-1] == "next"
    assert 1 < len(prompts(body)) < 7
    assert prompts(body)[:-1] == ["0", "1", "2", "3", "4", "5"][-len(prompts(body)) + 1 :]  # the newest, in order
    assert body["messages"][0] == {"role": "system", "content": grown.role.prompt}
    assert [message["role"] for message in body["messages"]][1:-1] == ["user", "assistant"] * (len(prompts(body)) - 1)
    assert fits(body, 4096)


@every_path
def test_a_smaller_model_answers_where_the_large_one_is_gone(server, grown, path):
    server.remove_model(LARGE)
    grown.health_check_all_models()
    assert path(grown, "next").model == SMALL
    assert fits(last_body(server), 4096)


@every_path
def test_a_smaller_model_answers_where_the_agents_own_context_is_more_than_it_takes(server, make, path):
    agent = make(memory=True, num_ctx=32_768)
    for number in range(6):
        agent.generate(f"{number} {LONG}")
    server.remove_model(LARGE)
    agent.health_check_all_models()
    assert path(agent, "next").model == SMALL
    assert fits(last_body(server), 4096)


@every_path
def test_a_prompt_that_only_the_large_model_takes_is_not_sent_to_the_small_one(server, grown, path):
    server.fail(LARGE, Fault.SERVER_ERROR, text="kaputt")
    with pytest.raises(ollama.ResponseError, match="kaputt"):
        path(grown, "word " * 6000)
    assert {body["model"] for body in bodies(server)} == {LARGE}
    server.heal()
    assert path(grown, "word " * 6000).model == LARGE


def test_a_smaller_model_may_be_asked_for_by_name(server, make):
    agent = make(memory=True, num_ctx=32_768)
    for number in range(6):
        agent.generate(f"{number} {LONG}")
    assert prompts(last_body(server)) == ["0", "1", "2", "3", "4", "5"]
    server.fail(LARGE, Fault.SERVER_ERROR)
    assert agent.generate("next", model=SMALL).model == SMALL
    assert fits(last_body(server), 4096)


@every_path
def test_a_prompt_that_is_too_long_by_itself_is_not_cut(server, grown, path):
    asked = len(bodies(server))
    with pytest.raises(ContextLengthError) as caught:
        path(grown, "word " * 60_000)
    assert caught.value.context_length == 32_768
    assert len(bodies(server)) == asked
    assert path(grown, "next").model == LARGE  # and the conversation goes on


def test_where_all_fail_the_one_error_names_the_smaller_model_too(server, grown):
    server.fail(None, Fault.SERVER_ERROR, text="kaputt")
    with pytest.raises(Exception, match=r"large:7b(.|\n)*small:1b"):
        grown.generate("next")


# What is kept


def test_one_long_prompt_forgets_nothing(server, make):
    agent = make(memory=True, models=[SMALL])
    for number in range(3):
        agent.generate(f"{number} " + "word " * 100)
    agent.generate("long " + "word " * 2600)  # with its answer too long to be remembered
    assert prompts(last_body(server)) == ["long"]
    agent.generate("next")
    assert prompts(last_body(server)) == ["0", "1", "2", "next"]


def test_one_request_with_a_small_context_forgets_nothing(server, make):
    agent = make(memory=True)
    for number in range(5):
        agent.generate(f"{number} " + "word " * 100)
    agent.generate("short", num_ctx=1600)
    assert 1 < len(prompts(last_body(server))) < 5
    agent.generate("next")
    assert prompts(last_body(server)) == ["0", "1", "2", "3", "4", "short", "next"]


def test_memory_does_not_grow_without_end(make):
    agent = make(memory=True, models=[SMALL])
    for number in range(12):
        agent.generate(f"{number} {LONG}")
    assert [turn.prompt.split()[0] for turn in agent.history] == ["11"]  # the answers repeat the prompts


def test_a_turn_longer_than_the_context_is_not_remembered(server, make):
    server.add_model(ScriptedModel(SMALL, context_length=4096, reply="word " * 4000))
    agent = make(memory=True, models=[SMALL], num_predict=-1)
    agent.generate("Tell me all")
    assert agent.history == ()


@pytest.mark.parametrize("context", [0, 1, 600, 2048, 4096, 100_000])
@pytest.mark.parametrize("words", [1, 50, 500])
def test_what_fits_is_whole_the_newest_and_leaves_room(server, make, context, words):
    agent = make(memory=True, num_ctx=100_000)
    for number in range(8):
        agent.generate(f"{number} " + "word " * words)
    fixed = [Message("system", "You count."), Message("user", "next")]
    kept = fitting(agent.history, fixed, context)
    assert kept == agent.history[len(agent.history) - len(kept) :]
    length = sum(estimate_tokens(turn.prompt) + estimate_tokens(turn.answer) for turn in kept)
    assert length <= max(0, context - min(1024, context // 2))
    if context == 100_000:
        assert kept == agent.history


def test_a_role_of_ones_own_keeps_its_prompt_however_long_the_conversation(server, make):
    agent = make(Role("poet", prompt="Rhyme."), memory=True, models=[SMALL])
    for number in range(6):
        agent.generate(f"{number} {LONG}")
    messages = last_body(server)["messages"]
    assert messages[0] == {"role": "system", "content": "Rhyme."}
    assert len(messages) < 12
