#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""onnx.load over the files that bench_read_onnx made in FOLDER, and what it adds to the process."""

import os
import sys
import time

import onnx


def resident():
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


for name in sorted(os.listdir(sys.argv[1])):
    if name.endswith(".onnx"):
        before, begin = resident(), time.perf_counter()
        model = onnx.load(os.path.join(sys.argv[1], name))
        spent = (time.perf_counter() - begin) * 1e3
        print(f"{name:34} {spent:9.3f} ms  {resident() - before:8.2f} MiB resident")
        del model
