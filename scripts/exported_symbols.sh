#!/bin/bash
# The ABI in three places, which must agree: KILN_API declarations in include/kiln, src/libkiln.map,
# and what libkiln.so exports.
#
#     scripts/exported_symbols.sh [LIBRARY]    says what differs; without one, the first two only
#     scripts/exported_symbols.sh --update     writes src/libkiln.map from the declarations
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."
map=src/libkiln.map
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The compiler takes the comments out and shows KILN_API as the attribute it stands for.
for header in include/kiln/*.h include/kiln/unstable/*.h; do
    ${CC:-cc} -std=c11 -DKILN_UNSTABLE_API -Iinclude -E -P "$header"
done | tr '\n' ' ' | grep -o '__attribute__((visibility("default")))[^;{]*[;{]' |
    grep -o 'kiln_[a-z0-9_]* *(' | tr -d ' (' | sort -u > "$scratch/declared"

if [ "${1:-}" = --update ]; then
    {
        sed '/^KILN_/,$d' "$map"
        echo "KILN_0.1 {"
        echo "  global:"
        sed 's/.*/    &;/' "$scratch/declared"
        echo "  local:"
        echo "    *;"
        echo "};"
    } > "$scratch/map"
    cp "$scratch/map" "$map"
    exit 0
fi

failed=0
compare() { # FILE-A FILE-B SENTENCE: lines of A that B lacks
    local lines
    lines=$(comm -23 "$scratch/$1" "$scratch/$2" | tr '\n' ' ')
    if [ -n "$lines" ]; then
        echo "$3: $lines"
        failed=1
    fi
}

sed -n 's/^    \(kiln_[a-z0-9_]*\);$/\1/p' "$map" > "$scratch/listed"
compare declared listed "declared, but not in $map (scripts/exported_symbols.sh --update)"
compare listed declared "in $map, but not declared in include/kiln (an ABI keeps what it has)"
sort -u -c "$scratch/listed" 2> /dev/null ||
    { echo "$map is not sorted (scripts/exported_symbols.sh --update)"; failed=1; }

if [ $# -gt 0 ]; then
    nm -D --defined-only "$1" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
        sort -u > "$scratch/exported"
    compare exported listed "exported by $1, but not in $map"
    compare listed exported "in $map, but not defined in $1"
fi
[ $failed = 0 ] && echo "$(wc -l < "$scratch/listed") symbols, declared and listed alike"
exit $failed
