# Kiln from the command line: each goal installs what it needs (scripts/install_deps.sh), configures
# with a preset (CMakePresets.json) and does its work in build/. CMake alone does as well.
#
# SPDX-License-Identifier: Apache-2.0

PRESET ?= release
# More arguments for CMake's configure step, for instance CMAKE_ARGS=-DKILN_DEPS_DIR=/opt/deps
CMAKE_ARGS ?=
# More arguments for ctest, for instance TEST_ARGS="-L unit"
TEST_ARGS ?=
# 0: `make test` does not install TensorRT's libraries, and skips the tests that need them
TENSORRT ?= 1
# A picture of your own for `make demo`, a PNG; without it one is drawn
PICTURE ?=
PREFIX ?= /usr/local
JOBS ?= $(shell nproc)

BUILD = build/$(PRESET)

.DEFAULT_GOAL := build
.PHONY: build demo test coverage check bench docs install fuzz asan tsan ubsan valgrind clean help

## build      the library, the command and the examples, in build/release
build:
	@scripts/install_deps.sh build
	@mkdir -p build
	@cmake --preset $(PRESET) -DKILN_BUILD_TESTS=OFF $(CMAKE_ARGS) > build/$(PRESET).log || \
		{ cat build/$(PRESET).log; exit 1; }
	@cmake --build $(BUILD) -j $(JOBS)

## demo       real models on real input: what files are, and the text in a picture (PICTURE=a.png)
demo:
	@scripts/install_deps.sh demo
	@$(MAKE) --no-print-directory build
	@scripts/demo.sh $(BUILD) $(PICTURE)

## test       builds the tests and runs them all (TENSORRT=0: without TensorRT's 0.8 GB)
test:
	@scripts/install_deps.sh test
	@mkdir -p build
	@cmake --preset $(PRESET) -DKILN_BUILD_TESTS=ON -DKILN_REQUIRE_TENSORRT=$(TENSORRT) \
		$(CMAKE_ARGS) > build/$(PRESET).log || { cat build/$(PRESET).log; exit 1; }
	@[ $(TENSORRT) = 0 ] || { scripts/install_deps.sh tensorrt & } ; installing=$$!; \
		cmake --build $(BUILD) -j $(JOBS) && { [ $(TENSORRT) = 0 ] || wait $$installing; }
	@ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS) $(TEST_ARGS)

## asan tsan ubsan   the same under a sanitizer
asan tsan ubsan:
	@$(MAKE) --no-print-directory test PRESET=$@

## valgrind   the unit tests that load no foreign library, under valgrind
valgrind:
	@scripts/install_deps.sh test check
	@scripts/valgrind.sh

## coverage   which lines of src/ the tests run; fails under 90 %
coverage:
	@scripts/coverage.sh

## check      every gate: format, style, includes, symbols, headers, compilers, analysers
check:
	@scripts/install_deps.sh test check
	@scripts/check.sh

## bench      measurements against peers
bench:
	@scripts/install_deps.sh test
	@scripts/bench.sh $(BUILD)

## fuzz       each fuzz target for FUZZ_SECONDS (60)
fuzz:
	@scripts/install_deps.sh test check
	@scripts/fuzz.sh

## docs       the API reference, in build/docs/html
docs:
	@scripts/install_deps.sh docs
	@mkdir -p build/docs && doxygen docs/Doxyfile && echo "build/docs/html/index.html"

## install    library, headers and command under PREFIX (/usr/local)
install: build
	@cmake --install $(BUILD) --prefix $(PREFIX)

## clean      removes the builds; what was downloaded stays
clean:
	@find build -mindepth 1 -maxdepth 1 ! -name deps -exec rm -rf {} + 2> /dev/null || true

## help       this list
help:
	@sed -n 's/^## //p' Makefile
