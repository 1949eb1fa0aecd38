"""What a user says of task types instead of the analysis: patterns of the configuration, or a function of their own."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from routed_ollama.analysis import request_of
from routed_ollama.errors import ConfigurationError, RoutedOllamaWarning, describe
from routed_ollama.hints import checked_task_type
from routed_ollama.types import Message, TaskType

Classifier = Callable[[Sequence[Message]], TaskType | str | None]
"""Returns the task type of a conversation; None where it does not know."""

_WINDOW: Final = 4000
"""Characters of a request that patterns are looked for in, half of them at its end: what a pattern of a user's costs
is bounded by this alone."""


class OwnTaskTypes:
    """Asks the user's function first, then the patterns.

    Args:
        rules: patterns by task type, in the order in which they are tried.
        classifier: the function.

    Example:
        >>> own = OwnTaskTypes({TaskType.TESTING: ["cucumber"]}, None)
        >>> own.of([Message("user", "A Cucumber file for the login")]).value, own.of([Message("user", "Hello")])
        ('testing', None)
    """

    def __init__(self, rules: Mapping[TaskType, Sequence[str]], classifier: Classifier | None) -> None:
        if classifier is not None and not callable(classifier):
            raise ConfigurationError(
                f"classifier: expected a function of the messages that returns a task type, found {classifier!r}."
            )
        self._rules = [(task, re.compile(p, re.IGNORECASE)) for task, patterns in rules.items() for p in patterns]
        self.classifier = classifier

    def of(self, messages: Sequence[Message]) -> TaskType | None:
        """Return the task type, where the user has said it. Never raises: a request is answered all the same."""
        if self.classifier is None and not self._rules:
            return None
        return self._asked(messages) or self._matching(request_of(messages))

    def _asked(self, messages: Sequence[Message]) -> TaskType | None:
        if self.classifier is None:
            return None
        try:
            return checked_task_type(self.classifier(messages))
        except Exception as error:  # noqa: BLE001 (whatever a user's function raises)
            text = f"The classifier failed, so the prompt is analysed as usual: {describe(error)}"
            warnings.warn(text, RoutedOllamaWarning, stacklevel=2)
            return None

    def _matching(self, text: str) -> TaskType | None:
        if len(text) > _WINDOW:
            text = f"{text[: _WINDOW // 2]}\n{text[-_WINDOW // 2 :]}"
        return next((task for task, pattern in self._rules if pattern.search(text)), None)
