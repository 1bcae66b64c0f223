#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes products.onnx, two products of 8 x 8, uneven.onnx, whose larger product is a little
noisier, and two batches for both into each FOLDER; spread.onnx, whose tensor is evened out before
the product that reads it, and batches for it into the folder "spread".

    make_products.py FOLDER...
"""
import os
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

weights = np.sin(np.arange(64, dtype=np.float32)).reshape(8, 8)
sides = {"wide": np.sin(np.arange(448, dtype=np.float32)).reshape(8, 56), "narrow": 2 * weights}


def write(name, nodes, width, constants):
    graph = helper.make_graph(nodes, name,
                              [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 8])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, width])],
                              [numpy_helper.from_array(value, key)
                               for key, value in constants.items()])
    save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]),
         name + ".onnx")


write("products", [helper.make_node("MatMul", ["x", "w"], ["a"]),
                   helper.make_node("Relu", ["a"], ["b"]),
                   helper.make_node("MatMul", ["b", "w"], ["y"])], 8, {"w": weights})
write("uneven", [helper.make_node("MatMul", ["x", "wide"], ["a"]),
                 helper.make_node("MatMul", ["x", "narrow"], ["b"]),
                 helper.make_node("Concat", ["a", "b"], ["y"], axis=1)], 64, sides)
write("spread", [helper.make_node("Relu", ["x"], ["a"]),
                 helper.make_node("Flatten", ["a"], ["b"]),
                 helper.make_node("MatMul", ["b", "w"], ["c"]),
                 helper.make_node("Add", ["c", "bias"], ["y"])], 8,
      {"w": weights, "bias": weights[0]})
scale = np.array([1, 10, 1, 0.1, 1, 1, 5, 1], np.float32)
for folder in [*sys.argv[1:], "spread"]:
    os.mkdir(folder)
    for index in range(2):
        batch = np.cos(np.arange(32, dtype=np.float32) * (index + 2)).reshape(4, 8)
        np.save(f"{folder}/{index}.npy",
                batch * scale + 2 * scale if folder == "spread" else batch)
