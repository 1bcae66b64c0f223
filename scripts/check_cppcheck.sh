#!/bin/bash
# cppcheck finds nothing in the library and the programs.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."
folders=()
for folder in src cli server examples; do
    [ ! -d "$folder" ] || folders+=("$folder")
done
mkdir -p build/cppcheck
# constParameter: a callback's type decides. uninitvar, invalidFunctionArg: cppcheck assumes ranks
# of 0 and empty sums everywhere; the sanitizers look at the real ones. internalAstError: it cannot
# read tables that are included. The build folder keeps what has not changed.
cppcheck --quiet --std=c11 --language=c --enable=warning,performance,portability \
    --inline-suppr --error-exitcode=1 --cppcheck-build-dir=build/cppcheck -j "$(nproc)" \
    --suppress=missingIncludeSystem --suppress=constParameter --suppress=uninitvar \
    --suppress=invalidFunctionArg --suppress=internalAstError \
    -D_GNU_SOURCE '-DElfW(type)=Elf64_##type' -Iinclude -Isrc "${folders[@]}"
echo "${folders[*]}"
