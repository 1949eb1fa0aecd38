"""Structured output by Ollama's own schema, with the parser inside: what cannot be parsed is a failure like another."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, cast

from llama_index.core.base.llms.types import ChatMessage, ChatResponse
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
            InvalidAnswerError: the one model's could not. Both are a ``ValueError`` as well, as the parser's own is.
        """
        if not self._native:
            with _expecting(Expected(self, self._fit(output_cls))):
                return cast("Model", super().structured_predict(output_cls, prompt, llm_kwargs, **prompt_args))
        reader = _Reader(output_cls)
        messages, kwargs = _asked(output_cls, prompt, llm_kwargs, prompt_args)
        with _expecting(Expected(self, reader.problem)):
            return reader.read(self.chat(messages, **kwargs))

    async def astructured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Async form of ``structured_predict``."""
        if not self._native:
            with _expecting(Expected(self, self._fit(output_cls))):
                return cast("Model", await super().astructured_predict(output_cls, prompt, llm_kwargs, **prompt_args))
        reader = _Reader(output_cls)
        messages, kwargs = _asked(output_cls, prompt, llm_kwargs, prompt_args)
        with _expecting(Expected(self, reader.problem)):
            return reader.read(await self.achat(messages, **kwargs))

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
        messages, kwargs = _asked(output_cls, prompt, llm_kwargs, prompt_args)
        expected = Expected(self, _Reader(output_cls).problem, _view(output_cls, kwargs))
        with _expecting(expected):
            responses = iter(self.stream_chat(messages, **kwargs))

        def objects() -> Generator[Model | FlexibleModel, None, None]:
            partial = _Partial(output_cls)
            with _expecting(expected):  # where a subclass asks as it is read
                response = next(responses, None)
            while response is not None:
                yield from partial.of(response)
                response = next(responses, None)

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
        messages, kwargs = _asked(output_cls, prompt, llm_kwargs, prompt_args)
        expected = Expected(self, _Reader(output_cls).problem, _view(output_cls, kwargs))
        with _expecting(expected):
            responses = await self.astream_chat(messages, **kwargs)

        async def objects() -> AsyncGenerator[Model | FlexibleModel, None]:
            partial = _Partial(output_cls)
            async with aclosing(responses) as source:
                with _expecting(expected):  # where a subclass asks as it is read
                    response = await anext(source, None)
                while response is not None:
                    for one in partial.of(response):
                        yield one
                    response = await anext(source, None)

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


@dataclass(frozen=True)
class Expected:
    """What an answer has to be; for the public methods to chat, which subclasses and LlamaIndex's programs call.

    Attributes:
        of: the model that is to answer so; no other that is asked on the way.
        check: refuses an answer that is none; None to take any.
        view: how its chunks are looked at.
    """

    of: Structured
    check: Check | None
    view: LlamaIndexChunks = CHUNKS


_EXPECTED: ContextVar[Expected | None] = ContextVar("_EXPECTED", default=None)


def expected_of(model: Structured) -> Expected:
    """Return what an answer of a model has to be, where it is asked now."""
    expected = _EXPECTED.get()
    return expected if expected is not None and expected.of is model else Expected(model, None)


@contextmanager
def _expecting(expected: Expected) -> Generator[None]:
    token = _EXPECTED.set(expected)
    try:
        yield
    finally:
        _EXPECTED.reset(token)


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
