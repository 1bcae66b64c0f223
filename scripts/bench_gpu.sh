#!/bin/bash
# ONNX Runtime on a GPU: Kiln against direct calls, in every form that a run can have. Writes one
# JSON file each to the folder OUT. The dynamic linker must find CUDA and cuDNN.
#
#     scripts/bench_gpu.sh BUILD LIBONNXRUNTIME OUT
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
[ $# = 3 ] || { echo "usage: $0 BUILD LIBONNXRUNTIME OUT" >&2; exit 2; }
mkdir -p "$3"
"$1/bench/bench_gpu_forms" "$2" > "$3/gpu_forms.json"
"$1/bench/bench_gpu_models" "$2" > "$3/gpu_models.json"
