#!/bin/bash
# Instructions of a run with 100 and 200 inputs, Kiln against ONNX Runtime's Run: what the times of
# bench_feeds come from, on a machine that has other things to do. Needs valgrind.
#
#     bench/feeds_instructions.sh BUILD [INPUTS...]
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
program=$(realpath "${1:-build/release}")/bench/bench_feeds
shift || true
[ $# -gt 0 ] || set -- 100 200
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$@" 2>&1 |
        sed -n 's/.*Collected : *//p'
}
each() { echo $((($(count "$1" "$2" "$3" 220) - $(count "$1" "$2" "$3" 20)) / 200)); }

for kind in same memory memories away shape shapes; do
    for inputs in "$@"; do
        kiln=$(each kiln "$kind" "$inputs")
        raw=$(each raw "$kind" "$inputs")
        printf '%4d inputs, %-8s kiln %8d   raw %8d instructions   ratio %d.%02d\n' "$inputs" \
            "$kind" "$kiln" "$raw" $((kiln / raw)) $((kiln * 100 / raw % 100))
    done
done
