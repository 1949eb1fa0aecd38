"""What a user of ``RoutedOllama`` relies on beyond a pitfall each: on every path, under concurrency, after copying."""

import asyncio
import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from asking import (
    CHATS,
    FIRST,
    PROMPT,
    QUESTION,
    SECOND,
    STRUCTURED,
    Song,
    asked,
    bodies,
    chat,
    models,
    plain,
    routed,
    text,
)
from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    MessageRole,
    TextBlock,
    ThinkingBlock,
)
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.tools import FunctionTool
from llama_index.llms.ollama import Ollama
from ollama import AsyncClient, Client

from langchain_routed_ollama import RoutedChatOllama
from llamaindex_routed_ollama import RoutedOllama
from routed_ollama import ConfigurationError, NoModelError, RoutedOllamaWarning, Router, routing
from routed_ollama.testing import Fault, OllamaServer, ScriptedModel

TOOLS = ("completion", "tools")
named = {"ids": lambda path: path.__name__}


def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


TOOL = FunctionTool.from_defaults(fn=multiply)


@pytest.fixture
def server():
    with OllamaServer(models(capabilities=TOOLS)) as running:
        yield running


@pytest.fixture
def gone():
    with OllamaServer() as server:
        pass
    return server.url


# --- what it says of itself -------------------------------------------------------------------------------------------
def test_every_field_of_the_plain_class_is_here():
    missing = set(Ollama.model_fields) - set(RoutedOllama.model_fields)
    assert not missing, "a field of the plain class that ours has not"


def test_metadata_asks_nobody(gone):
    metadata = RoutedOllama(base_url=gone, store="memory").metadata
    assert (metadata.context_window, metadata.model_name, metadata.is_chat_model) == (8192, "routed-ollama", True)


def test_metadata_is_the_same_in_every_state_and_asks_nobody():
    with OllamaServer(models(context_length=131072)) as server:
        llm = routed(server.url, config={"health": {"interval": 0}})
        read = [llm.metadata]  # before anything is known
        for happens in (
            lambda: chat(llm),
            lambda: server.fail(FIRST, Fault.SERVER_ERROR),
            lambda: chat(llm),  # another answers
            lambda: llm.complete("word " * 12000),  # the window grows for it
            lambda: server.remove_model(SECOND),
            server.stop,
        ):
            happens()
            before = len(server.requests)
            read.append(llm.metadata)
            assert len(server.requests) == before
        assert read == [read[0]] * len(read)


def test_nothing_but_the_answer_is_asked_for_on_a_request(server):
    llm = routed(server.url)
    chat(llm)
    before = len(server.requests)
    chat(llm)
    looks = {"/api/tags", "/api/ps"}  # of the monitor, off the request's way
    assert [request.path for request in server.requests[before:] if request.path not in looks] == ["/api/chat"]


# --- structured output ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", STRUCTURED, **named)
def test_structured_predict_uses_the_schema_and_no_tools(path):
    with OllamaServer(models(reply='{"title": "Rain", "year": 1999}')) as server:
        assert path(routed(server.url)).model_dump() == {"title": "Rain", "year": 1999}
        assert bodies(server)[0]["format"] == Song.model_json_schema()
        assert not bodies(server)[0].get("tools")


def test_as_structured_llm_and_its_stream():
    with OllamaServer(models(reply='{"title": "Rain", "year": 1999}')) as server:
        llm = routed(server.url).as_structured_llm(Song)
        assert llm.chat(QUESTION).raw == Song(title="Rain", year=1999)
        parts = [part.raw for part in llm.stream_chat(QUESTION)]
        assert parts[-1].model_dump() == {"title": "Rain", "year": 1999}
        assert len(parts) > 1


# --- the window -------------------------------------------------------------------------------------------------------
def test_engines_and_memories_size_their_prompts_by_what_models_get(server):
    llm = routed(server.url)
    assert PromptHelper.from_llm_metadata(llm.metadata).context_window == 8192
    assert ChatMemoryBuffer.from_defaults(llm=llm).token_limit == 8192 * 3 // 4
    chat(llm)
    assert bodies(server)[0]["options"]["num_ctx"] == 8192


