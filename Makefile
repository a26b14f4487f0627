# meta1g: `make` alone tells what each target does. All set-up is done by contrib/setup.sh.
SHELL = /bin/sh
SETUP = contrib/setup.sh
VENV = .venv/bin
PYTEST = $(VENV)/python -m pytest

help: ## this list
	@echo 'usage: make TARGET [PYTHON=/path/to/python3]'; echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

setup: ## install what is missing: system headers (as root), .venv, the package
	@sh $(SETUP)

run: setup ## start a server under ./run, send it a message, show where it went
	@$(VENV)/python contrib/firstrun.py

check: setup ## lint, then every test; as root installs the real peers it tests against
	@sh $(SETUP) check
	@$(MAKE) --no-print-directory lint
	@sh contrib/check.sh $(VENV)/python

test: setup ## the fast tests: no other programs, no processes
	@sh $(SETUP) check
	@$(PYTEST) -m 'not system and not peer and not slow'

lint: setup ## ruff and mypy --strict
	@sh $(SETUP) check
	@$(VENV)/ruff check .
	@$(VENV)/mypy

bench: setup ## meta1g beside Postfix, 31 minutes; ARGS=--quick for the rate alone, --keep for docs/bench
	@sh $(SETUP) check
	@$(VENV)/python -c 'import matplotlib' 2>/dev/null || $(VENV)/python -m pip install -q matplotlib
	@$(VENV)/python -m contrib.bench $(ARGS)

fuzz: setup ## fuzzing by coverage (atheris), 1.1 million runs in 5 minutes; ARGS='--runs 10000 server regex'
	@sh $(SETUP) fuzz
	@$(VENV)/python -m tests.fuzz $(ARGS)

sim: setup ## the scheduler on a virtual clock: a million recipients, 5,000 modelled servers; ARGS='--rcpts 100000'
	@sh $(SETUP) check
	@$(VENV)/python -m tests.sim.run $(ARGS)

crash: setup ## the crash explorer: stop at every storage call, lose what was not flushed, recover; 3 minutes
	@sh $(SETUP) check
	@$(VENV)/python -m tests.crash $(ARGS)

soak: setup ## kill -9, power cuts, failing flushes and disks under load, about 15 minutes; as root for all of it
	@sh $(SETUP) check
	@$(VENV)/python -m tests.soak $(ARGS)

install: ## as root: programs, users' folders, configuration; DESTDIR and prefix are honoured
	@sh contrib/install.sh install

uninstall: ## as root: remove the programs; mail and configuration stay
	@sh contrib/install.sh uninstall

clean: ## remove what make made here (an instance under ./run must be stopped before)
	@sh $(SETUP) clean

.PHONY: help setup run check test lint bench fuzz sim crash soak install uninstall clean
