# SPDX-License-Identifier: Apache-2.0
# Where the best backend refuses a model that another one takes, that is named; not to who chose.
on_tensorrt 10
unset KILN_BACKEND
"$python" - <<'PY'
from onnx import TensorProto, helper, save
info = helper.make_tensor_value_info
graph = helper.make_graph([helper.make_node("Erf", ["x"], ["y"])], "g",
                          [info("x", TensorProto.FLOAT, [2])], [info("y", TensorProto.FLOAT, [2])])
opset = helper.make_opsetid("", 17)
save(helper.make_model(graph, ir_version=8, opset_imports=[opset]), "erf.onnx")
PY
kiln run erf.onnx > /dev/null
kiln run erf.onnx -b tensorrt > /dev/null
KILN_BACKEND=tensorrt kiln run erf.onnx > /dev/null
kiln run erf.onnx -b onnxruntime > /dev/null
