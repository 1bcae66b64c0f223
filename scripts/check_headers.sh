#!/bin/bash
# Each public header compiles alone, as C11 and C++11, with gcc and clang, without a warning; so
# does a program that uses their initializers; and check_abi.py finds nothing.
#
# SPDX-License-Identifier: Apache-2.0
set -uo pipefail
cd "$(dirname "$0")/.."
failed=0
count=0
# What is not installed is left out, and the last line tells which there were.
compilers=()
for compiler in gcc g++ "$(scripts/find_clang.sh 2> /dev/null)" \
    "$(scripts/find_clang.sh clang++ 2> /dev/null)"; do
    [ -z "$compiler" ] || ! command -v "$compiler" > /dev/null || compilers+=("$compiler")
done
try() { # COMPILER LANGUAGE STANDARD HEADER
    count=$((count + 1))
    if ! printf "#include <${4#include/}>\ntypedef int alone;\n" |
        "$1" -x "$2" -std="$3" -Wall -Wextra -Wpedantic -Werror -DKILN_UNSTABLE_API -Iinclude \
            -fsyntax-only -; then
        echo "$4 does not compile alone with $1 -std=$3"
        failed=1
    fi
}
for header in include/kiln/*.h include/kiln/unstable/*.h; do
    for compiler in "${compilers[@]}"; do
        case $compiler in
        *++*) try "$compiler" c++ c++11 "$header" ;;
        *) try "$compiler" c c11 "$header" ;;
        esac
    done
    if [ "$header" != include/kiln/kiln.h ] && [ "${header%/*}" = include/kiln ] &&
        ! grep -q "#include <kiln/${header##*/}>" include/kiln/kiln.h; then
        echo "$header is not included by kiln.h"
        failed=1
    fi
done
# Every KILN_..._INIT, as a value and by its address, and the other macros that make a struct.
program() {
    echo '#include <kiln/kiln.h>'
    echo 'static int use(const void *it) { return it != NULL; }'
    echo 'int main(void) {'
    echo '    float data[24] = {0}; int uses = 0;'
    grep -ohE '^#define KILN_\w+_INIT\b' include/kiln/*.h | while read -r _ name; do
        type=${name%_INIT}
        echo "    { ${type,,} it = $name; uses += use(&it) + use(&$name); }"
    done
    echo '    const kiln_shape shape = KILN_SHAPE(2, 3, 4), scalar = KILN_SHAPE_SCALAR;'
    echo '    const kiln_tensor it = '
    echo '        KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, shape, data, sizeof data);'
    echo '    uses += use(&KILN_SHAPE(KILN_DYNAMIC)) + use(&it) + use(&scalar);'
    echo '    return uses > 0 ? 0 : 1;'
    echo '}'
}
for compiler in "${compilers[@]}"; do
    case $compiler in
    *++*) languages="c++:c++11 c++:c++20" ;;
    *) languages=c:c11 ;;
    esac
    for language in $languages; do
        count=$((count + 1))
        if ! program | "$compiler" -x "${language%:*}" -std="${language#*:}" -Wall -Wextra \
            -Wpedantic -Werror -Iinclude -fsyntax-only -; then
            echo "the initializers do not compile with $compiler -std=${language#*:}"
            failed=1
        fi
    done
done
scripts/check_abi.py || failed=1
[ $failed = 0 ] && echo "$count compilations with ${compilers[*]}"
exit $failed
