#!/bin/bash
# clang-tidy with the checks of .clang-tidy over the sources of the library and the programs.
#
#     scripts/check_tidy.sh [--changed | FILE...]
#
# --changed: only what differs from the branch main, or is not committed. A file whose text, with
# everything it includes, passed before is not looked at again (build/tidy keeps the sums).
#
# SPDX-License-Identifier: Apache-2.0
set -uo pipefail
cd "$(dirname "$0")/.."
build=build/clang
if [ "${1:-}" = --changed ]; then
    mapfile -t files < <({
        git diff --name-only --diff-filter=d "$(git merge-base HEAD main)"
        git ls-files -o --exclude-standard
    } | sort -u | grep -E '^(src|cli|server|examples)/.*\.c$')
elif [ $# -gt 0 ]; then
    files=("$@")
else
    mapfile -t files < <(git ls-files -co --exclude-standard -- 'src/*.c' 'cli/*.c' 'server/*.c' \
        'examples/*.c')
fi
clang=$(scripts/find_clang.sh) && tidy=$(scripts/find_clang.sh clang-tidy) || exit 1
version=$("$tidy" --version)
mkdir -p build/tidy
[ -f $build/compile_commands.json ] || cmake --preset clang > /dev/null || exit 1

one() {
    local file=$1 sum
    [ -f "$file" ] || exit 0
    grep -q "/$file\"" "$build/compile_commands.json" || exit 0
    sum=$({
        echo "$version"
        cat .clang-tidy
        "$clang" -std=c11 -D_GNU_SOURCE -Iinclude -Isrc -E "$file" 2> /dev/null
        cat "$file"
    } | sha256sum | cut -c 1-32)
    [ ! -f "build/tidy/$sum" ] || exit 0
    if "$tidy" --quiet -p "$build" "$file" > "build/tidy/$sum.log" 2> /dev/null; then
        touch "build/tidy/$sum"
    else
        grep -A 2 ' error: ' "build/tidy/$sum.log"
        exit 1
    fi
}
export -f one
export build clang tidy version
printf '%s\n' "${files[@]+"${files[@]}"}" | grep . |
    xargs -r -P "$(nproc)" -I {} bash -c 'one {}' || exit 1
echo "${#files[@]} files, $tidy"
