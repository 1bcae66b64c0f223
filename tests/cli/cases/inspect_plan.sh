# SPDX-License-Identifier: Apache-2.0
# What a plan tells of itself, with the stand-ins for TensorRT and CUDA.
export KILN_BACKEND=tensorrt
on_tensorrt 11
kiln build open.onnx -o open.plan -p tokens=1x3x2:2x3x4:8x3x8 -p tokens=9x3x2:9x3x4:16x3x8 \
    --verbosity detailed > /dev/null
kiln inspect open.plan --layers
kiln inspect open.plan --layers --json | "$python" -c '
import json, sys
plan = json.load(sys.stdin)
print(plan["profiles"])
print(plan["layers"])'
kiln run open.plan -i tokens=2 -s tokens=2x3x2 | grep -c -- -2
kiln inspect add.onnx -b reference --layers > /dev/null
echo "exit $?"
