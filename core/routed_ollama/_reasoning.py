"""A choice in one honest sentence: what decided it, and no figure that ``explain()`` does not show. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from routed_ollama.types import ModelScore, Prediction, Refusal, TaskCharacteristics

ANSWERING: Final = "is answering this conversation"
AS_ASKED: Final = "comes first, as asked"
EXPLORED: Final = "is tried now and then, to learn how good it is"
PREFERRED: Final = "the preferred model"

_BETTER: Final = {
    "capability": "is better at what is asked",
    "performance": "is expected to do better",
    "quality": "is expected to answer better",
    "seconds": "is expected to answer sooner",
    "success": "is expected to fail less often",
    "health": "has the better record of late",
}
"""What decided, and how that is said of the model which comes first."""
_SHOWN_REFUSALS: Final = 8
"""A screen's worth."""
_ADVICE: Final = {
    "context": "Shorten the prompt, or install a model with a longer context.",
    "tools": "Install a model with tools, for example: `ollama pull llama3.1`.",
    "vision": "Install a model that sees images, for example: `ollama pull llama3.2-vision`.",
    "thinking": "Install a model that thinks, for example: `ollama pull qwen3`, or leave reasoning out.",
    "completion": "Install a chat model, for example: `ollama pull llama3.2`.",
}


def share(value: float) -> str:
    """Return a part of a score as it is shown everywhere.

    Example:
        >>> share(0.5), share(-0.0001)
        ('0.500', '0.000')
    """
    return f"{value:z.3f}"


def sentence(ranked: Sequence[ModelScore], task: TaskCharacteristics, decisive: str, *, panic: bool) -> str:
    """Say in a sentence why the first model is the first.

    Args:
        ranked: the ranking, best first; not empty.
        task: the request.
        decisive: what decided: ``sole``, ``explored``, ``first``, ``leading``, ``preference``, ``order``, or the
            part of the score that put the first before the second.
        panic: whether every model is unwell and tried all the same.

    Example:
        >>> from routed_ollama.types import Candidate
        >>> only = ModelScore(Candidate("llama3.1:8b", ""), 0.7, capability=0.6, performance=0.65, health=1.0)
        >>> sentence([only], TaskCharacteristics(), "sole", panic=False)
        'llama3.1:8b for this general prompt of medium complexity: it is the only model that can serve it.'
    """
    kind, complexity = task.task_type.value, task.complexity.value
    text = f"{ranked[0].candidate.model} for this {kind} prompt of {complexity} complexity: it "
    if decisive == "sole":
        text += "is the only model that can serve it"
    elif decisive == "explored":
        text += EXPLORED
    elif decisive == "first":
        text += ANSWERING if ANSWERING in ranked[0].notes else AS_ASKED
    elif decisive == "leading":
        text += f"leads for {kind}"
    else:
        text += _against(ranked[0], ranked[1], decisive)
    return f"{text}; every model is unwell, so all are tried." if panic else f"{text}."


def _against(best: ModelScore, rival: ModelScore, decisive: str) -> str:
    other = rival.candidate.model
    if other == best.candidate.model:
        other = f"the one at {rival.candidate.host}"
    mine, theirs = share(best.total), share(rival.total)
    if decisive == "order":
        return f"scores as much as {other} ({mine}) and stands before it"
    if decisive == "preference":
        liked = " and ".join(f"is {note}" if note == PREFERRED else note for note in best.notes)
        than = f"against {theirs} of {other}" if mine != theirs else f"almost the same as {other}"
        return f"{liked}, which counts {share(best.preference)}, and with that scores {mine}, {than}"
    scores = f"scores {mine} against {theirs}" if mine != theirs else f"scores almost the same ({mine})"
    return f"{_BETTER[decisive]} than {other} ({_figures(best, rival, decisive)}), and {scores}"


def _figures(best: ModelScore, rival: ModelScore, decisive: str) -> str:
    mine, theirs = best.prediction, rival.prediction
    if mine is None or theirs is None or decisive in {"capability", "performance", "health"}:
        name = decisive if decisive in {"capability", "health"} else "performance"
        return f"{name} {share(getattr(best, name))} against {share(getattr(rival, name))}"
    if decisive == "quality":
        return f"quality {mine.quality:.2f} of 10 against {theirs.quality:.2f}"
    if decisive == "success":
        return f"success {mine.success_rate:.1%} against {theirs.success_rate:.1%}"
    return f"{mine.seconds:.1f} s against {theirs.seconds:.1f} s{_delay(theirs)}"


def _delay(expected: Prediction) -> str:
    """What of an expected time the model itself is not to blame for."""
    if not (expected.load or expected.wait):
        return ""
    if expected.load >= expected.wait:
        return f", {expected.load:.1f} s of them to load it"
    return f", {expected.wait:.1f} s of them until it is free"


def no_model_reason(refused: Sequence[Refusal]) -> str:
    """Return why no model can serve, and what to do about it."""
    if not refused:
        return "No model is installed. Install one, for example: `ollama pull llama3.2`."
    lines = "; ".join(f"{r.candidate.model}: {r.reason}" for r in refused[:_SHOWN_REFUSALS])
    more = f"; and {len(refused) - _SHOWN_REFUSALS} more" if len(refused) > _SHOWN_REFUSALS else ""
    closed = {r.gate for r in refused}
    advice = next(
        (text for gate_name, text in _ADVICE.items() if gate_name in closed),
        "Install one that can, or name one with models=[...].",
    )
    return f"No installed model can serve this request ({lines}{more}). {advice}"