@pytest.mark.parametrize(
    "given", [{"context_window": 6000}, {"num_ctx": 6000}, {"additional_kwargs": {"num_ctx": 6000}}], ids=str
)
def test_an_explicit_window_is_reported_and_sent(server, given):
    llm = routed(server.url, **given)
    chat(llm)
    assert llm.metadata.context_window == bodies(server)[0]["options"]["num_ctx"] == 6000


def test_a_prompt_goes_to_a_model_that_takes_it():
    with OllamaServer(models(first={"context_length": 2048}, second={"context_length": 131072})) as server:
        llm = routed(server.url)
        llm.complete("word " * 3000)
        chat(llm)
        assert asked(server) == [SECOND, FIRST]


def test_a_chat_with_a_memory_of_its_size_never_outgrows_the_window():
    with OllamaServer(models(reply="It is so.", context_length=131072)) as server:
        llm = routed(server.url)
        engine = SimpleChatEngine.from_defaults(llm=llm, memory=ChatMemoryBuffer.from_defaults(llm=llm))
        for _ in range(12):
            engine.chat("word " * 900)
        assert {body["options"]["num_ctx"] for body in bodies(server)} == {8192}
        assert server.loads == {FIRST: 1}
        assert len(bodies(server)[-1]["messages"]) < 24  # the oldest are gone from it


def test_a_model_of_less_context_gets_no_more_than_it_can():
    with OllamaServer(models(context_length=2048)) as server:
        chat(routed(server.url))
        assert (bodies(server)[0]["options"].get("num_ctx") or 0) <= 2048


# --- who can serve ----------------------------------------------------------------------------------------------------
def test_metadata_stays_the_same_and_requests_go_where_they_can():
    with OllamaServer(models(first={"capabilities": ("completion",)}, second={"capabilities": TOOLS})) as server:
        llm = routed(server.url)
        before = llm.metadata
        llm.chat_with_tools([TOOL], "What is multiply of 6 and 7?")
        chat(llm)
        assert llm.metadata == before
        assert asked(server)[0] == SECOND
        assert RoutedOllama("x:1b", is_function_calling_model=False, store="memory").metadata.model_name == "x:1b"


def test_no_model_with_tools_is_an_error_that_says_so():
    with OllamaServer(models(capabilities=("completion",))) as server, pytest.raises(NoModelError, match="tools"):
        routed(server.url).chat_with_tools([TOOL], "What is multiply of 6 and 7?")


# --- hints ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", CHATS, **named)
def test_hints_come_by_a_context_variable(server, path):
    llm = routed(server.url)
    with routing(model=SECOND, task_type="coding", prefer="speed"):
        inside = path(llm)
    assert inside.raw["routing"]["model"] == SECOND
    assert inside.raw["routing"]["task_type"] == "coding"
    assert path(llm).raw["routing"]["model"] == FIRST
    assert path(llm, model=SECOND).raw["routing"]["model"] == SECOND


def test_hints_are_right_under_concurrency(server):
    llm = routed(server.url)

    async def one(model):
        with routing(model=model):
            await asyncio.sleep(0)
            return (await llm.achat(QUESTION)).raw["routing"]["model"]

    async def many():
        return await asyncio.gather(*[one(model) for model in (FIRST, SECOND) * 8])

    assert asyncio.run(many()) == [FIRST, SECOND] * 8

    def threaded(model):
        with routing(model=model):
            return chat(llm).raw["routing"]["model"]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(threaded, (FIRST, SECOND) * 8)) == [FIRST, SECOND] * 8


def test_a_stream_takes_what_held_when_it_was_asked_for(server):
    llm = routed(server.url)
    with routing(model=SECOND):
        stream = llm.stream_chat(QUESTION)
    assert list(stream)[-1].raw["routing"]["model"] == SECOND


