"""Who is in memory, who waits for whom, and who leaves: Ollama's scheduler beyond what the recordings show."""

from __future__ import annotations

import json
import math

import httpx
import pytest
from talking import CLIENT, Background, body, chat, get, lines, post, streaming

from routed_ollama.testing import FakeClock, Gate, OllamaServer, ScriptedModel


def gated(name, gate, **more):
    return ScriptedModel(name, reply=lambda _: ["one", gate, " two"], **more)


def resident(server):
    return [each["name"] for each in get(server, "/api/ps")["models"]]


def test_as_many_answers_at_once_as_there_are_slots():
    gate = Gate()
    with OllamaServer([gated("m", gate)], num_parallel=2) as server:
        with streaming(server) as first, streaming(server) as second:
            next(first)
            next(second)
            third = Background(lines, server)
            server.wait_for_request(count=3)
            assert third.running
            gate.open()
        assert third.result()[-1]["done"] is True
        assert server.loads == {"m:latest": 1}


def test_loads_are_made_one_after_the_other_in_the_order_they_were_asked_for():
    gates = {name: Gate() for name in "abc"}
    with OllamaServer([ScriptedModel(name, load_seconds=gate) for name, gate in gates.items()]) as server:
        calls = {}
        for count, name in enumerate("abc", 1):
            calls[name] = Background(chat, server, name)
            server.wait_for_request(count=count)
        for name in "abc":
            assert gates[name].wait_reached()
            assert server.loading == f"{name}:latest"
            gates[name].open()
            assert calls[name].result().status_code == 200
        assert server.resident == ("a:latest", "b:latest", "c:latest")


def test_a_loading_model_is_listed_but_not_resident():
    gate = Gate()
    with OllamaServer([ScriptedModel("m", load_seconds=gate)]) as server:
        call = Background(chat, server)
        assert gate.wait_reached()
        assert resident(server) == ["m:latest"]
        assert server.resident == ()
        gate.open()
        call.result()
        assert server.resident == ("m:latest",)


def test_who_waits_for_a_busy_model_to_leave_holds_up_other_loads_but_no_resident_model():
    gate = Gate()
    models = [gated("busy", gate), "next", "another"]
    with OllamaServer(models, max_loaded_models=1) as server, streaming(server, "busy") as under_way:
        assert next(under_way)
        waiting = [Background(chat, server, "next")]
        server.wait_for_request(count=2)
        waiting.append(Background(chat, server, "another"))
        server.wait_for_request(count=3)
        load_only = post(server, "/api/chat", model="busy", messages=[], stream=False)
        assert load_only.json()["done_reason"] == "load"
        assert server.resident == ("busy:latest",)
        gate.open()
        assert [line["done"] for line in under_way][-1] is True
        assert [call.result().status_code for call in waiting] == [200, 200]
        assert server.resident == ("another:latest",)


def test_room_that_appears_elsewhere_is_taken():
    gate, clock = Gate(), FakeClock()
    with OllamaServer([gated("a", gate), gated("b", gate), "c"], max_loaded_models=2, clock=clock) as server:
        with streaming(server, "a") as first, streaming(server, "b") as second:
            next(first)
            next(second)
            waiting = Background(chat, server, "c")
            server.wait_for_request(count=3)
            server.remove_model("b")
            second.close()
        gate.open()
        assert waiting.result().status_code == 200


def test_the_victim_is_idle_then_the_one_that_stays_shortest():
    gate = Gate()
    server = OllamaServer([gated("busy", gate), "short", "long", "new"], max_loaded_models=3)
    with server, streaming(server, "busy", keep_alive=1) as under_way:
        next(under_way)
        chat(server, "long", keep_alive=-1)
        chat(server, "short", keep_alive="2m")
        chat(server, "new")
        assert set(server.resident) == {"busy:latest", "long:latest", "new:latest"}
        gate.open()


def test_the_victim_is_the_lowest_key_where_all_stay_equally_long():
    models = [ScriptedModel(name, weights=digit * 64) for name, digit in (("a", "2"), ("b", "1"), ("c", "3"))]
    with OllamaServer(models, max_loaded_models=2) as server:
        for name in "abc":
            chat(server, name)
        assert server.resident == ("a:latest", "c:latest")


def test_keep_alive_is_counted_from_the_last_use_and_sticks_until_said_otherwise():
    clock = FakeClock()
    with OllamaServer(["m"], clock=clock) as server:
        chat(server, keep_alive="10m")
        server.wait_until(lambda: clock.pending)  # it counts from when the answer is over
        clock.advance(599)
        chat(server)
        server.wait_until(lambda: clock.pending)
        clock.advance(599)
        assert resident(server) == ["m:latest"]
        clock.advance(2)
        server.wait_until(lambda: not server.resident)


