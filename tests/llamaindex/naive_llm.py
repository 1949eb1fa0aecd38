"""A router as one would first write it. Every pitfall test must fail against it, or the test proves nothing."""

from asking import FIRST, SECOND, plain, routed
from llama_index.core.base.llms.generic_utils import (
    achat_to_completion_decorator,
    astream_chat_to_completion_decorator,
    chat_to_completion_decorator,
    stream_chat_to_completion_decorator,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.utils import get_tokenizer
from llama_index.llms.ollama import Ollama
from pydantic import PrivateAttr


class NaiveRouted(FunctionCallingLLM):
    """Asks its models in turn."""

    models: list[Ollama]
    _failures: dict = PrivateAttr(default_factory=dict)

    @classmethod
    def class_name(cls):
        return "naive"

    @property
    def metadata(self):
        return min(self.models, key=lambda model: self._failures.get(model.model, 0)).metadata

    def failures(self):
        """How often each model is held to have failed."""
        return dict(self._failures)

    def _fitting(self, messages):
        size = len(get_tokenizer()(" ".join(str(message) for message in messages)))
        return [model for model in self.models if size < model.metadata.context_window] or self.models

    def _blame(self, model):
        self._failures[model.model] = self._failures.get(model.model, 0) + 1

    def _prepare_chat_with_tools(self, tools, **kwargs):
        for model in self.models:
            try:
                return model._prepare_chat_with_tools(tools, **kwargs)
            except Exception:  # noqa: BLE001 (it is naive)
                self._blame(model)
        raise RuntimeError("no model")

    def get_tool_calls_from_response(self, response, error_on_no_tool_call=True, **kwargs):
        return self.models[0].get_tool_calls_from_response(response, error_on_no_tool_call)

    @llm_chat_callback()
    def chat(self, messages, **kwargs):
        error = None
        for model in self._fitting(messages):
            try:
                return model.chat(messages, **kwargs)
            except Exception as caught:  # noqa: BLE001 (it is naive)
                self._blame(model)
                error = caught
        raise error

    @llm_chat_callback()
    async def achat(self, messages, **kwargs):
        error = None
        for model in self._fitting(messages):
            try:
                return await model.achat(messages, **kwargs)
            except Exception as caught:  # noqa: BLE001 (it is naive)
                self._blame(model)
                error = caught
        raise error

    @llm_chat_callback()
    def stream_chat(self, messages, **kwargs):
        error = None
        for model in self._fitting(messages):
            try:
                return self._watched(model, model.stream_chat(messages, **kwargs))
            except Exception as caught:  # noqa: BLE001 (it is naive)
                self._blame(model)
                error = caught
        raise error

    def _watched(self, model, chunks):
        try:
            yield from chunks
        except BaseException:
            self._blame(model)
            raise

    @llm_chat_callback()
    async def astream_chat(self, messages, **kwargs):
        async def chunks():
            error = None
            for model in self._fitting(messages):
                try:
                    async for chunk in await model.astream_chat(messages, **kwargs):
                        yield chunk
                except Exception as caught:  # noqa: BLE001 (it is naive)
                    self._blame(model)
                    error = caught
                else:
                    return
            raise error

        return chunks()

    @llm_completion_callback()
    def complete(self, prompt, formatted=False, **kwargs):
        return chat_to_completion_decorator(self.chat)(prompt, **kwargs)

    @llm_completion_callback()
    async def acomplete(self, prompt, formatted=False, **kwargs):
        return await achat_to_completion_decorator(self.achat)(prompt, **kwargs)

    @llm_completion_callback()
    def stream_complete(self, prompt, formatted=False, **kwargs):
        return stream_chat_to_completion_decorator(self.stream_chat)(prompt, **kwargs)

    @llm_completion_callback()
    async def astream_complete(self, prompt, formatted=False, **kwargs):
        return await astream_chat_to_completion_decorator(self.astream_chat)(prompt, **kwargs)


WINDOW = {"context_window": 4096}
"""Where the window is not what is tested: without one the plain class asks the server on its way."""


class Ours:
    """Makes ours over the two models."""

    @staticmethod
    def make(url, **kwargs):
        return routed(url, learn=True, config={"health": {"interval": 0}}, **kwargs)

    @staticmethod
    def failures(llm):
        return {name: record for name, record in llm.router.performance().items() if record.success_rate < 1}


class Naive:
    """Makes the naive one over the two models."""

    @staticmethod
    def make(url, timeouts=None, **kwargs):
        outer = {name: kwargs.pop(name) for name in ("callback_manager", "rate_limiter") if name in kwargs}
        limit = {} if timeouts is None else {"request_timeout": timeouts["first_token"]}
        made = [plain(url, **{"model": name, "context_window": -1, **limit, **kwargs}) for name in (FIRST, SECOND)]
        return NaiveRouted(models=made, **outer)

    @staticmethod
    def failures(llm):
        return llm.failures()
