"""One context length per model: it grows once, stays, and is remembered."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed_ollama import ModelInfo, TaskCharacteristics
from routed_ollama.contexts import SERVER_DEFAULT, ContextSizes

LLAMA = ModelInfo("llama3.1:8b", host="http://one", context_length=131_072)


def task(prompt: int, output: int = 256) -> TaskCharacteristics:
    return TaskCharacteristics(prompt_tokens=prompt, output_tokens=output)


def test_nothing_is_asked_for_while_prompts_fit_what_the_server_allocates() -> None:
    sizes = ContextSizes()
    assert sizes.for_request(LLAMA, task(3000), allocated=0) is None
    assert sizes.for_request(LLAMA, task(3000), allocated=4096) is None
    assert sizes.export() == {}


def test_what_somebody_else_asked_for_is_asked_for_too_as_none_would_undo_it() -> None:
    sizes = ContextSizes()
    assert sizes.for_request(LLAMA, task(30_000), allocated=65_536) == 65_536
    assert sizes.for_request(LLAMA, task(10), allocated=8192, least=8192) == 8192
    assert sizes.for_request(LLAMA, task(10), allocated=0) is None  # and is not insisted on once it is gone
    assert sizes.export() == {}


def test_it_grows_once_and_stays() -> None:
    told: list[dict] = []
    sizes = ContextSizes(lambda: told.append(sizes.export()))
    assert sizes.for_request(LLAMA, task(9000), allocated=4096) == 16_384
    assert sizes.for_request(LLAMA, task(10), allocated=16_384) == 16_384
    assert sizes.for_request(LLAMA, task(12_000), allocated=16_384) == 16_384
    assert told == [{"llama3.1:8b\nhttp://one": 16_384}]


def test_it_grows_again_only_for_a_prompt_that_needs_more() -> None:
    sizes = ContextSizes()
    sizes.for_request(LLAMA, task(9000), allocated=0)
    assert sizes.for_request(LLAMA, task(20_000), allocated=16_384) == 32_768


def test_a_context_the_user_made_small_grows_too() -> None:
    assert ContextSizes().for_request(LLAMA, task(3000), allocated=2048) == 4096


def test_it_never_grows_beyond_what_the_model_was_trained_for() -> None:
    small = ModelInfo("small:1b", context_length=6000)
    sizes = ContextSizes()
    assert sizes.for_request(small, task(5000), allocated=0) == 6000
    assert sizes.for_request(small, task(50_000), allocated=6000) == 6000
    assert ContextSizes().for_request(ModelInfo("tiny:1b", context_length=2048), task(5000), allocated=2048) is None


def test_where_nobody_said_how_much_it_was_trained_for_it_grows_as_needed() -> None:
    assert ContextSizes().for_request(ModelInfo("unknown:1b"), task(50_000), allocated=0) == 65_536


def test_the_same_model_on_two_hosts_has_two_contexts() -> None:
    sizes = ContextSizes()
    sizes.for_request(LLAMA, task(9000), allocated=0)
    assert sizes.for_request(ModelInfo("llama3.1:8b", host="http://two"), task(10), allocated=0) is None


def test_what_grew_is_remembered_by_another_process() -> None:
    sizes, other = ContextSizes(), ContextSizes()
    sizes.for_request(LLAMA, task(9000), allocated=0)
    other.load(json.loads(json.dumps(sizes.export())))
    assert other.for_request(LLAMA, task(10), allocated=0) == 16_384


@pytest.mark.parametrize("size", ["many", -1, 0, None, True, 1.5, []])
def test_what_cannot_be_read_of_a_stored_state_is_left_out(size: object) -> None:
    sizes = ContextSizes()
    sizes.load({"llama3.1:8b\nhttp://one": size})
    assert sizes.export() == {}


@given(st.lists(st.integers(0, 200_000), min_size=1, max_size=20), st.sampled_from([0, 2048, 4096, 32_768]))
def test_any_row_of_prompts_changes_it_a_few_times_at_most_and_only_upwards(prompts: list[int], allocated: int) -> None:
    sizes = ContextSizes()
    asked = [sizes.for_request(LLAMA, task(tokens), allocated=allocated) or 0 for tokens in prompts]
    assert asked == sorted(asked)
    assert len(set(asked)) <= 8
    enough = max(asked) or allocated or SERVER_DEFAULT
    assert all(tokens + 256 <= enough or enough == LLAMA.context_length for tokens in prompts)
