# Every command a person needs. Everything is installed in .venv, nothing outside of it, but for
# the schedulers and the PostgreSQL that `make test` runs the tests against (docs/development.md).

VENV := .venv
BIN := $(VENV)/bin

READY_TO_RUN := $(VENV)/.ready-to-run
READY_TO_DEVELOP := $(VENV)/.ready-to-develop

.DEFAULT_GOAL := help
.PHONY: help setup demo check test chaos vandals fuzz sbom lint format docs site lock bench clean clean-clusters

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile

setup: $(READY_TO_DEVELOP) site ## Install everything in .venv, and build the documentation
	@echo "Everything is in $(VENV)."

demo: $(READY_TO_RUN) ## Run a sample study from submission to end (PORT=… to choose the port)
	@$(BIN)/python examples/demo.py

check: $(READY_TO_DEVELOP) ## Check quickly: style, types, the units, and LOCAL
	@scripts/check.sh

test: $(READY_TO_DEVELOP) ## Run all tests, on real Slurm, Grid Engine, OAR, PostgreSQL where possible
	@scripts/test.sh

chaos: $(READY_TO_DEVELOP) ## Kill the service while 2,000 jobs for each scheduler are submitted
	@$(BIN)/python -m tests.chaos $(CHAOS)

vandals: $(READY_TO_DEVELOP) ## Let jobs of LOCAL damage their run directories, 10,000 times
	@$(BIN)/python -m tests.vandals $(VANDALS)

fuzz: $(READY_TO_DEVELOP) ## Search for bytes that break parsers, tokens and the API (FUZZ="--seconds 600 pbs-text")
	@$(BIN)/python -m tests.fuzz $(FUZZ)
	@SCHEMA_EXAMPLES=300 $(BIN)/python -m pytest -q tests/api/test_schema.py

sbom: $(READY_TO_DEVELOP) ## Write the bill of materials, dist/sbom.cdx.json (CycloneDX)
	@mkdir -p dist
	@$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application \
	    --output-reproducible --output-file dist/sbom.cdx.json requirements.txt

lint: $(READY_TO_DEVELOP) ## Check style, types and imports
	@scripts/lint.sh

format: $(READY_TO_DEVELOP) ## Put the code into its form
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

docs: $(READY_TO_DEVELOP) ## Write the generated pages of docs/ anew
	@$(BIN)/python docs/generate.py

site: $(READY_TO_DEVELOP) ## Build the documentation that the service shows at /help
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lock: $(READY_TO_DEVELOP) ## Write requirements*.txt anew, with the newest versions
	@scripts/lock.sh

bench: $(READY_TO_DEVELOP) ## Measure what the documentation claims
	@for module in $$(grep -l __main__ bench/*.py); do \
	    echo "bench $$(basename $$module .py)"; \
	    $(BIN)/python -m bench.$$(basename $$module .py) || exit 1; \
	done

clean-clusters: ## Stop the schedulers and the PostgreSQL that `make test` left running
	@scripts/clusters.sh down

clean: clean-clusters ## Stop them and remove everything that was made here, .venv too
	@rm -rf $(VENV) src/hpcq/help .demo .fuzz build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis \
	    .import_linter_cache
	@find src tests bench examples -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY_TO_RUN): requirements.txt scripts/setup.sh
	@test -e $(READY_TO_DEVELOP) && test ! $(READY_TO_DEVELOP) -ot requirements.txt \
	    || scripts/setup.sh run
	@touch $@

$(READY_TO_DEVELOP): requirements-dev.txt pyproject.toml scripts/setup.sh
	@scripts/setup.sh dev
	@touch $@
