"""Users who know better than the analysis what is asked for: by a function, by patterns, by a word with the request."""

from __future__ import annotations

import pickle

import pytest

from langchain_routed_ollama import RoutedChatOllama
from routed_ollama import ConfigurationError, Message, RoutedOllamaWarning, Router, TaskType, routing

MODELS = ["llama3.1:8b", "qwen2.5-coder:7b"]
RULES = {"testing": [r"\bcucumber\b"], "planning": ["sprint"]}


def type_of(router, prompt, **hints):
    return router.recommend_model(prompt, **hints).task.task_type


def ticket(messages):
    """Whoever writes a ticket's number wants it mended."""
    return "Debugging" if "JIRA-" in messages[-1].content else None


def broken(_messages):
    raise KeyError("no such thing")


def test_patterns_of_the_configuration_decide_and_else_the_analysis():
    router = Router.from_models(MODELS, config={"task_rules": RULES})
    assert type_of(router, "Ein Cucumber-Szenario, bitte") is TaskType.TESTING
    assert type_of(router, "What comes next in this SPRINT?") is TaskType.PLANNING
    assert type_of(router, "What is the capital of France?") is TaskType.GENERAL


def test_the_first_pattern_that_is_found_decides():
    router = Router.from_models(MODELS, config={"task_rules": RULES})
    assert type_of(router, "A sprint for cucumber") is TaskType.TESTING


def test_patterns_are_looked_for_in_the_request_however_long_the_conversation():
    router = Router.from_models(MODELS, config={"task_rules": RULES})
    talk = [Message("user", "Tell me of the sprint"), Message("assistant", "It ran."), Message("user", "Who won?")]
    assert type_of(router, talk) is TaskType.GENERAL
    assert type_of(router, "word " * 50_000 + "sprint") is TaskType.PLANNING


def test_a_function_is_asked_first_and_may_leave_it_to_the_others():
    router = Router.from_models(MODELS, config={"task_rules": {"testing": ["JIRA"]}}, classifier=ticket)
    assert type_of(router, "JIRA-12, please") is TaskType.DEBUGGING
    assert type_of(router, "What is JIRA?") is TaskType.TESTING
    assert type_of(router, "What is the capital of France?") is TaskType.GENERAL


def test_what_is_said_with_the_request_is_stronger():
    router = Router.from_models(MODELS, classifier=ticket)
    assert type_of(router, "JIRA-12", task_type="planning") is TaskType.PLANNING


@pytest.mark.parametrize("classifier", [broken, lambda _: "singing"])
def test_a_function_that_fails_is_told_of_and_the_request_is_decided_all_the_same(classifier):
    router = Router.from_models(MODELS, classifier=classifier)
    with pytest.warns(RoutedOllamaWarning, match="The classifier failed, so the prompt is analysed as usual"):
        assert type_of(router, "What is the capital of France?") is TaskType.GENERAL


def test_what_is_no_function_is_an_error_when_the_router_is_made():
    with pytest.raises(ConfigurationError, match=r"classifier: expected a function of the messages.*found 5"):
        Router.from_models(MODELS, classifier=5)


def test_a_pickled_router_keeps_both():
    router = Router.from_models(MODELS, config={"task_rules": RULES}, classifier=ticket)
    copy = pickle.loads(pickle.dumps(router))  # noqa: S301 (our own)
    assert type_of(copy, "JIRA-12") is TaskType.DEBUGGING
    assert type_of(copy, "the sprint") is TaskType.PLANNING


def test_a_pattern_that_is_none_is_named():
    with pytest.raises(ConfigurationError, match=r"task_rules.*testing.*regular expression"):
        Router.from_models(MODELS, config={"task_rules": {"testing": ["(unfinished"]}})


def test_a_variable_sets_patterns(monkeypatch):
    monkeypatch.setenv("ROUTED_OLLAMA_TASK_RULES__TESTING", '["gherkin"]')
    assert type_of(Router.from_models(MODELS), "Some Gherkin") is TaskType.TESTING


def test_the_frameworks_models_keep_to_them(ollama_server):
    llm = RoutedChatOllama(base_url=ollama_server(MODELS).url, store="memory", config={"task_rules": RULES})
    said = llm.invoke("the sprint").response_metadata["routing"]["task_type"]
    with routing(task_type="coding"):
        hinted = llm.invoke("the sprint").response_metadata["routing"]["task_type"]
    assert (said, hinted) == ("planning", "coding")
