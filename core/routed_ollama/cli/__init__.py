"""The command line, for people: ``routed-ollama recommend``, ``routed-ollama models`` and ``routed-ollama demo``.

What it needs beyond the base install (typer, rich) is imported when a command runs, so that one line can say what to
install.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

_NEEDED = frozenset({"typer", "rich", "click"})
_INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ended: 128 and the signal's number."""
_MISSING = 'The routed-ollama command needs typer and rich. Install them with: pip install "routed-ollama[cli]"'


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: instead of those the process was started with.

    Returns:
        The exit code: 0; 1 when something is wrong, which was said in one line; 2 for a wrong command line; 130 when
        it was interrupted.

    Example:
        >>> main(["recommend", "Write a function", "--models", "qwen2.5-coder:7b", "--json"])  # doctest: +SKIP
        0
    """
    try:
        from routed_ollama.cli._app import run  # noqa: PLC0415 (see the module's law)

        return run(arguments)
    except KeyboardInterrupt:  # before a command began
        return _INTERRUPTED
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        sys.stderr.write(f"{_MISSING}\n")
        return 1
