SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build demo test check fuzz mutants generate generated lint bench images compose-demo compose-test needs safe clean

GO       ?= go
# grpcnotrace keeps net/trace, and with it html/template, out of every daemon.
TAGS     := grpcnotrace
FUZZTIME ?= 60s

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: safe ## the binaries, into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -tags $(TAGS) -o bin/ ./cmd/...

demo: build ## a cluster on this machine: a key that nobody holds, a payment, a refusal, a freeze (needs Go only)
	bin/coffer-demo

images: build ## the images that docker-compose.yml runs, FROM scratch (needs Docker)
	scripts/images.sh

compose-demo: build ## the cluster in containers; signers killed, brought back, paused (installs Docker if root)
	scripts/needs.sh docker
	scripts/docker.sh bash -c 'scripts/images.sh && bin/coffer-demo compose'

compose-test: build ## Ctrl-C of the compose demo leaves nothing behind
	scripts/needs.sh docker
	scripts/docker.sh bash -c 'scripts/images.sh && $(GO) test -tags $(TAGS),e2e,compose -count=1 -run TestCompose -timeout 10m ./cmd/coffer-demo'

check: safe ## the quick tests: formatting, vet, units; no root, under 10 minutes
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "run gofmt -w on:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet -tags $(TAGS) ./...
	$(GO) test -tags $(TAGS) -short ./...

test: safe needs ## all tests; installs what they need
	$(GO) vet -tags $(TAGS),e2e,geth ./...
	$(GO) test -tags $(TAGS) -race -timeout 30m ./...
	scripts/fuzz.sh 3s
	export COFFER_GETH=$$(scripts/build-geth.sh) && \
	$(GO) test -tags $(TAGS),geth -count=1 -run Geth -timeout 10m ./chain/rpc ./internal/gethdev && \
	$(GO) test -tags $(TAGS),e2e -count=1 -timeout 20m ./cmd/coffer-demo
	$(GO) test -tags $(TAGS),e2e -count=1 -timeout 10m -run '^(TestPasskey|TestTakeover)$$' ./cmd/coffer ./passkey
	$(GO) vet -tags $(TAGS),e2e,crashpoint ./internal/crashpoint ./internal/crashtest
	$(GO) test -tags $(TAGS),e2e,crashpoint -count=1 -timeout 30m ./internal/crashpoint ./internal/crashtest

fuzz: safe ## every fuzz target for FUZZTIME (60s)
	scripts/fuzz.sh $(FUZZTIME)

mutants: safe ## disable each check of gate and engine; its test must fail
	$(GO) run ./scripts/mutants ./gate ./engine

generate: ## rebuild generated code (needs protoc)
	proto/generate.sh
	$(GO) generate ./...

generated: ## fail when generated code is not current (needs protoc)
	scripts/generated.sh

lint: safe ## golangci-lint, built once into .cache/
	scripts/lint.sh

bench: safe ## benchmarks of the packages
	$(GO) test -tags $(TAGS) -run '^$$' -bench . -benchmem ./...

needs: ## what the tests need and Go does not bring (apt, when root)
	scripts/needs.sh

safe: ## refuse to build with module checksums switched off
	@scripts/checksums.sh

clean: ## remove bin/ and .cache/
	rm -rf bin .cache
