"""LangChain's own unit suite."""

from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_routed_ollama import RoutedChatOllama


class TestRoutedChatOllamaUnit(ChatModelUnitTests):
    @property
    def chat_model_class(self):
        return RoutedChatOllama

    @property
    def chat_model_params(self):
        return {"model": "llama3.1:8b", "store": "memory"}
