"""Agents, over the wire: what is sent and comes back, what is remembered and recorded, what happens on failure."""

from __future__ import annotations

import asyncio
import copy
import gc
import linecache
import pickle
import subprocess
import sys
import threading

import ollama
import pytest
from fault_table import ANSWER, BAD, FAULTS, GOOD, HANDED_OUT, assert_mended, both, leads, with_trouble

from routed_ollama import (
    AgentInterface,
    AgentResponse,
    AllModelsFailedError,
    ConfigurationError,
    ContextLengthError,
    HostUnreachableError,
    ModelNotInstalledError,
    RoutedOllamaWarning,
    Router,
    TaskType,
    create_agent,
    default_router,
    routing,
    set_default_router,
)
from routed_ollama.testing import Fault, Gate, OllamaServer, ScriptedModel


def generate(agent, prompt="Count to ten", **options):
    return agent.generate(prompt, **options)


def agenerate(agent, prompt="Count to ten", **options):
    return asyncio.run(agent.agenerate(prompt, **options))


def stream(agent, prompt="Count to ten", **options):
    return _joined(list(agent.stream(prompt, **options)))


def astream(agent, prompt="Count to ten", **options):
    async def collect():
        return [piece async for piece in agent.astream(prompt, **options)]

    return _joined(asyncio.run(collect()))


def _joined(pieces):
    last = pieces[-1]
    figures = {"prompt_eval_count": last.prompt_tokens, "eval_count": last.output_tokens, "done_reason": "stop"}
    thinking = "".join(piece.thinking for piece in pieces)
    return AgentResponse("".join(pieces), routing=last.routing, thinking=thinking, figures=figures)


every_path = pytest.mark.parametrize("path", [generate, agenerate, stream, astream], ids=lambda path: path.__name__)
streamed_paths = pytest.mark.parametrize("path", [stream, astream], ids=lambda path: path.__name__)


@pytest.fixture
def server():
    with OllamaServer(both()) as running:
        yield running


@pytest.fixture
def make(server):
    """Make agents whose choice is certain: the bad model leads while nothing is known against it."""
    made = []

    def agent(role="developer", **options):
        defaults = {"base_url": server.url, "config": leads("coding"), "store": "memory"}
        if "router" in options:
            defaults = {}
        made.append(create_agent(role, **{**defaults, **options}))
        return made[-1]

    yield agent
    for one in made:
        one.close()


def bodies(server):
    return [request.body for request in server.requests if request.path == "/api/chat"]


def contents(body):
    return [(message["role"], message["content"]) for message in body["messages"]]


# Answering


@every_path
def test_an_answer_is_text_that_knows_its_route_and_its_figures(server, make, path):
    server.add_model(ScriptedModel(BAD, reply=ANSWER, thinking="let me count"))
    answer = path(make())
    assert answer == ANSWER
    assert isinstance(answer, str)
    assert answer.model == answer.routing["model"] == BAD
    assert answer.routing["task_type"] == "coding"
    assert [attempt["outcome"] for attempt in answer.routing["attempts"]] == ["ok"]
    assert answer.thinking == "let me count"
    assert answer.output_tokens == 13
    assert answer.prompt_tokens > 5
    assert answer.done_reason == "stop"
    assert answer.routing["attempts"][0]["load_seconds"] is not None


def test_an_answer_survives_copies_and_pickles(make):
    answer = make().generate("Count")
    for other in (copy.deepcopy(answer), pickle.loads(pickle.dumps(answer))):  # noqa: S301 (our own)
        assert (other, other.routing, other.model) == (answer, answer.routing, answer.model)


@every_path
def test_the_role_is_what_the_model_hears(server, make, path):
    agent = make("architect", top_p=0.5, keep_alive="5m")
    path(agent, task_type="coding", seed=3)
    body = bodies(server)[-1]
    assert contents(body) == [("system", agent.role.prompt), ("user", "Count to ten")]
    assert body["options"] == {"temperature": 0.7, "top_p": 0.5, "seed": 3}
    assert body["keep_alive"] == "5m"


