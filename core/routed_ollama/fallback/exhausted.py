"""What a person reads when no model answered. Pure: from errors to the one error that is raised."""

from __future__ import annotations

from collections.abc import Sequence

from routed_ollama.errors import AllModelsFailedError, HostUnreachableError, describe
from routed_ollama.fallback.failures import FailureKind
from routed_ollama.types import Candidate


def error_of_all(
    errors: Sequence[tuple[str, BaseException]], kinds: Sequence[FailureKind], hosts: Sequence[str], *, sole: bool
) -> Exception:
    """Return the error for a request of which every attempt failed.

    A sole attempt's own error is returned unchanged; several give one error that lists every attempt, with the last as
    its cause.

    Args:
        errors: of each attempt, the model and its host, and what was raised; not empty.
        kinds: what kind of failure each was.
        hosts: URL of each attempt's host.
        sole: whether no other model could have been asked.
    """
    last = errors[-1][1]
    unreachable = all(kind is FailureKind.UNREACHABLE for kind in kinds)
    if isinstance(last, Exception) and (sole or (len(errors) == 1 and not unreachable)):
        if unreachable:
            last.add_note(unreachable_message(hosts[-1]))
        return last
    error: Exception
    if unreachable:
        error = HostUnreachableError(unreachable_message(", ".join(dict.fromkeys(hosts)), describe(last)))
    else:
        lines = "".join(f"\n  {label}: {describe(error)}" for label, error in errors)
        error = AllModelsFailedError(f"Every model that was asked failed:{lines}", list(errors))
    error.__cause__ = last
    return error


def unreachable_message(hosts: str, why: str = "") -> str:
    """Return what a person needs to read when no server answers, with what was found instead."""
    return (
        f"No Ollama server answers at {hosts}. Start one with `ollama serve`, or point to another with "
        f"base_url=... or the environment variable OLLAMA_HOST.{why and f' ({why})'}"
    )


def label_of(candidate: Candidate) -> str:
    """Return how an attempt is named in an error: the model, and its host where there is one."""
    return f"{candidate.model} @ {candidate.host}" if candidate.host else candidate.model
