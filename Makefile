# Everything runs in .venv; `make setup` makes it, and the other targets call it when needed.
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.fovea-setup
DEV_STAMP := $(VENV)/.fovea-setup-dev
BENCH_STAMP := $(VENV)/.fovea-setup-bench
BENCH_REQUIREMENTS := inference_service/scripts/requirements.txt
REQUIREMENTS := $(wildcard */requirements.txt) $(wildcard monitoring/*/requirements.txt)
PINS := -c constraints.txt --override overrides.txt
UV := $(BIN)/uv pip install --compile-bytecode --python $(BIN)/python
PYTHON_FOUND := $(shell command -v $(PYTHON) || command -v python3)

.PHONY: help setup demo test test-kill check local up down train calibrate doctor bench-selection bench-inference bench-serving constraints clean

help: ## Show what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(STAMP) ## Make the virtual environment (once)

$(STAMP): pyproject.toml constraints.txt overrides.txt $(REQUIREMENTS)
	@bash scripts/preflight.sh "$(PYTHON_FOUND)"
	@test -x $(BIN)/python || "$(PYTHON_FOUND)" -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	@$(UV) -e '.[local]' $(addprefix -r ,$(REQUIREMENTS)) $(PINS)
	@touch $@

$(DEV_STAMP): $(STAMP) requirements-dev.txt
	@$(UV) -r requirements-dev.txt $(PINS)
	@touch $@

$(BENCH_STAMP): $(STAMP) $(BENCH_REQUIREMENTS)
	@$(UV) -r $(BENCH_REQUIREMENTS) $(PINS)
	@touch $@

# What is set on make's command line is in the environment of what it runs.
demo: $(STAMP) ## Run the whole loop on made-up (or your own: DATA=folder) images
	@$(BIN)/python -m shared.demo.run

test: $(DEV_STAMP) ## Run the tests
	@bash scripts/system-packages.sh $(BIN)
	@$(BIN)/python -m pytest -m "not kill" $(ARGS)

test-kill: $(DEV_STAMP) ## The long tests: kill every process of the stack in the middle of a round, replay rounds
	@bash scripts/system-packages.sh $(BIN)
	@$(BIN)/python -m pytest -m kill $(ARGS)

check: $(DEV_STAMP) ## Lint, types, walls
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy .
	@$(BIN)/lint-imports

local: $(STAMP) ## Start the embedded stack (no Docker); Ctrl-C stops it
	@$(BIN)/fovea local $(if $(LOGS),--logs)

up: ## Start the stack with docker compose
	@bash scripts/compose.sh up

down: ## Stop the docker compose stack; data stays in its volumes
	@bash scripts/compose.sh down

train: $(STAMP) ## Train on the newest labels: PROJECT= EPOCHS= SEED=
	@$(BIN)/fovea train $(if $(PROJECT),--project $(PROJECT)) $(if $(EPOCHS),--epochs $(EPOCHS)) \
	  $(if $(SEED),--seed $(SEED))

calibrate: $(STAMP) ## Calibrate the newest model: PROJECT= MODEL=
	@$(BIN)/fovea calibrate $(if $(PROJECT),--project $(PROJECT)) $(if $(MODEL),--model $(MODEL))

doctor: $(STAMP) ## Say what is wrong and how to mend it
	@$(BIN)/fovea doctor

bench-inference: $(STAMP) ## Time Bayesian scoring against Ultralytics' own prediction: ARGS=
	@$(BIN)/python -m inference_service.scripts.bench_inference $(ARGS)

bench-serving: $(BENCH_STAMP) ## Time serving beside FastAPI and LitServe around the same model: ARGS=
	@$(BIN)/python -m inference_service.scripts.bench_serving $(ARGS)

bench-selection: $(STAMP) ## Time k-center on 1,000,000 embeddings against full sweeps: ARGS=
	@$(BIN)/python -m labeling_service.scripts.bench_selection $(ARGS)

constraints: ## Resolve the pins again
	@$(BIN)/uv pip compile --universal --python-version 3.11 --no-emit-index-url --no-annotate \
	  --no-header --override overrides.txt pyproject.toml --extra local $(REQUIREMENTS) \
	  requirements-dev.txt $(BENCH_REQUIREMENTS) -o constraints.txt

clean: ## Remove what can be made again (not your data in .fovea)
	@rm -rf build artifacts .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
