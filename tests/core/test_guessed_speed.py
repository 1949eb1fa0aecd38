"""How fast a model is thought to be before it has answered: by what it reads for each token, and whether it reasons."""

from __future__ import annotations

from dataclasses import replace

import pytest

from routed_ollama import (
    Catalog,
    Complexity,
    ModelInfo,
    Needs,
    Outcome,
    OutcomeKind,
    PerformanceHistory,
    Prefer,
    Router,
    TaskCharacteristics,
)

TASK = TaskCharacteristics(prompt_tokens=20, output_tokens=200)
POEM = "write a short poem about autumn"
GREETING = "hi, how are you?"


def seconds(name: str, task: TaskCharacteristics = TASK, history: PerformanceHistory | None = None) -> float:
    return (history or PerformanceHistory()).predict(Catalog().guess(name), task, resident=True).seconds


@pytest.mark.parametrize(
    ("name", "sized"),
    [
        ("llama3.3:latest", "llama3.3:70b"),
        ("command-r", "command-r:35b"),
        ("phi4:latest", "phi4:14b"),
        ("tinyllama", "tinyllama:1.1b"),
        ("mixtral", "mixtral:8x7b"),
    ],
)
def test_a_name_without_a_size_is_timed_as_what_it_stands_for(name, sized):
    assert seconds(name) == pytest.approx(seconds(sized), rel=0.05)


@pytest.mark.parametrize(
    ("mixture", "dense"),
    [
        ("qwen3-coder:30b", "mistral-small3.2:24b"),
        ("mixtral:8x7b", "mistral-small3.2:24b"),
        ("deepseek-coder-v2:16b", "llama3.1:8b"),
        ("never-heard-of:30b-a3b", "llama3.1:8b"),
    ],
)
def test_of_a_mixture_only_what_is_active_takes_time(mixture, dense):
    assert seconds(mixture) < seconds(dense)


def test_a_server_that_says_the_size_is_believed_though_something_was_guessed_before():
    history = PerformanceHistory()
    infos = [Catalog().guess("mine"), *(ModelInfo("mine", digest=str(size), parameters=size) for size in (1.0, 70.0))]
    guessed, small, large = (history.predict(info, TASK, resident=True).seconds for info in infos)
    assert small < guessed < large


@pytest.mark.parametrize(("thinks", "plain"), [("deepseek-r1:8b", "llama3.1:8b"), ("magistral:24b", "devstral:24b")])
def test_who_reasons_first_is_expected_to_answer_later(thinks, plain):
    assert seconds(thinks) > 2 * seconds(plain)
    hard = replace(TASK, complexity=Complexity.HIGH)
    assert seconds(thinks, hard) > seconds(thinks)


def test_reasoning_that_was_asked_for_is_counted_once():
    task = replace(TASK, needs=Needs(thinking=True))  # the analysis has counted it
    assert seconds("deepseek-r1:8b", task) == pytest.approx(seconds("llama3.1:8b", task), rel=0.05)


def test_a_servers_word_that_a_model_reasons_counts_like_its_name():
    known = {"parameters": 8.0, "flags_known": True}
    plain = ModelInfo("mine:8b", flags=frozenset({"completion"}), **known)
    thinks = ModelInfo("mine:8b", flags=frozenset({"completion", "thinking"}), **known)
    times = [PerformanceHistory().predict(info, TASK, resident=True).seconds for info in (plain, thinks)]
    assert times[1] > 2 * times[0]


def test_how_long_it_really_reasons_is_learned():
    history = PerformanceHistory()
    before = seconds("deepseek-r1:8b", history=history)
    info = Catalog().guess("deepseek-r1:8b")
    for _ in range(50):
        history.record(Outcome(info.name, "", OutcomeKind.OK, TASK.task_type, output_tokens=100, output_seconds=30.0))
    assert seconds("deepseek-r1:8b", history=history) < before / 5


def test_the_cloud_is_not_slow_for_being_large_and_says_nothing_of_this_machine():
    history = PerformanceHistory()
    assert seconds("gpt-oss:120b-cloud", history=history) < seconds("gpt-oss:120b", history=history) * 1.5
    before = seconds("llama3.1:8b", history=history)
    cloud = Catalog().guess("glm-4.6:cloud")
    history.learn_machine(cloud, Outcome(cloud.name, "", OutcomeKind.OK, output_tokens=1000, output_seconds=5.0))
    assert seconds("llama3.1:8b", history=history) == before


@pytest.mark.parametrize("name", [f"x:{'9' * 400}b", f"x:{'9' * 5000}x7b", f"x:7b-a{'9' * 400}b", f"x-{'9' * 10}b:q4"])
def test_a_name_with_a_size_beyond_all_measure_is_timed_as_any_other(name):
    assert 0 < PerformanceHistory().predict(ModelInfo(name), TASK, resident=True).seconds < 10_000


@pytest.mark.parametrize("prompt", [POEM, GREETING])
@pytest.mark.parametrize("thinks", ["deepseek-r1:70b", "magistral:24b", "qwq"])
def test_who_wants_speed_gets_a_poem_from_one_that_does_not_reason(prompt, thinks):
    router = Router.from_models([thinks, "llama3.1:8b", "qwen2.5:14b"], store="memory", prefer="speed")
    assert router.recommend_model(prompt).scores[-1].candidate.model.startswith(thinks)


@pytest.mark.parametrize("prompt", [POEM, GREETING])
def test_who_wants_speed_does_not_get_the_largest_for_having_no_size_in_its_name(prompt):
    router = Router.from_models(["llama3.3", "gemma3:4b", "mistral-small3.2:24b"], store="memory", prefer="speed")
    assert router.recommend_model(prompt).scores[-1].candidate.model == "llama3.3:latest"


@pytest.mark.parametrize("prefer", ["balanced", "quality"])
def test_a_guess_of_speed_decides_nothing_where_the_better_answer_is_wanted(prefer: Prefer):
    router = Router.from_models(["llama3.3", "gemma3:4b", "tinyllama"], store="memory", prefer=prefer)
    assert router.recommend_model("Should we split our monolith into microservices?").model == "llama3.3:latest"
