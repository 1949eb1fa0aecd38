"""The life of what holds connections: closed by hand, by ``with`` or ``async with``; it opens again when it is used.

Whoever closes nothing loses nothing: a process that ends writes its history and leaves no thread behind.
"""

from __future__ import annotations

from abc import abstractmethod
from types import TracebackType
from typing import Self


class Closing:
    """Gives ``with`` and ``async with`` to what has ``close`` and ``aclose``.

    Example:
        >>> class Door(Closing):
        ...     def close(self) -> None:
        ...         print("closed")
        >>> with Door():
        ...     print("open")
        open
        closed
    """

    @abstractmethod
    def close(self) -> None:
        """Let go of everything that is open; what is used again opens again."""

    async def aclose(self) -> None:
        """Let go of what the running event loop holds, too."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
