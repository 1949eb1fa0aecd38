"""One fault, one framework, one way of asking: played over the wire with the plain class and with ours."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from columns import COLUMNS, FRAMEWORKS, PATHS, SILENT, Ask, Column, Seen
from fault_table import ANSWER, BAD, GOOD, HANDED_OUT, both
from langchain_ollama import ChatOllama
from llama_index.llms.ollama import Ollama
from rows import CALL, GOING_ON, HOST, MODEL, NOBODY, ROWS, SONG_TEXT, Row

from routed_ollama import Candidate, CircuitState, Outcome, OutcomeKind, Router
from routed_ollama.testing import OllamaServer

PLAIN_LIMIT = 1.0
"""Seconds that the plain classes are given where the fault is endless, as their own time limit."""
_KEPT = 100_000
_GIVEN_UP = 2.5
"""Seconds after which a plain class that is still waiting is taken to wait for ever."""
_BOUND = re.compile(r"(\d+(?:\.\d+)?) s;")
_PLAIN: dict[str, Any] = {
    "LangChain": lambda url, limit, _context: ChatOllama(
        model=BAD, base_url=url, temperature=0, client_kwargs={} if limit is None else {"timeout": limit}
    ),
    "LlamaIndex": lambda url, limit, context: Ollama(
        model=BAD,
        base_url=url,
        temperature=0,
        context_window=context,
        **({} if limit is None else {"request_timeout": limit}),
    ),
}


@dataclass
class Played:
    """What was seen of one request.

    Attributes:
        seen: the answer, or what came of it before the error.
        error: in what it ended; None for a proper end.
        endless: whether it had not ended when it was given up.
        recorded: what the router was told of each attempt.
        blamed: who was held to account.
        streamed: whether it was a stream.
        length: of the text, in characters; of a very long one the beginning alone is kept.
    """

    seen: Seen
    error: Exception | None = None
    endless: bool = False
    recorded: list[Outcome] = field(default_factory=list)
    blamed: str = NOBODY
    streamed: bool = False
    length: int = field(init=False)

    def __post_init__(self) -> None:
        self.length = len(self.seen.text)
        if self.length > _KEPT:
            self.seen = replace(self.seen, text=self.seen.text[:_KEPT], message=None)

    @property
    def failure(self) -> Outcome | None:
        """The attempt that failed."""
        return next((one for one in self.recorded if one.kind is not OutcomeKind.OK), None)

    @property
    def overrun(self) -> float | None:
        """How long the attempt that failed took of the bound that its error names; None where it names none."""
        attempts = self.seen.routing.get("attempts") or [{}]
        bound = _BOUND.search(attempts[0].get("error") or "")
        return None if bound is None else attempts[0]["seconds"] / float(bound[1])

    @property
    def answered_by(self) -> str:
        """The model whose answer it is."""
        return next((one.model for one in reversed(self.recorded) if one.kind is OutcomeKind.OK), "")


# Names of servers, of which one can be taken away

_numbers = itertools.count(1)
_resolving: set[str] = set()
_usual = socket.getaddrinfo


def _getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
    name = host.decode() if isinstance(host, bytes) else host
    if not isinstance(name, str) or not name.endswith(".invalid"):
        return _usual(host, *args, **kwargs)
    if name not in _resolving:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return _usual("127.0.0.1", *args, **kwargs)


@contextmanager
def names() -> Iterator[None]:
    """Let names that end in ``.invalid``, which nobody has, resolve to this machine while they are said to."""
    socket.getaddrinfo = _getaddrinfo
    try:
        yield
    finally:
        socket.getaddrinfo = _usual


def _named(url: str) -> tuple[str, str]:
    name = f"ollama-{next(_numbers)}.invalid"
    _resolving.add(name)
    return name, f"http://{name}:{urlsplit(url).port}"


# What is played


@contextmanager
def _served(row: Row) -> Iterator[OllamaServer]:
    reply = {"reply": _goes_on} if row.any_length else {}
    models = both(bad=dict(row.bad), good={**reply, **row.good})
    with OllamaServer(models, version=row.version, context_length=row.context) as server:
        if row.trouble is not None and row.trouble.fault is not None:
            server.fail(BAD, row.trouble.fault, **row.trouble.details)
        yield server


def _goes_on(request: Any) -> str:
    return GOING_ON if any(message.role == "assistant" for message in request.messages) else ANSWER


@contextmanager
def _reachable(row: Row, server: OllamaServer, before: Any) -> Iterator[list[str]]:
    """Give the URLs of the servers, and take one of them away once ``before`` was called with them."""
    if row.trouble is None or row.trouble.fault is not None:
        yield [server.url]
        return
    server.remove_model(BAD)
    with OllamaServer([BAD], version=row.version) as gone:
        name, url = _named(gone.url) if row.unresolved else ("", gone.url)
        before([url, server.url])
        if row.unresolved:
            _resolving.discard(name)
        else:
            gone.stop()
        yield [url, server.url]


class _World:
    """Our class over two models; the bad one is asked first."""

    def __init__(self, row: Row, column: Column) -> None:
        self.row, self.column = row, column
        self.recorded: list[Outcome] = []

    def open(self, hosts: list[str]) -> None:
        config = {"health": {"interval": 0}, **SILENT}
        self.hosts = hosts
        self.router = Router(hosts=hosts, store="memory", timeouts=self.row.waits, config=config)
        record = self.router.record
        self.router.record = lambda one: (self.recorded.append(one), record(one))
        self.opened: dict[Candidate, CircuitState] = {}
        self.router.on_circuit_change(self.opened.__setitem__)
        self.llm = self.column.make(self.router, models=[BAD, GOOD], model=BAD)
        self.router.recommend_model("so that it is known")

    def blamed(self) -> str:
        if any(not candidate.model and state is CircuitState.OPEN for candidate, state in self.opened.items()):
            return HOST
        return MODEL if BAD in self.router.performance() else NOBODY


def ours(row: Row, column: Column, path: str) -> Played:
    """Ask our class."""
    with _served(row) as server:
        world = _World(row, column)
        with _reachable(row, server, world.open) as hosts:
            if not hasattr(world, "router"):
                world.open(hosts)
            played = _asked(column, path, world.llm, row.ask)
        recorded = [one for one in world.recorded if one.model == BAD or one.kind is OutcomeKind.OK]
        failed = any(one.kind is not OutcomeKind.OK for one in recorded)
        played.recorded, played.streamed = recorded, "stream" in path
        played.blamed = world.blamed() if failed else NOBODY
        return played


def plain(row: Row, column: Column, path: str) -> Played:
    """Ask the class that ours takes the place of, over the bad model alone."""
    endless = row.trouble is not None and row.trouble.endless
    with _served(row) as server, _reachable(row, server, lambda _urls: None) as hosts:
        given_up = threading.Event()
        watch = threading.Timer(_GIVEN_UP, lambda: (given_up.set(), server.stop()))
        if endless:
            watch.start()
        llm = _PLAIN[column.name](hosts[0], PLAIN_LIMIT if endless else None, row.context)
        played = _asked(column, path, llm, row.ask)
        watch.cancel()
        played.endless = given_up.is_set()
        return played


def _asked(column: Column, path: str, llm: Any, ask: Ask) -> Played:
    """Ask, and keep what came before an error."""
    chunks: list[Any] = []
    try:
        if not path.startswith("stream"):
            return Played(PATHS[path](column, llm, ask))
        if path == "stream":
            chunks.extend(column.stream(llm, ask))
        else:
            asyncio.run(_collect(column, llm, ask, chunks))
    except Exception as error:  # noqa: BLE001 (whatever a class raises is what is to be seen)
        return Played(column.read(chunks) if chunks else Seen(""), error)
    return Played(column.read(chunks) if chunks else Seen(""))


async def _collect(column: Column, llm: Any, ask: Ask, chunks: list[Any]) -> None:
    async for chunk in await column.astream(llm, ask):
        chunks.append(chunk)  # noqa: PERF401 (one by one: what came before an error is to be kept)


Cell = tuple[str, str]
"""Name of a column, and path."""


def columns_of(row: Row) -> list[Column]:
    """Who can be asked it: the core's own agent has no tools and no schemas."""
    return FRAMEWORKS if row.ask.tools or row.ask.song else COLUMNS


