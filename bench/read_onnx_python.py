#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kiln_network_from_onnx, then onnx.load on the same files in the same run: time, what each adds to
the process, and how many times as much the onnx package takes.

    read_onnx_python.py BENCH_READ_ONNX FOLDER
"""
import os
import subprocess
import sys
import time

import onnx


def resident():
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def load(path):
    """Milliseconds and MiB; the files' pages are in memory already."""
    before, begin = resident(), time.perf_counter()
    model = onnx.load(path)
    spent = (time.perf_counter() - begin) * 1e3
    added = resident() - before
    del model
    return spent, added


def main():
    bench, folder = sys.argv[1:3]
    out = subprocess.run([bench, folder], check=True, capture_output=True, text=True).stdout
    print(f"{'':34} {'kiln ms':>9} {'heap MiB':>9} {'onnx ms':>9} {'adds MiB':>9} {'times':>8}")
    for line in out.splitlines():
        name, what, spent, heap = line.split("\t")
        load_spent, added = load(os.path.join(folder, name))
        print(f"{what:34} {float(spent):9.3f} {float(heap):9.2f} {load_spent:9.1f} {added:9.1f} "
              f"{load_spent / float(spent):8.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
