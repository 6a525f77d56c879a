# `make test` and `make demo` need nothing but python3 (3.10 or later): the first call sets up .venv.

PYTHON ?= python3
# The pinned torch comes first: left to the packages, pip would take the newest one and its CUDA.
TORCH ?= torch==2.13.0
JOBS ?= 2
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PACKAGES := dynamiclrp_core dynamiclrp_rules_std dynamiclrp_rules_attention dynamiclrp_rules_ssm

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test lint format types docs dist bench clean

help:  ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(READY)  ## create .venv with torch, the four packages (editable) and the tools

$(READY): pyproject.toml $(PACKAGES:%=%/pyproject.toml)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --group dev --editable "./dynamiclrp_core[demo]" \
		$(addprefix --editable ./,$(filter-out dynamiclrp_core,$(PACKAGES)))
	touch $@

demo: $(READY)  ## train a small CNN on digits, explain it, write pictures to demo-output/
	$(BIN)/dynamiclrp demo --out demo-output

# One thread per worker: threads that fight for cores are slow, and sums then depend on the machine.
test: $(READY)  ## run the tests (PYTEST_ARGS="-k name", JOBS=4)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(PYTEST_ARGS)

docs: $(READY)  ## write docs/rules.md from the installed packs
	$(BIN)/dynamiclrp rules docs > docs/rules.md

lint: $(READY)  ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(READY)  ## let ruff repair what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(READY)  ## mypy --strict on the four packages
	$(BIN)/mypy --strict

dist: $(READY)  ## build the four wheels into dist/
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist \
		$(addprefix ./,$(PACKAGES))
	@ls dist

bench: $(READY)  ## measure speed and memory against torch.autograd.grad
	$(BIN)/python benchmarks/speed.py

clean:  ## remove what the other targets made
	rm -rf $(VENV) dist demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis
