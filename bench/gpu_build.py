#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long a model takes to become an engine, the first time in a process and the second: through
Kiln and through NVIDIA's Python bindings, in turns, each in a fresh process.

    bench/gpu_build.py PROGRAM LIBNVINFER ROUNDS MODEL COUNT [NAME=MIN:OPT:MAX]...

PROGRAM is bench_gpu_build. The bindings (the module tensorrt_bindings or tensorrt) must be of the
library's version, and be found by Python. Both sides have opened the libraries and made a CUDA
context before the clock runs, build strongly typed, and end with an engine that can be run. Prints
JSON: milliseconds of each build, and Kiln's by the bindings' of the same round.
"""
import ctypes
import json
import statistics
import subprocess
import sys
import time


def worker(model, count, profiles):
    try:
        import tensorrt_bindings as trt
    except ImportError:
        import tensorrt as trt
    cuda = ctypes.CDLL("libcuda.so.1")
    context = ctypes.c_void_p()
    assert cuda.cuInit(0) == 0 and cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
    assert cuda.cuCtxPushCurrent_v2(context) == 0
    logger = trt.Logger(trt.Logger.ERROR)
    found = []
    for _ in range(count):
        begin = time.monotonic()
        runtime = trt.Runtime(logger)
        builder = trt.Builder(logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, logger)
        config = builder.create_builder_config()
        assert parser.parse_from_file(model)
        if profiles:
            profile = builder.create_optimization_profile()
            for item in profiles:
                name, shapes = item.rsplit("=", 1)
                shapes = [[int(d) for d in part.split("x")] for part in shapes.split(":")]
                profile.set_shape(name, *shapes)
            config.add_optimization_profile(profile)
        plan = builder.build_serialized_network(network, config)
        assert plan is not None
        engine = runtime.deserialize_cuda_engine(plan)
        assert engine is not None
        found.append((time.monotonic() - begin) * 1e3)
        del engine, plan, config, parser, network, builder, runtime
    print(json.dumps(found))


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{command[0]}: {done.returncode}: {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    program, library, rounds, model, count, *profiles = sys.argv[1:]
    sides = {
        "kiln": [program, library, model, count, *profiles],
        "bindings": [sys.executable, __file__, "--worker", model, count, *profiles],
    }
    times = {side: [] for side in sides}
    for turn in range(int(rounds)):
        for side in sorted(sides, reverse=turn % 2 == 0):
            times[side].append(run(sides[side]))
            print(f"{model} {side}: {times[side][-1]}", file=sys.stderr, flush=True)
    ratios = {}
    for index, what in enumerate(("first", "second")[: int(count)]):
        pairs = [k[index] / b[index] for k, b in zip(times["kiln"], times["bindings"])]
        ratios[what] = [min(pairs), statistics.median(pairs), max(pairs)]
    print(json.dumps({"model": model.rsplit("/", 1)[-1], "ms": times, "ratio": ratios}))


if sys.argv[1] == "--worker":
    worker(sys.argv[2], int(sys.argv[3]), sys.argv[4:])
else:
    main()
