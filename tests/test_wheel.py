"""What a person gets who installs it: three packages with their types, and nothing of the workshop."""

import configparser
import email
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import routed_ollama

ROOT = Path(__file__).parent.parent
PACKAGES = {"routed_ollama", "langchain_routed_ollama", "llamaindex_routed_ollama"}
EXTRAS = {"langchain", "llamaindex", "agent", "cli", "testing", "demo", "notebook", "all"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the tree with what is installed here: no network is needed."""
    tree, made = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("made")
    for path in ROOT.iterdir():
        if path.is_dir() and not path.name.startswith("."):
            shutil.copytree(path, tree / path.name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        elif path.is_file() and not path.name.startswith(".coverage"):
            shutil.copy(path, tree)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(made), str(tree)]
    built = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)  # noqa: S603 (our own command)
    assert built.returncode == 0, built.stdout + built.stderr
    [path] = made.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture
def information(wheel):
    """The folder of the wheel that describes it."""
    return f"routed_ollama-{routed_ollama.__version__}.dist-info"


@pytest.fixture
def metadata(wheel, information):
    return email.message_from_bytes(wheel.read(f"{information}/METADATA"))


def test_three_packages_and_nothing_else(wheel, information):
    assert {name.partition("/")[0] for name in wheel.namelist()} == {*PACKAGES, information}


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_every_module_is_in_it_with_its_types(wheel, package):
    source = next(path for path in (ROOT / package, ROOT / "core" / package) if path.is_dir())
    files = [path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {path.relative_to(source.parent).as_posix() for path in files} <= set(wheel.namelist())
    assert f"{package}/py.typed" in wheel.namelist()


def test_the_command_and_the_fixture_are_registered(wheel, information):
    entries = configparser.ConfigParser()
    entries.read_string(wheel.read(f"{information}/entry_points.txt").decode())
    assert dict(entries["console_scripts"]) == {"routed-ollama": "routed_ollama.cli:main"}
    assert dict(entries["pytest11"]) == {"routed_ollama": "routed_ollama.testing.plugin"}


def test_the_base_install_is_small(metadata):
    base = {each.split(";")[0] for each in metadata.get_all("Requires-Dist") if "extra ==" not in each}
    assert {each.strip("<>=~!.,0123456789 ") for each in base} == {"pydantic", "httpx", "platformdirs"}


def test_extras(metadata):
    assert set(metadata.get_all("Provides-Extra")) == EXTRAS


def test_it_says_what_it_is(wheel, metadata, information):
    assert metadata["Name"] == "routed-ollama"
    assert metadata["Version"] == routed_ollama.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    assert f"{information}/licenses/LICENSE" in wheel.namelist()
    assert "RoutedChatOllama" in metadata.get_payload()


def test_it_can_be_imported_from_there(wheel, tmp_path):
    wheel.extractall(tmp_path)
    code = "import routed_ollama, langchain_routed_ollama as adapter; print(routed_ollama.__file__, adapter.__file__)"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"]
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}  # it is a copy
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=unmeasured)  # noqa: S603 (our own command)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count(str(tmp_path)) == 2
