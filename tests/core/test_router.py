"""The router as its users see it, over the wire: deciding, learning, telling; servers that are well and others."""

from __future__ import annotations

import asyncio
import copy
import ctypes
import gc
import os
import pickle
import sqlite3
import sys
import threading
import types
import weakref
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from routed_ollama import (
    Candidate,
    ConfigurationError,
    ContextLengthError,
    FailureKind,
    HealthStatus,
    HostUnreachableError,
    Message,
    ModelNotInstalledError,
    Needs,
    NoModelError,
    Outcome,
    OutcomeKind,
    RoutedOllamaWarning,
    Router,
    TaskType,
    Timeouts,
    call,
)
from routed_ollama._memory import total_memory
from routed_ollama.store import SQLiteStore
from routed_ollama.store._migrations import LOG
from routed_ollama.testing import FakeClock, Fault, OllamaServer, ScriptedModel

QUIET = {"health": {"interval": 0}}
"""No monitor: what a test sees does not depend on when a thread looks."""
CODE = "Write a Python function that parses a date."


@pytest.fixture
def server() -> Iterator[OllamaServer]:
    models = [
        "llama3.1:8b",
        "codellama:13b",
        ScriptedModel("embedder:latest", capabilities=("embedding",)),
    ]
    with OllamaServer(models) as running:
        yield running


@pytest.fixture
def make() -> Iterator[Any]:
    """Make routers without a monitor and with a history in memory, closed when the test ends."""
    made: list[Router] = []

    def router(*args: Any, **options: Any) -> Router:
        made.append(Router(*args, **{"store": "memory", "config": QUIET, **options}))
        return made[-1]

    yield router
    for one in made:
        one.close()


def outcome(model: str, host: str, failure: FailureKind | None = None, **values: Any) -> Outcome:
    kind = OutcomeKind.OK if failure is None else OutcomeKind.FAILED
    return Outcome(model, host, kind, failure=failure and failure.value, **{"response_time": 1.0, **values})


def paths(server: OllamaServer) -> list[str]:
    return [request.path for request in server.requests]


# Deciding


def test_nothing_is_asked_before_the_first_decision_and_nothing_again_for_the_next(server, make) -> None:
    router = make(base_url=server.url)
    assert router.models() == []
    assert paths(server) == []
    first = router.recommend_model(CODE)
    assert {"/api/tags", "/api/ps", "/api/show"} == set(paths(server))
    server.forget_requests()
    assert router.recommend_model(CODE).model == first.model
    assert paths(server) == []
    assert server.loads == {}


def test_a_recommendation_says_what_was_chosen_what_follows_and_why(server, make) -> None:
    found = make(base_url=server.url).recommend_model(CODE)
    assert found.task.task_type is TaskType.CODING
    assert {found.model, *found.fallbacks} == {"llama3.1:8b", "codellama:13b"}
    assert found.host == server.url
    assert found.model in found.reasoning
    assert found.decision_seconds > 0
    assert [(one.candidate.model, one.gate) for one in found.refused] == [("embedder:latest", "completion")]
    assert found.request_id


def test_two_decisions_have_two_identities(server, make) -> None:
    router = make(base_url=server.url)
    assert router.recommend_model("a").request_id != router.recommend_model("a").request_id


def test_a_conversation_is_judged_as_a_whole(server, make) -> None:
    conversation = [Message("user", CODE), Message("assistant", "def parse(): ..."), Message("user", "Now test it.")]
    found = make(base_url=server.url).recommend_model(conversation)
    assert found.task.prompt_tokens > make(base_url=server.url).recommend_model("Now test it.").task.prompt_tokens


async def test_the_async_forms_are_the_same(server, make) -> None:
    router = make(base_url=server.url)
    found = await router.arecommend_model(CODE)
    assert found.model == router.recommend_model(CODE).model
    assert (await router.aplan([Message("user", CODE)])).choices[0].info.name == found.model
    assert await router.ahealth_check_all_models() == router.health_check_all_models()


async def test_a_server_that_must_be_asked_first_does_not_hold_up_the_event_loop(wrong_server, make) -> None:
    turns = asyncio.Event()
    passed = threading.Event()

    def waits_for_the_loop(handler) -> None:
        loop.call_soon_threadsafe(turns.set)
        passed.wait(10.0)
        handler.close_connection = True

    loop = asyncio.get_running_loop()
    server = wrong_server(tags=waits_for_the_loop)
    task = asyncio.create_task(make(base_url=server.url).arecommend_model("hi"))
    await asyncio.wait_for(turns.wait(), 10.0)
    passed.set()
    with pytest.raises(HostUnreachableError):
        await task


