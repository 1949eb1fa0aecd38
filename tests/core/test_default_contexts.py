"""What a server allocates by itself is remembered while the model is not in memory, and never has it loaded anew."""

from __future__ import annotations

import pytest
from agent_paths import bodies

from routed_ollama import Candidate, ModelInfo, Router, TaskCharacteristics, create_agent
from routed_ollama.contexts import SERVER_DEFAULT, ContextSizes
from routed_ollama.testing import OllamaServer, ScriptedModel

MODEL = "llama3.1:8b"
DEFAULT = 32_768
LLAMA = ModelInfo(MODEL, host="http://one", context_length=131_072)


def task(prompt: int) -> TaskCharacteristics:
    return TaskCharacteristics(prompt_tokens=prompt, output_tokens=256)


@pytest.fixture
def sizes() -> ContextSizes:
    """As after an answer for which nothing was asked for, and a look at what the server made of that."""
    known = ContextSizes()
    known.note_answered(LLAMA.candidate, None)
    known.note_allocated(LLAMA.candidate, DEFAULT)
    return known


def test_it_is_asked_for_by_number_where_a_prompt_needs_it(sizes):
    assert sizes.for_request(LLAMA, task(20_000), allocated=0) == DEFAULT
    assert sizes.for_request(LLAMA, task(20_000), allocated=DEFAULT) == DEFAULT
    assert sizes.for_request(LLAMA, task(500), allocated=0) is None
    assert sizes.export() == {}  # nothing has grown


def test_a_prompt_that_needs_more_still_grows_it(sizes):
    assert sizes.for_request(LLAMA, task(40_000), allocated=0) == 65_536
    assert sizes.window(LLAMA, allocated=0) == 65_536


def test_what_is_in_memory_counts_and_not_what_was(sizes):
    assert sizes.window(LLAMA, allocated=4096) == 4096
    assert sizes.for_request(LLAMA, task(5000), allocated=4096) == 8192


def test_to_ask_for_it_by_number_is_no_reload(sizes):
    assert not sizes.reloads(LLAMA, DEFAULT, allocated=0)
    assert sizes.reloads(LLAMA, 65_536, allocated=0)


@pytest.mark.parametrize("asked", [8192, None], ids=["by number", "never answered"])
def test_what_somebody_asked_for_is_no_default(asked):
    sizes = ContextSizes()
    if asked:
        sizes.note_answered(LLAMA.candidate, asked)
    sizes.note_allocated(LLAMA.candidate, 65_536)
    assert sizes.window(LLAMA, allocated=0) == SERVER_DEFAULT


@pytest.mark.parametrize(("said", "window"), [(0, DEFAULT), (16_384, 16_384), (4096, 4096), (2048, 4096)])
def test_the_last_one_that_was_seen_counts(sizes, said, window):
    sizes.note_allocated(LLAMA.candidate, said)
    assert sizes.window(LLAMA, allocated=0) == window


def test_the_same_model_on_another_host_has_another(sizes):
    assert sizes.window(ModelInfo(MODEL, host="http://two"), allocated=0) == SERVER_DEFAULT


@pytest.fixture
def server():
    with OllamaServer([ScriptedModel(MODEL, context_length=131_072)], context_length=DEFAULT) as running:
        yield running


@pytest.mark.parametrize("look", ["while it answers", "after it answered"])
def test_an_agent_remembers_all_in_the_first_answer_after_an_idle_unload(server, look):
    with (
        Router(base_url=server.url, store="memory", config={"health": {"interval": 0}}) as router,
        create_agent("writer", router=router, memory=True) as agent,
    ):
        chunks = agent.stream("0 " + "word " * 800)
        next(chunks)
        if look == "while it answers":
            router.health_check_all_models()
        list(chunks)
        if look == "after it answered":
            router.health_check_all_models()
        for number in range(1, 6):
            agent.generate(f"{number} {'word ' * 800}")
            router.health_check_all_models()
        server.unload(MODEL)
        router.health_check_all_models()
        assert router.context_window(Candidate(MODEL, server.url)) == DEFAULT
        agent.generate("6")
        assert len(bodies(server)[-1]["messages"]) == 1 + 2 * 6 + 1
        agent.generate("7")
        router.health_check_all_models()
        agent.generate("8")
        assert server.loads == {MODEL: 2}
        assert {body["options"].get("num_ctx", DEFAULT) for body in bodies(server)} == {DEFAULT}
