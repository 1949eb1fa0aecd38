"""How good an answer looks, 0 to 10, without asking anybody. Law: pure, bounded, and no text makes it raise.

It detects failure; it does not judge truth. Seen is what is wrong at sight: nothing, a cut, a circle, a refusal,
delimiters of a template, another language, the prompt over again, code that does not parse, a form or a length that was
not asked for. An answer without such flaws gets 8.5, be it right or wrong, so the score tells bad answers from the rest
and nothing about the rest: as evidence on how good a model is, it weighs little. The points are rules of our own.

``circles``, ``refusals``, ``languages``, ``parsing`` and ``forms`` look for one thing each in a ``subject``, the prompt
and its answer prepared once; here they are added up. What may be called for (a refusal of what is sensitive, an answer
in the language that was named) costs little or nothing, and what is unsure is no flaw.

Monotone, as the tests see: silence scores lowest; an answer that was cut at a limit, that goes round once more, or that
ends amid its code or its JSON never scores more than before.
"""

# ruff: noqa: RUF001 (signs of Chinese and Japanese)

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from routed_ollama.analysis.tokens import estimate_tokens
from routed_ollama.quality import circles, forms, languages, parsing, refusals
from routed_ollama.quality.report import LEAST, NO_FLAW, QualityComponent, QualityReport
from routed_ollama.quality.subject import Subject, subject_of, without_thinking
from routed_ollama.types import TaskCharacteristics

__all__ = ["QualityComponent", "QualityReport", "assess_quality", "explain_quality", "is_only_json"]

_NO_JSON: Final = 7.0
"""Points that an answer loses which had to be JSON and is none: nobody can use it."""
_EMPTY_LIST: Final = 2.0
"""Points of a list in which there is nothing, where JSON was asked for: right if nothing is to be found."""
_LEAKING: Final = 2.0
_ECHO, _BEGINS_AS_ECHO = 4.0, 1.0
_CUT, _OPEN, _MID_SENTENCE = 1.0, 2.0, 0.5
_TOO_SHORT, _TOO_LONG = 1.0, 0.5

_ECHOED: Final = 80
"""Characters that are compared, and that an answer may hold beyond the prompt and still be nothing else."""
_MANY, _SOME = 20, 10
"""Characters below which a prompt may well be an answer's beginning, and the whole of an answer."""
_REPEATS: Final = re.compile(
    r"\b(?:repeat|echo|copy|verbatim|quote|wiederhol|r[ée]p[èée]t|repit|correct|proofread|korrigier|corrig)|重复|"
    r"繰り返",
    re.IGNORECASE,
)
_NO_PROSE: Final = "|-*#>•0123456789"
"""Signs with which the lines of lists, tables and titles begin, which end as they like."""
_LAST_LINE, _LONG_ENOUGH = 60, 200
"""Characters of a last line, and of an answer, from which on it should end as a sentence does."""
_SHORT_SHARE, _LONG_SHARE = 0.08, 8.0
"""Shares of the expected length outside of which an answer is odd."""
_NEEDS_LENGTH: Final = 300
"""Expected tokens below which no answer is too short: a number, a name, a small function may be all."""

_Look = Callable[[Subject], tuple[float, str]]


def assess_quality(
    prompt: str,
    response: str,
    characteristics: TaskCharacteristics | None = None,
    *,
    task: TaskCharacteristics | None = None,
    done_reason: str | None = None,
    expects_json: bool = False,
) -> float:
    """Judge an answer by its looks.

    Args:
        prompt: What was asked, the last message of the user.
        response: What the model said; a leading ``<think>`` part is left out.
        characteristics: What the analysis found (``analyze``); without it the expected length, and whether code was
            asked for, are not judged.
        task: The same by its other name.
        done_reason: Why the model stopped, as Ollama says it; ``length`` means it was cut.
        expects_json: Whether the whole answer has to be JSON.

    Returns:
        From 0 (nothing was said) to 10; 8.5 where no flaw is seen. ``explain_quality`` says why.

    Raises:
        TypeError: the prompt or the answer is no text.

    Example:
        >>> assess_quality("What is 2 + 2?", "")
        0.0
        >>> assess_quality("What is 2 + 2?", "2 + 2 is 4.")
        8.5
    """
    found = _found(prompt, response, characteristics or task, done_reason, expects_json=expects_json)
    return _score([round(lost, 2) for lost, _ in found.values()])


def explain_quality(
    prompt: str,
    response: str,
    characteristics: TaskCharacteristics | None = None,
    *,
    done_reason: str | None = None,
    expects_json: bool = False,
) -> QualityReport:
    """Judge an answer by its looks, and say what was looked for and what was found.

    Args:
        prompt: What was asked, the last message of the user.
        response: What the model said; a leading ``<think>`` part is left out.
        characteristics: What the analysis found (``analyze``).
        done_reason: Why the model stopped, as Ollama says it.
        expects_json: Whether the whole answer has to be JSON.

    Returns:
        The score with each of its components, found or not.

    Raises:
        TypeError: the prompt or the answer is no text.

    Example:
        >>> report = explain_quality("Sort a list in Python", "I'm sorry, but I can't help with that.")
        >>> report.score, [flaw.name for flaw in report.flaws]
        (3.5, ['refusing'])
    """
    found = _found(prompt, response, characteristics, done_reason, expects_json=expects_json)
    otherwise = 0.0, "it says nothing" if len(found) == 1 else "the answer has to be JSON, and is judged as that"
    components = []
    for name, (_, most) in _LOOKS.items():
        lost, reason = found.get(name, otherwise)
        components.append(QualityComponent(name, round(lost, 2), most, reason))
    return QualityReport(tuple(components), _score([each.lost for each in components]))


