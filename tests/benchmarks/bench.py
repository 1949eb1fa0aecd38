"""``make bench``: what routing costs beside the plain class, all interleaved in one run. Prints a table, writes JSON.

The server is a process of its own with scripted models that answer at once, so what is measured is the client's side.
Prompts are distinct, the store is an SQLite file, the monitor and the deadlines are on: as a user has them.
"""

# ruff: noqa: PLC0415, T201 (what is measured is imported when it is measured; what was measured is printed)

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench_running import deadlines, failovers, throughput
from measuring import Row, interleaved, prompt, ratio_row

CHUNKS = 500
MODELS = [f"{family}:{size}b" for family in ("llama3.1", "qwen2.5", "gemma2", "mistral") for size in (1, 3, 7, 14, 32)]
OTHERS = ["streamer:1b", "streamer:3b", "brief:1b", "brief:3b", "hang:1b", "stall:1b"]
"""What echoes a long prompt as a long stream, what answers briefly, and what never does, or falls silent."""


_SERVER = """
import sys
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel
models = [
    ScriptedModel(
        name,
        **({"reply": "It is so."} if "brief" in name else {}),
        faults=[fault for fault in (Fault.HANG, Fault.STALL) if fault.value in name],
    )
    for name in sys.argv[1:]
]
with OllamaServer(models=models, max_loaded_models=100, num_parallel=256) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def server(*arguments: str) -> Iterator[str]:
    """A server in a process of its own."""
    command = [sys.executable, "-c", _SERVER, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 (our own command)
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.communicate()  # its standard input closes, and it ends


def decision(url: str, store: Path, rounds: int) -> Row:
    """Analysis and scoring of 20 models, for prompts of about 500 tokens."""
    from routed_ollama import Message, Router

    router = Router(MODELS, base_url=url, store=store)
    messages = [[Message("user", prompt(number, 420))] for number in range(rounds + 1)]
    count = len(router.recommend_model(messages[-1]).scores)
    times = []
    for number in range(rounds):
        began = time.perf_counter()
        router.plan(messages[number])
        times.append(time.perf_counter() - began)
    router.close()
    value = statistics.median(times) * 1e6
    return Row(f"decision, {count} models, 500 tokens (median)", f"{value:.0f} us", "<= 150 us", value <= 150, value)


def analysis(rounds: int) -> list[Row]:
    """What a prompt asks for: one of about 500 tokens, and one far longer than what is read of it."""
    from routed_ollama import Message, analyze

    rows = []
    for characters, name, most in ((2_000, "500 tokens", 100), (200_000, "200,000 characters", 1_000)):
        texts = [(prompt(number, 420) * (characters // 1_000))[:characters] for number in range(min(rounds, 200))]
        times = []
        for number in range(rounds):
            messages = [Message("user", texts[number % len(texts)])]
            began = time.perf_counter()
            analyze(messages)
            times.append(time.perf_counter() - began)
        value = statistics.median(times) * 1e6
        rows.append(Row(f"analysis of {name} (median)", f"{value:.0f} us", f"<= {most:,} us", value <= most, value))
    return rows


def assessment(rounds: int) -> Row:
    """The quality heuristics, for answers of 2,000 characters: prose, lists, code, two languages."""
    from routed_ollama import Message, analyze, assess_quality

    asked = "Write a Python function that reads a log file and returns the errors of the last day"
    task, code = analyze([Message("user", asked)]), "def f{0}(a, b):\n    return [x * {0} for x in range(a) if x > b]\n"
    parts = {
        "prose": "Line {0} of the log is read, and where it tells of error {0} it is kept until the day ends. ",
        "list": "- **Step {0}**: read line {0}, split it at its blanks, and keep what came after hour {0}.\n",
        "code": f"It is done as follows, for case {{0}}:\n```python\n{code}\n```\n",
        "German": "In Zeile {0} steht der Fehler, der am Tag {0} gefunden und nicht behoben wurde. ",
        "Chinese": "第{0}行记录了第{0}天发生的错误、需要逐行读取并保存下来。",
    }
    answers = ["".join(part.format(number) for number in range(100))[:2_000] for part in parts.values()]
    times = []
    for number in range(rounds):
        began = time.perf_counter()
        assess_quality(asked, answers[number % len(answers)], task)
        times.append(time.perf_counter() - began)
    value = statistics.median(times) * 1e6
    return Row("quality of 2,000 characters (median)", f"{value:.0f} us", "<= 200 us", value <= 200, value)


def overhead(url: str, store: Path, rounds: int) -> Row:
    """``invoke`` beside the plain class's."""
    from langchain_ollama import ChatOllama

    from langchain_routed_ollama import RoutedChatOllama

    plain = ChatOllama(model=MODELS[0], base_url=url)
    routed = RoutedChatOllama(base_url=url, store=store)
    times = interleaved(
        {"plain": lambda n: plain.invoke(prompt(n, 20)), "routed": lambda n: routed.invoke(prompt(n, 20))}, rounds
    )
    base = statistics.median(times["plain"]) * 1e3
    more = statistics.median(b - a for a, b in zip(times["plain"], times["routed"], strict=True)) * 1e3
    met = more <= 0.2 or more <= 0.12 * base
    text = f"{more:+.3f} ms on {base:.3f} ms ({more / base:+.1%})"
    return Row("invoke, routed minus plain (median of pairs)", text, "<= 0.2 ms or 12 %", met, more)


