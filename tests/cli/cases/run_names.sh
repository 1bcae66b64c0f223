# SPDX-License-Identifier: Apache-2.0
kiln run names.onnx -i in/put=1=7 -o out | cut -c 1-30
ls -A out
kiln run names.onnx -i in/put=1=7 -c out | tail -8 | cut -c 1-30
# Of two names that fit the longer is meant.
"$python" - <<'P'
from onnx import helper, save, TensorProto
a, b, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("a", "a=b", "y"))
node = helper.make_node("Add", ["a", "a=b"], ["y"])
save(helper.make_model(helper.make_graph([node], "g", [a, b], [y]), ir_version=8,
                       opset_imports=[helper.make_opsetid("", 17)]), "both.onnx")
P
kiln run both.onnx -i a=1 -i a=b=2 | tail -n 1
