# make demo: set-up and the whole product on real input. make help: the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
# uv as it is found, else installed inside this folder.
UV := $(shell uv --version >/dev/null 2>&1 && command -v uv || echo .uv/bin/uv)
PYTHON ?= python3
# Compiled once and for all: else every worker and every server of a test compiles all sources anew.
unexport PYTHONDONTWRITEBYTECODE
# Each run has a folder for temporary files of its own: pytest closes a shared one to the accounts that jobs run as.
# Quick tests have it in memory, where there is room and programs may be run: they would mostly wait for the disk.
MEMORY := d=$$(mktemp -d /dev/shm/cador-test.XXXXXX 2>/dev/null) && cp /bin/true $$d && $$d/true \
  && [ $$(df -Pk $$d | awk 'END {print $$4}') -ge 4000000 ] && echo /dev/shm || echo /tmp; rm -rf "$$d"
TESTS = export TMPDIR=$$(mktemp -d $1/cador-test.XXXXXX); chmod 755 $$TMPDIR; trap 'rm -rf $$TMPDIR' EXIT; \
  $(BIN)/pytest -q
QUICK = $(call TESTS,$(shell $(MEMORY))) -m "not real and not docker and not browser" -n 4 --dist loadfile
REAL = $(call TESTS,/tmp) -m "real or docker or browser"

.PHONY: help setup demo check test docs bench wheel clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready ## .venv with the command cador

.venv/.ready: uv.lock pyproject.toml | uv
	$(UV) sync --frozen --quiet --compile-bytecode
	@touch $@
	@echo "ready: $(BIN)/cador"

.PHONY: uv
uv:
	@$(UV) --version >/dev/null 2>&1 || { \
	  echo "installing uv into .uv"; \
	  $(PYTHON) -m venv .uv && .uv/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9'; }

demo: setup ## build, test, approve and release the example shop on this machine
	@$(BIN)/cador demo

check: setup ## format, lint, types, layers and the quick tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(QUICK)

test: setup ## every test this machine can run; what it lacks is named at the end
	$(QUICK)
	$(REAL) --ignore=tests/scenarios
	$(REAL) -n 3 tests/scenarios

docs: setup ## write the pages that come from the program
	$(BIN)/python -m cador.cli.docs

bench: setup ## all figures of docs/performance.md; make bench ARGS=--quick, ARGS="latency chain"
	$(BIN)/python benchmarks/run.py $(ARGS)

wheel: setup ## dist/*.whl
	$(UV) build --wheel --quiet --out-dir dist

clean: ## remove what make setup and the tools made
	rm -rf .venv .uv dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
