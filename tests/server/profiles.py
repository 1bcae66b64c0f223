#!/usr/bin/env python3
"""Models with dynamic dimensions on TensorRT (the stand-in), which builds for ranges of shapes.

    tests/server/profiles.py KILN FAKES

SPDX-License-Identifier: Apache-2.0
"""
import os
import sys
import tempfile

from onnx import TensorProto, helper, save

from serve_process import Server, skip_unless_built

KILN, FAKES = map(os.path.abspath, sys.argv[1:])
SIZED = """max_batch_size: 5
input [ { name: "x" data_type: TYPE_FP32 dims: [ 6 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 6 ] } ]
"""
# Dimensions, config.pbtxt, the most rows of a request.
MODELS = {"rows": (["batch", 4], None, 32), "few": (["batch", 4], "max_batch_size: 5\n", 5),
          "sized": (["batch", "width"], SIZED, 5), "fixed": ([3, 4], None, 3),
          "wide": (["batch", "width"], None, None)}


def make(folder, dims, config):
    os.makedirs(os.path.join(folder, "1"))
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", info[:1], info[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
         os.path.join(folder, "1", "model.onnx"))
    if config is not None:
        with open(os.path.join(folder, "config.pbtxt"), "w", encoding="utf-8") as file:
            file.write(config)


def infer(server, name, shape):
    count = shape[0] * shape[1]
    return server.json("POST", f"/v2/models/{name}/infer", {"inputs": [
        {"name": "x", "shape": shape, "datatype": "FP32", "data": [-1.0, 2.0] * (count // 2)}]})


def main():
    skip_unless_built(KILN)
    with tempfile.TemporaryDirectory() as scratch:
        folder = os.path.join(scratch, "models")
        for name, (dims, config, _) in MODELS.items():
            make(os.path.join(folder, name), dims, config)
        here = {"KILN_BACKEND": "tensorrt", "XDG_CACHE_HOME": scratch,
                "KILN_TENSORRT": os.path.join(FAKES, "tensorrt", "10"),
                "KILN_CUDA_DRIVER": os.path.join(FAKES, "cuda", "libcuda.so.1")}
        with Server(KILN, [folder, "--lenient"], environment=here) as server:
            for name, (dims, _, most) in MODELS.items():
                width = 4 if dims[1] == 4 else 6
                if most is None:
                    index = server.json("POST", "/v2/repository/index")[1]
                    reason = [entry["reason"] for entry in index if entry["name"] == name][0]
                    assert "give dimension 1 in config.pbtxt" in reason, reason
                    continue
                for rows in {most, 1 if dims[0] == "batch" else most}:
                    status, answer = infer(server, name, [rows, width])
                    assert status == 200, (name, answer)
                    assert answer["outputs"][0]["data"] == [0, 2] * (rows * width // 2), answer
                assert infer(server, name, [most + 1, width])[0] == 400, name
                print("ok", name, flush=True)


main()