def test_a_plan_walks_the_ranking(server, make) -> None:
    router = make(base_url=server.url)
    plan = router.plan([Message("user", CODE)])
    assert [choice.info.name for choice in plan.choices] == [one.candidate.model for one in plan.recommendation.scores]
    assert call(plan, lambda attempt: attempt.model) == plan.recommendation.model
    assert plan.route()["model"] == plan.recommendation.model


def test_what_a_request_needs_decides_who_may_serve_it(make) -> None:
    models = ["llama3.1:70b", ScriptedModel("llava:7b", capabilities=("completion", "vision"))]
    with OllamaServer(models) as server:
        router = make(base_url=server.url)
        assert router.recommend_model("What is this?", needs=Needs(vision=True)).model == "llava:7b"
        with pytest.raises(NoModelError, match="does not support thinking"):
            router.recommend_model("Think.", needs=Needs(thinking=True))


def test_the_preferred_and_the_first_and_the_one_that_answers(server, make) -> None:
    router = make(base_url=server.url)
    models = {"llama3.1:8b", "codellama:13b"}
    for name in models:
        assert router.recommend_model(CODE, first=[name]).model == name
        stays = router.recommend_model(CODE, sticky=Candidate(name, server.url), stay=True)
        assert stays.model == name
        (preferred,) = (
            one for one in router.recommend_model(CODE, preferred=name).scores if one.candidate.model == name
        )
        assert preferred.preference > 0
    assert router.recommend_model(CODE, task_type=TaskType.PLANNING).task.task_type is TaskType.PLANNING


@pytest.mark.parametrize("interval", [0, 300])
def test_models_of_a_server_that_joins_are_ranked_from_the_next_request_on(server, make, interval) -> None:
    router = make(base_url=server.url, config={"health": {"interval": interval}})
    router.recommend_model(CODE)
    with OllamaServer(["qwen2.5-coder:32b"]) as second:
        router.add_host(second.url)
        assert second.url in {score.candidate.host for score in router.recommend_model(CODE).scores}


def test_conversations_stay_unless_that_is_switched_off(server, make) -> None:
    router = make(base_url=server.url)
    best = router.recommend_model(CODE).model
    other = Candidate(next(name for name in ("llama3.1:8b", "codellama:13b") if name != best), server.url)
    assert router.recommend_model(CODE, sticky=other, stay=True).model == other.model
    free = make(base_url=server.url, config={"routing": {"sticky": False}})
    assert free.recommend_model(CODE, sticky=other, stay=True).model == best
    free.conversations.note("session of Ann", other)  # one that is named stays all the same
    (named,) = (s for s in free.recommend_model(CODE, session="of Ann").scores if s.candidate == other)
    assert named.preference > 0


def test_a_tasks_list_leads(server, make) -> None:
    for name in ("llama3.1:8b", "codellama:13b"):
        config = {**QUIET, "task_specific_models": {"coding": [name]}}
        assert make(base_url=server.url, config=config).recommend_model(CODE).model == name


def test_only_the_models_that_are_named_are_chosen_from(server, make) -> None:
    router = make(["codellama:13b"], base_url=server.url)
    found = router.recommend_model(CODE)
    assert (found.model, found.fallbacks, found.refused) == ("codellama:13b", (), ())
    assert router.plan([Message("user", "hi")], scope=["llama3.1:8b"]).choices[0].info.name == "llama3.1:8b"


def test_what_is_larger_than_the_memory_is_left_out_unless_it_is_named(make) -> None:
    with OllamaServer(["small:1b", ScriptedModel("huge:1b", size=10**15)]) as server:
        found = make(base_url=server.url).recommend_model("hi")
        assert (found.model, [one.gate for one in found.refused]) == ("small:1b", ["memory"])
        assert make(["huge:1b"], base_url=server.url).recommend_model("hi").model == "huge:1b"


def test_a_sole_model_that_is_named_is_asked_whatever_is_thought_of_it(server, make) -> None:
    router = make(["embedder"], base_url=server.url)
    plan = router.plan([Message("user", "hi")], needs=Needs(tools=True))
    assert plan.sole
    assert [choice.info.name for choice in plan.choices] == ["embedder:latest"]


