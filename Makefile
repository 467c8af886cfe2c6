# Every target sets up what it needs: a virtual environment in .venv with pinned packages.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install reproduce test lint clean

help:
	@echo "make reproduce   from nothing to runs/latest/sample/index.html"
	@echo "make test        lint, type checks and tests"
	@echo "make install     the virtual environment only"
	@echo "make clean       remove the virtual environment and caches (runs/ stays)"

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed (make PYTHON=python3.12 ...), this is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

reproduce: install
	$(BIN)/luigi --module workflows FullReproduction

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -q --durations=15

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
