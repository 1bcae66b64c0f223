# SPDX-License-Identifier: Apache-2.0
kiln check add.onnx
echo "status $?"
save_models bad '(float[2,3] x) => (float[2,4] y)
 <float[4] four={1,2,3,4}> { a = Add(x,four) b = Bogus(a) y = Concat(b,nowhere) }'
kiln check bad.onnx
echo "status $?"
kiln check bad.onnx --json --strict > bad.json
echo "status $?"
"$python" - <<'PY'
import json
d = json.load(open("bad.json"))
print(d["model"], d["errors"], [i["kind"] for i in d["issues"]])
PY
kiln check add.onnx --backend reference
kiln check add.onnx --backend nobody
echo "status $?"
kiln check nothing.onnx
echo "status $?"
