#!/usr/bin/env python3
"""Triton's perf_analyzer: by HTTP and gRPC, one call at a time, at once, as a stream, and with its
tensors in shared memory.

    tests/server/perf_analyzer.py KILN

It is PyPI's perf-analyzer, which needs glibc 2.38; the packages of tritonclient up to 2.46 have one
for older systems. Skipped where none is found on PATH.

SPDX-License-Identifier: Apache-2.0
"""
import os
import re
import shutil
import subprocess
import sys

from serve_process import Server, identities, linear, scratch_for, write

KILN = os.path.abspath(sys.argv[1])
PROGRAM = shutil.which("perf_analyzer")
# As Triton names what is batched, which makes it send a batch.
CONFIG = """
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 4 ] } ]
dynamic_batching { }
"""
HTTP, GRPC = [], ["-i", "grpc"]
SHARED = ["--shared-memory", "system"]
RUNS = [("linear", HTTP + ["-b", "4"]), ("linear", HTTP + ["-a"]), ("linear", HTTP + SHARED),
        ("linear", HTTP + ["--request-rate-range", "300"]),
        ("linear", HTTP + ["--input-tensor-format", "json", "--output-tensor-format", "json"]),
        ("linear", GRPC), ("linear", GRPC + ["-a", "-b", "8"]), ("linear", GRPC + ["--streaming"]),
        ("linear", GRPC + SHARED), ("linear", GRPC + ["--grpc-compression-algorithm", "gzip"]),
        ("linear", GRPC + ["--grpc-compression-algorithm", "deflate"]),
        ("words", GRPC + ["--shape", "in_BYTES:5"]), ("words", HTTP + ["--shape", "in_BYTES:5"])]


def measure(server, model, more):
    """What it prints, once it is content with the server's statistics."""
    port = server.grpc_port if "grpc" in more else server.port
    load = [] if "--request-rate-range" in more else ["--concurrency-range", "4"]
    done = subprocess.run(
        [PROGRAM, "-m", model, "-u", f"127.0.0.1:{port}", "-p", "200", "--max-trials", "9", "-s",
         "999", *load, *more], capture_output=True, text=True, timeout=100, check=False)
    said = done.stdout + done.stderr
    if "Cannot open CUDA runtime library" in said:
        return "not run: this perf_analyzer opens libcudart.so for shared memory of any kind"
    assert done.returncode == 0, (model, more, said)
    assert not re.search("error|fail|unable", said, re.I), (model, more, said)
    count = re.search(r"Successful request count: (\d+)", said)
    assert count and int(count.group(1)) > 10, (model, more, said)
    return re.search(r"[Tt]hroughput: [\d.]+ infer/sec", said).group(0)


def main():
    if PROGRAM is None:
        print("skipped: no perf_analyzer on PATH")
        sys.exit(77)
    with scratch_for(KILN) as folder:
        linear(os.path.join(folder, "linear", "1", "model.onnx"), 2.0)
        write(os.path.join(folder, "linear", "config.pbtxt"), CONFIG)
        identities(os.path.join(folder, "words.onnx"), ["n"], [("BYTES", "STRING", "O")])
        with Server(KILN, [folder, "--grpc-port", "0", "--shared-memory"]) as server:
            for model, more in RUNS:
                print("ok", model, *more, measure(server, model, more), flush=True)


main()
