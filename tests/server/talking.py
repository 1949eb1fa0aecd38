"""Talking to a server without any client library's opinion."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

CLIENT = httpx.Client(timeout=30)


def body(model: str = "m", prompt: str = "hi", **more: Any) -> dict[str, Any]:
    """A chat request."""
    return {"model": model, "messages": [{"role": "user", "content": prompt}], **more}


def chat(server, model: str = "m", prompt: str = "hi", **more: Any) -> httpx.Response:
    """A chat that does not stream."""
    return CLIENT.post(f"{server.url}/api/chat", json={"stream": False} | body(model, prompt, **more))


def text(server, model: str = "m", prompt: str = "hi", **more: Any) -> str:
    """The words of an answer."""
    return chat(server, model, prompt, **more).json()["message"]["content"]


def post(server, path: str, **payload: Any) -> httpx.Response:
    """Any call."""
    return CLIENT.post(server.url + path, json=payload)


def get(server, path: str) -> Any:
    """A body as JSON."""
    return CLIENT.get(server.url + path).json()


def lines(server, model: str = "m", prompt: str = "hi", **more: Any) -> list[dict[str, Any]]:
    """The lines of a streamed chat."""
    with CLIENT.stream("POST", f"{server.url}/api/chat", json=body(model, prompt, **more)) as answer:
        return [json.loads(line) for line in answer.iter_lines()]


@contextmanager
def streaming(server, model: str = "m", prompt: str = "hi", **more: Any) -> Iterator[Iterator[dict[str, Any]]]:
    """A streamed chat, line by line."""
    with CLIENT.stream("POST", f"{server.url}/api/chat", json=body(model, prompt, **more)) as answer:
        yield (json.loads(line) for line in answer.iter_lines())


class Background:
    """A call made in a thread; its result or its error is there once it is joined."""

    def __init__(self, call, *arguments: Any, **more: Any) -> None:
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(call, arguments, more))
        self._thread.start()

    def _run(self, call, arguments, more) -> None:
        try:
            self._result = call(*arguments, **more)
        except Exception as error:  # noqa: BLE001 - it is handed to whoever asks for the result
            self.error = error

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def result(self, timeout: float = 20.0) -> Any:
        self._thread.join(timeout)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error
        return self._result


def raw_request(path: str, payload: Any = None, *, version: str = "1.1", headers: str = "") -> bytes:
    """A request as bytes."""
    data = json.dumps(payload).encode() if payload is not None else b""
    method = "POST" if payload is not None else "GET"
    length = f"Content-Length: {len(data)}\r\n" if payload is not None else ""
    return f"{method} {path} HTTP/{version}\r\nHost: localhost\r\n{length}{headers}\r\n".encode() + data


@contextmanager
def connected(server) -> Iterator[socket.socket]:
    """A TCP connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        yield sock


def until(sock: socket.socket, end: bytes) -> bytes:
    """What arrives up to and including some bytes."""
    data = b""
    while end not in data:
        part = sock.recv(65536)
        assert part, data
        data += part
    return data


def rest(sock: socket.socket) -> bytes:
    """What arrives until the other side closes."""
    data = b""
    while part := sock.recv(65536):
        data += part
    return data
