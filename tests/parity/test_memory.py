"""What a request took is given back when it is over, not when the garbage collector happens to run.

Prompts and answers may be long, and a process that answers many holds the garbage of all of them otherwise. (Where a
model failed, the traceback of its error holds what it happened to until then, as tracebacks do.)
"""

import asyncio
import gc

import pytest
from columns import COLUMNS, SILENT, Ask, aread

from routed_ollama import Attempt, AttemptPlan, Recommendation, Router
from routed_ollama.testing import OllamaServer, ScriptedModel

every_column = pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
HELD = (Attempt, AttemptPlan, Recommendation)


def there():
    """Everything there is of any request, garbage too."""
    return [each for each in gc.get_objects() if type(each) in HELD]


@pytest.fixture
def llm(column):
    with (
        OllamaServer([ScriptedModel("one:1b"), ScriptedModel("two:1b")]) as server,
        Router(hosts=[server.url], store="memory", config={"health": {"interval": 0}, **SILENT}) as router,
    ):
        yield column.make(router, models=["one:1b", "two:1b"])


@pytest.fixture
def held():
    """Say what there is of the requests since, while nothing is collected; what other tests left is none of it."""
    gc.collect()
    before = there()
    known = set(map(id, before))
    gc.disable()
    yield lambda: [each for each in there() if id(each) not in known]
    gc.enable()


@every_column
def test_nothing_of_a_request_waits_for_the_garbage_collector(llm, column, held):
    column.whole(llm, Ask())
    list(column.stream(llm, Ask()))
    assert held() == []


@every_column
def test_nothing_of_an_async_request_waits_for_the_garbage_collector(llm, column, held):
    async def main():
        await column.awhole(llm, Ask())
        await aread(column, llm, Ask())

    asyncio.run(main())
    assert held() == []
