# One word per thing a person wants to do; `make help` lists them.
# Everything is built into target/, nothing is installed on the machine.

SHELL       := /bin/bash
CARGO       ?= cargo
TESTBED     := target/testbed/testbed
TESTBED_SRC := $(shell find tests/testbed -type f -not -name README.md -not -path '*/demo/*')

.DEFAULT_GOAL := help
.PHONY: help build testbed lint test bench soak demo demo-down crds reference manifests image release check deny

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

check: ## says what this machine lacks, and the line that installs it
	@tests/check-machine

build: ## target/release/medusa-fleet, and kubectl-medusa beside it
	$(CARGO) build --release --locked
	@ln -f target/release/medusa-fleet target/release/kubectl-medusa

$(TESTBED): $(TESTBED_SRC)
	@echo "building the test clusters' binaries (about 10 minutes the first time)"
	tests/testbed/build.sh $@

testbed: $(TESTBED) ## etcd, kube-apiserver, kubectl, Cassandra, Medusa and MinIO for tests and demo
	$(TESTBED) install

crds: ## crds/ from the types, and their copies in the charts
	$(CARGO) run --locked --quiet -- crds --dir crds
	@deploy/copy

reference: ## docs/reference/ from the program and the types
	UPDATE_REFERENCE=1 $(CARGO) test --locked --quiet --test tidy -- reference::the_reference

manifests: $(TESTBED) ## deploy/*.yaml from the charts, and all copies below deploy
	@deploy/render $(TESTBED)

image: build ## target/image/medusa-fleet.tar, an OCI archive, and its bill of materials (needs buildah)
	@deploy/image/build.sh target/release/medusa-fleet target/image/medusa-fleet.tar

release: build $(TESTBED) ## target/dist: image, charts, definitions, manifests, binaries, completions, checksums (needs buildah)
	@deploy/release/build.sh target/release/medusa-fleet $(TESTBED) target/dist

lint: ## formatting and lints, Rust and Go
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings
	cd tests/testbed && test -z "$$(gofmt -l .)" && CGO_ENABLED=0 go vet ./...

test: check testbed ## everything: lints, units, real API servers, real Cassandra; ends in one summary line
	@tests/run

bench: build testbed ## figures and ratios against a bare client; ARGS="--planes 5,10 --runs 3"
	MEDUSA_FLEET_BIN=$(CURDIR)/target/release/medusa-fleet $(CARGO) bench --locked --bench fleet -- $(ARGS)

soak: build testbed ## a fleet at work with every fault, by seed; ARGS="--minutes 120 --seed 7"
	MEDUSA_FLEET_BIN=$(CURDIR)/target/release/medusa-fleet $(CARGO) test --locked --test soak -- $(ARGS)

deny: ## licences, bans and sources of the crates (needs cargo-deny)
	$(CARGO) deny check bans licenses sources

demo: ## a fleet on this machine, and a backup that really happens
	@tests/testbed/demo/demo.sh

demo-down: ## ends the demo
	@tests/testbed/demo/demo.sh down