def is_only_json(response: str) -> bool:
    """Whether an answer is JSON and nothing else; a leading ``<think>`` part is left out.

    Example:
        >>> is_only_json('<think>Easy.</think> {"a": 1}'), is_only_json('Here it is: {"a": 1}')
        (True, False)
    """
    return parsing.is_json(without_thinking(response).strip())


def _found(
    prompt: str, response: str, task: TaskCharacteristics | None, done_reason: str | None, *, expects_json: bool
) -> dict[str, tuple[float, str]]:
    """Return what was looked for, the emptiness first, with the points that each costs and the reason."""
    for name, text in (("prompt", prompt), ("response", response)):
        if not isinstance(text, str):
            raise TypeError(f"{name} must be text, not {type(text).__name__}.")
    subject = subject_of(prompt, response, task, cut=done_reason == "length")
    if expects_json and subject.full == "[]":
        return {"empty": _empty(subject), "format": (_EMPTY_LIST, "it is a list of nothing, which may be so")}
    if not subject.says_something:
        return {"empty": (NO_FLAW, "it says nothing")}
    if expects_json:
        return {"empty": _empty(subject), "cut": _cut(subject), "format": _whole_json(subject)}
    return {name: look(subject) for name, (look, _) in _LOOKS.items()}


def _score(lost: Sequence[float]) -> float:
    return 0.0 if lost[0] else round(max(NO_FLAW - sum(lost), LEAST), 2)


def _empty(_subject: Subject) -> tuple[float, str]:
    return 0.0, "it says something"


def _cut(subject: Subject) -> tuple[float, str]:
    """An answer that breaks off: at a limit, within a block of code, or in the midst of a sentence."""
    if subject.unclosed:
        return _OPEN, "it breaks off within a block of code"
    if subject.cut:
        return _CUT, "it was cut at a limit of tokens"
    last = subject.text[subject.text.rfind("\n") + 1 :]
    if len(subject.full) >= _LONG_ENOUGH and len(last) >= _LAST_LINE and _ends_open(last) and last[0] not in _NO_PROSE:
        return _MID_SENTENCE, "it ends in the midst of a sentence"
    return 0.0, "it comes to an end"


def _ends_open(line: str) -> bool:
    return line[-1].isalnum() or line[-1] in ",，、(（"


def _looping(subject: Subject) -> tuple[float, str]:
    return circles.points_of(subject.text, subject.circle, subject.pure)


def _refusing(subject: Subject) -> tuple[float, str]:
    return refusals.points_of(subject.asked, subject.full)


def _leaking(subject: Subject) -> tuple[float, str]:
    return (_LEAKING, "it shows delimiters of a chat template") if subject.leaked else (0.0, "it shows no delimiters")


def _language(subject: Subject) -> tuple[float, str]:
    return languages.points_of(subject.pure, subject.prose)


def _echo(subject: Subject) -> tuple[float, str]:
    asked = subject.prompt.strip()
    least = _SOME if subject.full == asked else _MANY
    if len(asked) < least or not subject.full.startswith(asked[:_ECHOED]) or _REPEATS.search(subject.pure):
        return 0.0, "it does not begin with the prompt"
    if len(subject.full) < subject.prompt_length + _ECHOED:
        return _ECHO, "it is the prompt over again"
    return _BEGINS_AS_ECHO, "it begins with the prompt"


def _format(subject: Subject) -> tuple[float, str]:
    return forms.points_of(subject)


def _whole_json(subject: Subject) -> tuple[float, str]:
    good = parsing.is_json(subject.full)
    return (0.0, "it is JSON") if good else (_NO_JSON, "it has to be JSON, and cannot be parsed")


def _length(subject: Subject) -> tuple[float, str]:
    task = subject.task
    if task is None:
        return 0.0, "nothing is known of the length it needs"
    tokens = estimate_tokens(subject.full)
    ratio = tokens / max(task.output_tokens, 1)
    if ratio < _SHORT_SHARE and task.output_tokens >= _NEEDS_LENGTH:
        return _TOO_SHORT, f"about {tokens} tokens, where {task.output_tokens} were to be expected"
    if ratio > _LONG_SHARE:
        return _TOO_LONG, f"about {tokens} tokens, where {task.output_tokens} were to be expected"
    return 0.0, "its length is what was to be expected"


_LOOKS: Final[dict[str, tuple[_Look, float]]] = {
    "empty": (_empty, NO_FLAW),
    "cut": (_cut, _OPEN),
    "looping": (_looping, circles.MOST),
    "refusing": (_refusing, refusals.MOST),
    "leaking": (_leaking, _LEAKING),
    "language": (_language, languages.MOST),
    "echo": (_echo, _ECHO),
    "code": (parsing.points_of, parsing.MOST),
    "format": (_format, _NO_JSON),
    "length": (_length, _TOO_SHORT),
}
"""What is looked for, in this order, and the most points that each can cost."""
