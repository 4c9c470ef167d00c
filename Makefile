# Every target does its own set-up, asks nothing, and works from any folder (`make -C`).
# `make` alone lists the targets: a target's line ends in `## what it does`, and a test holds it to that.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Where it is set, every process compiles all of its imports again: ten seconds for Great Expectations alone.
unexport PYTHONDONTWRITEBYTECODE

bin := .venv/bin
compile := $(bin)/uv pip compile -q --universal --generate-hashes --python-version 3.12 \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

.PHONY: help run team test soak stop lint bench docs clean setup hooks schema lock

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' Makefile

run: ## set up, start the stack, run the year through Airflow, leave the stack up
	@bin/bootstrap run
	@$(bin)/tidegate run

team: ## set up as `run` does, and take strategies/database.md through the database team's waves to a release
	@bin/bootstrap test
	@$(bin)/tidegate up --with redis
	@$(bin)/tidegate run
	@PATH="$(CURDIR)/$(bin):$$PATH" team run --team databaseEng --strategy strategies/database.md

test: export COVERED_COMMIT = $(shell git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null)
# Python itself tells which branches were taken, of our code alone; traced, every line of every library would be told.
test: export COVERAGE_CORE = sysmon
test: ## set up and run every test, against real servers, with coverage
	@bin/bootstrap test
	@$(bin)/coverage erase
	@COVERAGE_PROCESS_START="$(CURDIR)/pyproject.toml" COVERED_FOLDER="$(CURDIR)" COVERAGE_FILE="$(CURDIR)/.coverage" \
		$(bin)/python -m pytest -n 3 -m "not whole and not soak"
	@$(bin)/coverage combine --quiet
	@$(bin)/coverage report
	@$(bin)/python -m pytest -n 2 -m "whole and not soak" --exitfirst

soak: ## run the long tests that `test` leaves out: a delivery of the whole database team, two hundred kills of a stream
	@bin/bootstrap test
	@$(bin)/python -m pytest -m soak

stop: ## stop the stack; what it holds stays
	@if [ -x $(bin)/tidegate ]; then $(bin)/tidegate down; else echo "Nothing is installed here, so nothing runs."; fi

lint: ## run every check of .pre-commit-config.yaml on all files
	@bin/bootstrap env
	@$(bin)/pre-commit run --all-files --color=auto

bench: ## measure, and write the results into benchmarks/
	@bin/bootstrap run
	@$(bin)/python -m benchmarks

docs: ## build the data dictionary, the diagram, the catalog and the dbt docs
	@bin/bootstrap run
	@$(bin)/tidegate contract docs
	@$(bin)/tidegate database docs
	@$(bin)/tidegate docs

clean: stop ## stop the stack and move its data into .tidegate/archive, dated; nothing is deleted
	@bin/archive

setup: ## make the Python environment only
	@bin/bootstrap env

hooks: setup ## check every commit of this clone, and its message, before it is made
	@$(bin)/pre-commit install --hook-type pre-commit --hook-type commit-msg

schema: ## write migrations/schema.sql anew, from all migrations
	@bin/bootstrap run
	@$(bin)/python bin/write_schema.py

lock: setup ## resolve pyproject.toml into requirements.txt; keeps what is pinned there (UPGRADE=NAME moves one)
	@$(compile) --extra dev $(if $(UPGRADE),--upgrade-package $(UPGRADE)) pyproject.toml -o requirements.txt