def test_a_wrong_hint_is_an_error():
    with pytest.raises(ConfigurationError, match="prefer"), routing(prefer="cheap"):
        pass
    with pytest.raises(ConfigurationError, match="task_type"), routing(task_type="cooking"):
        pass


# --- conversations ----------------------------------------------------------------------------------------------------
def test_a_conversation_with_tool_calls_stays_with_its_model(server):
    llm = routed(server.url)
    question = ChatMessage(content="What is multiply of 6 and 7?")
    with routing(model=SECOND):
        response = llm.chat_with_tools([TOOL], question)
    assert llm.get_tool_calls_from_response(response)
    history = [question, response.message, ChatMessage(role=MessageRole.TOOL, content="42")]
    assert llm.chat_with_tools([TOOL], chat_history=history).raw["routing"]["model"] == SECOND
    server.fail(SECOND, Fault.NOT_FOUND)
    assert llm.chat_with_tools([TOOL], chat_history=history).raw["routing"]["model"] == FIRST


def test_a_conversation_with_thoughts_stays_with_its_model():
    with OllamaServer(models(thinking="Let me see.", capabilities=("completion", "thinking"))) as server:
        llm = routed(server.url, thinking=True)
        with routing(model=SECOND):
            message = list(llm.stream_chat(QUESTION))[-1].message
        assert any(isinstance(block, ThinkingBlock) for block in message.blocks)
        again = llm.chat([*QUESTION, message, *QUESTION])
        assert again.raw["routing"]["model"] == SECOND


def test_a_session_stays_with_its_model(server):
    llm = RoutedOllama(models=[FIRST, SECOND], base_url=server.url, store="memory", learn=False)
    with routing(session="Ann", model=SECOND):
        chat(llm)
    with routing(session="Ann"):
        assert chat(llm).raw["routing"]["model"] == SECOND


# --- the caller's own -------------------------------------------------------------------------------------------------
def test_nothing_of_the_callers_is_changed(server):
    llm = routed(server.url)
    server.fail(FIRST, Fault.NOT_FOUND)
    history = [ChatMessage(content="Good day"), ChatMessage(role=MessageRole.ASSISTANT, content="Good day")]
    before = copy.deepcopy(history)
    llm.chat_with_tools([TOOL], "What is multiply of 6 and 7?", chat_history=history)
    assert history == before
    assert [m["role"] for m in bodies(server)[-1]["messages"]] == ["user", "assistant", "user"]
    arguments = {"think": None}
    server.add_model(ScriptedModel(SECOND, reply='{"title": "Rain", "year": 1999}'))
    llm.structured_predict(Song, PROMPT, arguments, topic="rain")
    assert arguments == {"think": None}


# --- written out, and copied ------------------------------------------------------------------------------------------
SECRETS = ("hunter2", "s3cr3t", "t0ken")


def secretive(url):
    inside = Ollama(model=SECOND, base_url=url, headers={"Authorization": "Bearer t0ken"})
    host = url.replace("http://", "http://ann:hunter2@")
    return RoutedOllama(
        FIRST, models=[FIRST, inside], base_url=host, headers={"x-key": "s3cr3t"}, api_key="t0ken",
        client_kwargs={"cookies": {"a": "s3cr3t"}}, store="memory", temperature=0.5, timeouts={"connect": 2},
    )  # fmt: skip


def test_to_dict_holds_no_secret_and_makes_a_working_model(server):
    llm = secretive(server.url)
    chat(llm)
    for dumped in (str(llm.to_dict()), llm.to_json(), repr(llm), str(llm.to_payload()), llm.model_dump_json()):
        assert not [secret for secret in SECRETS if secret in dumped]
    made = RoutedOllama.from_dict(llm.to_dict())
    assert RoutedOllama.from_json(llm.to_json()).temperature == 0.5
    assert made.class_name() == llm.to_dict()["class_name"] == "RoutedOllama_llm"
    assert text(chat(made))
    assert [str(getattr(entry, "model", entry)) for entry in made.models] == [FIRST, SECOND]


