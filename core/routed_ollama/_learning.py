"""What models are good for, learnt from marks. Law: evidence moves a choice by as much as it tells, and no further.

A mark (0..1) is taken apart as in a mixed model:

    mark = prior of the model for the request + offset of the task type + deviation of the model (+ that for the type)

- The offset is how the tasks and the judge differ from the priors. It is the same for all models, so hard tasks or a
  strict judge do not speak against the one model that was asked.
- The deviation is what a model is better or worse than thought. It is shrunk toward 0, first over all task types, then
  within one; and only what lies beyond its own uncertainty counts.

Numbers only: no prompt, no answer. Pure state; whoever owns it holds the lock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt
from typing import Final, NamedTuple

from routed_ollama.types import Candidate, TaskType

KEPT: Final = 0.999
"""Weight that a mark keeps when the same model's next one comes: about the last thousand count. Marks are scattered far
more than times are, so fewer could not tell models apart that differ by some points."""
_NOISE: Final = 0.2
"""Variance of a single mark about its expectation: right or wrong, at a share solved between 0.3 and 0.7, is 0.21 or
more; where most is solved, or marks are graded, less."""
_OFFSET: Final = 0.25**2
"""Variance of the offsets: the shares solved of public benchmarks lie that far about their mean."""
_DEVIATION: Final = 0.08**2
"""Variance of the deviations: as far (8 points) are the shipped priors from what models did in sources they had not
seen, over the pools of ``docs/routing-quality.md``."""
_BY_TYPE: Final = 0.02**2
"""Variance of what a model deviates in one task type beyond its deviation in all: little, for the priors tell task
types apart already, and a larger one cost more than it won."""
MARKS_OF_PRIOR: Final = round(_NOISE / _DEVIATION)
"""Marks that the prior is worth."""
_CAUTION: Final = 0.7
"""Standard deviations of a deviation that do not count."""
_HINT: Final = 0.2
"""What a mark counts that no person gave: heuristics find failures, they cannot tell a good answer from a better."""
_SOUND: Final = 0.95
"""Mark that the heuristics are expected to give any model."""


@dataclass(slots=True)
class _Cell:
    """The marks of a model in a task type, less what was expected."""

    weight: float = 0.0
    total: float = 0.0
    unplaced: float = 0.0
    """Weight of those for which nobody knew yet what was to be expected."""

    @property
    def known(self) -> bool:
        return self.weight > 0.0 and not self.unplaced


_Kind = tuple[TaskType, bool]
"""A task type, and whether a person judged."""


@dataclass(slots=True)
class _Model:
    cells: dict[_Kind, _Cell] = field(default_factory=dict)
    deviation: float = 0.0
    variance: float = _DEVIATION


class Learnt(NamedTuple):
    """How much better a model is than thought, as a share (0..1) of what can be reached."""

    shift: float = 0.0
    """What counts: the deviation less its uncertainty, toward 0."""
    deviation: float = 0.0
    error: float = sqrt(_DEVIATION + _BY_TYPE)
    """Standard deviation of the deviation."""


UNKNOWN: Final = Learnt()


class Marks:
    """The marks of all models, and what they come down to.

    Example:
        >>> marks, good, bad = Marks(), Candidate("a:8b", ""), Candidate("b:8b", "")
        >>> for _ in range(100):
        ...     marks.learn(good, TaskType.CODING, 0.9, expected=0.5)
        ...     marks.learn(bad, TaskType.CODING, 0.3, expected=0.5)
        >>> marks.of(good, TaskType.CODING).shift > 0 > marks.of(bad, TaskType.CODING).shift
        True
    """

    def __init__(self) -> None:
        self._models: dict[Candidate, _Model] = {}
        self._offsets: dict[_Kind, float] = {}
        self.given = 0
        """How many persons have given."""
        self.unplaced: set[Candidate] = set()
        """Models with marks for which it must still be said what was to be expected; see ``place``."""

    def learn(
        self,
        candidate: Candidate,
        task_type: TaskType,
        mark: float,
        *,
        expected: float | None,
        person: bool = True,
        instead: float | None = None,
    ) -> None:
        """Take a mark.

        Args:
            candidate: the model that answered.
            task_type: of the request.
            mark: 0..1.
            expected: the model's prior for the request, 0..1; None where it is to be said later.
            person: whether somebody judged; else the heuristics did.
            instead: the mark that this one replaces.
        """
        model = self._models.setdefault(candidate, _Model())
        kind = task_type, person
        cell = model.cells.setdefault(kind, _Cell())
        if instead is not None and cell.weight:
            cell.total += mark - instead
        else:
            for each in model.cells.values():
                each.weight, each.total, each.unplaced = each.weight * KEPT, each.total * KEPT, each.unplaced * KEPT
            self.given += person
            weight = 1.0 if person else _HINT
            prior = expected if person else _SOUND
            cell.weight += weight
            cell.total += weight * (mark - (prior or 0.0))
            if prior is None:
                cell.unplaced += weight
                self.unplaced.add(candidate)
        self._settle(model, kind)

    def place(self, candidate: Candidate, prior: float) -> None:
        """Say what was to be expected of a model where nobody knew: after a restart, or of answers got elsewhere."""
        self.unplaced.discard(candidate)
        model = self._models[candidate]
        for kind, cell in model.cells.items():
            cell.total -= cell.unplaced * prior
            cell.unplaced = 0.0
            self._settle(model, kind)

    def forget(self, candidate: Candidate) -> None:
        """Begin anew with a model: another one goes by its name now."""
        self._models.pop(candidate, None)
        self.unplaced.discard(candidate)

    def offset(self, task_type: TaskType) -> float:
        """Return by how much persons' marks for a task type lie above what the priors say."""
        return self._offsets.get((task_type, True), 0.0)

    def of(self, candidate: Candidate, task_type: TaskType) -> Learnt:
        """Return what was learnt of a model for a task type."""
        model = self._models.get(candidate)
        if model is None:
            return UNKNOWN
        kind = task_type, True
        deviation, variance = model.deviation, model.variance
        cell = model.cells.get(kind)
        own = _BY_TYPE / (_BY_TYPE + _NOISE / cell.weight) if cell is not None and cell.known else 0.0
        if cell is not None and own:
            deviation += own * (cell.total / cell.weight - self._offsets.get(kind, 0.0) - deviation)
        error = sqrt((1.0 - own) ** 2 * variance + (1.0 - own) * _BY_TYPE)
        beyond = max(abs(deviation) - _CAUTION * error, 0.0)
        return Learnt(beyond if deviation > 0 else -beyond, deviation, error)

    def _settle(self, model: _Model, kind: _Kind) -> None:
        """Work out anew the offset of a task type, and then the model's deviation: a step of Gauss and Seidel."""
        total, weights = 0.0, 1.0 / _OFFSET
        for each in self._models.values():
            cell = each.cells.get(kind)
            if cell is not None and cell.known:
                weight = 1.0 / (each.variance + _BY_TYPE + _NOISE / cell.weight)
                total += weight * (cell.total / cell.weight - each.deviation)
                weights += weight
        self._offsets[kind] = total / weights
        total, weights = 0.0, 1.0 / _DEVIATION
        for other, cell in model.cells.items():
            if cell.known:
                weight = 1.0 / (_BY_TYPE + _NOISE / cell.weight)
                total += weight * (cell.total / cell.weight - self._offsets.get(other, 0.0))
                weights += weight
        model.deviation, model.variance = total / weights, 1.0 / weights
