#!/bin/bash
# Is TensorRT right, and as fast as it can be, on this machine?
#
#     pip install tensorrt        (or tensorrt-rtx)
#     scripts/tensorrt_check.sh [-k KILN] [-l LIBRARY] [-m MODELS] [-o FOLDER] [--no-gpu]
#
# Builds real models with TensorRT, runs them, compares every output with ONNX Runtime's, and, where
# trtexec is installed, runs the same plans with it: the overhead is Kiln's median latency over
# trtexec's. Prints a table; ends with 1 where a step fails.
#
#   -k KILN     the command (build/release/bin/kiln, else the one that is installed)
#   -l LIBRARY  TensorRT: a library, its folder, or 10, 11, rtx; without it, what Kiln finds
#   -m MODELS   a file with lines NAME|MODEL|PROFILE|SHAPES|INPUT instead of `make demo`'s
#   -o FOLDER   keeps plans and outputs here
#   --no-gpu    stop after building (RTX, for compute capability 8.9): what a machine without a
#               supported GPU can do
#
# SPDX-License-Identifier: Apache-2.0
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
deps=${KILN_DEPS_DIR:-$root/build/deps}
kiln=$root/build/release/bin/kiln
[ -x "$kiln" ] || kiln=$(command -v kiln || echo "$kiln")
library=()
models=
folder=
gpu=1
seconds=${KILN_CHECK_SECONDS:-3}
while [ $# -gt 0 ]; do
    case $1 in
    -k) kiln=$2; shift 2 ;;
    -l) library=(--library "$2"); export KILN_TENSORRT=$2; shift 2 ;;
    -m) models=$2; shift 2 ;;
    -o) folder=$2; shift 2 ;;
    --no-gpu) gpu=; shift ;;
    *) echo "usage: $0 [-k KILN] [-l LIBRARY] [-m MODELS] [-o FOLDER] [--no-gpu]" >&2; exit 2 ;;
    esac
done
[ -x "$kiln" ] || { echo "$kiln is not there: make build" >&2; exit 2; }
if [ -z "$models" ] && [ ! -d "$deps/models" ]; then
    echo "$deps/models is not there: make demo fetches the models, or KILN_DEPS_DIR names them" >&2
    exit 2
fi
if [ -z "$folder" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
fi
mkdir -p "$folder" || exit 2

# name | model | profile | shapes of the run, for Kiln and trtexec alike | input
real_models() {
    cat << END
magika|$deps/models/magika/model.onnx|bytes=1x2048:8x2048:32x2048|bytes=8x2048|random:0:256
cls|$deps/models/rapidocr/cls.onnx|x=1x3x48x192:4x3x48x192:8x3x48x192|x=4x3x48x192|random
det|$deps/models/rapidocr/det.onnx|x=1x3x320x320:1x3x640x640:1x3x960x960|x=1x3x640x640|random
rec|$deps/models/rapidocr/rec.onnx|x=1x3x48x160:4x3x48x320:8x3x48x640|x=4x3x48x320|random
END
    local light
    for light in "$deps"/python/lib/python3*/site-packages/onnx/backend/test/data/light/\
light_resnet50.onnx; do
        [ ! -f "$light" ] || echo "resnet50|$light|||random"
    done
}

# Kiln's sentence about a failure, which details may follow.
sentence() { grep -E '^kiln: ' "$1" | grep -v '^kiln: warning: ' | head -n 1; }

# The median of what `kiln bench --json` prints.
milliseconds() { sed -n 's/.*"median":[[:space:]]*\([0-9.]*\).*/\1/p' | head -n 1; }

# check NAME MODEL PROFILE SHAPES INPUT: one line of the table.
failed=0
check() {
    local name=$1 plan=$folder/$1.plan log=$folder/$1.log expected=$folder/$1.expected
    local profile=() shapes=() target=() size agree=- own=- theirs=- over=- begin=$SECONDS
    [ -z "$3" ] || profile=(-p "$3")
    [ -z "$4" ] || shapes=(-s "$4")
    [ -n "$gpu" ] || target=(-c 89)
    if ! "$kiln" build "$2" -o "$plan" -b tensorrt "${library[@]}" "${profile[@]}" "${target[@]}" \
        > "$log" 2>&1; then
        printf '%-10s not built: %s\n' "$name" "$(sentence "$log")"
        return 1
    fi
    size=$(($(stat -c %s "$plan") / 1024))
    if [ -n "$gpu" ]; then
        "$kiln" run "$2" -b onnxruntime "${shapes[@]}" -i "$5" --seed 7 -o "$expected" \
            > "$log" 2>&1 || {
            printf '%-10s ONNX Runtime does not run it: %s\n' "$name" "$(sentence "$log")"
            return 1
        }
        if "$kiln" run "$plan" -b tensorrt "${library[@]}" "${shapes[@]}" -i "$5" --seed 7 \
            -c "$expected" --atol 2e-3 --rtol 2e-2 > "$log" 2>&1; then
            agree=yes
        else
            printf '%-10s does not agree: %s\n' "$name" "$(tail -n 2 "$log" | tr '\n' ' ')"
            return 1
        fi
        own=$("$kiln" bench "$plan" -b tensorrt "${library[@]}" "${shapes[@]}" -i "$5" --json \
            --duration "$seconds" 2> "$log" | milliseconds)
        own=${own:--}
        if command -v trtexec > /dev/null; then
            theirs=$(trtexec --loadEngine="$plan" --duration="$seconds" \
                ${4:+--shapes="${4/=/:}"} 2> /dev/null |
                sed -n 's/.*\] Latency: .*median = \([0-9.]*\) ms.*/\1/p' | head -n 1)
            theirs=${theirs:--}
            [ "$theirs" = - ] || [ "$own" = - ] || over=$(awk -v a="$own" -v b="$theirs" \
                'BEGIN { printf "%+.1f%%", (a / b - 1) * 100 }')
        fi
    fi
    printf '%-10s %6d s %8d KiB %7s %12s %12s %9s\n' "$name" $((SECONDS - begin)) "$size" "$agree" \
        "$own" "$theirs" "$over"
}

"$kiln" doctor 2>&1 | awk '/^[* ] onnxruntime /{ exit } /^[* ] tensorrt /{ on = 1 } on'
[ -n "$gpu" ] || echo "nothing is run here (--no-gpu)"
printf '%-10s %8s %12s %7s %12s %12s %9s\n' \
    model time plan agrees "Kiln p50 ms" "trtexec ms" overhead
while IFS='|' read -r name model profile shapes input; do
    check "$name" "$model" "$profile" "$shapes" "$input" || failed=$((failed + 1))
done < <(if [ -n "$models" ]; then cat "$models"; else real_models; fi)
echo "$failed failed"
[ "$failed" = 0 ]
