"""Two models of which the first fails in every way there is, and what both would answer if they could."""

from contextlib import contextmanager
from dataclasses import replace

from asking import FIRST, SECOND, Heard, asked, models, plain, routed
from llama_index.core import Settings
from llama_index.core.instrumentation import get_dispatcher

from routed_ollama.testing import Fault, OllamaServer

REFUSED = "connection refused"
FAULTS = {
    "none": None,
    REFUSED: None,
    "500 at load": (Fault.LOAD_ERROR, {}),
    "hang": (Fault.HANG, {}),
    "cut": (Fault.CUT, {"after_chunks": 3}),
    "stall": (Fault.STALL, {"after_chunks": 3}),
    "empty": (Fault.EMPTY, {}),
    "no done": (Fault.END_WITHOUT_DONE, {"after_chunks": 3}),
    "no JSON": (Fault.MALFORMED, {"after_chunks": 3}),
}
"""By name: what goes wrong with the first model, whenever it is asked."""

LATE = 10**6
"""Chunks that no answer has: the fault strikes between the last of them and the line that says ``done``."""

WAITS = {"hang", "stall"}
PATIENCE = 0.25
"""Seconds that the first model is given where it is known to need for ever; all others have the usual bounds."""


@contextmanager
def under(fault, reply, *, after_chunks=None):
    """A ``RoutedOllama`` whose first model fails so, and its server; the right models are asked in the right order."""
    first, second = models(reply=going_on(reply), capabilities=("completion", "tools"), size=10**9)
    with OllamaServer([second] if fault == REFUSED else [first, second]) as server:
        if FAULTS[fault]:
            kind, details = FAULTS[fault]
            more = {"after_chunks": after_chunks} if after_chunks is not None and "after_chunks" in details else {}
            server.fail(FIRST, kind, **{**details, **more})
        Settings.llm = llm = _over(server, fault)
        get_dispatcher().add_event_handler(heard := Heard())
        yield llm, server
        assert_asked(fault, asked(server))
        assert {event.model for event in heard.of("AttemptFailedEvent")} == (set() if fault == "none" else {FIRST})


def _over(server, fault):
    # A model that waits rests after one failure, so that the tests need not wait for it again and again.
    config = {"health": {"interval": 0, "failure_threshold": 1 if fault in WAITS else 1000}}
    if fault == REFUSED:
        with OllamaServer(models()[:1]) as gone:
            llm = routed(server.url, models=[plain(gone.url), SECOND], config=config)
            llm.router.recommend_model("so that it is known")  # ... and only then its server ends
        return llm
    first = plain(server.url, request_timeout=PATIENCE) if fault in WAITS else FIRST
    return routed(server.url, models=[first, SECOND], config=config)


def assert_asked(fault, names):
    """The first alone where nothing is wrong with it; else it was asked first, where that could be, and never last."""
    assert names
    assert names[0] == (SECOND if fault == REFUSED else FIRST)
    assert names[-1] == (FIRST if fault == "none" else SECOND)
    assert fault != "none" or SECOND not in names


def going_on(reply):
    """What a model answers that goes on with an answer which broke off as it is asked to: from its last words."""

    def answered(request):
        asking, stands, words = _apart(request.messages)
        script = reply(replace(request, messages=asking))
        return _rest(script, stands.removesuffix(words)) if stands else script

    return answered


def _apart(messages):
    """The conversation, what stands already of its answer, and the words of it that are to be said once more."""
    asked_to = bool(messages) and "cut off" in messages[-1].content
    told = messages[:-1] if asked_to else messages
    if told and told[-1].role == "assistant":
        stands = told[-1].content
        return told[:-1], stands, messages[-1].content.rpartition(":\n\n")[2] if asked_to else ""
    return messages, "", ""


def _rest(script, stands):
    """The script without the text that stands already."""
    if isinstance(script, str):
        assert script.startswith(stands), (script, stands)
        return script.removeprefix(stands)
    text = "".join(part for part in script if isinstance(part, str))
    assert text.startswith(stands), (text, stands)
    calls = [part for part in script if not isinstance(part, str)]
    return [part for part in [text.removeprefix(stands), *calls] if part]
