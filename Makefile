PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
DOCS_INSTALLED := .venv/.docs-installed
WORKERS ?= 3

.PHONY: sweep test test-slow lint docs install

sweep: $(INSTALLED)  ## install, and sweep over real digits
	$(BIN)/sfd-sweep run search_spaces/digits.yaml

test: $(INSTALLED)  ## install, and run the test suite
	$(BIN)/python -m pytest -n $(WORKERS)

test-slow: $(INSTALLED)  ## the checks that take minutes of training
	$(BIN)/python -m pytest -m slow --timeout 1800

lint: $(INSTALLED)  ## ruff, mypy, and the contracts between subpackages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(DOCS_INSTALLED)  ## build the documentation as a site, into site/
	$(BIN)/mkdocs build

install: $(INSTALLED)

$(INSTALLED): pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[test]'
	touch $(INSTALLED)

$(DOCS_INSTALLED): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[docs]'
	touch $(DOCS_INSTALLED)