@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
@pytest.mark.parametrize(
    "duplicate",
    [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy, copy.copy, lambda x: x.model_copy(deep=True)],  # noqa: S301
    ids=["pickle", "deepcopy", "copy", "model_copy"],
)
def test_copies_work(server, duplicate, used):
    llm = secretive(server.url)
    if used:
        chat(llm)
    made = duplicate(llm)
    assert text(chat(made))
    assert made.temperature == 0.5
    assert server.requests[-1].headers["x-key"] == "s3cr3t"


def test_a_copy_with_another_field_uses_it(server):
    llm = routed(server.url)
    chat(llm.model_copy(update={"temperature": 0.9}))
    llm.temperature = 0.1
    chat(llm)
    assert [body["options"]["temperature"] for body in bodies(server)] == [0.9, 0.1]


# --- the caller's mistakes --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["chat", "achat", "stream_chat", "astream_chat"])
def test_a_callers_mistake_is_raised_as_it_is_and_blames_no_model(server, method):
    llm = routed(server.url, learn=True)
    audio = [ChatMessage(blocks=[TextBlock(text="hear"), AudioBlock(audio=b"abc", format="wav")])]

    async def asynchronously():
        made = await getattr(llm, method)(audio)
        return made if method == "achat" else [chunk async for chunk in made]

    with pytest.raises(ValueError, match="Unsupported block type"):
        asyncio.run(asynchronously()) if method.startswith("a") else list(getattr(llm, method)(audio))
    assert not asked(server)
    assert llm.router.performance() == {}


@pytest.mark.parametrize("method", ["chat", "stream_chat"])
def test_no_messages_are_a_value_error(server, method):
    with pytest.raises(ValueError, match="no messages"):
        list(routed(server.url).stream_chat([])) if method == "stream_chat" else routed(server.url).chat([])


# --- what else belongs to it ------------------------------------------------------------------------------------------
def test_whole_answers_are_the_plain_classs(server):
    theirs, ours = chat(plain(server.url)), chat(routed(server.url, context_window=4096))
    assert ours.message == theirs.message
    assert set(ours.raw) == {*theirs.raw, "routing"}
    assert ours.raw["usage"] == theirs.raw["usage"]


def test_names_of_other_classes_are_mapped_and_unknown_ones_warned_of(server):
    llm = routed(server.url, max_tokens=5, timeout=9.0, max_retries=0)
    assert (llm.additional_kwargs, llm.request_timeout, llm.max_attempts) == ({"num_predict": 5}, 9.0, 1)
    with pytest.warns(RoutedOllamaWarning, match="'temprature' is ignored.*'temperature'"):
        routed(server.url, temprature=1)


def test_one_router_for_both_frameworks(server):
    router = Router(base_url=server.url, store="memory")
    llm = RoutedOllama(models=[FIRST, SECOND], router=router)
    chat(llm)
    RoutedChatOllama(models=[FIRST, SECOND], router=router).invoke("Count to ten")
    assert sum(each.total_requests for each in router.performance().values()) == 2


def test_the_users_own_clients_are_used_as_they_are(server):
    llm = routed(
        "http://127.0.0.1:1",
        client=Client(host=server.url, headers={"x-mine": "1"}),
        async_client=AsyncClient(host=server.url, headers={"x-mine": "2"}),
        models=[FIRST],
    )
    chat(llm)
    asyncio.run(llm.achat(QUESTION))
    assert [r.headers["x-mine"] for r in server.requests if r.path == "/api/chat"] == ["1", "2"]


@pytest.mark.parametrize("entry", [3, None])
def test_models_that_are_none_are_an_error(entry):
    with pytest.raises(ConfigurationError, match="Ollama"):
        RoutedOllama(models=[entry], store="memory")
    with pytest.raises(ConfigurationError, match="empty"):
        RoutedOllama(models=[], store="memory")
