# `make help` lists what can be made. Only Go, make and git are needed, but for race (gcc) and
# interop (other clients; .ci/run installs them on Debian).

GO          ?= go
PREFIX      ?= /usr/local
DESTDIR     ?=
FUZZTIME    ?= 100000x
SEEDS       ?= 20
STATICCHECK ?= v0.8.1

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X bittern/cmd/internal/cli.version=$(VERSION)

.DEFAULT_GOAL := build
.PHONY: build test race lint fuzz check demo interop sim bench install clean help

build: ## build bin/bittern, static, with its version
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/bittern ./cmd/bittern

test: ## run the tests
	$(GO) test ./...

race: ## run the tests under the race detector (needs gcc)
	CGO_ENABLED=1 $(GO) test -race ./...

# Built once, so that lint needs no network later: `go run tool@version` asks for one every time.
staticcheck := bin/staticcheck-$(STATICCHECK)
$(staticcheck):
	GOBIN='$(CURDIR)/bin' $(GO) install honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK)
	@mv bin/staticcheck $@

.PHONY: staticcheck
staticcheck: $(staticcheck)

lint: $(staticcheck) ## gofmt, go vet, staticcheck
	@files=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$files" ] || { echo "not gofmt-ed:"; echo "$$files"; exit 1; }
	$(GO) vet ./...
	$(staticcheck) ./...

fuzz: ## fuzz every target for FUZZTIME (100000x: so many inputs; or 60s)
	@GO='$(GO)' FUZZTIME='$(FUZZTIME)' sh .ci/fuzz

check: lint test race ## what to run before a commit: format, vet, staticcheck, tests, race, a short fuzz
	@$(MAKE) -s fuzz FUZZTIME=20000x

demo: build ## make, serve and get a torrent of 64 MiB with bin/bittern alone
	@sh .ci/demo

interop: build ## talk to the real clients that are installed, and run what needs a namespace
	BITTERN_INTEROP=1 $(GO) test -count=1 -timeout 20m -run '^Test(Interop|Fault)' ./cmd/bittern

# With 20 seeds it takes more than an hour on two cores, and 4 GB for two swarms of a thousand at once; CI plays less.
sim: ## play simulated swarms with SEEDS seeds each and write the tables of cmd/internal/sim/README.md
	$(GO) run ./cmd/internal/sim/tables -seeds '$(SEEDS)' -commit '$(VERSION)' -o cmd/internal/sim/README.md

bench: ## run the Go benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

install: build ## install the command and its man pages under PREFIX (/usr/local)
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/share/man/man1'
	install -m 755 bin/bittern '$(DESTDIR)$(PREFIX)/bin/bittern'
	$(GO) run ./cmd/internal/manpages '$(DESTDIR)$(PREFIX)/share/man/man1'

clean: ## remove what was built
	rm -rf bin

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' Makefile
