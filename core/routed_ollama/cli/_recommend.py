"""``routed-ollama recommend``: a ranking with its reasons, as a table or as JSON. No model is asked or loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import typer
from rich.box import SIMPLE_HEAD
from rich.text import Text

from routed_ollama.cli._console import console, plain
from routed_ollama.cli._sheet import Field, show_table
from routed_ollama.errors import ConfigurationError, HostUnreachableError
from routed_ollama.router import Router
from routed_ollama.types import ModelScore, Prefer, Recommendation, TaskCharacteristics

_NAME_WIDTH: Final = 30
"""Columns that a model's name is given before it is folded."""
_REASON_WIDTH: Final = 20
"""Columns that a reason needs to be worth reading."""
_IN_MEMORY: Final = {True: "yes", False: "no", None: "?"}


@dataclass(frozen=True, slots=True)
class Advice:
    """A recommendation, and what it rests on.

    Attributes:
        ranking: the recommendation.
        hosts: servers that were asked; empty when it rests on names alone.
        silent: the server that did not answer, when it does.
    """

    ranking: Recommendation
    hosts: tuple[str, ...]
    silent: str = ""


def advise(
    prompt: str,
    *,
    models: str | None = None,
    host: str | None = None,
    prefer: Prefer | None = None,
    config: str | None = None,
) -> Advice:
    """Return the ranking for a prompt.

    Args:
        prompt: what would be asked.
        models: names, separated by commas; None for every installed chat model.
        host: URL of a server; None for the usual ones.
        prefer: the better answer, the faster one, or a mix.
        config: a configuration file.

    Raises:
        RoutedOllamaError: no server answers (and no names were given, or this server was), or no model can serve.
    """
    names = _names(models)
    with Router(names, base_url=host, config=config, prefer=prefer) as router:
        try:
            router.health_check_all_models()
        except HostUnreachableError:
            if names is None or host is not None:
                raise
            silent = ", ".join(router.hosts)
        else:
            return Advice(router.recommend_model(prompt), tuple(router.hosts))
    with Router.from_models(names, config=config, prefer=prefer) as router:
        return Advice(router.recommend_model(prompt), (), silent)


def _names(models: str | None) -> list[str] | None:
    if models is None:
        return None
    names = [name.strip() for name in models.split(",") if name.strip()]
    if not names:
        raise ConfigurationError("--models names no model. Write them with commas: --models llama3.1:8b,gemma2:9b")
    return names


def show(advice: Advice, *, as_json: bool, explain: bool = False) -> None:
    """Print it.

    Args:
        advice: the recommendation.
        as_json: for a program instead of a person.
        explain: with all that the choice rests on.
    """
    ranking = advice.ranking
    if as_json:
        explanation = {"explanation": ranking.explain().to_dict()} if explain else {}
        typer.echo(json.dumps({**as_dict(advice), **explanation}, indent=2))
        return
    out = console()
    if advice.silent:
        out.print(f"No Ollama answers at {advice.silent}: names alone decide, by what is known of such models.\n")
    if explain:
        out.print(Text(str(ranking.explain())), soft_wrap=True)
        return
    show_table(out, _fields(ranking, several_hosts=len(advice.hosts) > 1), box=SIMPLE_HEAD, first="green")
    for refusal in ranking.refused:
        out.print(Text(f"Refused: {plain(refusal.candidate.model)} {plain(refusal.reason)}", style="dim"))
    out.print(Text(plain(ranking.reason)))


def _fields(ranking: Recommendation, *, several_hosts: bool) -> list[Field]:
    """The table's columns; the sentence below it says what decided, so the others may go where room lacks."""
    scores = ranking.scores
    host = [Field("host", [plain(score.candidate.host) for score in scores], fold=_NAME_WIDTH)] if several_hosts else []
    expected = ["" if score.prediction is None else f"{score.prediction.seconds:.1f} s" for score in scores]
    reasons = [plain("; ".join(_reasons(score))) for score in scores]
    return [
        Field("", [str(rank) for rank in range(1, len(scores) + 1)], figures=True),
        Field("model", [plain(score.candidate.model) for score in scores], fold=_NAME_WIDTH, style="bold"),
        *host,
        Field("score", [f"{score.total:.2f}" for score in scores], figures=True),
        Field("capability", [f"{score.capability:.2f}" for score in scores], figures=True, spare=4),
        Field("performance", [f"{score.performance:.2f}" for score in scores], figures=True, spare=3),
        Field("health", [f"{score.health:.2f}" for score in scores], figures=True, spare=2),
        Field("expected", expected, figures=True, spare=6),
        Field("loaded", [_IN_MEMORY[score.resident] for score in scores], figures=True, spare=5),
        Field("reason", reasons, fold=_REASON_WIDTH, spare=1),
    ]


def _reasons(score: ModelScore) -> list[str]:
    """What the figures beside it do not say."""
    words = list(score.notes)
    if (prediction := score.prediction) is not None:
        words.append(f"quality {prediction.quality:.1f}/10, success {prediction.success_rate:.0%}")
        if prediction.load:
            words.append(f"loads in {prediction.load:.1f} s")
    return words


def as_dict(advice: Advice) -> dict[str, Any]:
    """Return it as plain JSON values."""
    ranking = advice.ranking
    return {
        "model": ranking.model,
        "reason": ranking.reason,
        "hosts": list(advice.hosts),
        "task": _task(ranking.task),
        "ranking": [_score(rank, score) for rank, score in enumerate(ranking.scores, 1)],
        "refused": [
            {"model": each.candidate.model, "host": each.candidate.host, "gate": each.gate, "reason": each.reason}
            for each in ranking.refused
        ],
        "panic": ranking.panic,
        "decision_seconds": ranking.decision_seconds,
    }


def _task(task: TaskCharacteristics) -> dict[str, Any]:
    return {
        "task_type": task.task_type.value,
        "confidence": task.confidence,
        "complexity": task.complexity.value,
        "accuracy": task.accuracy,
        "speed": task.speed,
        "creativity": task.creativity,
        "prompt_tokens": task.prompt_tokens,
        "output_tokens": task.output_tokens,
        "capabilities": {capability.value: share for capability, share in task.capabilities.items()},
        "mathematics": task.mathematics,
    }


def _score(rank: int, score: ModelScore) -> dict[str, Any]:
    prediction = score.prediction
    return {
        "rank": rank,
        "model": score.candidate.model,
        "host": score.candidate.host,
        "score": score.total,
        "capability": score.capability,
        "performance": score.performance,
        "health": score.health,
        "preference": score.preference,
        "expected_seconds": None if prediction is None else prediction.seconds,
        "load_seconds": None if prediction is None else prediction.load,
        "in_memory": score.resident,
        "reasons": list(score.reasons),
    }
