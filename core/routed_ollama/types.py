"""The vocabulary: frozen values without behaviour. Every other module speaks in these words and none changes them.

Units, everywhere: seconds, tokens, bytes, shares from 0 to 1, quality from 0 to 10, times as UTC seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from routed_ollama._frozen import FrozenDict
from routed_ollama._html import ranking_table

if TYPE_CHECKING:  # what a recommendation hands out when it is asked to explain itself, and what it was made with
    from routed_ollama._explanation import Explanation
    from routed_ollama.scoring import ScoringSettings

Prefer = Literal["balanced", "quality", "speed"]
"""What a user would rather have when models differ: the better answer, the faster one, or the default mix of both."""

MidStream = Literal["continue", "raise"]
"""What to do when a model fails after part of its answer was handed out."""


class TaskType(StrEnum):
    """What a prompt asks for."""

    CODING = "coding"
    ARCHITECTURE = "architecture"
    TESTING = "testing"
    DEBUGGING = "debugging"
    DOCUMENTATION = "documentation"
    ANALYSIS = "analysis"
    PLANNING = "planning"
    GENERAL = "general"


class Complexity(StrEnum):
    """How demanding a prompt is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class ModelCapability(StrEnum):
    """What a model can be good at. Scored from 0 to 1; not to be confused with Ollama's flags, which are yes or no."""

    CODE_GENERATION = "code_generation"
    CODE_ANALYSIS = "code_analysis"
    REASONING = "reasoning"
    CREATIVITY = "creativity"
    ACCURACY = "accuracy"
    SPEED = "speed"
    INSTRUCTION_FOLLOWING = "instruction_following"


class HealthStatus(StrEnum):
    """A model's health in a word: unhealthy is an open circuit; degraded is half open, or a poor recent record."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class CircuitState(StrEnum):
    """State of a circuit breaker, in the usual words."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class OutcomeKind(StrEnum):
    """How an attempt ended. A cancelled one says nothing about the model."""

    OK = "ok"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Candidate(NamedTuple):
    """What is chosen between: a model on a host."""

    model: str
    """Name with tag, as Ollama lists it."""
    host: str
    """Base URL without credentials and without a trailing slash."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation, without any framework's type."""

    role: str
    """``system``, ``user``, ``assistant`` or ``tool``."""
    content: str = ""
    images: int = 0
    """How many images it carries."""
    tool_calls: int = 0
    """How many tool calls it carries."""
    thinking: bool = False
    """Whether it carries a model's reasoning."""
    model: str | None = None
    """The model that wrote it, where that is known."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request cannot do without. A model that lacks one of these is not asked."""

    tools: bool = False
    vision: bool = False
    thinking: bool = False
    structured_output: bool = False


NO_NEEDS = Needs()


@dataclass(frozen=True, slots=True)
class TaskCharacteristics:
    """What the analysis of a prompt found."""

    task_type: TaskType = TaskType.GENERAL
    confidence: float = 0.0
    """How sure the task type is, 0..1."""
    complexity: Complexity = Complexity.MEDIUM
    accuracy: float = 0.5
    """How much a correct answer matters, 0..1."""
    speed: float = 0.5
    """How much a quick answer matters, 0..1."""
    creativity: float = 0.5
    """How much an original answer matters, 0..1."""
    prompt_tokens: int = 0
    """Estimate of the whole prompt's length, all messages, tools and schemas included."""
    output_tokens: int = 256
    """Estimate of the answer's length."""
    needs: Needs = Needs()
    capabilities: Mapping[ModelCapability, float] = field(default_factory=FrozenDict)
    """How much each capability counts for this prompt; the weights sum to 1."""
    mathematics: float = 0.0
    """How much of the reasoning is mathematics, 0..1: for so much of it, skill in mathematics counts."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known of an installed model before it has answered anything."""

    name: str
    host: str = ""
    digest: str = ""
    family: str = ""
    parameters: float = 0.0
    """Number of parameters, in billions; 0 when unknown."""
    quantization: str = ""
    size: int = 0
    """Size of its weights in bytes; 0 when unknown."""
    context_length: int = 0
    """The longest context it was trained for, in tokens; 0 when unknown."""
    flags: frozenset[str] = frozenset()
    """Ollama's own capabilities: completion, tools, vision, thinking, embedding, insert, image, audio."""
    flags_known: bool = False
    """False where no server could say; then nothing is gated on them."""
    capabilities: Mapping[ModelCapability, float] = field(default_factory=FrozenDict)
    """What it is good at, 0..1 each: priors, or what the configuration says."""
    mathematics: float | None = None
    """How good it is at mathematics, 0..1; None where it is taken to calculate as well as it reasons."""
    remote: bool = False
    """Whether it runs in somebody's cloud."""
    continues_prefill: bool | None = None
    """Whether a last assistant message is continued (its template leaves it open); None when unknown."""
    candidate: Candidate = field(init=False, repr=False, compare=False)
    """The pair that names it among several hosts."""
    strengths: tuple[float, ...] = field(init=False, repr=False, compare=False)
    """Its capabilities in the order of ``ModelCapability``; 0.4 where nothing is known."""
    skills: tuple[float, ...] = field(init=False, repr=False, compare=False)
    """Its strengths, and mathematics at the end."""

    def __post_init__(self) -> None:
        """Work out once what every decision reads."""
        object.__setattr__(self, "candidate", Candidate(self.name, self.host))
        strengths = tuple(self.capabilities.get(c, 0.4) for c in ModelCapability)
        reasoning = self.capabilities.get(ModelCapability.REASONING, 0.4)
        mathematics = reasoning if self.mathematics is None else self.mathematics
        object.__setattr__(self, "strengths", strengths)
        object.__setattr__(self, "skills", (*strengths, mathematics))


