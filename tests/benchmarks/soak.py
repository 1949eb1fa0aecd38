"""``make soak``: thousands of requests through both frameworks while everything goes wrong, bounded in count and time.

Two servers, each a process of its own, have five models. Four of them meet every fault there is, and one of the servers
is restarted or refuses connections now and then; one model is healthy. Whoever asks must not notice, and what is held
of memory, threads and connections must stay as it is. Writes what it measured as a page of the documentation.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import itertools
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from soak_asking import LOOPED, PATHS, THREADED, Request, is_answer, is_beginning, models_of

from routed_ollama import Router, Timeouts

SERVER = Path(__file__).with_name("soak_server.py")
GOOD = "good:1b"
FIRST, SECOND = (GOOD, "unwell:1b", "unwell:2b"), ("unwell:3b", "unwell:4b")
UNWELL = tuple(name for name in (*FIRST, *SECOND) if name != GOOD)
"""Whom the requests name, so that they meet what goes wrong there."""
TIMEOUTS = Timeouts(connect=10, load=3, first_token=2, between_tokens=2, total=15)
"""Short, for what hangs is waited for; but long beside what a busy machine needs for an answer."""
CONFIG = {"health": {"failure_threshold": 100, "recovery_timeout": 0.01, "max_recovery_timeout": 0.05}}
"""Circuits that hardly open, and for a moment: with the usual ones few would meet a fault after the first ones."""
THREADS, TASKS = 24, 16
"""How many ask at once: so many threads, and in each of two event loops so many tasks."""
MOST_MEGABYTES, MOST_THREADS, MOST_SOCKETS = 16, 8, 40
"""What the second half may hold more than the first, least beside least: whoever reads a line of 17 MiB holds more for
a moment, but what leaks is held at every moment."""
SHARE = 0.2
"""Of all requests, how many are to meet a failure, at least."""
WARM = 4000
"""Requests from which a run is long enough for what it held and met to be judged: pools and caches fill before."""


class Sample(NamedTuple):
    """What was held at a moment."""

    asked: int
    seconds: float
    faults: int
    failovers: int
    megabytes: float
    threads: int
    files: int


@dataclass
class Soak:
    """One run.

    Attributes:
        requests: how many are asked.
        seconds: after which no more are asked.
        share: faults by requests to a model that is unwell; some are sent to others, and some circuits are open.
        seed: the same requests and faults each time, as far as threads allow.
    """

    requests: int
    seconds: float
    share: float = 0.7
    seed: int = 5
    failures: list[str] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    left: int = 0
    met: int = 0
    short: int = 0
    failovers: int = 0
    continued: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    at_rest: Sample | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> Soak:
        """Ask everything, and measure on the way."""
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            self._servers = [
                stack.enter_context(_Server(models=FIRST, share=self.share, seed=self.seed, room=3, restarts=False)),
                stack.enter_context(_Server(models=SECOND, share=self.share, seed=self.seed, room=1, restarts=True)),
            ]
            self._began = time.monotonic()
            hosts = [server.url for server in self._servers]
            store = Path(folder) / "history.sqlite3"
            with Router(hosts=hosts, store=store, config=CONFIG, timeouts=TIMEOUTS) as router:
                models = models_of(router)
                with models["LangChain"], models["LlamaIndex"]:
                    self._ask_all(models)
            self.faults = self._faults()
            self.at_rest = self._sample()
        return self

    def _ask_all(self, models: dict[str, Any]) -> None:
        numbers = itertools.count()
        threads = [threading.Thread(target=self._in_thread, args=(models, numbers)) for _ in range(THREADS)]
        threads += [threading.Thread(target=self._in_loop, args=(models, numbers)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _next(self, numbers: Iterator[int]) -> int | None:
        number = next(numbers)
        if number >= self.requests or time.monotonic() - self._began > self.seconds:
            return None
        if number % max(self.requests // 20, 1) == 0 and number:
            with self._lock:
                self.samples.append(self._sample(number))
        return number

    def _in_thread(self, models: dict[str, Any], numbers: Iterator[int]) -> None:
        while (number := self._next(numbers)) is not None:
            request = Request.of(number, THREADED, UNWELL, self.seed)
            try:
                found = PATHS[request.path](models, request)
            except Exception as error:  # noqa: BLE001 (whatever a user would see is counted)
                self._note(request, error=error)
            else:
                self._note(request, found)

    def _in_loop(self, models: dict[str, Any], numbers: Iterator[int]) -> None:
        async def task() -> None:
            while (number := self._next(numbers)) is not None:
                request = Request.of(number, LOOPED, UNWELL, self.seed)
                try:
                    found = await PATHS[request.path](models, request)
                except Exception as error:  # noqa: BLE001
                    self._note(request, error=error)
                else:
                    self._note(request, found)

        async def tasks() -> None:
            await asyncio.gather(*(task() for _ in range(TASKS)))

        asyncio.run(tasks())

    def _note(self, request: Request, found: Any = None, error: Exception | None = None) -> None:
        with self._lock:
            if error is not None:
                self.failures.append(f"{request.path} {request.number}: {type(error).__name__}: {error}")
                return
            self.answered[request.path] += 1
            if request.leaves:
                self.left += 1
                return
            text, routing = found
            self.met += len(routing["attempts"]) > 1
            if "continued_at" in routing and is_beginning(text, request):
                self.short += 1
            elif not is_answer(text, request):
                self.failures.append(f"{request.path} {request.number}: answered {text!r} {routing}")
            self.failovers += len(routing["attempts"]) - 1
            self.continued += "continued_at" in routing

    def _faults(self) -> Counter[str]:
        return sum((server.faults() for server in self._servers), Counter())

    def _sample(self, asked: int | None = None) -> Sample:
        return Sample(
            self.requests if asked is None else asked,
            time.monotonic() - self._began,
            self._faults().total(),
            self.failovers,
            _megabytes(),
            threading.active_count(),
            _open_files(),
        )

    @property
    def asked(self) -> int:
        """How many requests ended, well or not."""
        return self.answered.total() + len(self.failures)

    def problems(self) -> list[str]:
        """Return what is not as it should be."""
        found = self.failures[:5] + ([f"{len(self.failures)} failures"] if self.failures else [])
        if self.requests < WARM:
            return found
        if self.met < SHARE * self.requests:
            found.append(f"only {self.met} of {self.requests} requests met a failure")
        half = len(self.samples) // 2
        for name, most in (("megabytes", MOST_MEGABYTES), ("threads", MOST_THREADS), ("files", MOST_SOCKETS)):
            first, second = (min(getattr(each, name) for each in part) for part in self._halves(half))
            if second - first > most:
                found.append(f"{name} grew from {first:.0f} to {second:.0f} in the second half")
        return found

    def _halves(self, half: int) -> tuple[list[Sample], list[Sample]]:
        """Return the samples of the first half, once it was warm, and of the second."""
        return self.samples[half // 2 : half + 1], self.samples[half + 1 :]


class _Server:
    """A server with its models and their troubles, in a process of its own."""

    def __init__(self, **settings: Any) -> None:
        command = [sys.executable, str(SERVER), json.dumps({**settings, "well": [GOOD]})]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 (ours)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self.url = self._said()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # its standard input closes, and it ends

    def _said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def faults(self) -> Counter[str]:
        """Return how often each has struck."""
        with self._lock:
            assert self._process.stdin is not None
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            return Counter(json.loads(self._said()))


def _megabytes() -> float:
    """Memory that this process holds, without what it has let go of and its allocator has not."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # glibc's alone
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError, IndexError):  # where there is no such file, the most it ever held must do
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    import resource  # noqa: PLC0415 (not on Windows)

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _open_files() -> int:
    """How many files and sockets this process has open; 0 where nobody can tell."""
    with contextlib.suppress(OSError):
        return sum(1 for _ in Path("/dev/fd").iterdir())
    return 0


