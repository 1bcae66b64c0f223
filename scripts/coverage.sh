#!/bin/bash
# Which lines of src/ the tests run. Under MINIMUM percent (90) it fails.
#
#     scripts/coverage.sh [OPTION OF GCOVR]...
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install_deps.sh test
mkdir -p build
cmake --preset coverage > build/coverage.log || { cat build/coverage.log; exit 1; }
cmake --build build/coverage > build/coverage.log || { tail -n 40 build/coverage.log; exit 1; }
find build/coverage -name '*.gcda' -delete
ctest --test-dir build/coverage -j "$(nproc)" --output-on-failure > build/coverage.log ||
    { tail -n 40 build/coverage.log; exit 1; }
exec "${KILN_DEPS_DIR:-build/deps}/python/bin/gcovr" --root . --filter '(.*/)?src/' --txt \
    --fail-under-line "${MINIMUM:-90}" "$@" build/coverage/src
