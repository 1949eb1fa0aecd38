"""Pools of models as people have them: who must not come first, and who must not come last."""

import pytest

from routed_ollama import Router
from routed_ollama.priors import strength_of
from routed_ollama.priors.names import profile_of

PROMPTS = (
    "Write a Python function that merges overlapping intervals",
    "TypeError: Cannot read properties of undefined (reading 'map')",
    "Should we split our monolith into microservices? We are a team of eight.",
    "write a short poem about autumn",
    "hi, how are you?",
)


@pytest.mark.parametrize(
    "mute",
    [
        "bge-m3",
        "all-minilm",
        "mxbai-embed-large",
        "snowflake-arctic-embed2",
        "paraphrase-multilingual",
        "qwen3-embedding:8b",
        "embeddinggemma:300m",
        "jeffh/intfloat-multilingual-e5-large:f16",
        "hf.co/BAAI/bge-reranker-v2-m3-GGUF",
        "shieldgemma:9b",
        "llama-guard3:8b",
        "deepseek-ocr:3b",
    ],
)
def test_who_does_not_chat_comes_after_the_smallest_that_does(mute):
    router = Router.from_models([mute, "tinyllama", "smollm:135m"], store="memory")
    for prompt in PROMPTS:
        assert router.recommend_model(prompt).scores[-1].candidate.model.startswith(mute)


@pytest.mark.parametrize("old", ["everythinglm:13b", "stable-beluga:13b", "mistral-openorca:7b", "yarn-llama2:13b"])
def test_who_is_old_comes_after_a_newer_one_of_its_size(old):
    router = Router.from_models([old, "llama3.1:8b"], store="memory")
    assert {router.recommend_model(prompt).model for prompt in PROMPTS} == {"llama3.1:8b"}


@pytest.mark.parametrize("cloud", ["glm-4.6:cloud", "minimax-m2:cloud", "kimi-k2:1t-cloud", "never-heard-of:cloud"])
def test_what_the_cloud_runs_is_thought_large(cloud):
    assert strength_of(cloud) > strength_of("glm4:9b")
    assert strength_of(cloud) > strength_of("llama3.1:8b")


@pytest.mark.parametrize(
    ("name", "size", "active"),
    [
        ("kimi-k2:1t-cloud", 1000, 32),
        ("some-model:1.5t", 1500, 1500),
        ("glm-4.6:cloud", 357, 32),
        ("glm-4.5-air", 106, 12),
        ("qwen3-coder-next:80b", 79.7, 3),
        ("devstral-2:123b", 123, 123),
        ("devstral:24b", 24, 24),
    ],
)
def test_the_sizes_of_large_ones_are_read(name, size, active):
    profile = profile_of(name)
    assert (profile.size, profile.active) == (size, active)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("starcoder2:15b", True),
        ("starcoder2", True),
        ("starcoder2:instruct", False),
        ("codegemma:2b", True),
        ("codegemma:7b", False),
        ("yarn-mistral:7b-128k", True),
        ("mistral:7b", False),
    ],
)
def test_base_models_are_known_even_if_their_tags_do_not_say_so(name, base):
    assert ("base" in profile_of(name).variants) is base
