"""What a terminal is told, and how. Text from models, servers and users is never read as markup, and steers nothing."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import typer
from rich.console import Console
from rich.text import Text

from routed_ollama.errors import RoutedOllamaError, describe, escaped

_WIDTH: Final = 100
"""Columns where nobody can say how wide the output is: a file, a pipe."""
_INTERRUPTED: Final = 130
"""The exit code of a program that Ctrl-C ended: 128 and the signal's number."""


def console(*, stderr: bool = False) -> Console:
    """Return a console that takes nothing in a text for markup and draws nothing that the output cannot show."""
    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper):  # a code page may lack a character; that is no reason to stop
        stream.reconfigure(errors="replace")
    made = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _WIDTH
    return made


def plain(text: str) -> str:
    r"""Return a text with what steers a terminal escaped; its lines stay.

    Example:
        >>> plain("red: \x1b[31m")
        'red: \\x1b[31m'
    """
    return escaped(text, keep="\n\t")


@contextmanager
def plainly() -> Iterator[None]:
    """Say errors and warnings in one line each; an error ends the command with exit code 1.

    Raises:
        typer.Exit: with the exit code.
    """
    errors = console(stderr=True)

    def warn(message: Warning | str, *_: Any, **__: Any) -> None:
        errors.print(Text.assemble(("Warning: ", "yellow"), plain(str(message))), soft_wrap=True)

    with warnings.catch_warnings():
        warnings.showwarning = warn
        try:
            yield
        except RoutedOllamaError as error:
            text = plain(str(error) or describe(error)).replace("base_url=...", "--host URL")
            errors.print(Text(f"Error: {text}", style="red"), soft_wrap=True)
            raise typer.Exit(1) from None
        except OSError as error:  # the output cannot be written: a disk is full, a device is gone
            if isinstance(error, BrokenPipeError):  # whoever read it has seen enough
                raise
            errors.print(Text(f"Error: {plain(describe(error))}", style="red"), soft_wrap=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            errors.print("Interrupted.")
            raise typer.Exit(_INTERRUPTED) from None
