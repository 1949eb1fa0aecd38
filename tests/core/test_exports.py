"""What the package exports is what it says it exports."""

from __future__ import annotations

import types

import routed_ollama
from routed_ollama import fallback, store, testing


def exported(module: types.ModuleType) -> set[str]:
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and name != "annotations"
    }


def rank(name: str) -> tuple[int, str]:
    """Constants, classes, the rest: as ruff sorts (RUF022)."""
    plain = name.strip("_")
    return (0 if plain.isupper() else 1 if plain[0].isupper() else 2, name)


def test_all_is_complete_and_sorted() -> None:
    names = routed_ollama.__all__
    assert exported(routed_ollama) == {name for name in names if not name.startswith("__")}
    assert names == sorted(names, key=rank)
    assert len(names) == len(set(names))


def test_every_name_of_all_is_there() -> None:
    for module in (routed_ollama, fallback, store, testing):
        for name in module.__all__:
            assert getattr(module, name) is not None, f"{module.__name__}.{name}"


def test_the_version_is_a_version() -> None:
    assert all(part.isdigit() for part in routed_ollama.__version__.split(".")[:2])
