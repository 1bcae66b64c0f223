#!/bin/bash
# Instructions of each layer that is added to a network, of trees beside each other: the time of one
# is too short to be measured on a machine that has other things to do. Needs valgrind.
#
#     bench/layers_instructions.sh TREE...      source trees with a build in build/release
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
here=$(dirname "$(realpath "$0")")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trees=()
for tree in "$@"; do
    tree=$(realpath "$tree")
    cc -O2 -I"$tree/include" -I"$here" "$here/add_layers.c" "$here/bench_times.c" \
        "$tree/build/release/src/libkiln.so" -Wl,-rpath,"$tree/build/release/src" \
        -o "$folder/${#trees[@]}"
    trees+=("$tree")
done

count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$@" 2>&1 |
        sed -n 's/.*Collected : *//p'
}

printf 'instructions of a layer in %s; by the last\n' "${trees[*]}"
for kind in unary activation elementwise chain cast convolution matmul softmax gather join shape \
    reshape transpose; do
    for then in "" build; do
        found=()
        for i in "${!trees[@]}"; do
            few=$(count "$folder/$i" "$kind" 200 $then)
            found+=($((($(count "$folder/$i" "$kind" 2200 $then) - few) / 2000)))
        done
        printf '%-12s %-12s' "$kind" "${then:+and built}"
        for number in "${found[@]}"; do printf ' %8d' "$number"; done
        for number in "${found[@]}"; do printf ' %6d %%' $((number * 100 / found[-1])); done
        printf '\n'
    done
done
