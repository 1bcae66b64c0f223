#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long a model takes to become an engine, the first time in a process and again: through Kiln
and through NVIDIA's Python bindings, in turns, each in a fresh process.

    bench/gpu_build.py PROGRAM LIBNVINFER ROUNDS MODEL COUNT [NAME=MIN:OPT:MAX]...

PROGRAM is bench_gpu_build. COUNT builds in each process, 2 at least: what is not the first counts
as a second one. The bindings (the module tensorrt_bindings or tensorrt) must be of the library's
version, and be found by Python. Both sides have opened the libraries and made a CUDA context before
the clock runs, build strongly typed, and end with an engine that can be run. Kiln builds twice more
with its cache of engines on, which then has the plan. Prints JSON: of each build milliseconds and
those of TensorRT's own call in it, and Kiln's by the bindings' of the same round (least, median,
most); "second_own": of a second build, what is TensorRT's own call in Kiln by all of the bindings'.
"""
import ctypes
import json
import statistics
import subprocess
import sys
import tempfile
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
        own = time.monotonic()
        plan = builder.build_serialized_network(network, config)
        own = (time.monotonic() - own) * 1e3
        assert plan is not None
        engine = runtime.deserialize_cuda_engine(plan)
        assert engine is not None
        found.append(((time.monotonic() - begin) * 1e3, own))
        del engine, plan, config, parser, network, builder, runtime
    print(json.dumps(found))


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{command[0]}: {done.returncode}: {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout.splitlines()[-1])


def ratios(kiln, bindings, part=0):
    """Of rounds: Kiln's time by the bindings', for builds in pairs."""
    pairs = [k[part] / b[0] for ks, bs in zip(kiln, bindings) for k, b in zip(ks, bs)]
    return [min(pairs), statistics.median(pairs), max(pairs)]


def main():
    program, library, rounds, model, count, *profiles = sys.argv[1:]
    sides = {
        "kiln": [program, "--cache", "FOLDER", library, model, count, *profiles],
        "bindings": [sys.executable, __file__, "--worker", model, count, *profiles],
    }
    times = {side: [] for side in sides}
    for turn in range(int(rounds)):
        for side in sorted(sides, reverse=turn % 2 == 0):
            with tempfile.TemporaryDirectory() as folder:
                command = [folder if part == "FOLDER" else part for part in sides[side]]
                times[side].append(run(command))
            print(f"{model} {side}: {times[side][-1]}", file=sys.stderr, flush=True)
    times["cached"] = [builds[-1:] for builds in times["kiln"]]
    times["kiln"] = [builds[:-2] for builds in times["kiln"]]
    first = {side: [builds[:1] for builds in times[side]] for side in sides}
    again = {side: [builds[1:] for builds in times[side]] for side in sides}
    found = {"first": ratios(first["kiln"], first["bindings"]),
             "second": ratios(again["kiln"], again["bindings"]),
             "second_own": ratios(again["kiln"], again["bindings"], 1),
             "second_cached": ratios(times["cached"], again["bindings"])}
    print(json.dumps({"model": model.rsplit("/", 1)[-1], "ms": times, "ratio": found}))


if sys.argv[1] == "--worker":
    worker(sys.argv[2], int(sys.argv[3]), sys.argv[4:])
else:
    main()
