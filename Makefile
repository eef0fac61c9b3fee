# make demo | make test: everything a newcomer needs; either sets up the environment first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: env demo test lint

env: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "ncjax needs Python 3.11 or newer, and this is " + sys.version.split()[0] + "; run: make PYTHON=python3.12 " ' 
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $(STAMP)

demo: env
	$(BIN)/python -m experiments.demo --run runs/demo

test: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --durations=15

lint: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