def streaming(url: str, store: Path, rounds: int) -> Row:
    """A stream of 500 chunks beside the plain class's."""
    from langchain_ollama import ChatOllama

    from langchain_routed_ollama import RoutedChatOllama

    plain = ChatOllama(model="streamer:1b", base_url=url)
    routed = RoutedChatOllama(models=["streamer:1b", "streamer:3b"], base_url=url, store=store)

    def run(model: Any) -> Callable[[int], None]:
        def once(number: int) -> None:
            chunks = sum(1 for _ in model.stream(prompt(number, CHUNKS - 6)))
            assert chunks >= CHUNKS - 10, chunks

        return once

    return ratio_row(f"stream of {CHUNKS} chunks", run(plain), run(routed), rounds, 1.05)


def imports(plain: str, routed: str, rounds: int) -> Row:
    """Importing an adapter beside importing the plain one."""

    def run(module: str) -> Callable[[int], None]:
        def once(_number: int) -> None:
            subprocess.run([sys.executable, "-c", f"import {module}"], check=True)  # noqa: S603 (our own command)

        return once

    times = interleaved({"plain": run(plain), "routed": run(routed)}, rounds, warm=1)
    more = statistics.median(b - a for a, b in zip(times["plain"], times["routed"], strict=True))
    base = statistics.median(times["plain"])
    name = f"import {routed} minus {plain}"
    return Row(name, f"{more:+.3f} s on {base:.2f} s", "<= 0.1 s", more <= 0.1, more)


def construction(url: str, store: Path, rounds: int) -> list[Row]:
    """Constructing without a server, and the first use of 20 candidates."""
    from langchain_ollama import ChatOllama

    from langchain_routed_ollama import RoutedChatOllama

    def twenty(_number: int) -> None:
        model = RoutedChatOllama(models=MODELS, base_url=url, store=store)
        running = model._running
        for candidate in [info.candidate for info in shared.models() if info.name in MODELS]:
            running.candidates.plain(candidate, None)

    def two(_number: int) -> None:
        ChatOllama(model="a", base_url=url)
        ChatOllama(model="b", base_url=url)

    seed = RoutedChatOllama(base_url=url, store=store)
    seed.invoke("hi")
    shared = seed.router
    silent = "http://127.0.0.1:9"
    times = interleaved(
        {
            "two plain": two,
            "twenty": twenty,
            "silent": lambda _n: RoutedChatOllama(base_url=silent, store=store),
        },
        rounds,
        warm=2,
    )
    base, all20 = (statistics.median(times[name]) * 1e3 for name in ("two plain", "twenty"))
    alone = statistics.median(times["silent"]) * 1e3
    return [
        Row(
            "20 candidates / two plain constructions",
            f"{all20:.1f} ms / {base:.1f} ms",
            "<= 1 x",
            all20 <= base,
            all20 / base,
        ),
        Row("RoutedChatOllama() with no server there", f"{alone:.2f} ms", "waits for none", alone < 100, alone),
    ]


def llamaindex_chat(url: str, store: Path, rounds: int) -> list[Row]:
    """``chat`` beside the plain class's, and how much of the difference LlamaIndex's own event system takes."""
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.ollama import Ollama

    from llamaindex_routed_ollama import RoutedOllama

    plain = Ollama(model=MODELS[0], base_url=url, context_window=4096)
    routed = RoutedOllama(base_url=url, store=store)
    times = interleaved(
        {
            "plain": lambda n: plain.chat([ChatMessage(prompt(n, 20))]),
            "routed": lambda n: routed.chat([ChatMessage(prompt(n, 20))]),
            "events": _outer_events(),
        },
        rounds,
    )
    base, events = (statistics.median(times[name]) * 1e3 for name in ("plain", "events"))
    more = statistics.median(b - a for a, b in zip(times["plain"], times["routed"], strict=True)) * 1e3
    text = f"{more:+.3f} ms on {base:.3f} ms ({more / base:+.1%})"
    return [
        Row("LlamaIndex chat, routed minus plain (median of pairs)", text, "<= 0.2 ms", more <= 0.2, more),
        Row("... of it the framework's span and events", f"{events:.3f} ms", "", met=True, value=events),
    ]