@pytest.mark.parametrize(("keep_alive", "seconds"), [(7, 7), ("1m30s", 90), (None, 300), (0.5, 0.5)])
def test_the_time_of_leaving_is_listed(keep_alive, seconds):
    clock = FakeClock(at=1_000_000.0)
    with OllamaServer(["m"], clock=clock) as server:
        chat(server, keep_alive=keep_alive)
        (listed,) = get(server, "/api/ps")["models"]
        minutes, rest = divmod(seconds, 60)
        assert listed[
            "expires_at"
        ] == f"1970-01-12T13:{46 + (40 + rest) // 60 + minutes:02.0f}:{(40 + rest) % 60:04.1f}Z".replace(".0Z", "Z")


def test_negative_keep_alive_is_for_ever():
    clock = FakeClock()
    with OllamaServer(["m"], clock=clock) as server:
        chat(server, keep_alive=-1)
        clock.advance(1e8)
        assert resident(server) == ["m:latest"]
        assert get(server, "/api/ps")["models"][0]["expires_at"] > "2300"


def test_a_server_may_keep_models_for_ever_or_not_at_all():
    with OllamaServer(["m"], keep_alive=math.inf) as server:
        chat(server)
        assert get(server, "/api/ps")["models"][0]["expires_at"] > "2300"
    with OllamaServer(["m"], keep_alive=0) as server:
        chat(server)
        assert resident(server) == []


def test_keep_alive_0_unloads_when_the_answer_is_done():
    with OllamaServer(["m"]) as server:
        assert chat(server, keep_alive=0).json()["message"]["content"] == "You asked: hi"
        assert resident(server) == []


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_an_empty_request_loads_and_unloads(path):
    with OllamaServer(["m"]) as server:
        assert post(server, path, model="m").json()["done_reason"] == "load"
        assert resident(server) == ["m:latest"]
        assert post(server, path, model="m", keep_alive=0).json()["done_reason"] == "unload"
        assert resident(server) == []
        assert post(server, path, model="m", keep_alive="0s").json()["done_reason"] == "unload"


def test_unloading_waits_for_who_is_busy():
    gate = Gate()
    with OllamaServer([gated("m", gate)]) as server, streaming(server) as under_way:
        assert next(under_way)
        assert post(server, "/api/chat", model="m", keep_alive=0).json()["done_reason"] == "unload"
        assert resident(server) == ["m:latest"]
        gate.open()
        assert [line["done"] for line in under_way] == [False, True]
        server.wait_until(lambda: not server.resident)


def test_aliases_of_the_same_weights_share_a_runner():
    models = [ScriptedModel("a", weights="same"), ScriptedModel("b", weights="same", system="Be b.")]
    with OllamaServer(models) as server:
        chat(server, "a")
        assert chat(server, "b").status_code == 200
        assert server.loads == {"a:latest": 1}
        assert resident(server) == ["a:latest"]


@pytest.mark.parametrize(
    ("options", "loads"),
    [
        ({"num_ctx": 2048}, 2),
        ({"num_ctx": 4096}, 1),
        ({"num_ctx": None}, 1),
        ({"num_thread": 2}, 2),
        ({"num_batch": 64}, 2),
        ({"use_mmap": False}, 2),
        ({"main_gpu": 1}, 2),
        ({"num_gpu": 3}, 2),
        ({"num_gpu": -1}, 1),
        ({"temperature": 1, "seed": 3, "top_k": 5, "stop": ["x"], "num_predict": 3}, 1),
    ],
)
def test_what_is_part_of_the_load_means_loading_again(options, loads):
    with OllamaServer(["m"]) as server:
        chat(server)
        chat(server, options=options)
        assert server.loads == {"m:latest": loads}


def test_num_gpu_left_out_fits_any():
    with OllamaServer(["m"]) as server:
        chat(server, options={"num_gpu": 7})
        chat(server)
        assert server.loads == {"m:latest": 1}


def test_up_to_0_24_contexts_are_compared_as_they_were_asked_for():
    with OllamaServer([ScriptedModel("m", context_length=2048)]) as server:
        for num_ctx in (9999, 9999, 2048):
            chat(server, options={"num_ctx": num_ctx})
            assert get(server, "/api/ps")["models"][0]["context_length"] == 2048
        assert server.loads == {"m:latest": 2}


@pytest.mark.parametrize(
    ("capabilities", "asked", "given"),
    [(["completion"], 0, 4), (["completion"], 3, 4), (["completion", "vision"], 512, 2048)],
)
def test_a_context_has_a_least_size(capabilities, asked, given):
    with OllamaServer([ScriptedModel("m", capabilities=capabilities)]) as server:
        chat(server, options={"num_ctx": asked})
        assert get(server, "/api/ps")["models"][0]["context_length"] == given


def test_a_busy_model_that_must_be_loaded_anew_finishes_first():
    gate = Gate()
    with OllamaServer([gated("m", gate)]) as server, streaming(server) as under_way:
        assert next(under_way)
        other = Background(chat, server, options={"num_ctx": 1024})
        server.wait_for_request(count=2)
        gate.open()
        assert [line["done"] for line in under_way] == [False, True]
        assert other.result().status_code == 200
        assert server.loads == {"m:latest": 2}


