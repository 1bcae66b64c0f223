#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# GPT-2 small and a model of Whisper-tiny's shape, with random weights, on TensorRT: 64 sequences
# beside Hugging Face's generate and torch.compile, tokens a second, and each token against a run
# over all before it. Writes a line of JSON for each to OUT/stream.jsonl. PYTHON has torch, onnx
# and, where it shall be measured, transformers. Takes minutes, most of them for building plans.
#
#     scripts/bench_stream.sh BUILD LIBNVINFER OUT [PYTHON]
set -euo pipefail
[ $# -ge 3 ] || { echo "usage: $0 BUILD LIBNVINFER OUT [PYTHON]" >&2; exit 2; }
build=$1
export KILN_TENSORRT=$2
out=$3
here=$(dirname "$0")/../bench
text=("${4:-python3}" "$here/stream_peers.py")
speech=("${4:-python3}" "$here/speech_peers.py")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
: > "$out/stream.jsonl"

note() { # KILN TYPE SPREAD
    sed "s/^{/{\"kiln\": \"$1\", \"type\": \"$2\", \"spread\": $3, /" | tee -a "$out/stream.jsonl"
}

plan() { # MODEL PROFILE...
    local model=$1 options=()
    shift
    [ "$type" = float32 ] && options+=(--tf32 off)
    for profile in "$@"; do options+=(-p "$profile"); done
    "$build/bin/kiln" build "$model.onnx" -o "$model.plan" -b tensorrt \
        --timing-cache "$work/timing" "${options[@]}"
}

mapfile -t steps < <("${text[@]}" profiles 64 320)
mapfile -t widths < <("${text[@]}" profiles 64 320 160 192 224 256 288 320)
mapfile -t parts < <("${speech[@]}" profiles 64 64)
for type in float16 float32 tf32; do # the last is float32 whose products may be rounded
    stored=${type/tf32/float32}
    mkdir "$work/$type"
    "${text[@]}" export "$work/$type" "$stored"
    "$build/bench/bench_stream" prepare "$work/$type/gpt2.onnx" "$work/$type/ready.onnx" 8
    ln -s ready.onnx "$work/$type/widths.onnx"
    # Made for steps, the same with a profile for each width of the past, and as it was exported.
    for form in ready widths gpt2; do
        model=$work/$type/$form
        plans=("${steps[@]}")
        [ $form = widths ] && plans=("${widths[@]}")
        plan "$model" "${plans[@]}"
        for spread in 1 4; do
            "$build/bench/bench_stream" run "$model.plan" 64 320 64 128 $spread "$model.json" |
                note $form $type $spread
            "${text[@]}" check $stored "$model.json" | tee -a "$out/stream.jsonl"
        done
    done
    if [ $type = float32 ]; then # in products of TF32's numbers: engines for steps and prompts
        for rows in few many; do
            "$build/bench/bench_stream" prepare "$work/$type/gpt2.onnx" \
                "$work/$type/$rows.onnx" 8 $rows
        done
        type=tf32 plan "$work/$type/few" "${steps[1]}"
        type=tf32 plan "$work/$type/many" "${steps[0]}"
        for spread in 1 4; do
            "$build/bench/bench_stream" run "$work/$type/few.plan" 64 320 64 128 $spread \
                "$work/split.json" "$work/$type/many.plan" | note split $type $spread
            "${text[@]}" check $stored "$work/split.json" | tee -a "$out/stream.jsonl"
        done
    fi
    "${text[@]}" peers $type 128 | tee -a "$out/stream.jsonl"
    "${speech[@]}" export "$work/$type" "$stored"
    for part in first cross; do
        "$build/bench/bench_stream" prepare "$work/$type/$part.onnx" \
            "$work/$type/r_$part.onnx" 8 keep
    done
    plan "$work/$type/encoder" "${parts[0]}"
    plan "$work/$type/r_first" "${parts[1]}"
    plan "$work/$type/r_cross" "${parts[2]}"
    "$build/bench/bench_stream" speech "$work/$type/encoder.plan" "$work/$type/r_first.plan" \
        "$work/$type/r_cross.plan" 64 64 64 48 "$work/speech.json" | note speech $type 1
    "${speech[@]}" check $stored "$work/speech.json" | tee -a "$out/stream.jsonl"
    "${speech[@]}" peers $type 48 | tee -a "$out/stream.jsonl"
done
