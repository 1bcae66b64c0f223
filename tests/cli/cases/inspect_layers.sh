# SPDX-License-Identifier: Apache-2.0
# An ONNX file is listed without a backend: the one asked for by the environment is not there.
export KILN_BACKEND=tensorrt KILN_TENSORRT=/nowhere KILN_ONNXRUNTIME=/nowhere
kiln inspect nodes.onnx --layers
kiln inspect nodes.onnx -l -j | "$python" -c '
import json, sys
model = json.load(sys.stdin)
assert "backend" not in model
print(model["ir_version"], model["opsets"], model["nodes"], model["initializers"],
      model["functions"])
print([o["shape"] for o in model["outputs"]])
for layer in model["layers"]:
    print(layer)'
kiln inspect nodes.onnx -j | grep -c layers
kiln inspect nodes.onnx -b onnxruntime > /dev/null 2> err
echo "exit $?"
