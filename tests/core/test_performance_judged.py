"""What a person reads of a model that was judged before any of its attempts was recorded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from routed_ollama import ModelPerformance, Router, TaskType

PROMPT = "Write a Python function that sorts a list"
MODEL = "llama3.1:8b"


@pytest.mark.parametrize("task_type", [None, TaskType.CODING], ids=["overall", "by task"])
def test_one_that_was_only_judged_has_failed_at_nothing(task_type: TaskType | None) -> None:
    with Router.from_models([MODEL]) as router:
        recommendation = router.recommend_model(PROMPT)
        assert recommendation.task.task_type is TaskType.CODING
        router.record_feedback(recommendation.request_id, 9)
        assert router.performance(task_type) == {MODEL: ModelPerformance(MODEL, success_rate=1.0, quality_score=9.0)}


@pytest.mark.parametrize("success", [True, False])
def test_its_first_attempt_says_all_of_its_success(success: bool) -> None:
    with Router.from_models([MODEL]) as router:
        router.record_feedback(router.recommend_model(PROMPT).request_id, 9)
        router.record_performance(MODEL, response_time=2.0, success=success)
        found = router.performance()[MODEL]
    assert replace(found, last_updated=0.0) == ModelPerformance(
        MODEL,
        average_response_time=2.0 * success,
        success_rate=float(success),
        quality_score=9.0,
        total_requests=1,
    )
