#!/usr/bin/env python3
"""bench_overhead, then the same models through the Python API of ONNX Runtime, with the ratios.

    overhead_python.py BENCH_OVERHEAD MAGIKA_MODEL

SPDX-License-Identifier: Apache-2.0
"""
import re
import statistics
import subprocess
import sys
import time

import numpy as np
import onnxruntime as ort

# y = Identity(x) over 64 floats, as in raw_ort.c
IDENTITY = bytes.fromhex(
    "080812003a370a100a017812017922084964656e746974791201675a0f0a017812"
    "0a0a08080112040a020840620f0a0179120a0a08080112040a02084042040a001011")


def median_ns(call, blocks, runs):
    samples = []
    for _ in range(blocks):
        begin = time.perf_counter_ns()
        for _ in range(runs):
            call()
        samples.append((time.perf_counter_ns() - begin) / runs)
    return statistics.median(samples)


def measure(model, name, array, blocks, runs):
    """Medians of session.run and of run_with_iobinding, one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {name: array}
    plain = median_ns(lambda: session.run(None, feed), blocks, runs)
    binding = session.io_binding()
    binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
    binding.bind_output(session.get_outputs()[0].name)
    bound = median_ns(lambda: session.run_with_iobinding(binding), blocks, runs)
    return plain, bound


def main():
    overhead, magika = sys.argv[1:3]
    text = subprocess.run([overhead, magika], check=True, capture_output=True, text=True).stdout
    print(text, end="")
    through_kiln = [float(value) for value in re.findall(r"kiln +([0-9.]+) ns", text)]
    cases = [
        ("identity, 64 floats", IDENTITY, "x", np.ones(64, np.float32), 100, 2000),
        ("magika", magika, "bytes", np.arange(2048, dtype=np.int32).reshape(1, -1) % 257, 50, 2),
    ]
    print(f"the same through the Python API of ONNX Runtime {ort.__version__}")
    for (what, model, name, array, blocks, runs), kiln in zip(cases, through_kiln):
        plain, bound = measure(model, name, array, blocks, runs)
        print(f"{what:22s} run {plain:10.0f} ns = {plain / kiln:6.2f} x kiln   "
              f"run_with_iobinding {bound:10.0f} ns = {bound / kiln:6.2f} x kiln")


main()
