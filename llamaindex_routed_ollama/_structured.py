"""Structured output by Ollama's own schema, with the parser inside: what cannot be parsed is a failure like another."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Generic, cast

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ChatResponseAsyncGen, ChatResponseGen
from llama_index.core.llms.llm import Model
from llama_index.core.output_parsers.pydantic import PydanticOutputParser
from llama_index.core.program.utils import FlexibleModel, process_streaming_objects
from llama_index.core.prompts import PromptTemplate
from llama_index.core.types import PydanticProgramMode
from pydantic import BaseModel, RootModel

from llamaindex_routed_ollama._attempts import Check
from llamaindex_routed_ollama._fields import Fields
from llamaindex_routed_ollama._messages import CHUNKS, JSON_CHUNKS, VALUE_CHUNKS, LlamaIndexChunks, text_of

_SHOWN = 200
"""Characters of a parser's complaint that an error shows."""


class Structured(Fields):
    """The four ``structured_predict`` methods; see ``RoutedOllama``."""

    def _chat(
        self, messages: Sequence[ChatMessage], kwargs: dict[str, Any], check: Check | None = None
    ) -> ChatResponse:
        raise NotImplementedError

    async def _achat(
        self, messages: Sequence[ChatMessage], kwargs: dict[str, Any], check: Check | None = None
    ) -> ChatResponse:
        raise NotImplementedError

    def _stream_chat(
        self,
        messages: Sequence[ChatMessage],
        kwargs: dict[str, Any],
        check: Check | None = None,
        view: LlamaIndexChunks = CHUNKS,
    ) -> ChatResponseGen:
        raise NotImplementedError

    def _astream_chat(
        self,
        messages: Sequence[ChatMessage],
        kwargs: dict[str, Any],
        check: Check | None = None,
        view: LlamaIndexChunks = CHUNKS,
    ) -> ChatResponseAsyncGen:
        raise NotImplementedError

    @property
    def _native(self) -> bool:
        return self.pydantic_program_mode is PydanticProgramMode.DEFAULT

    def _fit(self, output_cls: type[BaseModel]) -> Check | None:
        """Return what an answer must be in the modes whose prompts and parsers are LlamaIndex's own."""
        if self.pydantic_program_mode is PydanticProgramMode.LLM:
            parser = PydanticOutputParser(output_cls)
            return partial(_complaint, lambda answer: parser.parse(text_of(answer.message)))
        if self.pydantic_program_mode is PydanticProgramMode.FUNCTION:
            calls = self.get_tool_calls_from_response
            return partial(_complaint, lambda answer: [output_cls(**call.tool_kwargs) for call in calls(answer)])
        return None

    def structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Return an answer as an object of ``output_cls``; a model whose answer is none is followed by the next.

        Raises:
            AllModelsFailedError: no model's answer could be parsed; shows what each answered, shortened.
            InvalidAnswerError: the one model's could not.
        """
        if not self._native:
            with _expecting(self._fit(output_cls)):
                return cast("Model", super().structured_predict(output_cls, prompt, llm_kwargs, **prompt_args))
        reader = _Reader(output_cls)
        asked = _asked(output_cls, prompt, llm_kwargs, prompt_args)
        return reader.read(self._chat(*asked, check=reader.problem))

    async def astructured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Async form of ``structured_predict``."""
        if not self._native:
            with _expecting(self._fit(output_cls)):
                return cast("Model", await super().astructured_predict(output_cls, prompt, llm_kwargs, **prompt_args))
        reader = _Reader(output_cls)
        asked = _asked(output_cls, prompt, llm_kwargs, prompt_args)
        return reader.read(await self._achat(*asked, check=reader.problem))

    def stream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Model | FlexibleModel, None, None]:
        """Stream objects that fill up as the answer comes."""
        if not self._native:
            return super().stream_structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
        asked = _asked(output_cls, prompt, llm_kwargs, prompt_args)
        responses = self._stream_chat(*asked, check=_Reader(output_cls).problem, view=_view(output_cls, asked[1]))

        def objects() -> Generator[Model | FlexibleModel, None, None]:
            partial = _Partial(output_cls)
            for response in responses:
                yield from partial.of(response)

        return objects()

    async def astream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Model | FlexibleModel, None]:
        """Async form of ``stream_structured_predict``."""
        if not self._native:
            return await super().astream_structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
        asked = _asked(output_cls, prompt, llm_kwargs, prompt_args)
        responses = self._astream_chat(*asked, check=_Reader(output_cls).problem, view=_view(output_cls, asked[1]))

        async def objects() -> AsyncGenerator[Model | FlexibleModel, None]:
            partial = _Partial(output_cls)
            async with aclosing(responses) as source:
                async for response in source:
                    for one in partial.of(response):
                        yield one

        return objects()


