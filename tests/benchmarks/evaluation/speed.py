"""How long the hot functions take, in microseconds. Printed and in the JSON, not on the page: machines differ."""

from __future__ import annotations

import itertools
import timeit
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from evaluation.data import Labelled
from routed_ollama import Message, Router, analyze, assess_quality
from routed_ollama.priors import SHIPPED, capabilities_of, estimate
from routed_ollama.priors.names import profile_of

_SHORTEST, _LONGEST = 1_900, 2_100
"""Characters of the prompts that are timed: about 500 tokens."""
_MANY: Final = 200_000
_TEXTS: Final = 60


class Time(NamedTuple):
    """Microseconds that a call takes, over several texts."""

    what: str
    median: float
    slowest: float
    texts: int


def times(prompts: Sequence[Labelled]) -> list[Time]:
    """Return the times; none where no prompt has the length."""
    texts = [p.prompt for p in prompts if _SHORTEST < len(p.prompt) < _LONGEST][:_TEXTS]
    if len(texts) < 2:
        return []
    chats = [[Message("user", text)] for text in texts]
    long = (texts[0] * (_MANY // _SHORTEST + 1))[:_MANY]
    router = Router.from_models(["llama3.1:8b", "qwen2.5:7b", "gemma2:9b", "mistral:7b", "phi3.5:3.8b"])
    answers = list(itertools.pairwise(texts))
    return [
        _time("analyze, 2,000 characters", [partial(analyze, chat) for chat in chats]),
        _time("analyze, 200,000 characters", [partial(analyze, [Message("user", long)])]),
        _time(
            "recommend_model, 5 models, 2,000 characters",
            [partial(router.recommend_model, text) for text in texts],
        ),
        _time("assess_quality, 2,000 characters", [partial(assess_quality, a, b) for a, b in answers]),
        _time("assess_quality, 200,000 characters", [partial(assess_quality, texts[0], long)]),
        _time("capabilities_of, known name", [partial(capabilities_of, "llama3.1:8b")]),
        _time("capabilities_of, new name", [lambda: estimate(profile_of.__wrapped__("qwen2.5:7b"), SHIPPED)]),
    ]


def _time(what: str, calls: Sequence[Callable[[], object]]) -> Time:
    each = sorted(min(timeit.repeat(call, number=5, repeat=5)) / 5 * 1e6 for call in calls)
    return Time(what, each[len(each) // 2], each[-1], len(each))
