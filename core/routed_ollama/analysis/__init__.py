"""Messages to ``TaskCharacteristics``. Law: pure, bounded, microseconds for any length; no text makes it raise.

``tokens`` estimates lengths, ``reading`` looks at a text once, ``task_type`` decides what it asks for, ``demands`` what
that takes; ``words`` is the vocabulary. A caller needs the two functions here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from routed_ollama.analysis.demands import calculates, complexity_of, expected_output, formal, requirements_of, weigh
from routed_ollama.analysis.reading import read
from routed_ollama.analysis.task_type import Verdict, classify
from routed_ollama.analysis.tokens import estimate_prompt_tokens, estimate_tokens
from routed_ollama.types import Message, Needs, TaskCharacteristics, TaskType

__all__ = ["analyze", "estimate_tokens", "request_of"]

_EARLIER: Final = 600
"""Characters looked at of a system message and of each earlier message of the user."""
_EARLIER_MESSAGES: Final = 2
_EMPTY: Final = Message("user")


def analyze(
    messages: str | Sequence[Message],
    *,
    needs: Needs = Needs(),  # noqa: B008  # frozen, so it can be shared
    task_type: TaskType | None = None,
    extra_tokens: int = 0,
    max_output_tokens: int | None = None,
) -> TaskCharacteristics:
    """Find out what a conversation asks for and what that takes.

    The last message of the user decides; a system message and what the user said before are weak hints.

    Args:
        messages: The conversation, oldest message first; may be empty. Text is one message of the user.
        needs: What the request cannot do without; images in the messages add ``vision``.
        task_type: The task type, where the caller knows it; it is believed.
        extra_tokens: Tokens of what is sent beside the messages: tools, schemas.
        max_output_tokens: The most the caller allows; None or less than 1 for no limit.

    Returns:
        The characteristics.

    Raises:
        TypeError: ``messages`` are neither text nor a list of messages.

    Example:
        >>> task = analyze("Write a Python function that reverses a string")
        >>> task.task_type.value, task.complexity.value
        ('coding', 'low')
    """
    messages = [Message("user", messages)] if isinstance(messages, str) else _checked(messages)
    position, last = _last_request(messages)
    reading = read(last.content)
    if task_type is None:
        earlier = _earlier(messages, position)
        verdict = classify(reading, read(earlier) if earlier else None)
    else:
        verdict = Verdict(task_type, 1.0)
    own_tokens = estimate_tokens(last.content)
    complexity = complexity_of(reading, verdict.task_type, own_tokens)
    requirements = requirements_of(reading, verdict.task_type, complexity)
    if not needs.vision and any(message.images for message in messages):
        needs = replace(needs, vision=True)
    calculated = calculates(reading, verdict.task_type)
    return TaskCharacteristics(
        task_type=verdict.task_type,
        confidence=verdict.confidence,
        complexity=complexity,
        accuracy=requirements.accuracy,
        speed=requirements.speed,
        creativity=requirements.creativity,
        prompt_tokens=estimate_prompt_tokens(messages, extra_tokens, measured=(last, own_tokens)),
        output_tokens=expected_output(
            reading, verdict.task_type, complexity, tokens=own_tokens, needs=needs, limit=max_output_tokens
        ),
        needs=needs,
        capabilities=weigh(verdict.task_type, requirements, complexity, calculates=calculated),
        mathematics=float(calculated and formal(reading)),
    )


def _checked(messages: Sequence[Message]) -> Sequence[Message]:
    if not isinstance(messages, Sequence):
        raise TypeError(f"messages must be text or a list of routed_ollama.Message, not {type(messages).__name__}.")
    for message in messages:
        if not isinstance(message, Message):
            kind = type(message).__name__
            raise TypeError(f"messages must be text or a list of routed_ollama.Message, not one that holds {kind}.")
    return messages


def request_of(messages: Sequence[Message]) -> str:
    """Return the text that decides what a conversation asks for: the user's last message that says something.

    Example:
        >>> request_of([Message("user", "Fix it"), Message("assistant", "How?"), Message("user", "")])
        'Fix it'
    """
    return _last_request(messages)[1].content


def _last_request(messages: Sequence[Message]) -> tuple[int, Message]:
    """The user's last message that says something; else the assistant's last; else the last of all."""
    for wanted in (_is_request, _is_spoken, bool):
        for position in range(len(messages) - 1, -1, -1):
            if wanted(messages[position]):
                return position, messages[position]
    return 0, _EMPTY


def _is_request(message: Message) -> bool:
    return message.role == "user" and bool(message.content)


def _is_spoken(message: Message) -> bool:
    return message.role not in {"system", "tool"} and bool(message.content)


def _earlier(messages: Sequence[Message], position: int) -> str:
    """The beginnings of the system message and of the user's last few messages before the request."""
    if len(messages) < 2:  # noqa: PLR2004  # nothing beside the request
        return ""
    parts = [m.content[:_EARLIER] for m in messages[:1] if m.role == "system" and position > 0]
    before = [m.content[:_EARLIER] for m in messages[:position] if m.role == "user" and m.content]
    return "\n".join(parts + before[-_EARLIER_MESSAGES:])
