# ruff: noqa: T201  # a script is there to print
"""langchain-ollama's own tests, with the class swapped: what do they say of ours that they do not say of the plain one?

    python tests/benchmarks/upstream_suite.py

The tests are fetched from the package index into a temporary folder (they are not part of this repository) and run once
for each variant, against scripted models on loopback. Printed is every test that ends otherwise than with the plain
class, with the reason. The exit status is 1 when one ends worse that is not listed in ``EXPECTED`` with why it may, or
when one is listed that does not.

This file is both: the program, and the pytest plugin of the runs that it starts.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from langchain_ollama import ChatOllama

    from routed_ollama.testing import GenerationRequest, OllamaServer, ToolCall

PROJECT = "langchain-ollama"
VARIANTS = {
    "plain": "ChatOllama itself",
    "swapped": "RoutedChatOllama in its place",
    "dead first": "the same, with a model first in its list on whose host nothing listens",
    "failing first": "the same, with a model first in its list that is there and answers every request with an error",
}
FOLDERS = ("tests/unit_tests", "tests/integration_tests/chat_models")
_CLIENTS = "counts how often the client's class is called; ours makes clients at the first request, bounded in time"
_CONVERSION = (
    "calls a private method, which ours leaves to the plain class; what is sent is the same (test_upstream.py)"
)
_NO_CLIENT = "empties or calls what is private; ours has no client of its own"
_LISTED = "several models were asked, so the error lists them; a sole one raises the plain class's (test_upstream.py)"
EXPECTED = {
    "test_chat_ollama_url_auth_integration": _CLIENTS,
    "test_chat_ollama_url_auth_with_existing_headers": _CLIENTS,
    "test_load_response_with_empty_content_is_skipped": _LISTED,
    "test_load_response_with_whitespace_content_is_skipped": _LISTED,
    "test_create_chat_stream_raises_when_client_none": _NO_CLIENT,
    "test_acreate_chat_stream_raises_when_client_none": _NO_CLIENT,
    "test_invoke_raises_when_client_none": _NO_CLIENT,
    "test_reasoning_content_serialized_as_thinking": _CONVERSION,
    "test_convert_messages_does_not_mutate_input_list": _CONVERSION,
    "test_reasoning_content_absent_no_thinking_key": _CONVERSION,
    "test_reasoning_content_empty_string_preserved": _CONVERSION,
    "test_non_ai_message_reasoning_content_ignored": _CONVERSION,
    "test_chat_ollama_prioritizes_explicit_format": (
        "asks for a format that does not exist, of a client that does not look; the failing model's is a real client, "
        "which refuses it: a mistake of the caller's, so no other model is asked"
    ),
}
"""Tests that end worse, and why they may: they look at what a user of the class cannot see."""

MODELS = ("llama3.1", "test-model", "deepseek-r1", "deepseek-r1:1.5b", "gpt-oss:20b")
THINKING = ("deepseek-r1", "gpt-oss")
_VARIANT, _OUT = "UPSTREAM_SUITE_VARIANT", "UPSTREAM_SUITE_OUT"
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="


class Ended(NamedTuple):
    """How a test ended, and the first line of why."""

    outcome: str
    reason: str


class Run(NamedTuple):
    """One run of the suite: how each test ended, and how many requests the failing host was sent."""

    tests: dict[str, Ended]
    failures_met: int


# --- the program ------------------------------------------------------------------------------------------------------


def fetch(wanted: str, folder: Path) -> Path:
    """Return the folder of a source distribution's tests, without its package: the installed one is tested."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--no-binary", ":all:", f"{PROJECT}=={wanted}"], check=True, cwd=folder)  # noqa: S603 (our own command)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    (suite,) = (path for path in folder.iterdir() if path.is_dir())
    package = suite / PROJECT.replace("-", "_")
    package.rename(folder / "package")  # the folder of the tests is searched for modules first
    return suite


