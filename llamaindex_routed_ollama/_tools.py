"""Tools: how they are offered, and how an answer's calls are read. As in the plain class, but what is given stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.llms.llm import ToolSelection
from llama_index.llms.ollama import Ollama

from llamaindex_routed_ollama._fields import Fields

if TYPE_CHECKING:
    from llama_index.core.tools.types import BaseTool


class Tools(Fields):
    """What LlamaIndex asks of a model that calls functions; see ``RoutedOllama``."""

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,  # noqa: ARG002 (the framework's signature)
        allow_parallel_tool_calls: bool = False,  # noqa: ARG002
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return the arguments of ``chat``; the caller's history is not changed.

        Ollama cannot be told that a tool has to be called, and ``Ollama`` ignores it; here an answer that calls none is
        a failure like another. A call that is written into the text is taken for one.
        """
        messages = list(chat_history or ())
        if user_msg:
            messages.append(ChatMessage(content=user_msg) if isinstance(user_msg, str) else user_msg)
        specs = [tool.metadata.to_openai_tool(skip_length_check=True) for tool in tools]
        required = {"tool_required": True} if tool_required and specs else {}
        return {**kwargs, **required, "messages": messages, "tools": specs or None}

    def _validate_chat_with_tools_response(
        self, response: ChatResponse, tools: Sequence[BaseTool], allow_parallel_tool_calls: bool = False, **kwargs: Any
    ) -> ChatResponse:
        plain = cast("Any", Ollama._validate_chat_with_tools_response)  # noqa: SLF001 (the plain class's own rule)
        return cast("ChatResponse", plain(self, response, list(tools), allow_parallel_tool_calls, **kwargs))

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **_kwargs: Any
    ) -> list[ToolSelection]:
        """Return the tools that an answer calls.

        Raises:
            ValueError: it calls none, and that is an error.
        """
        plain = cast("Any", Ollama.get_tool_calls_from_response)
        return cast("list[ToolSelection]", plain(self, response, error_on_no_tool_call=error_on_no_tool_call))
