"""A router as one would first write it. Every pitfall test must fail against it, or the test proves nothing."""

import threading
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.runnables import RunnableLambda
from langchain_ollama import ChatOllama
from pydantic import PrivateAttr


class NaiveRouted(BaseChatModel):
    """Asks its models in turn."""

    models: list[ChatOllama]
    _failures: dict = PrivateAttr(default_factory=dict)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    @property
    def _llm_type(self):
        return "naive"

    def _blame(self, model):
        self._failures[model.model] = self._failures.get(model.model, 0) + 1

    def failures(self):
        """How often each model is held to have failed."""
        return dict(self._failures)

    def bind_tools(self, tools, **kwargs):
        if not kwargs.pop("own", False):
            return self.models[0].bind_tools(tools, **kwargs)
        return RunnableLambda(self.invoke)

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        error = None
        for model in self.models:
            try:
                return model._generate(messages, stop, run_manager, **kwargs)
            except Exception as caught:  # noqa: BLE001 (it is naive)
                self._blame(model)
                error = caught
        raise error

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        error = None
        for model in self.models:
            try:
                for chunk in model._stream(messages, stop, **kwargs):
                    chunk.message.response_metadata["routed_to"] = model.model
                    yield chunk
            except BaseException as caught:
                self._blame(model)
                error = caught
                if isinstance(caught, GeneratorExit):
                    raise
            else:
                return
        raise error

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        error = None
        for model in self.models:
            try:
                return await model._agenerate(messages, stop, run_manager, **kwargs)
            except Exception as caught:  # noqa: BLE001 (it is naive)
                self._blame(model)
                error = caught
        raise error
