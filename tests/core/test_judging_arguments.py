"""What is no text and no conversation is told so, in the words of what was wrong."""

from collections.abc import Sequence
from typing import Any

import pytest

from routed_ollama import Message, analyze, assess_quality
from routed_ollama.quality import explain_quality


@pytest.mark.parametrize(
    ("messages", "kind"),
    [
        (None, "NoneType"),
        (5, "int"),
        ({"role": "user"}, "dict"),
        ([{"role": "user", "content": "hi"}], "holds dict"),
        (["hi"], "holds str"),
        ([Message("user", "hi"), None], "holds NoneType"),
    ],
)
def test_analyze_says_what_it_was_given(messages: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=rf"must be text or a list of routed_ollama.Message, not .*{kind}\."):
        analyze(messages)


@pytest.mark.parametrize("judge", [assess_quality, explain_quality])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((None, "x"), "prompt must be text, not NoneType"),
        (("x", None), "response must be text, not NoneType"),
        (("x", ["y"]), "response must be text, not list"),
        ((b"x", "y"), "prompt must be text, not bytes"),
    ],
)
def test_quality_says_what_it_was_given(judge: Any, arguments: Sequence[Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        judge(*arguments)
