"""The pytest plugin: one fixture. It is imported by every pytest run of this environment, so it imports nothing else.

The server is imported inside the fixture: a test run that never asks for it pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from routed_ollama.testing.server import OllamaServer


@pytest.fixture
def ollama_server() -> Iterator[Callable[..., OllamaServer]]:
    """Start local Ollama servers; each is stopped when the test ends.

    It is a function: it takes what :class:`~routed_ollama.testing.OllamaServer` takes and returns one that runs::

        def test_chat(ollama_server):
            server = ollama_server(models=["llama3.1:8b"])
            client = ollama.Client(host=server.url)
    """
    from routed_ollama.testing.server import OllamaServer  # noqa: PLC0415 - see the module's law

    with ExitStack() as stack:

        def start(*args: Any, **options: Any) -> OllamaServer:
            return stack.enter_context(OllamaServer(*args, **options))

        yield start
