# Relative paths only: the project's folder may have a space in its name.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# Errors only: a newcomer can do nothing about a mirror's warnings.
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test lint types tests format lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## .venv with everything that development needs

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed: make setup PYTHON=python3.11"; exit 2; }
	@$(PYTHON) -m venv .venv
	@echo "Installing about 8 GB into .venv; this takes minutes."
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: setup ## the whole story on data and weights that come with the project
	@$(BIN)/python -m src.demo

test: lint types tests ## lint, types, tests

lint: setup ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: setup ## mypy, strict
	$(BIN)/mypy

tests: setup ## pytest
	$(BIN)/python -m pytest

format: setup ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: ## write requirements.lock anew from pyproject.toml, keeping versions; needs uv
	uv pip compile --universal --python-version 3.11 --all-extras --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --no-annotate --quiet pyproject.toml -o requirements.lock

clean: ## remove .venv and caches; data, weights and runs stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
