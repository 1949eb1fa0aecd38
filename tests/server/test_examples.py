"""The examples in the docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import routed_ollama.testing

MODULES = [each.name for each in pkgutil.iter_modules(routed_ollama.testing.__path__) if "llamacpp" not in each.name]


@pytest.mark.parametrize("name", ["", *MODULES])
def test_examples(name):
    module = importlib.import_module(f"routed_ollama.testing.{name}".rstrip("."))
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0