def test_one_in_memory_is_preferred_and_with_learning_off_nothing_changes_the_choice(make) -> None:
    twins = [ScriptedModel(f"twin-{letter}:8b", family="llama") for letter in "ab"]
    with OllamaServer(twins) as server:
        learning, frozen = make(base_url=server.url), make(base_url=server.url, learn=False)
        first = frozen.recommend_model("hi")
        other = "twin-a:8b" if first.model == "twin-b:8b" else "twin-b:8b"
        for router in (learning, frozen):
            router.recommend_model("hi")
            for _ in range(5):
                router.record(outcome(other, server.url, output_tokens=500, output_seconds=1.0, quality=9.0))
        assert learning.recommend_model("hi").model == other
        again = frozen.recommend_model("hi")
        assert again.scores == first.scores
        assert frozen.performance() == {}
        assert not frozen.learns
        assert learning.learns


def test_what_is_being_answered_now_makes_the_next_wait(make) -> None:
    with OllamaServer(["a:8b"]) as server:
        router = make(base_url=server.url)
        idle = router.recommend_model("hi").scores[0].prediction
        with next(iter(router.plan([Message("user", "hi")]))):
            busy = router.recommend_model("hi").scores[0].prediction
        assert busy.wait > idle.wait == 0.0
        assert router.recommend_model("hi").scores[0].prediction == idle


def test_an_attempt_is_bounded_and_its_bounds_allow_for_loading(server, make) -> None:
    router = make(base_url=server.url, timeouts={"first_token": 5, "load": 100})
    plan = router.plan([Message("user", "hi")])
    cold = next(iter(plan)).allowance
    assert cold.bounds.first > 105
    assert cold.marks is cold.bounds.marks
    router._known.catalog.hosts[server.url].load(plan.choices[0].info.name)
    router.health_check_all_models()
    warm = next(iter(router.plan([Message("user", "hi")]))).allowance
    assert warm.bounds.first < 100
    assert next(iter(router.plan([Message("user", "hi")], timeouts=Timeouts(total=1)))).allowance.bounds.total


def test_a_prompt_longer_than_the_servers_context_makes_it_grow_and_it_is_remembered(make, tmp_path) -> None:
    prompt = [Message("user", "word " * 6000)]
    with OllamaServer([ScriptedModel("a:8b", context_length=131_072)]) as server:
        router = make(base_url=server.url, store=tmp_path / "history.sqlite3")
        grown = next(iter(router.plan(prompt))).allowance.num_ctx
        assert grown is not None
        assert grown > 6000
        assert next(iter(router.plan([Message("user", "hi")]))).allowance.num_ctx == grown
        router.close()
        later = make(base_url=server.url, store=tmp_path / "history.sqlite3")
        assert next(iter(later.plan([Message("user", "hi")]))).allowance.num_ctx == grown


def test_a_prompt_that_fits_no_model_is_an_error_that_says_by_how_much(make) -> None:
    models = [
        ScriptedModel("a:8b", context_length=2048),
        ScriptedModel("b:8b", context_length=1024),
        ScriptedModel("embedder", capabilities=("embedding",), context_length=9999),
    ]
    with OllamaServer(models) as server:
        router = make(base_url=server.url)
        with pytest.raises(ContextLengthError, match="exceeds its context by") as caught:
            router.recommend_model("word " * 6000)
        assert caught.value.context_length == 2048
        assert caught.value.prompt_tokens > 4096
        with pytest.raises(ContextLengthError):
            make(["a:8b"], base_url=server.url).recommend_model("word " * 6000)
        with pytest.raises(NoModelError) as caught_too:
            router.recommend_model("word", needs=Needs(vision=True))
        assert not isinstance(caught_too.value, ContextLengthError)


# Servers that are not well


def test_no_server_is_an_error_that_names_the_address_and_what_to_do(make, refused_url) -> None:
    router = make(base_url=refused_url)
    with pytest.raises(HostUnreachableError) as caught:
        router.recommend_model("hi")
    for words in (refused_url, "ollama serve", "OLLAMA_HOST", "refused"):
        assert words in str(caught.value)
    with pytest.raises(HostUnreachableError, match=refused_url):
        router.health_check_all_models()


@pytest.mark.parametrize("names", [["a:1b"], ["a:1b", "b:1b"]], ids=["one", "two"])
def test_models_that_are_named_are_asked_even_where_no_server_answered_before(make, refused_url, names) -> None:
    def send(attempt) -> str:
        return httpx.get(attempt.host).text

    plan = make(names, base_url=refused_url).plan([Message("user", "hi")])
    with pytest.raises(httpx.ConnectError) as caught:
        call(plan, send)
    assert [record.model for record in plan.records] in ([name] for name in names)
    said = " ".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    for words in (refused_url, "ollama serve", "OLLAMA_HOST"):
        assert words in said


