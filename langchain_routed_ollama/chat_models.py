"""``RoutedChatOllama``: one LangChain chat model over all the models a person has in Ollama.

Framework plumbing only: what is chosen, and what happens when a model fails, is the core's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Any, Literal, Self, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_ollama import ChatOllama
from pydantic import BaseModel, PrivateAttr, model_validator

from langchain_routed_ollama._attempts import Request, asend, asend_stream, send, send_stream
from langchain_routed_ollama._fields import Fields
from langchain_routed_ollama._messages import CHUNKS, LangChainChunks, answering, result_of, to_core
from langchain_routed_ollama._pickling import copied, packed, private_of, unpacked
from langchain_routed_ollama._runtime import Runtime
from langchain_routed_ollama._version import __version__
from langchain_routed_ollama.callbacks import METADATA_KEY
from langchain_routed_ollama.errors import langchain_errors
from langchain_routed_ollama.structured import AnswerCheck, check_of
from routed_ollama import (
    AttemptPlan,
    ModelLife,
    Needs,
    OfferedTools,
    OwnRouter,
    acall,
    astream,
    call,
    checked_prefer,
    current_hints,
    estimate_tokens,
    hinting,
    request_hints,
    stream,
)


class RoutedChatOllama(Fields, ModelLife):
    r"""One chat model over all the models you have in Ollama.

    For each request it reads the task, picks the model that answers it best now, and when that model fails it answers
    with another. It takes the place of ``ChatOllama``: every argument, method and event of that is here.

    Setup:
        .. code-block:: bash

            pip install "routed-ollama[langchain]"
            ollama pull llama3.1:8b

    Key init args — routing:
        models: list of names and ``ChatOllama`` instances, default every installed chat model
        model: the preferred one
        hosts: base URLs of several servers
        prefer: ``"balanced"``, ``"quality"`` or ``"speed"``
        mid_stream: ``"continue"`` or ``"raise"``
        timeouts: bounds by phase in seconds

    Key init args — completion and client params:
        those of ``ChatOllama``: temperature, num_predict, reasoning, format, keep_alive, base_url, client_kwargs, ...

    Instantiate:
        .. code-block:: python

            from langchain_routed_ollama import RoutedChatOllama

            llm = RoutedChatOllama(models=["llama3.1:8b", "qwen2.5-coder:7b"], temperature=0)

    Invoke:
        .. code-block:: python

            answer = llm.invoke("Write a REST API endpoint")
            answer.response_metadata["routing"]["model"]     # who answered
            answer.response_metadata["routing"]["reason"]    # and why

    Stream, async, tools, structured output:
        as with ``ChatOllama``.

    Raises:
        AllModelsFailed: every model that was asked failed; lists each attempt with its cause. A sole candidate's own
            error is raised unchanged.
        NoModel, ModelNotInstalled, PromptTooLong, HostUnreachable: nothing could be asked; says why and what to do.
            Each is a ``langchain_core.exceptions.ModelError`` and a ``routed_ollama.RoutedOllamaError``.

    """

    _runtime: Runtime | None = PrivateAttr(default=None)
    _check: AnswerCheck | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _prepare_routing(self) -> Self:
        """Make the router, which contacts nobody, and look at what can be wrong without asking anybody."""
        self._add_version("langchain-routed-ollama", __version__)
        runtime = self._prepare()
        if self.validate_model_on_init:
            runtime.validate(self)
        return self

    def _prepare(self) -> Runtime:
        runtime = self._runtime = Runtime.of(self)
        # A field, so that it survives the rebuilding that configurable_fields does.
        self.__dict__["router"] = runtime.router
        return runtime

    @property
    def _running(self) -> Runtime:
        return self._runtime or self._prepare()

    # --- copies -------------------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        """A changed field is in force from the next request on, as in the plain class."""
        super().__setattr__(name, value)
        if name in type(self).model_fields:
            self._runtime = None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy; one with other fields builds its candidates anew."""
        copied = self.__deepcopy__({}) if deep else super().model_copy()
        for name, value in (update or {}).items():
            setattr(copied, name, value)
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Rebuild it from its fields: clients cannot be copied; the router is shared."""
        given = {name: copied(getattr(self, name)) for name in type(self).model_fields if name != "router"}
        fields_set = set(self.model_fields_set)
        made = cast("Self", type(self).model_construct(_fields_set=fields_set, **given, router=self.router))
        (made.__pydantic_private__ or {}).update(private_of(self))
        return made

    def __getstate__(self) -> dict[Any, Any]:
        """Return what is pickled: fields, not clients."""
        state = dict(super().__getstate__())
        state["__dict__"] = {k: packed(v) for k, v in state["__dict__"].items() if k != "_serialized"}
        if isinstance(self.router, OwnRouter):  # made anew from the fields, with the user's own clients
            state["__dict__"]["router"] = None
        state["__pydantic_private__"] = {**private_of(self), "_runtime": None}
        return state

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Take fields back, and make what is not pickled."""
        super().__setstate__({**state, "__dict__": {k: unpacked(v) for k, v in state["__dict__"].items()}})
        self._prepare()

    # --- what LangChain asks about it ---------------------------------------------------------------------------------

    @property
    def _llm_type(self) -> str:
        return "routed-chat-ollama"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """What tells two models apart, for caches: everything an answer may depend on, and no secret."""
        hints = {name: value for name, value in current_hints().items() if name != "session"}
        return {**self._running.identity, **({"hints": hints} if hints else {})}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        """Return what traces say of the outer request; its attempts name the model that was asked."""
        params = self._get_invocation_params(stop=stop, **kwargs)
        ls_params = LangSmithParams(
            ls_provider="ollama",
            ls_model_name=kwargs.get("model") or self.model or "routed-ollama",
            ls_model_type="chat",
            ls_temperature=params.get("temperature", self.temperature),
        )
        if self.num_predict is not None:
            ls_params["ls_max_tokens"] = self.num_predict
        if ls_stop := stop or params.get("stop") or self.stop:
            ls_params["ls_stop"] = ls_stop
        return cast("LangSmithParams", {**ls_params, METADATA_KEY: "outer"})

    def get_num_tokens(self, text: str) -> int:
        """Return an estimate of a text's length in tokens, or what ``custom_get_token_ids`` counts; loads nothing."""
        return estimate_tokens(text) if self.custom_get_token_ids is None else super().get_num_tokens(text)

    # --- answering ----------------------------------------------------------------------------------------------------

    def stream(
        self,
        input: LanguageModelInput,  # noqa: A002 (the framework's signature)
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """Stream an answer. Hints around the call are read now, not when the first chunk is taken."""
        hints = current_hints()
        chunks = cast("Generator[AIMessageChunk]", super().stream(input, config, stop=stop, **kwargs))

        def begun() -> Iterator[AIMessageChunk]:
            with closing(chunks):
                with hinting(hints):
                    first = next(chunks, None)
                if first is not None:
                    yield first
                    yield from chunks

        return begun()

    def astream(
        self,
        input: LanguageModelInput,  # noqa: A002 (the framework's signature)
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """Async form of ``stream``."""
        hints = current_hints()
        chunks = cast("AsyncGenerator[AIMessageChunk]", super().astream(input, config, stop=stop, **kwargs))

        async def begun() -> AsyncIterator[AIMessageChunk]:
            async with aclosing(chunks):
                with hinting(hints):
                    first = await anext(chunks, None)
                if first is not None:
                    yield first
                    async for chunk in chunks:
                        yield chunk

        return begun()

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        running = self._running
        with langchain_errors():
            plan = running.router.plan(to_core(messages), scope=running.scope, **self._hints(messages, kwargs))
            request = self._request(plan, messages, stop, kwargs, run_manager)
            answer = call(plan, lambda attempt: send(request, attempt))
        if run_manager is not None and run_manager.handlers:  # only now is it certain that this is the answer
            for chunk in answer.chunks:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk, verbose=self.verbose)
        return result_of(answer.whole, plan)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        running = self._running
        with langchain_errors():
            plan = await running.router.aplan(to_core(messages), scope=running.scope, **self._hints(messages, kwargs))
            request = self._request(plan, messages, stop, kwargs, run_manager)
            answer = await acall(plan, lambda attempt: asend(request, attempt))
        if run_manager is not None and run_manager.handlers:
            for chunk in answer.chunks:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk, verbose=self.verbose)
        return result_of(answer.whole, plan)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        running = self._running
        with langchain_errors():
            plan = running.router.plan(to_core(messages), scope=running.scope, **self._hints(messages, kwargs))
            request = self._request(plan, messages, stop, kwargs, run_manager)
            for chunk in stream(plan, lambda attempt: send_stream(request, attempt), self._view, hold=request.holds):
                if run_manager:
                    run_manager.on_llm_new_token(chunk.text, verbose=self.verbose)
                yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        running = self._running
        with langchain_errors():
            plan = await running.router.aplan(to_core(messages), scope=running.scope, **self._hints(messages, kwargs))
            request = self._request(plan, messages, stop, kwargs, run_manager)
            chunks = astream(plan, lambda attempt: asend_stream(request, attempt), self._view, hold=request.holds)
            async with aclosing(chunks):
                async for chunk in chunks:
                    if run_manager:
                        await run_manager.on_llm_new_token(chunk.text, verbose=self.verbose)
                    yield chunk

    @property
    def _view(self) -> LangChainChunks:
        return CHUNKS if self._check is None else self._check.view

    def _hints(self, messages: list[BaseMessage], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return what the plan needs to know; takes what concerns the routing alone out of the call's arguments."""
        if not messages:  # Ollama would only load the model for it, and each in turn
            raise ValueError("There are no messages, so there is nothing to answer.")
        hints = request_hints(kwargs)
        sticky, stay = answering(messages)
        options = kwargs.get("options") or {}
        limit = options.get("num_predict", self.num_predict)
        tools, form = kwargs.get("tools"), kwargs.get("format", self.format) or kwargs.get("response_format")
        return {
            "needs": Needs(
                tools=bool(tools),
                thinking=bool(kwargs.get("think", kwargs.get("reasoning", self.reasoning))),
                structured_output=bool(form),
            ),
            "task_type": hints.get("task_type"),
            "prefer": hints.get("prefer") or checked_prefer(self.prefer),
            "session": hints.get("session"),
            "preferred": self.model,
            "first": (hints["model"],) if "model" in hints else (),
            "sticky": sticky,
            "stay": stay,
            "extra_tokens": (len(str(tools)) + len(str(form))) // 4 if tools or form else 0,
            "max_output_tokens": limit if isinstance(limit, int) and limit > 0 else None,
            "joinable": not form,
            "mid_stream": self.mid_stream,
            "max_attempts": self.max_attempts or (None if self.max_retries is None else self.max_retries + 1),
            "timeouts": self._running.timeouts,
        }

    def _request(
        self,
        plan: AttemptPlan,
        messages: list[BaseMessage],
        stop: list[str] | None,
        kwargs: dict[str, Any],
        run_manager: Any,
    ) -> Request:
        running, tools = self._running, kwargs.get("tools")
        choice = kwargs.pop("tool_choice", None) if tools else None  # which Ollama does not know
        return Request(
            messages,
            stop,
            kwargs,
            plan,
            running.candidates,
            running.handlers,
            running.router.id,
            self._check,
            run_manager.run_id if run_manager else None,
            running.every_token,
            OfferedTools.of(tools, choice),
        )

    # --- tools and structure ------------------------------------------------------------------------------------------

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: dict[str, Any] | str | bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools. Only models that have the ``tools`` capability are asked then.

        Args:
            tools: definitions of any kind that ``convert_to_openai_tool`` takes.
            tool_choice: a name, ``"any"`` or True: that tool, or one of them, has to be called. Ollama cannot be told,
                and ``ChatOllama`` ignores it; here an answer that calls none is a failure like another, and the next
                model is asked. A call that is written into the text is taken for one.
            **kwargs: bound as they are.
        """
        definitions = [convert_to_openai_tool(tool) for tool in tools]
        if tool_choice:
            kwargs["tool_choice"] = tool_choice
        return self.bind(tools=definitions, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        method: Literal["function_calling", "json_mode", "json_schema"] = "json_schema",
        include_raw: bool = False,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Return the model with answers parsed as ``schema``; as in ``ChatOllama``, but for one thing.

        An answer that cannot be parsed is a failure like another: the next model is asked.

        Args:
            schema: a Pydantic class, a ``TypedDict``, a JSON schema or an OpenAI tool definition.
            method: ``"json_schema"``, ``"function_calling"`` or ``"json_mode"``.
            include_raw: return ``raw``, ``parsed`` and ``parsing_error``, and never raise for what cannot be parsed.
            **kwargs: ``strict`` is ignored; anything else is a ``ValueError``.
        """
        plain = cast("Any", ChatOllama.with_structured_output)
        checked = self.model_copy()
        checked._check = check_of(plain(self, schema, method=method, **kwargs), raw=include_raw)  # noqa: SLF001 (a copy of this very class)
        return cast(
            "Runnable[LanguageModelInput, dict[str, Any] | BaseModel]",
            plain(checked, schema, method=method, include_raw=include_raw, **kwargs),
        )
