"""One table of scenarios x paths x frameworks, the core's agent among them: the same scenario is the same to all.

The same route, attempts, outcomes, recorded performance, and the same error of the core.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from columns import COLUMNS, FRAMEWORKS, PATHS, SILENT, Ask
from fault_table import BAD, GOOD, both
from langchain_core.exceptions import ModelError, OutputParserException
from scenarios import SCENARIOS, World

from routed_ollama import AllModelsFailedError, ConfigurationError, RoutedOllamaError, Router
from routed_ollama.testing import Fault, OllamaServer

PLAYED = [
    pytest.param(name, path, id=f"{name}-{path}")
    for name, play in SCENARIOS.items()
    # each of those that hang or stall waits
    for path in (("whole", "stream, async") if "hang" in name or "stall" in name else getattr(play, "paths", PATHS))
]


def outcome(column, path, play):
    """Play a scenario; return what was seen of it, and its errors."""
    with ExitStack() as stack:
        server = stack.enter_context(OllamaServer(both()))
        world = World(column, path, server, stack)
        play(world)
        return world.told(), world.errors


@pytest.mark.parametrize(("name", "path"), PLAYED)
def test_the_same_scenario_is_the_same_in_all(name, path):
    play = SCENARIOS[name]
    columns = FRAMEWORKS if hasattr(play, "frameworks_only") else COLUMNS
    with ThreadPoolExecutor(len(columns)) as threads:  # at once, because some scenarios wait
        played = list(threads.map(lambda column: outcome(column, path, play), columns))
    (langchain, their_errors), *others = played
    assert langchain["seen"]
    for error in their_errors:
        own = isinstance(error, RoutedOllamaError) and not isinstance(error, ConfigurationError)
        assert isinstance(error, ModelError) == own
    for told, errors in others:
        assert told == langchain
        assert not any(isinstance(error, ModelError) for error in errors)


def test_what_one_framework_learns_the_others_use():
    with OllamaServer(both()) as server:
        config = {"health": {"interval": 0, "failure_threshold": 1}, **SILENT}
        router = Router(base_url=server.url, store="memory", config=config)
        langchain, llamaindex, core = (c.make(router, models=[BAD, GOOD], model=BAD) for c in COLUMNS)
        with server.fail(BAD, Fault.SERVER_ERROR):
            assert COLUMNS[1].whole(llamaindex, Ask()).model == GOOD
        assert COLUMNS[0].whole(langchain, Ask()).model == GOOD  # the circuit is open
        assert COLUMNS[2].whole(core, Ask()).model == GOOD
        assert router.performance()[GOOD].total_requests == 3


@pytest.mark.parametrize("path", PATHS)
def test_an_object_that_nobody_gives_is_one_error_that_shows_what_each_answered(path):
    with OllamaServer(both(reply="I would rather chat.")) as server:
        langchain, llamaindex = (
            column.make(Router(base_url=server.url, store="memory"), models=[BAD, GOOD]) for column in FRAMEWORKS
        )
        for column, llm in zip(FRAMEWORKS, (langchain, llamaindex), strict=True):
            with pytest.raises(AllModelsFailedError) as caught:
                PATHS[path](column, llm, Ask(song=True))
            assert str(caught.value).count("answered 'I would rather chat.'") == 2
            assert isinstance(caught.value, OutputParserException) == (column is FRAMEWORKS[0])


COMES_FIRST = {
    "reasoning": (Ask(think=True), {"thinking": "Let me count."}, COLUMNS),
    "a tool call": (Ask(("What is multiply of 6 and 7?",), tools=True), {}, FRAMEWORKS),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("first", "column"),
    [
        pytest.param(first, column, id=f"{first}-{column.name}")
        for first, (_, _, columns) in COMES_FIRST.items()
        for column in columns
    ],
)
def test_the_first_token_is_the_first_of_anything(first, column, path):
    ask, model, _ = COMES_FIRST[first]
    with OllamaServer(both(reply=None, **model)) as server:
        router, recorded = Router(base_url=server.url, store="memory", config=SILENT), []
        router.record = recorded.append
        assert PATHS[path](column, column.make(router, models=[BAD]), ask).model == BAD
    assert recorded[0].first_token_seconds is not None
