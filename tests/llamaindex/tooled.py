"""Asking with a tool, on every path that takes one."""

from asking import collect
from llama_index.core.tools import FunctionTool

PRODUCT = "What is multiply of 6 and 7?"


def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


TOOL = FunctionTool.from_defaults(fn=multiply)


def chat_with_tools(llm):
    return llm.chat_with_tools([TOOL], PRODUCT)


def achat_with_tools(llm):
    return collect(llm, "achat_with_tools", [TOOL], PRODUCT)[-1]


def stream_chat_with_tools(llm):
    return list(llm.stream_chat_with_tools([TOOL], PRODUCT))[-1]


def astream_chat_with_tools(llm):
    return collect(llm, "astream_chat_with_tools", [TOOL], PRODUCT)[-1]


def predict_and_call(llm):
    return llm.predict_and_call([TOOL], PRODUCT)


def apredict_and_call(llm):
    return collect(llm, "apredict_and_call", [TOOL], PRODUCT)[-1]


CHATS_WITH_TOOLS = [chat_with_tools, achat_with_tools, stream_chat_with_tools, astream_chat_with_tools]
WITH_TOOLS = [*CHATS_WITH_TOOLS, predict_and_call, apredict_and_call]
