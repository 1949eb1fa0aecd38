"""From a conversation to a plan: analysis, scoring, and what each attempt is given. Reads memory only; never waits."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from routed_ollama._knowledge import Knowledge
from routed_ollama._own_types import OwnTaskTypes
from routed_ollama._views import Scope
from routed_ollama._waiting import Turn
from routed_ollama.analysis import analyze
from routed_ollama.config import RouterConfig
from routed_ollama.errors import ContextLengthError, HostUnreachableError, NoModelError
from routed_ollama.fallback import Allowance, AttemptPlan, Choice, unreachable_message
from routed_ollama.hints import checked_prefer, checked_task_type
from routed_ollama.performance import prior_load_seconds
from routed_ollama.scoring import ModelView, ScoringSettings, score_models
from routed_ollama.transport import Expected, Marks, Timeouts
from routed_ollama.types import (
    NO_NEEDS,
    Candidate,
    CircuitState,
    Message,
    MidStream,
    ModelInfo,
    Needs,
    Prefer,
    Recommendation,
    TaskCharacteristics,
    TaskType,
)

_IDS = random.Random()  # noqa: S311 (identifiers, no secrets; asking the system for each would give up the GIL)
if hasattr(os, "register_at_fork"):  # pragma: no branch (false on Windows only, which cannot fork)
    os.register_at_fork(after_in_child=_IDS.seed)


@dataclass(frozen=True, slots=True)
class Hints:
    """What a caller knows of a request beside its messages.

    Attributes:
        needs: what the model cannot do without.
        task_type: what the prompt asks for, where the caller knows better than the analysis.
        prefer: the better answer, the faster one, or a mix; None as configured.
        preferred: name of the usual model; it answers unless another is expected to do better by a margin.
        first: names that come first, always.
        sticky: the candidate that is answering the conversation.
        stay: whether the conversation must stay with it (its tool calls or reasoning are in the history).
        extra_tokens: length of tools and schemas, in tokens.
        max_output_tokens: the answer's limit, in tokens.
        joinable: whether the answer is plain text, which another model can go on with.
        mid_stream, max_attempts: as configured unless given.
        timeouts: bounds by phase.
        context: tokens of context that were promised, to be had of every model that can.
        session: name of the conversation; it stays with the model that is answering it.
    """

    needs: Needs = NO_NEEDS
    task_type: TaskType | None = None
    prefer: Prefer | None = None
    preferred: str | None = None
    first: Sequence[str] = ()
    sticky: Candidate | None = None
    stay: bool = False
    extra_tokens: int = 0
    max_output_tokens: int | None = None
    joinable: bool = True
    mid_stream: MidStream | None = None
    max_attempts: int | None = None
    timeouts: Timeouts | None = None
    context: int = 0
    session: str | None = None


def hints_of(given: dict[str, Any]) -> Hints:
    """Return what a caller said of a request, checked.

    Raises:
        ConfigurationError: there is no such kind of task or preference.
        TypeError: there is no such hint; says which there are.
    """
    try:
        hints = Hints(**given)
    except TypeError:
        wrong = next(name for name in given if name not in Hints.__dataclass_fields__)
        known = ", ".join(("scope", *Hints.__dataclass_fields__))
        raise TypeError(f"There is no hint {wrong!r}; there are {known}.") from None
    task_type, prefer = hints.task_type, hints.prefer
    if type(task_type) is TaskType and prefer is None:
        return hints
    return replace(hints, task_type=checked_task_type(task_type), prefer=checked_prefer(prefer))


def decide(
    known: Knowledge,
    config: RouterConfig,
    messages: Sequence[Message],
    scope: Scope | None,
    hints: Hints,
    *,
    timeouts: Timeouts,
    own: OwnTaskTypes,
) -> AttemptPlan:
    """Return the attempt plan for a request.

    Raises:
        NoModelError: no model can serve; says why and what to do.
        HostUnreachableError: no server answers.
    """
    began = time.perf_counter()
    installed = known.catalog.installed_name
    task = analyze(
        messages,
        needs=hints.needs,
        task_type=hints.task_type or own.of(messages),
        extra_tokens=hints.extra_tokens,
        max_output_tokens=hints.max_output_tokens,
    )
    if not config.routing.sticky:
        hints = replace(hints, sticky=None, stay=False)
    elif hints.sticky is not None:
        hints = replace(hints, sticky=hints.sticky._replace(model=installed(hints.sticky.model)))
    session = f"session {hints.session}" if hints.session else ""
    if session and hints.sticky is None:
        hints = replace(hints, sticky=known.conversations.of(session))
    preferred = None if hints.preferred is None else installed(hints.preferred)
    first = tuple(map(installed, hints.first))
    views = known.views.of(scope, (preferred, *first) if preferred else first)
    stays = (hints.sticky.model,) if hints.stay and hints.sticky is not None else ()
    settings = _settings(config, hints, preferred, tuple(dict.fromkeys((*first, *stays))))
    answers = any(view.reachable for view in views)
    if len(views) == 1 and views[0].named:  # this model and no other: it is asked whatever may be thought of it
        views = [_ungated(views[0])]
    resident: dict[Candidate, bool | None] = {}
    if not config.routing.learn:  # the same choice, whatever was loaded or is busy
        resident = {view.info.candidate: view.resident for view in views}
        views = [view._replace(resident=None, in_flight=0) for view in views]
    elif known.explorer.due(known.history.judgements):
        settings = replace(settings, explore=True)
    request_id = f"{_IDS.getrandbits(128):032x}"
    ranking = score_models(views, task, settings, known.history, request_id=request_id, began=began)
    if not ranking.scores:
        raise _nobody(known, scope or (*((preferred,) if preferred else ()), *first) or None, ranking)
    known.views.tell_missing()
    if config.routing.learn:
        known.history.asked(ranking)
    waiting = {url for url, view in known.catalog.views.items() if view.seen_at is None}
    again = partial(decide, known, config, messages, scope, hints, timeouts=timeouts, own=own)
    alone = len(known.catalog.hosts) == 1 or len({s.candidate.host for s in ranking.scores}) == 1
    return AttemptPlan(
        [Choice(s.info, resident[s.candidate] if resident else s.resident) for s in ranking.scores if s.info],
        ranking,
        known.clock.monotonic,
        admit=known.circuits.acquire,
        allow=lambda choice, least: _allow(
            known, choice, task, hints.timeouts or timeouts, max(hints.context, least), alone=alone
        ),
        more=partial(_late, known, waiting, again) if waiting else tuple,
        on_start=known.started,
        on_settled=partial(known.settled, session=session) if session else known.settled,
        max_attempts=hints.max_attempts or config.fallback.max_attempts,
        sole=len(ranking.scores) == 1 and (scope is not None or answers),
        mid_stream=hints.mid_stream or config.fallback.mid_stream,
        joinable=hints.joinable,
        messages=messages,
    )


def _late(known: Knowledge, waiting: set[str], again: Callable[[], AttemptPlan]) -> Sequence[Choice]:
    """Return the models of those hosts that have answered since, best first."""
    views = known.catalog.views
    joined = {url for url in waiting if views[url].seen_at is not None}
    if joined:
        with contextlib.suppress(NoModelError, HostUnreachableError):  # what was asked tells more than that
            return [choice for choice in again().choices if choice.info.host in joined]
    return ()


def _settings(config: RouterConfig, hints: Hints, preferred: str | None, first: Sequence[str]) -> ScoringSettings:
    routing = config.routing
    weights = routing.weights
    total = weights.capability + weights.performance + weights.health or 1.0
    return ScoringSettings(
        weights.capability / total,
        weights.performance / total,
        weights.health / total,
        hints.prefer or routing.prefer,
        routing.margin,
        config.task_specific_models,
        preferred,
        hints.sticky,
        first,
        config.model_capabilities,
    )


_NEVER_ASKED = frozenset({"completion", "remote", "memory"})
"""Gates that say nothing of a request: they keep a model out of every one."""


def _nobody(known: Knowledge, scope: Scope | None, ranking: Recommendation) -> Exception:
    views = known.catalog.views
    if all(view.error and view.seen_at is None for view in views.values()):
        return HostUnreachableError(unreachable_message(", ".join(views), next(v.error for v in views.values())))
    if scope is not None and (missing := known.views.not_installed(scope)):
        return missing
    too_short = {refusal.candidate for refusal in ranking.refused if refusal.gate == "context"}
    if too_short and all(r.gate in {"context", *_NEVER_ASKED} for r in ranking.refused):
        models = (info for view in views.values() for info in view.models.values())
        longest = max((info.context_length for info in models if info.candidate in too_short), default=0)
        return ContextLengthError(ranking.reason, prompt_tokens=ranking.task.prompt_tokens, context_length=longest)
    return NoModelError(ranking.reason)


def _allow(
    known: Knowledge, choice: Choice, task: TaskCharacteristics, timeouts: Timeouts, least: int, *, alone: bool
) -> Allowance:
    """Return what an attempt is given: bounds that follow what is known of the model, and its context."""
    info = choice.info
    allocated = known.catalog.allocated_context(info)
    num_ctx = known.contexts.for_request(info, task, allocated=allocated, least=least)
    prediction = known.history.predict(info, task, resident=choice.resident)
    resident = bool(choice.resident) and not known.contexts.reloads(info, num_ctx, allocated=allocated)
    prompt = _TIMES_A_PROMPT * prediction.prompt
    adapted = timeouts.adapted(_expected(known, info, task))
    marks = Marks()
    bounds = adapted.bounds(
        resident=resident,
        prompt_seconds=prompt,
        wait=known.views.in_flight.of(info.candidate) * (prediction.prompt + prediction.output),
        clock=known.clock.monotonic,
        marks=marks,
        patience=Turn(
            known.waits, info.candidate, adapted, loads=not resident, prompt=prompt, marks=marks, alone=alone
        ),
    )
    return Allowance(bounds, marks, num_ctx)


_TIMES_A_PROMPT: Final = 2.0
"""Rates are learned from short prompts, and long ones are read more slowly; their length is an estimate."""
_TOOL_CALL: Final = 2048
"""Tokens of a long tool call, such as one that writes a file."""


def _expected(known: Knowledge, info: ModelInfo, task: TaskCharacteristics) -> Expected:
    return Expected(
        load=known.history.observed_load(info),
        load_by_size=prior_load_seconds(info.size),
        elsewhere=known.waits.elsewhere(info.candidate),
        token=known.history.token_seconds(info),
        held_back=_TOOL_CALL if task.needs.tools else 0,
    )


def _ungated(view: ModelView) -> ModelView:
    info = view.info
    return view._replace(
        info=replace(info, flags_known=False), circuit=CircuitState.CLOSED, reachable=True, barred=None
    )
