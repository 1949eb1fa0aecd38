"""Which model is asked next. Everything that decides it happens here, and nothing here waits.

A plan is an iterator of context managers::

    for attempt in plan:                    # each a model on a host, best first
        with attempt:                       # swallows a failure and goes on, or lets it pass
            result = send(attempt)
            attempt.commit()
            return result
    raise plan.exhausted()                  # names every attempt and its error

There is no I/O and no lock, and the clock is an argument, so the same plan serves sync and async code alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from routed_ollama.errors import NoModelError, PromptCutError, RepetitiveAnswerError, describe
from routed_ollama.fallback.choice import Allowance, Choice
from routed_ollama.fallback.exhausted import error_of_all, label_of
from routed_ollama.fallback.failures import MEANINGS, FailureKind, Meaning, classify, context_wanted
from routed_ollama.fallback.repetition import without_copies
from routed_ollama.fallback.scrutiny import Scrutiny
from routed_ollama.fallback.usage import Ledger, Taken, Usage
from routed_ollama.types import AttemptRecord, Candidate, Message, MidStream, OutcomeKind, Recommendation


class Attempt:
    """One try at one model: a context manager that settles what became of it.

    Attributes:
        candidate: the model and its host.
        info: what is known of the model.
        number: 1 for the first attempt.
        allowance: its limits of time, its marks on the wire, its context.
        continues: text that was handed out already and is to be gone on from; empty for a fresh answer. What was said
            again and again stands in it once.
        scrutiny: to be told what the model says, and at its end what the server counted.
        load_seconds: set by the adapter from the server's answer, in seconds.
        unusable: an answer that came whole but cannot be used; returned when nothing better comes.
        whole: whether the last line of a stream has been seen; leaving after it is no cancelling.
        theirs: set by the adapter; an error of the caller's own code (a callback), which blames no model.
        prompt_tokens, output_tokens: set by the adapter from the server's last line.
        handed_out: set by the loop; says what text of the whole answer was handed out so far.
        taken: set by the loop; says how many tokens this attempt took so far.
        replaceable: set by the loop; whether a fresh answer may follow what was handed out.
    """

    def __init__(self, plan: AttemptPlan, choice: Choice, number: int, allowance: Allowance) -> None:
        self._plan = plan
        self.choice = choice
        self.candidate = choice.candidate
        self.info = choice.info
        self.number = number
        self.allowance = allowance
        self.continues = plan.emitted
        self.scrutiny = Scrutiny(plan, self)
        self.load_seconds: float | None = None
        self.prompt_tokens: int | None = None
        self.output_tokens: int | None = None
        self.unusable: Any = None
        self.whole = False
        self.theirs: BaseException | None = None
        self.handed_out: Callable[[], str] | None = None
        self.taken: Callable[[], Taken] = Taken
        self.replaceable = False
        self.error: BaseException | None = None
        self.kind: FailureKind | None = None
        self.started = 0.0

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.candidate.model

    @property
    def host(self) -> str:
        """Base URL of the host."""
        return self.candidate.host

    @property
    def request_id(self) -> str:
        """Identifier of the request this attempt belongs to."""
        return self._plan.request_id

    def commit(self) -> None:
        """Say that the answer is (or begins to be) handed to the caller."""
        self._plan.committed = True
        self._plan.unusable = None

    def mark_seam(self) -> None:
        """Note that this attempt goes on with an answer that broke off."""
        self._plan.continued_at.append(len(self.continues) + self._plan.left_out)

    @property
    def mendable(self) -> bool:
        """Whether another model could go on, or begin afresh, if this one failed now."""
        return self._plan.has_another_than(self) and (not self._plan.committed or self._plan.can_go_on(self))

    @property
    def replaceable_whole(self) -> bool:
        """Whether another model's whole answer could take the place of this one's."""
        return self._plan.has_another_than(self) and (self.replaceable or not self._plan.committed)

    def left_of(self, limit: Any) -> Any:
        """Return what is left of a limit on the answer's tokens, for an attempt that goes on with an answer."""
        return self._plan.ledger.left_of(limit) if self.continues else limit

    def route(self) -> dict[str, Any]:
        """Return the route so far with this attempt as the one that answers."""
        return self._plan.route(self)

    def usage(self) -> Usage | None:
        """Return what an answer took that several models had a part in; None where this one gives it alone."""
        return self._plan.ledger.total(self)

    def judge(self, error: BaseException) -> FailureKind:
        """Note the error this attempt ended with, and return what kind of failure it is."""
        self.error = error
        marks = self.allowance.marks
        sent = None if marks is None else marks.sent_at is not None
        self.kind = FailureKind.CALLER if error is self.theirs else classify(error, sent=sent)
        return self.kind

    def __enter__(self) -> Self:
        self.started = self._plan.clock()
        self._plan.on_start(self)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        try:
            return self._plan.settle(self, error)
        finally:  # what refers to this attempt again would keep the whole request until the next garbage collection
            self.handed_out, self.taken = None, Taken

    def record(self) -> AttemptRecord:
        """Return this attempt's line of the route, as of now."""
        first, marks = None, self.allowance.marks
        if marks is not None and marks.sent_at is not None and marks.first_byte_at is not None:
            first = marks.first_byte_at - marks.sent_at
        part = self._plan.ledger.part(self) if self.kind is None or self.number in self._plan.ledger.broken else None
        return AttemptRecord(
            model=self.model,
            host=self.host,
            outcome=_outcome(self.kind),
            error=None if self.error is None else describe(self.error),
            seconds=self._plan.clock() - self.started,
            load_seconds=self.load_seconds,
            first_token_seconds=first,
            prompt_tokens=None if part is None else part.prompt_tokens,
            output_tokens=None if part is None else part.output_tokens,
            estimated=part is not None and part.estimated,
        )