def test_the_later_word_is_the_stronger_one(server, make):
    config = {"roles": {"developer": {"temperature": 0.3, "options": {"num_predict": 7, "seed": 1}}}}
    agent = make(config=config, seed=2)
    agent.generate("Count")
    agent.generate("Count", temperature=0.9, max_tokens=5)
    first, second = (body["options"] for body in bodies(server))
    assert first == {"temperature": 0.3, "num_predict": 7, "seed": 2}
    assert second == {"temperature": 0.9, "num_predict": 5, "seed": 2}


@pytest.mark.parametrize(
    ("role", "given", "found"),
    [
        ("developer", None, "coding"),
        ("planner", None, "planning"),
        ("planner", TaskType.TESTING, "testing"),
        ("planner", "DEBUGGING", "debugging"),
    ],
)
def test_the_task_is_the_callers_else_the_roles(make, role, given, found):
    assert make(role).generate("Count", task_type=given).routing["task_type"] == found


def test_a_role_without_a_task_has_its_prompts_read(make):
    agent = make("free", config={"roles": {"free": {}}})
    assert agent.generate("Write a Python function that parses a date").routing["task_type"] == "coding"
    assert agent.generate("Write unit tests with pytest for this parser").routing["task_type"] == "testing"


def test_a_role_without_a_prompt_sends_none(server, make):
    make("free", config={"roles": {"free": {}}}).generate("Count")
    assert contents(bodies(server)[-1]) == [("user", "Count")]
    assert bodies(server)[-1]["options"] == {}


def test_a_model_may_be_named_for_one_prompt_and_a_scope_for_all(make):
    assert make().generate("Count", model=GOOD).model == GOOD
    assert make(models=[GOOD]).generate("Count").model == GOOD
    assert make(models=GOOD).generate("Count").model == GOOD
    assert make(models=[GOOD]).recommend_model("Count").fallbacks == ()


def test_a_preferred_model_answers_where_nothing_speaks_against_it(make):
    config = {"health": {"interval": 0}}
    assert make(model=GOOD, config=config).generate("Count").model == GOOD
    assert make(model=BAD, config=config).generate("Count").model == BAD


def test_thinking_is_asked_only_of_models_that_can(server, make):
    server.add_model(ScriptedModel(GOOD, reply=ANSWER, thinking="hm"))
    answer = make().generate("Count", think=True)
    assert (answer.model, answer.thinking) == (GOOD, "hm")
    assert bodies(server)[-1]["think"] is True


def test_what_is_said_around_a_request_counts(make):
    agent = make()
    with routing(model=GOOD, task_type="analysis"):
        answer = agent.generate("Count")
        pieces = agent.stream("Count")
    assert (answer.model, answer.routing["task_type"]) == (GOOD, "analysis")
    assert list(pieces)[-1].model == GOOD  # what was in force when it was asked for
    assert agent.generate("Count").model == BAD


def test_three_event_loops_in_a_row(make):
    agent = make()
    assert [agenerate(agent), astream(agent), agenerate(agent)] == [ANSWER] * 3


async def test_many_at_once(server, make):
    agent = make()
    assert await asyncio.gather(*(agent.agenerate("Count") for _ in range(10))) == [ANSWER] * 10
    assert len(bodies(server)) == 10


def test_a_prompt_that_needs_it_is_given_a_larger_context_once(server, make):
    agent = make()
    agent.generate("word " * 5000)
    agent.generate("Count")
    assert [body["options"].get("num_ctx") for body in bodies(server)] == [8192, 8192]
    agent.generate("Count", num_ctx=2048)
    assert bodies(server)[-1]["options"]["num_ctx"] == 2048


# Failures


@every_path
@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_answered_on_every_path(server, make, name, path):
    timeouts = FAULTS[name].timeouts
    answer = path(with_trouble(server, name, lambda hosts: make(base_url=None, hosts=hosts, timeouts=timeouts)))
    assert answer == ANSWER
    assert answer.model == GOOD
    assert_mended(name, answer.routing, streamed=path in {stream, astream})


@streamed_paths
@pytest.mark.parametrize("opens", [True, False], ids=["prefill", "asked"])
def test_after_a_cut_the_text_is_what_was_handed_out_plus_its_continuation(server, make, path, opens):
    rest = " and that is all there is to say"
    server.add_model(ScriptedModel(GOOD, reply=rest, continues_prefill=opens))
    server.fail(BAD, Fault.CLOSE, after_chunks=4)
    answer = path(make(memory=True))
    assert answer == HANDED_OUT + rest
    sent = contents(bodies(server)[-1])
    assert sent[2] == ("assistant", HANDED_OUT)
    assert [role for role, _ in sent][3:] == ([] if opens else ["user"])


