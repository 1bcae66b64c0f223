#!/bin/bash
# Each libFuzzer target for a while, from its corpus. A finding ends it and stays in build/fuzz.
#
#     FUZZ_SECONDS=60 scripts/fuzz.sh [TOPIC...]
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-60}
mkdir -p build
cmake --preset fuzz > build/fuzz.log || { cat build/fuzz.log; exit 1; }
cmake --build build/fuzz > build/fuzz.log || { tail -n 40 build/fuzz.log; exit 1; }
if [ $# -eq 0 ]; then
    for source in tests/fuzz/fuzz_*.c; do
        topic=${source##*/fuzz_}
        set -- "$@" "${topic%.c}"
    done
fi
for topic in "$@"; do
    found=build/fuzz/found/$topic
    mkdir -p "$found" "build/fuzz/corpus/$topic"
    seeds=()
    [ ! -d "tests/fuzz/corpus/$topic" ] || seeds=("tests/fuzz/corpus/$topic")
    if build/fuzz/tests/fuzz/"fuzz_$topic" -max_total_time="$seconds" -rss_limit_mb=4096 \
        -timeout=25 -print_final_stats=1 -artifact_prefix="$found/" "build/fuzz/corpus/$topic" \
        "${seeds[@]+"${seeds[@]}"}" > "build/fuzz/$topic.log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "build/fuzz/$topic.log")
        echo "pass  $topic: $runs inputs in $seconds s"
    else
        tail -n 40 "build/fuzz/$topic.log"
        echo "FAIL  $topic: the input lies in $found"
        exit 1
    fi
done
