"""Helpers of the LlamaIndex tests can be imported by name; nothing of one test's instrumentation reaches another."""

import sys
from pathlib import Path

import pytest
from llama_index.core import Settings
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.instrumentation import get_dispatcher

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def own_instrumentation():
    """The dispatcher is the process's: what a test attaches is taken away again."""
    root = get_dispatcher()
    before = list(root.event_handlers), list(root.span_handlers)
    Settings.embed_model = MockEmbedding(embed_dim=4)
    yield root
    root.event_handlers, root.span_handlers = before
    Settings._llm = Settings._embed_model = None
