"""What a server may make a client do: nothing elsewhere, and nothing without measure. No I/O: the transports ask.

A redirect to another server is refused, for the request carries prompts and credentials. What an answer may take of
memory is bounded, counted after it was unpacked. JSON is UTF-8, whatever charset a server names.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import httpx

from routed_ollama.errors import InvalidAnswerError, escaped, refuse_elsewhere

MAX_LINE: Final = 16 * 2**20
"""Bytes of one line. A line is one token; the longest known, a whole tool call or an image, take a few megabytes."""
MAX_ANSWER: Final = 256 * 2**20
"""Bytes of a whole answer: two million tokens of 130 bytes each, or a hundred thousand with log probabilities."""
MAX_ERROR: Final = 2**20
"""Bytes of an answer that is none: an error's text, the page of a redirect."""

_PIECE: Final = 2**20
"""Bytes that are unpacked at once: a packed megabyte may hold a thousand."""
_UNPACKED: Final = ("gzip", "deflate")
"""Compressions that can be unpacked piece by piece with the standard library."""
_OTHERS: Final = frozenset({"br", "zstd"})
"""What httpx would unpack besides, however much it becomes."""
_SENDABLE: Final = re.compile(rb"(?:[^\0\s]+(?:[ \t]+[^\0\s]+)*)?")
"""Values of headers that HTTP/1.1 takes (RFC 9112), as h11 reads it."""
_LONGEST_NAME: Final = 60
_CHARSET: Final = re.compile(r";\s*charset=(?!\"?utf-?8)[^;]*", re.IGNORECASE)


def prepare(request: httpx.Request) -> None:
    """Look at what is to be sent, and ask for no compression that could not be unpacked in measure.

    Raises:
        httpx.LocalProtocolError: a header cannot be sent. Below this, errors and logs would repeat its value.
    """
    for name, value in request.headers.raw:
        if not _SENDABLE.fullmatch(value):
            shown = escaped(name.decode("ascii", errors="replace"), _LONGEST_NAME)
            text = "has a value that cannot be sent: it holds a line break, or white space at an end"
            raise httpx.LocalProtocolError(f"The header {shown} {text}.", request=request)
    wanted = request.headers.get("accept-encoding", "")
    if any(name in wanted for name in _OTHERS):
        request.headers["accept-encoding"] = ", ".join(_UNPACKED)


def check_redirect(request: httpx.Request, response: httpx.Response) -> None:
    """Refuse an answer that sends the request on to another server.

    Raises:
        RedirectedError: to another scheme, host or port.
    """
    if not response.has_redirect_location:
        return
    try:
        target = httpx.URL(response.headers["location"])
    except httpx.InvalidURL:  # httpx follows none, and says so
        return
    if not target.scheme:
        target = request.url.join(target)
    refuse_elsewhere(request.url, target)


def meter_of(response: httpx.Response) -> Meter:
    """Return what an answer's bytes are to go through, and make the answer's headers say what comes out of it.

    Raises:
        InvalidAnswerError: it is compressed in a way that was not asked for.
    """
    headers = response.headers
    kind = headers.get("content-type")
    if kind is not None and _CHARSET.search(kind):
        headers["content-type"] = _CHARSET.sub("", kind)
    named = [name.strip().lower() for name in headers.get("content-encoding", "").split(",")]
    packed = [name for name in named if name in _OTHERS or name in _UNPACKED]
    most = MAX_ANSWER if response.is_success else MAX_ERROR
    if not packed:
        return Meter(most)
    if packed[0] not in _UNPACKED or len(packed) > 1:
        raise InvalidAnswerError(f"The answer is compressed ({', '.join(packed)}), which was not asked for.")
    del headers["content-encoding"]
    return Meter(most, _Unpacker().pieces)


class Meter:
    """Counts the bytes of an answer, unpacked, and ends one that is beyond measure.

    Args:
        most: bytes of the whole.
        unpack: returns what some bytes hold, in pieces; None where they are not packed.
    """

    __slots__ = ("_line", "_most", "_total", "_unpack")

    def __init__(self, most: int, unpack: Callable[[bytes], Iterable[bytes]] | None = None) -> None:
        self._most = most
        self._unpack = unpack
        self._line = 0
        self._total = 0

    @property
    def counts_only(self) -> bool:
        """Whether bytes come out as they went in, so that ``count`` is enough."""
        return self._unpack is None

    def feed(self, data: bytes) -> Iterable[bytes]:
        """Return what some bytes of the body come to.

        Raises:
            InvalidAnswerError: a line, or the whole, is longer than it may be.
            httpx.DecodingError: it cannot be unpacked.
        """
        if self._unpack is not None:
            return self._unpacked(data)
        self.count(data)
        return (data,)

    def _unpacked(self, data: bytes) -> Iterator[bytes]:
        assert self._unpack is not None  # noqa: S101 (for the type checker)
        for piece in self._unpack(data):
            self.count(piece)
            yield piece

    def count(self, data: bytes) -> None:
        """Count some bytes; on the way of every token.

        Raises:
            InvalidAnswerError: a line, or the whole, is longer than it may be.
        """
        self._total += len(data)
        last = data.rfind(b"\n")
        self._line = len(data) - last - 1 if last >= 0 else self._line + len(data)
        if self._line > MAX_LINE:
            raise InvalidAnswerError(f"A line of the answer is longer than {MAX_LINE // 2**20} MiB.")
        if self._total > self._most:
            raise InvalidAnswerError(f"The answer is longer than {self._most // 2**20} MiB.")


class _Unpacker:
    """Unpacks gzip and deflate piece by piece; what follows the end of the packed data is left out."""

    def __init__(self) -> None:
        self._made = zlib.decompressobj(32 + zlib.MAX_WBITS)  # the header says which of the two it is
        self._begun = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while data and not self._made.eof:
            if piece := self._next(data):
                yield piece
            data = self._made.unconsumed_tail

    def _next(self, data: bytes) -> bytes:
        begun, self._begun = self._begun, True
        try:
            return self._made.decompress(data, _PIECE)
        except zlib.error as error:
            if begun:
                raise httpx.DecodingError(str(error)) from error
        self._made = zlib.decompressobj(-zlib.MAX_WBITS)  # deflate without a header, as some servers send it
        return self._next(data)