def test_an_address_where_something_else_answers_is_said_to_be_that(make, wrong_server) -> None:
    server = wrong_server(tags=(200, b"<html>Welcome</html>"))
    with pytest.raises(HostUnreachableError, match=r"not like an Ollama server.*Check base_url"):
        make(base_url=server.url).recommend_model("hi")


def test_no_model_installed_is_an_error_that_says_how_to_install_one(make) -> None:
    with OllamaServer() as server, pytest.raises(NoModelError, match="ollama pull"):
        make(base_url=server.url).recommend_model("hi")


def test_a_model_that_is_named_but_missing_is_an_error_with_the_nearest_name(server, make) -> None:
    with pytest.raises(
        ModelNotInstalledError, match=r"'lama3\.1:8b' not found.*similar: llama3\.1:8b.*ollama pull"
    ) as at:
        make(["lama3.1:8b"], base_url=server.url).recommend_model("hi")
    assert "embedder" not in str(at.value)
    with pytest.raises(ModelNotInstalledError, match=r"Installed: codellama:13b, embedder:latest, llama3\.1:8b"):
        make([Candidate("zzz:1b", server.url)], base_url=server.url).recommend_model("hi")
    with OllamaServer() as empty, pytest.raises(ModelNotInstalledError, match="`ollama pull x`"):
        make(["x"], base_url=empty.url).recommend_model("hi")


def test_a_missing_model_does_not_matter_while_others_can_answer(server, make) -> None:
    router = make(["absent:1b", "llama3.1:8b"], base_url=server.url)
    with pytest.warns(RoutedOllamaWarning, match="'absent:1b' is not installed, so others answer. Installed"):
        assert router.recommend_model("hi").model == "llama3.1:8b"
    with pytest.warns(RoutedOllamaWarning, match="absent:1b"):
        assert make(base_url=server.url).recommend_model("hi", first=["absent:1b"]).model


def test_of_a_misspelt_model_is_said_once_what_it_may_have_meant(server, make, recwarn) -> None:
    router = make(base_url=server.url)
    for _ in range(3):
        assert router.recommend_model("hi", preferred="lama3.1:8b").model
    [warning] = recwarn
    assert str(warning.message) == (
        "model 'lama3.1:8b' is not installed, so others answer. Installed and similar: llama3.1:8b, codellama:13b."
    )


def test_nothing_is_said_of_a_model_that_nobody_can_know_to_be_missing(server, make, recwarn) -> None:
    """Its server may be the one that does not answer; and an error says more than a warning."""
    router = make(hosts=[server.url, "http://127.0.0.1:9"])
    assert router.recommend_model("hi", preferred="absent:1b").model
    with pytest.raises(ModelNotInstalledError):
        make(["absent:1b"], base_url=server.url).recommend_model("hi")
    assert not recwarn.list


def test_a_model_that_is_installed_later_is_found(make) -> None:
    clock = FakeClock()
    with OllamaServer(["other:1b"]) as server:
        router = make(["a:1b"], base_url=server.url, clock=clock)
        with pytest.raises(ModelNotInstalledError):
            router.recommend_model("hi")
        server.add_model("a:1b")
        clock.advance(2.0)
        assert router.recommend_model("hi").model == "a:1b"


def test_a_host_that_is_down_at_first_is_used_when_it_is_back(make) -> None:
    server = OllamaServer(["a:1b"])
    with server:
        url = server.url
    router = make(base_url=url)
    for _ in range(2):
        with pytest.raises(HostUnreachableError):
            router.recommend_model("hi")
    with server:
        assert router.recommend_model("hi").model == "a:1b"


def test_a_host_that_goes_down_is_tried_all_the_same_when_there_is_no_other(make) -> None:
    with OllamaServer(["a:1b"]) as server:
        router = make(base_url=server.url)
        router.recommend_model("hi")
    router.record(outcome("a:1b", server.url, FailureKind.UNREACHABLE))
    found = router.recommend_model("hi")
    assert found.panic
    assert found.model == "a:1b"


