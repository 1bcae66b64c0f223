# SPDX-License-Identifier: Apache-2.0
# Of a model whose external weights are missing, the rest is shown; and checked.
"$python" - <<'P'
import numpy, onnx
from onnx import parser
model = parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
    g (float[n,64] x) => (float[n,3] y)
    <float[64,32] a = {0}, float[32,32] b = {0}, float[32,3] c = {0}>
    { p = MatMul(x, a) q = MatMul(p, b) y = MatMul(q, c) }""".replace("= {0}", ""))
shapes = {"a": (64, 32), "b": (32, 32), "c": (32, 3)}
del model.graph.initializer[:]
for name, file in (("a", "one.bin"), ("b", "one.bin"), ("c", "other.bin")):
    tensor = onnx.numpy_helper.from_array(numpy.zeros(shapes[name], numpy.float32), name)
    onnx.external_data_helper.set_external_data(tensor, file)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    model.graph.initializer.append(tensor)
open("model.onnx", "wb").write(model.SerializeToString())
open("other.bin", "wb").write(b"short")
P
kiln inspect model.onnx --layers
kiln inspect model.onnx --json | "$python" -c '
import json, sys
for issue in json.load(sys.stdin)["issues"]:
    print(issue["file"], issue["tensor"])'
ends check model.onnx
ends run model.onnx -b reference -s x=1x64
ends run model.onnx -b onnxruntime -s x=1x64
head -c 12288 /dev/zero > one.bin
ends run model.onnx -b onnxruntime -s x=1x64
head -c 384 /dev/zero > other.bin
kiln inspect model.onnx --json | grep -c '"issues":.\[\]'
kiln check model.onnx
