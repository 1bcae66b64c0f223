# SPDX-License-Identifier: Apache-2.0
try() {
    echo "- $*" >&2
    kiln inspect "$@"
    echo "exit $?" >&2
}
: > empty.onnx
echo "not a model" > text_file.onnx
head -c 300 add.onnx > truncated.onnx
mkdir folder.onnx
mkfifo pipe.onnx
try absent.onnx
try ""
try no/such/folder.onnx
try folder.onnx
try empty.onnx
try pipe.onnx
try text_file.onnx
try truncated.onnx
# Nothing to compute: told where it is built, not in the run.
"$python" -c '
import onnx
model = onnx.load("add.onnx")
del model.graph.output[:]
onnx.save(model, "silent.onnx")'
try silent.onnx -b onnxruntime
