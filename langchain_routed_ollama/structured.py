"""Structured output whose parser stands inside the model: an answer that cannot be parsed is a failure like another.

The chain that the caller gets is the plain class's own, so it parses as that does. The same parser looks at each
model's answer before, and has the next model asked when it cannot be parsed. When that was the last, the error lists
what each answered, and is the parser's own kind of error as well.
"""

from __future__ import annotations

from typing import Any

from langchain_core.exceptions import OutputParserException
from langchain_core.output_parsers import BaseCumulativeTransformOutputParser, BaseLLMOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputToolsParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk
from langchain_core.runnables import RunnableSequence
from pydantic import ValidationError

from langchain_routed_ollama._messages import CHUNKS, LangChainChunks
from routed_ollama import Attempt, InvalidAnswerError

_SHOWN = 200
"""Characters of an unfit answer that its error shows, and of what is wrong with it."""
_NOT_CALLED = "no tool was called"
_LINK = "\nFor troubleshooting, visit:"
"""With this a parser's text goes on to a page of its framework's; in a list of answers it would only be in the way."""


class JsonChunks(LangChainChunks):
    """Chunks of JSON that is parsed as it comes: it begins with the first bracket, and may change until then."""

    def usable(self, chunk: ChatGenerationChunk, /) -> bool:
        """Whether an object or an array may begin in it."""
        return "{" in chunk.text or "[" in chunk.text


class AnswerCheck:
    """Looks whether an answer can be parsed as asked.

    Args:
        parser: the one that parses it afterwards.
        raw: whether the caller gets what cannot be parsed, and no error.

    Attributes:
        holds: whether a stream is held back until its end was seen. It is where the parser gives nothing before the
            end anyway (Ollama sends a tool call whole); a parser of JSON gives parts as they come, and is given them.
        view: how the loops look at the answer's chunks.
    """

    def __init__(self, parser: BaseLLMOutputParser[Any], *, raw: bool = False) -> None:
        self._parser = parser
        self._raw = raw
        partial = isinstance(parser, BaseCumulativeTransformOutputParser)
        self.holds = isinstance(parser, PydanticOutputParser | JsonOutputToolsParser) or not partial
        self.view = CHUNKS if self.holds else JsonChunks()

    def __call__(self, generation: ChatGeneration, attempt: Attempt, answer: object, *, sole: bool) -> None:
        """Raise ``InvalidAnswerError`` when an answer cannot be parsed.

        It is noted, should nothing better come, where the plain class would hand it out: with ``include_raw``, where no
        tool was called, and from a sole candidate.
        """
        try:
            parsed = self._parser.parse_result([generation])
        except (OutputParserException, ValidationError, ValueError) as error:
            if self._raw or sole:
                attempt.unusable = answer
            told = str(error).partition(_LINK)[0]
            raise unfit(attempt, generation, _shortened(told)) from error  # the cause knows the whole answer
        if parsed is None:
            attempt.unusable = answer
            raise unfit(attempt, generation, _NOT_CALLED)


def unfit(attempt: Attempt, generation: ChatGeneration, problem: str) -> InvalidAnswerError:
    """Return the error of an answer that is not as asked; it shows the answer, or what it calls, shortened."""
    calls = getattr(generation.message, "tool_calls", ())
    if calls and not generation.text.strip():
        called = _shortened(", ".join(f"{call['name']}({call['args']})" for call in calls))
        return InvalidAnswerError(f"{attempt.model} called {called}, which is not as asked: {problem}")
    shown = _shortened(generation.text)
    return InvalidAnswerError(f"{attempt.model} answered {shown!r}, which is not as asked: {problem}")


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


def check_of(chain: Any, *, raw: bool = False) -> AnswerCheck | None:
    """Return the check for a chain of model and parser; None for one without a parser.

    Args:
        chain: made by the plain class.
        raw: whether the caller gets what cannot be parsed, and no error.
    """
    last = chain.last if isinstance(chain, RunnableSequence) else None
    return AnswerCheck(last, raw=raw) if isinstance(last, BaseLLMOutputParser) else None
