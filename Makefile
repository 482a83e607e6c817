# Every task of this repository. `make` alone lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
BACKEND := apps/backend
LOCK := $(BACKEND)/requirements-dev.txt
READY := $(VENV)/.ready
TEST_PACKAGES := prometheus curl
SUDO ?= # what a user who is not root may install packages with; unset, nothing is installed for them
PATH := $(BIN):$(PATH)
export PATH
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export DBT_SEND_ANONYMOUS_USAGE_STATS := false

.PHONY: help
help: ## List the tasks
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  \033[1mmake %-12s\033[0m %s\n", $$1, $$2}'

.PHONY: setup
setup: $(READY) ## Install everything into .venv

$(READY): $(LOCK) $(BACKEND)/pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "Python 3.11 or newer with venv is needed (Debian: apt-get install python3-venv); or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one: make PYTHON=/path/to/python3 (and remove .venv)" >&2; exit 1; }
	@$(BIN)/python -c 'import uv' 2>/dev/null || $(BIN)/pip install --quiet "$$(grep -oE '^uv==[0-9.]+' $(LOCK))"
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode $(LOCK)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e $(BACKEND)
	@touch $@

.PHONY: lock
lock: ## Pin every dependency again, with hashes, into the requirements files
	cd $(BACKEND) && uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' pyproject.toml -o requirements.txt
	cd $(BACKEND) && uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' --extra dev pyproject.toml -c requirements.txt -o requirements-dev.txt
	cd $(BACKEND) && uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' --group mlflow -o requirements-mlflow.txt

.PHONY: demo
demo: $(READY) ## Run the whole loop on the shipped sample, or on DATA=file.csv.gz
	lm demo $(if $(DATA),"$(DATA)")

.PHONY: serve
serve: $(READY) ## The API on 127.0.0.1:8000
	LM_LOCAL_TRUST="$${LM_LOCAL_TRUST:-true}" lm serve

# In an environment of its own, for the full MLflow wants older libraries than we do. The address of its database is
# handed over where other users of the machine cannot read it.
.PHONY: mlflow
mlflow: $(READY) ## MLflow's pages about trainings and models on 127.0.0.1:5000; PORT=n for another
	@test -x $(VENV)/mlflow/bin/python || $(PYTHON) -m venv $(VENV)/mlflow
	uv pip sync --quiet --python $(VENV)/mlflow/bin/python --require-hashes --compile-bytecode $(BACKEND)/requirements-mlflow.txt
	lm db up
	@echo "http://127.0.0.1:$(or $(PORT),5000) in some seconds; Ctrl-C ends it"
	@MLFLOW_BACKEND_STORE_URI="$$(python -c 'from app.ml.tracking_database import ensure_tracking_database as url; print(url().render_as_string(hide_password=False))')"; \
		export MLFLOW_BACKEND_STORE_URI MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false; \
		exec $(VENV)/mlflow/bin/mlflow server --host 127.0.0.1 --port $(or $(PORT),5000) --workers 1

.PHONY: check
check: $(READY) ## Format, lint, types, layers, SQL
	cd $(BACKEND) && ruff format --check . && ruff check . && mypy && lint-imports --no-cache
	cd warehouse && sqlfluff lint models tests macros

.PHONY: format
format: $(READY) ## Let the formatters rewrite the code
	cd $(BACKEND) && ruff format . && ruff check --fix .
	cd warehouse && sqlfluff fix --quiet models tests macros

.PHONY: test
test: $(READY) test-packages check ## Set up everything and run the checks and tests
	cd $(BACKEND) && pytest -n auto --dist loadgroup -m "not full"

.PHONY: test-full
test-full: $(READY) test-packages check ## All tests, the long ones too
	cd $(BACKEND) && pytest -n auto --dist loadgroup

.PHONY: test-packages
test-packages:
	@command -v promtool >/dev/null && command -v prometheus >/dev/null && command -v curl >/dev/null \
		|| { { test "$$(id -u)" = 0 || test -n "$(SUDO)"; } && $(SUDO) apt-get update -qq \
			&& $(SUDO) env DEBIAN_FRONTEND=noninteractive \
				apt-get install -qq -y --no-install-recommends $(TEST_PACKAGES) >/dev/null; } \
		|| { echo "The tests need prometheus, promtool and curl (Debian: sudo apt-get install $(TEST_PACKAGES))" >&2; exit 1; }

.PHONY: bench
bench: $(READY) ## Measure: ONLY=section ROWS=n REPS=n; prints tables, writes build/bench.json
	cd $(BACKEND) && python bench/run.py $(if $(ONLY),--only $(ONLY)) $(if $(ROWS),--rows $(ROWS)) $(if $(REPS),--reps $(REPS))

.PHONY: bench-full
bench-full: $(READY) ## The same without the time limit
	cd $(BACKEND) && python bench/run.py --full $(if $(ONLY),--only $(ONLY)) $(if $(ROWS),--rows $(ROWS)) $(if $(REPS),--reps $(REPS))

.PHONY: hooks
hooks: $(READY) ## Check every commit before it is made
	prek install

.PHONY: clean
clean: ## Remove the environment and reports; .data stays
	rm -rf $(VENV) build warehouse/target warehouse/logs