@dataclass(frozen=True, slots=True)
class Residency:
    """A model that a host holds in memory."""

    model: str
    size: int = 0
    """Bytes it takes."""
    context_length: int = 0
    """Context it was loaded with, in tokens; 0 when the server does not say."""
    expires_at: float = 0.0
    """When it will be unloaded, UTC seconds."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attempt; what handlers record and histories learn from."""

    model: str
    host: str
    kind: OutcomeKind
    task_type: TaskType = TaskType.GENERAL
    response_time: float = 0.0
    """Seconds from sending to the end, as the caller saw it."""
    load_seconds: float | None = None
    first_token_seconds: float | None = None
    prompt_tokens: int | None = None
    prompt_seconds: float | None = None
    output_tokens: int | None = None
    output_seconds: float | None = None
    total_seconds: float | None = None
    """The server's own total; its excess over load, prompt and output is waiting."""
    quality: float | None = None
    """0 to 10; None when nobody judged."""
    error: str | None = None
    """Class name of the error, or a short code. Never an answer or a prompt."""
    failure: str | None = None
    """The failure's kind (see ``fallback.FailureKind``) where the router judged it."""
    request_id: str | None = None
    was_resident: bool | None = None
    """Whether the model was in memory when the attempt began; None when unknown."""
    at: float = 0.0
    """When it ended, UTC seconds."""
    estimated: bool = False
    """Whether token counts are estimates (a cut stream has none)."""
    judged: bool = False
    """Whether a person gave the quality; else heuristics did."""
    fits: bool | None = None
    """Whether the answer has a form that could be checked: a tool call that was read, an object that validates. None
    where there was nothing to check."""

    @property
    def tokens_per_second(self) -> float | None:
        """Output tokens per second of generation; None without both counts."""
        if not self.output_tokens or not self.output_seconds:
            return None
        return self.output_tokens / self.output_seconds


@dataclass(frozen=True, slots=True)
class ModelPerformance:
    """A model's record so far, as a person reads it."""

    model: str
    average_response_time: float = 0.0
    """Seconds, over the answers that succeeded."""
    tokens_per_second: float = 0.0
    success_rate: float = 0.0
    """0..1; cancelled attempts do not count; 1 where a model was only judged."""
    quality_score: float = 0.0
    """0 to 10; 0 when no answer was judged."""
    total_requests: int = 0
    last_updated: float = 0.0
    """UTC seconds; 0 when there is no record."""
    load_seconds: float = 0.0
    """Usual time to bring it into memory; 0 when never seen."""


class Grounds(NamedTuple):
    """What stands behind a prediction: how many observations of the model there are, faded as they grow old."""

    requests: float = 0.0
    """Attempts that succeeded or failed."""
    judged: float = 0.0
    """Answers whose quality somebody judged."""
    written: float = 0.0
    """Answers whose speed of writing was measured."""
    read: float = 0.0
    """Prompts whose speed of reading was measured."""
    loads: float = 0.0
    """Loads that were seen."""
    load_seconds: float = 0.0
    """Expected time to bring it into memory, whether it is there or not."""
    learnt: float = 0.0
    """What judgements of its answers have added to its capability, or taken from it, as a share."""


class Prediction(NamedTuple):
    """What to expect of a model for one request."""

    seconds: float
    """Expected time to the whole answer."""
    wait: float = 0.0
    load: float = 0.0
    prompt: float = 0.0
    output: float = 0.0
    success_rate: float = 1.0
    quality: float = 5.0
    samples: float = 0.0
    """How many (faded) observations stand behind it."""
    grounds: Grounds | None = None
    """Those observations by what they are of."""


