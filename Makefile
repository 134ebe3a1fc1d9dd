# `make build` sets everything up and emits the default preset; `make test` sets everything up and runs the tests.
# Another interpreter: make build PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# `nproc` would take OMP_NUM_THREADS for the number of cores.
WORKERS ?= $(shell env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)

.PHONY: build test lint docs clean

build: $(READY)
	$(BIN)/python -m rtl_gen build

test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

docs: $(READY)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo build/docs/index.html

# The environment follows pyproject.toml; a half-made one has no stamp and is made again.
$(READY): pyproject.toml
	$(PYTHON) .ci/prerequisites.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
