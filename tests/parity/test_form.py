"""Whether an answer has the form that was asked for is seen by the way, recorded, and learnt from."""

import pytest
from columns import FRAMEWORKS, PATHS, SILENT, Ask
from fault_table import BAD, GOOD, both

from routed_ollama import OutcomeKind, Router, routing
from routed_ollama.testing import OllamaServer, ScriptedModel

SONG = '{"title": "Singing", "year": 1952}'
every_way = pytest.mark.parametrize("path", PATHS)
every_framework = pytest.mark.parametrize("column", FRAMEWORKS, ids=lambda column: column.name)


@pytest.fixture
def ask(column, path):
    """Ask models through a framework; return what was recorded: model, kind, and whether the form was kept."""

    def asked(models, question):
        with OllamaServer(models) as server, Router(hosts=[server.url], store="memory", config=SILENT) as router:
            llm = column.make(router, models=[BAD, GOOD], model=BAD)
            PATHS[path](column, llm, question)
            return [(one.model, one.kind, one.fits) for one in router._known.store.outcomes()]

    return asked


@every_framework
@every_way
def test_an_object_that_validates_fits(ask):
    assert ask(both(reply=SONG), Ask(song=True)) == [(BAD, OutcomeKind.OK, True)]


@every_framework
@pytest.mark.parametrize("path", ["whole", "whole, async"])
def test_an_answer_that_does_not_validate_does_not_fit(ask):
    # (In a stream its beginning is handed out before that is seen.)
    models = [ScriptedModel(BAD, reply='{"title": "Singing"'), ScriptedModel(GOOD, reply=SONG)]
    assert ask(models, Ask(song=True)) == [(BAD, OutcomeKind.FAILED, False), (GOOD, OutcomeKind.OK, True)]


@every_framework
@every_way
def test_a_call_of_a_tool_that_was_offered_fits(ask):
    question = Ask(("What is multiply of 6 and 7?",), tools=True)
    assert ask(both(reply=None), question) == [(BAD, OutcomeKind.OK, True)]


@every_framework
@every_way
def test_prose_has_no_form_that_could_be_checked(ask):
    assert ask(both(), Ask()) == [(BAD, OutcomeKind.OK, None)]
    assert ask(both(reply="I would rather talk."), Ask(tools=True)) == [(BAD, OutcomeKind.OK, None)]


@pytest.mark.parametrize("path", ["whole", "whole, async"])
@every_framework
def test_who_keeps_the_form_is_preferred_to_who_does_not(column, path):
    models = [ScriptedModel(BAD, reply='{"title": "Singing"'), ScriptedModel(GOOD, reply=SONG)]
    config = {"health": {"interval": 0, "failure_threshold": 1000}, **SILENT}
    with OllamaServer(models) as server, Router(hosts=[server.url], store="memory", config=config) as router:
        llm = column.make(router, models=[BAD, GOOD])
        for _ in range(20):
            with routing(model=BAD):
                PATHS[path](column, llm, Ask(song=True))
        best, worst = router.recommend_model("Name a song", scope=[BAD, GOOD]).scores
    assert best.candidate.model == GOOD
    assert best.capability > worst.capability, "and not for its failures alone"