def test_the_queue_counts_only_who_needs_a_load():
    gate, load = Gate(), Gate()
    with OllamaServer([gated("m", gate), ScriptedModel("n", load_seconds=load)], max_queue=1) as server:
        with streaming(server) as first:
            assert next(first)
            waiting = [Background(chat, server) for _ in range(5)]
            server.wait_for_request(count=6)
            loading = [Background(chat, server, "n")]
            assert load.wait_reached()
            loading.append(Background(chat, server, "n"))
            server.wait_for_request(count=8)
            refused = chat(server, "n")
            assert (refused.status_code, refused.json()["error"][:11]) == (503, "server busy")
            load.open()
            gate.open()
        assert all(call.result().status_code == 200 for call in waiting + loading)


def test_who_leaves_the_queue_is_passed_over():
    gate = Gate()
    with OllamaServer([gated("a", gate), "b"], max_loaded_models=1) as server, streaming(server, "a") as under_way:
        assert next(under_way)
        with pytest.raises(httpx.ReadTimeout):
            CLIENT.post(f"{server.url}/api/chat", json=body("b"), timeout=0.2)
        gate.open()
        list(under_way)
        assert chat(server, "a").status_code == 200
        assert "b:latest" not in server.loads


def test_a_load_that_takes_too_long_is_given_up():
    clock, gate = FakeClock(), Gate()
    with OllamaServer([ScriptedModel("m", load_seconds=gate)], clock=clock, load_timeout=60) as server:
        call = Background(chat, server)
        assert gate.wait_reached()
        clock.advance(61)
        assert call.result().json() == {"error": "timed out waiting for llama runner to start - progress 0.00 - "}
        assert resident(server) == []


def test_loads_and_words_take_the_time_of_the_clock():
    clock = FakeClock()
    model = ScriptedModel("m", reply="a b c d", load_seconds=30, prompt_tokens_per_second=2, tokens_per_second=0.5)
    with OllamaServer([model], clock=clock) as server:
        call = Background(chat, server)
        server.wait_until(lambda: clock.pending == 2)  # the load, and its limit
        clock.advance(30)
        server.wait_until(lambda: server.loads)
        for seconds in (4, 2, 2, 2, 2):  # eight tokens of prompt, then four of answer
            server.wait_until(lambda: clock.pending == 1)
            clock.advance(seconds)
        final = call.result().json()
    assert final["prompt_eval_count"] == 8
    seconds = {name: value / 1e9 for name, value in final.items() if name.endswith("_duration")}
    assert seconds == {"total_duration": 42, "load_duration": 30, "prompt_eval_duration": 4, "eval_duration": 8}


def test_models_leave_to_make_room_in_memory():
    with OllamaServer([ScriptedModel(name, size=10**9) for name in "abc"], memory=25 * 10**8) as server:
        for name in "abc":
            assert chat(server, name).status_code == 200
        assert len(server.resident) == 2


def test_what_is_larger_than_memory_cannot_be_loaded():
    with OllamaServer([ScriptedModel("m", size=10**10)], memory=10**9) as server:
        answer = chat(server)
        assert (answer.status_code, answer.json()["error"]) == (
            500,
            "model requires more system memory (10.3 GiB) than is available (953.7 MiB)",
        )


def test_a_runner_that_was_killed_is_replaced_without_an_error():
    with OllamaServer(["m"]) as server:
        chat(server)
        server.crash("m")
        assert resident(server) == ["m:latest"]  # as Ollama, which notices only when it is needed
        assert chat(server).status_code == 200
        assert server.loads == {"m:latest": 2}


def test_a_killed_runner_takes_its_answers_with_it():
    gate = Gate()
    with OllamaServer([gated("m", gate)]) as server, streaming(server) as under_way:
        assert next(under_way)
        waiting = Background(chat, server)
        server.wait_for_request(count=2)
        server.crash("m")
        assert next(under_way) == {"error": "an error was encountered while running the model: unexpected EOF"}
        assert waiting.result().json()["error"].startswith("model runner has unexpectedly stopped")
        with pytest.raises(KeyError):
            server.crash("nosuch")


def test_only_what_is_in_memory_can_be_killed():
    with OllamaServer(["m"]) as server, pytest.raises(KeyError, match="not in memory"):
        server.crash("m")


def test_an_engine_that_fails_in_its_own_words():
    class Odd(ScriptedModel):
        async def load(self, settings):
            raise OSError("the disk is gone")

    with OllamaServer([Odd("m")]) as server:
        answer = chat(server)
        assert (answer.status_code, answer.json()) == (500, {"error": "OSError: the disk is gone"})
        assert (
            json.loads(post(server, "/api/generate", model="m", prompt="x").text)["error"]
            == "OSError: the disk is gone"
        )
