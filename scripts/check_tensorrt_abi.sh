#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Compares Kiln's table of TensorRT's binary interface with NVIDIA's own headers:
#     scripts/check_tensorrt_abi.sh HEADER_DIR...
# Each folder holds NvInfer.h of one version, and NvOnnxParser.h where it comes with it. Every
# difference is printed, and what was compared; then each cell of the table is changed in turn, and
# each change must be noticed. Nothing but a C++20 compiler is needed: of CUDA only two opaque types
# occur in the headers. KILN_ABI_SOURCE: check this copy of src/ instead
# (tests/tensorrt/mutate_abi.py).
set -eu
[ $# -gt 0 ] || { echo "usage: $0 HEADER_DIR..." >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/cuda"
for name in cuda_runtime_api.h cuda.h driver_types.h vector_types.h; do
    cat >"$scratch/cuda/$name" <<'END'
#pragma once
typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
END
done
failed=0
for headers in "$@"; do
    "${CXX:-c++}" -std=c++20 -O0 -w -fno-access-control -I"$headers" \
        -I"$scratch/cuda" -I"${KILN_ABI_SOURCE:-$root/src}" -o "$scratch/check" \
        "$root/scripts/tensorrt_abi_check.cpp"
    "$scratch/check" || failed=1
done
exit $failed
