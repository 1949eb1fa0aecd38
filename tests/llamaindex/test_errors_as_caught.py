"""What code around the plain class catches is caught of ours, too: by the same names, and engines go on."""

import asyncio
import pickle

import pytest
from asking import FIRST, PATHS, PROMPT, SECOND, Song, asked, collect, models, plain, routed
from llama_index.core import Document, SummaryIndex
from ollama import ResponseError

from llamaindex_routed_ollama import RoutedOllama
from routed_ollama import AllModelsFailedError, InvalidAnswerError, ModelNotInstalledError, RoutedOllamaError
from routed_ollama.testing import Fault, OllamaServer

MISSING = "missing:7b"
PREDICTS = ["structured_predict", "astructured_predict", "stream_structured_predict", "astream_structured_predict"]


def over(kind, server, **kwargs):
    """The plain class over the first model; or ours, over that one alone or over both."""
    if kind == "plain":
        return plain(server.url, **kwargs)
    return routed(server.url, models=[FIRST] if kind == "one" else [FIRST, SECOND], **kwargs)


@pytest.mark.parametrize("kind", ["plain", "routed"])
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
def test_what_is_not_installed_is_caught_by_the_clients_error_and_its_status(kind, path):
    with OllamaServer(models()) as server:
        llm = plain(server.url, model=MISSING) if kind == "plain" else routed(server.url, models=[MISSING], model=None)
        with pytest.raises(ResponseError) as caught:
            path(llm)
    assert caught.value.status_code == 404
    assert f"model '{MISSING}' not found" in caught.value.error


def test_what_is_not_installed_says_what_to_do_and_nothing_of_a_status():
    with OllamaServer(models()) as server, pytest.raises(ModelNotInstalledError) as caught:
        routed(server.url, models=[MISSING], model=None).complete("Hello")
    assert str(caught.value).endswith(f"Install it with `ollama pull {MISSING}`.")
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 (our own)
    assert (str(again), again.status_code) == (str(caught.value), 404)


@pytest.mark.parametrize("kind", ["plain", "one", "both"])
@pytest.mark.parametrize("method", PREDICTS[:2])
def test_an_answer_that_is_no_object_is_a_value_error(kind, method):
    with OllamaServer(models(reply="no")) as server, pytest.raises(ValueError, match="1 validation error for Song"):
        collect(over(kind, server), method, Song, PROMPT, topic="rain")


@pytest.mark.parametrize("method", PREDICTS)
@pytest.mark.parametrize(("kind", "known_as"), [("one", InvalidAnswerError), ("both", AllModelsFailedError)])
def test_it_is_an_error_of_the_routers_besides(kind, known_as, method):
    with OllamaServer(models(reply="no")) as server, pytest.raises(known_as) as caught:
        collect(over(kind, server), method, Song, PROMPT, topic="rain")
    assert isinstance(caught.value, RoutedOllamaError)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value.__cause__, InvalidAnswerError)
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 (our own)
    assert (type(again), str(again)) == (type(caught.value), str(caught.value))


@pytest.mark.parametrize("mode", ["llm", "function"])
@pytest.mark.parametrize("kind", ["plain", "one", "both"])
def test_so_it_is_where_words_or_tools_are_to_give_the_object(kind, mode):
    with OllamaServer(models(reply="no")) as server, pytest.raises(ValueError, match=r"json string|tool call"):
        over(kind, server, pydantic_program_mode=mode).structured_predict(Song, PROMPT, topic="rain")


@pytest.mark.parametrize("kind", ["plain", "one", "both"])
@pytest.mark.parametrize("asking", ["query", "aquery"])
def test_an_engine_goes_on_after_a_text_of_which_no_object_came(kind, asking):
    def reply(request):
        return '{"title": "Rain", "year": 1966}' if "of rain" in request.messages[-1].content else "no"

    texts = [Document(text="Nothing of it."), Document(text="A song of rain.")]
    with OllamaServer(models(reply=reply)) as server:
        engine = SummaryIndex.from_documents(texts).as_query_engine(
            llm=over(kind, server), output_cls=Song, response_mode="refine"
        )
        found = engine.query("Which?") if asking == "query" else asyncio.run(engine.aquery("Which?"))
    assert found.response == Song(title="Rain", year=1966)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
def test_where_no_answer_was_unfit_it_is_no_value_error(path):
    with OllamaServer(models()) as server:
        server.fail(FIRST, Fault.LOAD_ERROR)
        server.fail(SECOND, Fault.LOAD_ERROR)
        with pytest.raises(AllModelsFailedError) as caught:
            path(RoutedOllama(FIRST, models=[FIRST, SECOND], base_url=server.url, store="memory"))
        assert set(asked(server)) == {FIRST, SECOND}
    assert not isinstance(caught.value, ValueError)
