"""LangChain's integration suite over the wire: ours, ours with a dead model first, and both beside the plain class."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from standard_suite import DeadFirstSuite, RoutedSuite

HERE = Path(__file__).parent

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


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Outcome of every test of the suite, by class and name, all run in one process against one server."""
    folder = tmp_path_factory.mktemp("suites")
    file, out = folder / "test_three.py", folder / "outcomes.json"
    file.write_text(
        "from standard_suite import DeadFirstSuite, PlainSuite, RoutedSuite\n"
        "class TestPlain(PlainSuite): pass\n"
        "class TestRouted(RoutedSuite): pass\n"
        "class TestDeadFirst(DeadFirstSuite): pass\n"
    )
    script = _OUTCOMES.format(here=str(HERE), file=str(file), out=str(out))
    subprocess.run([sys.executable, "-c", script], check=True, cwd=folder, timeout=100)  # noqa: S603 (our own text)
    by_class = {}
    for name, outcome in json.loads(out.read_text()).items():
        kind, _, test = name.partition("::")
        by_class.setdefault(kind, {})[test] = outcome
    return by_class


@pytest.mark.parametrize("ours", ["TestRouted", "TestDeadFirst"])
def test_every_test_that_the_plain_class_passes_is_passed_and_none_is_skipped(outcomes, ours):
    plain = outcomes["TestPlain"]
    passed = {test for test, outcome in plain.items() if outcome == "passed"}
    assert len(passed) > 35
    worse = {test: outcomes[ours].get(test) for test in passed if outcomes[ours].get(test) != "passed"}
    assert worse == {}
    ran = {test for test, outcome in plain.items() if outcome != "skipped"}
    assert {test for test, outcome in outcomes[ours].items() if outcome == "skipped"} & ran == set()
