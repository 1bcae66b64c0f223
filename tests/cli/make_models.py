#!/usr/bin/env python3
"""Writes the models that the tests of `kiln` run; they are committed, this is how they were made.

SPDX-License-Identifier: Apache-2.0
"""
import os

from onnx import TensorProto, checker, helper, save

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "models")
FLOAT = TensorProto.FLOAT


def write(name, nodes, inputs, outputs, **more):
    def value(entry):
        return helper.make_tensor_value_info(*entry)

    graph = helper.make_graph(nodes, name, [value(i) for i in inputs], [value(o) for o in outputs],
                              initializer=more.pop("initializer", []))
    metadata = more.pop("metadata", {})
    opsets = [helper.make_opsetid(*entry) for entry in [("", 19)] + more.pop("domains", [])]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9,
                              producer_name="make_models", **more)
    helper.set_model_props(model, metadata)
    checker.check_model(model)
    save(model, os.path.join(FOLDER, name + ".onnx"))


def main():
    os.makedirs(FOLDER, exist_ok=True)
    write("add", [helper.make_node("Add", ["x", "y"], ["sum"])],
          [("x", FLOAT, [2, 3]), ("y", FLOAT, [2, 3])], [("sum", FLOAT, [2, 3])],
          doc_string="adds two arrays", metadata={"author": "nobody", "long": "word " * 100})
    write("open", [helper.make_node("Neg", ["tokens"], ["negated"])],
          [("tokens", FLOAT, ["batch", 3, None])], [("negated", FLOAT, ["batch", 3, None])])
    write("divide", [helper.make_node("Div", ["a", "b"], ["ratio"])],
          [("a", FLOAT, [4]), ("b", FLOAT, [4])], [("ratio", FLOAT, [4])])

    names = ["plain", "a/b:0", ".hidden", "100%", "two words", "\u00fcber", "esc\x1b[31m",
             "n" * 240]
    write("names", [helper.make_node("Identity", ["in/put=1"], [name]) for name in names],
          [("in/put=1", FLOAT, [1])], [(name, FLOAT, [1]) for name in names])

    types = ["FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "INT8", "UINT8", "INT16", "UINT16", "INT32",
             "UINT32", "INT64", "UINT64", "BOOL", "FLOAT8E4M3FN", "FLOAT8E5M2"]
    write("types",
          [helper.make_node("Identity", ["in_" + t.lower()], ["out_" + t.lower()]) for t in types],
          [("in_" + t.lower(), getattr(TensorProto, t), [3]) for t in types],
          [("out_" + t.lower(), getattr(TensorProto, t), [3]) for t in types])
    write("large", [helper.make_node("Identity", ["x"], ["y"])], [("x", TensorProto.INT64, [2])],
          [("y", TensorProto.INT64, [2])])
    write("text", [helper.make_node("Identity", ["words"], ["same"])],
          [("words", TensorProto.STRING, [2])], [("same", TensorProto.STRING, [2])])
    write("gather", [helper.make_node("Gather", ["table", "index"], ["row"])],
          [("index", TensorProto.INT64, [1])], [("row", FLOAT, [1])],
          initializer=[helper.make_tensor("table", FLOAT, [3], [10.0, 20.0, 30.0])])

    # A node without a name, one of a domain that nobody knows, an input left out, subgraphs.
    branches = [helper.make_graph(
        [helper.make_node(op, ["half", "bias"], [op.lower()], name=op)], op, [],
        [helper.make_tensor_value_info(op.lower(), FLOAT, [None] * 3)]) for op in ("Add", "Mul")]
    write("nodes",
          [helper.make_node("MaxPool", ["x"], ["half", ""], kernel_shape=[2], strides=[2]),
           helper.make_node("If", ["flag"], ["chosen"], "choice", then_branch=branches[0],
                            else_branch=branches[1]),
           helper.make_node("Clip", ["chosen", "", "most"], ["y"], "limit"),
           helper.make_node("Mystery", ["y"], ["z"], "secret", domain="example.mystery")],
          [("x", FLOAT, ["batch", 3, 8]), ("flag", TensorProto.BOOL, [])],
          [("y", FLOAT, [None] * 3), ("z", FLOAT, [None] * 3)], domains=[("example.mystery", 2)],
          initializer=[helper.make_tensor("bias", FLOAT, [4], [1.0, 2.0, 3.0, 4.0]),
                       helper.make_tensor("most", FLOAT, [], [6.0])])


main()
