"""How good an answer looks, 0 to 10, without asking anybody. Law: pure, bounded, and it never raises.

It sees what is plainly wrong (nothing, a loop, a refusal, a cut, no code where code was asked), not whether an answer
is true. An answer without visible flaws gets ``_BEST``: a person's judgement can still be better. The points are rules
of our own.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from typing import Final

from routed_ollama.analysis.tokens import estimate_tokens
from routed_ollama.types import ModelCapability, TaskCharacteristics, TaskType

__all__ = ["assess_quality"]

_BEST: Final = 8.5
_WINDOW: Final = 6000
"""Characters looked at: the first and the last halves of this."""
_JSON_LIMIT: Final = 200_000
"""Longest answer that is parsed as JSON."""
_PARSE_LIMIT: Final = 2000
"""Longest block of Python that is parsed: parsing costs about 0.1 us a character."""
_GRAM: Final = 4
_REPEATED: Final = 0.35
"""Share of repeated word groups from which an answer is going in circles; plain prose has under 0.1, tables more."""
_LOOPING: Final = 0.7
_FEW_WORDS: Final = 40
_TAIL: Final = 240
_REFUSAL_LENGTH: Final = 600
"""A longer answer that begins with an apology still says something."""
_ECHOED: Final = 80
_FOREIGN: Final = 0.3
_MANY: Final = 20
"""Characters below which a text's script says nothing."""
_SHORT, _LONG = 0.08, 8.0
"""Shares of the expected length outside of which an answer is odd."""

