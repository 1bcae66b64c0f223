# SPDX-License-Identifier: Apache-2.0
# All that is wrong with a model is told, whatever would have run it.
"$python" - <<'PY'
from onnx import parser, save
save(parser.parse_model('''<ir_version:8,opset_import:["":17]> g (float[2,3] x) => (float[2,4] y)
 <float[4] four={1,2,3,4}> { a = Add(x,four) b = Bogus(a) y = Concat(b,nowhere) }'''), "bad.onnx")
many = "".join(f" a{i} = Add(x, no{i})" for i in range(30))
save(parser.parse_model('''<ir_version:8,opset_import:["":17]> g (float[2,3] x) => (float[2,3] y)
 { y = Neg(x)''' + many + "}"), "many.onnx")
PY
kiln run bad.onnx --backend reference
echo "exit $?"
kiln build bad.onnx -o bad.plan --backend reference
echo "exit $?"
kiln run many.onnx --backend reference 2>&1 | tail -n 2
kiln run bad.onnx --backend onnxruntime 2>&1 | tail -n 3
ls *.plan