def test_of_two_hosts_the_one_that_answers_is_used(make) -> None:
    with OllamaServer(["a:1b", "b:1b"]) as one, OllamaServer(["a:1b"]) as two:
        router = make(hosts=[one.url, two.url])
        plan = router.plan([Message("user", "hi")])
        assert {choice.candidate for choice in plan.choices} == {
            ("a:1b", one.url),
            ("b:1b", one.url),
            ("a:1b", two.url),
        }
        assert router.hosts == [one.url, two.url]
        assert router.get_fallback_models("b:1b") == ["a:1b"]
        router.record(outcome("a:1b", one.url, FailureKind.UNREACHABLE))
        assert router.recommend_model("hi").host == two.url
        assert router.health_check_all_models() == {"a:1b": "healthy", "b:1b": "healthy"}
        one.stop()
        assert router.health_check_all_models() == {"a:1b": "healthy", "b:1b": "unhealthy"}
        found = router.get_model_recommendations("hi")
        assert found["health"] == {"a:1b": "healthy", "b:1b": "unhealthy"}
        assert found["scores"]["a:1b"] == pytest.approx(router.recommend_model("hi").scores[0].total, abs=0.001)


@pytest.mark.parametrize("interval", [0, 300])
def test_a_second_host_that_was_never_there_does_not_keep_the_first_from_answering(make, refused_url, interval) -> None:
    with OllamaServer(["a:1b"]) as server:
        router = make(hosts=[refused_url, server.url], config={"health": {"interval": interval}})
        for _ in range(3):
            assert router.recommend_model("hi").host == server.url
        named = make(["a:1b"], hosts=[refused_url, server.url])
        assert named.recommend_model("hi").host == server.url


def test_a_host_is_taken_in_later(server, make) -> None:
    with OllamaServer(["other:1b"]) as second:
        router = make(base_url=server.url)
        router.recommend_model("hi")
        assert router.add_host(second.url) == second.url
        found = router.plan([Message("user", "hi")], scope=[Candidate("other:1b", second.url)])
        assert found.recommendation.host == second.url


# Learning


def test_what_an_answer_was_like_changes_the_record(server, make) -> None:
    router = make(base_url=server.url)
    router.record_performance(
        "llama3.1:8b", task_type=TaskType.CODING, response_time=2.0, tokens_per_second=50.0, quality_score=8.0
    )
    router.record_performance("llama3.1:8b", response_time=1.0, success=False)
    told = router.performance()["llama3.1:8b"]
    assert told.total_requests == 2
    assert told.tokens_per_second == pytest.approx(50.0)
    assert told.quality_score == 8.0
    assert 0.4 < told.success_rate < 0.6
    assert router.performance(TaskType.CODING)["llama3.1:8b"].average_response_time == 2.0
    assert router.performance(TaskType.PLANNING) == {}


def test_a_record_goes_to_the_host_that_has_the_model(make) -> None:
    with OllamaServer(["a:1b"]) as one, OllamaServer(["b:latest"]) as two:
        router = make(hosts=[one.url, two.url])
        router.recommend_model("hi")
        router.record_performance("b", response_time=1.0)
        router.record_performance("c:1b", response_time=1.0)
        router.record_performance("a:1b", response_time=1.0, host=two.url)
        history = router._known.history
        assert set(history.performance(host=two.url)) == {"b:latest", "a:1b"}
        assert set(history.performance(host=one.url)) == {"c:1b"}


@pytest.mark.parametrize(
    "values",
    [
        {"response_time": -1},
        {"response_time": float("nan")},
        {"response_time": float("inf")},
        {"response_time": 1, "quality_score": 11},
        {"response_time": 1, "quality_score": float("nan")},
        {"response_time": 1, "tokens_per_second": -5},
        {"response_time": 1, "tokens_per_second": float("inf")},
    ],
    ids=str,
)
def test_a_figure_out_of_range_is_refused(make, values: dict[str, float]) -> None:
    router = make()
    name = "response_time" if len(values) == 1 else list(values)[1]
    with pytest.raises(ValueError, match=name):
        router.record_performance("a:1b", **values)
    assert router.performance() == {}


def test_feedback_counts_for_the_model_that_answered(make) -> None:
    router = make()
    router.record(outcome("a:1b", router.host, request_id="r1"))
    assert router.record_feedback("r1", 9)
    assert router.performance()["a:1b"].quality_score == 9.0
    assert not router.record_feedback("r2", 9)
    with pytest.raises(ValueError, match="0 to 10"):
        router.record_feedback("r1", 11)


def test_a_model_that_keeps_failing_rests_and_is_tried_again_later(make) -> None:
    clock = FakeClock()
    with OllamaServer(["a:8b", "b:8b"]) as server:
        router = make(base_url=server.url, clock=clock)
        first = router.recommend_model("hi").model
        for _ in range(3):
            router.record(outcome(first, server.url, FailureKind.SERVER))
        found = router.recommend_model("hi")
        assert found.fallbacks == ()
        assert [one.gate for one in found.refused] == ["circuit"]
        assert router.health_check_all_models()[first] == "unhealthy"
        clock.advance(31.0)
        assert set(router.recommend_model("hi").fallbacks) == {first}
        assert router.health_check_all_models()[first] == "degraded"
        for _ in range(40):
            router.record(outcome(first, server.url))
        assert router.health_check_all_models()[first] == "healthy"


