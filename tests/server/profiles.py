#!/usr/bin/env python3
"""Models with dynamic dimensions on TensorRT (the stand-in), which builds for ranges of shapes.

    tests/server/profiles.py KILN FAKES

SPDX-License-Identifier: Apache-2.0
"""
import os
import sys

from serve_process import Server, save_model, scratch_for, write

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
    dims = ",".join(map(str, dims))
    save_model(os.path.join(folder, "1", "model.onnx"),
               f"relu (float[{dims}] x) => (float[{dims}] y) {{ y = Relu (x) }}", opset=17)
    if config is not None:
        write(os.path.join(folder, "config.pbtxt"), config)


def main():
    with scratch_for(KILN) as scratch:
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
                    status, answer = server.infer(name, [[-1.0, 2.0] * (width // 2)] * rows)
                    assert status == 200, (name, answer)
                    assert answer["outputs"][0]["data"] == [0, 2] * (rows * width // 2), answer
                assert server.infer(name, [[-1.0] * width] * (most + 1))[0] == 400, name
                print("ok", name, flush=True)


main()