def _outer_events() -> Callable[[int], Any]:
    """An outer method that does nothing but what the framework does around it, and one event of our own."""
    from llama_index.core.llms import ChatMessage, MockLLM

    from llamaindex_routed_ollama.events import RouteDecidedEvent, dispatcher

    class Outer(MockLLM):
        def chat(self, messages: Any, **_kwargs: Any) -> Any:
            dispatcher.event(
                RouteDecidedEvent(
                    request_id="1", model="a", host="b", task_type="general", fallbacks=["c"], reason="r", span_id=None
                )
            )
            return messages

    outer = Outer()
    return lambda n: outer.chat([ChatMessage(prompt(n, 20))])


def llamaindex_streaming(url: str, store: Path, rounds: int) -> Row:
    """A stream of 500 chunks beside the plain class's."""
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.ollama import Ollama

    from llamaindex_routed_ollama import RoutedOllama

    plain = Ollama(model="streamer:1b", base_url=url, context_window=4096)
    routed = RoutedOllama(models=["streamer:1b", "streamer:3b"], base_url=url, store=store)

    def run(model: Any) -> Callable[[int], None]:
        def once(number: int) -> None:
            chunks = sum(1 for _ in model.stream_chat([ChatMessage(prompt(number, CHUNKS - 6))]))
            assert chunks >= CHUNKS - 10, chunks

        return once

    return ratio_row(f"LlamaIndex stream of {CHUNKS} chunks", run(plain), run(routed), rounds, 1.05)


def llamaindex_query(url: str, store: Path, rounds: int) -> Row:
    """A query over 100 nodes in ``tree_summarize``."""
    from llama_index.core import SummaryIndex
    from llama_index.core.schema import TextNode
    from llama_index.llms.ollama import Ollama

    from llamaindex_routed_ollama import RoutedOllama

    index = SummaryIndex([TextNode(text=prompt(number, 420)) for number in range(100)])
    plain = Ollama(model="brief:1b", base_url=url, context_window=8192)
    routed = RoutedOllama(models=["brief:1b", "brief:3b"], base_url=url, store=store)

    def run(model: Any) -> Callable[[int], Any]:
        engine = index.as_query_engine(llm=model, response_mode="tree_summarize")
        return lambda number: engine.query(prompt(number, 10))

    return ratio_row("LlamaIndex tree_summarize over 100 nodes", run(plain), run(routed), rounds, 1.02)


def show(rows: list[Row], out: Path) -> None:
    """Print the table and write the JSON."""
    width = max(len(row.name) for row in rows)
    print(f"{'':{width}}  {'measured':28}  {'goal':18}  met")
    for row in rows:
        print(f"{row.name:{width}}  {row.measured:28}  {row.goal:18}  {'yes' if row.met else 'NO'}")
    out.write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n", encoding="utf-8")
    print(f"written to {out}")


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--json", type=Path, default=Path("bench.json"))
    chosen = parser.parse_args()
    os.environ["NO_PROXY"] = "*"
    rounds = chosen.rounds
    with tempfile.TemporaryDirectory() as folder, server(*MODELS, *OTHERS) as url:
        store = Path(folder) / "history.sqlite3"
        rows = [
            decision(url, store, rounds),
            *analysis(rounds),
            assessment(rounds),
            overhead(url, store, rounds),
            streaming(url, store, max(rounds // 10, 5)),
            imports("langchain_ollama", "langchain_routed_ollama", max(rounds // 40, 3)),
            *construction(url, store, max(rounds // 20, 5)),
            *llamaindex_chat(url, store, rounds),
            llamaindex_streaming(url, store, max(rounds // 10, 5)),
            imports("llama_index.llms.ollama", "llamaindex_routed_ollama", max(rounds // 40, 3)),
            *failovers(url, max(rounds // 80, 3)),
            throughput(url, store, max(rounds // 20, 5)),
            deadlines(url, max(rounds // 4, 10), CHUNKS),
            llamaindex_query(url, store, max(rounds // 20, 5)),
        ]
    show(rows, chosen.json)


if __name__ == "__main__":
    main()
