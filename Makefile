# Each target sets up what it needs in .venv by itself; pyproject.toml says what that is.
# A Debian 12 with python3, python3-venv and make is enough; `make help` lists the rest.

PYTHON ?= python3
BIN := .venv/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo 'sudo ')

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

.PHONY: help
help:
	@echo 'make demo    start a PostgreSQL of its own and show what evstore does, in a minute'
	@echo 'make test    run all tests that this machine can run (ARGS=... is for pytest)'
	@echo 'make check   format, lint, types, architecture, dependencies, spelling'
	@echo 'make fix     apply what the formatter and the linter can repair'
	@echo 'make torture kill, stop and cut everything for a while (SECONDS=300 SEED=...'
	@echo '             STORE=postgres, or kubernetes)'
	@echo 'make bench   measure everything and write docs/benchmarks.md (about half an hour,'
	@echo '             idle machine; make bench-peers first fetches what is compared with)'
	@echo 'make clean   remove .venv and everything else that make has made'

.PHONY: demo
demo: .venv/.ready-embedded
	@$(BIN)/python examples/demo.py

.PHONY: test
test: .venv/.ready-test
	$(BIN)/python -m pytest -ra $(ARGS)

CHECKS := check-format check-lint check-mypy check-pyright check-imports \
          check-dependencies check-spelling
.PHONY: check $(CHECKS)
check: $(CHECKS)
$(CHECKS): .venv/.ready-lint
check-format:
	$(BIN)/ruff format --check .
check-lint:
	$(BIN)/ruff check .
check-mypy:
	$(BIN)/mypy
check-pyright:
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
check-imports:
	$(BIN)/lint-imports
check-dependencies:
	$(BIN)/deptry .
check-spelling:
	$(BIN)/codespell

.PHONY: fix
fix: .venv/.ready-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What the shell calls SECONDS is not meant: only what stands in the command counts.
.PHONY: torture
torture: SECONDS = 300
torture: STORE = postgres
torture: .venv/.ready-test
	PYTHONPATH=tests $(BIN)/python -m fault.torture --store $(STORE) --seconds $(SECONDS) \
	    $(if $(SEED),--seed $(SEED))

.PHONY: bench bench-peers
bench: .venv/.ready-bench
	$(BIN)/python benchmarks/run_all.py $(ARGS)
bench-peers:
	PYTHON=$(PYTHON) benchmarks/peers/install

.PHONY: clean
clean:
	rm -rf .venv .bench build dist .coverage .hypothesis .import_linter_cache \
	    .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# .ready-EXTRA says that .venv holds evstore, editable, with that extra.
.venv/.ready-%: pyproject.toml | .venv/bin/pip
	@echo "installing evstore[$*] into .venv ..."
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[$*]'
	@touch $@

.venv/bin/pip:
	@command -v $(PYTHON) >/dev/null || { \
	  echo 'evstore needs Python 3.11 or newer. Install it with:'; \
	  echo '  $(SUDO)apt-get install -y python3 python3-venv'; exit 1; } >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "evstore needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V). Install one with:"; \
	  echo '  $(SUDO)apt-get install -y python3.11 python3.11-venv'; \
	  echo 'and add PYTHON=python3.11 to the make command.'; exit 1; } >&2
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo 'Python cannot make virtual environments here. Install what is missing with:'; \
	  echo '  $(SUDO)apt-get install -y $(notdir $(PYTHON))-venv'; exit 1; } >&2
	@rm -rf .venv
	@$(PYTHON) -m venv .venv
