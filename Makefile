# Every command a person needs. Everything is installed in .venv, nothing outside of it, but for
# the schedulers and the PostgreSQL that `make test` runs the tests against (docs/development.md).

VENV := .venv
BIN := $(VENV)/bin

READY_TO_RUN := $(VENV)/.ready-to-run
READY_TO_DEVELOP := $(VENV)/.ready-to-develop

.DEFAULT_GOAL := help
.PHONY: help setup demo check test chaos vandals fuzz sbom wheel deb package-check lint format docs site page screenshots lock bench clean clean-clusters

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile

setup: $(READY_TO_DEVELOP) site page ## Install everything in .venv, and build the page and its help
	@echo "Everything is in $(VENV)."

# The study runs without the page, too: where npm's packages cannot be had, for example.
demo: $(READY_TO_RUN) ## Run a sample study, and show the page (PORT=… to choose the port)
	@scripts/build_page.sh || echo "The page could not be built; the demonstration goes on without it."
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

wheel: $(READY_TO_DEVELOP) site page ## Build the packages for pip: dist/*.whl, of the service and of the client alone
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps \
	    --no-build-isolation --wheel-dir dist . packaging/client

deb: wheel ## Build the Debian package, dist/*.deb
	@packaging/debian/build.sh

package-check: deb ## Install, upgrade and purge the Debian package in a fresh Debian (as root, minutes)
	@packaging/debian/check.sh

lint: $(READY_TO_DEVELOP) page ## Check style, types and imports
	@scripts/lint.sh

format: $(READY_TO_DEVELOP) page ## Put the code into its form
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .
	@scripts/npm.sh run --silent format

docs: $(READY_TO_DEVELOP) ## Write the generated pages of docs/ anew
	@$(BIN)/python docs/generate.py

site: $(READY_TO_DEVELOP) ## Build the documentation that the service shows at /help
	@scripts/build_site.sh

page: $(READY_TO_RUN) ## Build the page of the service from web/ (with the machine's Node, or its own)
	@scripts/build_page.sh

screenshots: $(READY_TO_DEVELOP) page ## Take the pictures of the documentation anew
	@mkdir -p docs/images
	@SCREENSHOTS=docs/images $(BIN)/python -m pytest -q tests/browser/test_screenshots.py \
	    tests/browser/test_screenshots_compared.py

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
	@rm -rf $(VENV) src/hpcq/help src/hpcq/page web/node_modules .demo .fuzz build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis \
	    .import_linter_cache
	@find src tests bench examples -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY_TO_RUN): requirements.txt scripts/setup.sh
	@test -e $(READY_TO_DEVELOP) && test ! $(READY_TO_DEVELOP) -ot requirements.txt \
	    || scripts/setup.sh run
	@touch $@

$(READY_TO_DEVELOP): requirements-dev.txt pyproject.toml scripts/setup.sh
	@scripts/setup.sh dev
	@touch $@
