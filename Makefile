# The one door to the project. `make` alone prints what there is.
# Everything installed goes to $(VENV), from hash-locked lists, and is installed again only when a list changes.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin
# The first Python that really runs and is new enough; `make run PYTHON=/usr/bin/python3.12` names another.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then command -v $$p; break; fi; done)
# Progress for a person, silence for a log file.
QUIET := $(if $(CI),yes,$(shell test -t 2 || echo yes))
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install $(if $(QUIET),-q --progress-bar off)
# Many tests are about real time on real sockets, and a busy machine can break one. What failed runs once more, alone,
# and is named; what fails again has failed. More than ten failures are no accident.
CACHE := build/pytest-make
ALONE = { [ $(1) = 1 ] && $(BIN)/python scripts/few_failed.py $(CACHE) 10 > $(CACHE)/again && \
	printf '\nOnce more, alone, what failed:\n' && $(BIN)/python -m pytest -v @$(CACHE)/again; }
LOCK := $(BIN)/uv pip compile --generate-hashes --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url --quiet

.PHONY: help
help:  ## this list
	@printf 'Tollway. Usage: make TARGET [ARGS="…"]\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\n  ARGS goes to the command: make run ARGS="--port 8080", make test ARGS="tests/wire -x"\n'

# ------------------------------------------------------------------ installing

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo 'Tollway needs Python 3.11 or newer and found none. On Debian or Ubuntu: apt-get install python3 python3-venv'; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo 'This Python cannot make virtual environments. On Debian or Ubuntu: apt-get install python3-venv'; exit 1; }
	@echo 'Creating $(VENV) with $(PYTHON)'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.stamp-run: requirements.lock requirements-build.lock pyproject.toml | $(BIN)/python
	@echo 'Installing Tollway and its locked dependencies into $(VENV)'
	@$(PIP) --require-hashes -r requirements-build.lock -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.stamp-dev: requirements-dev.lock $(VENV)/.stamp-run
	@echo 'Installing the locked test and check tools into $(VENV)'
	@$(PIP) --require-hashes -r requirements-dev.lock
	@touch $@

# The hot path as C, beside its sources; COMPILE=0 leaves it plain Python.
COMPILE ?= 1
HOT := $(shell $(PYTHON) -c 'import tollway_compile; print(*("src/tollway/" + m for m in tollway_compile.MODULES))' 2>/dev/null)

$(VENV)/.stamp-compiled: $(HOT) tollway_compile.py scripts/compile.py | $(VENV)/.stamp-run
	@if [ '$(COMPILE)' = 1 ]; then $(BIN)/python scripts/compile.py; else $(BIN)/python scripts/compile.py --remove; fi
	@touch $@

.PHONY: setup
setup: $(VENV)/.stamp-dev  ## create .venv with everything needed to run, test and check
	@echo 'Ready: make run, make test, make check'

.PHONY: which-python
which-python:
	@echo "$(PYTHON)"

# ------------------------------------------------------------------ using

.PHONY: run
run: $(VENV)/.stamp-compiled  ## install what is missing and start the gateway
	@exec $(BIN)/tollway serve $(ARGS)

.PHONY: test
test: $(VENV)/.stamp-dev $(VENV)/.stamp-compiled  ## all tests but the long ones
	@rm -rf $(CACHE)
	@$(BIN)/python -m pytest -o cache_dir=$(CACHE) -m 'not slow' $(ARGS) || $(call ALONE,$$?)

.PHONY: test-full
test-full: $(VENV)/.stamp-dev $(VENV)/.stamp-compiled  ## all tests, the long ones included
	@rm -rf $(CACHE)
	@$(BIN)/python -m pytest -o cache_dir=$(CACHE) $(ARGS) || $(call ALONE,$$?)

.PHONY: check
check: $(VENV)/.stamp-dev  ## style, types, floors, examples of the documentation
	@echo '== ruff check';  $(BIN)/ruff check .
	@echo '== ruff format'; $(BIN)/ruff format --check .
	@echo '== mypy';        $(BIN)/mypy
	@echo '== floors';      $(BIN)/lint-imports --no-logo
	@echo '== docs';        $(BIN)/python scripts/build_docs.py --check
	@$(BIN)/python -m pytest tests/docs

.PHONY: format
format: $(VENV)/.stamp-dev  ## put the code in the form that check asks for
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: docs
docs: $(VENV)/.stamp-dev  ## write the generated pages of docs/reference anew
	@$(BIN)/python scripts/build_docs.py $(ARGS)

.PHONY: prices
prices: $(VENV)/.stamp-dev  ## build the price book (ARGS="--litellm FILE --portkey FILE", see docs/reference/price-sources.md)
	@$(BIN)/python scripts/build_prices.py $(ARGS)

# ------------------------------------------------------------------ measuring

.PHONY: bench
bench: $(VENV)/.stamp-compiled  ## cost of a request against a bare relay (ARGS=--quick: one minute)
	@$(BIN)/python -m bench.run $(ARGS)

.PHONY: bench-peers
bench-peers: $(VENV)/.stamp-compiled  ## the same run with LiteLLM and Portkey beside it (downloads both into build/peers)
	@$(BIN)/python -m bench.peers.install
	@$(BIN)/python -m bench.run --peers $(ARGS)

.PHONY: bench-soak
bench-soak: $(VENV)/.stamp-compiled  ## cold start, and what is left after 200,000 requests and 20,000 vanished clients
	@$(BIN)/python -m bench.cold
	@$(BIN)/python -m bench.soak $(ARGS)

.PHONY: bench-table
bench-table: $(VENV)/.stamp-run  ## put the last full bench-peers into the README
	@$(BIN)/python -m bench.table

# ------------------------------------------------------------------ keeping

.PHONY: lock
lock: $(VENV)/.stamp-dev  ## resolve the dependencies anew (for maintainers; takes uv from the package index)
	@$(PIP) uv
	@$(LOCK) --upgrade pyproject.toml -o requirements.lock
	@$(LOCK) --upgrade --group dev pyproject.toml -c requirements.lock -o requirements-dev.lock
	@printf 'hatchling>=1.27\neditables>=0.5\nmypy>=1.14\nsetuptools>=75\n' | $(LOCK) --upgrade - -c requirements-dev.lock -o requirements-build.lock
	@git --no-pager diff --stat -- 'requirements*.lock'

.PHONY: plain
plain:  ## remove the compiled hot path: what you edit is what runs (make test COMPILE=0 keeps it so)
	@$(BIN)/python scripts/compile.py --remove
	@rm -f $(VENV)/.stamp-compiled

.PHONY: clean
clean:  ## delete .venv, build products and caches (never a data directory)
	rm -rf $(VENV) build dist src/*.so
	find src -name '*.so' -delete
	rm -rf .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
