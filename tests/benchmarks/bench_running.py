"""Rows of ``make bench`` about what goes wrong and what goes on at once: failover, deadlines, many streams."""

# ruff: noqa: PLC0415 (what is measured is imported when it is measured)

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import Row, interleaved, prompt

AT_ONCE, TOKENS = 256, 32
"""Streams that are under way at the same time, and words of each."""


def failovers(url: str, rounds: int) -> list[Row]:
    """How long after its bound a model is given up and another has answered, whatever was wrong."""
    from langchain_routed_ollama import RoutedChatOllama

    bounds = {"load": 0.1, "first_token": 0.5, "between_tokens": 0.5}
    nobody = "http://127.0.0.1:9"  # the port of a service that was never installed
    silent: dict[str, dict[str, Any]] = {
        "refused": {"models": ["brief:1b"], "hosts": [nobody, url]},
        "silent": {"models": ["hang:1b", "brief:1b"], "hosts": [url], "model": "hang:1b"},
        "silent in mid-stream": {"models": ["stall:1b", "brief:1b"], "hosts": [url], "model": "stall:1b"},
    }
    rows = []
    for name, settings in silent.items():
        late = []
        for number in range(rounds):
            llm = RoutedChatOllama(**settings, store="memory", timeouts=bounds, config={"health": {"interval": 0}})
            llm.router.health_check_all_models()
            began = time.perf_counter()
            route = llm.invoke(prompt(number, 20)).response_metadata["routing"]
            took = time.perf_counter() - began
            waited = re.search(r"(?:within|for) ([\d.]+) s", route["attempts"][0]["error"] or "")
            late.append(took - (float(waited[1]) if waited else 0.0))
            llm.close()
        value = statistics.median(late)
        rows.append(
            Row(f"failover, {name}: beyond its bound", f"{value * 1e3:+.0f} ms", "<= 200 ms", value <= 0.2, value)
        )
    return rows


def throughput(url: str, store: Path, rounds: int) -> Row:
    """Many async streams at once beside the plain class's: how many are answered in the same time."""
    from langchain_ollama import ChatOllama

    from langchain_routed_ollama import RoutedChatOllama

    plain = ChatOllama(model="streamer:1b", base_url=url)
    routed = RoutedChatOllama(models=["streamer:1b", "streamer:3b"], base_url=url, store=store)

    async def stream(model: Any, number: int) -> int:
        return sum([1 async for _ in model.astream(prompt(number, TOKENS))])

    with asyncio.Runner() as runner:

        def run(model: Any) -> Callable[[int], None]:
            async def all_() -> list[int]:
                return await asyncio.gather(*(stream(model, number) for number in range(AT_ONCE)))

            return lambda _number: _check(runner.run(all_()))

        times = interleaved({"plain": run(plain), "routed": run(routed)}, rounds, warm=1)
        runner.run(routed.aclose())
    value = statistics.median(a / b for a, b in zip(times["plain"], times["routed"], strict=True))
    base = AT_ONCE / statistics.median(times["plain"])
    name = f"{AT_ONCE} async streams at once, routed / plain ({base:.0f} a second)"
    return Row(name, f"{value:.3f} x", ">= 0.95 x", value >= 0.95, value)


def _check(chunks: list[int]) -> None:
    assert min(chunks) >= TOKENS, min(chunks)


def deadlines(url: str, rounds: int, chunks: int) -> Row:
    """What the bounds cost for each token, below any framework: the same client with and without them."""
    import httpx

    from routed_ollama.transport import Timeouts, attempt_bounds, build_transport

    plain, bounded = httpx.Client(base_url=url), httpx.Client(base_url=url, **build_transport(async_=False))

    def read(client: httpx.Client) -> Callable[[int], None]:
        def once(number: int) -> None:
            body = {"model": "streamer:1b", "messages": [{"role": "user", "content": prompt(number, chunks)}]}
            token = attempt_bounds.set(Timeouts(total=600).bounds())
            try:
                with client.stream("POST", "/api/chat", json=body) as response:
                    lines = sum(1 for _ in response.iter_lines())
            finally:
                attempt_bounds.reset(token)
            assert lines >= chunks, lines

        return once

    with plain, bounded:
        times = interleaved({"plain": read(plain), "bounded": read(bounded)}, rounds, warm=3)
    base, more = (
        statistics.median(each) / chunks * 1e6
        for each in (times["plain"], [b - a for a, b in zip(times["plain"], times["bounded"], strict=True)])
    )
    return Row("deadlines, for each token", f"{more:+.2f} us on {base:.1f} us", "", met=True, value=more)