@cache
def played(name: str) -> tuple[dict[Cell, Played], dict[Cell, Played]]:
    """Play a row on every path with ours and with the plain classes, many at once, because some wait."""
    row = ROWS[name]
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(2 if row.once else 12))
        if row.unresolved:
            stack.enter_context(names())
        paths = [path for path in PATHS if not (row.once and "async" in path)]
        return _all(threads, ours, row, columns_of(row), PATHS), _all(threads, plain, row, FRAMEWORKS, paths)


def _all(
    threads: ThreadPoolExecutor, play: Any, row: Row, columns: list[Column], paths: Iterable[str]
) -> dict[Cell, Played]:
    cells = [(column, path) for column in columns for path in paths]
    found = threads.map(lambda cell: play(row, *cell), cells)
    return {(column.name, path): one for (column, path), one in zip(cells, found, strict=True)}


def is_right(row: Row, seen: Seen) -> bool:
    """Whether it is the answer of a model that is well, after whatever was handed out before."""
    if row.ask.song:
        return json.loads(seen.text or "{}") == json.loads(SONG_TEXT)
    if row.ask.tools:
        return seen.calls == CALL
    if row.stands and seen.routing.get("model") == BAD:
        return seen.text == row.bad.get("reply", ANSWER)
    at = seen.routing.get("continued_at")
    if not row.any_length or at is None:
        return seen.text == ANSWER
    return seen.text.startswith(HANDED_OUT) and seen.text[at:] == GOING_ON
