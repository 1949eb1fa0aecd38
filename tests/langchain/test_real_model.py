"""Real answers: a real model through llama.cpp, behind the server that speaks Ollama's protocol."""

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from langchain_routed_ollama import RoutedChatOllama
from routed_ollama.testing import Fault, OllamaServer

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def server():
    llamacpp = pytest.importorskip("routed_ollama.testing.llamacpp")
    try:
        models = llamacpp.find_demo_models()
    except ImportError as error:
        pytest.skip(str(error))
    with OllamaServer(models=models, max_loaded_models=1) as running:
        yield running


@pytest.fixture
def llm(server):
    return RoutedChatOllama(
        model="smollm2:135m", base_url=server.url, store="memory", temperature=0, seed=1, num_predict=24, num_thread=1
    )


def test_a_chain_gets_a_real_answer(llm):
    chain = ChatPromptTemplate.from_messages([("human", "What is the capital of {country}?")]) | llm | StrOutputParser()
    assert "Paris" in chain.invoke({"country": "France"})


def test_a_stream_is_real_tokens_and_counts_them(llm):
    chunks = list(llm.stream("What is the capital of France?"))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert "Paris" in whole.content
    assert len([chunk for chunk in chunks if chunk.content]) > 3
    assert whole.usage_metadata["output_tokens"] > 3
    assert whole.response_metadata["routing"]["attempts"][0]["load_seconds"] > 0


def test_a_stream_that_is_cut_is_gone_on_with(server, llm):
    whole = llm.invoke("What is the capital of France?").content
    with server.fail("smollm2:135m", Fault.CUT, after_chunks=3, times=1):
        chunks = list(llm.stream("What is the capital of France?"))
    text = "".join(chunk.content for chunk in chunks)
    routing = next(c.response_metadata["routing"] for c in chunks if "routing" in c.response_metadata)
    assert [a["outcome"] for a in routing["attempts"]] == ["failed", "ok"]
    handed_out = text[: routing["continued_at"]]
    assert whole.startswith(handed_out)
    assert len(text) > len(handed_out)
