#!/usr/bin/env python3
"""Models with dynamic dimensions on TensorRT (the stand-in), which builds for ranges of shapes.

    tests/server/profiles.py KILN FAKES

SPDX-License-Identifier: Apache-2.0
"""
import os
import shutil
import sys
import threading
import time

from serve_process import Server, save_model, scratch_for, until, write

KILN, FAKES = map(os.path.abspath, sys.argv[1:])
SIZED = """max_batch_size: 5
input [ { name: "x" data_type: TYPE_FP32 dims: [ 6 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 6 ] } ]
"""
# Dimensions, config.pbtxt, the most rows of a request.
MODELS = {"rows": (["batch", 4], None, 32), "few": (["batch", 4], "max_batch_size: 5\n", 5),
          "sized": (["batch", "width"], SIZED, 5), "fixed": ([3, 4], None, 3),
          "wide": (["batch", "width"], None, None)}


def make(folder, dims, config, operators=("Relu",)):
    dims = ",".join(map(str, dims))
    names = ["x", *(f"t{i}" for i in range(1, len(operators))), "y"]
    nodes = " ".join(f"{names[i + 1]} = {name} ({names[i]})" for i, name in enumerate(operators))
    save_model(os.path.join(folder, "1", "model.onnx"),
               f"unary (float[{dims}] x) => (float[{dims}] y) {{ {nodes} }}", opset=17)
    if config is not None:
        write(os.path.join(folder, "config.pbtxt"), config)


def test_stop(scratch, here):
    """A build that takes long is given up for a stop, at a look at the places and on request."""
    folder = os.path.join(scratch, "polled")
    long = os.path.join(folder, "long")
    here = {**here, "FAKE_TENSORRT_SILENCE": "1500", "XDG_CACHE_HOME": os.path.join(scratch, "c")}
    for asks in (False, True):
        os.makedirs(folder)
        with Server(KILN, [folder, "--poll", "1000" if asks else "0.05"],
                    environment=here) as server:
            make(long, [2, 4], None, ["Relu", "Neg", "Identity"])
            found = []
            if asks:
                thread = threading.Thread(target=lambda: found.append(server.json(
                    "POST", "/v2/repository/models/long/load", {})))
                thread.start()
            until(lambda: any(entry["state"] == "LOADING" for entry in server.json(
                "POST", "/v2/repository/index")[1]), "nothing is loaded")
            time.sleep(0.3)
            begin = time.monotonic()
            assert server.stop() == 0
            took = time.monotonic() - begin
            assert took < 3, took  # the build would take 4.5 s
            if asks:
                thread.join()
                assert found == [(503, {"error": "the server is stopping"})], found
        assert any("long, version 1: the server is stopping" in line for line in server.said), \
            server.said
        shutil.rmtree(folder)
        print("ok", "stop", round(took, 2), flush=True)


def test_lost(scratch, here):
    """A server whose GPU is gone says so to those who watch over it."""
    folder, lost = os.path.join(scratch, "served"), os.path.join(scratch, "lost")
    make(os.path.join(folder, "unary"), ["batch", 4], None)
    here = {**here, "FAKE_CUDA_LOST": "719", "FAKE_CUDA_LOST_FILE": lost}
    with Server(KILN, [folder], environment=here) as server:
        def flags():
            return [server.request("GET", f"/v2/health/{name}")[0] for name in ("live", "ready")]

        def infer():
            return server.infer("unary", [[1.0] * 4])[0]

        assert infer() == 200
        write(lost, "")
        assert [(infer(), flags()) for _ in range(2)] == [(500, [200, 200])] * 2
        assert infer() == 500
        assert flags() == [503, 503]
        assert server.lines("3 runs in a row failed on a GPU, the last of model unary") == 1
        os.remove(lost)
        assert infer() == 200
        assert flags() == [200, 200]
    print("ok", "lost", flush=True)


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
                    assert "size of dimension 1 is not known" in reason, reason
                    assert "by dims in config.pbtxt or as a plan" in reason, reason
                    continue
                for rows in {most, 1 if dims[0] == "batch" else most}:
                    status, answer = server.infer(name, [[-1.0, 2.0] * (width // 2)] * rows)
                    assert status == 200, (name, answer)
                    assert answer["outputs"][0]["data"] == [0, 2] * (rows * width // 2), answer
                assert server.infer(name, [[-1.0] * width] * (most + 1))[0] == 400, name
                print("ok", name, flush=True)
        test_lost(scratch, here)
        test_stop(scratch, here)


main()
