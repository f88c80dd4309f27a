# Zhenglian 政链. `make help` lists the targets.

GO      ?= go
BIN     := bin
STATE   := .zhenglian
SOURCES := $(shell git ls-files -co --exclude-standard go.mod go.sum domain proof network cmd/zhenglian-network 2>/dev/null)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help up down status reset build test test-setup test-unit test-race test-js faults fuzz e2e lint lint-full fmt generate check-generated arch cover bench bench-quick bench-full chaos chaos-quick soak ci clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(BIN)/zhenglian-network ## the main job: set up, start the consortium and its gateways, load the sample, print what to try
	@$(BIN)/zhenglian-network up --state $(STATE)
	@$(BIN)/zhenglian sample --state $(STATE)

down: ## stop every process that `make up` started
	@if [ -x $(BIN)/zhenglian-network ]; then $(BIN)/zhenglian-network down --state $(STATE); else echo "nothing to stop: not built yet"; fi

status: $(BIN)/zhenglian-network ## what runs, heights, chaincode, certificate days left
	@$(BIN)/zhenglian-network status --state $(STATE)

reset: $(BIN)/zhenglian-network ## stop and delete all state, after asking (YES=1 answers)
	@$(BIN)/zhenglian-network reset --state $(STATE) $(if $(filter 1,$(YES)),--yes)

build: $(BIN)/zhenglian-network ## build all programs into bin/: ours and the pinned ones of network/tools
	@$(BIN)/zhenglian-network build --bin $(BIN)

$(BIN)/zhenglian-network: $(SOURCES)
	@command -v $(GO) >/dev/null || { echo "make: there is no Go; install the version that go.mod names, or newer, from https://go.dev/dl" >&2; exit 1; }
	@mkdir -p $(BIN)
	$(GO) build -o $@ ./cmd/zhenglian-network
	@touch $@

# The second verifier is built before the Go tests that compare the two: here a
# missing one is a failure.
test: export ZHENGLIAN_TEST_DIFFERENCES ?= 6000
test: test-setup test-js test-unit e2e chaos-quick ## set up what tests need and run all of them, real network included

test-setup: ## install what tests need (Redis, Chromium, fonts) and build
	@scripts/test-setup.sh
	@$(MAKE) --no-print-directory build

test-unit: ## tests that need no network of departments
	$(GO) test ./...

e2e: build ## tests on a real consortium of four departments, with its own state and ports
	$(GO) test -tags e2e -count=1 -timeout 30m -v ./test/e2e/...

test-race: ## unit tests under the race detector (-short: the exhaustive tampering of proofs has no goroutines)
	$(GO) test -race -short ./...

FUZZTIME ?= 20s
fuzz: ## run every fuzz target for FUZZTIME (20s)
	@scripts/fuzz.sh $(FUZZTIME)

faults: ## inject every write error and kill into the access log (strace; about 14 min)
	ZHENGLIAN_TEST_FAULTS_FULL=1 $(GO) test -count=1 -timeout 40m -parallel 4 -v -run TestFaults ./gateway/tilelog

test-js: ## tests of the JavaScript verifier, and its build (needs Node 20)
	@[ proof/js/node_modules/.package-lock.json -nt proof/js/package-lock.json ] || npm ci --prefix proof/js --no-audit --no-fund
	npm --prefix proof/js run --silent test
	npm --prefix proof/js run --silent build

lint: ## gofmt, vet, staticcheck, import rules; never writes
	@scripts/lint.sh

lint-full: lint ## golangci-lint besides (installs it at its pinned version)
	$(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0 run ./...

arch: ## the import table as a test
	$(GO) test ./internal/arch/

fmt: ## format the Go files
	gofmt -w $$(git ls-files -co --exclude-standard '*.go')

generate: ## regenerate what is generated
	$(GO) generate ./...

check-generated: generate ## regenerate and fail on a difference
	git diff --exit-code -- '*.gen.go'

cover: ## coverage per package
	$(GO) test -cover ./...

bench: bench-quick ## the benchmark in its quick form

bench-quick: build ## benchmarks on a network of their own, about 11 minutes
	$(GO) run ./test/bench

bench-full: build ## benchmarks with full windows
	$(GO) run ./test/bench -full

CHAOS ?=
chaos: build ## cause every fault of docs/faults.md under load and check what is promised (as root; CHAOS="-seed 1 -faults leader-kill")
	$(GO) run ./test/chaos $(CHAOS)

# One fault of each sort. What this machine cannot cause (partitions and full disks
# without root) or has no time for is left out with a line that says so.
chaos-quick: build ## a part of it that fits CI: kill and freeze everything, a partition, a full disk, a wrong clock; at most 12 minutes
	$(GO) run ./test/chaos -writes 10 -reads 60 -longest 12s -within 10m -skip -faults leader-kill,leader-freeze,follower-kill,follower-freeze,peer-kill,peer-freeze,chaincode-kill,chaincode-freeze,gateway-kill,gateway-freeze,redis-kill,redis-freeze,power-cut,all-freeze,partition-one,disk-full-gateway,clock-gateway $(CHAOS)

MINUTES ?= 60
soak: build ## half of what the network takes for MINUTES (60), a fault every two of them; memory, goroutines and descriptors must not grow
	$(GO) run ./test/chaos -soak -minutes $(MINUTES) -every 2m -writes 15 -reads 150 $(CHAOS)

ci: ## exactly what .ci/run runs
	@.ci/run

clean: ## delete what builds, tests and benchmarks made (ignored files only; the ledger's state stays: see reset)
	@for s in .zhenglian-e2e .zhenglian-e2e-three .zhenglian-e2e-operations .zhenglian-bench .zhenglian-chaos; do \
		if [ -d $$s ] && [ -x $(BIN)/zhenglian-network ]; then $(BIN)/zhenglian-network reset --yes --state $$s; fi; \
	done
	rm -rf .zhenglian-e2e* .zhenglian-bench* .zhenglian-chaos* $(BIN)
