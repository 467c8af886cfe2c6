# Every target sets up what it needs: a virtual environment with pinned packages. It is .venv for the default interpreter;
# `make test PYTHON=python3.13` has one of its own (.venv-3.13), and so has another release of torch (TORCH=2.11.0).
PYTHON ?= python3
TORCH ?=
VENV := $(if $(filter-out python3,$(PYTHON) $(TORCH)),.venv-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')$(TORCH:%=-torch-%),.venv)
BIN := $(VENV)/bin
# The pinned pip chooses versions in half the time of the one that comes with Python; bytecode, which pip makes in one process, is
# made in as many as there are cores. Where either fails the rest works as well.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(VENV)/constraints.txt
# What tests write is made durable, again and again, and thrown away: in memory, where there is enough (kB free), it takes half
# the time. `make test SCRATCH=/tmp` is on the disk.
SCRATCH ?= $(shell test -w /dev/shm && awk '$$1 == "MemAvailable:" {exit $$2 < 12000000}' /proc/meminfo && df -Pk /dev/shm | awk 'NR == 2 && $$4 > 8000000 {print "/dev/shm"}')
PYTEST := $(if $(SCRATCH),PYTEST_DEBUG_TEMPROOT=$(SCRATCH) )$(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist worksteal

PACKAGES := core data_pipeline pretrain evaluate finetune recipes workflows

.PHONY: help install compiled reproduce test pytest test-fast test-pythons lint clean

help:
	@echo "make reproduce     from nothing to runs/latest/sample/index.html"
	@echo "make test          lint, type checks and all tests"
	@echo "make pytest        all tests alone"
	@echo "make test-fast     only the tests that start no process group and train nothing"
	@echo "make test-pythons  all tests on each promised Python, the fast ones on the oldest promised torch"
	@echo "make install       the virtual environment only"
	@echo "make clean         remove the virtual environments and caches (runs/ stays)"

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11, 4) <= sys.version_info < (3, 14) else "Python 3.11.4 to 3.13 is needed (make PYTHON=python3.12 ...), this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	sed '$(TORCH:%=s/^torch==.*/torch==%/)' constraints.txt > $(VENV)/constraints.txt
	$(PIP_INSTALL) pip || true
	$(PIP_INSTALL) --no-compile -e '.[dev]'
	$(BIN)/python -m compileall -qq -j 0 -x '/tests/|/transformers/models/' $(VENV)/lib || true
	touch $@

# Each program, worker and rank is a process of its own; where PYTHONDONTWRITEBYTECODE is set none would keep this for the next.
compiled: install
	@$(BIN)/python -m compileall -q $(PACKAGES) benchmarks tests

reproduce: compiled
	$(BIN)/luigi --module workflows FullReproduction

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy

# Lint and types beside the tests, whose ranks and waits leave a core now and then.
test: compiled
	@$(MAKE) --no-print-directory -j 2 lint pytest

pytest: compiled
	$(PYTEST) --durations=15

test-fast: compiled
	$(PYTEST) -m fast

test-pythons: install
	$(BIN)/python tests/on_every_python.py $(ROWS)

clean:
	rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
