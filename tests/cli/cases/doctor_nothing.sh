# SPDX-License-Identifier: Apache-2.0
# Absent differs from broken, and a backend that was asked for and is not there fails.
look() {
    kiln doctor | grep '^  ONNX Runtime.*:'
    kiln doctor --json > found.json
    echo "exit $?"
    "$python" -c '
import json
found = json.load(open("found.json"))
library = [l for l in found["libraries"] if l["name"] == "ONNX Runtime"][0]
backend = [b for b in found["backends"] if b["name"] == "onnxruntime"][0]
print(found["chosen"], library["state"], backend["available"], backend["score"])'
}
KILN_ONNXRUNTIME=/no/such/folder look
echo "not a library" > libonnxruntime.so
KILN_ONNXRUNTIME=$PWD/libonnxruntime.so look
KILN_BACKEND=mock kiln doctor | tail -n +1 | grep -A 2 'No backend'
KILN_BACKEND=mock kiln doctor > all
echo "exit $?"
