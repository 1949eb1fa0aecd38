"""The scenarios of the parity tests: what is done to two models on a server, and what is told of it afterwards.

Each scenario is a function of a world; a world is one framework, one way of asking, and everything that is seen of it.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from columns import PATHS, PROMPT, SILENT, Ask, Column, Result, Seen
from fault_table import BAD, FAULTS, GOOD, WAIT, both

from routed_ollama import (
    AllModelsFailedError,
    HostUnreachableError,
    OutcomeKind,
    RoutedOllamaError,
    Router,
    classify,
    routing,
)
from routed_ollama.testing import Fault, OllamaServer

SONG = '{"title": "Singing", "year": 1952}'


@dataclass
class World:
    """Two models on a server, one column, one way of asking, and what comes of it."""

    column: Column
    path: str
    server: OllamaServer
    stack: ExitStack
    others: list[OllamaServer] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    recorded: list[Any] = field(default_factory=list)
    waits: dict[str, float] | None = None
    own_errors: bool = False
    """Whether each framework ends with an error of its own; see below."""
    router: Router | None = None
    llm: Any = None

    def other(self, *models) -> OllamaServer:
        """Start another server."""
        self.others.append(self.stack.enter_context(OllamaServer(models)))
        return self.others[-1]

    def open(self, *, models=(BAD, GOOD), hosts=None, config=None, **settings) -> None:
        """Make the model, over a router whose records are kept here; the bad one is preferred where it is known."""
        config = {"health": {"interval": 0}, **SILENT, **(config or {})}
        self.router = Router(hosts=hosts or [self.server.url], store="memory", timeouts=self.waits, config=config)
        record = self.router.record
        self.router.record = lambda one: (self.recorded.append(one), record(one))
        preferred = BAD if BAD in models else None
        self.llm = self.column.make(self.router, models=list(models), **{"model": preferred, **settings})

    def ask(self, *said, fails: bool = False, **how) -> Seen:
        """Ask; where it is to fail, the error is the answer."""
        if self.llm is None:
            self.open()
        try:
            self.seen.append(PATHS[self.path](self.column, self.llm, Ask(said or (PROMPT,), **how)))
        except Exception as error:
            if not fails:
                raise
            self.errors.append(error)
            self.seen.append(Seen(""))
        else:
            assert self.own_errors or not fails
        return self.seen[-1]

    def told(self) -> dict[str, Any]:
        """Return what happened, as plain values in which servers go by their number."""
        urls = {server.url: f"server {at}" for at, server in enumerate([self.server, *self.others])}
        return _named(
            {
                "seen": [_seen(one, scored=at == 0) for at, one in enumerate(self.seen)],
                "asked": [
                    (server.url, [_asked(r) for r in server.requests if r.path == "/api/chat"])
                    for server in (self.server, *self.others)
                ],
                "recorded": [_recorded(one) for one in self.recorded],
                "performance": sorted(
                    (name, found.total_requests, found.success_rate)
                    for name, found in self.router.performance().items()
                ),
                "errors": [] if self.own_errors else [_error(error) for error in self.errors],
            },
            urls,
        )


def _named(value, urls):
    if isinstance(value, dict):
        return {name: _named(each, urls) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_named(each, urls) for each in value]
    if isinstance(value, str):
        for url, name in urls.items():
            value = value.replace(url, name)
    return value


def _seen(one, *, scored):
    """What was seen; the score until something was learned, for then it depends on measured times."""
    route = one.routing
    return {
        "text": one.text,
        "thinking": one.thinking,
        "calls": one.calls,
        "route": [route.get(name) for name in ("model", "host", "task_type", "complexity")],
        "score": route.get("score") if scored else None,
        "seam": route.get("continued_at"),
        "attempts": [
            (each["model"], each["host"], each["outcome"], bool(each["error"])) for each in route.get("attempts", ())
        ],
    }


def _error(error):
    """The core's class and words; of another's, the plain class's, what it means."""
    if isinstance(error, AllModelsFailedError):
        said = [(label, classify(each, sent=True)) for label, each in error.errors]
    elif isinstance(error, HostUnreachableError):
        said = str(error).partition(" (")[0]  # in brackets stands what the client found
    else:
        said = str(error) if isinstance(error, RoutedOllamaError) else classify(error, sent=True)
    return core_class(error).__name__ if isinstance(error, RoutedOllamaError) else None, said


