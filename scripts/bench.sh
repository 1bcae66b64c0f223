#!/bin/bash
# Every measurement, each against something named. Figures mean something on a quiet machine only.
#
#     scripts/bench.sh BUILD
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/release}
deps=${KILN_DEPS_DIR:-build/deps}
mkdir -p build
cmake --preset "${build##*/}" > build/bench.log || { cat build/bench.log; exit 1; }
cmake --build "$build" > build/bench.log || { tail -n 40 build/bench.log; exit 1; }

echo "$(nproc) cores, load $(cut -d ' ' -f 1 /proc/loadavg), $(git log -1 --format=%h)"
echo "== A run: Kiln against ONNX Runtime with IO binding, in C and from Python"
"$deps/python/bin/python3" bench/overhead_python.py "$build/bench/bench_overhead" \
    "$deps/models/magika/model.onnx"
echo "== Inputs, run and outputs in one call: Kiln against ONNX Runtime's Run"
"$build/bench/bench_feeds"
echo "== The reference executor against ONNX Runtime with one thread, in processor time"
light=$(ls -d "$deps"/python/lib/python3*/site-packages/onnx/backend/test/data/light)
"$build/bench/bench_reference" "$deps/models/magika/model.onnx@1x2048" \
    "$deps/models/rapidocr/det.onnx@1x3x320x320" "$deps/models/rapidocr/rec.onnx@1x3x48x320"
"$deps/python/bin/python3" bench/reference_operators.py "$build/bench/bench_reference" \
    "$light"/light_{resnet50,bvlc_alexnet,squeezenet,inception_v1}.onnx
"$deps/python/bin/python3" bench/reference_operators.py "$build/bench/bench_reference" || true
for model in magika/model rapidocr/det rapidocr/rec silero-vad/silero_vad; do
    echo "== A load of $model.onnx: Kiln against ONNX Runtime"
    "$build/bench/bench_load" "$deps/models/$model.onnx"
done
echo "== Calibration: kiln calibrate against ONNX Runtime's Python quantizer"
"$deps/python/bin/python3" bench/calibrate.py "$build/bin/kiln" "$deps/models/magika/model.onnx" \
    --batches 32 --rows 8 --rounds 1
"$deps/python/bin/python3" bench/calibrate.py "$build/bin/kiln" "$light/light_resnet50.onnx" \
    --batches 32 --rounds 1
echo "== A request to kiln serve beyond an echo of the same body by a bare libmicrohttpd"
KILN_BACKEND=onnxruntime "$deps/python/bin/python3" bench/serve.py "$build" echo
echo "== The same by gRPC and over HTTP"
KILN_BACKEND=onnxruntime "$deps/python/bin/python3" bench/serve.py "$build" rpc
echo "== A piece of memory: kiln_pool against malloc, and cuMemAllocAsync where there is a GPU"
"$build/bench/bench_pool"
echo "== Reading, inferring and checking graphs: Kiln against the onnx package"
mkdir -p "$build/bench/graphs"
"$deps/python/bin/python3" bench/infer_python.py "$build/bench/bench_costs" "$build/bench/graphs"
echo "== Reading ONNX: kiln_network_from_onnx, then onnx.load on the same files"
files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT
"$deps/python/bin/python3" bench/read_onnx_python.py "$build/bench/bench_read_onnx" "$files"
echo "== 1 GiB of weights handed to ONNX Runtime: where they come from, and what that adds"
"$build/bench/bench_handover" "$files"
