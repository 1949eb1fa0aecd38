"""What clients may send to each endpoint, and reading it: types as in ollama v0.24.0 ``api/types.go``."""

from __future__ import annotations

from typing import Any

from routed_ollama.testing import gojson, schema
from routed_ollama.testing.duration import keep_alive
from routed_ollama.testing.engine import ChatMessage, ToolCall
from routed_ollama.testing.errors import ApiError
from routed_ollama.testing.schema import Struct, anything, flag, integer, optional_flag, options, sequence, string

_strings = sequence(string, "[]string")


def _properties(value: Any, struct: str, path: str) -> dict[str, Any]:
    return _PROPERTIES(value, struct, path)


def _alternative(value: Any, struct: str, path: str) -> dict[str, Any]:
    return _PROPERTY(value, struct, path)


_PROPERTY = Struct(
    "ToolProperty",
    {
        "anyOf": sequence(_alternative, "[]api.ToolProperty"),
        "type": schema.property_type,
        "items": anything,
        "description": string,
        "enum": sequence(anything, "[]interface {}"),
        "properties": _properties,
        "required": _strings,
    },
    own_decoder=True,
)
_PROPERTIES = schema.ordered_map(_PROPERTY)
_TOOL = Struct(
    "Tool",
    {
        "type": string,
        "items": anything,
        "function": Struct(
            "ToolFunction",
            {
                "name": string,
                "description": string,
                "parameters": Struct(
                    "ToolFunctionParameters",
                    {
                        "type": string,
                        "$defs": anything,
                        "items": anything,
                        "required": _strings,
                        "properties": _properties,
                    },
                ),
            },
        ),
    },
)
_TOOL_CALL = Struct(
    "ToolCall",
    {
        "id": string,
        "function": Struct(
            "ToolCallFunction",
            {"index": integer(), "name": string, "arguments": schema.ordered_map(None)},
            own_decoder=True,
        ),
    },
    own_decoder=True,
)
_IMAGES = sequence(schema.image, "[]api.ImageData")
_MESSAGE = Struct(
    "Alias",
    {
        "role": string,
        "content": string,
        "thinking": string,
        "images": _IMAGES,
        "tool_calls": sequence(_TOOL_CALL, "[]api.ToolCall"),
        "tool_name": string,
        "tool_call_id": string,
    },
    own_decoder=True,
)
_COMMON = {
    "model": string,
    "stream": optional_flag,
    "format": anything,
    "keep_alive": keep_alive,
    "options": options,
    "think": schema.think,
    "truncate": optional_flag,
    "shift": optional_flag,
    "_debug_render_only": flag,
    "logprobs": flag,
    "top_logprobs": integer(),
}
CHAT = Struct(
    "ChatRequest",
    {**_COMMON, "messages": sequence(_MESSAGE, "[]api.Message"), "tools": sequence(_TOOL, "api.Tools")},
)
GENERATE = Struct(
    "GenerateRequest",
    {
        **_COMMON,
        "prompt": string,
        "suffix": string,
        "system": string,
        "template": string,
        "context": sequence(integer(), "[]int"),
        "raw": flag,
        "images": _IMAGES,
        "width": integer("int32", 32),
        "height": integer("int32", 32),
        "steps": integer("int32", 32),
    },
)
SHOW = Struct(
    "ShowRequest",
    {"model": string, "system": string, "template": string, "verbose": flag, "options": options, "name": string},
)


def decode(body: bytes, shape: Struct) -> tuple[dict[str, Any], Any]:
    """Read a body: its checked fields, and the whole of it as JSON.

    Raises:
        ApiError: 400 with Go's words.
    """
    try:
        value = gojson.loads(body)
        try:
            return shape(value), value
        except schema.InexactNumberError:
            return shape(gojson.loads(body, keep_literals=True)), value
    except ValueError as error:
        raise ApiError(400, str(error)) from None


def message(fields: dict[str, Any]) -> ChatMessage:
    """A checked message as engines read it."""
    calls = fields.get("tool_calls")
    return ChatMessage(
        role=fields.get("role", "").lower(),
        content=fields.get("content", ""),
        thinking=fields.get("thinking", ""),
        images=tuple(fields.get("images", ())),
        tool_calls=tuple(map(_tool_call, calls)) if calls else (),
        tool_name=fields.get("tool_name", ""),
        tool_call_id=fields.get("tool_call_id", ""),
    )


def _tool_call(fields: dict[str, Any]) -> ToolCall:
    function = fields.get("function", {})
    return ToolCall(name=function.get("name", ""), arguments=function.get("arguments", {}), id=fields.get("id", ""))
