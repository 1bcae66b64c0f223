#!/bin/bash
# ONNX Runtime on a GPU: Kiln against direct calls, in every form that a run can have. Writes one
# JSON file for each model to the folder OUT. The dynamic linker must find CUDA and cuDNN, and
# BENCH_PYTHON (python3) PyTorch, torchvision, transformers and onnx, which make the models.
#
#     scripts/bench_gpu.sh BUILD LIBONNXRUNTIME OUT
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
[ $# = 3 ] || { echo "usage: $0 BUILD LIBONNXRUNTIME OUT" >&2; exit 2; }
mkdir -p "$OUT"
measure() { # MODEL BATCHES NAME=DIMS...
    [ -s "$OUT/$1.onnx" ] || "${BENCH_PYTHON:-python3}" bench/export_models.py "$OUT" "$1"
    "$BUILD/bench/bench_gpu_ort" "$LIBRARY" "$OUT/$1.onnx" "${@:2}" > "$OUT/gpu_$1.json"
}
measure relu 64,1024,16384,131072 x=N
measure resnet50 1,8,32 x=Nx3x224x224
measure bert 1,8,32 ids=Nx128 mask=Nx128
