# Every target does its own set-up: a fresh clone, Python 3.11 or newer and make are enough.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-slurm test-alertmanager test-adapters fuzz soak test-seeds validate-2k validate-5k validate-10k check format types docs bench clean

help:  ## show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer on the PATH; install one, or say make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "setting up $(VENV) (once; about a minute) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[trainer,carla,dev]'
	@touch $@

demo: $(READY)  ## a run dies, the sentinel saves it: about three minutes
	$(BIN)/python -m examples.incident_demo

test: $(READY)  ## lint, types and the tests: a few minutes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

test-slow: $(READY)  ## the long tests: kill loops and whole trainings
	$(BIN)/python -m pytest -m slow --timeout 1800

test-slurm: $(READY)  ## a Slurm cluster of one node on loopback, as root; installs Debian's slurm-wlm where it can
	@command -v slurmctld >/dev/null || [ -x /usr/sbin/slurmctld ] || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -y -qq --no-install-recommends slurm-wlm munge; } || echo "slurm-wlm is not installed: all is skipped"
	$(BIN)/python -m pytest -m slurm -rs tests/clusters

test-alertmanager: $(READY)  ## the real Prometheus Alertmanager on loopback; as root installs Debian's where it can
	@command -v prometheus-alertmanager >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -y -qq --no-install-recommends prometheus-alertmanager; } || echo "it is not installed: all is skipped"
	$(BIN)/python -m pytest -m alertmanager -rs tests/notifier

test-adapters: $(READY)  ## the adapters with the real libraries, the examples too; installs them
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[trainer,carla,dev,adapters-test]'
	KERAS_BACKEND=torch $(BIN)/python -m pytest -m 'slow or not slow' tests/adapters

test-seeds: $(READY)  ## five seeds of the incident and of the healthy preset, with and without the sentinel
	$(BIN)/python -m benchmarks.seeds

FLAGS ?=
validate-2k: $(READY)  ## the report's test 1, from images: train 2,000 steps, watched, and judge; FLAGS="--preset incident"
	$(BIN)/python -m examples.validation 2000 $(FLAGS)

validate-5k: $(READY)  ## the report's test 2: 5,000 steps
	$(BIN)/python -m examples.validation 5000 $(FLAGS)

validate-10k: $(READY)  ## the report's test 3: 10,000 steps, and whether a long training may begin
	$(BIN)/python -m examples.validation 10000 $(FLAGS)

SOAK_MINUTES ?= 60
soak: $(READY)  ## simulated weeks full of faults for SOAK_MINUTES (60), a seed after the other; a failure prints its seed
	$(BIN)/python -m tests.soak --minutes $(SOAK_MINUTES)

FUZZ_SECONDS ?= 60
fuzz: $(READY)  ## every fuzz target for FUZZ_SECONDS (60), guided by coverage; installs atheris
	$(BIN)/pip install --quiet --disable-pip-version-check atheris
	@for target in expression rule rule_file notation generator template records event_file control_file; do \
		echo "── $$target"; $(BIN)/python -m tests.fuzz $$target --seconds $(FUZZ_SECONDS) || exit 1; done

check: $(READY)  ## lint and types only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## rewrite the sources in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## reading, rules, guard, driving world and latency, as ratios in one run
	$(BIN)/pip install --quiet --disable-pip-version-check tbparse
	$(BIN)/python -m benchmarks.reading
	$(BIN)/python -m benchmarks.rules
	$(BIN)/python -m benchmarks.guard
	$(BIN)/python -m benchmarks.driving
	$(BIN)/python -m benchmarks.latency

clean:  ## remove what make made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
