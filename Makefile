# make demo and make test set up what they need; `make help` lists the rest. Recipes use relative paths only, so that
# `make -C` and folders with spaces work.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

python := .venv/bin/python
solidity := "contracts/**/*.sol" "interfaces/**/*.sol"

.PHONY: help setup compile demo test test-long guards bench lint format clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/.installed node_modules/.installed ## virtual environment and npm packages; make PYTHON=... names an interpreter

.venv/.installed: pyproject.toml constraints.txt scripts/setup.sh
	@PYTHON="$(PYTHON)" scripts/setup.sh python

node_modules/.installed: package.json package-lock.json .npmrc scripts/setup.sh
	@scripts/setup.sh node

compile: setup ## contracts to offchain/chain/artifacts
	@$(python) -m offchain.chain.compile

demo: compile ## one flexibility day from forecast to payout
	@.venv/bin/gridpact pilot

test: compile ## all tests but the long ones
	@$(python) scripts/run_tests.py

test-long: compile ## all tests, hypothesis searching longer
	@$(python) -m offchain.chain.compile --evm-version paris
	@$(python) scripts/run_tests.py --long

guards: compile ## takes out each guard of a contract and runs the tests that must notice; CONTRACTS="A B" names contracts
	@$(python) scripts/check_guards.py $(CONTRACTS)

bench: compile ## benchmarks into benchmarks/results
	@for script in benchmarks/bench_*.py; do [ -e "$$script" ] || continue; echo "$$script"; $(python) "$$script"; done

lint: setup ## ruff and the Solidity formatter, changing nothing
	@$(python) -m ruff check .
	@$(python) -m ruff format --check .
	@node_modules/.bin/prettier --check --log-level warn --no-error-on-unmatched-pattern $(solidity)

format: setup ## what lint asks for
	@$(python) -m ruff check --fix .
	@$(python) -m ruff format .
	@node_modules/.bin/prettier --write --log-level warn --no-error-on-unmatched-pattern $(solidity)

clean: ## everything made by compile, demo and test; setup stays
	@rm -rf build reports offchain/chain/artifacts .pytest_cache .ruff_cache .hypothesis
	@find offchain oracles tests scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