@streamed_paths
def test_mid_stream_raise_turns_joining_off(server, make, path):
    server.fail(BAD, Fault.CRASH, after_chunks=3)
    config = {"fallback": {"mid_stream": "raise"}, "task_specific_models": {"coding": [BAD]}}
    with pytest.raises(ollama.ResponseError, match="an error was encountered while running the model"):
        path(make(config=config))


@every_path
def test_all_fail_in_one_error_that_lists_every_attempt(server, make, path):
    server.fail(None, Fault.SERVER_ERROR, text="kaputt")
    with pytest.raises(AllModelsFailedError) as caught:
        path(make())
    assert str(caught.value).count("kaputt") == 2
    assert [label.split(" @ ")[0] for label, _ in caught.value.errors] == [BAD, GOOD]


@every_path
@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.NOT_FOUND, Fault.BUSY, Fault.LOAD_ERROR])
def test_a_sole_model_fails_as_the_official_client_does(server, make, path, fault):
    server.fail(BAD, fault)
    with ollama.Client(server.url) as client, pytest.raises(ollama.ResponseError) as plain:
        list(client.chat(BAD, [{"role": "user", "content": "Hi"}], stream=True))
    with pytest.raises(ollama.ResponseError) as ours:
        path(make(models=[BAD]))
    assert str(ours.value) == str(plain.value)


@every_path
def test_no_server_running_names_the_url_and_what_to_do(make, refused_url, path):
    with pytest.raises(HostUnreachableError, match=f"{refused_url}.*ollama serve.*OLLAMA_HOST"):
        path(make(base_url=refused_url))


@every_path
def test_a_model_that_is_not_installed_is_said_with_what_to_do(make, path):
    with pytest.raises(ModelNotInstalledError, match="ollama pull nobody"):
        path(make(models=["nobody:1b"]))


@every_path
def test_a_prompt_that_fits_no_model_is_not_cut(server, make, path):
    with pytest.raises(ContextLengthError) as caught:
        path(make(), "word " * 20_000)
    assert caught.value.context_length == 8192
    assert bodies(server) == []


@every_path
def test_empty_everywhere_is_returned_as_it_is(server, make, path):
    server.fail(None, Fault.EMPTY)
    agent = make(memory=True)
    assert path(agent) == ""
    assert agent.history == ()


# What is recorded


@every_path
def test_an_answer_is_recorded_with_the_servers_figures(server, make, path):
    agent = make()
    path(agent)
    found = agent.router.performance()[BAD]
    assert (found.total_requests, found.success_rate) == (1, 1.0)
    assert found.tokens_per_second > 0
    assert found.average_response_time > 0
    assert found.quality_score > 0
    assert agent.router.performance(TaskType.CODING)[BAD].total_requests == 1


@every_path
@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.EMPTY, Fault.END_WITHOUT_DONE])
def test_a_failure_is_recorded_and_its_model_not_asked_first_for_ever(server, make, path, fault):
    server.fail(BAD, fault)
    agent = make()
    for _ in range(4):
        path(agent)
    asked = [body["model"] for body in bodies(server)]
    assert asked[0] == BAD
    assert asked[-1] == GOOD
    assert asked[-2] == GOOD  # its circuit was open: not even tried
    assert agent.router.performance()[BAD].success_rate == 0
    assert agent.health_check_all_models()[BAD] == "unhealthy"


def test_a_stream_that_is_left_blames_nobody_and_is_not_remembered(server, make):
    gate = Gate()
    server.add_model(ScriptedModel(BAD, reply=["one ", gate, "two"]))
    agent = make(memory=True)
    pieces = agent.stream("Count")
    assert next(pieces) == "one "
    pieces.close()
    gate.open()
    assert BAD not in agent.router.performance()
    assert agent.health_check_all_models()[BAD] == "healthy"
    assert agent.history == ()


