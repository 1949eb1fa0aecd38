"""What a router tells of its models: records, health, who would stand in. Reads what is known, and chooses nothing."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from routed_ollama._arguments import checked_name
from routed_ollama._knowledge import Knowledge
from routed_ollama._life import Closing
from routed_ollama.errors import HostUnreachableError
from routed_ollama.fallback import unreachable_message
from routed_ollama.hints import checked_task_type
from routed_ollama.types import Candidate, HealthStatus, Message, ModelInfo, ModelPerformance, Recommendation, TaskType


class Telling(Closing):
    """Tells of what a router knows. Whoever is one has that knowledge, and recommends."""

    _known: Knowledge

    @abstractmethod
    def recommend_model(self, prompt: str | Sequence[Message], **hints: Any) -> Recommendation:
        """Return the ranking for a prompt."""

    def context_window(self, candidate: Candidate) -> int:
        """Return how many tokens a model takes without being loaded anew, as of the last look.

        That is what it was grown to, else what it was loaded with, else what Ollama gives it by default.
        """
        return self._known.context_window(candidate)

    def models(self) -> list[ModelInfo]:
        """Return what is known of every installed model, as of the last look."""
        return [info for view in self._known.catalog.views.values() for info in view.models.values()]

    def performance(self, task_type: TaskType | str | None = None) -> dict[str, ModelPerformance]:
        """Return every model's record, overall or for one task type.

        Raises:
            ConfigurationError: there is no such kind of task.
        """
        self._known.warm_up()
        return self._known.history.performance(checked_task_type(task_type))

    def health_check_all_models(self) -> dict[str, HealthStatus]:
        """Ask every host now and return each model's health. Loads no model.

        Raises:
            HostUnreachableError: no server answers.
        """
        self._known.warm_up()
        self._known.refresh(list(self._known.catalog.hosts))
        views = self._known.catalog.views
        if all(view.error for view in views.values()):
            raise HostUnreachableError(unreachable_message(", ".join(views), next(v.error for v in views.values())))
        return self._health()

    def _health(self) -> dict[str, HealthStatus]:
        """Each model's health as of the last look; of one on several hosts, the best."""
        health: dict[str, HealthStatus] = {}
        order = list(HealthStatus)
        for view in self._known.catalog.views.values():
            for info in view.models.values():
                status = HealthStatus.UNHEALTHY if view.error else self._known.health(info)
                health[info.name] = min(health.get(info.name, status), status, key=order.index)
        return health

    async def ahealth_check_all_models(self) -> dict[str, HealthStatus]:
        """Async form of ``health_check_all_models``."""
        return await asyncio.to_thread(self.health_check_all_models)

    def get_fallback_models(self, model: str, prompt: str = "", **hints: Any) -> list[str]:
        """Return the models that would be asked if ``model`` failed, best first.

        Args:
            model: the one that fails.
            prompt: for which request; empty for any.
            **hints: as for ``plan``.
        """
        named = checked_name(model)
        ranking = self.recommend_model(prompt, **hints)
        name = self._known.catalog.installed_name(named)
        return [other for other in dict.fromkeys(score.candidate.model for score in ranking.scores) if other != name]

    async def aget_fallback_models(self, model: str, prompt: str = "", **hints: Any) -> list[str]:
        """Async form of ``get_fallback_models``."""
        return await asyncio.to_thread(self.get_fallback_models, model, prompt, **hints)

    async def aget_model_recommendations(self, prompt: str, **hints: Any) -> dict[str, Any]:
        """Async form of ``get_model_recommendations``."""
        return await asyncio.to_thread(self.get_model_recommendations, prompt, **hints)

    def get_model_recommendations(self, prompt: str, **hints: Any) -> dict[str, Any]:
        """Return a recommendation as a plain mapping.

        Args:
            prompt: text.
            **hints: as for ``plan``.

        Returns:
            ``primary_recommendation``, ``fallback_models``, ``reasoning``, ``task_characteristics``, ``scores``,
            ``health``.
        """
        ranking = self.recommend_model(prompt, **hints)
        return {
            "primary_recommendation": ranking.model,
            "fallback_models": list(ranking.fallbacks),
            "reasoning": ranking.reasoning,
            "task_characteristics": ranking.task,
            "scores": {score.candidate.model: round(score.total, 4) for score in reversed(ranking.scores)},
            "health": self._health(),
        }
