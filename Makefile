# Every target works alone on a fresh clone; what is installed already is not installed again.
#
#   make demo        the whole pipeline on the bundled example, to a report, on the CPU
#   make test        the tests, except those that take minutes
#   make test-slow   the tests that take minutes
#   make check       formatters, linter, types, import contracts and spelling
#   make install     only install, for use with .venv/bin/localsynth
#   make docs        the generated pages: reference, claims, layers and plots
#   make docs-html   the documentation as HTML, in dist/docs
#   make bundle      everything for a machine without network, in one file in dist/ (takes zstd; docs/howto/air-gap.md)
#   make screenshots the pictures in docs/images, from the real terminal UI
#   make lock        constraints.txt, resolved again from pyproject.toml
#   make clean       remove .venv and everything else that was made here

PYTHON ?= python3
# How many processes run the tests.
JOBS ?= 2
MODEL := smollm2-135m-instruct
BIN := .venv/bin
# Every document that people write: two are generated, and mdformat would break the front matter of issue templates.
PROSE = $(filter-out docs/reference.md docs/claims.md .github/ISSUE_TEMPLATE/%,$(shell git ls-files '*.md'))

# llama.cpp is compiled on the first installation: use every core for that. pip keeps what it built for the next clone.
export CMAKE_BUILD_PARALLEL_LEVEL ?= $(shell nproc 2>/dev/null || echo 2)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Twice quiet: errors only. A mirror that lacks some package would otherwise fill the screen with warnings.
PIP_INSTALL := $(BIN)/python -m pip install -qq -c constraints.txt

.PHONY: demo test test-slow check screenshots install model docs docs-html bundle lock clean

demo: install model
	$(BIN)/localsynth demo

test: .venv/.installed-dev model
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow"

test-slow: .venv/.installed-dev model
	$(BIN)/python -m pytest -m slow

check: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell -D - -D packaging/vocabulary.txt
	$(BIN)/mdformat --check $(PROSE)

screenshots: .venv/.installed-dev
	$(BIN)/python docs/make_screenshots.py

install: .venv/.installed

docs: .venv/.installed
	$(BIN)/python packaging/docs_reference.py
	$(BIN)/python packaging/docs_claims.py
	$(BIN)/python packaging/docs_layers.py
	$(BIN)/python docs/plots/make_plots.py

docs-html: docs
	$(BIN)/python packaging/docs_html.py

bundle: .venv/.installed-dev docs
	$(BIN)/python packaging/bundle.py

# Where models lie is the user's choice ($$LOCALSYNTH_MODELS), so no stamp here: this checks the file and its SHA-256 each time.
model: .venv/.installed
	@$(BIN)/localsynth models fetch $(MODEL)

.venv/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "localsynth needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.installed: .venv/.python pyproject.toml constraints.txt
	@echo "Installing localsynth (the first time this compiles llama.cpp, for some minutes) ..."
	@$(PIP_INSTALL) -e ".[train]"
	@touch $@

.venv/.installed-dev: .venv/.installed
	@echo "Installing the development tools ..."
	@$(PIP_INSTALL) -e ".[train,dev]"
	@touch $@

# Versions that are pinned already stay; `rm constraints.txt` first to move them all.
lock: .venv/.installed-dev
	$(PIP_INSTALL) uv
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --all-extras --no-annotate --no-header --no-emit-index-url \
	  -o constraints.txt pyproject.toml
	sed -i '1i # Written by `make lock`: the versions that were tried together, for every platform that has them.' constraints.txt

clean:
	rm -rf .venv build dist localsynth-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
