#!/usr/bin/env python3
"""Reading, inferring and checking graphs of 5,000 to 100,000 nodes: bench_costs, and for some of
them the onnx package in the same run, with the ratio.

    infer_python.py BENCH_COSTS FOLDER

SPDX-License-Identifier: Apache-2.0
"""
import os
import subprocess
import sys
import time

import numpy as np
import onnx
import onnx.checker
import onnx.shape_inference
from onnx import TensorProto, helper, numpy_helper

SIZES = (5000, 10000, 20000, 50000, 100000)
BESIDE = (5000, 20000)  # through onnx too


def block(number, x):
    """What an exporter makes of a layer: a product, a bias, a residual, and a Reshape whose shape
    is computed. Ten nodes."""
    def name(op):
        return "/blocks.%d/%s_output_0" % (number, op)

    def node(op, inputs, **attributes):
        return helper.make_node(op, inputs, [name(op)], name=name(op), **attributes)

    return [node("MatMul", [x, "w"]), node("Add", [name("MatMul"), "b"]),
            node("Relu", [name("Add")]), node("Shape", [name("Relu")]),
            node("Gather", [name("Shape"), "zero"]), node("Unsqueeze", [name("Gather"), "axis"]),
            node("Concat", [name("Unsqueeze"), "rest"], axis=0),
            node("Reshape", [name("Relu"), name("Concat")]), node("Mul", [name("Reshape"), x]),
            node("Softmax", [name("Mul")], axis=-1)], name("Softmax")


def make_model(nodes, path):
    x, made = "x", []
    for i in range(nodes // 10):
        more, x = block(i, x)
        made += more
    weights = {"w": np.zeros((16, 16), np.float32), "b": np.zeros(16, np.float32),
               "zero": np.array(0, np.int64), "axis": np.array([0], np.int64),
               "rest": np.array([-1, 16], np.int64)}
    shape = ["batch", "seq", 16]
    graph = helper.make_graph(
        made, "blocks", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


def measure(path, runs):
    """The fastest of several runs of onnx.load, check_model and infer_shapes, in milliseconds."""
    best = None
    for _ in range(runs):
        begin = time.perf_counter()
        model = onnx.load(path)
        loaded = time.perf_counter()
        onnx.checker.check_model(model)
        checked = time.perf_counter()
        onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        end = time.perf_counter()
        now = [1e3 * (b - a) for a, b in
               ((begin, loaded), (loaded, checked), (checked, end), (begin, end))]
        best = now if best is None or now[3] < best[3] else best
    return best


def main():
    bench, folder = sys.argv[1:3]
    os.makedirs(folder, exist_ok=True)
    paths = {nodes: os.path.join(folder, "infer_%d.onnx" % nodes) for nodes in SIZES}
    for nodes, path in paths.items():
        make_model(nodes, path)
    kiln = [float(subprocess.run([bench, "check", "0", path], check=True, capture_output=True,
                                 text=True).stdout) / 1e6 for path in paths.values()]
    print("%8s %10s %10s" % ("nodes", "kiln ms", "ns a node"))
    for nodes, ms in zip(SIZES, kiln):
        print("%8d %10.2f %10.0f" % (nodes, ms, 1e6 * ms / nodes))
    print("onnx %s: load, check_model, infer_shapes(strict, data_prop)" % onnx.__version__)
    for nodes, ms in zip(SIZES, kiln):
        if nodes in BESIDE:
            load, check, infer, total = measure(paths[nodes], 3)
            print("%8d %8.2f + %.2f + %.2f = %.2f ms = %.1f x kiln"
                  % (nodes, load, check, infer, total, total / ms))
    return 0


if __name__ == "__main__":
    sys.exit(main())
