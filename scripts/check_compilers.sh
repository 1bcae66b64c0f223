#!/bin/bash
# Everything compiles without a warning with gcc and with clang.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build
clang=$(scripts/find_clang.sh)
for preset in release clang; do
    cmake --preset "$preset" > "build/$preset.log" 2>&1 || { cat "build/$preset.log"; exit 1; }
    cmake --build "build/$preset" > "build/$preset.log" 2>&1 ||
        { grep -E -A 4 'error|warning|FAILED' "build/$preset.log" | head -n 60; exit 1; }
done
echo "gcc $(gcc -dumpversion), clang $("$clang" -dumpversion)"