def _asked(request):
    body = request.body
    messages = [
        {name: message.get(name) for name in ("role", "thinking", "images", "tool_name")}
        | {"content": (message.get("content") or "").strip()}
        | {
            "calls": [
                (call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls", ())
            ]
        }
        for message in body["messages"]
    ]
    offered = [tool["function"]["name"] for tool in body.get("tools") or ()]
    return body["model"], messages, offered, bool(body.get("format")), body.get("think")


def _recorded(one):
    known = (one.model, one.host, one.kind, one.failure, one.task_type, one.was_resident)
    return (*known, one.fits) + (
        (one.prompt_tokens, one.output_tokens, one.quality) if one.kind is OutcomeKind.OK else ()
    )


def core_class(error):
    """The error's class of the core."""
    return next(kind for kind in type(error).__mro__ if kind.__module__ == "routed_ollama.errors")


# Those of the table of faults


def in_trouble(name):
    """One model of the two is in trouble."""
    trouble = FAULTS[name]

    def scenario(world):
        world.waits = trouble.timeouts
        if trouble.fault is not None:
            world.server.fail(BAD, trouble.fault, **trouble.details)
            world.ask()
            return
        world.server.remove_model(BAD)
        gone = world.other(BAD)
        world.open(hosts=[gone.url, world.server.url])
        world.router.recommend_model("so that it is known")
        gone.stop()
        world.ask()

    return scenario


def all_fail(fault):
    """Nobody can answer."""

    def scenario(world):
        world.waits = WAIT if fault is Fault.HANG else None
        world.server.fail(None, fault)
        world.ask(fails=fault is not Fault.EMPTY)

    return scenario


SCENARIOS = {name: in_trouble(name) for name in FAULTS} | {
    "all empty": all_fail(Fault.EMPTY),
    "all fail": all_fail(Fault.SERVER_ERROR),
    "all hang": all_fail(Fault.HANG),
    "all are missing": all_fail(Fault.NOT_FOUND),
    "all end without done": all_fail(Fault.END_WITHOUT_DONE),
}


def scenario(function):
    """Put it into the table, by what its docstring says."""
    SCENARIOS[function.__doc__.rstrip(".")] = function
    return function


@scenario
def _(world):
    """All is well."""
    world.ask()


@scenario
def _(world):
    """Nothing is installed of that name."""
    world.open(models=["nobody:1b"], model=None)
    world.ask(fails=True)


@scenario
def _(world):
    """No server runs."""
    gone = world.other()
    gone.stop()
    world.open(hosts=[gone.url])
    world.ask(fails=True)


@scenario
def _(world):
    """A sole model fails."""
    world.server.fail(BAD, Fault.SERVER_ERROR)
    world.open(models=[BAD])
    world.ask(fails=True)


@scenario
def _(world):
    """A sole model breaks off."""
    world.server.fail(BAD, Fault.CRASH, after_chunks=4)
    world.open(models=[BAD])
    world.ask(fails=True)


@scenario
def _(world):
    """A hint from around."""
    with routing(model=GOOD, task_type="planning", prefer="speed"):
        world.ask()
    world.ask()


@scenario
def _(world):
    """A hint of the call."""
    with routing(model=BAD, task_type="planning", prefer="speed"):
        world.ask(call={"model": GOOD, "task_type": "testing", "prefer": "quality"})


@scenario
def _(world):
    """A hint that is none."""
    world.ask(call={"prefer": "cheap"}, fails=True)
    world.ask(call={"task_type": "cooking"}, fails=True)


@scenario
def _(world):
    """A model that is not installed is named for one call."""
    world.ask(call={"model": "nobody:1b"})


@scenario
def _(world):
    """The context is too short for the prompt."""
    world.ask("word " * 20_000, fails=True)


@scenario
def _(world):
    """The context is too short for one model's prompt."""
    for model in both(good={"context_length": 65_536}):
        world.server.add_model(model)
    world.ask("word " * 20_000)


@scenario
def _(world):
    """Thinking."""
    for model in both(thinking="Let me count."):
        world.server.add_model(model)
    world.ask(think=True)


@scenario
def _(world):
    """Thinking, and only one can."""
    for model in both(good={"thinking": "Let me count."}):
        world.server.add_model(model)
    world.ask(think=True)


@scenario
def _(world):
    """Thinking, and nobody can."""
    world.ask(think=True, fails=True)


@scenario
def _(world):
    """Thinking breaks off."""
    for model in both(thinking="Let me count."):
        world.server.add_model(model)
    world.server.fail(BAD, Fault.CRASH, after_chunks=1)
    world.ask(think=True)


FROZEN = {"routing": {"learn": False}}
"""What is loaded or was fast makes no difference; only who is answering does."""


def unusual(world, **settings):
    """Open over models of which none is preferred; return the name of the one that would not be asked first."""
    world.open(model=None, config=FROZEN, **settings)
    usual = world.router.recommend_model(PROMPT, scope=[BAD, GOOD]).model
    return GOOD if usual == BAD else BAD


@scenario
def _(world):
    """A session stays."""
    other = unusual(world)
    with routing(session="Ann", model=other):
        world.ask()
    with routing(session="Ann"):
        world.ask()
        world.ask()
    with routing(session="Bob"):
        world.ask()
    world.ask()
    assert [one.model == other for one in world.seen] == [True, True, True, False, False]


@scenario
def _(world):
    """A session moves to the model that takes it over."""
    other = unusual(world)
    with routing(session="Ann", model=other):
        world.ask()
    with routing(session="Ann"):
        with world.server.fail(other, Fault.SERVER_ERROR):
            world.ask()
        world.ask()
    assert [one.model == other for one in world.seen] == [True, False, False]


@scenario
def _(world):
    """A conversation goes on."""
    other = unusual(world, remembers=True)
    first = world.ask("Count to ten", call={"model": other})
    second = world.ask("Count to ten", first, "Go on")
    world.ask("Count to ten", first, "Go on", second, "And on")
    assert [one.model for one in world.seen] == [other] * 3


@scenario
def _(world):
    """A conversation moves to the model that takes it over."""
    other = unusual(world, remembers=True)
    first = world.ask("Count to ten", call={"model": other})
    with world.server.fail(other, Fault.SERVER_ERROR):
        second = world.ask("Count to ten", first, "Go on")
    world.ask("Count to ten", first, "Go on", second, "And on")
    assert [one.model == other for one in world.seen] == [True, False, False]


@scenario
def _(world):
    """One server of two is dead from the first."""
    gone = world.other(BAD)
    gone.stop()
    world.open(hosts=[gone.url, world.server.url])
    world.ask()


@scenario
def _(world):
    """One server of two dies."""
    gone = world.other(*both())
    world.open(hosts=[gone.url, world.server.url])
    world.router.recommend_model("so that it is known")
    gone.stop()
    world.ask()
    world.ask()


@scenario
def _(world):
    """What fails in mid-stream is raised."""
    world.server.fail(BAD, Fault.CRASH, after_chunks=4)
    world.open(config={"fallback": {"mid_stream": "raise"}})
    world.ask(fails="stream" in world.path)


@scenario
def _(world):
    """Only so many are asked."""
    world.server.fail(None, Fault.SERVER_ERROR)
    world.open(config={"fallback": {"max_attempts": 1}})
    world.ask(fails=True)


@scenario
def _(world):
    """What failed often is not asked first again."""
    world.server.fail(BAD, Fault.SERVER_ERROR)
    for _ in range(4):
        world.ask()


# Those for which the core's agents have no words


def whole_answers(function):
    """Play it on the paths of whole answers alone: what LangChain streams of an object is added up, never replaced."""
    function.paths = ("whole", "whole, async")
    return function


def for_frameworks(function):
    """Put it into the table for the two frameworks alone."""
    function.frameworks_only = True
    return scenario(function)


@for_frameworks
def _(world):
    """A tool is called and its result answered."""
    for model in both(reply=None):
        world.server.add_model(model)
    question = "What is multiply of 6 and 7?"
    called = world.ask(question, tools=True)
    world.ask(question, called, Result("42"), tools=True)


@for_frameworks
def _(world):
    """A tool is called by another than the first."""
    for model in both(reply=None):
        world.server.add_model(model)
    question = "What is multiply of 6 and 7?"
    with world.server.fail(BAD, Fault.SERVER_ERROR):
        called = world.ask(question, tools=True)
    world.ask(question, called, Result("42"), tools=True)


@for_frameworks
def _(world):
    """A tool is offered, and only one can call it."""
    for model in both(reply=None, bad={"capabilities": ["completion"]}):
        world.server.add_model(model)
    world.ask("What is multiply of 6 and 7?", tools=True)


@for_frameworks
def _(world):
    """A tool is offered, and nobody can call it."""
    for model in both(capabilities=["completion"]):
        world.server.add_model(model)
    world.ask("What is multiply of 6 and 7?", tools=True, fails=True)


@for_frameworks
def _(world):
    """An image is shown, and only one sees it."""
    for model in both(good={"capabilities": ["completion", "vision"]}):
        world.server.add_model(model)
    world.ask("What is this?", image=True)


@for_frameworks
def _(world):
    """An image is shown, and nobody sees it."""
    world.ask("What is this?", image=True, fails=True)


@for_frameworks
def _(world):
    """An object is asked for."""
    for model in both(reply=SONG):
        world.server.add_model(model)
    world.ask("Name a song", song=True)


@for_frameworks
def _(world):
    """An object is asked for, and the second model's is one."""
    for model in both(bad={"reply": "I would rather chat."}, good={"reply": SONG}):
        world.server.add_model(model)
    world.ask("Name a song", song=True)


@for_frameworks
@whole_answers
def _(world):
    """An object is asked for, and another kind comes first."""
    for model in both(bad={"reply": '{"name": "Singing"}'}, good={"reply": SONG}):
        world.server.add_model(model)
    world.ask("Name a song", song=True)


@for_frameworks
def _(world):
    """An object is asked for, and nobody gives one."""
    world.own_errors = True
    for model in both(reply="I would rather chat."):
        world.server.add_model(model)
    world.ask("Name a song", song=True, fails=True)


@for_frameworks
def _(world):
    """A ready-made model stands beside a name."""
    elsewhere = world.other(*both())
    world.server.remove_model(BAD)
    world.open(models=[world.column.ready(BAD, elsewhere.url), GOOD], model=BAD)
    world.ask()
    elsewhere.fail(BAD, Fault.SERVER_ERROR)
    world.ask()


@for_frameworks
def _(world):
    """A ready-made model's server is gone."""
    gone = world.other(BAD)
    world.server.remove_model(BAD)
    world.open(models=[world.column.ready(BAD, gone.url), GOOD], model=BAD)
    world.router.recommend_model("so that it is known", scope=[GOOD])
    gone.stop()
    world.ask()
