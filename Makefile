# What is built goes to the user's cache: several checkouts share it, and a fresh clone builds fast.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/fanfare/target

FANFARE = $(CARGO_TARGET_DIR)/release/fanfare

.DEFAULT_GOAL := help
.PHONY: help run build test test-cover fuzz crash-test bench bench-channels fmt lint deny openapi demo migrate-up \
	migrate-down up docker-up stop docker-down clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-22s%s\n", $$1, $$2 }'

run: build ## build, and start the service and a sandbox provider, on SQLite, at http://127.0.0.1:8083
	@exec scripts/run "$(FANFARE)"

build: ## the release binary
	@scripts/setup-build
	cargo build --release --locked

test: ## all tests, on SQLite and on a throw-away PostgreSQL (TESTARGS="one_test" for some, POSTGRES=18 for that version)
	@FANFARE_TEST_POSTGRES=$(POSTGRES) scripts/setup-test
	@FANFARE_TEST_POSTGRES=$(POSTGRES) exec scripts/test $(TESTARGS)

test-cover: ## all tests with a report of the lines that they run, as HTML in coverage/ (TESTARGS and POSTGRES as above)
	@FANFARE_TEST_POSTGRES=$(POSTGRES) scripts/setup-test
	@FANFARE_TEST_POSTGRES=$(POSTGRES) exec scripts/cover $(TESTARGS)

fuzz: ## the API against its OpenAPI document, with Schemathesis (FUZZARGS="--seed 7" for other questions)
	@scripts/setup-test
	@exec scripts/fuzz $(FUZZARGS)

crash-test: ## the crash tests alone, with 200 kills instead of 20, 10,000 requests, 10,000 replayed letters, 20,000 mails and 1,000,000 records of Kafka, and what each of them came to
	@scripts/setup-test
	@FANFARE_TEST_KILLS=200 FANFARE_TEST_REQUESTS=10000 FANFARE_TEST_LETTERS=10000 FANFARE_TEST_MAILS=20000 FANFARE_TEST_RECORDS=1000000 NEXTEST_PROFILE=crash exec scripts/test

bench: ## measure it on SQLite and on a throw-away PostgreSQL (BENCHARGS="--large", "--help" for all flags)
	@scripts/setup-test
	@exec scripts/bench $(BENCHARGS)

bench-channels: build ## 10,000 mails, webhooks and inbox messages into real peers: rates and books
	@scripts/setup-test
	@exec scripts/bench-channels "$(FANFARE)"

fmt: ## format the sources
	cargo fmt

lint: ## check the format, and clippy with warnings denied
	@scripts/setup-build
	cargo fmt --check
	cargo clippy --locked --all-targets --features failpoints -- -D warnings

deny: ## check the dependencies: what is banned, licences, sources
	@scripts/setup-build
	@deny=$$(scripts/setup-deny) && exec "$$deny" --locked check --hide-inclusion-graph bans licenses sources

openapi: build ## write docs/openapi.json anew
	@mkdir -p docs
	"$(FANFARE)" openapi > docs/openapi.json.new
	@mv docs/openapi.json.new docs/openapi.json

demo: build ## 100,000 generated clients, one mailing, live figures and the final books
	@exec "$(FANFARE)" demo

migrate-up: build ## run the migrations that have not run (the service does so by itself at its start)
	@exec "$(FANFARE)" migrate up

migrate-down: build ## undo the last migration of a database that no service uses (TO=N: until N are left)
	@exec "$(FANFARE)" migrate down $(if $(TO),--to $(TO))

up: ## the service, PostgreSQL, Prometheus and Grafana in containers
	@scripts/setup-compose
	docker compose up --build --detach --wait

stop: ## stop the containers; their data stay
	docker compose down

docker-up: up ## the same as up

docker-down: stop ## the same as stop

clean: ## what was built (not databases)
	cargo clean
