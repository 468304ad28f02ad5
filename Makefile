.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test fast fuzz oldest servers lint bench generate targets targets-down clean

BIN := .venv/bin
# How many target tests run at a time; each worker has servers of its own.
WORKERS ?= 3
# The same for tests without a server.
CORES ?= 2
# How long atheris tries each of its three harnesses, and how many examples hypothesis tries for each reader.
FUZZ_SECONDS ?= 60
FUZZ_EXAMPLES ?= 200

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/dev.stamp ## A signed action on a throwaway server in a container, about two minutes
	@tests/demo/demo.sh

test: ## Everything: lint, unit tests, cases, then real servers in containers
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory fast
	@$(MAKE) --no-print-directory oldest
	@$(MAKE) --no-print-directory servers

lint: .venv/dev.stamp ## ruff, mypy --strict and the import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict src remote tests
	$(BIN)/lint-imports

fast: .venv/dev.stamp ## The tests that need no server
	@tests/shells.sh
	$(BIN)/pytest -q -n $(CORES) --dist loadfile tests/unit tests/trust tests/cases tests/contract tests/fuzz

fuzz: .venv/dev.stamp .venv/fuzz.stamp ## The same readers of outside data, tried much harder: hypothesis, then atheris
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/pytest -q tests/fuzz
	$(BIN)/python -m tests.fuzz $(FUZZ_SECONDS)

oldest: ## The cases on the oldest Python that servers may have, Debian 11's
	@tests/targets/engine.sh
	@tests/targets/images.sh debian11
	tests/cases/oldest.sh

servers: .venv/dev.stamp ## The tests on real servers in containers
	@tests/targets/engine.sh
	@tests/targets/images.sh
	$(BIN)/pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder tests/targets

bench: .venv/dev.stamp .venv/bench.stamp ## Measure against OpenSSH, pyinfra, fabric and Ansible
	@tests/targets/engine.sh
	@tests/targets/images.sh debian12
	$(BIN)/python -m tests.bench

generate: .venv/dev.stamp ## Write docs/reference and the catalogue anew from the code
	$(BIN)/python -m serverflow_cli.cli.generate

targets: ## Start one server of each kind, to try things out by hand
	@tests/targets/up.sh

targets-down: ## Remove those servers
	@tests/targets/down.sh

clean: ## Remove what was built and cached, but for the images
	rm -rf .venv .cache dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src remote tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/%.stamp: pyproject.toml
	@tests/venv.sh $*