def run(variant: str, suite: Path, selected: list[str]) -> Run:
    """Run the suite for one variant, in a process of its own."""
    state, out = suite / "state", suite / "outcomes.json"
    kept = {name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")}
    environment = {
        **kept,
        _VARIANT: variant,
        _OUT: str(out),
        "PYTHONPATH": str(Path(__file__).parent),
        "XDG_STATE_HOME": str(state),
        "WIN_PD_OVERRIDE_LOCAL_APPDATA": str(state),
    }
    options = ["-q", "--no-header", "--tb=no", "--disable-warnings", "-p", "no:cacheprovider", "-p", "upstream_suite"]
    offline = ["--allow-hosts=127.0.0.1,::1,localhost", "--allow-unix-socket"]
    command = [sys.executable, "-m", "pytest", *options, *offline, "-o", "addopts=", *(selected or FOLDERS)]
    done = subprocess.run(command, cwd=suite, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if not out.exists():
        raise SystemExit(f"{variant}: the suite did not run.\n{done.stdout}\n{done.stderr}")
    said = json.loads(out.read_text())
    out.unlink()
    return Run({name: Ended(*ended) for name, ended in said["tests"].items()}, said["failures_met"])


def differing(runs: dict[str, Run]) -> dict[str, dict[str, Ended]]:
    """Return each test that does not end alike in all runs, with its end in each."""
    missing = Ended("not run", "")
    names = dict.fromkeys(name for each in runs.values() for name in each.tests)
    ends = {name: {variant: each.tests.get(name, missing) for variant, each in runs.items()} for name in names}
    return {name: ended for name, ended in ends.items() if len({end.outcome for end in ended.values()}) > 1}


def is_worse(ended: dict[str, Ended]) -> bool:
    """Whether a test ends worse with ours than with the plain class."""
    return ended["plain"].outcome != "failed"


def short(name: str) -> str:
    """Return a test's name without its file and parameters."""
    return name.rpartition("::")[2].partition("[")[0]


def report(runs: dict[str, Run]) -> int:
    """Print how each run ended and a table of what differs; return the number of surprises."""
    for variant, result in runs.items():
        counts = Counter(ended.outcome for ended in result.tests.values())
        figures = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
        met = f"; its errors met {result.failures_met} requests" if result.failures_met else ""
        print(f"{variant}: {VARIANTS[variant]}\n    {len(result.tests)} tests: {figures}{met}")
    found = differing(runs)
    width = max(map(len, found), default=0)
    print(f"\n{'test':{width}}", *(f"{variant:13}" for variant in runs))
    for name, ended in found.items():
        print(f"{name:{width}}", *(f"{end.outcome:13}" for end in ended.values()))
        why = EXPECTED.get(short(name), "NOT EXPECTED") if is_worse(ended) else "better than the plain class"
        failed = next((end.reason for end in ended.values() if end.outcome == "failed"), "")
        print(f"    {failed}\n    {why}")
    worse = {short(name) for name, ended in found.items() if is_worse(ended)}
    alike = EXPECTED.keys() - worse
    print(f"\n{len(worse - EXPECTED.keys())} not expected; expected, and alike: {', '.join(sorted(alike)) or 'none'}")
    return len(worse - EXPECTED.keys()) + len(alike)


def main() -> None:
    """Fetch, run, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--version", default=version(PROJECT), help="of the tests; default: as installed")
    parser.add_argument("tests", nargs="*", help="paths inside the source distribution; default: the chat model's")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="upstream-suite-", ignore_cleanup_errors=True) as folder:
        suite = fetch(arguments.version, Path(folder))
        runs = {variant: run(variant, suite, arguments.tests) for variant in VARIANTS}
    raise SystemExit(1 if report(runs) else 0)


# --- the plugin -------------------------------------------------------------------------------------------------------


class Outcomes:
    """Writes down how each test ended."""

    def __init__(self, failing: OllamaServer) -> None:
        self._failing = failing
        self._seen: dict[str, Ended] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note a test's outcome: that of its call, or of what failed around it."""
        if report.when != "call" and report.outcome == "passed":
            return
        marked = {"passed": "xpassed", "skipped": "xfailed"} if hasattr(report, "wasxfail") else {}
        self._seen[report.nodeid] = Ended(marked.get(report.outcome, report.outcome), _reason(report))

    def pytest_collectreport(self, report: Any) -> None:
        """Note a module that cannot be imported."""
        if report.failed:
            self._seen[report.nodeid] = Ended("not collected", str(report.longrepr).strip().rpartition("\n")[2])

    def pytest_sessionfinish(self) -> None:
        """Hand everything to the program."""
        met = sum(request.path == "/api/chat" for request in self._failing.requests)
        Path(os.environ[_OUT]).write_text(json.dumps({"tests": self._seen, "failures_met": met}))


def _reason(report: Any) -> str:
    if isinstance(report.longrepr, tuple):  # skipped: file, line, why
        return str(report.longrepr[2])
    crash = getattr(report.longrepr, "reprcrash", None)
    return " ".join(crash.message.split())[:300] if crash else ""


def answer(request: GenerationRequest) -> str | tuple[ToolCall, ...] | None:
    """What the suite's prompts ask for and scripted models do not do by themselves."""
    from routed_ollama.testing import ToolCall  # noqa: PLC0415 (the program itself needs none of it)

    asked = request.messages[-1]
    if request.format == "json":
        return '{"setup": "Why do cats purr?", "punchline": "They are never told how."}'
    if "Explain why" in asked.content:
        return "Because the weather service said so."
    if asked.role == "user" and "Boston" in asked.content and request.tools:
        return (ToolCall(name="get_current_weather", arguments={"location": "Boston"}),)
    return None


def scripted_server() -> OllamaServer:
    """Return a server that has the models the suite names."""
    from routed_ollama.testing import OllamaServer, ScriptedModel  # noqa: PLC0415

    models = []
    for name in MODELS:
        thinks = name.startswith(THINKING)
        capabilities = ("completion", "tools", "vision", *(["thinking"] if thinks else []))
        thinking = "Three times three is nine, and three times nine is 27." if thinks else ""
        models.append(ScriptedModel(name, answer, capabilities=capabilities, thinking=thinking))
    return OllamaServer(models, max_loaded_models=len(MODELS))


def class_of(variant: str, failing: str) -> Any:
    """Return the class that takes the plain one's place; ``failing`` is the URL of the failing host."""
    from langchain_ollama import ChatOllama  # noqa: PLC0415

    from langchain_routed_ollama import RoutedChatOllama  # noqa: PLC0415
    from routed_ollama.testing import OllamaServer  # noqa: PLC0415

    if variant == "plain":
        return ChatOllama
    if variant == "swapped":
        return RoutedChatOllama
    with OllamaServer() as gone:
        dead = gone.url
    # Made before any test replaces the client's class: it must fail, whatever is replaced.
    first = ChatOllama(model="first", base_url=dead if variant == "dead first" else failing)

    class WithOneThatFails(RoutedChatOllama):
        """Ours, with the named model on a host that fails first, and no memory of how that went."""

        def __init__(self, **given: Any) -> None:
            if name := given.get("model"):
                given = {"store": "memory", "models": [first.model_copy(update={"model": name}), name], **given}
            super().__init__(**given)

    return WithOneThatFails


def replace_class(made: ChatOllama) -> None:
    """Put a class where the tests import it from."""
    import langchain_ollama  # noqa: PLC0415

    langchain_ollama.ChatOllama = made  # type: ignore[misc,assignment]
    langchain_ollama.chat_models.ChatOllama = made  # type: ignore[misc,assignment]


def stay_offline() -> None:
    """Give the picture of one pixel for whatever the suite wants to download."""
    import httpx  # noqa: PLC0415

    get = httpx.get

    def local(url: str, **options: Any) -> httpx.Response:
        if urlsplit(str(url)).hostname in {"127.0.0.1", "localhost"}:
            return get(url, **options)
        return httpx.Response(200, content=base64.b64decode(_PIXEL), request=httpx.Request("GET", url))

    httpx.get = local  # type: ignore[assignment]


def pytest_configure(config: Any) -> None:
    """Start the servers and swap the class, before any test is imported."""
    import httpx  # noqa: PLC0415

    from routed_ollama.testing import Fault  # noqa: PLC0415

    if _VARIANT not in os.environ:
        return
    server, failing = scripted_server().start(), scripted_server().start()
    for name in MODELS:  # a model that is in memory goes before an equal one that is not
        httpx.post(f"{failing.url}/api/generate", json={"model": name, "keep_alive": -1}).raise_for_status()
    failing.forget_requests()
    failing.fail(None, Fault.SERVER_ERROR)
    os.environ["OLLAMA_HOST"] = server.url
    replace_class(class_of(os.environ[_VARIANT], failing.url))
    stay_offline()
    config.pluginmanager.register(Outcomes(failing), "upstream-outcomes")
    config.add_cleanup(server.stop)
    config.add_cleanup(failing.stop)


if __name__ == "__main__":
    main()
