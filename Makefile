# `make` alone explains itself. Every target sets up what it needs first and can be repeated or interrupted.

VENV := .venv
BIN := $(VENV)/bin
DEMO := build/demo

# Options of scripts/setup.py (--python PATH, --without-training, --without-horovod, --with-s3, --complete).
SETUP_ARGS ?=
# Options of pytest, say ARGS="-k apriori" or ARGS="-n 0 --pdb".
ARGS ?=

# The first Python that really runs (a pyenv shim may be there and fail) and can run set-up, which judges further.
FIND_PYTHON = for python in python3.11 python3.12 python3 python3.13 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && break; python=; done; \
	test -n "$$python" || { echo "set-up: missing: Python 3.11 or 3.12. Install it with: apt-get install -y \
	python3.11 python3.11-venv python3.11-dev (Debian, Ubuntu), or brew install python@3.11 (macOS)" >&2; exit 3; }

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint format doctor horovod s3 clean distclean

help:  ## Show this list
	@echo "dlmine-spark: data mining and deep learning fused, as Spark jobs over Delta tables"
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1 \2/p' $(MAKEFILE_LIST) | \
		while read -r target text; do printf '  make %-10s %s\n' "$$target" "$$text"; done

setup:  ## Install everything into .venv (only what is not there yet); SETUP_ARGS="--without-training" leaves torch out
	@$(FIND_PYTHON); "$$python" scripts/setup.py $(SETUP_ARGS)

demo: setup $(DEMO)/raw  ## Simulate data, run the whole pipeline on it, print the report's path
	@$(BIN)/dlmine run --config conf/examples/demo.yaml

# Simulated under another name first: half a data set must not pass for a whole one.
$(DEMO)/raw: | setup
	@rm -rf $@.partial
	@$(BIN)/dlmine simulate --size small --seed 7 --out $@.partial
	@mv $@.partial $@

PYTEST = $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

test: setup  ## Run the tests; ARGS="-k apriori" picks some
	@$(PYTEST) -m "not slow" $(ARGS)

test-all: setup  ## Run all tests, also the slow ones
	@$(PYTEST) $(ARGS)

lint: setup  ## Check style, formatting, types and who imports whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: setup  ## Format the code and fix what ruff can fix
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

doctor: setup  ## Check Python, Java, Spark, Delta, torch, Horovod, GPU, memory and disk
	@$(BIN)/dlmine doctor

horovod: SETUP_ARGS += --retry-horovod
horovod: setup  ## Build Horovod again after a failed build

s3: SETUP_ARGS += --with-s3
s3: setup  ## Fetch what Spark needs for lakehouses in S3 (about 600 MB)

clean:  ## Remove what the demo and the tools made
	@rm -rf build dist metastore_db derby.log spark-warehouse .mypy_cache .pytest_cache .ruff_cache \
		.hypothesis .import_linter_cache

distclean: clean  ## Remove the environment too (wheels and jars kept for all clones stay in ~/.cache/dlmine-spark)
	@rm -rf $(VENV)
