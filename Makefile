# The entry points. Everything a fresh Debian 12 machine with a Rust toolchain lacks is installed by tests/setup.sh.

SHELL := /bin/bash
CARGO ?= cargo
LAUNCH_DIR := target/static
HOST := $(shell rustc -vV | sed -n 's/^host: //p')
export UDOCKER_LAUNCH_BIN := $(CURDIR)/$(LAUNCH_DIR)/$(HOST)/debug/udocker-launch
# The plugin, one for each release of Slurm that has bindings: $(SPANK_DIR)/RELEASE/libudocker_spank.so.
SLURM_RELEASES := $(basename $(notdir $(wildcard spank-plugin/sys/bindings/*.rs)))
export UDOCKER_SPANK_DIR := $(CURDIR)/target/spank/debug

.PHONY: demo test trials fuzz lint audit setup build dist dist-test bench slurm-cluster

setup:
	@bash tests/setup.sh

# The launcher is linked statically at a fixed address (relocating it costs each rank 3 % of its start), into a directory
# of its own: other flags would rebuild everything else.
LAUNCH_FLAGS := -C target-feature=+crt-static -C relocation-model=static
build: setup
	$(CARGO) build --locked --workspace --bins --examples
	$(CARGO) rustc --locked -p udocker-launch --bin udocker-launch --target $(HOST) --target-dir $(LAUNCH_DIR) -- $(LAUNCH_FLAGS)
	$(call build_plugins,dev,debug)

# $(1): profile, $(2): its directory.
define build_plugins
for release in $(SLURM_RELEASES); do \
  SLURM_RELEASE=$$release $(CARGO) build --locked --profile $(1) -p udocker-spank || exit; \
  mkdir -p target/spank/$(2)/$$release && cp --remove-destination target/$(2)/libudocker_spank.so target/spank/$(2)/$$release/ || exit; \
done
endef

test: build
	$(CARGO) nextest run --locked --workspace --no-fail-fast

# Randomised trials in full, then the whole suite as on an old kernel (but for the test that compares openat2 with its
# replacement); the log is kept.
trials: build
	@mkdir -p tests/bench/results
	set -o pipefail; { UDOCKER_TRIALS=20 $(CARGO) nextest run --locked --workspace --no-fail-fast \
	  && target/debug/examples/enosys $(CARGO) nextest run --locked --workspace --no-fail-fast \
	     -E 'not test(the_walk_agrees_with_openat2)'; } 2>&1 | sed 's,$(CURDIR),.,g' \
	  | tee tests/bench/results/trials-$$(git rev-parse --short HEAD).log

# Fuzz targets, on the stable compiler: it instruments with the flags that cargo-fuzz gives, but for the sanitizer.
FUZZ_SECONDS ?= 60
FUZZ_FLAGS := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=1
fuzz:
	RUSTFLAGS="$(FUZZ_FLAGS)" $(CARGO) run --locked --release --manifest-path core/fuzz/Cargo.toml --target $(HOST) \
	  --target-dir target/fuzz --bin resolve -- -max_total_time=$(FUZZ_SECONDS) -max_len=256 -print_final_stats=1

lint:
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps
	bash tests/borders.sh

audit:
	$(CARGO) deny check bans licenses sources

demo: build
	@bash tests/demo.sh $(IMAGE)

# A Slurm cluster of two nodes on this machine, to try things on: make slurm-cluster ACTION=up|status|down SLURM=22.05, then
# tests/slurm/cluster.sh run 22.05 srun -N2 hostname
ACTION ?= up
SLURM ?= 22.05
slurm-cluster: setup
	@bash tests/slurm/cluster.sh $(ACTION) $(SLURM)

# What is shipped: target/dist-bin/udocker, udocker-launch, and slurm-RELEASE/libudocker_spank.so.
# The launcher is linked twice: the first one tells how the functions are called that a start calls (start.order), the second
# has them side by side. That is lld's to do, which is Rust's linker on x86-64.
DIST := target/dist-bin
DIST_LAUNCHER := $(LAUNCH_DIR)/$(HOST)/dist/udocker-launch
ORDER := $(LAUNCH_DIR)/start.symbols
ifeq ($(HOST),x86_64-unknown-linux-gnu)
ORDER_FLAGS := -C link-arg=-Wl,--symbol-ordering-file=$(CURDIR)/$(ORDER) -C link-arg=-Wl,--no-warn-symbol-ordering
endif
LINK_LAUNCHER = $(CARGO) rustc --locked --profile dist -p udocker-launch --bin udocker-launch --target $(HOST) \
  --target-dir $(LAUNCH_DIR) -- $(LAUNCH_FLAGS)
dist: setup
	$(CARGO) build --locked --profile dist -p udocker
	$(LINK_LAUNCHER) -C strip=none
	nm $(DIST_LAUNCHER) | python3 tests/bench/order.py --symbols launcher/udocker-launch/start.order > $(ORDER)
	$(LINK_LAUNCHER) $(ORDER_FLAGS)
	@mkdir -p $(DIST)
	cp target/dist/udocker $(DIST_LAUNCHER) $(DIST)/
	$(call build_plugins,dist,dist)
	for release in $(SLURM_RELEASES); do \
	  mkdir -p $(DIST)/slurm-$$release && cp target/spank/dist/$$release/libudocker_spank.so $(DIST)/slurm-$$release/ || exit; \
	  [ $$(stat -c %s $(DIST)/slurm-$$release/libudocker_spank.so) -lt 1048576 ] || { echo "the plugin is larger than 1 MiB" >&2; exit 1; }; \
	done

# The tests of what ranks do, by the launcher that is shipped: it is linked and optimised otherwise than the one of `make test`.
dist-test: dist
	UDOCKER_LAUNCH_BIN=$(CURDIR)/$(DIST)/udocker-launch $(CARGO) nextest run --locked --no-fail-fast -p udocker-tests \
	  --test rendezvous --test launched_ranks --test entering --test signals --test pmi_fds --test odd_callers --test login_shell

# Our own figures, by the programs that are shipped; results go to tests/bench/results.
bench: dist
	for example in enter ptrace; do \
	  $(CARGO) rustc --locked --profile dist -p udocker-core --example $$example --target $(HOST) --target-dir $(LAUNCH_DIR) -- $(LAUNCH_FLAGS) || exit; \
	done
	cp $(LAUNCH_DIR)/$(HOST)/dist/examples/{enter,ptrace} $(DIST)/
	bash tests/bench/run.sh $(DIST)
