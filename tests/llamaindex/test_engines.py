"""In front of query engines, chat engines, extractors and evaluators: all is well, or the first model fails."""

import asyncio
import json

import pytest
from asking import FIRST, PROMPT, STRUCTURED, Song, asked, models, routed
from faulty import FAULTS, LATE, under
from llama_index.core import Document, Settings, SummaryIndex, VectorStoreIndex
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.evaluation import (
    CorrectnessEvaluator,
    FaithfulnessEvaluator,
    GuidelineEvaluator,
    PairwiseComparisonEvaluator,
    RelevancyEvaluator,
)
from llama_index.core.extractors import QuestionsAnsweredExtractor, SummaryExtractor, TitleExtractor
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.query_engine import RouterQueryEngine, SubQuestionQueryEngine
from llama_index.core.question_gen import LLMQuestionGenerator
from llama_index.core.schema import TextNode
from llama_index.core.selectors import LLMMultiSelector, LLMSingleSelector
from llama_index.core.tools import QueryEngineTool

from routed_ollama.testing import OllamaServer

FACTS = [Document(text=f"Fact {number}: the answer is {number}.") for number in range(3)]
QUESTION = "What is the answer?"
ANSWER = "The answer is 42, as all of them say."
SONG = {"title": "Singing in the Rain", "year": 1952}

# By what only its prompt says: what the model answers to it.
PARTS = {
    "relevant sub-questions": '```json\n{"items": [{"sub_question": "What is fact 1?", "tool_name": "facts"}, '
    '{"sub_question": "And what do they come to?", "tool_name": "summary"}]}\n```',
    "(no more than": '[{"choice": 2, "reason": "It sums up."}, {"choice": 1, "reason": "It knows facts."}]',
    "the choice that is most relevant": '[{"choice": 2, "reason": "It sums up."}]',
    "standalone question": "What is the answer to everything?",
    "Give a title": "The Answer, or so",
    "comprehensive title": "The Answer, and Where It Comes From",
    "Summarize the key topics": "It is about the answer, which is 42.",
    "generate 1 questions": "1. What is the answer, and who says so?",
    "single score": "4.5\nIt says what it should, and why.",
    "constructive criticism": '{"passing": true, "feedback": "It says the number."}',
    "[[A]]": "The first is exact. [[A]]",
    "YES": "YES, it says so in so many words.",
}


def reply(request):
    """Enough of a mind for selectors, question generators, extractors, evaluators and schemas."""
    if request.format:
        return list(json.dumps(SONG))
    prompt = " ".join(message.content for message in request.messages)
    return next((answer for said, answer in PARTS.items() if said in prompt), ANSWER)


every_fault = pytest.mark.parametrize("fault", FAULTS)


@pytest.fixture
def llm(fault):
    with under(fault, reply) as (model, _server):
        yield model


@pytest.fixture
def index():
    return VectorStoreIndex.from_documents(FACTS)


def query(engine):
    response = engine.query(QUESTION)
    return response.response, response.source_nodes


def aquery(engine):
    response = asyncio.run(engine.aquery(QUESTION))
    return response.response, response.source_nodes


def stream(engine):
    response = engine.query(QUESTION)
    return "".join(response.response_gen), response.source_nodes


def astream(engine):
    async def collect():
        response = await engine.aquery(QUESTION)
        return "".join([text async for text in response.async_response_gen()]), response.source_nodes

    return asyncio.run(collect())


WHOLE, STREAMED = [query, aquery], [stream, astream]
named = {"ids": lambda each: each.__name__}

# --- query engines ----------------------------------------------------------------------------------------------------

JOINED = f"Response 1: {ANSWER}"
MODES = {
    "refine": ANSWER,
    "compact": ANSWER,
    "tree_summarize": ANSWER,
    "simple_summarize": ANSWER,
    "generation": ANSWER,
    "accumulate": f"{JOINED}\n{'-' * 21}\nResponse 2: {ANSWER}",
    "compact_accumulate": JOINED,
}


@every_fault
@pytest.mark.parametrize("mode", MODES)
def test_a_query_engine_answers_in_every_mode(llm, index, mode):
    for way in WHOLE:
        text, sources = way(index.as_query_engine(response_mode=mode))
        assert text == MODES[mode]
        assert len(sources) == 2
    text, _ = aquery(index.as_query_engine(response_mode=mode, use_async=True))
    assert text == MODES[mode]


@every_fault
@pytest.mark.parametrize("mode", ["refine", "compact", "tree_summarize", "simple_summarize", "generation"])
def test_a_query_engine_streams_in_every_mode_that_can(llm, index, mode):
    for way in STREAMED:
        text, sources = way(index.as_query_engine(response_mode=mode, streaming=True))
        assert text == ANSWER
        assert len(sources) == 2


@every_fault
@pytest.mark.parametrize("mode", ["refine", "compact", "tree_summarize"])
def test_a_query_engine_answers_with_an_object(llm, index, mode):
    for way in WHOLE:
        found, sources = way(index.as_query_engine(response_mode=mode, output_cls=Song))
        assert found == Song(**SONG)
        assert len(sources) == 2


@every_fault
def test_a_structured_llm_in_a_query_engine_gives_the_object(llm, index):
    for way in WHOLE:
        assert way(index.as_query_engine(llm=llm.as_structured_llm(Song)))[0] == Song(**SONG)