def _asked(
    output_cls: type[BaseModel],
    prompt: PromptTemplate,
    llm_kwargs: dict[str, Any] | None,
    prompt_args: dict[str, Any],
) -> tuple[list[ChatMessage], dict[str, Any]]:
    """Return messages and arguments; the caller's are not changed."""
    return prompt.format_messages(**prompt_args), {**(llm_kwargs or {}), "format": output_cls.model_json_schema()}


def _view(output_cls: type[BaseModel], kwargs: dict[str, Any]) -> LlamaIndexChunks:
    """Return how to tell that an answer has begun: by its first bracket, unless it is to be a bare value."""
    bare = issubclass(output_cls, RootModel) and kwargs["format"].get("type") not in {"object", "array"}
    return VALUE_CHUNKS if bare else JSON_CHUNKS


EXPECTED: ContextVar[Check | None] = ContextVar("EXPECTED", default=None)
"""What holds an answer against what is expected, where LlamaIndex's own program asks for it."""


@contextmanager
def _expecting(check: Check | None) -> Generator[None]:
    token = EXPECTED.set(check)
    try:
        yield
    finally:
        EXPECTED.reset(token)


def _complaint(parse: Callable[[ChatResponse], Any], response: ChatResponse) -> str:
    try:
        parse(response)
    except ValueError as error:  # a validator's, or a parser's that found nothing to parse
        return " ".join(str(error).split())[:_SHOWN] or type(error).__name__
    except Exception:  # noqa: BLE001 (the caller's own validator broke: no model's fault, raised later)
        return ""
    return ""


class _Reader(Generic[Model]):
    """Parses each answer once, while its attempt can still be said to have failed."""

    def __init__(self, output_cls: type[Model]) -> None:
        self._output_cls = output_cls
        self._read: tuple[ChatResponse, Model] | None = None

    def problem(self, response: ChatResponse) -> str:
        """Return what the parser says against an answer; empty when nothing."""
        return _complaint(self._keep, response)

    def _keep(self, response: ChatResponse) -> None:
        self._read = response, self._parse(response)

    def read(self, response: ChatResponse) -> Model:
        """Return the object that an answer is."""
        if self._read is not None and self._read[0] is response:
            return self._read[1]
        return self._parse(response)

    def _parse(self, response: ChatResponse) -> Model:
        found: Model = self._output_cls.model_validate_json(response.message.content or "")
        return found


class _Partial:
    """Objects out of an answer that is still on its way, as the plain class makes them."""

    def __init__(self, output_cls: type[BaseModel]) -> None:
        self._output_cls = output_cls
        self._current: list[Any] | None = None
        self._text = ""

    def of(self, response: ChatResponse) -> list[Any]:
        text = response.message.content or ""
        if not text.startswith(self._text):  # another model answers afresh: what the first had filled in is void
            self._current = None
        self._text = text
        try:
            found: Any = process_streaming_objects(
                response,
                self._output_cls,
                cur_objects=self._current,
                allow_parallel_tool_calls=False,
                flexible_mode=True,
            )
        except Exception:  # noqa: BLE001 (as the plain class: what cannot be parsed yet is waited for)
            return []
        self._current = found if isinstance(found, list) else [found]
        return [found]
