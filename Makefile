# Every target sets up what it needs; a second run installs nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.8
WORKERS ?= 2
MEASURE := $(if $(COVERAGE),--cov --cov-report=term:skip-covered --cov-fail-under=85)
# Processes start often, and compiling what they import takes longer than the work of most.
unexport PYTHONDONTWRITEBYTECODE
# `make setup TORCH=cpu` takes the small build of torch, without CUDA; `make setup` what the lock
# names. Other targets keep the build that is there.
ifeq ($(filter setup,$(MAKECMDGOALS)),)
TORCH ?= $(if $(wildcard $(VENV)/installed-cpu),cpu)
endif
ifneq ($(filter-out cpu,$(TORCH)),)
$(error TORCH = $(TORCH) is no build of torch; give TORCH=cpu, or leave it out)
endif
STAMP := $(VENV)/installed$(TORCH:%=-%)
# What tells that the environment was made, or begun, with the other build: it is made anew then.
OTHER_BUILD := $(if $(TORCH),$(VENV)/installed,$(VENV)/installed-cpu $(VENV)/without-torch.lock)

.PHONY: help setup demo serve test test-slow check audit-dependencies format lock clean

help:            ## list the targets
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: $(STAMP)  ## create .venv with exactly requirements.lock; TORCH=cpu: without CUDA

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "reelcheck needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(if $(wildcard $(OTHER_BUILD)),--clear )$(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
ifeq ($(TORCH),cpu)
	awk '/^[a-z0-9]/ {kept = !/^(torch|torchvision|triton|cuda-[^=]*|nvidia-[^=]*)==/} kept' $< > $(VENV)/without-torch.lock
	$(BIN)/uv pip install --quiet --python $(VENV) --no-deps --require-hashes -r $(VENV)/without-torch.lock
	$(BIN)/uv pip install --quiet --python $(VENV) --no-deps --torch-backend cpu $(shell grep -oE '^(torch|torchvision)==[^ ]+' requirements.lock)
else
	$(BIN)/uv pip install --quiet --python $(VENV) --require-hashes -r requirements.lock
endif
	$(BIN)/uv pip install --quiet --python $(VENV) --compile-bytecode --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup      ## the whole pipeline on rendered faces
	$(BIN)/reelcheck demo

serve: setup     ## Prefect server, deployments and worker on this machine
	$(BIN)/reelcheck serve

test: setup      ## tests, without the slow and the GPU ones, on WORKERS=2; COVERAGE=1 measures them
	$(BIN)/python -m pytest -m "not slow and not gpu" $(MEASURE) \
	  --numprocesses $(WORKERS) --no-loadscope-reorder

test-slow: setup ## the rest of the tests
	$(BIN)/python -m pytest -m "slow or gpu"

check: setup     ## lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit-dependencies: setup  ## known vulnerabilities of what is locked; tolerates no network
	$(BIN)/python .ci/audit_dependencies.py

.PHONY: docs
docs: setup      ## write the reference pages: commands, settings, tables
	$(BIN)/python docs/generate.py

format: setup    ## rewrite the code as ruff wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: setup      ## resolve requirements.lock again
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --generate-hashes --no-emit-index-url \
	  --upgrade --quiet --custom-compile-command "make lock" --output-file requirements.lock

clean:           ## remove .venv and the demo
	rm -rf $(VENV) demo