def test_one_on_trial_is_asked_by_one_request_at_a_time(make) -> None:
    clock = FakeClock()
    with OllamaServer(["a:8b", "b:8b"]) as server:
        router = make(base_url=server.url, clock=clock)
        router.recommend_model("hi")
        router.record(outcome("a:8b", server.url, FailureKind.OUT_OF_MEMORY))
        clock.advance(31.0)
        first, second = (router.plan([Message("user", "hi")], first=["a:8b"]) for _ in range(2))
        trial = next(iter(first))
        assert trial.model == "a:8b"
        assert next(iter(second)).model == "b:8b"
        with pytest.raises(KeyboardInterrupt), trial:
            raise KeyboardInterrupt
        third = router.plan([Message("user", "hi")], first=["a:8b"])
        assert next(iter(third)).model == "a:8b", "who leaves gives the trial back"


def test_what_says_nothing_of_a_model_is_not_held_against_it(server, make) -> None:
    router = make(base_url=server.url)
    before = router.recommend_model("hi")
    for kind in (FailureKind.CALLER, FailureKind.BUSY, FailureKind.UNSUPPORTED, FailureKind.CONTEXT):
        for _ in range(5):
            router.record(outcome("llama3.1:8b", server.url, kind))
    router.record(Outcome("llama3.1:8b", server.url, OutcomeKind.CANCELLED))
    assert router.recommend_model("hi").scores == before.scores
    assert router.performance() == {}


def test_a_model_that_turns_out_to_be_missing_is_not_offered_until_it_is_seen_again(server, make) -> None:
    router = make(base_url=server.url)
    router.recommend_model("hi")
    router.record(outcome("llama3.1:8b", server.url, FailureKind.MISSING))
    assert router.recommend_model("hi").fallbacks == ()
    router.health_check_all_models()
    assert len(router.recommend_model("hi").fallbacks) == 1


def test_an_outcome_of_another_version_is_learned_from_too(make) -> None:
    router = make()
    router.record(Outcome("a:1b", router.host, OutcomeKind.FAILED, failure="melted"))
    router.record(Outcome("a:1b", router.host, OutcomeKind.FAILED))
    assert router.performance()["a:1b"].total_requests == 2


# Telling


def test_a_health_check_asks_and_loads_nothing(server, make) -> None:
    router = make(base_url=server.url)
    found = router.health_check_all_models()
    assert found == dict.fromkeys(["llama3.1:8b", "codellama:13b", "embedder:latest"], HealthStatus.HEALTHY)
    assert server.loads == {}
    assert "/api/chat" not in paths(server)
    for number in range(10):
        router.record(outcome("llama3.1:8b", server.url, FailureKind.SERVER if number % 5 == 4 else None))
    assert router.health_check_all_models()["llama3.1:8b"] == "degraded"


def test_fallbacks_are_those_that_follow(server, make) -> None:
    router = make(base_url=server.url)
    assert router.get_fallback_models("llama3.1:8b") == ["codellama:13b"]
    assert set(router.get_fallback_models("absent", CODE)) == {"llama3.1:8b", "codellama:13b"}


def test_a_recommendation_as_a_mapping(server, make) -> None:
    router = make(base_url=server.url)
    found = router.get_model_recommendations(CODE)
    expected = router.recommend_model(CODE)
    assert found["primary_recommendation"] == expected.model
    assert found["fallback_models"] == list(expected.fallbacks)
    assert found["reasoning"] == expected.reasoning
    assert found["task_characteristics"].task_type is TaskType.CODING
    assert set(found["scores"]) == {"llama3.1:8b", "codellama:13b"}
    assert found["health"]["llama3.1:8b"] == "healthy"


def test_names_alone_are_enough_to_recommend() -> None:
    with Router.from_models(["llama3.1:8b", "gemma2:9b", "codellama"], config=QUIET) as router:
        found = router.recommend_model("Debug this authentication error")
        assert found.model in {"llama3.1:8b", "gemma2:9b", "codellama:latest"}
        assert len(found.fallbacks) == 2
        router.record_performance(found.model, response_time=1.0)
        assert router.performance()[found.model].total_requests == 1
        assert set(router.health_check_all_models().values()) == {"healthy"}
        assert "no server" in repr(router)
        again = pickle.loads(pickle.dumps(router))  # noqa: S301 (written here)
        assert again.recommend_model("hi").model == router.recommend_model("hi").model


