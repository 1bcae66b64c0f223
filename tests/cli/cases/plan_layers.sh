# SPDX-License-Identifier: Apache-2.0
# The time of each layer of a plan, and new weights from a model, over the stand-ins.
set +e
export KILN_BACKEND=tensorrt
on_tensorrt rtx15
kiln build add.onnx -o add.plan > /dev/null
kiln bench add.plan --layers --duration 0 --iterations 3 | tail -n 2
kiln bench add.plan --layers --json --duration 0 --iterations 3 | "$python" -c '
import json, sys
print(json.load(sys.stdin)["layers"])'
kiln bench add.onnx -b reference --layers --duration 0 > /dev/null
echo "exit $?"
ends run add.plan --refit-from add.onnx
"$python" -c '
import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper
w = numpy_helper.from_array(numpy.array([[1, 2], [3, 4]], dtype=numpy.float32), "w")
x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 2])
graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [w])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), "weights.onnx")
numpy.save("x.npy", numpy.zeros((2, 2), dtype=numpy.float32))'
kiln build weights.onnx -o stripped.plan --refit identical --strip > /dev/null
kiln run stripped.plan -i x.npy > /dev/null
echo "exit $?"
kiln run stripped.plan -i x.npy --refit-from weights.onnx -o out > /dev/null
"$python" -c 'import numpy; print(numpy.load("out/y.npy").tolist())'
