# Everything a fresh clone needs: each target sets up `.venv` first, once, and again when the dependencies change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test check format clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

install: $(INSTALLED) ## create .venv with the pinned versions

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test,dev]' --constraint constraints.txt
	touch $@

demo: install ## attribute the bundled photographs and write a report
	$(BIN)/ssig demo

test: install ## run the tests
	$(BIN)/python -m pytest

check: install ## lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install ## mend formatting, what the linter can mend, and the tables of the README
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m jobs.listing README.md

clean: ## remove .venv and caches; runs stay
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
