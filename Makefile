# Builds go to the user's cache: several checkouts share it, and a fresh clone builds fast.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/fanfare/target

FANFARE = $(CARGO_TARGET_DIR)/release/fanfare

.DEFAULT_GOAL := help
.PHONY: help run build test test-cover fuzz crash-test bench bench-channels fmt lint deny openapi settings demo \
	migrate-up migrate-down up docker-up stop docker-down clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-22s%s\n", $$1, $$2 }'

run: build ## build, then start the service on SQLite with a sandbox provider, at http://127.0.0.1:8083
	@exec scripts/run "$(FANFARE)"

build: ## build the release binary
	@scripts/setup-build
	cargo build --release --locked

test: ## run all tests, on SQLite and a temporary PostgreSQL (TESTARGS="one_test" for some, POSTGRES=18 for a version)
	@FANFARE_TEST_POSTGRES=$(POSTGRES) scripts/setup-test
	@FANFARE_TEST_POSTGRES=$(POSTGRES) exec scripts/test $(TESTARGS)

test-cover: ## run all tests with a coverage report, as HTML in coverage/ (TESTARGS and POSTGRES as above)
	@FANFARE_TEST_POSTGRES=$(POSTGRES) scripts/setup-test
	@FANFARE_TEST_POSTGRES=$(POSTGRES) exec scripts/cover $(TESTARGS)

fuzz: ## test the API against its OpenAPI document, with Schemathesis (FUZZARGS="--seed 7" for other requests)
	@scripts/setup-test
	@exec scripts/fuzz $(FUZZARGS)

crash-test: ## run only the crash tests, with 200 kills instead of 20, 10,000 requests, 10,000 replayed dead letters, 20,000 mails and 1,000,000 Kafka records, and print their reports
	@scripts/setup-test
	@FANFARE_TEST_KILLS=200 FANFARE_TEST_REQUESTS=10000 FANFARE_TEST_LETTERS=10000 FANFARE_TEST_MAILS=20000 FANFARE_TEST_RECORDS=1000000 NEXTEST_PROFILE=crash exec scripts/test

bench: ## run the benchmark on SQLite and a temporary PostgreSQL (BENCHARGS="--large", "--help" for all flags)
	@scripts/setup-test
	@exec scripts/bench $(BENCHARGS)

bench-channels: build ## send 10,000 mails, webhooks and inbox messages to real peers: rates and counts
	@scripts/setup-test
	@exec scripts/bench-channels "$(FANFARE)"

fmt: ## format the sources
	cargo fmt

lint: ## check the format, and run clippy with warnings denied
	@scripts/setup-build
	cargo fmt --check
	cargo clippy --locked --all-targets --features failpoints -- -D warnings

deny: ## check the dependencies: bans, licences, sources
	@scripts/setup-build
	@deny=$$(scripts/setup-deny) && exec "$$deny" --locked check --hide-inclusion-graph bans licenses sources

openapi: build ## regenerate docs/openapi.json
	@mkdir -p docs
	"$(FANFARE)" openapi > docs/openapi.json.new
	@mv docs/openapi.json.new docs/openapi.json

settings: ## write config/default.toml and the tables of docs/configuration.md from the declarations in src/config
	@scripts/setup-build
	FANFARE_TEST_REWRITE=1 cargo test --locked --test repository texts_of_settings

demo: build ## run the demonstration: 100,000 generated clients, one mailing, live statistics and the final counts
	@exec "$(FANFARE)" demo

migrate-up: build ## apply the pending migrations (the service also does so at its start)
	@exec "$(FANFARE)" migrate up

migrate-down: build ## revert the last migration of a database that no service uses (TO=N: until N are left)
	@exec "$(FANFARE)" migrate down $(if $(TO),--to $(TO))

up: ## start the service, PostgreSQL, Prometheus and Grafana in containers
	@scripts/setup-compose
	docker compose up --build --detach --wait

stop: ## stop the containers; their data is kept
	docker compose down

docker-up: up ## the same as up

docker-down: stop ## the same as stop

clean: ## remove the build (not databases)
	cargo clean
