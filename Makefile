# Every target sets up what it needs; a second run installs nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.8

.PHONY: help setup demo serve test test-slow check audit-dependencies format lock clean

help:            ## list the targets
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: $(VENV)/installed  ## create .venv with exactly requirements.lock

$(VENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "reelcheck needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --python $(VENV) --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(VENV) --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup      ## the whole pipeline on rendered faces
	$(BIN)/reelcheck demo

serve: setup     ## Prefect server, deployments and worker on this machine
	$(BIN)/reelcheck serve

test: setup      ## tests, without the slow and the GPU ones
	$(BIN)/python -m pytest -m "not slow and not gpu" --cov --cov-report=term:skip-covered --cov-fail-under=85

test-slow: setup ## the rest of the tests
	$(BIN)/python -m pytest -m "slow or gpu"

check: setup     ## lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit-dependencies: setup  ## known vulnerabilities of what is locked; tolerates no network
	$(BIN)/python .ci/audit_dependencies.py

format: setup    ## rewrite the code as ruff wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: setup      ## resolve requirements.lock again
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --generate-hashes --no-emit-index-url \
	  --upgrade --quiet --custom-compile-command "make lock" --output-file requirements.lock

clean:           ## remove .venv and the demo
	rm -rf $(VENV) demo
