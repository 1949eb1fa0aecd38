"""Structured output in every mode and on every path, as from the plain class; with and without a dead model first."""

import json
from collections.abc import Callable
from importlib.util import find_spec

import pytest
from asking import (
    AFTER_LOAD,
    FIRST,
    KINDS,
    METHODS,
    PLAIN,
    QUESTION,
    SECOND,
    asked,
    bodies,
    collect,
    models,
    plain,
    routed,
    subject_of,
)
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate
from llama_index.core.types import PydanticProgramMode
from pydantic import BaseModel, ConfigDict, Field, RootModel, field_validator

from routed_ollama import AllModelsFailedError, InvalidAnswerError, RoutedOllamaError
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel, ToolCall

PREDICTS = ["structured_predict", "astructured_predict", "stream_structured_predict", "astream_structured_predict"]
GOOD = {"title": "Rain", "year": 1999}
kinds = pytest.mark.parametrize("kind", KINDS)
ours_only = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != PLAIN])
predicts = pytest.mark.parametrize("method", PREDICTS)
whole_ones = pytest.mark.parametrize("method", PREDICTS[:2])
chats = pytest.mark.parametrize("method", METHODS)
PROMPT = PromptTemplate("Name a song about {topic}.")


class Singer(BaseModel):
    """Who sings."""

    name: str = Field(description="The singer's name")


class Song(BaseModel):
    """A song."""

    title: str
    year: int
    singers: list[Singer] = Field(default_factory=list)


class Titles(RootModel[list[str]]):
    """Titles alone."""


class Title(RootModel[str]):
    """One title alone."""


def reply(request):
    """What each mode needs: JSON, a tool call, or JSON among words."""
    if request.format:
        return json.dumps(GOOD)
    if request.tools:
        return [ToolCall(name="Song", arguments=GOOD)]
    return f"Here it is:\n```json\n{json.dumps(GOOD)}\n```"


def predict(llm, method, output_cls=Song, prompt=PROMPT, **arguments):
    """The last of what a method gives."""
    return collect(llm, method, output_cls, prompt, **{"topic": "rain", **arguments})[-1]


# --- the schema, as Ollama takes it -----------------------------------------------------------------------------------


@kinds
@predicts
def test_an_object_comes_by_the_schema_and_by_no_tool(kind, method):
    with subject_of(kind, reply=reply) as subject:
        song = predict(subject.llm(temperature=0.1), method, llm_kwargs={"think": None})
        sent = subject.wire()
    assert (type(song), song) == (Song, Song(**GOOD))
    assert sent.pop("messages") == [{"role": "user", "content": "Name a song about rain."}]
    options = {"num_ctx": 4096, "temperature": 0.1}
    assert sent == {"format": Song.model_json_schema(), "tools": [], "options": options}


@kinds
@pytest.mark.parametrize("method", PREDICTS[2:])
def test_an_object_fills_up_as_it_comes(kind, method):
    pieces = ['{"title": "Ra', 'in"', ', "year": 1999', ', "singers": [{"name": "An', 'n"}', "]}"]
    with subject_of(kind, reply=pieces) as subject:
        parts = collect(subject.llm(), method, Song, PROMPT, topic="rain")
    titles = [part.title for part in parts]
    assert titles[:2] == ["Ra", "Rain"]
    assert set(titles[1:]) == {"Rain"}
    assert parts[-1] == Song(**GOOD, singers=[Singer(name="Ann")])
    assert not isinstance(parts[0], Song)  # it is not one yet


@kinds
@predicts
@pytest.mark.parametrize("output_cls", [Titles, Title], ids=["an array", "a bare text"])
def test_what_is_no_object_is_given_as_by_the_plain_class(kind, method, output_cls):
    said = '["Rain", "Sun"]' if output_cls is Titles else '"Rain"'
    with subject_of(kind, reply=said) as subject:
        theirs = predict(plain(subject.server.url, model=SECOND), method, output_cls)
        before = len(asked(subject.server))
        found = predict(subject.llm(), method, output_cls)
        assert found.model_dump() == theirs.model_dump()  # streamed, LlamaIndex makes nothing of either
        assert asked(subject.server)[before:] == [FIRST] * (kind == AFTER_LOAD) + [SECOND]
    if "stream" not in method:
        assert found == output_cls(json.loads(said))


