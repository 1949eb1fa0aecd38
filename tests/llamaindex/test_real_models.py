"""A query engine over a real model: its answers, its tokens, and its going on with what another left unfinished."""

import pytest
from asking import FIRST, bodies
from llama_index.core import Document, VectorStoreIndex

from llamaindex_routed_ollama import RoutedOllama
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel

pytestmark = pytest.mark.real

REAL = "smollm2:135m"
FACTS = [Document(text="Paris is the capital of France."), Document(text="The Seine flows through Paris.")]
QUESTION = "What is the capital of France?"
BEGUN = "The capital of France"
"""What the scripted model says before it breaks off."""


@pytest.fixture(scope="module")
def server():
    llamacpp = pytest.importorskip("routed_ollama.testing.llamacpp")
    try:
        real = llamacpp.find_demo_models(num_thread=1)[0]
    except ImportError as error:
        pytest.skip(str(error))
    with OllamaServer([ScriptedModel(FIRST, reply=f"{BEGUN} is known to all.")], max_loaded_models=2) as running:
        running.add_model(real)
        yield running


def over(server, *names):
    return RoutedOllama(
        models=list(names),
        model=names[0],
        base_url=server.url,
        store="memory",
        temperature=0,
        context_window=1024,
        additional_kwargs={"seed": 1, "num_predict": 24, "num_thread": 1},
    )


@pytest.fixture
def said(server):
    """Bodies of this test's requests for an answer, in order."""
    before = len(bodies(server))
    return lambda: bodies(server)[before:]


def engine(llm, **kwargs):
    return VectorStoreIndex.from_documents(FACTS).as_query_engine(llm=llm, **kwargs)


def test_a_query_engine_gets_a_real_answer(server, said):
    response = engine(over(server, REAL)).query(QUESTION)
    assert "Paris" in response.response
    assert {node.text for node in response.source_nodes} == {fact.text for fact in FACTS}
    assert [body["model"] for body in said()] == [REAL]


def test_a_stream_is_real_tokens_and_their_speed_is_learned(server):
    llm = over(server, REAL)
    response = engine(llm, streaming=True).query(QUESTION)
    pieces = [piece for piece in response.response_gen if piece]
    assert "Paris" in "".join(pieces)
    assert len(pieces) > 3
    (learned,) = llm.router.performance().values()
    assert learned.total_requests == 1
    assert learned.tokens_per_second > 0


@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.EMPTY, Fault.CLOSE], ids=str)
def test_a_real_model_answers_where_the_first_cannot(server, said, fault):
    with server.fail(FIRST, fault):
        response = engine(over(server, FIRST, REAL)).query(QUESTION)
    assert "Paris" in response.response
    assert [body["model"] for body in said()] == [FIRST, REAL]


@pytest.mark.parametrize("fault", [Fault.CLOSE, Fault.END_WITHOUT_DONE], ids=str)
def test_a_real_model_goes_on_with_what_the_first_had_begun(server, said, fault):
    with server.fail(FIRST, fault, after_chunks=4):
        response = engine(over(server, FIRST, REAL), streaming=True).query(QUESTION)
        text = "".join(response.response_gen)
    assert text.startswith(BEGUN)
    assert "Paris" in text.removeprefix(BEGUN)
    assert [body["model"] for body in said()] == [FIRST, REAL]
    assert said()[-1]["messages"][-1] == {"role": "assistant", "content": BEGUN}
