#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# GPT-2 small with random weights on TensorRT, 64 sequences of different lengths, beside Hugging Face's
# generate and torch.compile: tokens a second, and each token against a run over all before it. Writes a
# line of JSON for each to OUT/stream.jsonl. PYTHON has torch, onnx and, where it shall be measured,
# transformers. Takes minutes, most of them for building plans.
#
#     scripts/bench_stream.sh BUILD LIBNVINFER OUT [PYTHON]
set -euo pipefail
[ $# -ge 3 ] || { echo "usage: $0 BUILD LIBNVINFER OUT [PYTHON]" >&2; exit 2; }
build=$1; export KILN_TENSORRT=$2; out=$3; peers=("${4:-python3}" "$(dirname "$0")/../bench/stream_peers.py")
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
mkdir -p "$out"; : > "$out/stream.jsonl"
mapfile -t profiles < <("${peers[@]}" profiles 64 320)
for type in float16 float32; do
  mkdir "$work/$type"
  "${peers[@]}" export "$work/$type" "$type"
  for form in ready gpt2; do # for steps, and as it was exported
    model=$work/$type/$form
    [ $form = gpt2 ] || "$build/bench/bench_stream" prepare "$work/$type/gpt2.onnx" "$model.onnx" 8
    "$build/bin/kiln" build "$model.onnx" -o "$model.plan" -b tensorrt --timing-cache "$work/timing" \
      -p "${profiles[0]}" -p "${profiles[1]}"
    for spread in 1 4; do
      "$build/bench/bench_stream" run "$model.plan" 64 320 64 128 $spread "$model.json" |
        sed "s/^{/{\"kiln\": \"$form\", \"type\": \"$type\", \"spread\": $spread, /" | tee -a "$out/stream.jsonl"
      "${peers[@]}" check "$type" "$model.json" | tee -a "$out/stream.jsonl"
    done
  done
  "${peers[@]}" peers "$type" 128 | tee -a "$out/stream.jsonl"
done
