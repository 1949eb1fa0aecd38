"""An answer as the checks look at it: prepared once, in a window of bounded size. Decides nothing."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from routed_ollama.quality.circles import NO_CIRCLE, Circle, circle_of
from routed_ollama.types import TaskCharacteristics

__all__ = ["Block", "Subject", "subject_of", "without_thinking"]

_HALF: Final = 3_000
"""Characters looked at of the beginning and of the end of an answer."""
_ASKED_HEAD, _ASKED_TAIL = 800, 300
"""Characters looked at of the beginning and of the end of a prompt: what is wanted stands at one of them."""
_THOUGHTS: Final = 200_000
"""Characters in which the end of a leading ``<think>`` part is looked for."""
_THINK: Final = re.compile(r"\A\s*<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL)
_SOMETHING: Final = re.compile("[^\\W_]|[\u2190-\u2bff\U0001f000-\U0001faff]")
"""A letter, a digit, or a sign that says something by itself, as an arrow or an emoji does."""
_LINES: Final = 2
"""Breaks of lines from which on signs of several kinds draw something."""
_LEAKED: Final = re.compile(r"<\|[a-z_]{3,20}\|>|\[/?INST\]|<(?:start|end)_of_turn>|<</?SYS>>|### Instruction\b")
"""Delimiters of a chat template that a user should never see."""
_FENCE: Final = "```"


class Block(NamedTuple):
    """A fenced block of an answer."""

    language: str
    """As it is written at the fence, lower case; empty where it is not."""
    code: str


class Subject(NamedTuple):
    """A prompt and its answer."""

    asked: str
    """The prompt's beginning and end."""
    pure: str
    """The same without fenced blocks, lower case."""
    prompt: str
    """The prompt, its first few thousand characters."""
    prompt_length: int
    full: str
    """The answer without its reasoning and its surrounding blanks, and of what goes in circles one round."""
    text: str
    """Its beginning and end."""
    prose: str
    """The same without fenced blocks."""
    blocks: tuple[Block, ...]
    """The closed blocks of its beginning."""
    unclosed: bool
    """Whether a fence is open at its end."""
    circle: Circle
    leaked: bool
    says_something: bool
    cut: bool
    task: TaskCharacteristics | None


def subject_of(prompt: str, response: str, task: TaskCharacteristics | None, *, cut: bool) -> Subject:
    """Prepare a prompt and its answer.

    Args:
        prompt: What was asked.
        response: What the model said.
        task: What the analysis found.
        cut: Whether it ended at a limit of tokens.
    """
    said = without_thinking(response).strip()
    circle = circle_of(said)
    full = said if circle is NO_CIRCLE else said[: circle.begin + circle.size]
    head = full[: 2 * _HALF]
    text = full if len(full) <= 2 * _HALF else f"{full[:_HALF]}\n{full[-_HALF:]}"
    leaked = _LEAKED.search(text) is not None
    pieces = head.split(_FENCE) if _FENCE in head else [head]
    asked = prompt if len(prompt) <= _ASKED_HEAD + _ASKED_TAIL else f"{prompt[:_ASKED_HEAD]}\n{prompt[-_ASKED_TAIL:]}"
    return Subject(
        asked=asked,
        pure=_unfenced(asked).lower(),
        prompt=prompt[: 2 * _HALF],
        prompt_length=len(prompt),
        full=full,
        text=text,
        prose=_unfenced(text),
        blocks=tuple(map(_block, pieces[1:-1:2])),
        unclosed=bool(full.count(_FENCE) % 2),
        circle=circle,
        leaked=leaked,
        says_something=_says_something(_LEAKED.sub("", text) if leaked else text),
        cut=cut,
        task=task,
    )


def _says_something(text: str) -> bool:
    if _SOMETHING.search(text):
        return True
    return text.strip("`").count("\n") >= _LINES and len(set(text).difference(" \n\t`")) > 1


def without_thinking(answer: str) -> str:
    """Return an answer without the reasoning that it begins with."""
    if not answer[:200].lstrip().startswith("<think"):
        return answer
    return _THINK.sub("", answer[:_THOUGHTS], count=1) + answer[_THOUGHTS:]


def _unfenced(text: str) -> str:
    return "\n".join(text.split(_FENCE)[::2]) if _FENCE in text else text


def _block(piece: str) -> Block:
    first, _, code = piece.partition("\n")
    return Block(first.strip().lower(), code) if code else Block("", first)
