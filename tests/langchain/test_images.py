"""Images: only models that see are asked, in every form in which LangChain writes an image."""

import asyncio
import base64

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from wire import SECOND, answered_by, asked, bodies, collected, models, plain, routed, whole

from langchain_routed_ollama import NoModel, RoutedChatOllama
from routed_ollama.testing import Fault, OllamaServer

PNG = base64.b64encode(
    base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==")
).decode()
"""One pixel."""

FORMS = {
    "image_url as text": {"type": "image_url", "image_url": f"data:image/png;base64,{PNG}"},
    "image_url as object": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
    "image_url without a prefix": {"type": "image_url", "image_url": PNG},
    "standard block": {"type": "image", "base64": PNG, "mime_type": "image/png"},
    "older standard block": {"type": "image", "source_type": "base64", "data": PNG, "mime_type": "image/png"},
}
forms = pytest.mark.parametrize("image", FORMS.values(), ids=FORMS)
SEES = {"capabilities": ("completion", "tools", "vision")}


def question(image):
    return [HumanMessage([{"type": "text", "text": "What is this?"}, image])]


@pytest.fixture
def server():
    with OllamaServer(models(second={**SEES, "reply": "A pixel."})) as running:
        yield running


@forms
def test_only_a_model_that_sees_is_asked(image, server):
    llm = routed(server.url)
    prompt = question(image)
    for answer in (
        llm.invoke(prompt),
        asyncio.run(llm.ainvoke(prompt)),
        whole(llm.stream(prompt)),
        whole(asyncio.run(collected(llm.astream(prompt)))),
    ):
        assert (answered_by(answer), answer.text) == (SECOND, "A pixel.")
    assert set(asked(server)) == {SECOND}
    assert all(body["messages"][0]["images"] == [PNG] for body in bodies(server))


@forms
def test_an_image_is_sent_as_the_plain_class_sends_it(image, server):
    plain(server.url, model=SECOND).invoke(question(image))
    routed(server.url).invoke(question(image))
    assert bodies(server)[0] == bodies(server)[1]


@pytest.mark.parametrize("place", ["earlier message", "tool result"])
def test_an_image_anywhere_in_the_conversation_needs_a_model_that_sees(place, server):
    image = FORMS["standard block"]
    histories = {
        "earlier message": [*question(image), AIMessage("A pixel."), HumanMessage("Sure?")],
        "tool result": [
            HumanMessage("Look at it"),
            AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "1"}]),
            ToolMessage([image], tool_call_id="1"),
        ],
    }
    assert answered_by(routed(server.url).invoke(histories[place])) == SECOND


def test_no_model_that_sees_is_an_error_that_says_so():
    with OllamaServer(models()) as server:
        with pytest.raises(NoModel, match=r"does not support vision.*ollama pull"):
            routed(server.url).invoke(question(FORMS["standard block"]))
        assert asked(server) == []


def test_when_the_only_model_that_sees_fails_no_blind_one_is_asked(server):
    server.fail(SECOND, Fault.SERVER_ERROR, text="broken for the test")
    with pytest.raises(Exception, match="broken for the test"):
        routed(server.url).invoke(question(FORMS["standard block"]))
    assert asked(server) == [SECOND]


@pytest.mark.live
@forms
def test_any_model_that_sees_says_something(image, ollama_url, chat_models):
    llm = RoutedChatOllama(base_url=ollama_url, store="memory", temperature=0)
    try:
        answer = llm.invoke(question(image))
    except NoModel:
        pytest.skip("no model that sees is installed")
    assert answer.text.strip()


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image_url", "image_url": {}},
        {"type": "image", "url": "https://example.com/cat.png"},
        {"type": "file", "base64": PNG, "mime_type": "application/pdf"},
        {"type": "telepathy"},
    ],
    ids=["no url", "by url", "file", "unknown"],
)
def test_what_the_plain_class_refuses_is_refused_alike_and_blames_no_model(block, server):
    llm = routed(server.url, learn=True)
    texts = []
    for model in (plain(server.url, model=SECOND), llm):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 (the texts are compared below)
            model.invoke(question(block))
        texts.append((type(caught.value), str(caught.value)))
    assert texts[0] == texts[1]
    assert asked(server) == []
    assert llm.router.performance() == {}
