#!/bin/bash
# Each libFuzzer target for a while, from its corpus. A finding ends it and stays in build/fuzz.
#
#     FUZZ_SECONDS=60 scripts/fuzz.sh [TOPIC...]
#     FUZZ_RUNS=10000000 scripts/fuzz.sh TOPIC         so many inputs, however long that takes
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."
limit=${FUZZ_RUNS:+-runs=$FUZZ_RUNS}
limit=${limit:--max_total_time=${FUZZ_SECONDS:-60}}
mkdir -p build
cmake --preset fuzz > build/fuzz.log || { cat build/fuzz.log; exit 1; }
topics=("$@")
[ $# -gt 0 ] ||
    mapfile -t topics < <(printf '%s\n' tests/fuzz/fuzz_*.c | sed 's/.*fuzz_//; s/\.c$//')
cmake --build build/fuzz --target "${topics[@]/#/fuzz_}" > build/fuzz.log ||
    { tail -n 40 build/fuzz.log; exit 1; }
for topic in "${topics[@]}"; do
    found=build/fuzz/found/$topic
    mkdir -p "$found" "build/fuzz/corpus/$topic"
    dictionary=tests/fuzz/$topic.dict
    begin=$SECONDS seeds=()
    [ ! -f "$dictionary" ] || seeds=("-dict=$dictionary")
    [ ! -d "tests/fuzz/corpus/$topic" ] || seeds+=("tests/fuzz/corpus/$topic")
    if build/fuzz/tests/fuzz/"fuzz_$topic" "$limit" -rss_limit_mb=4096 \
        -timeout=25 -print_final_stats=1 -artifact_prefix="$found/" "build/fuzz/corpus/$topic" \
        "${seeds[@]+"${seeds[@]}"}" > "build/fuzz/$topic.log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "build/fuzz/$topic.log")
        echo "pass  $topic: $runs inputs in $((SECONDS - begin)) s"
    else
        tail -n 40 "build/fuzz/$topic.log"
        echo "FAIL  $topic: the input lies in $found"
        exit 1
    fi
done
