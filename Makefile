PYTHON ?= .venv/bin/python

.venv: pyproject.toml
	python3 -m venv .venv
	.venv/bin/pip install -q -e '.[dev]'
	touch .venv

.PHONY: check test demo
check: .venv  ## ruff and mypy
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

test: .venv  ## all tests
	$(PYTHON) -m pytest

demo: .venv  ## the main job on miniature data and a miniature model
	$(PYTHON) -m evalkit
