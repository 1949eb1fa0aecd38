"""LangChain's integration suite over the wire: ours, ours with a dead model first, and both beside the plain class."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from standard_suite import DeadFirstSuite, RoutedSuite

HERE = Path(__file__).parent
_OUTCOMES_KEY = pytest.StashKey[dict]()

_OUTCOMES = """
import json, sys
import pytest
sys.path.insert(0, {here!r})

class Outcomes:
    def __init__(self):
        self.seen = {{}}
    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            name = report.nodeid.partition("::")[2]
            self.seen[name] = report.outcome

outcomes = Outcomes()
pytest.main(["-q", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "asyncio_mode=auto", {file!r}], plugins=[outcomes])
json.dump(outcomes.seen, open({out!r}, "w"))
"""


class TestRoutedChatOllama(RoutedSuite):
    pass


class TestRoutedChatOllamaWithADeadModelFirst(DeadFirstSuite):
    pass


@pytest.fixture
def outcomes(pytestconfig, request, tmp_path):
    """Outcome of every test of the suite, by class and name; run once, in one process against one server."""
    kept = pytestconfig.stash.setdefault(_OUTCOMES_KEY, {})
    if not kept:
        kept.update(_run_three(tmp_path, _live_environment(pytestconfig, request)))
    return kept


def _live_environment(config, request):
    if not config.getoption("--ollama"):
        return {}
    names = request.getfixturevalue("chat_models")
    url = request.getfixturevalue("ollama_url")
    return {"STANDARD_SUITE_URL": url, "STANDARD_SUITE_MODELS": ",".join(names)}


def _run_three(folder, environment):
    file, out = folder / "test_three.py", folder / "outcomes.json"
    file.write_text(
        "from standard_suite import DeadFirstSuite, PlainSuite, RoutedSuite\n"
        "class TestPlain(PlainSuite): pass\n"
        "class TestRouted(RoutedSuite): pass\n"
        "class TestDeadFirst(DeadFirstSuite): pass\n"
    )
    script = _OUTCOMES.format(here=str(HERE), file=str(file), out=str(out))
    command = [sys.executable, "-c", script]
    bound = 3600 if environment else 100
    subprocess.run(command, check=True, cwd=folder, timeout=bound, env={**os.environ, **environment})  # noqa: S603 (ours)
    by_class = {}
    for name, outcome in json.loads(out.read_text()).items():
        kind, _, test = name.partition("::")
        by_class.setdefault(kind, {})[test] = outcome
    return by_class


@pytest.mark.live
@pytest.mark.timeout(3700)
@pytest.mark.parametrize("ours", ["TestRouted", "TestDeadFirst"])
def test_every_test_that_the_plain_class_passes_is_passed_and_none_is_skipped(outcomes, ours):
    plain = outcomes["TestPlain"]
    passed = {test for test, outcome in plain.items() if outcome == "passed"}
    assert len(passed) > 15  # a small real model fails some of them whoever asks it
    worse = {test: outcomes[ours].get(test) for test in passed if outcomes[ours].get(test) != "passed"}
    assert worse == {}
    ran = {test for test, outcome in plain.items() if outcome != "skipped"}
    assert {test for test, outcome in outcomes[ours].items() if outcome == "skipped"} & ran == set()
