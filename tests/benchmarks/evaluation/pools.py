"""Which models are offered together: four pools as published with the data, and others by rule. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Final, NamedTuple

from evaluation.data import Row
from evaluation.figures import Table

SIZES: Final = (3, 4, 5, 6)
PER_SIZE: Final = 5
_OFTEN: Final = 0.9
"""Share of a source's rows in which a model must have been scored to be offered."""
_NOT_IN_LIBRARY: Final = "x/"


class Pool(NamedTuple):
    """Models that are offered together, on the rows of one source that scored all of them.

    Attributes:
        name: of the pool.
        source: what the names of its rows' sources begin with.
        models: tags of Ollama's library.
    """

    name: str
    source: str
    models: tuple[str, ...]

    @property
    def authors(self) -> str:
        """What the names of all sources of the same authors begin with; those are left out of "unseen" priors."""
        return self.source.partition("-")[0]


NAMED: Final = (
    Pool("uiuc", "uiuc", ("llama3.1:8b", "gemma2:9b", "qwen2.5:7b", "mistral:7b", "codegemma:7b")),
    Pool("zeroeval", "zeroeval", ("llama3.1:8b", "gemma2:9b", "qwen2:7b", "phi3.5:3.8b", "yi:9b-v1.5")),
    Pool("mmlu-pro", "mmlu-pro", ("llama3.1:8b", "phi3:3.8b", "mathstral:7b", "mixtral:8x7b", "command-r:35b")),
    Pool(
        "routerdc",
        "routerdc",
        ("zephyr:7b", "dolphin-mistral:7b", "dolphin-llama3:8b", "llama3:8b-text", "mistral:7b-text"),
    ),
)


def rows_of(pool: Pool, rows: Iterable[Row]) -> list[Row]:
    """Return the rows that scored every model of a pool."""
    wanted = set(pool.models)
    return [row for row in rows if row.source.startswith(pool.source) and wanted <= row.scores.keys()]


def table_of(pool: Pool, rows: Sequence[Row]) -> Table:
    """Return the scores alone, a column for each model."""
    return Table(
        pool.models,
        tuple(f"{row.source}/{row.category}" for row in rows),
        tuple(tuple(row.scores[model] for model in pool.models) for row in rows),
    )


def made_pools(rows: Sequence[Row], per_size: int = PER_SIZE) -> Iterator[Pool]:
    """Yield pools made by rule, the same from the same rows.

    Candidates are all combinations of 3 to 6 models of a source that are in Ollama's library and were scored in nine of
    ten of its rows. Of each size those are taken whose names, joined, have the smallest SHA-256: as good as chance.
    """
    for source in sorted({row.source for row in rows}):
        mine = [row for row in rows if row.source == source]
        scored = Counter(model for row in mine for model in row.scores if not model.startswith(_NOT_IN_LIBRARY))
        models = sorted(model for model, count in scored.items() if count >= _OFTEN * len(mine))
        for size in SIZES:
            found = sorted(combinations(models, size), key=_digest)[:per_size]
            for number, pool in enumerate(found, 1):
                yield Pool(f"{source} {size}.{number}", source, pool)


def _digest(models: tuple[str, ...]) -> str:
    return hashlib.sha256(" ".join(models).encode()).hexdigest()
