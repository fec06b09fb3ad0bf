# Needs make and Python 3.11 or newer; everything else is installed into .venv from the lock files.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
UV := $(or $(wildcard $(BIN)/uv),uv)

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

demo: .venv/.runtime  ## a night in a minute: sham subscribers, sham model, no account, nothing leaves this machine
	@$(BIN)/overnight demo

test: .venv/.dev  ## all tests: unit, conformance, acceptance, oracle, simulation, project
	@$(BIN)/pytest -q -n 3 --dist worksteal

check: .venv/.dev  ## style, types, imports and sizes
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python bench/house.py

docs: .venv/.dev  ## renew the pages that the code writes, and build the site into site/
	@$(BIN)/python -m docs.reference
	@$(BIN)/python -m zensical build --clean --strict

bench: .venv/.dev  ## measure speed and robustness
	@$(BIN)/python bench/run.py

mutations: .venv/.dev  ## break each promise on purpose and see its test turn red; ONLY="words" for some
	@$(BIN)/python tests/mutations/run.py $(ONLY)

SEED := 1
SEEDS := 1
NIGHTS := 365
ITEMS := 100
simulate: .venv/.dev  ## live through a year of nights on virtual time: SEED=1 NIGHTS=365 ITEMS=100, or SEEDS=100 of them
	@$(BIN)/python -m tests.simulation --seed $(SEED) --seeds $(SEEDS) --nights $(NIGHTS) --items $(ITEMS)

CASES := 1000
books: .venv/.dev  ## nights drawn at random in which ledger, reports, digest and the model's own bill must agree: CASES=1000
	@CASES=$(CASES) $(BIN)/pytest -q tests/unit/test_reconciliation.py

MINUTES := 15
soak: .venv/.dev  ## let serve live for a while with faults and reloads: MINUTES=15
	@$(BIN)/python bench/soak.py --minutes $(MINUTES)

install: .venv/.dev  ## make .venv with everything a contributor needs

lock: .venv/.dev  ## renew both lock files (needs uv)
	@command -v $(UV) >/dev/null || { echo "make lock needs uv: $(PIP) install uv" >&2; exit 1; }
	@$(UV) pip compile $(LOCK) --group dev --output-file requirements-dev.lock pyproject.toml
	@$(UV) pip compile $(LOCK) --constraint requirements-dev.lock --output-file requirements.lock pyproject.toml

# One lock for every platform and Python from 3.11 on; no address of a registry in it.
LOCK := --quiet --upgrade --universal --python-version 3.11 --no-emit-index-url --no-header --no-annotate

.venv/.runtime: requirements.lock pyproject.toml | .venv/bin/pip
	@echo "installing the packages of requirements.lock into .venv …"
	@$(PIP) install -r requirements.lock || { echo "pip could not install them: is the package index reachable?" >&2; exit 1; }
	@$(PIP) install --no-deps --editable .
	@touch $@

.venv/.dev: requirements-dev.lock .venv/.runtime
	@echo "installing the packages of requirements-dev.lock into .venv …"
	@$(PIP) install -r requirements-dev.lock || { echo "pip could not install them: is the package index reachable?" >&2; exit 1; }
	@touch $@

# A failed attempt leaves a .venv without pip behind, so it is removed. PYTHON=… chooses another interpreter.
.venv/bin/pip:
	@python=""; \
	for each in $(PYTHON) python3 python python3.14 python3.13 python3.12 python3.11; do \
	  if "$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python="$$each"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "overnight needs Python 3.11 or newer; found: $$(python3 --version 2>/dev/null || echo none)." >&2; \
	  echo "Install one (Debian, Ubuntu: apt install python3.11 python3.11-venv) or name it: make demo PYTHON=/path/to/python3" >&2; \
	  exit 1; \
	fi; \
	echo "making .venv with $$("$$python" --version)"; \
	"$$python" -m venv .venv || { rm -rf .venv; \
	  echo "This Python cannot make a virtual environment. Debian, Ubuntu: apt install python3-venv" >&2; exit 1; }

.PHONY: help demo test check docs bench mutations simulate books soak install lock
