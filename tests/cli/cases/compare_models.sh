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
save_models small '(float[64] x) => (float[64] z)
 { a = Abs(x) b = Softmax(a) c = Mul(b,a) z = Neg(c) }'
kiln compare small.onnx -b onnxruntime,reference | tail -1
echo "exit $?"
strict="-b onnxruntime,reference --atol 0 --rtol 1e-12 --first-difference -O off"
kiln compare small.onnx $strict --json > first.json
echo "exit $?"
"$python" - <<'PY'
import json
d = json.load(open("first.json"))
first = d["first_difference"]
print(d["passes"], first["operator"], first["name"], d["intermediate_tensors"])
PY
kiln compare small.onnx $strict | grep -e first -e pass
ends compare add.onnx -b onnxruntime
ends compare add.onnx -b onnxruntime,referenze
ends compare open.onnx -b onnxruntime,reference
ends compare nothing.onnx
