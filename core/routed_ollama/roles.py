"""Roles of agents, as data: a prompt, a temperature, a kind of task. Pure; nothing here talks to a model.

The temperatures are choices, not measurements: low where one answer is right, higher where several are good.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from pydantic import ValidationError

from routed_ollama._frozen import FrozenDict
from routed_ollama._sources import explain, plain_name
from routed_ollama.config import RoleConfig
from routed_ollama.errors import ConfigurationError
from routed_ollama.types import TaskType


@dataclass(frozen=True, slots=True)
class Role:
    """Who an agent is.

    Attributes:
        name: what it is called; ``Code-Reviewer`` and ``code_reviewer`` are one name.
        prompt: the system message of each of its requests; empty for none.
        temperature: 0 for the likeliest answer, higher for more varied ones; None to leave it to the model.
        task_type: what its prompts ask for, where a request does not say; None to have each prompt read for it.
        options: further options for Ollama, such as ``num_predict``. Copied.

    Raises:
        ConfigurationError: a value is of the wrong type, or there is no such kind of task.

    Example:
        >>> Role("poet", prompt="You write short poems.", temperature=1.0).name
        'poet'
    """

    name: str
    prompt: str = ""
    temperature: float | None = None
    task_type: TaskType | None = None
    options: Mapping[str, Any] = field(default_factory=FrozenDict)

    def __post_init__(self) -> None:
        """See that it is a role, and make its options its own."""
        for name, value in (("name", self.name), ("prompt", self.prompt)):
            if not isinstance(value, str):
                raise ConfigurationError(f"Role: {name} must be text, not {type(value).__name__}.")
        if not self.name.strip():
            raise ConfigurationError("Role: name must not be empty.")
        if not isinstance(self.options, Mapping):
            raise ConfigurationError(f"Role: options must be a mapping, not {type(self.options).__name__}.")
        try:
            checked = RoleConfig(temperature=self.temperature, task_type=self.task_type)
        except ValidationError as error:
            raise ConfigurationError(explain(error, f"Role {self.name!r}")) from None
        object.__setattr__(self, "task_type", checked.task_type)
        object.__setattr__(self, "options", FrozenDict(self.options))

    def configured(self, settings: RoleConfig) -> Role:
        """Return the role with what a configuration says of it; what is left out there stays.

        Args:
            settings: an entry of ``roles``.
        """
        said = {name: getattr(settings, name) for name in ("prompt", "temperature", "task_type")}
        given = {name: value for name, value in said.items() if value is not None}
        return replace(self, **given, options={**self.options, **settings.options})


_BUILT_IN: Final = (
    Role(
        "developer",
        "You are an experienced software developer. Write complete, idiomatic code that handles errors and edge cases, "
        "in the language that is asked for or already used. Explain only what the code does not say itself.",
        0.2,
        TaskType.CODING,
    ),
    Role(
        "architect",
        "You are a software architect. Propose a structure of components with their responsibilities, interfaces and "
        "data flows. Name the alternatives, weigh them against the requirements, and say which you would choose.",
        0.7,
        TaskType.ARCHITECTURE,
    ),
    Role(
        "tester",
        "You are a test engineer. Write tests that fail when the behaviour is wrong: the usual case, the limits, bad "
        "input and failures. Name each test after what it shows.",
        0.2,
        TaskType.TESTING,
    ),
    Role(
        "debugger",
        "You find and mend faults in software. Reason from the symptoms to the cause, say how to confirm it, and give "
        "the smallest change that mends it.",
        0.1,
        TaskType.DEBUGGING,
    ),
    Role(
        "writer",
        "You are a technical writer. Write clear, exact prose for the reader at hand, with an example wherever one "
        "helps, and leave out what nobody needs.",
        0.7,
        TaskType.DOCUMENTATION,
    ),
    Role(
        "analyst",
        "You are an analyst. Separate facts from assumptions, compare by stated criteria, show how you reach your "
        "conclusions, and say how sure you are of them.",
        0.3,
        TaskType.ANALYSIS,
    ),
    Role(
        "planner",
        "You are a planner. Break the goal into ordered steps with what each needs and when it is done. Point out "
        "dependencies and risks.",
        0.5,
        TaskType.PLANNING,
    ),
)

ROLES: Final[Mapping[str, Role]] = MappingProxyType({role.name: role for role in _BUILT_IN})
"""The roles that are there without any configuration, by name."""


def find_role(role: str | Role, configured: Mapping[str, RoleConfig]) -> Role:
    """Return a role with what the configuration says of it.

    Args:
        role: a name, in any case and with ``-``, ``_`` or a space, or a role of one's own.
        configured: the configuration's ``roles``; names that are not built in are roles of their own.

    Raises:
        ConfigurationError: there is no role of that name; says which there are.
        TypeError: it is neither a name nor a role.

    Example:
        >>> find_role("Developer", {}).temperature
        0.2
        >>> find_role("poet", {"poet": RoleConfig(prompt="You write short poems.")}).prompt
        'You write short poems.'
    """
    if not isinstance(role, str | Role):
        raise TypeError(f"role must be a name or a Role, not {type(role).__name__}.")
    by_name = {plain_name(name): settings for name, settings in configured.items()}
    name = plain_name(role if isinstance(role, str) else role.name)
    known = role if isinstance(role, Role) else ROLES.get(name)
    settings = by_name.get(name)
    if settings is not None:
        return (known or Role(name)).configured(settings)
    if known is None:
        names = [*ROLES, *(other for other in by_name if other not in ROLES)]
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(names)}."
        raise ConfigurationError(
            f"There is no role {role!r}. {hint} A role of your own goes under `roles` in the configuration, "
            f"or is given as Role({name!r}, prompt=...)."
        )
    return known
