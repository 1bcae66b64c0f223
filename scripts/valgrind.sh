#!/bin/bash
# The unit tests under valgrind's memcheck, but for those that load ONNX Runtime, whose thread pools
# take minutes there, and those that compare times. A leak or a wrong access of Kiln's fails.
#
#     scripts/valgrind.sh [TEST...]        for instance test_tensor; none: all
#
# SPDX-License-Identifier: Apache-2.0
set -uo pipefail
cd "$(dirname "$0")/.."
build=build/debug
[ -f $build/build.ninja ] || cmake --preset debug > /dev/null || exit 1
cmake --build $build > build/valgrind.log || { tail -n 40 build/valgrind.log; exit 1; }

if [ $# -gt 0 ]; then
    tests=("$@")
else
    mapfile -t tests < <(cd tests/unit && printf '%s\n' test_*.c | sed 's/\.c$//' |
        grep -vE '^test_(onnxruntime.*|ort_rewrite|network_run|build_job|compare)$' |
        grep -vE '^test_(every_allocation|graph_variants|growth)$')
fi
one() {
    local log=build/valgrind.$1.log begin=$SECONDS
    if valgrind --quiet --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite \
        --suppressions=tests/valgrind.supp "$build/tests/unit/$1" > "$log" 2>&1; then
        printf 'pass  %-24s %4d s\n' "$1" $((SECONDS - begin))
    else
        printf 'FAIL  %-24s %4d s, see %s\n' "$1" $((SECONDS - begin)) "$log"
        grep -E '^==|FAILED' "$log" | head -n 30
        return 1
    fi
}
export -f one
export build
printf '%s\n' "${tests[@]}" | xargs -P "$(nproc)" -I {} bash -c 'one {}' || exit 1
echo "${#tests[@]} tests, no errors"
