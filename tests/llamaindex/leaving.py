"""Leaving a stream after its first chunk, on every path."""

import asyncio

from asking import QUESTION


def leave(llm):
    stream = llm.stream_chat(QUESTION)
    next(stream)
    stream.close()


def leave_a_completion(llm):
    stream = llm.stream_complete("Count to ten")
    next(stream)
    stream.close()


def aleave(llm):
    async def left():
        stream = await llm.astream_chat(QUESTION)
        await anext(stream)
        await stream.aclose()

    asyncio.run(left())


def aleave_a_completion(llm):
    async def left():
        stream = await llm.astream_complete("Count to ten")
        await anext(stream)
        await stream.aclose()

    asyncio.run(left())


LEAVING = [leave, leave_a_completion, aleave, aleave_a_completion]
