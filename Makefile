# What one does with this repository. "make" alone says what there is.
#
# Everything works as root on a fresh Debian machine with Go, without a
# terminal. What is missing is installed from the distribution.

SHELL := /bin/bash
.DEFAULT_GOAL := help

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
export CGO_ENABLED := 0
export GOFLAGS := -buildvcs=false $(filter-out -buildvcs=%,$(GOFLAGS))

TEMPL := github.com/a-h/templ/cmd/templ@v0.3.977
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# What only the tests need is kept outside the repository.
HOME ?= /root
export HOME
export HOLDFAST_TEST_TOOLS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/holdfast-test-tools
export HOLDFAST_AXE ?= $(HOLDFAST_TEST_TOOLS)/axe.min.js

.PHONY: help
help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

.PHONY: build
build: ## build bin/holdfast
	@command -v go >/dev/null || { echo "holdfast is built with Go 1.26 or newer, and there is no \"go\" in PATH: see https://go.dev/dl" >&2; exit 1; }
	go build -trimpath -ldflags "-s -w -X holdfast.Version=$(VERSION)" -o bin/holdfast ./cmd/holdfast

.PHONY: deb
deb: build ## build dist/holdfast.deb with its systemd units and the list of what is in it; needs no network
	@tools/deb.sh "$(VERSION)"

.PHONY: demo
demo: ## play the whole story on this machine; ARGS="--keep" leaves it running
	@tools/install.sh demo
	@$(MAKE) --no-print-directory build
	@bin/holdfast demo $(ARGS)

.PHONY: test-tools
test-tools: ## install what the tests need
	@tools/install.sh test

.PHONY: test
test: test-tools ## run every test, and lint
	@tools/test.sh

.PHONY: soak-sync
soak-sync: test-tools ## kill a synchronously protected PostgreSQL 200 times; takes some minutes
	HOLDFAST_SYNC_KILLS=200 go test ./internal/source/postgres -run TestSynchronousLosesNothing -v -count=1 -timeout 60m

.PHONY: soak-locations
soak-locations: test-tools ## break every kind of location at every call, with more draws than a test; takes some minutes
	HOLDFAST_LOCATION_SEEDS=$(or $(SEEDS),5) go test ./internal/location -run TestFaultMatrix -v -count=1 -timeout 60m

.PHONY: lint
lint: ## go vet and staticcheck
	go vet ./...
	go run $(STATICCHECK) ./...

.PHONY: requirements
requirements: ## run the acceptance tests and say which requirements they prove; ARGS="-write" keeps the answer
	@tools/install.sh test
	@$(MAKE) --no-print-directory build >&2
	@go run ./tools/requirements $(ARGS)

.PHONY: bench-postgres
bench-postgres: ## measure against pg_basebackup and pgBackRest; about twenty minutes
	@tools/install.sh bench
	@$(MAKE) --no-print-directory build
	@go run ./bench $(ARGS)

.PHONY: bench
bench: ## the parts of bench-postgres that take a few minutes
	@$(MAKE) --no-print-directory bench-postgres ARGS="-only backup,restore,risk $(ARGS)"

.PHONY: bench-repo
bench-repo: ## measure backups of files against restic and borg; about half an hour
	@tools/install.sh bench-repo
	@$(MAKE) --no-print-directory build
	@go run ./bench/repo $(ARGS)

.PHONY: generate
generate: ## write the Go files of the web templates anew
	go run $(TEMPL) generate -path internal/web
	gofmt -l -w internal/web

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
