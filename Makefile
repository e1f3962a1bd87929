# Every command sets up what it needs: .venv is made once, and again only when its inputs change.
VENV  ?= .venv
SWEEP ?= sweeps/quickstart.yaml
JOBS  ?= 2
PYTEST_ARGS ?=
KILLS ?= 100

export VENV
unexport PYTHONDONTWRITEBYTECODE # tests start many processes, each of which would compile all that it imports
BIN    := $(VENV)/bin
INPUTS := pyproject.toml setup.py tools/setup_env.sh $(wildcard constraints/*.txt)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
REFERENCE := published families factorial factors axes law post-training
REFERENCE_TIME := 1796092200 # when the last of the shipped trials ended: the pages are the same whenever they are written

.PHONY: help demo study-report test test-slow test-crash test-kills test-processors lint types format docs env clean distclean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "Options: TORCH=cpu|cuda (auto), PYTHON=python3.x, SWEEP=file.yaml (demo), JOBS=n and PYTEST_ARGS='...' (tests)"

demo: $(VENV)/.installed ## set up, run the quickstart sweep, write its report
	$(BIN)/dse run $(SWEEP)
	$(BIN)/dse report $(SWEEP)
	@page=$$(find reports -name '*.html' -path '*$(basename $(notdir $(SWEEP)))*' -exec ls -t {} + | head -n 1); \
	test -n "$$page" || { echo "error: no report was written under reports/" >&2; exit 1; }; \
	printf '\nReport     %s\nDashboard  %s\n' "$(CURDIR)/$$page" "$(BIN)/dse dashboard"

study-report: $(VENV)/.installed ## the pages of the shipped results: reports/reference, and the picture in README.md
	@for sweep in $(REFERENCE); do SOURCE_DATE_EPOCH=$(strip $(REFERENCE_TIME)) $(BIN)/dse report sweeps/reference/$$sweep.yaml --results results/reference --out reports/reference --standalone || exit 1; done
	@cp reports/reference/published/place-1.svg docs/front.svg

test: lint types ## set up with the test tools, then lint, types and tests (all but the slow ones)
	@$(BIN)/pytest -n $(JOBS) --dist loadfile -m "not slow" $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-test ## the slow tests only
	@$(BIN)/pytest -n $(JOBS) --dist loadfile -m "slow and not processors" $(PYTEST_ARGS)

test-processors: $(VENV)/.installed-test ## bit equality under every instruction set and maker that can be chosen here
	@$(BIN)/pytest -n $(JOBS) -m processors $(PYTEST_ARGS)

test-crash: $(VENV)/.installed-test ## everything that kills processes, in full: several minutes
	@$(BIN)/pytest -m crash $(PYTEST_ARGS)

test-kills: $(VENV)/.installed-test ## kills drivers, workers and raylets KILLS times (100): half an hour
	@$(BIN)/python -m tests.crash.kills --kills $(KILLS)

docs: $(VENV)/.installed-docs ## the documentation as a site, in build/site
	$(BIN)/mkdocs build --quiet
	@echo "build/site/index.html"

lint: $(VENV)/.installed-test ## ruff: lint and format check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test ## mypy --strict
	@tools/types.sh

format: $(VENV)/.installed-test ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

env: $(VENV)/.installed-test ## the environment alone, with the test tools

clean: ## caches and build files (results and reports stay)
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find dse tasks tests tools examples -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## also the environment
	rm -rf $(VENV)

$(VENV)/.installed: $(INPUTS)
	@tools/setup_env.sh all
	@touch $@

$(VENV)/.installed-test: $(INPUTS)
	@tools/setup_env.sh test
	@touch $(VENV)/.installed $@

$(VENV)/.installed-docs: $(INPUTS)
	@tools/setup_env.sh all docs
	@touch $(VENV)/.installed $@