def _outcome(kind: FailureKind | None) -> OutcomeKind:
    if kind is None:
        return OutcomeKind.OK
    return OutcomeKind.CANCELLED if kind is FailureKind.CANCELLED else OutcomeKind.FAILED


def _nothing(_attempt: Attempt) -> None:
    return None


@dataclass
class AttemptPlan:
    """The models to ask for one request, best first, and what came of those asked.

    Attributes:
        choices: the ranking.
        recommendation: the decision behind it, with every score and reason.
        clock: monotonic seconds.
        admit: asks a candidate's circuit for leave just before it is tried; False passes it over.
        allow: gives an attempt what it needs to be sent: limits of time, context; of that at least so many tokens.
        more: what can be asked besides by now, once nothing is left: of hosts that had not answered yet.
        on_start, on_settled: told when an attempt begins and ends (waiting times, leases).
        max_attempts: how many models are asked at most; None for all.
        sole: whether there is one candidate only, which then fails as the plain class does.
        mid_stream: ``"continue"`` or ``"raise"``; what to do when a model fails after the commit point.
        joinable: whether the answer is plain text that another model can go on with.
        messages: the conversation that is to be answered.
        emitted: the text handed out so far, once a stream broke off, without what was repeated in it.
        left_out: characters of what was handed out that are not in ``emitted``.
        least_context: tokens of context that the next models are to be given, once one had too little.
        prompt_cut_to: tokens of the prompt that the model was given whose answer stands all the same.
        answered: whether a whole answer was handed out although its connection broke after the last line.
        records: one line per attempt.
        ledger: what an answer took that several models had a part in.
    """

    choices: Sequence[Choice]
    recommendation: Recommendation
    clock: Callable[[], float]
    admit: Callable[[Candidate], bool] = lambda _candidate: True
    allow: Callable[[Choice, int], Allowance] = lambda _choice, _least_context: Allowance()
    more: Callable[[], Sequence[Choice]] = tuple
    on_start: Callable[[Attempt], None] = _nothing
    on_settled: Callable[[Attempt], None] = _nothing
    max_attempts: int | None = None
    sole: bool = False
    mid_stream: MidStream = "continue"
    joinable: bool = True
    messages: Sequence[Message] = field(default=(), repr=False)
    emitted: str = field(default="", repr=False)
    left_out: int = 0
    least_context: int = 0
    prompt_cut_to: int | None = None
    committed: bool = False
    answered: bool = False
    continued_at: list[int] = field(default_factory=list)
    records: list[AttemptRecord] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    errors: list[tuple[str, BaseException]] = field(default_factory=list)
    unusable: Any = field(default=None, repr=False)
    _unusable_of: AttemptRecord | None = None
    _kinds: list[FailureKind] = field(default_factory=list)
    _queue: list[Choice] = field(default_factory=list)
    _passed_over: list[Choice] = field(default_factory=list)
    _retried: set[Candidate] = field(default_factory=set)

    @property
    def request_id(self) -> str:
        """Identifier of the request, the same in every record of it."""
        return self.recommendation.request_id

    def __iter__(self) -> Iterator[Attempt]:
        self._queue, self._passed_over = list(self.choices), []
        number = 0
        while not self.answered and self._may_ask(number):
            choice = self._next()
            if choice is None:
                return
            number += 1
            yield Attempt(self, choice, number, self.allow(choice, self.least_context))

    @property
    def refused(self) -> bool:
        """Whether a refusal is kept, which is handed out where nobody does better: the first of several."""
        return FailureKind.REFUSED in self._kinds

    def _may_ask(self, asked: int) -> bool:
        return self.max_attempts is None or asked < self.max_attempts

    def has_another_than(self, attempt: Attempt) -> bool:
        """Whether another model that nothing is held against could be asked after this one."""
        return self._may_ask(attempt.number) and any(c.candidate != attempt.candidate for c in self._queue)

    def can_go_on(self, attempt: Attempt) -> bool:
        """Whether another model may follow an attempt of which something was handed out."""
        if attempt.handed_out is None or self.mid_stream == "raise":
            return False
        return self.joinable or attempt.replaceable or not attempt.handed_out()

    def _next(self) -> Choice | None:
        while self._queue:
            choice = self._queue.pop(0)
            if self.admit(choice.candidate):
                return choice
            self._passed_over.append(choice)
        # every circuit said no: better to try than to give up unasked
        return self._passed_over.pop(0) if self._passed_over else None

    def _joined(self) -> list[Choice]:
        """Return what can be asked only now."""
        known = {choice.candidate for choice in self.choices}
        joined = [choice for choice in self.more() if choice.candidate not in known]
        self.choices = [*self.choices, *joined]
        return joined

    def settle(self, attempt: Attempt, error: BaseException | None) -> bool:
        """Note how an attempt ended; True when its failure is swallowed and the next model is asked."""
        if attempt.whole and error is not None:
            return self._settle_whole(attempt, error)
        kind = None if error is None else attempt.judge(error)
        self._close(attempt)
        if error is None or kind is None or not MEANINGS[kind].go_on:
            return False
        self.errors.append((label_of(attempt.candidate), error))
        if attempt.unusable is not None and not self.refused:
            self.unusable, self._unusable_of = attempt.unusable, self.records[-1]
        self._kinds.append(kind)
        self._rearrange(attempt, MEANINGS[kind])
        if not self._queue and not self._passed_over:
            self._queue += self._joined()
        if self.committed:
            return self._may_continue(attempt)
        return True

    def _settle_whole(self, attempt: Attempt, error: BaseException) -> bool:
        """After the last line nothing is missing: leaving is no cancelling, and a broken connection breaks nothing."""
        harmless = error is not attempt.theirs and MEANINGS[classify(error, sent=True)].go_on
        if not harmless and not isinstance(error, GeneratorExit):
            attempt.judge(error)
        self._close(attempt)
        self.answered = harmless
        return harmless

    def _close(self, attempt: Attempt) -> None:
        if attempt.kind is not None and not attempt.replaceable:
            self.ledger.prompt_tokens = self.recommendation.task.prompt_tokens
            self.ledger.broke_off(attempt)
        self.records.append(attempt.record())
        self.on_settled(attempt)

    def _may_continue(self, attempt: Attempt) -> bool:
        if not self.can_go_on(attempt):
            return False
        self._emit("" if attempt.replaceable or attempt.handed_out is None else attempt.handed_out(), attempt.error)
        # With nobody left, a failed continuation ends in the error that lists all attempts, a first failure in its own.
        return bool(self._queue or self._passed_over) or len(self.errors) > 1

    def _emit(self, text: str, error: BaseException | None) -> None:
        """Note what stands; a model that read how it is repeated would repeat it further."""
        self.emitted = text
        if isinstance(error, RepetitiveAnswerError) and error.size:
            self.emitted = without_copies(text, error.size)
            self.left_out += len(text) - len(self.emitted)

    def _rearrange(self, attempt: Attempt, meaning: Meaning) -> None:
        """Take from what is left what this failure makes pointless, and put last what it makes unlikely."""
        host, size = attempt.host, attempt.info.size
        if meaning.smaller_only and size:
            self._keep(lambda c: c.info.host != host or c.resident or not c.info.size or c.info.size < size)
        if meaning.blames_host:
            self._keep(lambda c: c.info.host != host)
        if meaning.shuns_queue:
            self._queue.sort(key=lambda c: (c.candidate in self._retried, c.info.host == host and not c.resident))
        again = meaning.try_again_last
        if meaning.wants_context:
            again = self._give_more_context(attempt)
        afresh = attempt.replaceable or not self.committed
        if again and attempt.candidate not in self._retried and afresh:
            self._retried.add(attempt.candidate)
            self._queue.append(attempt.choice)

    def _give_more_context(self, attempt: Attempt) -> bool:
        """Let longer contexts come first, and be given; whether the same model is worth one more try with more."""
        had = attempt.info.context_length
        wanted = context_wanted(attempt.error, self.recommendation.task.prompt_tokens)
        self._queue.sort(key=lambda c: (c.candidate in self._retried, 0 < c.info.context_length <= had))
        self.least_context = max(self.least_context, wanted)
        return not isinstance(attempt.error, PromptCutError) and (had == 0 or had >= wanted)

    def _keep(self, worthwhile: Callable[[Choice], bool]) -> None:
        self._queue = list(filter(worthwhile, self._queue))
        self._passed_over = list(filter(worthwhile, self._passed_over))

    def exhausted(self) -> Exception:
        """Return the error for a request that no model answered: see ``error_of_all``."""
        if not self.errors:
            return NoModelError(self.recommendation.reason or "No model can serve this request.")
        return error_of_all(self.errors, self._kinds, [record.host for record in self.records], sole=self.sole)

    def route(self, answering: Attempt | None = None) -> dict[str, Any]:
        """Return what ``response_metadata["routing"]`` holds: plain JSON values.

        Args:
            answering: the attempt that is answering, while it has not settled yet; None once it has.
        """
        records = [*self.records, *([] if answering is None else [answering.record()])]
        rec = self.recommendation
        kept = self._unusable_of if answering is None and self.unusable is not None else None
        last = kept or (records[-1] if records else None)
        score = next((s for s in rec.scores if last and s.candidate == (last.model, last.host)), None)
        route: dict[str, Any] = {
            "request_id": rec.request_id,
            "model": last.model if last else "",
            "host": last.host if last else "",
            "task_type": rec.task.task_type.value,
            "complexity": rec.task.complexity.value,
            "score": round(score.total, 4) if score else None,
            "reason": rec.reason,
            "decision_seconds": rec.decision_seconds,
            "attempts": [record.to_dict() for record in records],
        }
        if self.prompt_cut_to is not None:
            route["prompt_cut_to"] = self.prompt_cut_to
        if self.continued_at:
            route["continued_at"] = self.continued_at[0] if len(self.continued_at) == 1 else list(self.continued_at)
        return route
