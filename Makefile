# Two commands: `make run` and `make test`. Both install what they need into .venv, and change nothing twice.

.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3.13 python3.14 python3 2>/dev/null))
VENV := .venv
python := $(VENV)/bin/python
# Seconds that `make fuzz` takes.
FUZZ ?= 60
# Options for pytest, such as PYTEST="-k mapping".
PYTEST ?=
# What runs on PostgreSQL too: what has to do with the database.
ON ?= tests/access tests/audit tests/bulk tests/console tests/gateway tests/identity tests/topology tests/test_commands.py tests/relay/test_forum.py

.PHONY: help run test test-sqlite test-postgresql lint format types imports migrations fuzz audit messages pictures bench clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- running ---

run: $(VENV)/.run ## install, seed a demo where nothing is configured yet, and serve until Ctrl-C
	@$(python) -m console.environment
	@$(python) manage.py prepare --demo
	@exec $(python) manage.py serve

# --- testing ---

test: lint types imports migrations test-sqlite test-postgresql ## everything: style, types, imports, migrations, tests on both databases

test-sqlite: $(VENV)/.test ## all tests, in a real browser too, on SQLite
	@tools/need-package chromium chromium chromium-browser
	@tools/need-package curl curl # for what docs/api.md says
	@tools/need-package jq jq
	@tools/need-package postgresql initdb pg_ctlcluster # for the tests of what PostgreSQL alone does
	@tools/need-package gettext xgettext # for the test that translators are told of every message
	@[ "$$(id -u)" != 0 ] || tools/need-package iproute2 ip # without root there is no network to drop packets in
	@[ "$$(id -u)" != 0 ] || tools/need-package nftables nft
	@mkdir -p staticfiles # WhiteNoise warns where it is missing, and in tests a warning is an error
	$(python) -m pytest --numprocesses auto $(PYTEST)

test-postgresql: $(VENV)/.test ## the tests that read and write the database, on PostgreSQL; ON=tests for all of them
	@tools/need-package postgresql initdb pg_ctlcluster
	@mkdir -p staticfiles
	$(python) -m tests.postgresql $(python) -m pytest --numprocesses auto $(PYTEST) $(ON) || \
	  { [ $$? = 5 ] && [ -n "$(PYTEST)" ]; } # of what was asked for, none may be among them

lint: $(VENV)/.test ## ruff: style and order
	$(python) -m ruff check
	$(python) -m ruff format --check

format: $(VENV)/.test ## put the sources into the form that lint asks for
	$(python) -m ruff check --fix
	$(python) -m ruff format

types: $(VENV)/.test ## mypy, strict, where pyproject.toml says
	$(python) -m mypy

imports: $(VENV)/.test ## the laws of imports
	$(VENV)/bin/lint-imports

migrations: $(VENV)/.test ## whether models and migrations agree
	$(python) manage.py makemigrations --check --dry-run --settings tests.settings

fuzz: $(VENV)/.test ## reading of files: mutate real ones for FUZZ seconds (60)
	$(python) -m tools.fuzz $(FUZZ)

audit: $(VENV)/.test ## whether a component has a hole that is known; it needs the network
	@$(python) -m tools.audit

# --- translating ---

messages: $(VENV)/.test ## gather what pages say into locale/*/LC_MESSAGES/django.po, and compile what is translated
	@tools/need-package gettext xgettext
	DJANGO_SETTINGS_MODULE=tests.settings $(python) -m tools.messages

pictures: $(VENV)/.test ## take the pictures of README and docs anew, of the demo
	@tools/need-package chromium chromium chromium-browser
	$(python) -m tools.pictures

# --- measuring ---

bench: $(VENV)/.run ## measure all that is asked for, beside nginx and Envoy, into build/bench.md; about half an hour
	@$(python) -m tools.bench --write build/bench.md

# --- what is installed ---

$(python):
	@[ -n "$(PYTHON)" ] && "$(PYTHON)" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer with its venv module is needed. As root: apt-get install python3 python3-venv" >&2; \
	  echo "Another one than the first that is found: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@"$(PYTHON)" -m venv --clear $(VENV)

$(VENV)/.run: $(python) constraints.txt pyproject.toml tools/requirements.py
	@$(call install,)

$(VENV)/.test: $(VENV)/.run
	@$(call install,dev)

define install
echo "Installing into $(VENV) …" && \
$(python) -m pip install --quiet --disable-pip-version-check --no-input -c constraints.txt \
  $$($(python) tools/requirements.py $(1)) && touch $@
endef

clean: ## remove what was installed and built; var, with its data and keys, stays
	rm -rf $(VENV) staticfiles build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
