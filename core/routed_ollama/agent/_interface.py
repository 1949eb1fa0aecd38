"""``AgentInterface``: one role's way to ask the router's models. Choice and fallback are the core's, as everywhere.

An agent without settings of its own shares the process's default router, so what one learns, all use.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from routed_ollama._defaults import default_router
from routed_ollama._life import Closing
from routed_ollama.agent import _planning
from routed_ollama.agent._answer import AgentResponse, Piece, Pieces
from routed_ollama.agent._arguments import (
    Asked,
    Settings,
    checked_memory,
    checked_models,
    checked_name,
    checked_prompt,
)
from routed_ollama.agent._conversation import Conversation, Turn, recalled
from routed_ollama.agent._routers import Config, clients_of, router_of
from routed_ollama.agent._sending import Request, asend, asend_stream, send, send_stream
from routed_ollama.fallback import acall, astream, call, stream
from routed_ollama.hints import checked_prefer, checked_task_type, request_hints
from routed_ollama.roles import Role, find_role
from routed_ollama.router import Router
from routed_ollama.store import Store
from routed_ollama.transport import Timeouts
from routed_ollama.types import (
    Candidate,
    HealthStatus,
    Message,
    Needs,
    Prefer,
    Recommendation,
    TaskType,
)

_VIEW = Pieces()
_OF_A_PROMPT = ("task_type", "model", "prefer")
_OF_AN_AGENT = ("router", "models", "model", "base_url", "hosts", "config", "prefer", "store", "timeouts", "memory")


class AgentInterface(Closing):
    """An agent: a role that answers with the best model for each prompt, and with another when that fails.

    Args:
        role: ``"developer"``, ``"architect"``, ``"tester"``, ``"debugger"``, ``"writer"``, ``"analyst"``,
            ``"planner"``, a name under ``roles`` in the configuration, or a ``Role``.
        router: who chooses and learns; several agents and models may share one. Default: the process's own.
        models: names to choose among; None for every installed chat model.
        model: the preferred one: it answers unless another is expected to do clearly better, or it cannot.
        base_url: one server; default ``OLLAMA_HOST``, else loopback port 11434.
        hosts: several servers instead (one may stand alone).
        config: a ``RouterConfig``, a mapping, or the path of a JSON or TOML file; its ``roles`` count as well.
        prefer: ``"balanced"``, ``"quality"`` or ``"speed"``.
        store: where the history is kept: ``"memory"``, a path, ``sqlite:///path``, a store object.
        timeouts: bounds by phase in seconds: a ``Timeouts`` or such a mapping; a number bounds the whole answer.
        memory: True to remember the conversation, as much of it as fits the answering model's context; a number to
            remember that many turns at most.
        client_kwargs: for the HTTP clients: headers, proxy, certificates, transport. Those of a router that is given
            are not known here, so say them again.
        **options: for Ollama, over those of the role: ``temperature``, ``num_predict``, ``num_ctx``, ``seed``, ...;
            also ``keep_alive`` and ``think``.

    Raises:
        ConfigurationError: an argument, the configuration or the role is wrong.
        ImportError: the official client is not installed.

    Example:
        >>> from routed_ollama.testing import OllamaServer
        >>> with OllamaServer(["llama3.1:8b"]) as server, AgentInterface("developer", base_url=server.url) as agent:
        ...     answer = agent.generate("Write a REST API endpoint")
        >>> str(answer), answer.model, answer.routing["task_type"]
        ('You asked: Write a REST API endpoint', 'llama3.1:8b', 'coding')
    """

    def __init__(
        self,
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
    ) -> None:
        given = {
            name: value
            for name, value in {
                "base_url": base_url,
                "hosts": hosts,
                "config": config,
                "store": store,
                "timeouts": timeouts,
                "client_kwargs": client_kwargs,
            }.items()
            if value is not None
        }
        self._shares_default = router is None and not given
        self._owns_router = router is None and bool(given)
        self.router: Router = router_of(router, given)
        self.role = find_role(role, self.router.config.roles)
        self._scope = checked_models(models)
        self._model = checked_name(model)
        self._prefer = checked_prefer(prefer)
        temperature = {} if self.role.temperature is None else {"temperature": self.role.temperature}
        self._settings = Settings.of({**temperature, **self.role.options, **options}, _OF_AN_AGENT, stacklevel=3)
        self._conversation = Conversation(checked_memory(memory))
        self._clients = clients_of(self.router, client_kwargs)
        self._picklable = not client_kwargs

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.role.name!r}, {self.router!r})"

    # --- copies -------------------------------------------------------------------------------------------------------

    def __copy__(self) -> Self:
        """Return an agent with a conversation of its own that begins with this one's turns; the router is shared."""
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__, _owns_router=False)
        made._conversation = Conversation(*self._conversation.parts())
        return made

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        """Return a copy; connections and history are a service that copies share."""
        return self.__copy__()

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: the conversation too, but nothing secret.

        Raises:
            TypeError: there are ``client_kwargs``, which may hold what is secret.
        """
        if not self._picklable:
            raise TypeError(
                "An agent with client_kwargs is not pickled, since they may hold credentials. Make it where it is used."
            )
        router = None if self._shares_default else self.router
        own = {name: value for name, value in self.__dict__.items() if name not in {"_clients", "_conversation"}}
        return {**own, "router": router, "_conversation": self._conversation.parts()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take it back; what shared the default router shares the one of this process."""
        self.__dict__.update(state)
        self.router = state["router"] or default_router()
        self._conversation = Conversation(*state["_conversation"])
        self._clients = clients_of(self.router, None)

    # --- answering ----------------------------------------------------------------------------------------------------

    def generate(
        self,
        prompt: str,
        *,
        task_type: TaskType | str | None = None,
        model: str | None = None,
        prefer: Prefer | None = None,
        **options: Any,
    ) -> AgentResponse:
        """Return the answer to a prompt.

        Args:
            prompt: what is asked.
            task_type: what kind of task it is; default the role's, else the prompt is read for it.
            model: the one to ask first, for this prompt.
            prefer: ``"balanced"``, ``"quality"`` or ``"speed"``, for this prompt.
            **options: for Ollama, for this prompt.

        Returns:
            A ``str`` that knows its route.

        Raises:
            NoModelError: no model can serve; says why and what to do.
            HostUnreachableError: no server answers.
            AllModelsFailedError: every model that was asked failed. A sole model's own error is raised unchanged.
            ConfigurationError: an argument is none of its values.
            ValueError: the prompt is empty.
        """
        asked = self._asked(prompt, task_type, model, prefer, options)
        plan = _planning.plan(self.router, asked, self._scope)
        request = Request(asked, plan, self._clients, self.router)
        pieces = call(plan, lambda attempt: send(request, attempt))
        return self._answered(asked, AgentResponse.whole(pieces, plan.route()))

    async def agenerate(
        self,
        prompt: str,
        *,
        task_type: TaskType | str | None = None,
        model: str | None = None,
        prefer: Prefer | None = None,
        **options: Any,
    ) -> AgentResponse:
        """Async form of ``generate``."""
        asked = self._asked(prompt, task_type, model, prefer, options)
        plan = await _planning.aplan(self.router, asked, self._scope)
        request = Request(asked, plan, self._clients, self.router)
        pieces = await acall(plan, lambda attempt: asend(request, attempt))
        return self._answered(asked, AgentResponse.whole(pieces, plan.route()))

    def stream(
        self,
        prompt: str,
        *,
        task_type: TaskType | str | None = None,
        model: str | None = None,
        prefer: Prefer | None = None,
        **options: Any,
    ) -> Generator[AgentResponse]:
        """Yield the answer to a prompt piece by piece; the last piece knows the route.

        A stream that is left before its end is not remembered. Arguments and errors are those of ``generate``.
        """
        return self._streamed(self._asked(prompt, task_type, model, prefer, options))

    def _streamed(self, asked: Asked) -> Generator[AgentResponse]:
        plan = _planning.plan(self.router, asked, self._scope)
        request = Request(asked, plan, self._clients, self.router)
        said: list[str] = []
        with closing(stream(plan, lambda attempt: send_stream(request, attempt), _VIEW)) as pieces:
            for piece in pieces:
                yield self._part(asked, piece, said)

    def astream(
        self,
        prompt: str,
        *,
        task_type: TaskType | str | None = None,
        model: str | None = None,
        prefer: Prefer | None = None,
        **options: Any,
    ) -> AsyncGenerator[AgentResponse]:
        """Async form of ``stream``."""
        return self._astreamed(self._asked(prompt, task_type, model, prefer, options))

    async def _astreamed(self, asked: Asked) -> AsyncGenerator[AgentResponse]:
        plan = await _planning.aplan(self.router, asked, self._scope)
        request = Request(asked, plan, self._clients, self.router)
        said: list[str] = []
        async with aclosing(astream(plan, lambda attempt: asend_stream(request, attempt), _VIEW)) as pieces:
            async for piece in pieces:
                yield self._part(asked, piece, said)

    def _asked(
        self,
        prompt: str,
        task_type: TaskType | str | None,
        model: str | None,
        prefer: Prefer | None,
        options: Mapping[str, Any],
    ) -> Asked:
        settings = self._settings.overridden(options, _OF_A_PROMPT, stacklevel=3)
        asked = Asked(self._system, (), checked_prompt(prompt), {}, settings)
        turns = self._recalled(asked)
        named = {"task_type": checked_task_type(task_type), "model": checked_name(model), "prefer": prefer}
        said = request_hints(named)
        hints = {
            **self._hints(said.get("task_type"), said.get("prefer")),
            "needs": Needs(thinking=bool(settings.fields.get("think"))),
            "first": (said["model"],) if "model" in said else (),
            "sticky": turns[-1].candidate if turns else None,
            "session": said.get("session"),
            "max_output_tokens": settings.num_predict,
        }
        return replace(asked, turns=turns, hints=hints)

    def _hints(self, task_type: TaskType | str | None = None, prefer: Prefer | None = None) -> dict[str, Any]:
        """Return what the plan needs to know of this agent, with what a caller says on top."""
        return {
            "task_type": checked_task_type(task_type) or self.role.task_type,
            "prefer": checked_prefer(prefer) or self._prefer,
            "preferred": self._model,
        }

    @property
    def _system(self) -> list[Message]:
        return [Message("system", self.role.prompt)] if self.role.prompt else []

    def _recalled(self, asked: Asked) -> tuple[Turn, ...]:
        turns = self._conversation.turns
        if not turns:
            return ()
        context = asked.settings.num_ctx or self.router.context_window(turns[-1].candidate)
        return recalled(turns, asked.system, asked.request, context)

    def _answered(self, asked: Asked, answer: AgentResponse) -> AgentResponse:
        self._remember(asked, str(answer), answer.routing)
        return answer

    def _part(self, asked: Asked, piece: Piece, said: list[str]) -> AgentResponse:
        said.append(piece.text)
        if piece.routing is not None:
            self._remember(asked, "".join(said), piece.routing)
        return AgentResponse.part(piece)

    def _remember(self, asked: Asked, answer: str, routing: Mapping[str, Any] | None) -> None:
        if routing is not None and answer.strip():
            who = Candidate(routing["model"], routing["host"])
            usual = self._settings.num_ctx or self.router.context_window(who)
            context = max(usual, asked.settings.num_ctx)
            self._conversation.remember(Turn(asked.prompt, answer, who), asked.system, context)

    # --- memory -------------------------------------------------------------------------------------------------------

    @property
    def history(self) -> tuple[Turn, ...]:
        """The turns that are remembered, oldest first; empty without ``memory``."""
        return self._conversation.turns

    def clear_memory(self) -> None:
        """Begin a new conversation."""
        self._conversation.clear()

    # --- what a manager tells, for this agent's role and models -------------------------------------------------------

    def recommend_model(self, prompt: str, *, task_type: TaskType | str | None = None) -> Recommendation:
        """Return the ranking for a prompt to this agent; nothing is sent to a model. See ``Router.recommend_model``."""
        return self.router.recommend_model(prompt, scope=self._scope, **self._hints(task_type))

    def record_performance(self, model: str, *, task_type: TaskType | str | None = None, **figures: Any) -> None:
        """Record an answer that was got elsewhere, for the role's kind of task; see ``Router.record_performance``."""
        kind = checked_task_type(task_type) or self.role.task_type
        self.router.record_performance(checked_name(model) or "", task_type=kind, **figures)

    def health_check_all_models(self) -> dict[str, HealthStatus]:
        """Ask every server now and return each model's health; see ``Router.health_check_all_models``."""
        return self.router.health_check_all_models()

    def get_fallback_models(self, model: str, prompt: str = "") -> list[str]:
        """Return the models that would be asked if ``model`` failed; see ``Router.get_fallback_models``."""
        return self.router.get_fallback_models(model, prompt, scope=self._scope, **self._hints())

    def get_model_recommendations(self, prompt: str, *, task_type: TaskType | str | None = None) -> dict[str, Any]:
        """Return a recommendation as a plain mapping; see ``Router.get_model_recommendations``."""
        return self.router.get_model_recommendations(prompt, scope=self._scope, **self._hints(task_type))

    # --- life ---------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connections, and the router where the agent made it for itself."""
        self._clients.close()
        if self._owns_router:
            self.router.close()

    async def aclose(self) -> None:
        """Close the connections of the running loop too; what waits for the disk does so off it."""
        await self._clients.aclose()
        await asyncio.to_thread(self.close)


EnhancedAgentInterface = AgentInterface
"""The same class under the name of the model manager that this grew out of."""
