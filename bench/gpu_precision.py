#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Smaller types on TensorRT: Kiln's passes against TensorRT's own flags.

    gpu_precision.py BUILD FOLDER OUT

BUILD is a folder with src/libkiln.so (and bin/kiln where a model has no ranges yet). FOLDER has, or
gets from PyTorch, of each model NAME: NAME.onnx, NAME.ranges.json and NAME.cache (what Kiln's
calibration says by mean square error and by entropy) and NAME.expected.npy (float32's result for
the feed of seed 8). OUT gets one line of JSON for each model.

First PRECISION_WORKERS (8) processes build plans at once, until PRECISION_SECONDS (540) less
PRECISION_MEASURE (45), with timing caches: FOLDER/timing.*.cache are kept when a build is stopped
too, and moved to FOLDER/known they are where the next run begins. Then what plans there are of a
model are timed, alone. PRECISION_CASES ("resnet50:int8 bert:fp8+fp16") chooses.

The peer is a weakly typed network of the same file with BuilderFlags FP16 and INT8, as trtexec
--fp16 --int8 sets them, and a calibrator: the cache that entropy gives of the same batches, with
the ranges of constants added, so that nothing lacks one; or, of the models that PRECISION_CALIBRATE
names, IInt8EntropyCalibrator2 on the batches themselves. Both sides have the profile 1:8:32, and
TensorRT's own optimization level unless PRECISION_LEVEL ("2", "efficientnet=2") says one. Of the
models that PRECISION_EXPORTS names, PyTorch's own export in fp16 is built as well, which has other
weights.

fp32 is no type of Kiln's: the model as it is, beside TensorRT's flags that quantize nothing of it.