class ModelScore(NamedTuple):
    """A model's score for one request, with its parts and the words for them."""

    candidate: Candidate
    total: float
    capability: float
    performance: float
    health: float
    preference: float = 0.0
    """What was added because the model is preferred, or is answering the conversation already."""
    prediction: Prediction | None = None
    resident: bool | None = None
    notes: tuple[str, ...] = ()
    info: ModelInfo | None = None
    """What was known of the model when it was scored."""
    circuit: CircuitState = CircuitState.CLOSED

    def __repr__(self) -> str:
        """Leave out ``info``, which is long and no part of the score."""
        fields = (f"{name}={value!r}" for name, value in self._asdict().items() if name != "info")
        return f"{type(self).__name__}({', '.join(fields)})"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Every part of the score in words."""
        words = [
            f"capability {self.capability:.2f}",
            f"performance {self.performance:.2f}",
            f"health {self.health:.2f}",
        ]
        if self.preference:
            words.append(f"preference +{self.preference:.2f}")
        if self.prediction is not None:
            p = self.prediction
            words.append(f"expected {p.seconds:.1f} s, success {p.success_rate:.0%}, quality {p.quality:.1f}/10")
            if p.load:
                words.append(f"must be loaded first ({p.load:.1f} s)")
        if self.resident:
            words.append("in memory")
        return (*words, *self.notes)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A model that cannot serve a request, and why."""

    candidate: Candidate
    gate: str
    """Which gate closed: reachable, completion, circuit, tools, vision, thinking, context, remote, memory."""
    reason: str


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The ranking for one request: the chosen model, those that follow if it fails, and every reason."""

    request_id: str
    task: TaskCharacteristics
    scores: tuple[ModelScore, ...]
    refused: tuple[Refusal, ...] = ()
    panic: bool = False
    """True when every model was refused for health alone and all are tried anyway."""
    decision_seconds: float = 0.0
    reason: str = ""
    settings: ScoringSettings | None = field(default=None, repr=False, compare=False)
    """What the user wanted of the choice; None for a ranking that was not scored."""
    waived: tuple[Refusal, ...] = ()
    """What was overlooked in a panic: refusals for health alone, of models that are ranked all the same."""

    @property
    def model(self) -> str:
        """Name of the chosen model; empty when no model can serve."""
        return self.scores[0].candidate.model if self.scores else ""

    @property
    def host(self) -> str:
        """Host of the chosen model; empty when no model can serve."""
        return self.scores[0].candidate.host if self.scores else ""

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """Names of the models that follow, best first."""
        return tuple(score.candidate.model for score in self.scores[1:])

    @property
    def reasoning(self) -> str:
        """Why, in a sentence; every number in it stands in ``explain()``."""
        return self.reason

    def explain(self) -> Explanation:
        """Return all that the choice rests on, and what would have changed it. Nothing and nobody is asked.

        Raises:
            ValueError: the ranking was put together by hand, without the settings that it was scored with.

        Example:
            >>> from routed_ollama import Router
            >>> explained = Router.from_models(["llama3.1:8b", "gemma2:9b"]).recommend_model("Hello").explain()
            >>> [part.name for part in explained.components[:3]]
            ['capability', 'performance', 'health']
        """
        from routed_ollama._explanation import explain  # noqa: PLC0415 (it speaks in these words, and stands above)

        return explain(self)

    def rows(self) -> list[dict[str, Any]]:
        """Return the ranking, best first, as flat rows: for a data frame, a plot, a log.

        A row has the figures of ``Candidate``, ``ModelScore`` and ``Prediction`` (None where nothing was predicted).
        Refused models have no score, and so no row.

        Example:
            >>> score = ModelScore(Candidate("llama3.1:8b", ""), 0.7, capability=0.6, performance=0.65, health=1.0)
            >>> [(row["model"], row["total"]) for row in Recommendation("1", TaskCharacteristics(), (score,)).rows()]
            [('llama3.1:8b', 0.7)]
        """
        rows = []
        for score in self.scores:
            row = score._asdict()
            candidate, expected, _, _ = (row.pop(name) for name in ("candidate", "prediction", "info", "circuit"))
            predicted = dict.fromkeys(Prediction._fields) if expected is None else expected._asdict()
            del predicted["grounds"]
            rows.append({**candidate._asdict(), **row, **predicted})
        return rows

    def _repr_html_(self) -> str:
        """Show it as a table in a notebook."""
        refused = [(each.candidate.model, each.candidate.host, each.reason) for each in self.refused]
        return ranking_table(self.rows(), refused, self.reason)


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One line of an answer's route."""

    model: str
    host: str
    outcome: OutcomeKind
    error: str | None = None
    seconds: float = 0.0
    load_seconds: float | None = None
    first_token_seconds: float | None = None
    prompt_tokens: int | None = None
    """What it took, where several models had a part in the answer; else the answer's own figures say it."""
    output_tokens: int | None = None
    estimated: bool = False
    """Whether the tokens are counted by the router: a stream that breaks off brings no figures."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        record: dict[str, Any] = {
            "model": self.model,
            "host": self.host,
            "outcome": self.outcome.value,
            "error": self.error,
            "seconds": self.seconds,
            "load_seconds": self.load_seconds,
            "first_token_seconds": self.first_token_seconds,
        }
        if self.output_tokens is not None:
            record |= {
                "prompt_tokens": self.prompt_tokens,
                "output_tokens": self.output_tokens,
                "estimated": self.estimated,
            }
        return record