# Its history


def test_what_one_process_learned_another_knows(make, tmp_path) -> None:
    path = tmp_path / "history.sqlite3"
    with OllamaServer(["a:8b", "b:8b"]) as server:
        with Router(base_url=server.url, config=QUIET, store=path) as router:
            router.recommend_model("hi")
            router.record_performance("a:8b", response_time=1.0, quality_score=7.0)
            for _ in range(3):
                router.record(outcome("b:8b", server.url, FailureKind.SERVER))
        later = make(base_url=server.url, store=path)
        assert later.performance()["a:8b"].quality_score == 7.0
        found = later.recommend_model("hi")
        assert found.model == "a:8b"
        assert [one.gate for one in found.refused] == ["circuit"]


def test_a_host_that_answers_now_is_not_thought_dead_for_what_was_stored_of_it(make, tmp_path) -> None:
    path = tmp_path / "history.sqlite3"
    with OllamaServer(["a:8b"]) as server:
        with Router(base_url=server.url, config=QUIET, store=path) as router:
            router.recommend_model("hi")
            router.record(outcome("a:8b", server.url, FailureKind.UNREACHABLE))
        found = make(base_url=server.url, store=path).recommend_model("hi")
        assert not found.panic


def test_a_corrupt_history_is_moved_aside_with_a_warning_and_the_answer_comes(server, make, tmp_path) -> None:
    path = tmp_path / "history.sqlite3"
    path.write_bytes(b"This is no database. " * 500)
    with pytest.warns(RoutedOllamaWarning, match="history"):
        assert make(base_url=server.url, store=path).recommend_model("hi").model
    assert any(other.read_bytes().startswith(b"This is no database") for other in tmp_path.iterdir() if other != path)


def test_a_history_of_a_newer_version_is_left_alone_with_a_warning(server, make, tmp_path) -> None:
    path = tmp_path / "history.sqlite3"
    store = SQLiteStore(path)
    store.record(outcome("a:1b", "http://one", at=1.0))
    store.close()
    with sqlite3.connect(path) as database:
        database.execute(f"INSERT INTO {LOG} VALUES (9999, 'from the future', 0)")  # noqa: S608 (a constant)
    database.close()
    before = path.read_bytes()
    router = make(base_url=server.url, store=path)
    with pytest.warns(RoutedOllamaWarning, match="newer"):
        assert router.recommend_model("hi").model
    router.record_performance("llama3.1:8b", response_time=1.0)
    assert router.performance()["llama3.1:8b"].total_requests == 1
    router.close()
    assert path.read_bytes() == before


def test_where_no_history_can_be_written_it_is_kept_in_memory_with_a_warning(server, make, tmp_path) -> None:
    (tmp_path / "file").write_text("in the way of a folder")
    router = make(base_url=server.url, store=tmp_path / "file" / "history.sqlite3")
    with pytest.warns(RoutedOllamaWarning):
        assert router.recommend_model("hi").model
    router.record_performance("llama3.1:8b", response_time=1.0)
    assert router.performance()["llama3.1:8b"].total_requests == 1


# Its life


def test_a_copy_is_the_same_router_and_a_pickled_one_is_made_anew(server, make, tmp_path) -> None:
    router = make(["llama3.1:8b"], base_url=server.url, store=tmp_path / "h.sqlite3", prefer="speed", max_attempts=2)
    assert copy.deepcopy(router) is router
    router.record_performance("llama3.1:8b", response_time=1.0)
    router.close()
    again = pickle.loads(pickle.dumps(router))  # noqa: S301 (written here)
    assert again.hosts == [server.url]
    assert again.config == router.config
    assert again.timeouts == router.timeouts
    assert again.id != router.id
    assert again.recommend_model("hi").model == "llama3.1:8b"
    assert again.performance()["llama3.1:8b"].total_requests == 1
    again.close()


def test_it_tells_nothing_secret_of_itself(make) -> None:
    router = make(base_url="http://user:secret@example.com:1234")
    assert "secret" not in repr(router) + str(router.hosts) + router.host
    assert b"secret" not in pickle.dumps(router)
    assert "http://example.com:1234" in repr(router)


