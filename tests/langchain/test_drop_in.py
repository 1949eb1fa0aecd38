"""What code written for the plain class relies on beyond answers: counting, its errors and handlers, copies, sums."""

import asyncio
import copy
import pickle

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import ModelError, OutputParserException
from langchain_core.messages import AIMessage, HumanMessage, trim_messages
from langchain_core.runnables import RunnableGenerator, RunnableLambda
from pydantic import BaseModel, PrivateAttr, ValidationError
from wire import FIRST, SECOND, answered_by, asked, bodies, collected, models, plain, routed, whole

from langchain_routed_ollama import AllAnswersUnfit, RoutedChatOllama
from routed_ollama import RoutedOllamaWarning
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel


class City(BaseModel):
    """A city."""

    name: str
    population: int


@pytest.fixture
def server():
    with OllamaServer(models()) as running:
        yield running


# --- counting ---------------------------------------------------------------------------------------------------------


def test_a_tokenizer_of_the_users_own_counts_as_in_the_plain_class(server):
    talk = [HumanMessage("one two three"), AIMessage("four five"), HumanMessage("six")]
    found = []
    for llm in (each(server.url, custom_get_token_ids=str.split) for each in (plain, routed)):
        kept = trim_messages(talk, max_tokens=6, token_counter=llm, strategy="last")
        found.append((llm.get_num_tokens("one two"), llm.get_num_tokens_from_messages(talk), kept))
    assert found[0] == found[1]
    assert found[1][0] == 2
    assert found[1][2] == talk[1:]


# --- thinking by the client's own name for it -------------------------------------------------------------------------


def test_thinking_that_is_asked_for_by_the_clients_name_asks_a_model_that_thinks():
    with OllamaServer([ScriptedModel(FIRST), ScriptedModel(SECOND, thinking="Well now.")]) as running:
        routed(running.url).invoke("Hello", think=True)
        assert asked(running) == [SECOND]


def test_a_model_that_goes_on_does_not_think_once_more():
    with OllamaServer(models(thinking="Well now.", reply="One two three four.")) as running:
        running.fail(FIRST, Fault.CUT, after_chunks=4)
        assert whole(routed(running.url).stream("Count", think=True)).text == "One two three four."
        assert [(body["model"], body.get("think")) for body in bodies(running)] == [(FIRST, True), (SECOND, False)]


# --- subclasses -------------------------------------------------------------------------------------------------------


class Counting(RoutedChatOllama):
    """One that counts its requests, as people do it."""

    _count: int = PrivateAttr(default=0)
    _notes: list[str] = PrivateAttr(default_factory=list)

    def invoke(self, *args, **kwargs):
        self._count += 1
        return super().invoke(*args, **kwargs)


@pytest.mark.parametrize(
    "duplicate",
    [
        copy.copy,
        copy.deepcopy,
        lambda llm: llm.model_copy(deep=True),
        lambda llm: pickle.loads(pickle.dumps(llm)),  # noqa: S301 (our own)
    ],
    ids=["copy", "deepcopy", "deep model_copy", "pickle"],
)
def test_a_copy_has_what_is_private_to_a_subclass(duplicate, server):
    llm = Counting(models=[FIRST, SECOND], model=FIRST, base_url=server.url, store="memory")
    llm.invoke("Hello")
    llm._notes.append("noted")
    made = duplicate(llm)
    made.invoke("Hello")
    assert (type(made), made._count, made._notes) == (Counting, 2, ["noted"])
    assert llm._count == 1


# --- handlers that raise ----------------------------------------------------------------------------------------------


class Guard(BaseCallbackHandler):
    """Says no at an event, and means it."""

    raise_error = True

    def __init__(self, event):
        setattr(self, event, self._refuse)

    def _refuse(self, *args, **kwargs):
        raise ConnectionError("the budget is spent")


def invoke(llm):
    return llm.invoke("Hello")


def ainvoke(llm):
    return asyncio.run(llm.ainvoke("Hello"))


def stream(llm):
    return whole(llm.stream("Hello"))


def astream(llm):
    return whole(asyncio.run(collected(llm.astream("Hello"))))


@pytest.mark.parametrize("ask", [invoke, ainvoke, stream, astream], ids=lambda way: way.__name__)
@pytest.mark.parametrize("event", ["on_chat_model_start", "on_llm_new_token", "on_llm_end"])
@pytest.mark.parametrize("place", ["its own", "of attempts"])
def test_what_a_handler_raises_is_raised_and_blames_no_model(ask, event, place, server):
    theirs = plain(server.url, callbacks=[Guard(event)])
    with pytest.raises(ConnectionError, match="budget"):
        ask(theirs)
    before = len(asked(server))
    given = {"models": [theirs, SECOND]} if place == "its own" else {"attempt_callbacks": [Guard(event)]}
    llm = routed(server.url, learn=True, **given)
    with pytest.raises(ConnectionError, match="budget") as raised:
        ask(llm)
    assert not isinstance(raised.value, ModelError)
    assert asked(server)[before:] in ([], [FIRST])
    assert all(each.success_rate == 1 for each in llm.router.performance().values())
    llm.attempt_callbacks, llm.models = None, [FIRST, SECOND]
    assert answered_by(ask(llm)) == FIRST


