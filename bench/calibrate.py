#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`kiln calibrate` against ONNX Runtime's Python quantizer: the same batches, in turns.

    bench/calibrate.py KILN MODEL [--batches N] [--rows N] [--rounds N] [--method entropy|minmax]...
                       [--backend NAME] [--provider cpu|cuda] [--floor]

Each side is a process of its own, which reads the same .npz files: seconds are those of the whole
process, but for Python's start and imports; memory is the largest resident set that the kernel saw.
The medians of the rounds, and their ratio, are printed; with --floor also the same of the model's
own runs in ONNX Runtime, a batch on each processor and each on one thread, which look at nothing:
no calibration by the library can go below. Inputs are normal numbers, or bytes where the model
wants integers.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time


def shapes_of(model, rows):
    """{name: (type, shape)}, a dynamic dimension 0 as `rows`, others as 64."""
    import onnx
    found = {}
    graph = onnx.load(model, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        if value.name not in weights:
            tensor = value.type.tensor_type
            found[value.name] = (tensor.elem_type, [
                dim.dim_value if dim.HasField("dim_value") else rows if at == 0 else 64
                for at, dim in enumerate(tensor.shape.dim)])
    return found


def make_batches(model, folder, count, rows):
    import numpy
    import onnx
    random = numpy.random.RandomState(1)
    for batch in range(count):
        arrays = {}
        for name, (kind, shape) in shapes_of(model, rows).items():
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
            is_float = dtype.kind == "f"
            drawn = random.standard_normal(shape) if is_float else random.randint(0, 256, shape)
            arrays[name] = drawn.astype(dtype)
        numpy.savez(f"{folder}/b{batch:04}.npz", **arrays)


def quantizer(model, folder, method, provider):
    """One calibration by ONNX Runtime's quantizer; prints the seconds."""
    import numpy
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.files = iter(sorted(os.listdir(folder)))

        def get_next(self):
            name = next(self.files, None)
            return dict(numpy.load(f"{folder}/{name}")) if name else None

    begun, before = time.monotonic(), os.times()
    providers = [("CUDA" if provider == "cuda" else "CPU") + "ExecutionProvider"]
    methods = {"entropy": CalibrationMethod.Entropy, "minmax": CalibrationMethod.MinMax}
    with tempfile.TemporaryDirectory() as scratch:
        calibrator = create_calibrator(
            model, augmented_model_path=f"{scratch}/augmented.onnx", providers=providers,
            calibrate_method=methods[method])
        calibrator.collect_data(Reader())
        tensors = len(calibrator.compute_data().data)
    after = os.times()
    print(json.dumps({"seconds": time.monotonic() - begun, "tensors": tensors,
                      "processor": after.user + after.system - before.user - before.system}))


def alone(model, folder):
    """The model's own runs on the batches, and nothing else; prints the seconds."""
    from concurrent.futures import ThreadPoolExecutor
    import numpy
    import onnxruntime
    begun, before = time.monotonic(), os.times()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(name):
        session.run(None, dict(numpy.load(f"{folder}/{name}")))

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(run, sorted(os.listdir(folder))))
    after = os.times()
    print(json.dumps({"seconds": time.monotonic() - begun, "tensors": 0,
                      "processor": after.user + after.system - before.user - before.system}))


# A process has the peak of the one that starts it for its least, so a small one does that.
STARTER = """import os, sys
_, status, usage = os.wait4(os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:]), 0)
print(f"\\n{usage.ru_utime + usage.ru_stime} {usage.ru_maxrss / 1024}")
sys.exit(status != 0)"""


def measured(command):
    """What it printed, its seconds by the clock and of processors, and its peak in MiB."""
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-ISc", STARTER, *command], capture_output=True,
                          text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{command[:3]}: {done.stderr[-2000:]}")
    output, figures = done.stdout.rstrip("\n").rsplit("\n", 1)
    processor, peak = map(float, figures.split())
    return output, (time.monotonic() - begun, processor, peak)


def compare(options, folder, method):
    own = [options.kiln, "calibrate", options.model, "-d", folder + "/data", "-o",
           folder + "/r.json", "-b", options.backend, "-m", method, *options.kiln_option]
    other = [sys.executable, __file__, options.kiln, options.model, "--provider",
             options.provider, "--quantizer", folder + "/data", method]
    rows = {"kiln": [], "quantizer": []}
    python = {"quantizer": other}
    if options.floor:
        rows["model alone"] = []
        python["model alone"] = other[:-1] + ["alone"]
    for _ in range(options.rounds):
        rows["kiln"].append(measured(own)[1])
        for side, command in python.items():
            text, (_, _, peak) = measured(command)
            said = json.loads(text.splitlines()[-1])
            rows[side].append((said["seconds"], said["processor"], peak))
    with open(folder + "/r.json", encoding="utf-8") as file:
        tensors = len(json.load(file)["ranges"])
    middle = {side: [statistics.median(part) for part in zip(*found)]
              for side, found in rows.items()}
    ratios = [theirs / mine for mine, theirs in zip(middle["kiln"], middle["quantizer"])]
    if options.floor:
        floor = [theirs / mine for mine, theirs in zip(middle["model alone"], middle["quantizer"])]
        print(f"the floor: {floor[0]:.1f} times as fast as the quantizer, {floor[1]:.1f} in "
              f"processors, {1 / floor[2]:.3f} of its memory")
    print(f"{os.path.basename(options.model)} {method}, {options.batches} batches, "
          f"{tensors} tensors: "
          + ", ".join(f"{name} {clock:.2f} s, {processor:.2f} s of processors, {peak:.0f} MiB"
                      for name, (clock, processor, peak) in middle.items())
          + f": {ratios[0]:.1f} times as fast, {ratios[1]:.1f} in processors, "
          f"{1 / ratios[2]:.3f} of its memory", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kiln")
    parser.add_argument("model")
    parser.add_argument("--batches", type=int, default=16)
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--method", action="append", choices=["entropy", "minmax"])
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--kiln-option", action="append", default=[])
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--floor", action="store_true")
    parser.add_argument("--quantizer", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quantizer:
        folder, method = options.quantizer
        return (alone(options.model, folder) if method == "alone" else
                quantizer(options.model, folder, method, options.provider))
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(folder + "/data")
        make_batches(options.model, folder + "/data", options.batches, options.rows)
        for method in options.method or ["entropy", "minmax"]:
            compare(options, folder, method)
    return None


if __name__ == "__main__":
    main()
