"""`nest_asyncio`, as in notebooks: a loop that runs without telling anybody when it ends, and that is never closed."""

import subprocess
import sys

import pytest

from routed_ollama.testing import OllamaServer

pytest.importorskip("nest_asyncio")

MADE = {
    "langchain": """
from langchain_routed_ollama import RoutedChatOllama
llm = RoutedChatOllama(base_url=url, store="memory")
async def ask():
    return (await llm.ainvoke("Hi")).content
async def stream():
    return "".join([chunk.content async for chunk in llm.astream("Hi")])
""",
    "llamaindex": """
from llama_index.core.llms import ChatMessage
from llamaindex_routed_ollama import RoutedOllama
llm = RoutedOllama(base_url=url, store="memory")
hi = [ChatMessage(role="user", content="Hi")]
async def ask():
    return (await llm.achat(hi)).message.content
async def stream():
    return "".join([chunk.delta async for chunk in await llm.astream_chat(hi)])
""",
}
RUNS = {
    "open": """
async def main():
    print(asyncio.run(ask()), await stream(), sep='\\n')
print(asyncio.run(ask()))
asyncio.run(main())
""",
    "closed": """
async def main():
    print(await ask())
    await llm.aclose()
asyncio.run(main())
""",
}
NESTED = """
import asyncio, sys
import nest_asyncio
url = sys.argv[1]
asyncio.set_event_loop(asyncio.new_event_loop())
nest_asyncio.apply()
"""


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("name", MADE)
def test_a_program_with_nested_loops_ends_in_silence(name, run):
    with OllamaServer(["llama3.1:8b"]) as server:
        script = NESTED + MADE[name] + RUNS[run]
        options = ["-X", "dev", "-W", "ignore", "-W", "error::ResourceWarning"]
        command = [sys.executable, *options, "-c", script, server.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)  # noqa: S603 (ourselves)
        assert (done.stderr, done.returncode) == ("", 0)
        assert set(done.stdout.splitlines()) == {"You asked: Hi"}
        asked = [request for request in server.requests if request.path == "/api/chat"]
        assert {request.headers["connection"] for request in asked} == {"close"}  # nobody would close it later
