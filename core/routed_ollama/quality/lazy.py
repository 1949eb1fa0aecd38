"""Patterns that are compiled when they are first needed: most never are, and importing stays quick."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cached_property

__all__ = ["Lazy"]


class Lazy:
    r"""A regular expression, compiled at its first use.

    Args:
        pattern: as for ``re.compile``.

    Example:
        >>> Lazy(r"\d+").search("a 12")[0]
        '12'
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern

    @cached_property
    def search(self) -> Callable[[str], re.Match[str] | None]:
        """Its ``search``."""
        return re.compile(self._pattern).search

    @cached_property
    def finditer(self) -> Callable[[str], Iterator[re.Match[str]]]:
        """Its ``finditer``."""
        return re.compile(self._pattern).finditer

    @cached_property
    def findall(self) -> Callable[[str], list[str]]:
        """Its ``findall``."""
        return re.compile(self._pattern).findall

    @cached_property
    def sub(self) -> Callable[[str, str], str]:
        """Its ``sub``."""
        return re.compile(self._pattern).sub
