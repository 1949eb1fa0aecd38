"""How much each skill of a model counts for a task. Pure; worked out once for each decision."""

from __future__ import annotations

from itertools import repeat
from typing import Final

from routed_ollama.types import ModelCapability, TaskCharacteristics

__all__ = ["weights_of"]

_CAPABILITIES: Final = tuple(ModelCapability)
_REASONING: Final = _CAPABILITIES.index(ModelCapability.REASONING)


def weights_of(task: TaskCharacteristics) -> tuple[float, ...]:
    """Return a weight for each of ``ModelInfo.skills``, in their order.

    As far as the task is mathematics, that skill counts in the place of reasoning. Where it is not, the weight of that
    skill, which is the last, is left out.

    Args:
        task: The request.

    Example:
        >>> weights_of(TaskCharacteristics(capabilities={ModelCapability.REASONING: 1.0}, mathematics=0.25))
        (0.0, 0.0, 0.75, 0.0, 0.0, 0.0, 0.0, 0.25)
    """
    weights = tuple(map(task.capabilities.get, _CAPABILITIES, repeat(0.0)))
    if not task.mathematics:
        return weights
    mathematics = task.mathematics * weights[_REASONING]
    return (*weights[:_REASONING], weights[_REASONING] - mathematics, *weights[_REASONING + 1 :], mathematics)
