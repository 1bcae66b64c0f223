#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes products.onnx, two products of 8 x 8, and two batches for it into each FOLDER.

    make_products.py FOLDER...
"""
import os
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

weights = np.sin(np.arange(64, dtype=np.float32)).reshape(8, 8)
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["b"]),
     helper.make_node("MatMul", ["b", "w"], ["y"])], "products",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 8])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 8])],
    [numpy_helper.from_array(weights, "w")])
save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]),
     "products.onnx")
for folder in sys.argv[1:]:
    os.mkdir(folder)
    for index in range(2):
        np.save(f"{folder}/{index}.npy",
                np.cos(np.arange(32, dtype=np.float32) * (index + 2)).reshape(4, 8))
