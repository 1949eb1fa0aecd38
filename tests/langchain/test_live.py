"""What a user does all day, against any server: a scripted one, or a real one (``pytest -m live --ollama URL``).

Nothing here depends on what a model says, only on what must be true of it.
"""

import asyncio

import httpx
import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_ollama import ChatOllama
from pydantic import BaseModel

from langchain_routed_ollama import ModelNotInstalled, PerformanceCallbackHandler, RoutedChatOllama
from routed_ollama import Router, TaskType
from routed_ollama.testing.proxy import CuttingProxy

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

QUESTION = "Name the capital of France, and say in two sentences what it is known for."


class Fact(BaseModel):
    name: str
    year: int


@pytest.fixture
def llm(ollama_url, chat_models):
    return RoutedChatOllama(
        models=chat_models, base_url=ollama_url, store="memory", temperature=0, seed=1, num_predict=24, num_thread=1
    )


def whole(chunks):
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    return total


def test_every_path_gives_the_same_answer(llm, chat_models):
    async def paths():
        chunks = [chunk async for chunk in llm.astream(QUESTION, model=chat_models[0])]
        return (await llm.ainvoke(QUESTION, model=chat_models[0])).content, whole(chunks).content

    answers = {llm.invoke(QUESTION, model=chat_models[0]).content}
    answers.add(whole(list(llm.stream(QUESTION, model=chat_models[0]))).content)
    answers.update(asyncio.run(paths()))
    assert len(answers) == 1
    assert answers.pop().strip()


def test_the_answer_is_the_plain_classs(llm, ollama_url, chat_models):
    plain = ChatOllama(
        model=chat_models[0], base_url=ollama_url, temperature=0, seed=1, num_predict=24, num_thread=1
    ).invoke(QUESTION)
    ours = llm.invoke(QUESTION, model=chat_models[0])
    assert ours.content == plain.content
    assert ours.usage_metadata == plain.usage_metadata
    assert set(plain.response_metadata) | {"routing"} == set(ours.response_metadata)


def test_a_chain_streams(llm):
    chain = ChatPromptTemplate.from_template("Say something about {topic}.") | llm | StrOutputParser()
    assert len(list(chain.stream({"topic": "rivers"}))) > 1


def test_batches_are_answered_in_order(llm):
    answers = llm.batch([QUESTION, "What is two plus two?"], {"max_concurrency": 1})
    assert [bool(answer.content.strip()) for answer in answers] == [True, True]


def test_the_route_says_who_answered_and_why(llm, chat_models):
    routing = llm.invoke("Write a Python function that adds two numbers").response_metadata["routing"]
    assert routing["model"] in chat_models
    assert routing["task_type"] == TaskType.CODING
    assert routing["reason"]
    assert [attempt["outcome"] for attempt in routing["attempts"]] == ["ok"]


def test_one_may_be_named_for_one_call(llm, chat_models):
    for name in chat_models:
        assert llm.invoke(QUESTION, model=name).response_metadata["routing"]["model"] == name


def test_the_length_is_bounded_and_counted(llm):
    answer = llm.invoke("Tell me a very long story about the sea.", options={"num_predict": 5, "num_thread": 1})
    assert 1 <= answer.usage_metadata["output_tokens"] <= 6


def test_structured_output_is_what_was_asked_for(llm):
    made = llm.with_structured_output(Fact, include_raw=True).invoke("The year in which the Eiffel Tower was finished")
    assert made["raw"].content
    assert made["parsed"] is None or isinstance(made["parsed"], Fact)


def test_tools_go_to_models_that_have_them(ollama_url):
    @tool
    def weather(city: str) -> str:
        """Say how the weather in a city is."""
        return city

    router = Router(base_url=ollama_url, store="memory")
    router.recommend_model("")
    able = {info.name for info in router.models() if "tools" in info.flags}
    if not able:
        pytest.skip("no model with tools is installed")
    llm = RoutedChatOllama(router=router, num_predict=32, num_thread=1, temperature=0).bind_tools([weather])
    assert llm.invoke("How is the weather in Paris? Use the tool.").response_metadata["routing"]["model"] in able


def test_three_event_loops_in_a_row(llm):
    for _ in range(3):
        assert asyncio.run(llm.ainvoke(QUESTION)).content.strip()


def test_a_dead_host_first_is_not_noticed(ollama_url, chat_models):
    dead = ChatOllama(model=chat_models[0], base_url="http://127.0.0.1:9")
    llm = RoutedChatOllama(
        models=[dead, *chat_models], base_url=ollama_url, store="memory", num_predict=8, num_thread=1
    )
    assert llm.invoke(QUESTION).content.strip()


def test_a_cut_connection_is_not_noticed(ollama_url, chat_models):
    if len(chat_models) < 2:
        pytest.skip("a sole model fails as the plain class does: a second one must be installed to go on with")
    with CuttingProxy(ollama_url) as proxy:
        llm = RoutedChatOllama(
            models=chat_models, base_url=proxy.url, store="memory", num_predict=24, num_thread=1, temperature=0
        )
        llm.invoke("hi", model=chat_models[0])
        proxy.arm(3)
        answer = whole(list(llm.stream(QUESTION, model=chat_models[0])))
    routing = answer.response_metadata["routing"]
    assert routing["attempts"][0]["outcome"] == "failed"
    assert routing["attempts"][-1]["outcome"] == "ok"
    assert 0 < routing["continued_at"] <= len(answer.content)


def test_what_is_not_installed_is_said(ollama_url):
    llm = RoutedChatOllama(models=["no-such-model:1b"], base_url=ollama_url, store="memory")
    with pytest.raises(ModelNotInstalled, match=r"no-such-model:1b.*ollama pull"):
        llm.invoke("hi")


def test_a_plain_model_teaches_the_router(ollama_url, chat_models):
    router = Router(base_url=ollama_url, store="memory")
    handler = PerformanceCallbackHandler(router, host=ollama_url)
    ChatOllama(model=chat_models[0], base_url=ollama_url, callbacks=[handler], num_predict=8, num_thread=1).invoke(
        QUESTION
    )
    record = router.performance()[chat_models[0]]
    assert record.total_requests == 1
    assert record.success_rate == 1
    assert record.tokens_per_second > 0


def test_looking_loads_nothing(ollama_url, chat_models):
    before = _resident(ollama_url)
    router = Router(base_url=ollama_url, store="memory")
    health = router.health_check_all_models()
    assert set(chat_models) <= set(health)
    assert set(health.values()) == {"healthy"}
    router.recommend_model("Plan a project")
    assert _resident(ollama_url) <= before


def _resident(url):
    return {model["name"] for model in httpx.get(f"{url}/api/ps").json()["models"]}
