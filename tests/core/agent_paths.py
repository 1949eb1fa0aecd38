"""The four ways to ask an agent, made alike: each returns the answer, or the last piece of it where it is streamed."""

from __future__ import annotations

import asyncio

import pytest


def generate(agent, prompt, **options):
    return agent.generate(prompt, **options)


def agenerate(agent, prompt, **options):
    return asyncio.run(agent.agenerate(prompt, **options))


def stream(agent, prompt, **options):
    return list(agent.stream(prompt, **options))[-1]


def astream(agent, prompt, **options):
    async def last():
        return [piece async for piece in agent.astream(prompt, **options)][-1]

    return asyncio.run(last())


every_path = pytest.mark.parametrize("path", [generate, agenerate, stream, astream], ids=lambda path: path.__name__)


def bodies(server):
    """What a server was asked to answer, in order."""
    return [request.body for request in server.requests if request.path == "/api/chat"]