def test_ollama_host_says_where_the_server_is(server, make, monkeypatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", server.url.removeprefix("http://"))
    assert make().recommend_model("hi").host == server.url


def test_a_file_of_configuration_says_where_the_servers_are(server, make, tmp_path) -> None:
    path = tmp_path / "router.toml"
    path.write_text(f'hosts = ["{server.url}"]\n[health]\ninterval = 0\n')
    assert make(config=path).recommend_model("hi").host == server.url
    with pytest.raises(ConfigurationError, match="timeouts"):
        make(timeouts={"conect": 1})
    with pytest.raises(ConfigurationError, match="store"):
        make(store="postgres://x")


def test_a_closed_router_has_no_thread_and_works_when_it_is_used_again(server, tmp_path) -> None:
    with Router(base_url=server.url, store=tmp_path / "h.sqlite3") as router:
        router.recommend_model("hi")
        monitor = router._known.monitor
        assert monitor.running
        thread = monitor._thread
    thread.join(10.0)
    assert not thread.is_alive()
    assert router.recommend_model("hi").model
    assert not monitor.running
    router.close()


def test_the_monitor_keeps_what_is_known_fresh_off_the_requests_way(server) -> None:
    with Router(base_url=server.url, store="memory", config={"health": {"interval": 300, "refresh": 0}}) as router:
        router.recommend_model("hi")
        server.add_model("new:1b")
        server.wait_until(
            lambda: bool(router.recommend_model("hi")) and any(m.name == "new:1b" for m in router.models())
        )
        assert server.loads == {}


def test_a_router_that_nobody_holds_is_collected_with_its_thread(server) -> None:
    router = Router(base_url=server.url, store="memory")
    router.recommend_model("hi")
    thread, gone = router._known.monitor._thread, weakref.ref(router)
    for host in router._known.catalog.hosts.values():
        host.close()
    del router, host
    server.wait_until(lambda: gc.collect() >= 0 and not thread.is_alive())
    assert gone() is None


def test_a_fault_of_the_servers_lists_is_no_end(server, make) -> None:
    router = make(base_url=server.url)
    router.recommend_model("hi")
    server.fail(None, Fault.SERVER_ERROR, endpoints=["/api/tags"])
    with pytest.raises(HostUnreachableError, match="answered 500"):
        router.health_check_all_models()
    assert router.recommend_model("hi").panic
    server.heal()
    assert set(router.health_check_all_models().values()) == {"healthy"}
    assert not router.recommend_model("hi").panic


def test_two_first_requests_at_once_learn_the_stored_history_once(make, tmp_path, watched_lock) -> None:
    path = tmp_path / "h.sqlite3"
    with Router(config=QUIET, store=path) as router:
        router.record_performance("a:1b", response_time=1.0)
    later = make(store=path)
    later._known._warming = watched_lock
    watched_lock.held_until_met(later.performance)
    assert later.performance()["a:1b"].total_requests == 1


@pytest.mark.filterwarnings("ignore:model 'absent")
def test_many_different_scopes_are_forgotten_in_time(server, make) -> None:
    router = make(base_url=server.url)
    for number in range(200):
        assert router.plan([Message("user", "hi")], scope=["llama3.1:8b", f"absent:{number}b"]).choices
    assert len(router._known.views._members_of) < 100


# The machine's memory


def test_how_much_memory_there_is_where_the_system_says_so(monkeypatch) -> None:
    answers = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", answers.__getitem__, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert total_memory.__wrapped__() == 4_096_000


@pytest.mark.parametrize("error", [ValueError("unknown name"), OSError(), AttributeError()])
def test_where_the_system_cannot_say_nothing_follows_from_it(monkeypatch, error: Exception) -> None:
    def unknown(_name: str) -> int:
        raise error

    monkeypatch.setattr(os, "sysconf", unknown, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert total_memory.__wrapped__() == 0


def test_on_windows_another_function_is_asked(monkeypatch) -> None:
    class Kernel:
        """Answers as ``GlobalMemoryStatusEx`` does: into the structure it is given, whose length it checks."""

        @staticmethod
        def GlobalMemoryStatusEx(reference: Any) -> int:  # noqa: N802 (its name there)
            status = reference._obj
            assert status.length == ctypes.sizeof(status)
            status.total = 17_179_869_184
            return 1

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "windll", types.SimpleNamespace(kernel32=Kernel), raising=False)
    assert total_memory.__wrapped__() == 17_179_869_184


async def test_fallbacks_and_recommendations_have_async_forms() -> None:
    router = Router.from_models(["llama3.1:8b", "qwen2.5-coder:7b"])
    first = await router.aget_model_recommendations("Write a Python function")
    assert first["primary_recommendation"] == "qwen2.5-coder:7b"
    assert await router.aget_fallback_models("qwen2.5-coder:7b", "Write a Python function") == ["llama3.1:8b"]
