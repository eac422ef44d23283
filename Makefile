# What a person or CI does with this repository. Building needs cargo and a C compiler; the rest is fetched on Debian
# and Ubuntu by those targets that need it.

PREFIX ?= /usr/local
PROGRAM = out/mydocker
TRIPLE := $(shell rustc -vV | sed -n 's/^host: //p')
RELEASE := $(or $(CARGO_TARGET_DIR),target)/$(TRIPLE)/release/mydocker

.PHONY: build demo test lint static test-vm fuzz bench fmt install clean

build:
	cargo build --release --locked
	install -D -s -m 755 $(RELEASE) $(PROGRAM)

# A shell in busybox; a few commands in it where there is no terminal.
demo: build
	images/demo.sh $(PROGRAM)

test: lint static
	tests/run.sh
	tests/demo.sh $(PROGRAM)

lint:
	tests/install.sh
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	tests/deny.sh

# The release is one file that asks for no interpreter and no library.
static: build
	! readelf --program-headers --wide $(PROGRAM) | grep INTERP
	! readelf --dynamic $(PROGRAM) | grep NEEDED

# The tests once more, in a virtual machine with an older kernel and cgroup v2: make test-vm ARGS='NAME…'
test-vm:
	tests/install.sh
	tests/vm/test.sh $(ARGS)

# Hostile input for longer: by libFuzzer, SECONDS for each target, where cargo-fuzz is installed (`cargo install cargo-fuzz`)
# and there is a C++ compiler; else RUNS changed copies of each file of the corpus, with the tests' own changes.
SECONDS ?= 300
RUNS ?= 20000
fuzz:
	if cargo fuzz --version >/dev/null 2>&1 && command -v c++ >/dev/null; then fuzz/run.sh $(SECONDS); \
	else MYDOCKER_FUZZ_RUNS=$(RUNS) MYDOCKER_FUZZ_SEED=$$(date +%s) cargo test --locked --test fuzz; fi

bench: build
	tests/install.sh
	bench/run.sh $(PROGRAM)

fmt:
	cargo fmt

install: build
	install -D -m 755 $(PROGRAM) $(DESTDIR)$(PREFIX)/bin/mydocker

clean:
	cargo clean
	rm -rf out
