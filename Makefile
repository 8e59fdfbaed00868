# Everything here is also what CI runs. Needs only: the Rust toolchain, a C compiler, make, Python 3.11 or newer.
# All other tools are pinned in infra/tools and live in .tools; data of the local stack lives in .local.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# One target triple and one profile for functions, tests and benches: the AWS SDK is compiled once. Named explicitly because
# cargo-lambda names it, and cargo keeps what is built with and without a named target apart.
HOST := $(shell rustc -vV | sed -n 's/^host: //p')
BIN := target/$(HOST)/release
CARGO_FLAGS := --locked --release --workspace --target $(HOST)
STEP := infra/checks/step
ENV ?= dev

export PATH := $(CURDIR)/.tools/bin:$(PATH)
export SAM_CLI_TELEMETRY := 0
export __SAM_CLI_APP_DIR := $(CURDIR)/.tools/sam

.PHONY: help
help: ## This list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-24s %s\n", $$1, $$2 }'

# ---------------------------------------------------------------- to see it work

.PHONY: demo up down status
demo: ## The whole story on this machine: stack, agents, queries, an alert that fires and resolves
	@$(MAKE) -j2 tools-stack build
	@$(STEP) "local stack" infra/local/stack up
	@$(STEP) "demo" $(BIN)/tidemark-demo

up: ## Start the local stack and deploy to it (TIDEMARK_PORT, default 4566)
	@infra/local/stack up

down: ## Stop the local stack; its data stays
	@infra/local/stack down

status: ## What runs, where, and whether it is deployed
	@infra/local/stack status

# ---------------------------------------------------------------- to work on it

.PHONY: build fmt clippy unit doctest deny lint-template test-launcher test-e2e test-localstack test soak bench
build: ## All programs, release profile
	@$(STEP) "build" cargo build $(CARGO_FLAGS) --bins

fmt: ## Format the sources
	@cargo fmt --all

clippy: ## Lints, as strict as CI
	@$(STEP) "clippy" cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings

unit: tools-checks ## Tests that need no stack
	@$(STEP) "unit tests" cargo nextest run $(CARGO_FLAGS) --no-fail-fast -E 'not binary(e2e) and not binary(localstack)'

doctest: ## Examples in the documentation
	@$(STEP) "doctests" cargo test $(CARGO_FLAGS) --doc -q

deny: tools-checks ## Licences, banned crates, sources, advisories, unused dependencies
	@$(STEP) "licences, bans, sources" cargo deny --log-level error check --hide-inclusion-graph licenses bans sources
	@$(STEP) "advisories" infra/checks/advisories
	@$(STEP) "unused dependencies" infra/checks/unused-dependencies

lint-template: tools-stack ## template.yaml, as SAM and cfn-lint see it
	@AWS_DEFAULT_REGION=us-east-1 $(STEP) "template" sam validate --lint

test-launcher: tools-stack ## One test per fix of the local emulator
	@$(STEP) "emulator" .tools/bin/python infra/local/test_launcher.py

test-e2e: tools-checks ## The deployed system, on a local stack of its own
	@$(STEP) "end to end" infra/checks/e2e $(CARGO_FLAGS)

test-localstack: tools-checks ## Against LocalStack, or any endpoint that AWS_ENDPOINT_URL names
	@$(STEP) "LocalStack" infra/checks/localstack $(CARGO_FLAGS)

test: tools-checks ## Everything that CI runs
	@$(STEP) "format" cargo fmt --all --check
	@$(MAKE) -j1 clippy unit doctest deny lint-template test-launcher test-e2e test-localstack

soak: ## The storage engine and alerting in simulations, with fresh seeds (SOAK_SECONDS each, default 600)
	@$(STEP) "soak" cargo test $(CARGO_FLAGS) --test simulation --test alerting -- --ignored --nocapture soak

bench: ## Costs and speeds, written to target/bench/report.json
	@$(MAKE) build
	@$(STEP) "bench" $(BIN)/tidemark-bench

# ---------------------------------------------------------------- to run it for real

.PHONY: deploy not-local tools-stack tools-checks tools-deploy
deploy: not-local tools-deploy ## Build for AWS and deploy (ENV=dev or ENV=prod, see samconfig.toml)
	@echo "building for AWS; SAM shows the compiler's output only at the end, the first time takes some minutes"
	@$(STEP) "sam build" sam build --build-in-source --config-env $(ENV)
	@$(STEP) "glibc" infra/checks/glibc .aws-sam/build/*/bootstrap
	@$(STEP) "sam deploy" sam deploy --config-env $(ENV)

# A shell that has sourced .local/env would deploy to the emulator.
not-local:
	@if [ -n "$${AWS_ENDPOINT_URL:-}" ]; then echo "AWS_ENDPOINT_URL is set (to $$AWS_ENDPOINT_URL): this shell speaks to a local stack, not to AWS. Use a fresh shell."; exit 1; fi

tools-stack:
	@infra/tools/install stack

tools-checks:
	@infra/tools/install stack checks

tools-deploy:
	@infra/tools/install stack deploy
