"""What is expected of models by their names, and that the shipped numbers are those the data gives."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed_ollama.priors import capabilities_of, evidence_of, mathematics_of, measured, strength_of
from routed_ollama.priors.families import ACTIVE, FAMILIES
from routed_ollama.priors.names import profile_of
from routed_ollama.types import ModelCapability

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import derive_priors as script
import measure_priors as measuring

C = ModelCapability
with_data = pytest.mark.skipif(
    not script.DATA.exists(), reason="the development data (../shared/data) is not beside this checkout"
)


@pytest.mark.parametrize(
    ("name", "family", "size", "active", "variants"),
    [
        ("qwen2.5-coder:7b-instruct-q4_K_M", "qwen2.5-coder", 7, 7, {"coder"}),
        ("hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M", "llama3.2", 3, 3, set()),
        ("hf.co/bartowski/Qwen_Qwen3-8B-GGUF", "qwen3", 8, 8, {"thinking"}),
        ("hf.co/bartowski/google_gemma-3-12b-it-GGUF", "gemma3", 12, 12, set()),
        ("hf.co/x/Meta-Llama-3.1-8B-Instruct-GGUF", "llama3.1", 8, 8, set()),
        ("gemma-2b-it", "gemma", 2, 2, set()),
        ("gemma-2-2b-it", "gemma2", 2, 2, set()),
        ("mixtral:8x7b", "mixtral", 46.7, 12.9, set()),
        ("somebody/4x3b-mix:latest", "", 9.96, 6, set()),
        ("qwen3:30b-a3b", "qwen3", 30.5, 3.3, {"thinking"}),
        ("qwen3:32b", "qwen3", 32.8, 32.8, {"thinking"}),
        ("gemma4:26b", "gemma4", 25.2, 3.8, {"thinking"}),
        ("gemma4:31b", "gemma4", 31, 31, {"thinking"}),
        ("llama-guard3:8b", "llama-guard3", 8, 8, {"mute"}),
        ("somebody/qwen2.5-translator:7b", "qwen2.5", 7, 7, {"specialist"}),
        ("newmoe:40b-a4b", "", 40, 4, set()),
        ("qwen3:235b-a22b-instruct-2507-q4_K_M", "qwen3:2507", 235, 22, set()),
        ("gemma3n:e4b", "gemma3n", 6.9, 4, set()),
        ("deepseek-r1:671b", "deepseek-r1", 671, 37, {"thinking"}),
        ("llama3:8b-text", "llama3", 8, 8, {"base"}),
        ("mistral:7b-v0.2", "mistral:v0.2", 7, 7, set()),
        ("mistral", "mistral", 7.2, 7.2, set()),
        ("phi3:medium", "phi3", 14, 14, set()),
        ("smollm2:135m", "smollm2", 0.135, 0.135, set()),
        ("llama2-uncensored", "llama2-uncensored", 7, 7, {"uncensored"}),
        ("me/my-llama3.1-tune:8b", "llama3.1", 8, 8, set()),
        ("llava:13b", "llava", 13, 13, {"vision"}),
        ("wizard-math:7b", "wizard-math", 7, 7, {"math"}),
        ("llama3:0b", "llama3", 8, 8, set()),
        (":", "", 7, 7, set()),
        ("", "", 7, 7, set()),
    ],
)
def test_names_of_every_form_are_understood(name, family, size, active, variants):
    profile = profile_of(name)
    assert profile.family == family
    assert (profile.size, profile.active) == pytest.approx((size, active))
    assert profile.variants == variants


def test_what_ollama_says_is_believed_where_the_name_is_silent():
    profile = profile_of("me/assistant:latest", "qwen2", 32.8, "Q8_0")
    assert (profile.family, profile.size, profile.quantization) == ("qwen2", 32.8, "q8_0")
    assert profile_of("me/assistant", "qwen3moe").family == "qwen3"
    assert profile_of("me/assistant", "llama").family == ""
    assert profile_of("me/assistant", "mystery").family == ""
    assert profile_of("llama3.1:8b-instruct-q3_K_S").quantization == "q3_k_s"
    assert strength_of("me/assistant", parameters=70) > strength_of("me/assistant", parameters=3)


@pytest.mark.parametrize(
    "better_to_worse",
    [
        ["llama3.1:70b", "llama3.1:8b", "llama3.2:3b", "llama3.2:1b", "tinyllama"],
        ["qwen2.5:72b", "qwen2.5:32b", "qwen2.5:14b", "qwen2.5:7b", "qwen2.5:3b", "qwen2.5:1.5b", "qwen2.5:0.5b"],
        ["qwen3:8b", "qwen2.5:7b", "qwen2:7b", "qwen:7b"],
        ["gemma3:27b", "gemma3:12b", "gemma3:4b", "gemma3:1b"],
        ["llama3.1:8b-instruct-fp16", "llama3.1:8b", "llama3.1:8b-instruct-q3_K_M", "llama3.1:8b-instruct-q2_K"],
        ["unheard:70b", "unheard:13b", "unheard:7b", "unheard:1b"],
        ["llama3:8b", "llama2:7b", "smollm2:135m"],
        ["dolphin-llama3:8b", "llama3:8b-text"],
        ["mixtral:8x22b", "mixtral:8x7b", "mistral:7b-v0.1"],
    ],
)
def test_the_stronger_model_is_expected_to_be_stronger(better_to_worse):
    strengths = [strength_of(name) for name in better_to_worse]
    assert strengths == sorted(strengths, reverse=True)


def test_specialists_are_better_at_their_speciality():
    general, coder = capabilities_of("qwen2.5:14b"), capabilities_of("qwen2.5-coder:14b")
    assert coder[C.CODE_GENERATION] > general[C.CODE_GENERATION]
    assert capabilities_of("unheard-coder:8b")[C.CREATIVITY] < capabilities_of("unheard:8b")[C.CREATIVITY]
    assert mathematics_of("qwen2-math:7b") > mathematics_of("qwen2:7b")
    assert capabilities_of("unheard-thinking:8b")[C.REASONING] > capabilities_of("unheard:8b")[C.REASONING]


@pytest.mark.parametrize(
    ("made_for_one_job", "general"),
    [
        ("llama3-chatqa:70b", "llama3.1:8b"),
        ("firefunction-v2:70b", "llama3:8b"),
        ("unheard-guard:14b", "unheard:7b"),
        ("unheard-ocr:14b", "unheard:7b"),
        ("sqlcoder:15b", "starcoder2:15b-instruct"),
    ],
)
def test_who_was_made_for_another_job_is_no_match_for_a_smaller_model_that_chats(made_for_one_job, general):
    assert strength_of(made_for_one_job) < strength_of(general)


def test_mathematics_is_another_matter_than_reasoning():
    chatty, calculating = "gemma3:27b", "qwen2.5:14b"
    assert capabilities_of(chatty)[C.REASONING] > capabilities_of(calculating)[C.REASONING]
    assert mathematics_of(chatty) < mathematics_of(calculating)


def test_speed_follows_what_is_read_per_token():
    speeds = [
        capabilities_of(name)[C.SPEED]
        for name in (
            "smollm2:135m",
            "llama3.2:1b",
            "qwen3-coder:30b",
            "llama3.1:8b",
            "llama3.1:8b-instruct-fp16",
            "qwen2.5:72b",
        )
    ]
    assert speeds == sorted(speeds, reverse=True)
    assert capabilities_of("qwen3:8b")[C.SPEED] < capabilities_of("llama3.1:8b")[C.SPEED]
    assert capabilities_of("x:8b", quantization="mystery") == capabilities_of("x:8b")


@given(st.text(max_size=40), st.text(max_size=10), st.floats(-1, 3000), st.text(max_size=8))
def test_every_name_gets_an_answer(name, family, parameters, quantization):
    found = capabilities_of(name, family=family, parameters=parameters, quantization=quantization)
    assert set(found) == set(C)
    assert all(0 <= value <= 1 for value in found.values())
    assert 0 <= strength_of(name, family=family, parameters=parameters, quantization=quantization) <= 1
    assert 0 <= mathematics_of(name, family=family, parameters=parameters, quantization=quantization) <= 1


def test_every_known_family_is_recognised_by_its_name():
    for name in FAMILIES:
        assert profile_of(name.replace(":", ":7b-")).family == name
    assert ACTIVE.keys() <= FAMILIES.keys()


def test_measured_names_are_names_of_known_families():
    for key in measured.MODELS:
        assert key.partition("|")[0] in FAMILIES


def test_equations_are_solved():
    assert script.solve([[4.0, 2.0, 0.0], [2.0, 3.0, 1.0], [0.0, 1.0, 2.0]], [8.0, 13.0, 9.0]) == pytest.approx(
        [0.5, 3.0, 3.0]
    )


@pytest.mark.parametrize(
    ("values", "weights", "rising"),
    [
        ([1.0, 2.0, 3.0], [1, 1, 1], [1.0, 2.0, 3.0]),
        ([3.0, 1.0], [1, 1], [2.0, 2.0]),
        ([3.0, 1.0], [3, 1], [2.5, 2.5]),
        ([1.0, 4.0, 3.0, 2.0], [1, 1, 1, 1], [1.0, 3.0, 3.0, 3.0]),
        ([], [], []),
    ],
)
def test_what_falls_with_size_is_pooled(values, weights, rising):
    assert script.isotonic(values, weights) == pytest.approx(rising)


@pytest.mark.parametrize(
    ("name", "grade"),
    [
        ("llama3.1:8b", "measured"),
        ("llama3.1:8b-instruct-q3_K_S", "measured"),
        ("hf.co/bartowski/Meta-Llama-3.1-8B-Instruct-GGUF:Q4_K_M", "measured"),
        ("qwen3:8b", "measured"),
        ("gemma3:27b", "measured"),
        ("qwen2.5-coder:14b", "sparse"),
        ("qwq:32b", "sparse"),
        ("qwen2.5-coder:20b", "sibling"),
        ("llama3.1:8b-text-q4_0", "sibling"),
        ("somebody/llama3.1-pirate:8b", "sibling"),
        ("llama3.1:8b-abliterated", "sibling"),
        ("smollm2:1.7b", "reported"),
        ("gemma4:26b", "reported"),
        ("stablelm2:1.6b", "curve"),
        ("gemma9:12b", "curve"),
        ("somebody/thing:7b", "curve"),
        ("somebody/thing", "unknown"),
        ("", "unknown"),
    ],
)
def test_each_name_says_what_its_numbers_rest_on(name, grade):
    assert evidence_of(name).grade == grade


def test_what_only_the_server_knows_is_evidence_too():
    assert evidence_of("me/assistant").grade == "unknown"
    assert evidence_of("me/assistant", parameters=7.6).grade == "curve"
    assert evidence_of("me/assistant", family="qwen2", parameters=7.6).grade == "sibling"


def test_a_maker_alone_is_not_a_measurement():
    assert evidence_of("deepseek-v3:671b").maker >= 1
    grades = {evidence_of(key.replace("|", ":") + "b").grade for key in measured.EVIDENCE}
    assert {"measured", "sparse"} <= grades
    assert all(evidence_of(name).independent == 0 for name in ("smollm2:1.7b", "nothing-known"))
    assert evidence_of("smollm2:1.7b").maker > 1


def test_enough_models_are_measured_by_others():
    assert sum(independent >= 2 for independent, _ in measured.EVIDENCE.values()) >= 60
    assert set(measured.EVIDENCE) == set(measured.MODELS)


@pytest.mark.parametrize(
    ("known", "later"),
    [("gemma3:12b", "gemma9:12b"), ("qwen3:8b", "qwen7.5:8b"), ("llama3.1:8b", "hf.co/x/Llama-8-8B-Instruct-GGUF")],
)
def test_a_generation_nobody_knows_yet_is_taken_for_later_than_the_last(known, later):
    assert profile_of(later).line == profile_of(known).line
    assert profile_of(later).released > profile_of(known).released
    assert profile_of(later).size == profile_of(known).size


@pytest.mark.parametrize("name", ["qwen1.5:7b", "phi-2", "openhermes-2.5-mistral-7b", "mistral-small-2501"])
def test_a_number_in_a_name_need_not_be_a_later_generation(name):
    assert profile_of(name).family in FAMILIES


def tables_of_leaderboards():
    return json.loads(script.PUBLISHED.read_text(encoding="utf-8"))["tables"]


@pytest.mark.parametrize("table", tables_of_leaderboards(), ids=lambda table: table["benchmark"])
def test_every_published_figure_has_its_source_and_a_licence_that_permits(table):
    assert table["source"].startswith("https://")
    assert table["licence"] in script.LICENCES
    assert table["licence_seen_in"]
    assert table["by"] in {"independent", "maker"}
    assert table["measures"]
    assert table["benchmark"] in script.BENCHMARKS
    for tag, percent in table["results"].values():
        assert 0 <= percent <= 100
        assert profile_of(tag).family in FAMILIES


def test_a_row_whose_licence_does_not_permit_vanishes_from_the_derivation(tmp_path):
    row = {"source": "mmlu-pro", "category": "math", "prompt": "?", "scores": {"llama3.1:8b": 1.0}}
    licences = ["MIT", "Apache-2.0", "CC-BY-NC-4.0", "none stated", "apache 2.0", ""]
    (tmp_path / "category_priors.json").write_text("{}", encoding="utf-8")
    found = {}
    for licence in licences:
        text = json.dumps({**row, "licence": licence})
        (tmp_path / "routing.jsonl").write_text(text + "\n", encoding="utf-8")
        table = {"benchmark": "aider-edit", "licence": licence, "by": "maker", "results": {"x": ["qwen2:7b", 50.0]}}
        published = tmp_path / "published.json"
        published.write_text(json.dumps({"tables": [table]}), encoding="utf-8")
        found[licence] = [result.benchmark for result in script.results(tmp_path, published)]
        assert len(script.raw_results(tmp_path, published)) == 2
    assert found == {licence: ["aider-edit", "mmlu-pro/math"] * (licence in script.LICENCES) for licence in licences}


def test_the_page_tells_what_is_shipped():
    page = script.PAGE.read_text(encoding="utf-8")
    assert page == script.with_table(page, measured.EVIDENCE), "run tests/benchmarks/derive_priors.py --write"
    for table in tables_of_leaderboards():
        assert table["source"] in page


def test_what_a_maker_says_counts_less():
    others = [script.Result("aider-edit", name, 0.3) for name in ("llama3.1:8b", "qwen2:7b", "gemma2:9b", "yi:9b-v1.5")]
    own = script.Result("aider-edit", "phi4:14b", 0.9)
    effects = [
        script.fit(C.CODE_GENERATION, [*others, own._replace(independent=independent)])["model phi4|14"]
        for independent in (True, False)
    ]
    assert effects[0] > effects[1] > 0


@with_data
def test_the_shipped_numbers_are_those_the_data_gives():
    found = script.results()
    for name, table in {**script.derive(found), "EVIDENCE": script.evidence(found)}.items():
        assert table == getattr(measured, name), (
            f"measured.{name} is stale: run tests/benchmarks/derive_priors.py --write"
        )


@with_data
@pytest.mark.parametrize("source", sorted(measuring.POOLS))
def test_the_strongest_by_prior_is_within_two_points_of_the_best_of_a_pool_it_was_never_measured_in(source):
    table = measuring.table_of(measuring.of_source(script.raw_results(), source))
    score = measuring.means(table, measuring.POOLS[source])
    chosen = measuring.pick(measuring.POOLS[source], measuring.without(script.results(), source))
    assert max(score.values()) - score[chosen] <= 2.0
