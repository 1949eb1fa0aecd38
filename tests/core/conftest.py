"""What the tests of the core share: servers that answer wrongly, or not at all. Helpers can be imported by name."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import pytest

sys.path.insert(0, str(Path(__file__).parent))

Answer = Callable[[BaseHTTPRequestHandler], None]


class WrongServer:
    """A server on loopback whose answer to each path the test says: status and body, or a function of the handler."""

    def __init__(self, answers: dict[str, tuple[int, bytes] | Answer]) -> None:
        self.answers = answers
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.release = threading.Event()
        """Lets go of handlers that wait."""
        wrong = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                wrong.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
                answer = wrong.answers.get(self.path, (404, b'{"error": "not found"}'))
                if callable(answer):
                    answer(self)
                    return
                status, body = answer
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = handle_any  # noqa: N815 (the names http.server looks for)

            def log_message(self, *_: object) -> None:
                """Keep the test's output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def wrong_server() -> Iterator[Callable[..., WrongServer]]:
    """Start servers that answer as the test says."""
    with ExitStack() as stack:
        yield lambda **answers: stack.enter_context(
            WrongServer({f"/api/{path}": answer for path, answer in answers.items()})
        )


@pytest.fixture
def refused_url() -> str:
    """The address of a server that does not run: nothing listens there."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return f"http://127.0.0.1:{server.server_port}"


class WatchedLock:
    """A lock that tells how many threads have come to it, so that a test can let several meet there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._came = threading.Semaphore(0)

    def __enter__(self) -> Self:
        self._came.release()
        self._lock.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def held_until_met(self, work: Callable[[], object], threads: int = 2) -> None:
        """Have so many threads do something that takes this lock, all of them past every check before it."""
        running = [threading.Thread(target=work) for _ in range(threads)]
        with self._lock:
            for thread in running:
                thread.start()
            for _ in running:
                assert self._came.acquire(timeout=10.0)
        for thread in running:
            thread.join(10.0)


@pytest.fixture
def watched_lock() -> WatchedLock:
    """A lock at which a test lets threads meet."""
    return WatchedLock()


@pytest.fixture
def nobody(monkeypatch):
    """An address where no server answers, as the usual one."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("OLLAMA_HOST", url)
    return url
