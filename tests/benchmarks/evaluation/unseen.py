"""The shipped priors without one source, as if its figures had never been published. For this process only.

The router reads its priors from ``routed_ollama.priors.SHIPPED``, worked out once for each name. So the tables are
derived anew, with what the source says left out, put in that place, and everything remembered is forgotten; and at the
end the same again. That the router does read them is checked, or the figures would be those of the shipped ones.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

from derive_priors import Result, derive, results

from routed_ollama import priors
from routed_ollama.priors.names import profile_of

_NAME: Final = "SHIPPED"


def fitted_on(authors: str, data: Path) -> bool:
    """Whether something of these authors is in the shipped priors."""
    return any(result.benchmark.startswith(authors) for result in _results(data))


@contextlib.contextmanager
def priors_without(authors: str, data: Path) -> Iterator[None]:
    """Have every router that is made inside know nothing of what these authors measured.

    Args:
        authors: what the names of their sources begin with.
        data: the folder of the data.

    Raises:
        RuntimeError: the router does not read its priors where they were put.
    """
    shipped, tables = priors.SHIPPED, _tables(authors, data)
    _put(shipped, tables)
    try:
        probe = min(result.model for result in _results(data))
        if priors.capabilities_of(probe) != priors.estimate(profile_of(probe), tables):
            raise RuntimeError(f"routed_ollama.priors does not read its tables from {_NAME} any more")
        yield
    finally:
        _put(tables, shipped)


@lru_cache(maxsize=2)
def _results(data: Path) -> list[Result]:
    return list(results(data))


@lru_cache(maxsize=8)
def _tables(authors: str, data: Path) -> priors.Tables:
    left = [result for result in _results(data) if not result.benchmark.startswith(authors)]
    return priors.Tables(**{name.lower(): table for name, table in derive(left).items()})


def _put(old: priors.Tables, new: priors.Tables) -> None:
    """Replace the tables wherever they are known by name, and forget what was worked out from them."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] != "routed_ollama":
            continue
        if getattr(module, _NAME, None) is old:
            setattr(module, _NAME, new)
        for value in list(vars(module).values()):
            clear = getattr(value, "cache_clear", None)
            if callable(clear):
                clear()