A latency is the median of the GPU's time of a captured graph without transfers, all plans of a
model in turns, the best of the turns. An error is the root of the mean square difference from
float32 by that of float32's results.
"""
import ctypes
import functools
import json
import lzma
import os
import subprocess
import sys
import time

import numpy

HERE = os.path.dirname(os.path.abspath(__file__))
for place in (os.getcwd(), os.path.dirname(HERE)):
    sys.path += [os.path.join(place, part) for part in ("bench", "tests/precision", "tests/gpu")]
sys.path.insert(0, HERE)
from kiln_api import Kiln  # noqa: F401  pylint: disable=wrong-import-position,unused-import
from nvidia_bindings import Bindings, dtype_of  # pylint: disable=wrong-import-position

LEVELS = os.environ.get("PRECISION_LEVEL", "0").split()
EXPORTS = os.environ.get("PRECISION_EXPORTS", "").split()
CALIBRATE = os.environ.get("PRECISION_CALIBRATE", "").split()
BATCHES = (1, 8, 32)
TOKENS = 128
TURNS, REPEATS = 8, 40
HALF = {"precision_rest": "fp16"}
# The kinds: Kiln's options, and the peer's flags or the kind of Kiln's that it is measured by.
KINDS = {
    "fp16": ({"precision": "fp16"}, ["FP16"]),
    "int8": ({"precision": "int8"}, ["INT8"]),
    "int8+fp16": ({"precision": "int8", **HALF}, ["INT8", "FP16"]),
    "fp8+fp16": ({"precision": "fp8", **HALF}, "fp16"),
    "int4+fp16": ({"precision": "int4", **HALF}, "fp16"),
    "fp32": ({}, "fp32"),
}
# In the order of their worth.
CASES = """bert:int8 resnet50:int8 vit:int8 efficientnet:int8 bert:fp8+fp16 vit:fp8+fp16 bert:fp16
    vit:fp16 efficientnet:fp16 bert:int8+fp16 vit:int8+fp16 efficientnet:int8+fp16 bert:fp32
    vit:fp32 resnet50:fp16 resnet50:int8+fp16 bert:int4+fp16 vit:int4+fp16"""


@functools.lru_cache(maxsize=8)
def feed(name, batch, seed):
    """Inputs of a model by name, the same with every version of NumPy."""
    def raw(seed, count):
        return numpy.random.PCG64(seed).random_raw(count)

    if name == "bert":
        ids = (raw(seed, batch * TOKENS) % 30000).astype(numpy.int64).reshape(batch, TOKENS)
        return {"ids": ids, "mask": numpy.ones((batch, TOKENS), numpy.int64)}
    count = batch * 3 * 224 * 224
    fine = raw(seed, (count + 7) // 8).view(numpy.uint8)[:count].reshape(batch, 3, 224, 224)
    coarse = raw(seed + 1, batch * 3 * 7 * 7) % 256
    coarse = coarse.reshape(batch, 3, 7, 7).repeat(32, axis=2).repeat(32, axis=3)
    return {"x": ((coarse * 3 + fine) / 1020).astype(numpy.float32)}


def calibration(name):
    """The batches that ranges come from."""
    return [feed(name, 4, seed) for seed in range(100, 104)]


def level_of(name):
    """Of a model's builds; 0: TensorRT's own."""
    said = dict(word.split("=") if "=" in word else ("", word) for word in LEVELS)
    return int(said.get(name, said.get("", 0)))


class Model:
    """Files of one model, made where they are missing."""

    def __init__(self, build, folder, name):
        self.build, self.folder, self.name = build, folder, name
        self.path = f"{folder}/{name}.onnx"
        self.inputs = {key: value.shape[1:] for key, value in feed(name, 1, 1).items()}
        if not os.path.exists(self.path):
            self.export()
        data = f"{folder}/{name}.batches"
        for method, end in (("mse", "ranges.json"), ("entropy", "cache")):
            if not os.path.exists(f"{folder}/{name}.{end}"):
                os.makedirs(data, exist_ok=True)
                for index, batch in enumerate(calibration(name)):
                    numpy.savez(f"{data}/{index}.npz", **batch)
                subprocess.run([f"{build}/bin/kiln", "calibrate", self.path, "-d", data, "-m",
                                method, "-o", f"{folder}/{name}.{end}"], check=True)

    def export(self):
        """From PyTorch, with what it computes."""
        import export_models
        import torch

        export_models.export(self.folder, self.name)
        module, names = export_models.make(self.name)
        values = feed(self.name, 8, 8)
        with torch.no_grad():
            result = module(*[torch.from_numpy(values[key]) for key in names])
        numpy.save(f"{self.folder}/{self.name}.expected.npy", result.numpy())

    def ranges(self):  # (name, least, most common, largest shape) of each input
        return [(key, *[(n, *shape) for n in BATCHES]) for key, shape in self.inputs.items()]


def write(path, data):  # whole, or not at all
    with open(path + ".part", "wb") as file:
        file.write(data)
    os.replace(path + ".part", path)


# --- plans ---


class Plan:
    """A plan in this process, bound to memory of its own."""

    def __init__(self, bindings, path):
        self.bindings, self.driver, self.trt = bindings, bindings.driver, bindings.trt
        with open(path, "rb") as file:
            self.engine = bindings.runtime.deserialize_cuda_engine(file.read())
        self.context = self.engine.create_execution_context() if self.engine is not None else None
        if self.context is None:
            bindings.fail("load")
        self.held = {}
        self.names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]

    def is_input(self, name):
        return self.engine.get_tensor_mode(name) == self.trt.TensorIOMode.INPUT

    def bind(self, values):
        for name in sorted(self.names, key=self.is_input, reverse=True):
            dtype = dtype_of(self.trt, self.engine.get_tensor_dtype(name))
            if self.is_input(name):
                self.context.set_input_shape(name, values[name].shape)
            shape = tuple(self.context.get_tensor_shape(name))
            size = int(numpy.prod(shape)) * dtype.itemsize
            if name in self.held:
                self.driver.release(self.held.pop(name))
            self.held[name] = self.driver.allocate(size)
            if self.is_input(name):
                self.driver.write(self.held[name],
                                  numpy.ascontiguousarray(values[name].astype(dtype)))
            self.context.set_tensor_address(name, self.held[name])

    def enqueue(self):
        if not self.context.execute_async_v3(self.driver.stream.value):
            self.bindings.fail("run")

    def run(self, values, output="y"):
        self.bind(values)
        self.enqueue()
        self.driver.wait()
        dtype = dtype_of(self.trt, self.engine.get_tensor_dtype(output))
        result = numpy.zeros(tuple(self.context.get_tensor_shape(output)), dtype)
        self.driver.read(result, self.held[output])
        return result.astype(numpy.float32)

    def capture(self):
        """A graph of one run."""
        cuda, check, stream = self.driver.cuda, self.driver.check, self.driver.stream
        graph, made = ctypes.c_void_p(), ctypes.c_void_p()
        self.enqueue()
        self.driver.wait()
        check(cuda.cuStreamBeginCapture_v2(stream, 2))
        self.enqueue()
        check(cuda.cuStreamEndCapture(stream, ctypes.byref(graph)))
        check(cuda.cuGraphInstantiateWithFlags(ctypes.byref(made), graph, ctypes.c_ulonglong(0)))
        return made

    def layers(self):
        inspector = self.engine.create_engine_inspector()
        return json.loads(inspector.get_engine_information(self.trt.LayerInformationFormat.JSON))

    def times_of_layers(self, runs=10):
        """Milliseconds by layer, of what is bound."""
        found = {}

        class Profiler(self.trt.IProfiler):
            def __init__(self):
                outer.trt.IProfiler.__init__(self)

            def report_layer_time(self, layer, milliseconds):
                found[layer] = found.get(layer, 0) + milliseconds / runs

        outer = self
        self.context.profiler = Profiler()
        for _ in range(runs):
            self.enqueue()
            self.driver.wait()
        return sorted(found.items(), key=lambda item: -item[1])

    def close(self):
        for address in self.held.values():
            self.driver.release(address)
        self.context = self.engine = None


def replay(driver, graph, events, repeats):
    """Milliseconds of each."""
    begin, end = events
    times = []
    for _ in range(repeats):
        driver.check(driver.cuda.cuEventRecord(begin, driver.stream))
        driver.check(driver.cuda.cuGraphLaunch(graph, driver.stream))
        driver.check(driver.cuda.cuEventRecord(end, driver.stream))
        driver.wait()
        took = ctypes.c_float()
        driver.check(driver.cuda.cuEventElapsedTime(ctypes.byref(took), begin, end))
        times.append(took.value)
    return float(numpy.median(times))


def measure(driver, plans, name, batch):
    """Milliseconds of each plan: the best of the turns."""
    events = (ctypes.c_void_p(), ctypes.c_void_p())
    for event in events:
        driver.check(driver.cuda.cuEventCreate(ctypes.byref(event), 0))
    graphs = []
    for plan in plans:
        plan.bind(feed(name, batch, 5))
        graphs.append(plan.capture())
        replay(driver, graphs[-1], events, REPEATS)
    best = [1e9] * len(plans)
    for turn in range(TURNS):
        for side in (range(len(plans)) if turn % 2 == 0 else reversed(range(len(plans)))):
            best[side] = min(best[side], replay(driver, graphs[side], events, REPEATS))
    for graph in graphs:
        driver.cuda.cuGraphExecDestroy(graph)
    return best


# --- builds ---


def jobs_of(cases):
    """SIDE:MODEL:KIND of each plan, once, by the process that builds it."""
    groups = {}
    for case in cases:
        name, kind = case.split(":")
        peer = KINDS[kind][1]
        for side, what in (("kiln", kind), ("kiln", peer) if isinstance(peer, str)
                           else ("peer", kind)):
            jobs = groups.setdefault(f"{name}_{side}", [])
            if f"{side}:{name}:{what}" not in jobs:
                jobs.append(f"{side}:{name}:{what}")
    groups.update({f"{name}_torch": [f"torch:{name}:fp16"] for name in EXPORTS})
    return groups


def build_all(build, folder, groups, deadline):
    """So many processes at once, each with the jobs of a group; those that do not stop are killed
    ten seconds late."""
    waiting, running = list(groups.items()), []
    most = int(os.environ.get("PRECISION_WORKERS", "8"))
    worker = os.path.join(HERE, "gpu_precision_build.py")
    while waiting or running:
        running = [process for process in running if process.poll() is None]
        while waiting and len(running) < most and time.time() < deadline:
            name, jobs = waiting.pop(0)
            command = [sys.executable, "-W", "ignore", worker, build, folder, name, str(deadline)]
            running.append(subprocess.Popen(command + jobs))
        if time.time() > deadline:
            waiting = []
        if time.time() > deadline + 10:
            for process in running:
                process.kill()
        time.sleep(0.1)


# --- what comes of it ---


def error_of(got, expected):
    got = got[:, ::8] if got.shape != expected.shape else got
    return float(numpy.sqrt(numpy.mean((got - expected) ** 2) / numpy.mean(expected ** 2)))


def measure_model(bindings, folder, name):
    """The row of a model and its plans by name, which are left open."""
    paths = {file[len(name) + 1:-5]: f"{folder}/{file}" for file in sorted(os.listdir(folder))
             if file.startswith(name + ".") and file.endswith(".plan")}
    plans = {what: Plan(bindings, path) for what, path in paths.items()}
    expected = numpy.load(f"{folder}/{name}.expected.npy").astype(float)
    row = {"model": name, "plans": list(plans),
           "bytes": [os.path.getsize(path) for path in paths.values()],
           "error": [None if what.endswith(".torch") else
                     error_of(plan.run(feed(name, 8, 8)), expected)
                     for what, plan in plans.items()]}
    row["ms"] = {batch: measure(bindings.driver, list(plans.values()), name, batch)
                 for batch in BATCHES}
    return row, plans


def write_layers(folder, name, what, plan):
    """What the inspector says of a plan, with the time of each layer."""
    said = {"layers": plan.layers()}
    for batch in BATCHES:
        plan.bind(feed(name, batch, 5))
        said[f"ms at {batch}"] = plan.times_of_layers()
    with lzma.open(f"{folder}/{name}.{what}.layers.json.xz", "wt", preset=1) as file:
        json.dump(said, file)


def say(row):
    print(row["model"])
    for index, what in enumerate(row["plans"]):
        times = " ".join(f"{row['ms'][batch][index]:8.4f}" for batch in BATCHES)
        print(f"    {what:20} {times}  error {row['error'][index]}", flush=True)


def main():
    build, folder, out = sys.argv[1:4]
    end = time.time() + float(os.environ.get("PRECISION_SECONDS", "540"))
    cases = os.environ.get("PRECISION_CASES", CASES).split()
    models = list(dict.fromkeys(case.split(":")[0] for case in cases))
    for name in models:
        Model(build, folder, name)
    deadline = end - float(os.environ.get("PRECISION_MEASURE", "45"))
    build_all(build, folder, jobs_of(cases), deadline)
    bindings, measured = Bindings(builder=False), []
    for name in models:
        if time.time() > end - 5:
            break
        try:
            row, plans = measure_model(bindings, folder, name)
        except Exception as failure:  # of one model: the others are measured
            print(name, failure)
            continue
        measured += [(name, *item) for item in plans.items()]
        say(row)
        with open(out, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    for item in measured:
        if time.time() < end - 1:
            write_layers(folder, *item)


if __name__ == "__main__":
    main()
