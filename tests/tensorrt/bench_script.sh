#!/bin/bash
# Runs scripts/bench_tensorrt.sh over the stand-in for TensorRT and a played GPU, with a played
# trtexec: every part but those that need PyTorch or NVIDIA's bindings. What is measured there means
# nothing; that the files are whole and the table has them, is looked at.
#
#     bench_script.sh SOURCE BUILD DEPS
#
# SPDX-License-Identifier: Apache-2.0
set -uo pipefail
source=$1
build=$2
python=$3/python/bin/python3
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export KILN_TENSORRT=$build/tests/fake/tensorrt/10
export KILN_CUDA_DRIVER=$build/tests/fake/cuda/libcuda.so.1
export BENCH_PYTHON=$python BENCH_FOLDER=$scratch BENCH_MODELS=mlp BENCH_BATCHES=1,4
export BENCH_LATENCY=0.2 BENCH_LOAD=0.1 BENCH_ROUNDS=3 BENCH_TURNS=1
export BENCH_STREAMS=1,2 BENCH_WAYS=1/1,1/1/stagger,1/2,2/1
export BENCH_TRTEXEC=$scratch/trtexec
printf '#!/bin/sh\necho "[I] Throughput: 500.5 qps"\n' > "$BENCH_TRTEXEC"
chmod +x "$BENCH_TRTEXEC"
"$python" - "$scratch/mlp.onnx" << 'PY'
import sys
from onnx import parser, save
save(parser.parse_model('<ir_version: 8, opset_import: ["": 17]> '
                        "g (float[n,128] x) => (float[n,128] y) { y = Relu(x) }"), sys.argv[1])
PY
out=$scratch/out
"$source/scripts/bench_tensorrt.sh" "$build" "$out" models latency first throughput table ||
    { cat "$out"/*.log; exit 1; }
cat "$out/table.md"
"$python" - "$out" << 'PY' || exit 1
import json
import sys
found = json.load(open(f"{sys.argv[1]}/latency_mlp.json"))["results"]
assert [result["what"] for result in found] == ["batch 1", "batch 4"], found
for result in found:
    assert result["difference"] == 0 and result["graphs"] == 1, result
    assert result["ratio"] == sorted(result["ratio"]), result
    assert result[result["best_direct"] + "_us"] == min(
        result[f"raw_{form}_us"] for form in
        ("pageable", "pinned", "copies", "mapped", "mapped_in", "mapped_out")), result
first = json.load(open(f"{sys.argv[1]}/first_mlp.json"))
assert 0 < first["kiln_loaded_ms"] < first["kiln_ready_ms"] < first["kiln_ms"], first
load = json.load(open(f"{sys.argv[1]}/throughput_mlp.json"))["results"]
assert all(result["trtexec"]["per_second"] == 500.5 for result in load), load
assert all(len(result["kiln"]["tried"]) == 8 and "2/1/1/stagger" in result["kiln"]["tried"]
           for result in load), load
PY
[ "$(grep -c '^| mlp ' "$out/table.md")" = 5 ] || { echo "*** five rows were expected"; exit 1; }
BENCH_SECONDS=1 "$source/scripts/bench_tensorrt.sh" "$build" "$out" latency table
grep -q 'left out for want of time: latency mlp' "$out/table.md" || exit 1
# Where there is little time it measures less, and not nothing.
few=$scratch/few
BENCH_SECONDS=8 BENCH_STREAMS=2,4,8 BENCH_TURNS=99 BENCH_LOAD=0.3 \
    "$source/scripts/bench_tensorrt.sh" "$build" "$few" throughput || exit 1
[ ! -e "$few/left_out.txt" ] && grep -q '"batch": 4' "$few/throughput_mlp.json"
