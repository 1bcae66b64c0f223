#!/bin/bash
# clang-format 14 would change nothing. With --fix it changes what it would. No other version does:
# 16 and 18 break some lines of this tree elsewhere.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "${0%/*}/.."
mode=(--dry-run --Werror)
[ "${1:-}" != --fix ] || mode=(-i)
format=$(scripts/find_clang.sh clang-format) || exit 1
[[ $("$format" --version) =~ version\ ([0-9]+) ]]
if [ "${BASH_REMATCH[1]}" != 14 ]; then
    echo "the tree is formatted with clang-format 14, and each version breaks lines in its own" \
        "way: $format is version ${BASH_REMATCH[1]}; install the package clang-format-14" >&2
    exit 1
fi
mapfile -t files < <(git ls-files -co --exclude-standard -- '*.c' '*.h')
existing=()
for file in "${files[@]}"; do
    [ ! -f "$file" ] || existing+=("$file")
done
"$format" "${mode[@]}" "${existing[@]}"
echo "${#existing[@]} files, $("$format" --version)"
