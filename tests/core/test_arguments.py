"""What a caller gives a router wrongly is one error that says what is wrong; what it gives back can be copied."""

import copy
import dataclasses
import json
import pickle
import subprocess
import sys

import pytest

from routed_ollama import ConfigurationError, Message, Router, TaskType
from routed_ollama.testing import OllamaServer

MODELS = ["llama3.1:8b", "gemma2:9b"]


@pytest.fixture
def router():
    with Router.from_models(MODELS) as made:
        yield made


@pytest.mark.parametrize("task_type", ["coding", "CODING", " Coding ", TaskType.CODING])
def test_a_kind_of_task_goes_by_its_name_in_any_writing(router, task_type):
    assert router.recommend_model("Hello", task_type=task_type).task.task_type is TaskType.CODING
    router.record_performance(MODELS[0], task_type=task_type, response_time=1.0)
    assert list(router.performance(task_type)) == [MODELS[0]]


def test_a_hint_that_is_none_names_those_there_are(router):
    with pytest.raises(ConfigurationError, match=r"task_type: expected one of coding, .*; found 'cooking'"):
        router.recommend_model("Hello", task_type="cooking")
    with pytest.raises(ConfigurationError, match=r"prefer: expected one of .*quality.*; found 'fast'"):
        router.recommend_model("Hello", prefer="fast")
    with pytest.raises(TypeError, match=r"There is no hint 'preferr'; there are scope, .*prefer"):
        router.recommend_model("Hello", preferr="speed")
    for call in (router.performance, lambda kind: router.record_performance("a", task_type=kind, response_time=1)):
        with pytest.raises(ConfigurationError, match="found 'cooking'"):
            call("cooking")


@pytest.mark.parametrize("prompt", [5, None, ["text"], {"role": "user"}], ids=str)
def test_a_prompt_that_is_none_is_an_error(router, prompt):
    with pytest.raises(TypeError, match="prompt must be text or a list"):
        router.recommend_model(prompt)


def test_of_a_list_is_said_what_in_it_is_no_message(router):
    with pytest.raises(TypeError, match="not a list with dict"):
        router.recommend_model([Message("user", "Hi"), {"role": "user", "content": "Hi"}])


@pytest.mark.parametrize("model", ["", "  ", 5, None], ids=repr)
def test_a_name_that_is_none_is_an_error(router, model):
    with pytest.raises(ValueError, match="model must be a name"):
        router.record_performance(model, response_time=1.0)
    with pytest.raises(ValueError, match="model must be a name"):
        router.get_fallback_models(model)
    assert router.performance() == {}


@pytest.mark.parametrize("value", ["1", True, -1, float("nan"), float("inf"), None], ids=repr)
def test_a_figure_that_is_none_is_an_error_and_records_nothing(router, value):
    with pytest.raises(ValueError, match="response_time must be seconds, 0 or more"):
        router.record_performance(MODELS[0], response_time=value)
    with pytest.raises(ValueError, match="quality must be 0 to 10"):
        router.record_feedback("some request", value)
    assert router.performance() == {}


def test_one_server_and_one_model_need_no_list():
    with OllamaServer(["llama3.1:8b", "gemma2:9b"]) as server:
        router = Router("gemma2:9b", hosts=server.url, store="memory")
        assert router.hosts == [server.url]
        assert [score.candidate.model for score in router.recommend_model("Hello").scores] == ["gemma2:9b"]


@pytest.mark.parametrize("models", [[5], [None], []], ids=repr)
def test_models_that_are_no_names_are_an_error(models):
    with pytest.raises(ConfigurationError, match="models"):
        Router(models, store="memory")


def test_what_a_router_says_can_be_copied_pickled_and_written_out(router):
    said = router.get_model_recommendations("Debug this authentication error")
    assert copy.deepcopy(said) == pickle.loads(pickle.dumps(said)) == said  # noqa: S301 (our own)
    characteristics = dataclasses.asdict(said["task_characteristics"])
    assert json.loads(json.dumps({**said, "task_characteristics": characteristics}))
    for score in router.recommend_model("Hello").scores:
        assert pickle.loads(pickle.dumps(score)) == score  # noqa: S301 (our own)


def test_what_a_router_says_cannot_be_changed(router):
    capabilities = router.recommend_model("Hello").task.capabilities
    for change in (lambda: capabilities.update(a=1), capabilities.clear, lambda: capabilities.pop("reasoning")):
        with pytest.raises(TypeError, match="cannot be changed"):
            change()


PROGRAM = """
import sys
from routed_ollama import get_model_recommendations
print(get_model_recommendations("Debug this authentication error")["primary_recommendation"])
"""


def test_a_program_that_ends_while_servers_are_asked_ends_quietly(tmp_path):
    with OllamaServer(MODELS) as server:
        environment = {"OLLAMA_HOST": server.url, "ROUTED_OLLAMA_STORE": str(tmp_path / "h"), "PATH": ""}
        for _ in range(5):
            ended = subprocess.run(  # noqa: S603 (our own program)
                [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True, timeout=60
            )
            assert ended.stdout.strip() in MODELS
            assert ended.stderr == ""


def test_a_plan_shows_nothing_of_what_was_asked(router):
    assert "walrus" not in repr(router.plan([Message("user", "Tell me of the walrus")]))
