"""The facade that ties the rooms together. It holds the state (catalog, history, circuits); the rules are elsewhere.

A decision reads memory only. What must be asked of a server is asked before the first decision, and from then on by the
monitor, off the request's way.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import httpx

from routed_ollama._arguments import check_figure, checked_name, checked_names, checked_scope, conversation_of, listed
from routed_ollama._decision import Hints, decide, hints_of
from routed_ollama._knowledge import Clock, Knowledge
from routed_ollama._own_types import Classifier, OwnTaskTypes
from routed_ollama._telling import Telling
from routed_ollama._views import Scope
from routed_ollama.catalog import Catalog, with_tag
from routed_ollama.clients import ClientSettings
from routed_ollama.config import RouterConfig, default_host, normalize_host
from routed_ollama.conversations import Conversations
from routed_ollama.errors import HostUnreachableError, NoModelError
from routed_ollama.fallback import AttemptPlan, FailureKind
from routed_ollama.hints import checked_task_type
from routed_ollama.ollama_api import OllamaHost
from routed_ollama.store import Store, open_store
from routed_ollama.transport import Timeouts
from routed_ollama.types import (
    Candidate,
    CircuitState,
    Message,
    MidStream,
    Outcome,
    OutcomeKind,
    Prefer,
    Recommendation,
    TaskType,
)

_client = ClientSettings().host_client


class Router(Telling):
    """Chooses among the chat models of one or several Ollama servers, and learns from what becomes of it.

    Nothing is contacted when it is made: the servers are asked before the first decision.

    Args:
        models: names to choose among (and ``Candidate`` pairs for one host); None for every installed chat model.
        base_url: one server; default ``OLLAMA_HOST``, else loopback port 11434.
        hosts: several servers instead.
        config: a ``RouterConfig``, a mapping, or the path of a JSON or TOML file.
        prefer: ``"balanced"``, ``"quality"`` or ``"speed"``.
        store: ``"memory"``, a path, ``sqlite:///path``, a store object; default a file in the user's state folder.
        learn: False freezes the history, so that the same request gives the same choice.
        mid_stream: ``"continue"`` or ``"raise"``: what to do when a model fails in mid-answer.
        max_attempts: models asked at most for one request; None for all.
        timeouts: bounds by phase in seconds: a ``Timeouts`` or such a mapping; a number bounds the whole answer.
        classifier: says what a conversation asks for, as a ``TaskType`` or its name; None, or an error, which is a
            warning, leaves it to ``task_rules`` of the configuration and the analysis. A hint with the request is
            stronger. Where routers are pickled it must be a function that can be.
        client: makes the HTTP client for a host; adapters pass the user's own settings.
        clock: for tests.

    Raises:
        ConfigurationError: an argument or the configuration is wrong.

    Example:
        >>> router = Router.from_models(["llama3.1:8b", "gemma2:9b"])
        >>> router.recommend_model("Debug this authentication error").model in {"llama3.1:8b", "gemma2:9b"}
        True
    """

    def __init__(
        self,
        models: Scope | None = None,
        *,
        base_url: str | None = None,
        hosts: Sequence[str] | None = None,
        config: RouterConfig | Mapping[str, Any] | str | Path | None = None,
        prefer: Prefer | None = None,
        store: str | Path | Store | None = None,
        learn: bool | None = None,
        mid_stream: MidStream | None = None,
        max_attempts: int | None = None,
        timeouts: Timeouts | Mapping[str, Any] | float | None = None,
        classifier: Classifier | None = None,
        client: Callable[..., httpx.Client] = _client,
        clock: Clock = time,
    ) -> None:
        hosts = None if hosts is None else listed("hosts", hosts, "addresses")
        settings = RouterConfig.load(config).overridden(
            prefer=prefer, learn=learn, mid_stream=mid_stream, max_attempts=max_attempts
        )
        self.config = settings
        self.timeouts = Timeouts.of(timeouts if timeouts is not None else settings.timeouts or None)
        self._id = uuid.uuid4().hex
        self._models = checked_scope(models)
        self._clock = clock
        self._own_types = OwnTaskTypes(settings.task_rules, classifier)
        kept = open_store(store if store is not None else settings.store)
        urls = list(hosts or ([base_url] if base_url else settings.hosts or [default_host()]))
        catalog = Catalog(
            [OllamaHost(url, client) for url in urls],
            overrides=settings.model_capabilities,
            states=kept,
            clock=clock.monotonic,
        )
        self._default_host = normalize_host(urls[0])
        self._known = Knowledge(catalog, settings, kept, clock)

    @classmethod
    def from_models(cls, models: Iterable[str], **kwargs: Any) -> Router:
        """Return a router over names alone, for recommendations: no server is needed and none is asked.

        Args:
            models: names with tags, or one.
            **kwargs: as for the constructor; ``store`` is ``"memory"`` unless given.

        Raises:
            ConfigurationError: an argument or the configuration is wrong.
        """
        names = [with_tag(name) for name in checked_names(models)]
        router = cls(**{"store": "memory", **kwargs})
        catalog = Catalog.of_names(names, router.config.model_capabilities)
        router._models = tuple(names)
        router._known = Knowledge(catalog, router.config, router._known.store, router._clock, offline=True)
        return router

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A router is a shared service, like a connection pool: copies of a model share it."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process it is made anew, over the same store where that outlives a process."""
        known = self._known
        kwargs = {
            "hosts": list(known.catalog.hosts) or None,
            "config": self.config,
            "store": known.store.location if known.store.persistent else "memory",
            "timeouts": self.timeouts,
            "classifier": self._own_types.classifier,
        }
        return (_rebuild, (self._models, known.offline, kwargs))

    def __repr__(self) -> str:
        hosts = ", ".join(self._known.catalog.hosts) or "no server"
        return f"Router({hosts}; store={self._known.store.location})"

    def close(self) -> None:
        """Write what is still to be written, end the monitor and close the connections."""
        self._known.close()

    async def aclose(self) -> None:
        """Async form of ``close``: what waits for the disk does so off the event loop."""
        await asyncio.to_thread(self.close)

    # --- deciding -----------------------------------------------------------------------------------------------------

    def recommend_model(self, prompt: str | Sequence[Message], **hints: Any) -> Recommendation:
        """Return the ranking for a prompt with every score and reason; nothing is sent to a model.

        Args:
            prompt: text, or a conversation.
            **hints: as for ``plan``.

        Raises:
            NoModelError: no model can serve; says why and what to do.
            HostUnreachableError: no server answers.
        """
        return self.plan(conversation_of(prompt), **hints).recommendation

    async def arecommend_model(self, prompt: str | Sequence[Message], **hints: Any) -> Recommendation:
        """Async form of ``recommend_model``."""
        return (await self.aplan(conversation_of(prompt), **hints)).recommendation

    def plan(self, messages: Sequence[Message], *, scope: Scope | None = None, **hints: Any) -> AttemptPlan:
        """Return the attempt plan for a request.

        Args:
            messages: the conversation.
            scope: models to choose among for this request; default the router's own.
            **hints: the fields of ``Hints``.

        Raises:
            NoModelError: no model can serve; says why and what to do.
            HostUnreachableError: no server answers.
        """
        scope = self._models if scope is None else scope
        self._known.ensure(scope)
        given, late = hints_of(hints), self._known.late()
        try:
            return self._decide(messages, scope, given)
        except (NoModelError, HostUnreachableError):
            if not late:
                raise
        wait(late)  # they may have the model that can
        return self._decide(messages, scope, given)

    async def aplan(self, messages: Sequence[Message], *, scope: Scope | None = None, **hints: Any) -> AttemptPlan:
        """Async form of ``plan``: what must be asked of a server first is asked off the event loop."""
        scope = self._models if scope is None else scope
        await self._known.aensure(scope)
        given, late = hints_of(hints), self._known.late()
        try:
            return self._decide(messages, scope, given)
        except (NoModelError, HostUnreachableError):
            if not late:
                raise
        await asyncio.gather(*map(asyncio.wrap_future, late), return_exceptions=True)
        return self._decide(messages, scope, given)

    def _decide(self, messages: Sequence[Message], scope: Scope | None, hints: Hints) -> AttemptPlan:
        return decide(self._known, self.config, messages, scope, hints, timeouts=self.timeouts, own=self._own_types)

    def add_host(self, url: str, client: Callable[..., httpx.Client] = _client) -> str:
        """Take a further server in and return its URL in the form in which hosts are compared."""
        host = OllamaHost(url, client)
        self._known.catalog.add_host(host)
        return host.url

    @property
    def id(self) -> str:
        """Identifies this router among those of a process; attempts carry it, so that none is recorded twice."""
        return self._id

    @property
    def conversations(self) -> Conversations:
        """Who is answering which conversation, where a framework's messages do not say."""
        return self._known.conversations

    def on_circuit_change(self, listener: Callable[[Candidate, CircuitState], None]) -> None:
        """Have a function told of each circuit that opens, half opens or closes; telling it twice is telling it once.

        Args:
            listener: called with the candidate (an empty model name stands for a whole host) and the new state, by
                whatever thread it happens in. It must not raise.
        """
        if listener not in self._known.circuit_listeners:
            self._known.circuit_listeners.append(listener)

    @property
    def learns(self) -> bool:
        """Whether outcomes change the history."""
        return self.config.routing.learn

    @property
    def host(self) -> str:
        """URL of the first server, without credentials."""
        return self._default_host

    @property
    def hosts(self) -> list[str]:
        """URLs of all servers, without credentials."""
        return list(self._known.catalog.hosts)

    def credentials(self, url: str) -> httpx.Auth | None:
        """Return the credentials that stood in a server's URL, for a client that is to talk to this server alone."""
        host = self._known.catalog.hosts.get(url)
        return None if host is None else host.auth

    # --- learning -----------------------------------------------------------------------------------------------------

    def record(self, outcome: Outcome) -> None:
        """Learn what became of an attempt: history, circuits and store. Never raises for what it is told."""
        name = self._known.catalog.installed_name(outcome.model)  # a plain model's is as its user wrote it
        self._known.record(outcome if name == outcome.model else replace(outcome, model=name))

    def record_performance(
        self,
        model: str,
        *,
        task_type: TaskType | str | None = None,
        response_time: float,
        tokens_per_second: float | None = None,
        success: bool = True,
        quality_score: float | None = None,
        host: str | None = None,
    ) -> None:
        """Record an answer that was got elsewhere.

        Args:
            model: name.
            task_type: kind of task; None for ``GENERAL``.
            response_time: seconds.
            tokens_per_second: output tokens per second.
            success: whether it answered.
            quality_score: 0 to 10.
            host: URL; None for the first host that has the model.

        Raises:
            ValueError: a figure is out of its range.
            ConfigurationError: there is no such kind of task.
        """
        check_figure("response_time", response_time, "seconds, 0 or more")
        if tokens_per_second is not None:
            check_figure("tokens_per_second", tokens_per_second, "0 or more")
        if quality_score is not None:
            check_figure("quality_score", quality_score, "0 to 10", at_most=10)
        name = self._known.catalog.installed_name(checked_name(model))
        found = self._known.catalog.find(name)
        tokens = None if not tokens_per_second else max(1, round(tokens_per_second * response_time))
        self._known.record(
            Outcome(
                model=name,
                host=normalize_host(host) if host else found[0].host if found else self._default_host,
                kind=OutcomeKind.OK if success else OutcomeKind.FAILED,
                task_type=checked_task_type(task_type) or TaskType.GENERAL,
                response_time=response_time,
                output_tokens=tokens,
                output_seconds=None if tokens is None or not tokens_per_second else tokens / tokens_per_second,
                quality=quality_score,
                judged=quality_score is not None,
                failure=None if success else FailureKind.SERVER.value,
                at=self._clock.time(),
            )
        )

    def record_feedback(self, request_id: str, quality: float) -> bool:
        """Record a person's judgement of an answer.

        It is of the model that answered, or of the recommended one where nobody told who did, so it teaches by itself:
        an answer that was got elsewhere need not be recorded as well.

        Args:
            request_id: of ``Recommendation`` or of the answer's route. The last 10,000 requests are remembered.
            quality: 0 to 10. A later judgement of the same request takes the place of the earlier.

        Returns:
            Whether this process knows the request and learns. The store takes it for others to learn from in any case,
            but where ``learn=False`` freezes the history.

        Raises:
            ValueError: quality is out of range.
        """
        check_figure("quality", quality, "0 to 10", at_most=10)
        if not self.learns:
            return False
        self._known.warm_up()
        self._known.store.record_feedback(request_id, quality)
        return self._known.history.feedback(request_id, quality)


def _rebuild(models: Scope | None, offline: bool, kwargs: dict[str, Any]) -> Router:
    # Credentials are not pickled; those that the environment knows are found again.
    known = {normalize_host(url): url for url in (default_host(), *RouterConfig.load().hosts)}
    kwargs["hosts"] = [known.get(url, url) for url in kwargs["hosts"] or ()] or None
    return Router.from_models(map(str, models or ()), **kwargs) if offline else Router(models, **kwargs)