@every_fault
@pytest.mark.parametrize("way", STRUCTURED, **named)
def test_an_object_is_given_whole_also_when_its_stream_breaks_in_the_middle(llm, way):
    """Each object that is streamed stands for those before it, so a fresh one may follow."""
    assert way(llm) == Song(**SONG)


@every_fault
def test_objects_of_a_model_that_broke_off_do_not_outlast_it(fault):
    """The first had filled in more when it broke off than the next ever says."""

    def reply(request):
        return list('{"title": "Singing in the Rain", "year": 1952}' if request.model == FIRST else '{"title":"A"}')

    class Titled(Song):
        year: int | None = None

    with under(fault, reply, after_chunks=LATE) as (llm, _server):
        last = list(llm.stream_structured_predict(Titled, PROMPT, topic="rain"))[-1]
    assert last == (Titled(**SONG) if fault == "none" else Titled(title="A"))


# --- chat engines -----------------------------------------------------------------------------------------------------


@every_fault
@pytest.mark.parametrize("mode", ["simple", "context", "condense_question", "condense_plus_context"])
def test_chat_engines_answer_turn_after_turn(llm, index, mode):
    engine = SimpleChatEngine.from_defaults() if mode == "simple" else index.as_chat_engine(chat_mode=mode)

    async def streamed():
        response = await engine.astream_chat("And at last?")
        return "".join([text async for text in response.async_response_gen()])

    first = engine.chat(QUESTION)
    assert first.response == ANSWER
    assert len(first.source_nodes) == (0 if mode == "simple" else 2)
    assert "".join(engine.stream_chat("And again?").response_gen) == ANSWER
    assert asyncio.run(engine.achat("Once more?")).response == ANSWER
    assert asyncio.run(streamed()) == ANSWER
    assert [message.content for message in engine.chat_history][1::2] == [ANSWER] * 4


# --- engines of engines -----------------------------------------------------------------------------------------------


@pytest.fixture
def tools(llm, index):
    facts, summary = index.as_query_engine(), SummaryIndex.from_documents(FACTS).as_query_engine()
    return [
        QueryEngineTool.from_defaults(facts, name="facts", description="Knows facts."),
        QueryEngineTool.from_defaults(summary, name="summary", description="Sums up."),
    ]


@every_fault
@pytest.mark.parametrize(("selector", "nodes"), [(LLMSingleSelector, 3), (LLMMultiSelector, 5)], ids=["one", "many"])
def test_a_selector_chooses_among_engines(llm, tools, selector, nodes):
    engine = RouterQueryEngine(selector=selector.from_defaults(), query_engine_tools=tools)
    for way in WHOLE:
        text, sources = way(engine)
        assert text == ANSWER
        assert len(sources) == nodes


@every_fault
@pytest.mark.parametrize("use_async", [True, False])
def test_a_question_is_answered_by_sub_questions(llm, tools, use_async):
    # Its default generator belongs to OpenAI's package.
    engine = SubQuestionQueryEngine.from_defaults(
        tools, question_gen=LLMQuestionGenerator.from_defaults(), use_async=use_async, verbose=False
    )
    text, sources = aquery(engine) if use_async else query(engine)
    assert text == ANSWER
    assert [node.text.splitlines()[0] for node in sources[:2]] == [
        "Sub question: What is fact 1?",
        "Sub question: And what do they come to?",
    ]


# --- ingestion and evaluation -----------------------------------------------------------------------------------------


@every_fault
def test_extractors_describe_what_is_ingested(llm):
    extractors = [TitleExtractor(llm=llm), SummaryExtractor(llm=llm), QuestionsAnsweredExtractor(llm=llm, questions=1)]
    nodes = IngestionPipeline(transformations=extractors).run(nodes=[TextNode(text="The answer is 42.")])
    assert nodes[0].metadata == {
        "document_title": PARTS["comprehensive title"],
        "section_summary": PARTS["Summarize the key topics"],
        "questions_this_excerpt_can_answer": PARTS["generate 1 questions"],
    }


@every_fault
def test_evaluators_judge(llm):
    said = {"query": QUESTION, "response": ANSWER, "contexts": ["It is 42."]}
    assert FaithfulnessEvaluator(llm=llm).evaluate(**said).passing
    assert RelevancyEvaluator(llm=llm).evaluate(**said).passing
    assert CorrectnessEvaluator(llm=llm).evaluate(**said, reference="42").score == 4.5
    assert GuidelineEvaluator(llm=llm, guidelines="Say a number.").evaluate(**said).feedback == "It says the number."
    pair = PairwiseComparisonEvaluator(llm=llm, enforce_consensus=False)
    assert pair.evaluate(query=QUESTION, response="42", second_response="About 40").score == 1.0


# --- all together -----------------------------------------------------------------------------------------------------


@every_fault
def test_one_llm_serves_one_event_loop_after_another(llm, index):
    engine = index.as_query_engine(response_mode="accumulate", use_async=True)

    async def at_once():
        return await asyncio.gather(*(engine.aquery(QUESTION) for _ in range(3)))

    for _ in range(3):
        assert [response.response for response in asyncio.run(at_once())] == [MODES["accumulate"]] * 3


@pytest.mark.parametrize("mode", ["no_text", "context_only"])
def test_modes_that_need_no_model_ask_none(index, mode):
    with OllamaServer(models()) as server:
        Settings.llm = routed(server.url)
        engine = index.as_query_engine(response_mode=mode)
        assert len(engine.query(QUESTION).source_nodes) == 2
        assert asked(server) == []
