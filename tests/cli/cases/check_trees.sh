# SPDX-License-Identifier: Apache-2.0
# What is no tree is refused before ONNX Runtime is asked, which says so in words of its sources.
# What no tree leads to is not looked at, and a leaf is whatever is not 0.
"$python" - <<'P'
import numpy
from onnx import TensorProto, helper, numpy_helper, save
def array(values, kind=numpy.float32):
    return numpy_helper.from_array(numpy.array(values, kind))
RIGHT = {"aggregate_function": 1, "post_transform": 0, "n_targets": 2, "tree_roots": [0],
         "nodes_featureids": [0, 2, 0], "nodes_modes": array([0, 0, 0], numpy.uint8),
         "nodes_splits": array([1, 2, 3]), "nodes_truenodeids": [1, 0, 1],
         "nodes_trueleafs": [0, 1, 1], "nodes_falsenodeids": [2, 2, 3],
         "nodes_falseleafs": [0, 1, 1], "leaf_targetids": [0, 1, 0, 1],
         "leaf_weights": array([5, 6, 7, 8])}
WRONG = [{}, {"aggregate_function": 4}, {"post_transform": -1}, {"n_targets": 0},
         {"tree_roots": [3]}, {"tree_roots": [1]}, {"nodes_featureids": [0, 3, 0]},
         {"nodes_featureids": [0, 1]}, {"nodes_splits": array([1, 2, 3], numpy.float64)},
         {"nodes_modes": array([0, 0], numpy.uint8)}, {"nodes_truenodeids": [1, 4, 1]},
         {"nodes_truenodeids": [0, 0, 1]}, {"nodes_truenodeids": [2, 0, 1]},
         {"nodes_falsenodeids": [-1, 2, 3]}, {"nodes_trueleafs": [0, 7, 1]},
         {"nodes_modes": array([0, 6, 0], numpy.uint8)},
         {"leaf_targetids": [0, 2, 0, 1]}, {"leaf_weights": array([5, 6, 7])}]
for number, change in enumerate(WRONG):
    node = helper.make_node("TreeEnsemble", ["x"], ["y"], domain="ai.onnx.ml",
                            **{**RIGHT, **change})
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    save(helper.make_model(graph, ir_version=9, opset_imports=[
        helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 5)]), f"{number:02}.onnx")
P
for model in [0-9]*.onnx; do
    kiln check "$model" -b onnxruntime | head -n 1 | sed 's/.*): //'
done
kiln run 00.onnx -b onnxruntime -i 1 | tail -n 1
