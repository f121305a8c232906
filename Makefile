# make run    set up, then run a suite: the kitchen benchmark, 5 seeds (SUITE=, SEEDS=, SCALE= change that)
# make test   set up, then run all tests
# make lint   formatting, style and types
# make soak   ten minutes of killing workers, nodes and the submitter on a virtual SLURM; root, MINUTES= changes that

SUITE ?= suites/kitchen.yaml
SEEDS ?= 5
SCALE ?=
PYTHON ?= python3
MINUTES ?= 10

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up

.PHONY: run test lint soak setup clean-setup

run: setup
	$(BIN)/ailft-bench run $(SUITE) --seeds $(SEEDS) $(if $(SCALE),--scale $(SCALE))

# One thread a process: tests run side by side, and the numbers do not depend on the machine's cores.
test: setup
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

soak: setup
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python tests/soak.py --minutes $(MINUTES)

setup: $(STAMP)

$(STAMP): pyproject.toml Makefile
	PYTHON="$(PYTHON)" VENV="$(VENV)" ./.ci/setup
	touch $@

clean-setup:
	rm -rf $(VENV)