@kinds
@predicts
def test_a_conversation_with_an_image_can_be_asked_about(kind, method):
    pixel = ImageBlock(image=b"\x89PNG\r\n\x1a\n and so on")
    prompt = ChatPromptTemplate(
        message_templates=[
            ChatMessage(role="system", content="You know songs."),
            ChatMessage(blocks=[TextBlock(text="Which is it, about {topic}?"), pixel]),
        ]
    )
    with subject_of(kind, reply=reply, capabilities=("completion", "vision")) as subject:
        assert predict(subject.llm(), method, prompt=prompt) == Song(**GOOD)
        system, user = subject.wire()["messages"]
    assert system == {"role": "system", "content": "You know songs."}
    assert (user["content"], len(user["images"])) == ("Which is it, about rain?", 1)


@kinds
@predicts
def test_thoughts_before_an_object_do_no_harm(kind, method):
    with subject_of(kind, reply=reply, thinking="A {song}, then.") as subject:
        assert predict(subject.llm(thinking=True), method) == Song(**GOOD)
        assert subject.wire()["think"] is True


@kinds
@predicts
def test_the_callers_arguments_stay_theirs(kind, method):
    arguments = {"think": None}
    with subject_of(kind, reply=reply) as subject:
        predict(subject.llm(), method, llm_kwargs=arguments)
    # Known of the plain class: it adds the schema to its caller's own mapping.
    assert set(arguments) == ({"think", "format"} if kind == PLAIN else {"think"})


# --- an LLM that gives objects ----------------------------------------------------------------------------------------


@kinds
@chats
def test_a_structured_llm_gives_objects_on_every_path(kind, method):
    with subject_of(kind, reply=reply) as subject:
        parts = collect(subject.llm().as_structured_llm(Song), method, QUESTION)
        assert subject.wire()["format"] == Song.model_json_schema()
    assert (parts[-1].raw, json.loads(parts[-1].message.content)) == (Song(**GOOD), Song(**GOOD).model_dump())
    assert len(parts) == 1 or "stream" in method


@kinds
@pytest.mark.parametrize("method", ["complete", "acomplete"])
def test_a_structured_llm_completes(kind, method):
    with subject_of(kind, reply=reply) as subject:
        assert json.loads(collect(subject.llm().as_structured_llm(Song), method, "A song?")[-1].text)["year"] == 1999


@kinds
def test_a_structured_llm_is_sized_by_the_one_inside(kind):
    with subject_of(kind) as subject:
        llm = subject.llm()
        assert llm.as_structured_llm(Song).metadata == llm.metadata


# --- the other modes --------------------------------------------------------------------------------------------------


@kinds
@predicts
@pytest.mark.parametrize("mode", [PydanticProgramMode.FUNCTION, PydanticProgramMode.LLM])
def test_by_a_tool_or_by_words_where_that_is_wanted(kind, method, mode):
    with subject_of(kind, reply=reply) as subject:
        song = predict(subject.llm(pydantic_program_mode=mode), method)
        sent = subject.wire()
    assert "format" not in sent
    by_tool = mode is PydanticProgramMode.FUNCTION
    assert [tool["function"]["name"] for tool in sent["tools"]] == (["Song"] if by_tool else [])
    assert ("JSON" in sent["messages"][-1]["content"]) is not by_tool
    if "stream" not in method:
        assert song == Song(**GOOD)
    else:  # LlamaIndex sees neither tool calls that are blocks nor JSON among words, and gives an empty object
        assert song.model_dump() == {"title": None, "year": None, "singers": None}