@pytest.mark.parametrize("ask", [invoke, ainvoke, stream, astream], ids=lambda way: way.__name__)
def test_what_a_handler_raises_of_a_failure_is_raised_as_by_the_plain_class(ask, server):
    server.fail(None, Fault.SERVER_ERROR)
    ready = plain(server.url, callbacks=[Guard("on_llm_error")])
    for llm in (ready, routed(server.url, models=[ready, SECOND])):
        with pytest.raises(ConnectionError, match="budget"):
            ask(llm)


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", ["The tower is in Paris.", '{"name": "Paris"}'])
def test_an_error_of_a_parser_knows_the_answer_as_from_the_plain_class(reply):
    said = []
    with OllamaServer(models(reply=reply)) as running:
        for llm in (plain(running.url), routed(running.url)):
            with pytest.raises(OutputParserException) as raised:
                llm.with_structured_output(City).invoke("Where is it?")
            said.append(raised.value.llm_output)
    assert said[0] == said[1] == reply


def test_of_several_answers_the_error_knows_the_last():
    with OllamaServer(models(first={"reply": "No."}, second={"reply": "Never."})) as running:
        with pytest.raises(AllAnswersUnfit) as raised:
            routed(running.url).with_structured_output(City).invoke("Where is it?")
        assert raised.value.llm_output == "Never."
        assert str(raised.value).count("For troubleshooting") == 1  # of the parser's, as in the plain class


def test_an_error_says_what_was_called_where_nothing_was_said(server):
    class Picky(BaseModel):
        """Never satisfied."""

        place: str

        def model_post_init(self, context):
            raise ValueError("not this one")

    with pytest.raises(AllAnswersUnfit, match=r"first:7b called Picky\({'place': '[^']*'}\), which is not as asked"):
        routed(server.url).with_structured_output(Picky, method="function_calling").invoke("Look at 'home'")


@pytest.mark.parametrize("name", ["client_kwargs", "async_client_kwargs", "sync_client_kwargs"])
@pytest.mark.parametrize("make", [plain, routed])
def test_clients_arguments_that_are_none_are_said_to_be_wrong(make, name, server):
    with pytest.raises(ValidationError, match=rf"{name}\s+Input should be a valid dictionary"):
        make(server.url, **{name: "timeout=5"})


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"router": "routing.json"}, "router\n  Input should be an instance of Router"),
        ({"attempt_callbacks": print}, "attempt_callbacks\n  Input should be a valid list"),
        ({"attempt_callbacks": [print]}, r"attempt_callbacks.0\n  Input should be an instance of BaseCallbackHandler"),
    ],
    ids=str,
)
def test_what_is_of_another_kind_is_said_when_it_is_made(wrong, text):
    with pytest.raises(ValidationError, match=text):
        RoutedChatOllama(models=[FIRST], **wrong)


def test_nobody_who_wants_a_stream_is_told_how_to_switch_it_off():
    with pytest.warns(RoutedOllamaWarning, match="'streaming' is ignored") as caught:
        RoutedChatOllama(models=[FIRST], streaming=True)
    assert [str(each.message) for each in caught] == ["Unknown argument 'streaming' is ignored."]


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Second:7B", "library/second:7b", "registry.ollama.ai/library/second:7b"])
@pytest.mark.parametrize("fields", [{"models": None}, {"models": [FIRST]}], ids=["among all", "beside another"])
def test_a_preferred_model_is_found_however_its_name_is_written(name, fields, server):
    assert plain(server.url, model=name).invoke("Hello").text == "You asked: Hello"
    answer = routed(server.url, model=name, **fields).invoke("Hello")
    assert answered_by(answer).lower().endswith(SECOND)


# --- sums -------------------------------------------------------------------------------------------------------------


@pytest.mark.xfail(strict=True, raises=TypeError, reason="LangChain cannot add the route's numbers with fractions up")
def test_the_chunks_of_two_answers_can_be_added_up_as_those_of_the_plain_class(server):
    texts = []
    for llm in (plain(server.url), routed(server.url)):

        def both(prompts, llm=llm):
            for prompt in prompts:
                yield from llm.stream(prompt)
                yield from llm.stream(prompt)

        chain = RunnableGenerator(both) | RunnableLambda(lambda message: message.text)
        texts.append(chain.invoke("Hello"))
    assert texts[0] == texts[1] == "You asked: HelloYou asked: Hello"