_THINK: Final = re.compile(r"\A\s*<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL)
_REFUSAL: Final = re.compile(
    r"\b(?:i(?:'m| am) (?:sorry|unable|not able)"
    r"|i (?:can(?:not|'t)|won't) (?:help|assist|provide|fulfill|comply|answer|do)"
    r"|as an ai\b|i apologi[sz]e, but)",
    re.IGNORECASE,
)
_LEAKED: Final = (
    "<|im_start|>",
    "<|im_end|>",
    "<|eot_id|>",
    "[INST]",
    "<start_of_turn>",
    "<|endoftext|>",
    "### Instruction",
)
_CODE_MARKS: Final = (
    "def ",
    "return ",
    "function ",
    "class ",
    "import ",
    "const ",
    "SELECT ",
    "#include",
    "{",
    "();",
    " = ",
)
_CODE_TASKS: Final = frozenset({TaskType.CODING, TaskType.TESTING})


def assess_quality(
    prompt: str,
    answer: str,
    *,
    task: TaskCharacteristics | None = None,
    done_reason: str | None = None,
    expects_json: bool = False,
) -> float:
    """Judge an answer by its looks.

    Args:
        prompt: What was asked, the last message of the user.
        answer: What the model said; a leading ``<think>`` part is left out.
        task: What the analysis found; without it, length and code are not judged.
        done_reason: Why the model stopped, as Ollama says it; ``length`` means it was cut.
        expects_json: Whether the answer has to be JSON.

    Returns:
        From 0 (nothing, or useless) to 10.

    Example:
        >>> assess_quality("What is 2 + 2?", "")
        0.0
        >>> assess_quality("What is 2 + 2?", "2 + 2 is 4.")
        8.5
    """
    full = _without_thinking(answer).strip()
    if not any(character.isalnum() for character in full[:_WINDOW]):
        return 0.0
    cut = done_reason == "length"
    if expects_json:
        return _BEST if _is_json(full) else 1.5
    text = full if len(full) <= _WINDOW else f"{full[: _WINDOW // 2]}\n{full[-_WINDOW // 2 :]}"
    score = (
        _BEST - _repetition(text) - _refusal(full) - _leaks(text) - _other_script(prompt, text) - _echo(prompt, full)
    )
    score -= 1.0 if cut else 0.0
    if task is not None:
        score -= _code(text, task, cut=cut, whole=text is full) + _length(full, task, cut=cut)
    return round(min(max(score, 0.5), 10.0), 2)


def _without_thinking(answer: str) -> str:
    if not answer[:_TAIL].lstrip().startswith("<think"):
        return answer
    return _THINK.sub("", answer[:_JSON_LIMIT], count=1) + answer[_JSON_LIMIT:]


def _is_json(text: str) -> bool:
    if len(text) > _JSON_LIMIT:
        return text[0] in "{[" and text[-1] in "}]"
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _repetition(text: str) -> float:
    """Points off for going in circles: repeated groups of words, or the last characters repeated before them."""
    words = text.split()
    if len(words) < _FEW_WORDS:
        tail = text[-_TAIL:]
        return 5.0 if len(tail) == _TAIL and len(set(tail)) < 5 else 0.0  # noqa: PLR2004  # "!!!!!!" and its kind
    groups = list(zip(*(words[i:] for i in range(_GRAM)), strict=False))
    repeated = 1 - len(set(groups)) / len(groups)
    if repeated >= _LOOPING:
        return 6.0
    return 3.0 * (repeated - _REPEATED) / (_LOOPING - _REPEATED) + 1.0 if repeated >= _REPEATED else 0.0


def _refusal(text: str) -> float:
    """Points off for declining; the shorter, the more."""
    if _REFUSAL.search(text[:160]) is None:
        return 0.0
    return 5.0 if len(text) < _REFUSAL_LENGTH else 1.5


def _leaks(text: str) -> float:
    """Points off for delimiters of a chat template that a user should never see."""
    return 2.0 if any(mark in text for mark in _LEAKED) else 0.0


def _other_script(prompt: str, text: str) -> float:
    """Points off for answering in another script than the prompt's, unless the prompt mixes scripts."""
    asked, said = prompt[:_WINDOW], text[:_WINDOW]
    if min(len(asked), len(said)) < _MANY:
        return 0.0
    if asked.isascii():
        return 2.5 if _beyond_latin(said) > _FOREIGN and "translat" not in asked.lower() else 0.0
    return 2.0 if _beyond_latin(asked) > _FOREIGN and said.isascii() and "```" not in said else 0.0


def _beyond_latin(text: str) -> float:
    """Share of characters beyond Latin letters and usual punctuation, of a sample."""
    if text.isascii():
        return 0.0
    sample = text[:1000]
    return sum("\u0370" <= c < "\u2000" or "\u2e80" <= c < "\ufb00" for c in sample) / len(sample)


def _echo(prompt: str, text: str) -> float:
    """Points off for saying the prompt over again instead of answering."""
    asked = prompt.strip()
    if len(asked) < _MANY or not text.startswith(asked[:_ECHOED]):
        return 0.0
    return 4.0 if len(text) < len(asked) + _ECHOED else 1.0


def _code(text: str, task: TaskCharacteristics, *, cut: bool, whole: bool) -> float:
    """Points off for missing, unclosed or broken code."""
    blocks = text.split("```")
    fenced = len(blocks) > 2  # noqa: PLR2004  # text, block, text
    points = 0.0
    if whole and len(blocks) % 2 == 0 and not cut:
        points += 1.5
    if task.task_type in _CODE_TASKS and not fenced:
        shown = sum(mark in text for mark in _CODE_MARKS) > 1
        points += 0.5 if shown else 2.0 * min(1.0, 3 * task.capabilities.get(ModelCapability.CODE_GENERATION, 1.0))
    if fenced and whole:
        points += 1.5 * any(not _parses(block) for block in blocks[1::2])
    return points


def _parses(block: str) -> bool:
    """Whether a block is not plainly broken: only short Python is tried; sessions and fragments get the benefit."""
    language, _, code = block.partition("\n")
    if language.strip().lower() not in {"python", "py", "python3"} or len(code) > _PARSE_LIMIT:
        return True
    if ">>>" in code or "..." in code or "\n$ " in code or code[:1].isspace() or code.lstrip()[:1] in "%!$":
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _length(text: str, task: TaskCharacteristics, *, cut: bool) -> float:
    """Points off for an answer far shorter or longer than expected."""
    ratio = estimate_tokens(text) / max(task.output_tokens, 1)
    if ratio < _SHORT and not cut:
        return 1.0
    return 0.5 if ratio > _LONG else 0.0
