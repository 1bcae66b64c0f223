#!/usr/bin/env bash
# One test of `kiln`: runs NAME.sh in an empty folder and compares what it printed and how it ended
# with the files beside it.
#
#   tests/cli/run_cli_test.sh KILN NAME.sh SCRATCH
#
# NAME.stdout, NAME.stderr   what is expected, line by line; none: nothing is. A line is a shell
#                            pattern where the file is called NAME.stdout.glob; a line "..." stands
#                            for any number of lines there
# NAME.exit                  the exit status; none: 0
#
# KILN_CLI_UPDATE=1          writes the expected files anew (those that are not patterns)
# KILN_CLI_PREFIX="valgrind -q --error-exitcode=99"   runs kiln under another program
#
# SPDX-License-Identifier: Apache-2.0
set -u

kiln_program=$(realpath "$1")
script=$(realpath "$2")
base=${script%.sh}
name=$(basename "$base")
scratch=$3/$name

rm -rf "$scratch"
mkdir -p "$scratch/work"
# As kiln itself names it, where the checkout was reached by a link.
cd -P "$scratch/work" || exit 1

# What the scripts may use.
kiln() {
    # shellcheck disable=SC2086 # the prefix is several words
    ${KILN_CLI_PREFIX:-} "$kiln_program" "$@"
}
# It and how it ended.
ends() {
    kiln "$@"
    echo "exit $?"
}
fake=$(dirname "$(dirname "$kiln_program")")/tests/fake
# The stand-ins for a driver and for that TensorRT.
on_tensorrt() {
    export KILN_CUDA_DRIVER=$fake/cuda/libcuda.so.1 KILN_TENSORRT=$fake/tensorrt/$1
}
# NAME.onnx of ONNX's text form, for each NAME TEXT.
save_models() {
    "$python" - "$@" <<'P'
import sys
from onnx import parser, save
for name, text in zip(sys.argv[1::2], sys.argv[2::2]):
    head = "" if text.lstrip().startswith("<ir") else '<ir_version: 8, opset_import: ["": 17]> g '
    save(parser.parse_model(head + text), name + ".onnx")
P
}
export LC_ALL=C TERM=dumb
export KILN_BACKEND=onnxruntime
export XDG_CACHE_HOME=$scratch/cache
unset KILN_ONNXRUNTIME
models=$(dirname "$script")/../models
cp "$models"/*.onnx .
deps=${KILN_DEPS_DIR:-}
python=$deps/python/bin/python3

# shellcheck disable=SC1090 # the test itself
(set +u; . "$script") > "$scratch/stdout" 2> "$scratch/stderr" < /dev/null
echo $? > "$scratch/exit"

# What is told on some processors alone.
sed -i '/^this processor, x86 without VNNI/d' "$scratch/stdout"

# Whether `found` is what `pattern` says, line by line.
matches() {
    local -a wanted lines
    mapfile -t wanted < "$1"
    mapfile -t lines < "$2"
    local at=0 any=0 line=0
    while ((at < ${#wanted[@]})); do
        if [[ ${wanted[at]} == ... ]]; then
            any=1
            at=$((at + 1))
            continue
        fi
        # shellcheck disable=SC2053 # it is a pattern
        while ((line < ${#lines[@]})) && [[ ${lines[line]} != ${wanted[at]} ]] && ((any)); do
            line=$((line + 1))
        done
        # shellcheck disable=SC2053
        if ((line >= ${#lines[@]})) || [[ ${lines[line]} != ${wanted[at]} ]]; then
            echo "$name: line $((line + 1)) of $(basename "$2") does not match: ${wanted[at]}"
            return 1
        fi
        any=0
        at=$((at + 1))
        line=$((line + 1))
    done
    if ((!any && line < ${#lines[@]})); then
        echo "$name: $(basename "$2") goes on after line $line: ${lines[line]}"
        return 1
    fi
}

failures=0
check_stream() {
    local expected=$base.$1 found=$scratch/$1
    if [[ -e $expected.glob ]]; then
        if ! matches "$expected.glob" "$found"; then
            sed "s/^/    /" "$found"
            failures=$((failures + 1))
        fi
        return
    fi
    if [[ -n ${KILN_CLI_UPDATE:-} ]]; then
        rm -f "$expected"
        [[ -s $found ]] && cp "$found" "$expected"
        return
    fi
    [[ -e $expected ]] || expected=/dev/null
    if ! diff -u --label "expected $1" --label "found $1" "$expected" "$found"; then
        failures=$((failures + 1))
    fi
}

# A function of C is no advice in a shell.
if grep -nE '\bkiln_[a-z]+_[a-z]|\bkiln_[a-z]+\(' "$scratch/stdout" "$scratch/stderr"; then
    echo "$name: a shell has options, not functions (cli/cli_terms.c)"
    failures=$((failures + 1))
fi
check_stream stdout
check_stream stderr
found=$(cat "$scratch/exit")
if [[ -n ${KILN_CLI_UPDATE:-} ]]; then
    rm -f "$base.exit"
    [[ $found == 0 ]] || echo "$found" > "$base.exit"
elif [[ -e $base.exit ]]; then
    expected=$(cat "$base.exit")
else
    expected=0
fi
if [[ -z ${KILN_CLI_UPDATE:-} && $found != "$expected" ]]; then
    echo "$name: exit status $expected was expected, $found was found"
    failures=$((failures + 1))
fi
exit $((failures > 0))
