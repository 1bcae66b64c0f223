#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Time and memory of a build through Kiln and through NVIDIA's Python bindings of TensorRT-RTX.

    bench/tensorrt_build.py DRIVER DEPS_DIR [ROUNDS [MODEL]...]

DRIVER is tests/tensorrt/tensorrt_share_driver. Each round builds each model once in a fresh process
of either, taking turns in who is first; a small model before it opens the libraries. Shown are the
shortest time, which other work on the machine disturbs least, the median, and the peak of memory;
then Kiln's time by the bindings' in the same round, the median and quartiles of all rounds, by the
clock and in time of the processors, which other work on the machine hardly disturbs.
"""
import glob
import os
import statistics
import subprocess
import sys

VERSION = "1.7.1.116"

WORKER = r"""
import resource, sys, time
sys.path[:0] = sys.argv[1:3]
import tensorrt_rtx_bindings as trt
logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
for line in sys.stdin:
    path, *inputs = line.rstrip("\n").split("\t")
    begin, cpu = time.monotonic(), time.process_time()
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    assert parser.parse_from_file(path)
    if inputs:
        profile = builder.create_optimization_profile()
        for item in inputs:
            name, shape = item.rsplit("=", 1)
            shape = [int(d) for d in shape.split("x")]
            profile.set_shape(name, shape, shape, shape)
        config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None
    end, cpu_end = time.monotonic(), time.process_time()
    del plan, config, parser, network, builder
    print(f"{path}\t{(end - begin) * 1e3:.3f}", file=sys.stderr)
    print(f"cpu:{path}\t{(cpu_end - cpu) * 1e3:.3f}", file=sys.stderr)
print(f"peak\t{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}", file=sys.stderr)
"""


def measure(command, lines):
    done = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True,
                          check=True)
    found = dict(line.split("\t") for line in done.stderr.splitlines() if line.count("\t") == 1)
    path = lines[-1].split("\t")[0]
    return float(found[path]), float(found["cpu:" + path]), float(found["peak"]) / 1024


def pairs(found):
    """Median and quartiles of the ratio within a round."""
    ratios = [own / theirs - 1 for own, theirs in zip(found["Kiln"], found["Python"])]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:+.1%} ({low:+.1%} to {high:+.1%})"


def main():
    driver, deps = sys.argv[1:3]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    rtx = f"{deps}/tensorrt/rtx-{VERSION}"
    bindings = f"{deps}/tensorrt/bindings-{VERSION}"
    first = "/usr/share/libonnx-testdata/data/node/test_sigmoid/model.onnx"
    light = f"{deps}/python/lib/python3*/site-packages/onnx/backend/test/data/light"
    models = {
        "light_resnet50": glob.glob(f"{light}/light_resnet50.onnx"),
        "rapidocr det": [f"{deps}/models/rapidocr/det.onnx", "x=1x3x640x640"],
        "rapidocr rec": [f"{deps}/models/rapidocr/rec.onnx", "x=1x3x48x320"],
        "magika": [f"{deps}/models/magika/model.onnx", "bytes=8x2048"],
    }
    if not os.path.isdir(rtx) or not os.path.isdir(bindings):
        print("skipped: scripts/install_deps.sh tensorrt installs what is missing")
        return
    sides = {
        "Kiln": [driver, f"{rtx}/tensorrt_rtx_libs", "89"],
        "Python": [sys.executable, "-c", WORKER, bindings, rtx],
    }
    print(f"{'model':16} {'':7} {'shortest':>10} {'median':>10} {'peak':>9}")
    for model, request in models.items():
        if len(sys.argv) > 4 and model not in sys.argv[4:]:
            continue
        times = {side: [] for side in sides}
        work = {side: [] for side in sides}
        peaks = {side: [] for side in sides}
        for turn in range(rounds):
            for side in sorted(sides, reverse=turn % 2 == 1):
                time, cpu, peak = measure(sides[side], [first, "\t".join(request)])
                times[side].append(time)
                work[side].append(cpu)
                peaks[side].append(peak)
        for side in sides:
            print(f"{model:16} {side:7} {min(times[side]):7.0f} ms "
                  f"{statistics.median(times[side]):7.0f} ms {min(peaks[side]):5.0f} MiB",
                  flush=True)
        shortest = min(times["Kiln"]) / min(times["Python"]) - 1
        print(f"{'':24} {shortest:+10.1%}    by the clock {pairs(times)}, in work {pairs(work)}",
              flush=True)


main()
