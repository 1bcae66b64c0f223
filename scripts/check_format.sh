#!/bin/bash
# clang-format 14 would change nothing. With --fix it changes what it would.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."
mode=(--dry-run --Werror)
[ "${1:-}" != --fix ] || mode=(-i)
command -v clang-format-14 > /dev/null || { echo "clang-format-14 is not installed"; exit 1; }
mapfile -t files < <(git ls-files -co --exclude-standard -- '*.c' '*.h')
existing=()
for file in "${files[@]}"; do
    [ ! -f "$file" ] || existing+=("$file")
done
clang-format-14 "${mode[@]}" "${existing[@]}"
echo "${#existing[@]} files"
