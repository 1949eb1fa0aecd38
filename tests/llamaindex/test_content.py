"""Whatever a message may hold: blocks of every kind, images from anywhere, tool results; and what nobody can read."""

import base64
import http.server
import io
import threading

import pytest
from asking import (
    KINDS,
    METHODS,
    SECOND,
    asked,
    collect,
    models,
    plain,
    routed,
    subject_of,
)
from llama_index.core.base.llms.types import (
    AudioBlock,
    CacheControl,
    CachePoint,
    ChatMessage,
    CitableBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)

from routed_ollama import NoModelError
from routed_ollama.testing import Fault, OllamaServer

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
BASE64 = base64.b64encode(PIXEL).decode()
SEES = {"capabilities": ("completion", "tools", "vision"), "reply": "A pixel."}
kinds = pytest.mark.parametrize("kind", KINDS)
chats = pytest.mark.parametrize("method", METHODS)


class _Pictures(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        found = self.path == "/pixel.png"
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(PIXEL if found else b"")

    def log_message(self, *_args):
        """Say nothing."""


@pytest.fixture(scope="module")
def web():
    """Base URL of a web server that has one picture."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Pictures) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def picture(tmp_path, web):
    """Return a block with the same picture, from wherever it may come."""
    path = tmp_path / "pixel.png"
    path.write_bytes(PIXEL)
    made = {
        "bytes": lambda: ImageBlock(image=PIXEL),
        "base64": lambda: ImageBlock(image=BASE64.encode()),
        "a path": lambda: ImageBlock(path=path),
        "a url": lambda: ImageBlock(url=f"{web}/pixel.png"),
        "a data url": lambda: ImageBlock(url=f"data:image/png;base64,{BASE64}"),
        "an open file": lambda: ImageBlock(image=io.BytesIO(BASE64.encode())),  # sent as it is read
    }
    return lambda source: made[source]()


SOURCES = ["bytes", "base64", "a path", "a url", "a data url", "an open file"]
sources = pytest.mark.parametrize("source", SOURCES)


def about(*blocks):
    return [ChatMessage(blocks=[TextBlock(text="What is this?"), *blocks])]


# --- blocks -----------------------------------------------------------------------------------------------------------

BLOCKS = {
    "several texts": (
        [TextBlock(text="one, "), TextBlock(text=""), TextBlock(text="two")],
        {"role": "user", "content": "one, two"},
    ),
    "thoughts, of which the last counts": (
        [ThinkingBlock(content="a"), ThinkingBlock(content=None), TextBlock(text="x"), ThinkingBlock(content="b")],
        {"role": "user", "content": "x", "thinking": "b"},
    ),
    "tool calls": (
        [
            ToolCallBlock(tool_name="add", tool_kwargs={"a": 1}),
            TextBlock(text="and"),
            ToolCallBlock(tool_name="sub", tool_kwargs={}),
        ],
        {
            "role": "user",
            "content": "and",
            "tool_calls": [
                {"function": {"name": "add", "arguments": {"a": 1}}},
                {"function": {"name": "sub", "arguments": {}}},
            ],
        },
    ),
}


@kinds
@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_become_one_message(kind, name):
    blocks, expected = BLOCKS[name]
    with subject_of(kind) as subject:
        collect(subject.llm(), "chat", [ChatMessage(blocks=list(blocks)), *about()])
        assert subject.wire()["messages"][0] == expected


@kinds
@chats
def test_a_tools_result_is_answered_whatever_it_is_made_of(kind, method):
    history = [
        *about(),
        ChatMessage(  # as histories of older versions have it
            role=MessageRole.ASSISTANT,
            content="",
            additional_kwargs={"tool_calls": [{"function": {"name": "look", "arguments": {"at": "it"}}}]},
        ),
        ChatMessage(
            role=MessageRole.TOOL,
            blocks=[TextBlock(text="It is "), TextBlock(text="42.")],
            additional_kwargs={"tool_call_id": "look", "name": "look"},
        ),
    ]
    with subject_of(kind) as subject:
        response = collect(subject.llm(), method, history)[-1]
        sent = subject.wire()["messages"][1:]
    assert response.message.content == "The tool says: It is 42."
    assert sent == [
        {"role": "assistant", "tool_calls": [{"function": {"name": "look", "arguments": {"at": "it"}}}]},
        {"role": "tool", "content": "It is 42."},
    ]


@kinds
@pytest.mark.parametrize("role", list(MessageRole))
def test_every_role_is_sent_by_its_name(kind, role):
    with subject_of(kind) as subject:
        collect(subject.llm(), "chat", [*about(), ChatMessage(role=role, content="Hm."), *about()])
        assert subject.wire()["messages"][1] == {"role": role.value, "content": "Hm."}


# --- images -----------------------------------------------------------------------------------------------------------


@kinds
@sources
def test_an_image_is_sent_the_same_wherever_it_comes_from(kind, source, picture):
    block = picture(source)
    with subject_of(kind, **SEES) as subject:
        llm = subject.llm()
        for method in ("chat", "stream_chat"):  # and is still there for the next
            assert collect(llm, method, about(block))[-1].message.content == "A pixel."
            assert subject.wire()["messages"] == [{"role": "user", "content": "What is this?", "images": [BASE64]}]


@kinds
@chats
def test_images_of_several_messages_stay_in_theirs(kind, method):
    seen = ChatMessage(role=MessageRole.ASSISTANT, content="A pixel.")
    image = ImageBlock(image=PIXEL)
    with subject_of(kind, **SEES) as subject:
        collect(subject.llm(), method, [*about(image, image), seen, *about(image)])
        assert [len(each.get("images", [])) for each in subject.wire()["messages"]] == [2, 0, 1]


@chats
def test_only_a_model_that_sees_is_asked(method):
    with OllamaServer(models(second=SEES)) as server:
        response = collect(routed(server.url), method, about(ImageBlock(image=PIXEL)))[-1]
        assert (response.message.content, response.raw["routing"]["model"]) == ("A pixel.", SECOND)
        assert asked(server) == [SECOND]


@pytest.mark.parametrize("place", ["an earlier question", "a tool's result"])
def test_an_image_anywhere_in_a_conversation_needs_a_model_that_sees(place):
    image = ImageBlock(image=PIXEL)
    histories = {
        "an earlier question": [*about(image), ChatMessage(role=MessageRole.ASSISTANT, content="Yes."), *about()],
        "a tool's result": [*about(), ChatMessage(role=MessageRole.TOOL, blocks=[TextBlock(text="this"), image])],
    }
    with OllamaServer(models(second=SEES)) as server:
        assert routed(server.url).chat(histories[place]).raw["routing"]["model"] == SECOND


@chats
def test_when_nobody_sees_the_error_says_so_and_what_to_do(method):
    with OllamaServer(models()) as server:
        with pytest.raises(NoModelError, match=r"(?s)does not support vision.*ollama pull"):
            collect(routed(server.url), method, about(ImageBlock(image=PIXEL)))
        assert not asked(server)


@chats
def test_when_the_only_one_that_sees_fails_no_blind_one_is_asked(method):
    with OllamaServer(models(second=SEES)) as server:
        server.fail(SECOND, Fault.SERVER_ERROR, text="broken for the test")
        with pytest.raises(Exception, match="broken for the test"):
            collect(routed(server.url), method, about(ImageBlock(image=PIXEL)))
        assert set(asked(server)) == {SECOND}


@chats
def test_thoughts_are_asked_only_of_a_model_that_thinks(method):
    with OllamaServer(models(second={"thinking": "Hm."})) as server:
        response = collect(routed(server.url), method, about(), think=True)[-1]
        assert (response.raw["routing"]["model"], asked(server)) == (SECOND, [SECOND])
    with OllamaServer(models()) as server:
        with pytest.raises(NoModelError, match="does not support thinking"):
            collect(routed(server.url, thinking=True), method, about())
        assert not asked(server)


# --- the caller's own mistakes ----------------------------------------------------------------------------------------


def _gone(tmp_path):
    path = tmp_path / "gone.png"
    path.write_bytes(PIXEL)
    block = ImageBlock(path=path)
    path.unlink()
    return block


UNREADABLE = {
    "audio": lambda _web, _path: AudioBlock(audio=b"abc", format="wav"),
    "video": lambda _web, _path: VideoBlock(video=b"abc"),
    "a document": lambda _web, _path: DocumentBlock(data=b"abc", document_mimetype="text/plain"),
    "a citable text": lambda _web, _path: CitableBlock(title="t", source="s", content=[TextBlock(text="x")]),
    "a cache point": lambda _web, _path: CachePoint(cache_control=CacheControl(type="ephemeral")),
    "an empty image": lambda _web, _path: ImageBlock(image=b""),
    "no image at all": lambda _web, _path: ImageBlock(),
    "an image in an open file that is not base64": lambda _web, _path: ImageBlock(image=io.BytesIO(PIXEL)),
    "a data url of nothing": lambda _web, _path: ImageBlock(url="data:nothing"),
    "a file that is gone": lambda _web, path: _gone(path),
    "a url of nothing": lambda web, _path: ImageBlock(url=f"{web}/nothing.png"),
    "a url of nobody": lambda _web, _path: ImageBlock(url="http://127.0.0.1:1/pixel.png"),
}


@chats
@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_sent_is_raised_as_it_is_and_blames_no_model(name, method, web, tmp_path):
    messages = about(UNREADABLE[name](web, tmp_path))
    with OllamaServer(models(**SEES)) as server:
        with pytest.raises(Exception) as theirs:  # noqa: PT011 (whatever the plain class raises)
            collect(plain(server.url), method, messages)
        llm = routed(server.url, learn=True)
        with pytest.raises(type(theirs.value)) as ours:
            collect(llm, method, messages)
        assert (type(ours.value), _text(ours.value)) == (type(theirs.value), _text(theirs.value))
        assert not asked(server)
        assert llm.router.performance() == {}
        assert set(llm.router.health_check_all_models().values()) == {"healthy"}


def _text(error):
    """An error's text without the address of the object that it names."""
    return str(error).split(" object at 0x")[0]