async def test_an_async_stream_that_is_left_blames_nobody(server, make):
    gate = Gate()
    server.add_model(ScriptedModel(BAD, reply=["one ", gate, "two"]))
    agent = make()
    pieces = agent.astream("Count")
    assert await anext(pieces) == "one "
    await pieces.aclose()
    gate.open()
    assert BAD not in agent.router.performance()


async def test_a_cancelled_request_blames_nobody(server, make):
    gate = Gate()
    server.add_model(ScriptedModel(BAD, reply=[gate, "one"]))
    agent = make()
    asking = asyncio.create_task(agent.agenerate("Count"))
    assert await asyncio.to_thread(gate.wait_reached)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    gate.open()
    assert agent.router.performance() == {}
    assert [body["model"] for body in bodies(server)] == [BAD]


def test_learning_can_be_turned_off(make):
    agent = make(config={"routing": {"learn": False}})
    agent.generate("Count")
    assert agent.router.performance() == {}


def test_a_connection_that_breaks_after_the_last_line_breaks_nothing(make):
    agent = make(memory=True)
    pieces = agent.stream("Count")
    while next(pieces).routing is None:
        pass
    pieces.close()
    assert agent.router.performance()[BAD].success_rate == 1.0
    assert [turn.answer for turn in agent.history] == [ANSWER]


# Memory


@every_path
def test_without_memory_each_prompt_stands_alone(server, make, path):
    agent = make()
    path(agent)
    path(agent, "And then?")
    assert [role for role, _ in contents(bodies(server)[-1])] == ["system", "user"]
    assert agent.history == ()


@every_path
def test_with_memory_a_conversation_is_sent_whole_and_in_order(server, make, path):
    agent = make(memory=True)
    path(agent)
    path(agent, "And then?")
    assert contents(bodies(server)[-1])[1:] == [
        ("user", "Count to ten"),
        ("assistant", ANSWER),
        ("user", "And then?"),
    ]
    assert [(turn.prompt, turn.answer) for turn in agent.history] == [("Count to ten", ANSWER), ("And then?", ANSWER)]
    agent.clear_memory()
    path(agent)
    assert len(bodies(server)[-1]["messages"]) == 2


def test_a_number_bounds_the_turns_that_are_remembered(server, make):
    agent = make(memory=2)
    for prompt in ("one", "two", "three", "four"):
        agent.generate(prompt)
    assert [text for role, text in contents(bodies(server)[-1]) if role == "user"] == ["two", "three", "four"]
    assert [turn.prompt for turn in agent.history] == ["three", "four"]


def test_memory_keeps_what_fits_the_context_and_has_no_model_loaded_anew(server, make):
    agent = make(memory=True)
    prompts = [f"{number} " + "word " * 800 for number in range(5)]
    for prompt in prompts:
        agent.generate(prompt)
    kept = [text for role, text in contents(bodies(server)[-1]) if role == "user"]
    assert 2 <= len(kept) < 5
    assert kept == prompts[-len(kept) :]  # the newest
    assert [body["options"].get("num_ctx") for body in bodies(server)] == [None] * 5
    assert server.loads == {BAD: 1}
    assert len(agent.history) == len(kept)


def test_a_larger_context_remembers_more(server, make):
    agent = make(memory=True, num_ctx=8192)
    prompts = [f"{number} " + "word " * 800 for number in range(5)]
    for prompt in prompts:
        agent.generate(prompt)
    assert [text for role, text in contents(bodies(server)[-1]) if role == "user"] == prompts


def test_memory_knows_the_context_that_a_server_gives(make):
    models = [ScriptedModel(BAD, reply=ANSWER, context_length=32_768)]
    with OllamaServer(models, context_length=32_768) as large:
        agent = make(memory=True, base_url=large.url)
        prompts = [f"{number} " + "word " * 800 for number in range(6)]
        for prompt in prompts:
            agent.generate(prompt)
            agent.health_check_all_models()  # looks at what is in memory
        assert [text for role, text in contents(bodies(large)[-1]) if role == "user"] == prompts
        assert large.loads == {BAD: 1}


@pytest.mark.parametrize("memory", [True, False])
def test_a_conversation_stays_with_the_model_that_answers_it(server, make, memory):
    alike = ["first:7b", "second:7b"]
    for name in alike:
        server.add_model(ScriptedModel(name))
    config = {"health": {"interval": 0}, "routing": {"learn": False}}  # what is loaded makes no difference
    agent = make(models=alike, config=config, memory=memory)
    usual = agent.recommend_model("Go on").model
    other = next(name for name in alike if name != usual)
    agent.generate("Count", model=other)
    assert agent.generate("Go on").model == (other if memory else usual)


