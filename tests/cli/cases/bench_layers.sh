# SPDX-License-Identifier: Apache-2.0
# The time of each node, of ONNX Runtime's own profiler and of the reference executor; what has none
# is refused before anything is measured.
set +e
export TMPDIR=$PWD
for backend in onnxruntime reference; do
    kiln bench open.onnx -s 2x3x4 -b $backend --layers --json --duration 0 -n 7 --warmup 0 \
        > found.json
    "$python" -c '
import json
layers = json.load(open("found.json"))["layers"]
print(sorted((layer["name"], layer["type"]) for layer in layers))
assert all(layer["ms"] >= 0 for layer in layers), layers'
done
kiln bench add.onnx --layers --duration 0 -n 3 --warmup 0 | sed -n '/^layer/,$p' | sed 's/ .*//'
ls -d kiln-profile* 2> /dev/null
TMPDIR=/nowhere kiln bench add.onnx --layers --duration 60
echo "exit $?"
rm -f found.json
