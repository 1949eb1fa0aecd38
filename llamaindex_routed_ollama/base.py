"""``RoutedOllama``: one LlamaIndex LLM over all the models a person has in Ollama.

Framework plumbing only: what is chosen, and what happens when a model fails, is the core's.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import aclosing
from copy import copy
from typing import TYPE_CHECKING, Any, Self

from llama_index.core.base.llms.generic_utils import (
    achat_to_completion_decorator,
    astream_chat_response_to_completion_response,
    chat_to_completion_decorator,
    prompt_to_messages,
    stream_chat_to_completion_decorator,
)
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.constants import DEFAULT_NUM_OUTPUTS
from llama_index.core.instrumentation.span import active_span_id
from ollama import AsyncClient, Client
from pydantic import PrivateAttr

from llamaindex_routed_ollama._answers import HandedOut, routed
from llamaindex_routed_ollama._arguments import at_its_server, by_name, known, packed
from llamaindex_routed_ollama._attempts import Check, Request, asend, asend_stream, send, send_stream, tell_failures
from llamaindex_routed_ollama._candidates import DEFAULT_CONTEXT_WINDOW
from llamaindex_routed_ollama._messages import answering, to_core
from llamaindex_routed_ollama._runtime import Runtime
from llamaindex_routed_ollama._structured import Structured, expected_of
from llamaindex_routed_ollama._tools import Tools
from llamaindex_routed_ollama.errors import errors_as_caught
from llamaindex_routed_ollama.events import RouteDecidedEvent, dispatcher, exceptions_told
from routed_ollama import (
    AttemptPlan,
    ModelLife,
    Needs,
    OfferedTools,
    OwnRouter,
    acall,
    astream,
    call,
    request_hints,
    stream,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class RoutedOllama(Structured, Tools, ModelLife):
    """One LLM over all the models you have in Ollama.

    For each request it reads the task, picks the model that answers it best now, and when that model fails it answers
    with another. It takes the place of ``Ollama``: every argument, method and event of that is here.

    Args:
        model: the preferred one; it answers unless another is expected to do better by a margin, or it cannot.
        *others: what ``Ollama`` takes by position after the model, in its order: ``base_url``, ``temperature``, ...
        **fields: the router's own (``models``, ``hosts``, ``prefer``, ``config``, ``router``, ``store``, ``learn``,
            ``mid_stream``, ``max_attempts``, ``timeouts``, ``api_key``, ``client_kwargs``) and those of ``Ollama``
            (``temperature``, ``context_window`` in tokens, ``request_timeout`` in seconds, ``thinking``, ...). A
            ``client`` or ``async_client`` is used as it is for candidates that are built by name; where nothing else
            names a server, its own is asked.

    Raises:
        AllModelsFailedError: every model that was asked failed; lists each attempt with its cause. A sole candidate's
            own error is raised unchanged.
        NoModelError, ContextLengthError, HostUnreachableError: nothing could be asked; says why and what to do.

    Example:
        >>> llm = RoutedOllama(models=["llama3.1:8b", "qwen2.5-coder:7b"], temperature=0, store="memory")
        >>> llm.metadata.context_window
        8192

    ``llm.chat(messages).raw["routing"]`` says who answered, and why.
    """

    _runtime: Runtime | None = PrivateAttr(default=None)
    _clients: tuple[Client | None, AsyncClient | None] = PrivateAttr(default=(None, None))

    def __init__(
        self,
        model: str | None = None,
        *others: Any,
        **fields: Any,
    ) -> None:
        fields = by_name(others, fields)
        client, async_client = fields.pop("client", None), fields.pop("async_client", None)
        super().__init__(model=model, **known(type(self), at_its_server(client or async_client, fields)))
        self._clients = (client, async_client)
        self._prepare()

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which it is serialised."""
        return "RoutedOllama_llm"

    def _prepare(self) -> Runtime:
        runtime = self._runtime = Runtime.of(self, self._clients)
        self.__dict__["router"] = runtime.router
        return runtime

    @property
    def _running(self) -> Runtime:
        return self._runtime or self._prepare()

    # --- copies -------------------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        """A changed field is in force from the next request on; a callback manager changes nothing that is built."""
        super().__setattr__(name, value)
        if name in type(self).model_fields and name not in {"callback_manager", "rate_limiter"}:
            self._runtime = None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy; one with other fields builds its candidates anew."""
        made = self.__deepcopy__() if deep else super().model_copy()
        for name, value in (update or {}).items():
            setattr(made, name, value)
        return made

    def __deepcopy__(self, _memo: dict[int, Any] | None = None) -> Self:
        """Rebuild it from its fields: clients cannot be copied; the router is shared."""
        made = super().model_copy()
        for name, value in self.__dict__.items():
            made.__dict__[name] = type(value)(value) if type(value) in {list, dict} else value
        made._runtime = None  # noqa: SLF001 (a copy of this very class)
        return made

    def __getstate__(self) -> dict[Any, Any]:
        """Return what is pickled: fields, not clients, and no router that is made anew from them."""
        kept = {name: value for name, value in self.__dict__.items() if name != "callback_manager"}
        if isinstance(self.router, OwnRouter):
            kept["router"] = None
        kept["models"] = None if self.models is None else [packed(entry) for entry in self.models]
        return {"__dict__": kept, "__pydantic_fields_set__": set(self.model_fields_set)}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Take fields back, and make what is not pickled."""
        self.__init__(**state["__dict__"])  # type: ignore[misc]

    # --- what LlamaIndex asks about it --------------------------------------------------------------------------------

    @property
    def metadata(self) -> LLMMetadata:
        """What engines and memories size their prompts by. Asks nobody, and stays the same."""
        return LLMMetadata(
            context_window=self._window or DEFAULT_CONTEXT_WINDOW,
            num_output=DEFAULT_NUM_OUTPUTS,
            model_name=self.model or "routed-ollama",
            is_chat_model=True,
            is_function_calling_model=self.is_function_calling_model,
        )

    @property
    def _window(self) -> int:
        """The context that the user asks for, in tokens; 0 where they leave it open."""
        given = self.context_window if self.context_window > 0 else self.additional_kwargs.get("num_ctx")
        return given if isinstance(given, int) and given > 0 else 0

    def get_context_window(self) -> int:
        """Return the context that engines size their prompts by, in tokens. Asks nobody."""
        return self.metadata.context_window

    @property
    def client(self) -> Client:
        """The official client of the first server, as requests use it: ``llm.client.list()``, ``llm.client.ps()``."""
        return self._clients[0] or self._lent(0)

    @property
    def async_client(self) -> AsyncClient:
        """As ``client``; serves one event loop after another."""
        return self._clients[1] or self._lent(1)

    def _lent(self, which: int) -> Any:
        running = self._running
        client = copy(running.candidates.clients_of(running.router.host)[which])
        client.__dict__["lent_by"] = running  # which closes its connections when nobody knows it any more
        return client

    def to_payload(self) -> dict[str, Any]:
        """Return what traces may know: no URL, no header."""
        return {
            "class_name": self.class_name(),
            "model": self.model,
            "temperature": self.temperature,
            **self.metadata.model_dump(),
        }

    # --- answers ------------------------------------------------------------------------------------------------------

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Return an answer; ``tools``, ``think``, ``format`` as in ``Ollama``, ``model``, ``task_type``, ``prefer``."""
        running, hints = self._running, self._hints(messages, kwargs)
        with errors_as_caught():
            plan = running.router.plan(to_core(messages), scope=running.scope, **hints)
            request = self._request(plan, messages, kwargs, active_span_id.get(), expected_of(self).check)
            return routed(request, call(plan, lambda attempt: send(request, attempt)))

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Async form of ``chat``."""
        running, hints = self._running, self._hints(messages, kwargs)
        with errors_as_caught():
            plan = await running.router.aplan(to_core(messages), scope=running.scope, **hints)
            request = self._request(plan, messages, kwargs, active_span_id.get(), expected_of(self).check)
            return routed(request, await acall(plan, lambda attempt: asend(request, attempt)))

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Stream an answer; see ``chat``."""
        running, hints, span_id = self._running, self._hints(messages, kwargs), active_span_id.get()
        expected = expected_of(self)

        def chunks() -> Generator[ChatResponse, None, None]:
            with exceptions_told(span_id), errors_as_caught():
                plan = running.router.plan(to_core(messages), scope=running.scope, **hints)
                request = self._request(plan, messages, kwargs, span_id, expected.check)
                handed = HandedOut(request)
                source = stream(
                    plan,
                    lambda attempt: send_stream(request, handed.by(attempt)),
                    expected.view,
                    hold=request.holds,
                    replaces=expected.view.replaces,
                )
                for chunk in source:
                    yield handed.out(chunk)

        return chunks()

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Async form of ``stream_chat``."""
        running, hints, span_id = self._running, self._hints(messages, kwargs), active_span_id.get()
        expected = expected_of(self)

        async def chunks() -> AsyncGenerator[ChatResponse, None]:
            with exceptions_told(span_id), errors_as_caught():
                plan = await running.router.aplan(to_core(messages), scope=running.scope, **hints)
                request = self._request(plan, messages, kwargs, span_id, expected.check)
                handed = HandedOut(request)
                source = astream(
                    plan,
                    lambda attempt: asend_stream(request, handed.by(attempt)),
                    expected.view,
                    hold=request.holds,
                    replaces=expected.view.replaces,
                )
                async with aclosing(source):
                    async for chunk in source:
                        yield handed.out(chunk)

        return chunks()

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:  # noqa: ARG002
        """Return a completion."""
        return chat_to_completion_decorator(self.chat)(prompt, **kwargs)

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:  # noqa: ARG002
        """Async form of ``complete``."""
        return await achat_to_completion_decorator(self.achat)(prompt, **kwargs)

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:  # noqa: ARG002
        """Stream a completion."""
        return stream_chat_to_completion_decorator(self.stream_chat)(prompt, **kwargs)

    async def astream_complete(
        self,
        prompt: str,
        formatted: bool = False,  # noqa: ARG002 (the framework's signature)
        **kwargs: Any,
    ) -> CompletionResponseAsyncGen:
        """Async form of ``stream_complete``."""
        chats = await self.astream_chat(prompt_to_messages(prompt), **kwargs)

        async def completions() -> AsyncGenerator[CompletionResponse, None]:
            async with aclosing(chats), aclosing(astream_chat_response_to_completion_response(chats)) as source:
                async for completion in source:
                    yield completion

        return completions()

    def _hints(self, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return what the plan needs to know; takes what concerns the routing alone out of the call's arguments."""
        if not messages:  # Ollama would only load the model for it, and each in turn
            raise ValueError("There are no messages, so there is nothing to answer.")
        hints = request_hints(kwargs)
        running = self._running
        sticky, stay = answering(running.router.conversations, messages)
        limit = self.additional_kwargs.get("num_predict")
        tools, form = kwargs.get("tools"), kwargs.get("format", "json" if self.json_mode else None)
        sized = self.context_window > 0 or "num_ctx" in self.additional_kwargs
        return {
            "needs": Needs(
                tools=bool(tools),
                thinking=bool(kwargs.get("think") or self.thinking),
                structured_output=bool(form),
            ),
            "task_type": hints.get("task_type"),
            "prefer": hints.get("prefer") or self.prefer,
            "session": hints.get("session"),
            "preferred": self.model,
            "first": (hints["model"],) if "model" in hints else (),
            "sticky": sticky,
            "stay": stay,
            "extra_tokens": (len(str(tools)) + len(str(form))) // 4 if tools or form else 0,
            "max_output_tokens": limit if isinstance(limit, int) and limit > 0 else None,
            "joinable": not form,
            "mid_stream": self.mid_stream,
            "max_attempts": self.max_attempts,
            "timeouts": running.timeouts,
            "context": 0 if sized else DEFAULT_CONTEXT_WINDOW,
        }

    def _request(
        self,
        plan: AttemptPlan,
        messages: Sequence[ChatMessage],
        kwargs: dict[str, Any],
        span_id: str | None,
        check: Check | None,
    ) -> Request:
        running, found, tools = self._running, plan.recommendation, kwargs.get("tools")
        required = kwargs.pop("tool_required", False)  # which Ollama does not know
        dispatcher.event(
            RouteDecidedEvent(
                request_id=found.request_id,
                model=found.model,
                host=found.host,
                task_type=found.task.task_type.value,
                fallbacks=list(found.fallbacks),
                reason=found.reason,
                span_id=span_id,
            )
        )
        tell_failures(plan, span_id)
        return Request(
            messages,
            kwargs,
            plan,
            running.candidates,
            running.recorder,
            self.callback_manager,
            self.rate_limiter,
            span_id,
            check,
            OfferedTools.of(tools, kwargs.get("tool_choice") or bool(required)),
        )