def test_a_failed_request_leaves_no_trace_in_the_memory(server, make):
    agent = make(memory=True)
    agent.generate("one")
    with server.fail(None, Fault.SERVER_ERROR), pytest.raises(AllModelsFailedError):
        agent.generate("two")
    agent.generate("three")
    assert [turn.prompt for turn in agent.history] == ["one", "three"]


def test_threads_share_a_memory(make):
    agent = make(memory=True)
    threads = [threading.Thread(target=agent.generate, args=(f"prompt {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(turn.prompt for turn in agent.history) == [f"prompt {number}" for number in range(8)]


# Arguments


@pytest.mark.parametrize("path", [generate, agenerate, stream, astream], ids=lambda path: path.__name__)
@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_an_empty_prompt_is_the_callers_mistake(server, make, path, prompt):
    with pytest.raises(ValueError, match="The prompt is empty"):
        path(make(), prompt)
    assert bodies(server) == []


@every_path
def test_a_prompt_must_be_text(make, path):
    with pytest.raises(TypeError, match="prompt must be text, not list"):
        path(make(), ["Count"])


@every_path
def test_a_callers_mistake_is_raised_as_it_is_and_blames_no_model(server, make, path):
    agent = make()
    with pytest.raises(Exception, match="set"):  # what the JSON encoder says
        path(agent, num_predict={1})
    assert agent.router.performance() == {}
    assert bodies(server) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"task_type": "cooking"}, "task_type: expected one of coding, .*'cooking'"),
        ({"prefer": "fast"}, "prefer: expected one of balanced, quality, speed; found 'fast'"),
    ],
)
def test_a_wrong_hint_is_an_error_that_says_what_there_is(make, arguments, says):
    agent = make()
    with pytest.raises(ConfigurationError, match=says):
        agent.generate("Count", **arguments)
    with pytest.raises(ConfigurationError, match=says):
        agent.stream("Count", **arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"models": []}, "models is empty"),
        ({"models": [1]}, "models: expected names, found int"),
        ({"memory": -1}, "memory: expected True, False or a number of turns; found -1"),
        ({"memory": "yes"}, "found 'yes'"),
        ({"prefer": "fast"}, "prefer"),
        ({"role": "devloper"}, "Did you mean 'developer'"),
        ({"timeouts": {"connect": 0}}, "connect"),
        ({"config": {"preffer": 1}}, "preffer"),
    ],
)
def test_a_wrong_argument_is_one_clear_error(make, arguments, says):
    with pytest.raises(ConfigurationError, match=says):
        make(**arguments)


async def test_an_option_that_ollama_does_not_know_is_a_warning_that_suggests_the_nearest(server):
    with pytest.warns(RoutedOllamaWarning, match="'temprature'. Did you mean 'temperature'") as caught:
        agent = create_agent("developer", base_url=server.url, store="memory", temprature=1)

    async def ask():
        agent.generate("Count", brand_new=1)
        await agent.agenerate("Count", brand_new=1)
        agent.stream("Count", brand_new=1)

    with agent, pytest.warns(RoutedOllamaWarning, match="'brand_new'.*sent") as later:
        await ask()
    lines = [linecache.getline(warning.filename, warning.lineno) for warning in (*caught, *later)]
    for line, call in zip(lines, ("create_agent", "generate", "agenerate", "stream"), strict=True):
        assert f"{call}(" in line  # the caller's own
    assert bodies(server)[-1]["options"] == {"temperature": 0.2, "temprature": 1, "brand_new": 1}


def test_a_toml_file_serves_as_well(server, make, tmp_path):
    path = tmp_path / "agents.toml"
    path.write_text('[roles.poet]\nprompt = "Rhyme."\ntemperature = 1.0\n[health]\ninterval = 0', encoding="utf-8")
    make("poet", config=path).generate("Count")
    assert contents(bodies(server)[-1])[0] == ("system", "Rhyme.")


