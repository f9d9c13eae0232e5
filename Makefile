# The two commands of a newcomer: `make quickstart` and `make test`. Everything installs into .venv.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
# Tests share the cores, a worker each, and then a thread each will do. ARGS="-n 0" runs them in this one process.
PYTEST = OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -q -n logical --maxprocesses 8 --dist worksteal
# Threads sleep while they wait for each other, also where a test imports torch before retrank, which else sees to it.
export OMP_WAIT_POLICY ?= passive

.PHONY: quickstart test test-all sanitize check format bench clean

quickstart: .venv/.installed  ## MovieLens-100K to served-quality recommendations; options: ARGS="--seed 1"
	$(BIN)/retrank quickstart $(ARGS)

test: .venv/.installed-dev  ## the default checks, a few minutes
	$(PYTEST) -m "not slow and not network" $(ARGS)

test-all: .venv/.installed-dev  ## with the slow and the downloading ones
	$(PYTEST) $(ARGS)

sanitize: .venv/.installed-dev  ## the tests of the kernels under AddressSanitizer and UBSan, on Linux with GCC
	$(BIN)/python tools/sanitize.py $(ARGS)

check: .venv/.installed-dev  ## lint, format, types
	$(BIN)/ruff check src tests examples benchmarks tools
	$(BIN)/ruff format --check src tests examples benchmarks tools
	$(BIN)/mypy

format: .venv/.installed-dev
	$(BIN)/ruff check --fix src tests examples benchmarks tools
	$(BIN)/ruff format src tests examples benchmarks tools

bench: .venv/.installed-dev  ## measured speed, ratios in one run
	$(BIN)/python -m benchmarks $(ARGS)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "retrank needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[serve]"
	@touch $@

.venv/.installed-dev: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@ .venv/.installed

clean:
	rm -rf .venv runs .pytest_cache .mypy_cache .ruff_cache .hypothesis .sanitize
