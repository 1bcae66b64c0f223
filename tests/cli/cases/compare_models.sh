# SPDX-License-Identifier: Apache-2.0
# Two backends that agree, and the first node that differs where no difference is allowed.
kiln compare add.onnx --backends onnxruntime,reference > report
echo "exit $?"
tail -3 report
kiln compare types.onnx -b reference,reference --json > types.json
echo "exit $?"
"$python" - <<'PY'
import json
d = json.load(open("types.json"))
outputs = d["outputs"]
print(d["model"], d["found"]["name"], d["passes"], {o["cosine"] for o in outputs if o["elements"]})
PY
# Exponentials are rounded differently: without a tolerance they differ.
"$python" - <<'PY'
from onnx import parser, save
save(parser.parse_model('''<ir_version:8,opset_import:["":17]> g (float[64] x) => (float[64] z)
 { a = Abs(x) b = Softmax(a) c = Mul(b,a) z = Neg(c) }'''), "small.onnx")
PY
kiln compare small.onnx -b onnxruntime,reference | tail -1
echo "exit $?"
strict="-b onnxruntime,reference --atol 0 --rtol 1e-12 --first-difference -O off"
kiln compare small.onnx $strict --json > first.json
echo "exit $?"
"$python" - <<'PY'
import json
d = json.load(open("first.json"))
first = d["first_difference"]
print(d["passes"], first["operator"], first["name"], d["inner_tensors"])
PY
kiln compare small.onnx $strict | grep -e first -e pass
kiln compare add.onnx -b onnxruntime
echo "exit $?"
kiln compare add.onnx -b onnxruntime,referenze
echo "exit $?"
kiln compare open.onnx -b onnxruntime,reference
echo "exit $?"
kiln compare nothing.onnx
echo "exit $?"
