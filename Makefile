# Everything lives in .venv inside the checkout, made on first use by PYTHON (3.11 or newer). Nothing else is changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
DISTRIBUTIONS := core plugins/features plugins/encoders plugins/asr models/en-small
FOR_TESTS := plugins/training

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint docs docs-serve clean

help:
	@echo "make demo    install into $(VENV), transcribe a recording of this repository, print its words with times"
	@echo "make test    install what the tests need, then run ruff, mypy and pytest (PYTEST='-k name' passes options on)"
	@echo "make lint    only ruff and mypy"
	@echo "make docs    build the documentation into site/ (make docs-serve: show it on this machine, and follow changes)"
	@echo "make clean   remove $(VENV), caches and build outputs"
	@echo "PYTHON=python3.12 names the Python that $(VENV) is made with; now: $(PYTHON)"

demo: $(VENV)/.installed
	@echo "A voice that the small model of this repository was not trained on. Start and end in seconds, and the word:"
	@$(BIN)/sonant transcribe models/en-small/sample.mp3 --model en-small --timestamps word

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST)

lint: $(VENV)/.tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The reference is written anew from the code first. The variable turns off the theme's advertising.
docs: $(VENV)/.docs
	$(BIN)/python scripts/make_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir site
	@echo "The site is in site/: open site/index.html"

docs-serve: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --strict --dev-addr 127.0.0.1:8000

clean:
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache $(DISTRIBUTIONS:%=%/dist) $(DISTRIBUTIONS:%=%/build) $(FOR_TESTS:%=%/dist)
	find . -name __pycache__ -prune -exec rm -rf {} +

# A stamp a stage: a second call does nothing, a changed requirement installs again.

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Sonant needs Python 3.11 or newer, and '$(PYTHON)' is not. Name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); \
	  echo "$(PYTHON) cannot make a virtual environment with pip. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.installed: $(VENV)/.created constraints.txt $(DISTRIBUTIONS:%=%/pyproject.toml)
	@echo "Installing into $(VENV). The first time takes minutes: torch is large."
	$(PIP) install --constraint constraints.txt $(DISTRIBUTIONS:%=--editable ./%)
	@touch $@

$(VENV)/.docs: $(VENV)/.installed requirements-docs.txt
	$(PIP) install --constraint constraints.txt --requirement requirements-docs.txt
	@touch $@

$(VENV)/.tools: $(VENV)/.installed requirements-dev.txt requirements-docs.txt $(FOR_TESTS:%=%/pyproject.toml)
	$(PIP) install --constraint constraints.txt $(DISTRIBUTIONS:%=--editable ./%) $(FOR_TESTS:%=--editable ./%) --requirement requirements-dev.txt
	@touch $@
