#!/bin/bash
# Says by what name a program of clang's can be called here, in a version that Kiln is built with:
# 14, else the newest from 14 on.
#
#     scripts/find_clang.sh [clang | clang++ | clang-format | clang-tidy]
#
# Prints "clang-14" for instance; where there is none, a sentence on standard error, and ends with
# 1. Needs nothing but bash, so that a folder of its own can be all of PATH in the tests.
#
# SPDX-License-Identifier: Apache-2.0
set -uo pipefail
program=${1:-clang}
oldest=14

major() { # NAME: the major version it says it has
    local said
    said=$("$1" --version 2> /dev/null) && [[ $said =~ version\ ([0-9]+)\. ]] &&
        echo "${BASH_REMATCH[1]}"
}

best='' best_rank=0
while read -r name; do
    [[ $name == "$program" || $name =~ ^"$program"-[0-9]+$ ]] || continue
    version=$(major "$name") && ((version >= oldest)) || continue
    # 14 before all, and a name that says its version before one that does not.
    rank=$((version + (version == oldest ? 20000 : 0)))
    [[ $name == "$program" ]] || rank=$((rank + 10000))
    if ((rank > best_rank)); then
        best=$name best_rank=$rank
    fi
done < <(compgen -c "$program")
if [[ -z $best ]]; then
    echo "$program of version $oldest or newer is not installed, as $program-$oldest or under" \
        "another version's name; scripts/install_deps.sh check installs it" >&2
    exit 1
fi
echo "$best"
