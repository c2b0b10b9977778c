# SPDX-License-Identifier: MPL-2.0

# Two commands do all set-up: `make demo` and `make test`. The others are for those who work on it.

CARGO ?= cargo
# A whole build has nothing to go on from, and the caches for it weigh gigabytes.
export CARGO_INCREMENTAL ?= 0
PLUGINS := target/release/gstreamer-1.0
# Where the system's GStreamer looks, unless PREFIX says otherwise.
ifdef PREFIX
LIBDIR ?= $(PREFIX)/lib/$(shell gcc -print-multiarch 2>/dev/null)
else
PREFIX = $(shell pkg-config --variable=prefix gstreamer-1.0)
LIBDIR ?= $(shell pkg-config --variable=libdir gstreamer-1.0)
endif

.PHONY: all deps readers build demo test lint unit acceptance faults bench soak fuzz install clean

all: build

deps:
	@scripts/install-deps.sh

# What judges us in the tests: FFmpeg 9, PyAV, mpegts.js, nginx-rtmp, nats-py, mcap, OpenCV.
readers: deps
	@scripts/install-readers.sh

# The plugins lie in a folder of their own, so that GST_PLUGIN_PATH does not make GStreamer look through all of target/.
build: deps
	$(CARGO) build --release --locked
	@mkdir -p $(PLUGINS)
	@cp -u $(patsubst %,target/release/libgst%.so,cvmmap flvh265 zedsvo) $(PLUGINS)/
	@echo 'export GST_PLUGIN_PATH=$(CURDIR)/$(PLUGINS)'

demo: build
	@scripts/demo.sh

test: lint unit demo acceptance faults

lint: deps
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --locked -p gst-plugin-cvmmap -p gst-plugin-flvh265 -p gst-plugin-zedsvo --features static,capi,doc -- -D warnings

unit: readers
	$(CARGO) test --locked

# Producer, streamer and receivers as processes over loopback; docs/evidence.md says what each row asserts.
acceptance: build
	target/release/cvmmap-streamer acceptance --out target/acceptance

faults: build
	target/release/cvmmap-streamer faults --out target/faults

bench: build readers
	$(CARGO) bench --locked --bench flv
	$(CARGO) bench --locked --bench cvmmap
	$(CARGO) bench --locked --bench control
	$(CARGO) bench --locked --bench stream
	$(CARGO) bench --locked --bench rectify
	$(CARGO) bench --locked --bench zedsvo
	$(CARGO) bench --locked --bench svo2
	$(CARGO) bench --locked --bench svo_to_mp4
	$(CARGO) bench --locked --bench svo_grid
	$(CARGO) bench --locked --bench svo_to_mcap
	$(CARGO) bench --locked --bench batch

# Twenty thousand frames and what they cost; minutes.
soak: build
	$(CARGO) bench --locked --bench cvmmap -- soak

# Coverage-guided fuzzing of the parsers of foreign bytes; FUZZ_SECONDS of each.
FUZZ_SECONDS ?= 60
fuzz: deps
	command -v cargo-fuzz >/dev/null || $(CARGO) install --locked cargo-fuzz
	cd crates/cvmmap-control && RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run -s none payload -- -max_total_time=$(FUZZ_SECONDS) -max_len=8192
	cd crates/cvmmap-ipc && RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run -s none header -- -max_total_time=$(FUZZ_SECONDS) -max_len=4096
	cd crates/svo2 && RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run -s none recording -- -max_total_time=$(FUZZ_SECONDS) -max_len=16384
	cd crates/flv && RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run -s none stream -- -max_total_time=$(FUZZ_SECONDS) -max_len=4096

# Needs cargo-c, which is installed on the first use.
install: deps
	command -v cargo-cinstall >/dev/null || $(CARGO) install --locked cargo-c
	$(CARGO) cinstall --release --locked -p gst-plugin-cvmmap -p gst-plugin-flvh265 -p gst-plugin-zedsvo --prefix=$(PREFIX) --libdir=$(LIBDIR)

clean:
	$(CARGO) clean
