"""``create_agent``: the function that people know. Nothing but a name for the class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from routed_ollama.agent._interface import AgentInterface
from routed_ollama.agent._routers import Config
from routed_ollama.roles import Role
from routed_ollama.router import Router
from routed_ollama.store import Store
from routed_ollama.transport import Timeouts
from routed_ollama.types import Prefer


def create_agent(
    role: str | Role,
    *,
    router: Router | None = None,
    models: Sequence[str] | None = None,
    model: str | None = None,
    base_url: str | None = None,
    hosts: Sequence[str] | None = None,
    config: Config | None = None,
    prefer: Prefer | None = None,
    store: str | Path | Store | None = None,
    timeouts: Timeouts | Mapping[str, Any] | float | None = None,
    memory: bool | int = False,
    client_kwargs: Mapping[str, Any] | None = None,
    **options: Any,
) -> AgentInterface:
    """Return an agent for a role. All arguments and errors are those of ``AgentInterface``.

    Example:
        >>> from routed_ollama.testing import OllamaServer
        >>> with OllamaServer(["llama3.1:8b"]) as server:
        ...     agent = create_agent("developer", base_url=server.url, store="memory", temperature=0)
        ...     print(agent.generate("Write a REST API endpoint", task_type="coding"))
        You asked: Write a REST API endpoint
    """
    return AgentInterface(
        role,
        router=router,
        models=models,
        model=model,
        base_url=base_url,
        hosts=hosts,
        config=config,
        prefer=prefer,
        store=store,
        timeouts=timeouts,
        memory=memory,
        client_kwargs=client_kwargs,
        **options,
    )