@kinds
@predicts
def test_words_that_are_json_alone_stream_as_objects(kind, method):
    with subject_of(kind, reply=json.dumps(GOOD)) as subject:
        assert predict(subject.llm(pydantic_program_mode=PydanticProgramMode.LLM), method) == Song(**GOOD)


@ours_only
@predicts
@pytest.mark.parametrize("mode", ["openai", "guidance", "lm-format-enforcer"])
@pytest.mark.skipif(find_spec("llama_index.program") is not None, reason="a package for these modes is installed")
def test_modes_without_their_package_are_the_same_error(kind, method, mode):
    with subject_of(kind) as subject:
        with pytest.raises(Exception) as theirs:  # noqa: PT011 (whatever the plain class raises)
            predict(plain(subject.server.url, pydantic_program_mode=mode), method)
        with pytest.raises(type(theirs.value)) as ours:
            predict(subject.llm(pydantic_program_mode=mode), method)
        assert (type(ours.value), str(ours.value)) == (type(theirs.value), str(theirs.value))
        assert not asked(subject.server)


@whole_ones
@pytest.mark.parametrize("mode", [PydanticProgramMode.FUNCTION, PydanticProgramMode.LLM])
@pytest.mark.parametrize(
    "unfit",
    ["I would rather talk.", '{"title": "Rain"}', [ToolCall(name="Song", arguments={"title": "Rain"})]],
    ids=["words", "a field short", "an argument short"],
)
def test_in_those_modes_too_the_next_model_is_asked_after_an_unfit_answer(method, mode, unfit):
    with OllamaServer(models(first={"reply": unfit}, second={"reply": reply})) as server:
        assert predict(routed(server.url, pydantic_program_mode=mode), method) == Song(**GOOD)
        assert asked(server) == [FIRST, SECOND]
        server.add_model(ScriptedModel(SECOND, reply=unfit))
        server.unload(SECOND)  # what is in memory is still the other
        with pytest.raises(AllModelsFailedError, match="not as asked"):
            predict(routed(server.url, pydantic_program_mode=mode), method)


# --- answers that are not as asked ------------------------------------------------------------------------------------


@predicts
@pytest.mark.parametrize(
    "unfit",
    ["I would rather talk.", '{"title": "Rain"}', '{"title": "Rain", "year": "long ago"}', "null", "", " \n"],
    ids=["words", "a field short", "a wrong type", "null", "nothing", "white space"],
)
def test_after_an_unfit_answer_the_next_model_is_asked(method, unfit):
    with OllamaServer(models(first={"reply": [unfit]}, second={"reply": reply})) as server:
        assert predict(routed(server.url), method) == Song(**GOOD)
        assert asked(server) == [FIRST, SECOND]


@whole_ones
def test_a_model_that_gives_no_objects_is_remembered_for_it(method):
    with OllamaServer(models(first={"reply": "no"}, second={"reply": reply})) as server:
        llm = routed(server.url, learn=True)
        for _ in range(2):
            predict(llm, method)
        history = llm.router.performance()
    assert (history[FIRST].success_rate, history[SECOND].success_rate) == (0, 1)


@whole_ones
def test_when_nobody_gives_an_object_each_answer_is_shown(method):
    answers = models(first={"reply": "I would rather talk."}, second={"reply": '{"title": 5} ' + "x" * 999})
    with OllamaServer(answers) as server:
        with pytest.raises(AllModelsFailedError) as caught:
            predict(routed(server.url), method)
        assert "I would rather talk." in str(caught.value)
        assert '{"title": 5}' in str(caught.value)
        assert "x" * 400 not in str(caught.value)
        with pytest.raises(InvalidAnswerError, match="rather talk") as alone:
            predict(routed(server.url, models=[FIRST]), method)
        assert isinstance(alone.value, RoutedOllamaError)


@whole_ones
def test_an_object_that_breaks_off_is_asked_for_anew(method):
    with OllamaServer(models(reply=reply)) as server:
        server.fail(FIRST, Fault.CUT, after_chunks=2)
        assert predict(routed(server.url), method) == Song(**GOOD)