def test_a_router_and_settings_for_another_cannot_both_be_given(server, make):
    with Router(base_url=server.url, store="memory") as router, pytest.raises(ConfigurationError, match="base_url"):
        make(router=router, base_url=server.url)


# Routers and clients


def test_agents_share_a_router_and_leave_it_open(server, make):
    with Router(base_url=server.url, store="memory", config={"roles": {"poet": {"prompt": "Rhyme."}}}) as router:
        with make(router=router) as developer, make("poet", router=router) as poet:
            model = developer.generate("Count").model
            poet.generate("Count", model=model)
        assert router.performance()[model].total_requests == 2
        assert poet.role.prompt == "Rhyme."


def test_an_agent_without_settings_shares_the_default_router(server, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", server.url)
    agent = create_agent("developer")
    try:
        assert agent.router is create_agent("tester", models=[GOOD]).router is default_router()
        assert agent.generate("Count") == ANSWER
        agent.close()
        assert agent.generate("Count") == ANSWER  # connections are made anew
    finally:
        set_default_router()


def test_what_a_manager_tells_is_told_for_the_agents_role_and_models(make):
    agent = make(models=[BAD, GOOD])
    assert agent.get_fallback_models(BAD) == [GOOD]
    assert agent.get_fallback_models(BAD, "Count") == [GOOD]
    told = agent.get_model_recommendations("Count")
    assert told["primary_recommendation"] == agent.recommend_model("Count").model == BAD
    assert told["task_characteristics"].task_type is TaskType.CODING
    agent.record_performance(GOOD, response_time=1.0, tokens_per_second=20)
    assert agent.router.performance()[GOOD].total_requests == 1


@every_path
def test_credentials_go_to_their_server_and_are_shown_nowhere(server, make, path):
    url = server.url.replace("http://", "http://user:s3cret@")
    agent = make(base_url=url)
    answer = path(agent)
    assert {request.headers.get("authorization") for request in server.requests} == {"Basic dXNlcjpzM2NyZXQ="}
    assert "s3cret" not in repr(agent) + repr(answer.routing) + repr(vars(agent))


@every_path
def test_settings_of_the_clients_hold_for_every_request(server, make, path):
    headers = {"x-team": "one"}
    path(make(client_kwargs={"headers": headers}))
    assert {request.headers.get("x-team") for request in server.requests} == {"one"}
    assert headers == {"x-team": "one"}


def test_client_settings_may_go_with_a_shared_router(server, make):
    with Router(base_url=server.url, store="memory") as router:
        make(router=router, client_kwargs={"headers": {"x-team": "one"}}).generate("Count")
    sent = [request.headers.get("x-team") for request in server.requests if request.path == "/api/chat"]
    assert sent == ["one"]


async def test_an_agent_is_a_context_manager_in_both_worlds(server, make):
    async with make() as agent:
        assert await agent.agenerate("Count") == ANSWER
        assert agent.generate("Count") == ANSWER
    with make() as agent:
        assert agent.generate("Count") == ANSWER


def test_an_agent_that_is_forgotten_leaves_nothing_open(recwarn, server):
    gc.collect()  # what others left
    recwarn.clear()
    agent = AgentInterface("developer", base_url=server.url, store="memory", config={"health": {"interval": 0}})
    agent.generate("Count")
    agenerate(agent)
    del agent
    gc.collect()
    assert [str(warning.message) for warning in recwarn if warning.category is ResourceWarning] == []


def test_without_the_official_client_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ollama", None)
    with pytest.raises(ImportError, match=r'pip install "routed-ollama\[agent\]"') as caught:
        create_agent("developer")
    assert caught.value.name == "ollama"


def test_an_official_client_that_is_broken_is_not_said_to_be_missing(tmp_path):
    (tmp_path / "ollama.py").write_text("import nothing_of_the_kind", encoding="utf-8")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import routed_ollama as r; r.create_agent('developer')"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)  # noqa: S603
    assert "ModuleNotFoundError: No module named 'nothing_of_the_kind'" in done.stderr


def test_the_official_client_is_imported_when_an_agent_is_made_and_not_before():
    code = "import sys, routed_ollama; sys.exit('ollama' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603 (our own)


def test_an_agent_says_who_it_is(server, make):
    assert repr(make()) == f"AgentInterface('developer', Router({server.url}; store=memory))"
