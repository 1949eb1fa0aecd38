"""What a model supports, where no server says it: by its name, and only where another's name says more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from routed_ollama import (
    Catalog,
    CircuitState,
    Message,
    ModelInfo,
    Needs,
    PerformanceHistory,
    Recommendation,
    Router,
    TaskCharacteristics,
    score_models,
)
from routed_ollama.priors import flags
from routed_ollama.priors.families import FAMILIES
from routed_ollama.priors.flags import likely_flags
from routed_ollama.scoring import ModelView, ScoringSettings, standing_bar

VISION, TOOLS, THINKING = Needs(vision=True), Needs(tools=True), Needs(thinking=True)
SEES, CALLS = frozenset({"completion", "vision"}), frozenset({"completion", "tools"})


def view(name: str, said: frozenset[str] | None = None, **state: object) -> ModelView:
    info = Catalog().guess(name)
    return ModelView(info if said is None else replace(info, flags=said, flags_known=True), **state)


def choose(*views: ModelView | str, needs: Needs, first: tuple[str, ...] = ()) -> Recommendation:
    models = [view(each) if isinstance(each, str) else each for each in views]
    settings = ScoringSettings(first=first)
    return score_models(models, TaskCharacteristics(needs=needs), settings, PerformanceHistory())


def order(found: Recommendation) -> list[str]:
    return [score.candidate.model for score in found.scores]


@pytest.mark.parametrize(
    "name",
    [
        "llava:7b", "llava-llama3", "bakllava", "moondream", "minicpm-v:8b", "llama3.2-vision:11b", "llama4:scout",
        "gemma3", "gemma3:4b", "gemma3:27b-it-qat", "qwen2.5vl:7b", "qwen3-vl:8b", "granite3.2-vision:2b",
        "mistral-small3.1", "mistral-small3.2:24b", "hf.co/unsloth/gemma-3-12b-it-GGUF:Q4_K_M",
    ],
)  # fmt: skip
def test_who_sees_is_asked_about_an_image_and_not_the_strongest(name):
    found = choose("llama3.3:70b", name, "qwen2.5:14b", needs=VISION)
    assert order(found) == [name]
    assert {one.gate for one in found.refused} == {"vision"}
    assert all("is not known to support vision" in one.reason for one in found.refused)


@pytest.mark.parametrize("name", ["gemma3:1b", "gemma3:270m", "gemma3n:e4b", "mistral-small:24b", "llama3.2:3b"])
def test_a_small_or_like_named_one_of_the_family_does_not_see(name):
    assert order(choose(name, "moondream", needs=VISION)) == ["moondream"]


def test_where_none_is_known_to_see_all_are_asked():
    assert set(order(choose("qwen2.5:14b", "my-own:7b", needs=VISION))) == {"qwen2.5:14b", "my-own:7b"}


@pytest.mark.parametrize(
    ("needs", "able", "others"),
    [
        (TOOLS, "llama3.2:1b", ["gemma3:27b", "phi4:14b", "llama2:70b", "gemma2:9b", "mistral:7b-v0.1", "bge-m3"]),
        (TOOLS, "llama3-groq-tool-use:8b", ["llama3:70b"]),
        (THINKING, "qwen3:0.6b", ["llama3.3:70b", "qwen3:30b-a3b-instruct-2507"]),
        (THINKING, "qwen3-vl:2b", ["llava:7b", "qwen3-vl:32b-instruct"]),
        (Needs(vision=True, tools=True), "qwen3-vl:2b", ["llama3.3:70b", "gemma3:27b"]),
    ],
)
def test_the_same_goes_for_tools_and_reasoning(needs, able, others):
    assert order(choose(*others, able, needs=needs)) == [able]


def test_of_a_family_that_nobody_knows_it_is_not_doubted_that_it_calls_tools():
    assert set(order(choose("never-heard-of:8b", "llama3.1:8b", needs=TOOLS))) == {"never-heard-of:8b", "llama3.1:8b"}


def test_a_name_counts_less_than_what_a_server_says():
    sees, blind = view("qwen2.5:14b", SEES), view("llava:7b", CALLS)
    assert order(choose(sees, blind, "gemma2:9b", needs=VISION)) == ["qwen2.5:14b"]
    assert order(choose(blind, "gemma2:9b", needs=VISION)) == ["gemma2:9b"], "nobody is known to be better"


def test_who_was_named_for_the_call_is_asked_whatever_its_name_says():
    assert order(choose("my-own:7b", "llava:7b", "qwen2.5:14b", needs=VISION, first=("my-own:7b",))) == [
        "my-own:7b",
        "llava:7b",
    ]


def test_who_is_kept_out_anyway_refuses_nobody_else():
    out = view("llava:7b", barred=("memory", "is larger than this machine's memory; name it to use it"))
    assert order(choose(out, "qwen2.5:14b", needs=VISION)) == ["qwen2.5:14b"]


def test_who_sees_and_rests_is_tried_before_one_that_does_not_see():
    found = choose(view("llava:7b", circuit=CircuitState.OPEN), "qwen2.5:14b", needs=VISION)
    assert (order(found), found.panic) == (["llava:7b"], True)


def test_without_needs_nothing_is_asked_of_a_name():
    assert len(choose("llava:7b", "qwen2.5:14b", "bge-m3", needs=Needs(structured_output=True)).scores) == 3


@pytest.mark.parametrize(("seeing", "strong"), [("llava:7b", "qwen2.5:14b"), ("gemma3:4b", "llama3.3:70b")])
def test_a_router_of_names_alone_has_the_image_seen(seeing, strong):
    router = Router.from_models([strong, seeing], store="memory")
    plan = router.plan([Message("user", "What is in this picture?", images=1)], needs=VISION)
    assert plan.recommendation.model == seeing
    assert router.recommend_model("Prove that there are infinitely many primes.").model == strong


def test_every_family_that_is_listed_is_known():
    for listed in (flags._CALL, flags._SEE.keys(), flags._REASON):
        assert not listed - FAMILIES.keys()


@pytest.mark.parametrize("name", ["", ":", "x" * 5000, "🦙", f"gemma3:{'9' * 400}b", f"llava:{'9' * 5000}x7b"])
def test_any_text_is_a_name(name):
    assert likely_flags(name) <= {"tools", "vision", "thinking"}


# Who does not chat


@pytest.mark.parametrize(
    "name",
    [
        "bge-m3", "all-minilm:22m", "paraphrase-multilingual", "snowflake-arctic-embed2", "nomic-embed-text:v1.5",
        "mxbai-embed-large", "embeddinggemma:300m", "qwen3-embedding:8b", "hf.co/BAAI/bge-reranker-v2-m3-GGUF",
        "llama-guard3:8b",
    ],
)  # fmt: skip
def test_who_does_not_chat_is_left_out_where_no_server_says_so_unless_it_is_named(name):
    bar = standing_bar(ModelInfo(name), named=False)
    assert bar is not None
    assert bar[0] == "completion"
    assert standing_bar(ModelInfo(name), named=True) is None
    told = ModelInfo(name, flags=frozenset({"completion"}), flags_known=True)
    assert standing_bar(told, named=False) is None, "its server says that it does"


@pytest.mark.parametrize("name", ["llama3.1:8b", "qwen3:latest", "my-own", "gemma3:4b", "command-r"])
def test_who_chats_is_not_left_out(name):
    assert standing_bar(ModelInfo(name), named=False) is None