def _machine() -> str:
    gigabytes = ""
    with contextlib.suppress(AttributeError, ValueError, OSError):
        gigabytes = f", {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GB of memory"
    return f"{os.cpu_count()} cores{gigabytes}, {platform.system()}, Python {platform.python_version()}"


def page(soak: Soak, command: str) -> str:
    """Return what was measured as a page of the documentation."""
    rows = [*soak.samples, *([soak.at_rest] if soak.at_rest else [])]
    table = "\n".join(
        f"| {row.asked if row is not soak.at_rest else 'closed'} | {row.seconds:.0f} | {row.faults} | {row.failovers} "
        f"| {row.megabytes:.0f} | {row.threads} | {row.files} |"
        for row in rows
    )
    kinds = "\n".join(f"| `{kind}` | {count} |" for kind, count in sorted(soak.faults.items()))
    paths = ", ".join(f"{path} {count}" for path, count in sorted(soak.answered.items()))
    seconds = soak.at_rest.seconds if soak.at_rest else 0.0
    return f"""# Soak

`{command}` makes this page: {soak.asked} requests through both frameworks, from {THREADS} threads and {2 * TASKS} tasks
in two event loops at once, over two servers with five models. Four of the models meet every fault there is, one server
is restarted and refuses connections now and then; one model is healthy. Each request names one of the four,
and circuits open late and for a moment: with the usual ones few would meet a fault after the first ones.

**{soak.asked} requests, {soak.met / max(soak.asked, 1):.0%} of them met a failure,
{len(soak.failures)} failures that a user saw, in {seconds:.0f} s.** {soak.failovers} attempts failed and were made up
for by another model: {soak.faults.total()} faults struck, and whoever was asking a server when it went away met that as
well. {soak.continued} streams were continued by another model in the middle of their text and came to the same text,
but for {soak.short} where that one said that there was nothing more to say (to answer with nothing is a fault, too).
{soak.left} streams were left by their reader after the first chunk.

Machine: {_machine()}. By path: {paths}.

## What was held on the way

| requests | seconds | faults | failed attempts | MB | threads | open files and sockets |
|---:|---:|---:|---:|---:|---:|---:|
{table}

The last line is after everything was closed.

## The faults that struck

| fault | times |
|---|---:|
{kinds}
"""


def main(arguments: list[str] | None = None, say: Callable[[str], None] = print) -> int:
    """Run it, write the page, and say what is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=1200.0, help="after which no more is asked")
    parser.add_argument("--out", type=Path, help="where the page is written; default nowhere")
    chosen = parser.parse_args(arguments)
    os.environ["NO_PROXY"] = "*"
    random.seed(5)
    soak = Soak(chosen.requests, chosen.seconds).run()
    text = page(soak, "make soak")
    say(text)
    if chosen.out is not None:
        chosen.out.parent.mkdir(exist_ok=True)
        chosen.out.write_text(text, encoding="utf-8")
    problems = soak.problems()
    if soak.asked < chosen.requests:
        problems.append(f"only {soak.asked} of {chosen.requests} requests were asked in {chosen.seconds:.0f} s")
    for problem in problems:
        say(f"NOT AS IT SHOULD BE: {problem}")
    return len(problems)


if __name__ == "__main__":
    sys.exit(bool(main()))
