PYTHON := .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help setup demo airflow airflow-test experiments experiments-quick bench-serving test test-fast lint format lock \
  proto clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## make .venv from requirements.lock
	@./bootstrap.sh

demo: setup  ## MovieLens-100K from download to a served recommendation
	@$(PYTHON) -m pipeline demo

airflow: setup data/ta_feng_daily/119  ## a local Airflow that retrains on Ta-Feng day by day: http://127.0.0.1:8080
	@$(PYTHON) -m pipeline.airflow.local configs/ta_feng_daily.yaml

airflow-test: setup  ## a real scheduler without a browser: three days of retraining, and what goes wrong (40 minutes)
	$(PYTHON) -m pytest tests/airflow

data/%/interactions.csv: | setup
	@$(PYTHON) -m pipeline data $*

data/ta_feng_daily/119: | data/ta_feng/interactions.csv
	@$(PYTHON) -m pipeline data ta_feng_daily --source data/ta_feng >/dev/null

experiments: setup $(foreach set,movielens ta_feng amazon_beauty,data/$(set)/interactions.csv)  ## all models, data sets and seeds: one table and plots (hours; goes on where it was interrupted)
	@$(PYTHON) -m pipeline experiment --grid configs/experiments/full.yaml

experiments-quick: setup data/movielens/interactions.csv  ## the main rows, one seed
	@$(PYTHON) -m pipeline experiment --grid configs/experiments/quick.yaml

bench-serving: setup  ## how fast the server answers from 100,000 and 1,000,000 items (10 to 15 minutes)
	@$(PYTHON) -m benchmarks.serving

test: setup  ## all tests but those of airflow-test
	$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: setup  ## the tests that start no process, train no model and are quick
	$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

lint: setup  ## ruff, mypy, import-linter
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports

format: setup  ## ruff's fixes and formatting
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

lock: setup  ## requirements.in -> requirements.lock
	$(firstword $(wildcard .tools/bin/uv) uv) pip compile --quiet --python $(PYTHON) requirements.in \
	  --override requirements-overrides.txt --generate-hashes --no-emit-index-url --no-header -o requirements.lock

proto: setup  ## serving/proto/retrieval.proto -> Python
	$(PYTHON) -m serving.proto.generate

clean:  ## remove what runs and tools leave (not data/, not .venv)
	rm -rf runs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
