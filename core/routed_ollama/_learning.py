"""What models are good for, learnt from marks. Law: evidence moves a choice by as much as it tells, and no further.

A mark (0..1) is taken apart as in a mixed model (Henderson 1975):

    mark = prior of the model for the request + offset of the task type + deviation of the model (+ that for the type)

- The offset is how the tasks and the judge differ from the priors. It is the same for all models, so hard tasks or a
  strict judge do not speak against the one model that was asked.
- The deviation is what a model is better or worse than thought. It is shrunk toward 0, first over all task types, then
  within one.
- Models are chosen between, so what counts is how much better one is than another, and the other is the one that was
  judged most: it does the work. To look better than that one must be so beyond what the error of both explains; to
  look worse needs no more than looking worse. So the usual model is left for evidence, not for a lucky streak.

Numbers only: no prompt, no answer. Pure state; whoever owns it holds the lock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, hypot, sqrt
from typing import Final, Literal, NamedTuple

from routed_ollama.types import Candidate, TaskType

KEPT: Final = 0.999
"""Weight that a mark keeps when the same model's next one comes: about the last thousand count. Marks are scattered far
more than times are, so fewer could not tell models apart that differ by some points."""
NOISE: Final = 0.2
"""Variance of a single mark about its expectation: right or wrong, at a share solved between 0.3 and 0.7, is 0.21 or
more; where most is solved, or marks are graded, less."""
_OFFSET: Final = 0.25**2
"""Variance of the offsets: the shares solved of public benchmarks lie that far about their mean."""
_DEVIATION: Final = 0.08**2
"""Variance of the deviations: as far (8 points) are the shipped priors from what models did in sources they had not
seen, over the pools of ``docs/routing-quality.md``."""
_UNMEASURED: Final = 2.0
"""How many times that much it is for a model that nobody but its maker has measured. In sources that the priors had not
seen, those of 16 such models were 15 points off, those of 47 others 8: nearly four times the variance. Half of that is
taken: with all of it, trying them cost what it won."""
_BY_TYPE: Final = 0.02**2
"""Variance of what a model deviates in one task type beyond its deviation in all: little, for the priors tell task
types apart already, and a larger one cost more than it won."""
MARKS_OF_PRIOR: Final = round(NOISE / _DEVIATION)
MARKS_OF_UNMEASURED: Final = round(NOISE / (_UNMEASURED * _DEVIATION))
"""Marks that a prior is worth: of a model that others than its maker measured, and of any other."""
_CAUTION: Final = 0.5
"""Standard errors of a difference that do not count where it speaks for leaving the model that does the work. With
more, a wrong default is kept longer; with less, a good one is left by chance more often: from 0.3 to 0.5 both together
cost about the same, in each source of ``docs/routing-quality.md`` and in 373 more pools of those sources."""
_SWEEPS: Final = 10
"""How often offsets and deviations are worked out in turn, at most, where many marks come at once; each single one has
it done once, and that is enough to come near."""
Judge = Literal["person", "looks", "form"]
"""Who gave a mark: a person; the heuristics; or a check of the form, which is kept or not."""
_HINT: Final = 0.2
"""What a mark counts that no person gave: heuristics find failures, they cannot tell a good answer from a better, and
what has the right form may still be wrong."""
_SOUND: Final = 0.95
"""Mark that any model is expected to get from others than persons."""


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


_Kind = tuple[TaskType, Judge]
"""A task type, and who judged: each has an offset of its own, for each is strict in another way."""


@dataclass(slots=True)
class _Model:
    cells: dict[_Kind, _Cell] = field(default_factory=dict)
    weight: float = 0.0
    """Of all its marks."""
    trusted: float = _DEVIATION
    """Variance of the deviation before there were marks."""
    deviation: float = 0.0
    variance: float = _DEVIATION


class Learnt(NamedTuple):
    """How much better a model is than thought, as a share (0..1) of what can be reached."""

    shift: float = 0.0
    """What counts: the difference from the model that was judged most, less its error where it speaks for leaving that
    one; 0 for a model that was never judged, for that is what the others are compared with."""
    deviation: float = 0.0
    error: float = sqrt(_DEVIATION + _BY_TYPE)
    """Standard deviation of the deviation."""


UNKNOWN: Final = Learnt()
_UNKNOWN_UNMEASURED: Final = Learnt(error=sqrt(_UNMEASURED * _DEVIATION + _BY_TYPE))


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
        self._unmeasured: set[Candidate] = set()
        self._offsets: dict[_Kind, float] = {}
        self._most = _Model()
        """The model that was judged most."""
        self._usual: dict[_Kind, tuple[float, float, float]] = {}
        """Its deviation in a task type, the error of that, and what counts of it; until the next mark."""
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
        by: Judge = "person",
        instead: float | None = None,
    ) -> None:
        """Take a mark.

        Args:
            candidate: the model that answered.
            task_type: of the request.
            mark: 0..1.
            expected: the model's prior for the request, 0..1; None where it is to be said later.
            by: who judged.
            instead: the mark that this one replaces.
        """
        model = self._models.setdefault(candidate, _Model())
        if candidate in self._unmeasured:
            model.trusted = _UNMEASURED * _DEVIATION
        kind, person = (task_type, by), by == "person"
        cell = model.cells.setdefault(kind, _Cell())
        if instead is not None and cell.weight:
            cell.total += mark - instead
        else:
            for each in model.cells.values():
                each.weight, each.total, each.unplaced = each.weight * KEPT, each.total * KEPT, each.unplaced * KEPT
            self.given += person
            weight = 1.0 if person else _HINT
            model.weight = model.weight * KEPT + weight
            prior = expected if person else _SOUND
            cell.weight += weight
            cell.total += weight * (mark - (prior or 0.0))
            if prior is None:
                cell.unplaced += weight
                self.unplaced.add(candidate)
        self._settle(kind)
        self._moved()

    def unmeasured(self, candidate: Candidate) -> None:
        """Take note that a model's prior rests on what others than itself did, or on what its maker says."""
        self._unmeasured.add(candidate)
        if (model := self._models.get(candidate)) is not None:
            model.trusted = _UNMEASURED * _DEVIATION

    def place(self, candidate: Candidate, prior: float) -> None:
        """Say what was to be expected of a model where nobody knew: after a restart, or of answers got elsewhere."""
        self.unplaced.discard(candidate)
        cells = self._models[candidate].cells
        kinds = [kind for kind, cell in cells.items() if cell.unplaced]
        new = sum(cells[kind].unplaced for kind in kinds)
        for kind in kinds:
            cell = cells[kind]
            cell.total -= cell.unplaced * prior
            cell.unplaced = 0.0
        for _ in range(min(ceil(new), _SWEEPS)):
            for kind in kinds:
                self._settle(kind)
        self._moved()

    def forget(self, candidate: Candidate) -> None:
        """Begin anew with a model: another one goes by its name now."""
        self._models.pop(candidate, None)
        self.unplaced.discard(candidate)
        self._moved()

    def judged(self) -> list[Candidate]:
        """Return the models that have marks."""
        return list(self._models)

    def offset(self, task_type: TaskType) -> float:
        """Return by how much persons' marks for a task type lie above what the priors say."""
        return self._offsets.get((task_type, "person"), 0.0)

    def of(self, candidate: Candidate, task_type: TaskType) -> Learnt:
        """Return what was learnt of a model for a task type."""
        model = self._models.get(candidate)
        if model is None:
            return _UNKNOWN_UNMEASURED if candidate in self._unmeasured else UNKNOWN
        kind: _Kind = task_type, "person"
        deviation, error = self._expected(model, kind)
        remembered = self._usual
        most, known = self._most, remembered.get(kind)
        if known is None:
            usual, uncertain = self._expected(most, kind)
            known = remembered[kind] = usual, uncertain, -_counts(-usual, hypot(uncertain, UNKNOWN.error))
        usual, uncertain, shift = known
        if model is not most:
            shift += _counts(deviation - usual, hypot(error, uncertain))
        return Learnt(shift, deviation, error)

    def _expected(self, model: _Model, kind: _Kind) -> tuple[float, float]:
        """Return how far a model deviates in a task type, and the standard deviation of that."""
        deviation, cell = model.deviation, model.cells.get(kind)
        if cell is None or not cell.known:
            return deviation, sqrt(model.variance + _BY_TYPE)
        own = _BY_TYPE / (_BY_TYPE + NOISE / cell.weight)
        deviation += own * (cell.total / cell.weight - self._offsets.get(kind, 0.0) - deviation)
        return deviation, sqrt((1.0 - own) ** 2 * model.variance + (1.0 - own) * _BY_TYPE)

    def _moved(self) -> None:
        """Look anew who was judged most. What was remembered is replaced, for others may be reading it."""
        self._most = max(self._models.values(), key=_weight, default=_Model())
        self._usual = {}

    def _settle(self, kind: _Kind) -> None:
        """Work out anew the offset of a task type, then the deviations of its models: a step of Gauss and Seidel."""
        models = [each for each in self._models.values() if kind in each.cells]
        total, weights = 0.0, 1.0 / _OFFSET
        for each in models:
            cell = each.cells[kind]
            if cell.known:
                weight = 1.0 / (_BY_TYPE + NOISE / cell.weight)
                total += weight * (cell.total / cell.weight - each.deviation)
                weights += weight
        self._offsets[kind] = total / weights
        for each in models:
            total, weights = 0.0, 1.0 / each.trusted
            for other, cell in each.cells.items():
                if cell.known:
                    weight = 1.0 / (_BY_TYPE + NOISE / cell.weight)
                    total += weight * (cell.total / cell.weight - self._offsets.get(other, 0.0))
                    weights += weight
            each.deviation, each.variance = total / weights, 1.0 / weights


def _weight(model: _Model) -> float:
    return model.weight


def _counts(difference: float, error: float) -> float:
    """Return what counts of how much better (above 0) or worse a model is than the one that does the work."""
    return difference if difference <= 0.0 else max(difference - _CAUTION * error, 0.0)
