# `make help` lists what there is.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Arguments for `weir dev`, e.g. make dev ARGS="--port 9000 --data /tmp/other"
ARGS ?=
# Arguments for the bench.
BENCH ?=
WEIR := cargo run --quiet -p weir --
MONITORING := docker compose -f docker-compose.yml -f docker-compose.monitoring.yml
# Settings of your own go into .env (see .env.example); what the environment has already counts for more.
ENV := if [[ -f .env ]]; then before=$$(export -p); set -a; source ./.env; set +a; eval "$$before"; fi

.PHONY: bench-layers help setup dev-setup dev dev-stop dev-logs health build keys test test-unit test-integration test-e2e \
	test-clients test-repository test-chaos bench perf-test lint format proto format-check type-check docs docs-serve \
	security security-deny security-audit security-secrets chart images monitor monitor-stop db-migrate db-reset \
	update-deps all ci clean clean-logs clean-cache

help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing under .weir/ (PostgreSQL, NATS)
	@scripts/setup.sh

dev-setup: setup ## The same as setup

dev: setup ## Run the whole platform here: ARGS="--port N --data DIR --reset"
	@cargo build -p weir
	@$(ENV); exec $(WEIR) dev $(ARGS)

dev-stop: ## Stop it, or what a killed one left behind
	@$(ENV); $(WEIR) dev stop $(ARGS)

dev-logs: ## Follow the services' log
	@tail -n 100 -F "$${WEIR_DATA:-.weir}/logs/app.log"

health: ## Say which services of the running platform are ready
	@$(ENV); $(WEIR) dev status $(ARGS)

build: ## Build the release binaries into target/release
	@cargo build --release --workspace --bins --exclude weir-bench --exclude weir-e2e

keys: ## Make the keys services that run apart know each other by: ARGS="--format env|kubernetes"
	@$(WEIR) keys $(ARGS)

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

test-clients: ## The official SDKs (Python, Node) before the platform
	@scripts/setup.sh test
	@scripts/test.sh clients

test-repository: ## Shell scripts, workflows, links in documents, owners, lock files
	@scripts/test-repository.sh

test-chaos: ## The platform's tests at full size: 10,000 requests, 20 kills
	@scripts/setup.sh test
	@scripts/test.sh chaos

bench: ## Weir beside a bare proxy: table, target/bench/latest.json, and what changed: BENCH="--rounds N --baseline FILE"
	@scripts/setup.sh
	@cargo build --profile dist -p weir -p weir-bench
	@target/dist/weir-bench compare $(BENCH)

bench-layers: ## CPU per request, layer by layer: BENCH="--requests N --json FILE"
	@cargo build --profile dist -p weir-bench
	@target/dist/weir-bench layers $(BENCH)

perf-test: bench ## The same as bench

proto: ## Take what /proto has grown as the contract others rely on (BREAKING=1: also what breaks them)
	@cargo run --quiet -p weir-rest --bin weir-contract -- $(if $(BREAKING),--breaking)

lint: ## clippy, warnings are errors
	@cargo clippy --workspace --all-targets -- -D warnings

format: ## Format all sources
	@cargo fmt --all

format-check: ## Fail on unformatted sources
	@cargo fmt --all --check

type-check: ## Check that everything compiles
	@cargo check --workspace --all-targets

docs: ## The crates' documentation into target/doc, warnings are errors
	@RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

docs-serve: docs ## The same, on http://127.0.0.1:8090/weir/
	@python3 -m http.server --bind 127.0.0.1 --directory target/doc 8090

security: security-deny security-audit security-secrets ## All of the three below

security-deny: ## Licences, sources, bans and advisories of the dependencies (needs cargo-deny)
	@scripts/cargo-tool.sh cargo-deny check

security-audit: ## Known vulnerabilities of the locked dependencies (needs cargo-audit)
	@scripts/cargo-tool.sh cargo-audit audit

security-secrets: ## Secrets in the history (needs Go)
	@$$(scripts/go-tool.sh gitleaks) git --no-banner --redact .

chart: ## Lint the Helm chart, render every profile and check the result
	@scripts/test-deploy.sh

images: ## Build the container image `weir` (needs Docker)
	@docker build --tag weir --build-arg WEIR_GIT_SHA="$$(git rev-parse HEAD)" .

monitor: ## Start Prometheus, Grafana and Jaeger beside `docker compose up` (needs Docker)
	@$(MONITORING) up --detach prometheus grafana jaeger

monitor-stop: ## Stop them
	@$(MONITORING) rm --stop --force prometheus grafana jaeger

db-migrate: ## Migrate the database of DATABASE_URL; the services' role gets WEIR_APP_PASSWORD
	@$(ENV); $(WEIR) migrate

db-reset: ## Stop the platform here and wipe its data
	@$(ENV); $(WEIR) dev reset $(ARGS)

update-deps: ## Move every lock file to the newest versions its manifest allows
	@cargo update
	@scripts/lock-python.sh --upgrade
	@npm update --prefix crates/e2e/node --ignore-scripts --cache "$$PWD/.weir/npm"

all: format-check lint docs test build ## Everything a change should pass, and the release binaries

ci: ## What CI runs
	@.ci/run

clean: ## Remove build products; data stays (see db-reset)
	@cargo clean

clean-logs: ## Empty the log files of the platform here
	@for log in "$${WEIR_DATA:-.weir}"/logs/*.log; do if [[ -e $$log ]]; then : >"$$log"; fi; done

clean-cache: ## Remove the tests' packages and tools; setup brings them back
	@rm -rf .weir/npm .weir/test-venv .weir/toolchains .weir/tools .weir/uv crates/e2e/node/node_modules
