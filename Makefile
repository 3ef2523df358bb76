# `make help` lists what there is.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Arguments for `weir dev`, e.g. make dev ARGS="--port 9000 --data /tmp/other"
ARGS ?=
# Arguments for the bench.
BENCH ?=
WEIR := cargo run --quiet -p weir --
# Settings of your own go into .env (see .env.example); what the environment has already counts for more.
ENV := if [[ -f .env ]]; then before=$$(export -p); set -a; source ./.env; set +a; eval "$$before"; fi

.PHONY: help setup dev dev-stop health build test test-unit test-integration test-e2e test-chaos bench \
	lint format format-check type-check security db-migrate db-reset all ci clean

help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing under .weir/ (PostgreSQL, NATS)
	@scripts/setup.sh

dev: setup ## Run the whole platform here: ARGS="--port N --data DIR --reset"
	@cargo build -p weir
	@$(ENV); exec $(WEIR) dev $(ARGS)

dev-stop: ## Stop it, or what a killed one left behind
	@$(ENV); $(WEIR) dev stop $(ARGS)

health: ## Say which services of the running platform are ready
	@$(ENV); $(WEIR) dev status $(ARGS)

build: ## Build the release binaries into target/release
	@cargo build --release --workspace --bins --exclude weir-bench --exclude weir-e2e

test: ## Set up and run every test but chaos
	@scripts/setup.sh test
	@scripts/test.sh

test-unit: ## Tests inside the crates' sources
	@scripts/setup.sh test
	@scripts/test.sh unit

test-integration: ## Tests of one crate with real servers
	@scripts/setup.sh test
	@scripts/test.sh integration

test-e2e: ## Tests of the whole platform
	@scripts/setup.sh test
	@scripts/test.sh e2e

test-chaos: ## The platform's tests at full size: 10,000 requests, 20 kills
	@scripts/setup.sh test
	@scripts/test.sh chaos

bench: ## CPU per request, layer by layer: BENCH="--requests N --json FILE"
	@cargo run --profile dist -p weir-bench --bin profile -- $(BENCH)

lint: ## clippy, warnings are errors
	@cargo clippy --workspace --all-targets -- -D warnings

format: ## Format all sources
	@cargo fmt --all

format-check: ## Fail on unformatted sources
	@cargo fmt --all --check

type-check: ## Check that everything compiles
	@cargo check --workspace --all-targets

security: ## Licences, sources, bans and advisories of the dependencies (needs cargo-deny)
	@if command -v cargo-deny >/dev/null; then cargo deny check; \
	else echo "cargo-deny is not installed: https://github.com/EmbarkStudios/cargo-deny" >&2; exit 1; fi

db-migrate: ## Migrate the database of DATABASE_URL; the services' role gets WEIR_APP_PASSWORD
	@$(ENV); $(WEIR) migrate

db-reset: ## Stop the platform here and wipe its data
	@$(ENV); $(WEIR) dev reset $(ARGS)

all: format-check lint test build ## Everything a change should pass, and the release binaries

ci: ## What CI runs
	@.ci/run

clean: ## Remove build products; data stays (see db-reset)
	@cargo clean
