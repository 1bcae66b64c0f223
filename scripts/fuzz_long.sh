#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fuzzes one topic (tests/fuzz/fuzz_<topic>.c) for a stated number of executions on one core at low
# priority, from the committed corpus; what is found along the way stays in build/fuzz-corpus.
#
#     scripts/fuzz_long.sh onnx [executions, 10000000 if not given]
#
# Needs clang (scripts/find_clang.sh). The last line says how many executions there were; a crash
# ends it with its input.
set -eu
topic=$1
runs=${2:-10000000}
root=$(cd "$(dirname "$0")/.." && pwd)
build=$root/build/fuzz
corpus=$root/build/fuzz-corpus/$topic
mkdir -p "$corpus"
(cd "$root" && cmake --preset fuzz ${KILN_DEPS_DIR:+-DKILN_DEPS_DIR="$KILN_DEPS_DIR"}) >/dev/null
cmake --build "$build" --target "fuzz_$topic" -j 2 >/dev/null
dictionary=$root/tests/fuzz/$topic.dict
[ -f "$dictionary" ] && set -- "-dict=$dictionary" || set --
cd "$corpus"
exec nice -n 19 "$build/tests/fuzz/fuzz_$topic" "$@" -runs="$runs" -max_len=4096 \
    -rss_limit_mb=2048 -print_final_stats=1 -timeout=10 . "$root/tests/fuzz/corpus/$topic"