@pytest.mark.parametrize("method", PREDICTS[2:])
def test_an_object_that_breaks_off_in_a_stream_is_followed_by_a_fresh_one_with_nothing_of_the_first(method):
    more = {"title": "Sun", "year": 1950, "singers": [{"name": "Ann"}, {"name": "Bob"}]}
    broken = [json.dumps(more)[:-1], "}"]
    with OllamaServer(models(first={"reply": broken}, second={"reply": reply})) as server:
        server.fail(FIRST, Fault.CRASH, after_chunks=1)
        parts = collect(routed(server.url), method, Song, PROMPT, topic="rain")
        assert asked(server) == [FIRST, SECOND]
    assert (parts[0].title, parts[-1]) == ("Sun", Song(**GOOD))


@pytest.mark.parametrize("method", PREDICTS[2:])
def test_an_object_that_breaks_off_is_raised_where_that_is_wanted(method):
    with OllamaServer(models(reply=reply)) as server:
        server.fail(FIRST, Fault.CRASH, after_chunks=2)
        with pytest.raises(Exception, match="error was encountered while running"):
            predict(routed(server.url, mid_stream="raise"), method)
        assert asked(server) == [FIRST]


# --- the caller's own mistakes ----------------------------------------------------------------------------------------


class Unspeakable(BaseModel):
    """Nothing that a schema can say."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    call: Callable[[], int]


class Picky(Song):
    """Has a validator that is broken."""

    @field_validator("year")
    @classmethod
    def _broken(cls, value):
        raise RuntimeError(f"my own mistake with {value}")


BEFORE_ANYTHING_IS_SENT = {
    "a schema that cannot be": {"output_cls": Unspeakable},
    "a class that is none": {"output_cls": dict},
    "a prompt that is none": {"prompt": "Name a song."},
    "arguments that are none": {"llm_kwargs": {"think": object()}},
    "tools that are none": {"llm_kwargs": {"tools": 5}},
}


@ours_only
@predicts
@pytest.mark.parametrize("name", BEFORE_ANYTHING_IS_SENT)
def test_a_callers_mistake_is_raised_as_it_is_and_blames_no_model(kind, method, name):
    wrong = BEFORE_ANYTHING_IS_SENT[name]
    with subject_of(kind, reply=reply, thinking="Hm.") as subject:
        with pytest.raises(Exception) as theirs:  # noqa: PT011 (whatever the plain class raises)
            predict(plain(subject.server.url, model=SECOND), method, **wrong)
        llm = subject.llm(learn=True)
        with pytest.raises(type(theirs.value)) as ours:
            predict(llm, method, **wrong)
        assert (type(ours.value), str(ours.value)) == (type(theirs.value), str(theirs.value))
        assert not asked(subject.server)
        assert llm.router.performance() == {}


@kinds
@whole_ones
def test_a_validator_that_breaks_is_the_callers_own(kind, method):
    with subject_of(kind, reply=reply) as subject:
        llm = subject.llm()
        with pytest.raises(RuntimeError, match="my own mistake with 1999"):
            predict(llm, method, Picky)
        assert asked(subject.server).count(SECOND) == 1
        if kind != PLAIN:
            assert llm.router.health_check_all_models()[SECOND] == "healthy"


@whole_ones
def test_a_validator_that_breaks_counts_against_no_model(method):
    with OllamaServer(models(reply=reply)) as server:
        llm = routed(server.url, learn=True)
        with pytest.raises(RuntimeError, match="my own mistake"):
            predict(llm, method, Picky)
        assert asked(server) == [FIRST]
        assert llm.router.performance()[FIRST].success_rate == 1


@kinds
@predicts
def test_an_option_of_a_wrong_type_is_the_callers_own(kind, method):
    with subject_of(kind, reply=reply) as subject:
        with pytest.raises(Exception, match=r"option .*top_k.* must be of type integer"):
            predict(subject.llm(additional_kwargs={"top_k": "many"}), method)
        assert len(bodies(subject.server)) == 1
