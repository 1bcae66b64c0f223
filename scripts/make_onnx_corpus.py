#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of fuzz_onnx: small models that have every message and storage of ONNX between
them. Run it from anywhere with a Python that has onnx; the result is committed."""

import os

import numpy
import onnx
from onnx import TensorProto as T
from onnx import helper as h

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/fuzz/corpus/onnx")


def save(name, graph, **more):
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8, **more)
    model.metadata_props.add(key="author", value="kiln")
    with open(os.path.join(FOLDER, name), "wb") as file:
        file.write(model.SerializeToString())
    return model


def value(name, dtype=T.FLOAT, shape=("n", 3)):
    return h.make_tensor_value_info(name, dtype, shape)


def main():
    os.makedirs(FOLDER, exist_ok=True)
    x, y = value("x"), value("y")
    relu = h.make_node("Relu", ["x"], ["y"], name="relu", doc_string="d")
    save("relu", h.make_graph([relu], "g", [x], [y], value_info=[value("z")]))

    tensors = []
    for dtype, values in ((T.FLOAT, [1.5, 2]), (T.DOUBLE, [1.5, 2]), (T.INT64, [-1, 7]),
                          (T.UINT64, [1, 2**63]), (T.INT8, [-1, 5]), (T.FLOAT16, [1.5, 2]),
                          (T.BOOL, [0, 1]), (T.INT4, [1, -2]), (T.STRING, [b"a", b""]),
                          (T.COMPLEX64, [1 + 2j, 3]), (T.BFLOAT16, [1, 2]), (T.UINT32, [1, 2])):
        tensors.append(h.make_tensor(f"t{dtype}", dtype, [2], values))
    tensors.append(onnx.numpy_helper.from_array(numpy.ones((2, 2), numpy.float32), "raw"))
    external = T(name="external", data_type=T.FLOAT, dims=[2], data_location=T.EXTERNAL)
    for key, text in (("location", "w.bin"), ("offset", "64"), ("length", "8"), ("checksum", "0")):
        external.external_data.add(key=key, value=text)
    save("tensors", h.make_graph([relu], "g", [x], [y], initializer=tensors))
    save("external", h.make_graph([relu], "g", [x], [y], initializer=[external]))

    then = h.make_graph([h.make_node("Identity", ["x"], ["a"])], "then", [], [value("a")])
    other = h.make_graph([h.make_node("Neg", ["x"], ["b"])], "else", [], [value("b")])
    branch = h.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)
    save("branches", h.make_graph([branch], "g", [x, value("c", T.BOOL, [])], [y]))

    odd = h.make_node("Odd", ["x", "", "x"], ["y", ""], domain="com.example", f=1.5, i=-2, s="s",
                      floats=[1.0, 2.0], ints=[1, 2, 3], strings=["a", "b"], t=tensors[0])
    odd.attribute.append(h.make_attribute("ts", tensors[:2]))
    odd.attribute.append(h.make_attribute("gs", [then, other]))
    odd.attribute.append(h.make_attribute("tp", h.make_tensor_type_proto(T.FLOAT, [1])))
    odd.attribute.append(onnx.AttributeProto(name="r", ref_attr_name="q", type=1))
    save("attributes", h.make_graph([odd], "g", [x], [y]))

    types = [
        h.make_tensor_sequence_value_info("s", T.FLOAT, None),
        h.make_value_info("o", h.make_optional_type_proto(h.make_tensor_type_proto(T.INT64, []))),
        h.make_value_info("m", h.make_map_type_proto(T.INT64, h.make_tensor_type_proto(1, None))),
        h.make_sparse_tensor_value_info("p", T.FLOAT, [2, 2]),
    ]
    values = h.make_tensor("sparse", T.FLOAT, [1], [1])
    sparse = h.make_sparse_tensor(values, h.make_tensor("", T.INT64, [1, 2], [0, 1]), [2, 2])
    save("types", h.make_graph([relu], "g", [x, *types], [y], sparse_initializer=[sparse]))

    function = h.make_function("com.example", "F", ["a"], ["b"],
                               [h.make_node("Relu", ["a"], ["b"])], [h.make_opsetid("", 17)],
                               attributes=["alpha"])
    call = h.make_node("F", ["x"], ["y"], domain="com.example")
    save("function", h.make_graph([call], "g", [x], [y]), functions=[function])


if __name__ == "__main__":
    main()
