"""What a name leads to, before it is taken for a history: nothing of anybody else's is written to, renamed or chmod-ed.

Ours is a file of the default's name; and one of any name that is empty, holds our tables, or is a database of which too
little is left to tell whose it was (cut in its first page, or with zeros there, as a crash may leave it).
"""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path
from typing import Final

from routed_ollama.store._migrations import LOG

NAME: Final = "history.sqlite3"
"""Name of the file that is used where none was named. What bears it is taken for a history, however it is damaged."""

MAGIC: Final = b"SQLite format 3\0"
"""How an SQLite database begins: https://www.sqlite.org/fileformat.html, section 1.3."""

_PAGE: Final = 4096
"""Bytes of a page, as SQLite makes them unless told otherwise. The first one holds what the tables are made with."""
_PAGE_KINDS: Final = b"\x02\x05\x0a\x0d"
"""How a page of a table or an index begins: section 1.6 there."""
_LOOK: Final = 16 * _PAGE
"""Bytes that are looked at."""

_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_BEGINNINGS: Final = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive, or a document that is one"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"GGUF", "a model in GGUF"),
)


class NotOursError(Exception):
    """What is there is to be left alone."""


class ForeignError(NotOursError):
    """It is no history at all, and never was."""


def no_file(status: os.stat_result) -> str | None:
    """Return what is there in words, where that is no file; None for a file."""
    if stat.S_ISREG(status.st_mode):
        return None
    return f"is {next((words for fits, words in _KINDS if fits(status.st_mode)), 'no file')}"


def stranger(path: Path) -> str | None:
    """Return what a file that SQLite cannot read is in words, where it is none of ours; None for a damaged history.

    It opens the file, so it is only for one that is damaged: closing it lets go of SQLite's locks in this process.

    Raises:
        OSError: it cannot be read.
    """
    if path.name == NAME:
        return None
    with path.open("rb") as file:
        head = file.read(_LOOK)
    if MAGIC.startswith(head[: len(MAGIC)]):
        return "is a damaged database of another program" if _is_of_another(head) else None
    if LOG.encode() in head and b"\0" in head:  # a text that speaks of our tables has no zeros
        return None
    if not head[:_PAGE].strip(b"\0") and _is_zeroed(head):
        return None
    return f"is {_words(head)}, and no history"


def _is_of_another(head: bytes) -> bool:
    """Whether what tables are made with can still be read, and is none of ours."""
    return b"CREATE TABLE" in head[:_PAGE] and LOG.encode() not in head


def _is_zeroed(head: bytes) -> bool:
    """Whether zeros are all there is, or a page of a database follows; the image of a disk begins with zeros, too."""
    rest = head[_PAGE:].lstrip(b"\0")
    return len(head) < _LOOK if not rest else head[_PAGE] in _PAGE_KINDS


def _words(head: bytes) -> str:
    for begins, words in _BEGINNINGS:
        if head.startswith(begins):
            return words
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)  # the last character may be cut
    except UnicodeDecodeError:
        return "no SQLite database"
    if "\0" in text:
        return "no SQLite database"
    return "JSON" if text.lstrip()[:1] in {"{", "["} else "a text"
