#!/bin/bash
# Each public header compiles alone, as C11 and C++11, with gcc and clang, without a warning.
#
# SPDX-License-Identifier: Apache-2.0
set -uo pipefail
cd "$(dirname "$0")/.."
failed=0
count=0
try() { # COMPILER LANGUAGE STANDARD HEADER
    command -v "$1" > /dev/null || return 0
    count=$((count + 1))
    if ! printf "#include <kiln/${4##*/}>\ntypedef int alone;\n" |
        "$1" -x "$2" -std="$3" -Wall -Wextra -Wpedantic -Werror -Iinclude -fsyntax-only -; then
        echo "$4 does not compile alone with $1 -std=$3"
        failed=1
    fi
}
for header in include/kiln/*.h; do
    try gcc c c11 "$header"
    try clang-14 c c11 "$header"
    try g++ c++ c++11 "$header"
    try clang++-14 c++ c++11 "$header"
    if [ "$header" != include/kiln/kiln.h ] &&
        ! grep -q "#include <kiln/${header##*/}>" include/kiln/kiln.h; then
        echo "$header is not included by kiln.h"
        failed=1
    fi
done
[ $failed = 0 ] && echo "$count compilations"
exit $failed
