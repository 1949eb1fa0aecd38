"""Who is asked for a prompt to an agent: the router's plan, and after it those that a long memory alone keeps out.

A conversation may have grown beyond what another model takes. That one still answers when those before it cannot, with
as much of the memory as it takes; a prompt that is too long by itself is never cut.
"""

from __future__ import annotations

from routed_ollama._views import Scope
from routed_ollama.agent._arguments import Asked
from routed_ollama.errors import NoModelError
from routed_ollama.fallback import AttemptPlan
from routed_ollama.router import Router


def plan(router: Router, asked: Asked, scope: Scope | None) -> AttemptPlan:
    """Return the plan for a prompt.

    Args:
        router: who decides.
        asked: the prompt, with what is remembered.
        scope: models to choose among.

    Raises:
        NoModelError: no model can serve; says why and what to do.
        HostUnreachableError: no server answers.
    """
    try:
        return _with_smaller(router, asked, router.plan(asked.messages, scope=scope, **asked.hints))
    except NoModelError:
        if not asked.turns:
            raise
        return router.plan(asked.fixed, scope=scope, **asked.hints)


async def aplan(router: Router, asked: Asked, scope: Scope | None) -> AttemptPlan:
    """Async form of ``plan``."""
    try:
        return _with_smaller(router, asked, await router.aplan(asked.messages, scope=scope, **asked.hints))
    except NoModelError:
        if not asked.turns:
            raise
        return await router.aplan(asked.fixed, scope=scope, **asked.hints)


def _with_smaller(router: Router, asked: Asked, found: AttemptPlan) -> AttemptPlan:
    """Return a plan with the models at its end that are refused for the length of what is remembered."""
    short = [refusal.candidate for refusal in found.recommendation.refused if refusal.gate == "context"]
    if not asked.turns or not short:
        return found
    # the first choice goes along: a model that stands alone in a scope is asked whatever may be thought of it
    smaller = router.plan(asked.fixed, scope=[*short, found.choices[0].candidate], **asked.hints)
    more = [choice for choice in smaller.choices if choice.candidate in short]
    found.choices = [*found.choices, *more]
    found.sole = found.sole and not more
    return found
