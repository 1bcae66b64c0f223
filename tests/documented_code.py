#!/usr/bin/env python3
"""Compiles the C example of README.md and runs it on a small model, so that it cannot rot.

    tests/readme_example.py README.md COMPILER FLAG...

SPDX-License-Identifier: Apache-2.0
"""
import os
import re
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper


def write_model(path, weights):
    """scores = softmax(mean of each channel of image times weights)."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes, "readme",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 5])],
        [onnx.numpy_helper.from_array(weights, "weights")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def main():
    readme, command = sys.argv[1], sys.argv[2:]
    with open(readme, encoding="utf-8") as file:
        code = re.search(r"```c\n(.*?)```", file.read(), re.S).group(1)
    with tempfile.TemporaryDirectory() as folder:
        source, program = os.path.join(folder, "readme.c"), os.path.join(folder, "readme")
        with open(source, "w", encoding="utf-8") as file:
            file.write(code)
        subprocess.run(command[:1] + ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror",
                                      source, "-o", program] + command[1:], check=True)
        rng = np.random.default_rng(7)
        weights = rng.standard_normal((3, 5)).astype(np.float32)
        image = rng.standard_normal((1, 3, 8, 8)).astype(np.float32)
        write_model(os.path.join(folder, "model.onnx"), weights)
        np.save(os.path.join(folder, "image.npy"), image)
        done = subprocess.run([program], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"the example failed: {done.stderr}")
        logits = image.mean(axis=(2, 3)) @ weights
        scores = np.exp(logits) / np.exp(logits).sum()
        found = float(done.stdout.split()[-1])
        if abs(found - scores[0, 0]) > 1e-4:
            sys.exit(f"expected {scores[0, 0]}, found {done.stdout}")
        os.remove(os.path.join(folder, "model.onnx"))
        done = subprocess.run([program], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 1 or "model.onnx" not in done.stderr:
            sys.exit(f"without a model: status {done.returncode}, {done.stderr}")
        print(f"first score {found}, as expected")


main()
