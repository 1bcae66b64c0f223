# SPDX-License-Identifier: Apache-2.0
"""Ensembles of trees in all forms of ai.onnx.ml, and each with one of its attributes changed."""
import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

F, D, L = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64
REALS = {"nodes_values", "nodes_hitrates", "base_values", "target_weights", "class_weights"}
WORDS = ("MIN", "MAX", "AVERAGE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT", "nonsense", "")
MODES = ("LEAF", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_GTE", "nonsense")

# Two trees: of five nodes, and of three.
NODES = {"nodes_treeids": [0, 0, 0, 0, 0, 1, 1, 1], "nodes_nodeids": [0, 1, 2, 3, 4, 0, 1, 2],
         "nodes_featureids": [0, 1, 0, 0, 0, 2, 0, 0],
         "nodes_modes": ["BRANCH_LEQ", "BRANCH_LT", "LEAF", "LEAF", "LEAF", "BRANCH_LEQ", "LEAF",
                         "LEAF"],
         "nodes_values": [.5, 1., 0., 0., 0., 2., 0., 0.],
         "nodes_truenodeids": [1, 2, 0, 0, 0, 1, 0, 0],
         "nodes_falsenodeids": [4, 3, 0, 0, 0, 2, 0, 0],
         "nodes_missing_value_tracks_true": [0, 1, 0, 0, 0, 0, 0, 0], "nodes_hitrates": [1.] * 8}
REGRESSOR = {**NODES, "n_targets": 2, "target_treeids": [0, 0, 0, 1, 1],
             "target_nodeids": [2, 3, 4, 1, 2], "target_ids": [0, 1, 0, 1, 0],
             "target_weights": [1., 2., 3., 4., 5.], "aggregate_function": "SUM",
             "post_transform": "NONE", "base_values": [.5, .25]}
CLASSIFIER = {**NODES, "classlabels_int64s": [7, 8, 9], "class_treeids": [0, 0, 0, 1, 1],
              "class_nodeids": [2, 3, 4, 1, 2], "class_ids": [0, 1, 2, 1, 0],
              "class_weights": [1., 2., 3., 4., 5.], "post_transform": "NONE",
              "base_values": [.5, .25, .1]}
# From version 5 on: children are places among the nodes, or among the leaves. Two trees share one.
ENSEMBLE = {"n_targets": 2, "aggregate_function": 1, "post_transform": 0, "tree_roots": [0, 1],
            "nodes_featureids": [0, 2, 1, 0], "nodes_truenodeids": [1, 0, 1, 0],
            "nodes_trueleafs": [0, 1, 1, 1], "nodes_falsenodeids": [2, 2, 3, 7],
            "nodes_falseleafs": [0, 1, 1, 0], "leaf_targetids": [0, 1, 0, 1],
            "nodes_missing_value_tracks_true": [0, 1, 0, 0],
            "nodes_modes": np.array([0, 0, 6, 0], np.uint8),
            "nodes_splits": np.array([.5, 1, 2, 3], np.float32),
            "nodes_hitrates": np.ones(4, np.float32),
            "membership_values": np.array([1, 2, np.nan], np.float32),
            "leaf_weights": np.array([1, 2, 3, 4], np.float32)}


def values(dtype):
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    return np.random.default_rng(1).standard_normal((4, 3)).astype(kind)


def attribute(node, name, value):
    made = node.attribute.add()
    made.name = name
    if isinstance(value, np.ndarray):
        made.type = AttributeProto.TENSOR
        made.t.CopyFrom(numpy_helper.from_array(value, name))
    elif isinstance(value, int):
        made.type, made.i = AttributeProto.INT, value
    elif isinstance(value, str):
        made.type, made.s = AttributeProto.STRING, value.encode()
    elif name == "nodes_modes":
        made.type = AttributeProto.STRINGS
        made.strings.extend(word.encode() for word in value)
    elif name in REALS:
        made.type = AttributeProto.FLOATS
        made.floats.extend(value)
    else:
        made.type = AttributeProto.INTS
        made.ints.extend(value)


def model_of(op, attributes, version, dtype) -> ModelProto:
    node = NodeProto(op_type=op, domain="ai.onnx.ml", input=["x"], output=["y"])
    outputs = [helper.make_tensor_value_info("y", F if dtype != D or version < 5 else D, None)]
    if op == "TreeEnsembleClassifier":
        node.output.append("z")
        outputs = [helper.make_tensor_value_info(n, t, None) for n, t in (("y", L), ("z", F))]
    for name, value in attributes.items():
        attribute(node, name, value)
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", dtype, [4, 3])],
                              outputs)
    return helper.make_model(graph, ir_version=8, opset_imports=[
        helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", version)])


def others(name, value):
    """What is put in the place of a value."""
    if isinstance(value, np.ndarray):
        yield "shorter", value[:-1]
        yield "longer", np.concatenate([value, value[-1:]])
        yield "in two dimensions", value[np.newaxis]
        yield "of another type", value.astype(np.float16)
    elif isinstance(value, str):
        yield from ((f"={word}", word) for word in WORDS)
    elif isinstance(value, int):
        yield from ((f"={other}", other) for other in (value + 1, -1, 0, 1000))
    else:
        yield from (("shorter", value[:-1]), ("longer", value + value[-1:]), ("empty", []))
        for place, old in enumerate(value if name not in REALS else ()):
            for new in MODES if isinstance(old, str) else (old + 1, -1, 0, 1, 2, 3, 1000):
                yield f"[{place}]={new}", value[:place] + [new] + value[place + 1:]


def changed(attributes):
    yield "itself", attributes
    for name, value in attributes.items():
        yield f"{name} gone", {n: v for n, v in attributes.items() if n != name}
        for words, other in others(name, value):
            yield f"{name} {words}", {**attributes, name: other}


def as_tensors(attributes, kind):
    """Lists of reals as tensors of a type, which there are from version 3 on."""
    return {f"{n}_as_tensor" if n in REALS else n: np.array(v, kind) if n in REALS else v
            for n, v in attributes.items()}


def models():
    """(name, the input's type, model) of each."""
    for op, base in (("TreeEnsembleRegressor", REGRESSOR), ("TreeEnsembleClassifier", CLASSIFIER)):
        for dtype, version, attributes in ((F, 1, base), (F, 3, base), (L, 3, base),
                                           (D, 3, as_tensors(base, np.float64)),
                                           (D, 3, as_tensors(base, np.float32)),
                                           (F, 3, {**base, **as_tensors(base, np.float32)})):
            for name, change in changed(attributes):
                yield f"{op} {version} {dtype} {name}", dtype, model_of(op, change, version, dtype)
    for name, change in changed(ENSEMBLE):
        yield f"TreeEnsemble 5 {name}", F, model_of("TreeEnsemble", change, 5, F)
