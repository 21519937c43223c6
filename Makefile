# Everything a fresh clone needs: each target sets up `.venv` first, once, and again when the dependencies change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all slurm check-image examples chaos study study-figures check audit-dependencies docs gpu-bundle format clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

install: $(INSTALLED) ## create .venv with the pinned versions

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test,dev]' --constraint constraints.txt
	touch $@

demo: install ## attribute the bundled photographs and write a report
	$(BIN)/ssig demo

test: install ## run the tests but the slow ones
	$(BIN)/python -m pytest

test-all: install ## run all tests
	$(BIN)/python -m pytest -m ''

# Debian's packages for it: slurmctld slurmd slurm-client munge.
slurm: install ## run small jobs through deploy/slurm in a Slurm on this machine; as root
	$(BIN)/python -m pytest -m '' tests/deploy/test_slurm.py

check-image: install ## follow deploy/Dockerfile in a chroot of Debian; as root, with debootstrap: minutes, 8 GB
	rm -rf --one-file-system build/image
	$(BIN)/python tests/deploy/image_in_chroot.py build/image
	rm -rf --one-file-system build/image

examples: install ## run the notebooks and all that the documents show
	$(BIN)/python -m pytest -m '' tests/test_notebooks.py tests/test_document_examples.py

SEED ?= 1
chaos: install ## disturb a run over real images at random: make chaos SEED=7
	$(BIN)/python tests/faults/chaos.py $(SEED)

STUDY ?= run
study: install ## measure what the study lacks, or STUDY=plan for the hours, or STUDY=figures for its page
	$(BIN)/python -m jobs.study $(STUDY)

study-figures: install ## make the study's figures and pages from its published data
	$(BIN)/python -m jobs.study figures

check: install ## lint, formatting, types, known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@$(MAKE) --no-print-directory audit-dependencies

# It asks an index on the network, so it is not installed by default.
audit-dependencies: install ## look the pinned versions up in an index of known vulnerabilities, where pip-audit is
	@if test -x $(BIN)/pip-audit; then \
		$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --progress-spinner off; \
	else \
		echo 'pip-audit is not installed: dependencies not audited'; \
	fi

docs: install ## build the pages of docs/ as a site into site/ (look at it: python3 -m http.server -d site)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict  # the notice is about a later major version

gpu-bundle: install ## gather what `ssig bench gpu` needs on a machine without network into build/gpu-bundle.tar.gz
	$(BIN)/python -m jobs.bench.gpu.bundle build/gpu-bundle.tar.gz

format: install ## mend formatting, what the linter can mend, the catalogue, and the generated pages
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m jobs.commands.catalogue
	$(BIN)/python -m jobs.reference

clean: ## remove .venv and caches; runs stay
	rm -rf $(VENV) build dist site *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
