"""Every recorded call of a real Ollama, step by step: the same status, headers, fields, lines, errors and loads.

The same passes with the models renamed, other contexts, and the steps in another order where none depends on another:
nothing is looked up.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import httpx
import pytest
from recordings import FIVE_MINUTES, World, compare, load

from routed_ollama.testing import Gate, OllamaServer

RENAMED = {
    "smollm2:135m": "tiny.one:3b-instruct",
    "qwen2.5-coder:0.5b": "somebody/coder:latest",
    "gemma3:270m": "base_model:v2",
    "embedder:latest": "vectors:latest",
    "embedder": "vectors",
    "broken:latest": "damaged:latest",
    "broken": "damaged",
    "nosuch": "neverheard",
    "registry.ollama.ai/library/smollm2:135m": "registry.ollama.ai/library/tiny.one:3b-instruct",
}
OTHER_CONTEXTS = {128: 160, 512: 700, 2048: 1024, 32768: 16384, 100000: 65536}
WORLDS = {"as recorded": World(), "renamed": World(RENAMED, OTHER_CONTEXTS)}
CLIENT = httpx.Client()
TOGETHER = {"num-ctx-above-train": "ps-clamped"}
FIRST = {"ps-empty"}


@pytest.fixture(params=WORLDS)
def world(request):
    return WORLDS[request.param]


@contextmanager
def serving(world, scenario, **arguments) -> Iterator[tuple[OllamaServer, list]]:
    environment, steps = load(scenario)
    server = OllamaServer(
        world.models(**arguments),
        max_loaded_models=int(environment.get("OLLAMA_MAX_LOADED_MODELS", 3)),
        max_queue=int(environment.get("OLLAMA_MAX_QUEUE", 512)),
        num_parallel=int(environment.get("OLLAMA_NUM_PARALLEL", 1)),
        context_length=int(environment.get("OLLAMA_CONTEXT_LENGTH", 4096)),
        load_timeout=float(environment.get("OLLAMA_LOAD_TIMEOUT", "300000ms").removesuffix("ms")) / 1000,
    )
    with server:
        yield server, [world.step(each) for each in steps]


def send(server, step, on_line: Callable[[int], object] = lambda _: None, timeout=30.0):
    """Make a recorded call; gives status, headers and lines."""
    content = step.request["raw"].encode() if "raw" in step.request else json.dumps(step.body).encode()
    content = content if step.request["method"] == "POST" else None
    lines = []
    with CLIENT.stream(
        step.request["method"], server.url + step.request["path"], content=content, timeout=timeout
    ) as answer:
        for line in answer.iter_lines():
            lines.append(line)
            on_line(len(lines))
    return answer.status_code, answer.headers, lines


def replay(server, step):
    compare(step, *(got := send(server, step)))
    return got


@pytest.mark.parametrize("order", ["recorded", "shuffled-1", "shuffled-2"])
@pytest.mark.parametrize("scenario", ["basics", "chat", "context"])
def test_each_call_is_answered_as_recorded(world, scenario, order):
    with serving(world, scenario) as (server, steps):
        for step in steps if order == "recorded" else shuffled(steps, order):
            loads = sum(server.loads.values())
            answer = replay(server, step)
            if order == "recorded" and step.is_answer and "load_duration" in step.last:
                assert (sum(server.loads.values()) > loads) == step.waited_for_a_load, step.id
            if step.id.startswith("ps-clamped"):
                check_residents(step, json.loads(answer[2][0]), steps)


def shuffled(steps, seed):
    """Another order; what looks at memory stays where its memory is."""
    followers = set(TOGETHER.values()) | FIRST
    groups = [
        [each] + [other for other in steps if other.id == TOGETHER.get(each.id)]
        for each in steps
        if each.id not in followers
    ]
    random.Random(seed).shuffle(groups)  # noqa: S311 - an order, not a secret
    return [each for each in steps if each.id in FIRST] + [step for group in groups for step in group]


@pytest.mark.parametrize("scenario", ["residency", "residency-two"])
def test_models_come_and_go_as_recorded(world, scenario):
    """Step by step; where two were under way at once, the second starts when the first has its slot."""
    with serving(world, scenario, load_seconds=0.03, tokens_per_second=250) as (server, steps):
        waiting = []
        for position, step in enumerate(steps):
            if "before" in step.notes:
                server.wait_until(lambda: not server.resident)
            if any(
                other.notes.get("starts") == f"while {step.id} runs" for other in steps[position + 1 : position + 2]
            ):
                waiting.append(started(server, step))
                server.wait_until(lambda: any(each.users for each in server._api.scheduler.residents))
            elif "starts" in step.notes:
                overlap(server, steps[position - 1], waiting.pop(), step)
            elif "client" in step.notes:
                leave_after_three_lines(server, step)
            else:
                one_step(server, step, steps)


def one_step(server, step, steps):
    loads = sum(server.loads.values())
    step = scaled(step)
    answer = replay(server, step)
    if step.is_answer:
        assert (sum(server.loads.values()) > loads) == step.waited_for_a_load, step.id
        final = json.loads(answer[2][-1])
        assert (final["load_duration"] > 25e6) == step.waited_for_a_load
    elif step.request["path"] == "/api/ps":
        check_residents(step, json.loads(answer[2][0]), steps)


def scaled(step):
    """Two seconds of keep-alive take a quarter of one."""
    if (step.body or {}).get("keep_alive") == "2s":
        return type(step)(
            step.id,
            {**step.request, "body": {**step.body, "keep_alive": "250ms"}},
            step.status,
            step.headers,
            step.lines,
        )
    return step


def started(server, step):
    """Make a call in a thread."""
    result = {}
    thread = threading.Thread(target=lambda: result.update(answer=send(server, step)))
    thread.start()
    result["thread"] = thread
    return result


def overlap(server, first, under_way, second):
    """The second call is made while the first is under way; its wait is where it was recorded to be."""
    compare(second, *(answer := send(server, second)))
    under_way["thread"].join(30)
    compare(first, *under_way["answer"])
    late = json.loads(answer[2][-1])
    writing = json.loads(under_way["answer"][2][-1])["eval_duration"]
    recorded = second.last
    unexplained = late["total_duration"] - sum(late[f"{each}_duration"] for each in ("load", "prompt_eval", "eval"))
    expected = recorded["total_duration"] - sum(
        recorded[f"{each}_duration"] for each in ("load", "prompt_eval", "eval")
    )
    waited_for_slot, waited_for_room = unexplained > 0.4 * writing, late["load_duration"] > 0.4 * writing
    assert waited_for_slot == (expected > 1e9)
    assert waited_for_room == (recorded["load_duration"] > 1e9)


def leave_after_three_lines(server, step):
    with CLIENT.stream("POST", server.url + step.request["path"], json=step.body) as answer:
        lines = [line for line, _ in zip(answer.iter_lines(), range(3), strict=False)]
    compare(step, answer.status_code, answer.headers, lines)
    server.wait_until(lambda: not any(each.users for each in server._api.scheduler.residents), timeout=2)


def check_residents(step, answered, steps):
    """The same models, with the contexts they were asked for, and as long as recorded."""
    recorded = json.loads(step.lines[0])["models"]
    assert [each["name"] for each in answered["models"]] == [each["name"] for each in recorded]
    for was, now in zip(recorded, answered["models"], strict=True):
        before = [each for each in steps[: steps.index(step)] if each.is_answer and each.body["model"] == was["name"]]
        asked = before[-1].body.get("options", {}).get("num_ctx") if before else None
        assert now["context_length"] == (min(asked, was["context_length"]) if asked else was["context_length"])
        if now["context_length"] == was["context_length"]:
            assert now["size"] == pytest.approx(was["size"], rel=0.5)  # the real one adds buffers
        stays = datetime.fromisoformat(now["expires_at"]).timestamp() - time.time()
        forever = was["expires_at"] > "2300"
        assert stays > 1e9 if forever else stays <= FIVE_MINUTES


def test_a_full_queue_turns_away_as_many_as_recorded(world):
    """Which ones is chance, so it is compared by how many; the load waits until all eight have arrived."""
    gate = Gate()
    with serving(world, "queue", load_seconds=gate) as (server, steps):
        calls = [started(server, each) for each in steps]
        server.wait_for_request(count=8)
        server.wait_until(lambda: sum("answer" in each for each in calls) == 6)
        gate.open()
        for each in calls:
            each["thread"].join(30)
        assert sorted(each["answer"][0] for each in calls) == sorted(each.status for each in steps)
        by_status = {each.status: each for each in steps}
        for each in calls:
            status, headers, lines = each["answer"]
            if status == 503:
                compare(by_status[503], status, headers, lines)
            else:
                compare_admitted(by_status[200], lines)


def compare_admitted(step, lines):
    assert list(json.loads(lines[0])) == list(step.last)


def test_a_load_is_given_up_as_recorded(world):
    with serving(world, "load-timeout", load_seconds=5.0) as (server, steps):
        replay(server, steps[0])
        assert server.resident == ()


def leave(server, step):
    with pytest.raises(httpx.ReadTimeout):
        send(server, step, timeout=0.3)


def test_a_client_that_leaves_aborts_the_load_as_recorded(world):
    gate = Gate()
    with serving(world, "client-leaves-while-loading", load_seconds=gate) as (server, steps):
        leaves, *rest = steps
        call = threading.Thread(target=lambda: leave(server, leaves))
        call.start()
        assert gate.wait_reached()
        call.join(10)
        server.wait_until(lambda: server.loading is None)
        gate.open()
        for step in rest:
            replay(server, step)
        assert server.loads == {leaves.body["model"]: 1}


def test_a_runner_that_dies_is_noticed_as_recorded(world):
    with serving(world, "faults", tokens_per_second=400, prompt_tokens_per_second=20_000) as (server, steps):
        for step in steps:
            crash = lambda step=step: server.crash(step.body["model"])  # noqa: E731 - short, and used twice
            if "before" in step.notes:
                crash()
            if "lines" in step.notes.get("during", "") and "runner" in step.notes["during"]:
                compare(step, *send(server, step, lambda seen, crash=crash: crash() if seen == 5 else None))
            elif "while it wrote" in step.notes.get("during", ""):
                compare(step, *killed(server, step, 0.15))
            elif "before its first token" in step.notes.get("during", ""):
                server._catalog.get(step.body["model"]).engine.prompt_tokens_per_second = 10
                compare(step, *killed(server, step, 0.05))
            elif "stopped the server" in step.notes.get("during", ""):
                stop_mid_stream(server, step)
            elif step.id == "server-gone":
                with pytest.raises(httpx.ConnectError):
                    send(server, step)
            else:
                replay(server, step)


def killed(server, step, seconds):
    """Make a call and kill its model's runner when it has been at work for a while."""
    before = len(server.requests)
    call = started(server, step)
    server.wait_for_request(count=before + 1)
    server.wait_until(lambda: any(each.users for each in server._api.scheduler.residents))
    time.sleep(seconds)
    server.crash(step.body["model"])
    call["thread"].join(30)
    return call["answer"]


def stop_mid_stream(server, step):
    server._catalog.get(step.body["model"]).engine.prompt_tokens_per_second = None
    lines = []
    with CLIENT.stream("POST", server.url + step.request["path"], json=step.body) as answer:
        received = answer.iter_lines()
        lines += [next(received) for _ in range(5)]
        threading.Thread(target=server.stop).start()
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            lines += received
    compare(step, answer.status_code, answer.headers, lines)
