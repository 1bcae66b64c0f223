#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Smaller types on TensorRT: Kiln's passes against TensorRT's own flags, in one process.

    gpu_precision.py BUILD FOLDER OUT

BUILD is a folder with src/libkiln.so (and bin/kiln where a model has no ranges yet). FOLDER has, or
gets from PyTorch, of each model NAME: NAME.onnx, NAME.ranges.json and NAME.cache (what Kiln's
calibration says by mean square error and by entropy) and NAME.expected.npy (float32's result for
the feed of seed 8). Plans, the timing cache and what the inspector says of each plan go there too.
OUT gets one line of JSON for each case when it is known; what is in it, or in a file that
PRECISION_DONE names, is not measured again. Ends before PRECISION_SECONDS (540);
PRECISION_CASES ("resnet50:int8 bert:fp8+fp16") chooses.

The peer is a weakly typed network of the same file with BuilderFlags FP16 and INT8, as trtexec
--fp16 --int8 sets them, and a calibrator: the cache that entropy gives of the same batches, with
the ranges of constants added, so that nothing lacks one; or, of the models that PRECISION_CALIBRATE
names, IInt8EntropyCalibrator2 on the batches themselves. Both sides build with the same timing
cache and the profile 1:8:32.

A latency is the median of the GPU's time of a captured graph without transfers, both sides in
turns, the best of the turns. An error is the root of the mean square difference from float32 by
that of float32's results.
"""
import ctypes
import json
import lzma
import os
import struct
import subprocess
import sys
import time

import numpy

HERE = os.path.dirname(os.path.abspath(__file__))
for place in (os.getcwd(), os.path.dirname(HERE)):
    sys.path += [os.path.join(place, part) for part in ("bench", "tests/precision", "tests/gpu")]
sys.path.insert(0, HERE)
from kiln_api import Kiln  # pylint: disable=wrong-import-position
from nvidia_bindings import Bindings, dtype_of  # pylint: disable=wrong-import-position

BEGIN = time.monotonic()
LIMIT = float(os.environ.get("PRECISION_SECONDS", "540"))
CALIBRATE = os.environ.get("PRECISION_CALIBRATE", "").split()
BATCHES = (1, 8, 32)
TOKENS = 128
TURNS, REPEATS = 6, 40
HALF = {"precision_rest": "fp16"}
# The kinds: Kiln's options, and the peer's flags or the kind of Kiln's that it is measured by.
KINDS = {
    "fp16": ({"precision": "fp16"}, ["FP16"]),
    "int8": ({"precision": "int8"}, ["INT8"]),
    "int8+fp16": ({"precision": "int8", **HALF}, ["INT8", "FP16"]),
    "fp8+fp16": ({"precision": "fp8", **HALF}, "fp16"),
    "int4+fp16": ({"precision": "int4", **HALF}, "fp16"),
}
# In the order of their worth.
CASES = """bert:fp8+fp16 resnet50:int8 vit:fp8+fp16 bert:int8+fp16 bert:int4+fp16 vit:int8+fp16
    efficientnet:int8+fp16 resnet50:int8+fp16 efficientnet:int8 vit:fp16 efficientnet:fp16
    resnet50:fp8+fp16 vit:int4+fp16"""
# Seconds that a build may take: weakly typed networks of int8 try every layer in every type.
SLOW = {("peer", "bert"): 130, ("peer", "vit"): 130, ("peer", "efficientnet"): 110}


def say(*words):
    print(f"{time.monotonic() - BEGIN:6.1f}", *words, flush=True)


def left():
    """Seconds until the limit."""
    return LIMIT - (time.monotonic() - BEGIN)


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


# --- the peer ---


def known_scales(path):
    """Of a calibration cache, by tensor."""
    with open(path, encoding="utf-8") as file:
        rows = [line.rsplit(": ", 1) for line in file.read().splitlines()[1:]]
    return {name: struct.unpack(">f", bytes.fromhex(bits.zfill(8)))[0] for name, bits in rows}


def complete(trt, network, scales):
    """Adds constants, and what only moves numbers; the names of what is still without a scale."""
    moves = {trt.LayerType.SHUFFLE, trt.LayerType.IDENTITY, trt.LayerType.SLICE,
             trt.LayerType.GATHER, trt.LayerType.CAST}
    lacking = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        kind = layer.type
        if kind == trt.LayerType.CONSTANT:
            layer.__class__ = trt.IConstantLayer
        for at in range(layer.num_outputs):
            tensor = layer.get_output(at)
            if tensor.name in scales or tensor.dtype not in (trt.float32, trt.float16):
                continue
            source = layer.get_input(0) if layer.num_inputs > 0 else None
            if kind == trt.LayerType.CONSTANT:
                values = numpy.asarray(layer.weights)
                most = float(numpy.abs(values).max()) if values.size else 0
                scales[tensor.name] = (most or 1) / 127
            elif kind in moves and source is not None and source.name in scales:
                scales[tensor.name] = scales[source.name]
            else:
                lacking.append(tensor.name)
    return lacking


def make_calibrator(trt, driver, batches, cache):
    """IInt8EntropyCalibrator2 with a cache, or on batches."""

    class Calibrator(trt.IInt8EntropyCalibrator2):
        def __init__(self):
            trt.IInt8EntropyCalibrator2.__init__(self)
            self.at = 0
            self.held = []

        def get_batch_size(self):
            return 4

        def get_batch(self, names, *_):
            for address in self.held:
                driver.release(address)
            self.held = []
            if self.at == len(batches):
                return None
            for name in names:
                value = batches[self.at][name]
                self.held.append(driver.allocate(value.nbytes))
                driver.write(self.held[-1], value)
            self.at += 1
            return self.held

        def read_calibration_cache(self):
            return cache

        def write_calibration_cache(self, _):
            return None

    return Calibrator()


def build_peer(bindings, model, flags, plan, timings):
    """A plan by TensorRT's own flags, as trtexec sets them."""
    trt = bindings.trt
    network = bindings.builder.create_network(0)
    parser = trt.OnnxParser(network, bindings.logger)
    if not parser.parse_from_file(model.path):
        bindings.fail("parse")
    config = bindings.builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    known = b""
    if os.path.exists(timings):
        with open(timings, "rb") as file:
            known = file.read()
    config.set_timing_cache(config.create_timing_cache(known), False)
    profile = bindings.builder.create_optimization_profile()
    for name, *shapes in model.ranges():
        profile.set_shape(name, *shapes)
    config.add_optimization_profile(profile)
    for flag in flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    lacking = []
    if "INT8" in flags:
        cache = None
        if model.name not in CALIBRATE:
            scales = known_scales(f"{model.folder}/{model.name}.cache")
            lacking = complete(trt, network, scales)
            rows = [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in scales.items()]
            cache = "\n".join(["TRT-100600-EntropyCalibration2", *rows, ""]).encode()
        else:
            config.set_calibration_profile(at_four(bindings, model))
        batches = calibration(model.name) if cache is None else []
        keep = make_calibrator(trt, bindings.driver, batches, cache)
        config.int8_calibrator = keep
    blob = bindings.builder.build_serialized_network(network, config)
    if blob is None:
        bindings.fail("build")
    write(plan, bytes(blob))
    write(timings, bytes(config.get_timing_cache().serialize()))
    return {"tensors_without_range": len(lacking), "of_them": lacking[:5]}


def at_four(bindings, model):
    """The profile of the batches of a calibration."""
    profile = bindings.builder.create_optimization_profile()
    for name, shape in model.inputs.items():
        profile.set_shape(name, *[(4, *shape)] * 3)
    return profile


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


# --- cases ---


class Bench:
    """All cases over one builder, one library and one timing cache."""

    def __init__(self, build, folder, out):
        self.build, self.folder, self.out = build, folder, out
        self.timings = f"{folder}/timing.cache"
        self.bindings = Bindings()
        self.kiln = Kiln(f"{build}/src/libkiln.so")
        self.models = {}
        self.seconds = {}
        self.achieved = {}

    def model(self, name):
        if name not in self.models:
            self.models[name] = Model(self.build, self.folder, name)
        return self.models[name]

    def plan_by(self, side, name, kind):
        """Its path; built unless it is there."""
        plan = f"{self.folder}/{name}.{kind}.{side}.plan"
        if os.path.exists(plan):
            return plan
        model, begin, said = self.model(name), time.monotonic(), {}
        if side == "kiln":
            words = dict(KINDS[kind][0])
            if "int8" in kind or "fp8" in kind:
                words["ranges"] = f"{self.folder}/{name}.ranges.json"
            profile = " ".join(f"{key}=" + ":".join("x".join(map(str, shape)) for shape in shapes)
                               for key, *shapes in model.ranges())
            self.achieved[plan] = self.kiln.build(
                model.path, plan + ".new", backend="tensorrt", profiles=profile,
                timing_cache=self.timings, profiling_verbosity="detailed", **words)
            os.replace(plan + ".new", plan)
        else:
            said = build_peer(self.bindings, model, KINDS[kind][1], plan, self.timings)
        self.seconds[plan] = round(time.monotonic() - begin, 1)
        say(name, kind, side, f"built in {self.seconds[plan]} s", said or "")
        return plan

    def sides(self, name, kind):
        """Kiln's plan, the peer's, and where there is one Kiln's in fp16: by whom, its kind."""
        peer = KINDS[kind][1]
        found = [("kiln", kind), ("kiln", peer) if isinstance(peer, str) else ("peer", kind)]
        half = ("kiln", "fp16")
        if half not in found and os.path.exists(f"{self.folder}/{name}.fp16.kiln.plan"):
            found.append(half)
        return found

    def compare(self, name, kind):
        """The row of a case."""
        peer = KINDS[kind][1]
        sides = self.sides(name, kind)
        paths = [self.plan_by(side, name, what) for side, what in sides]
        plans = [Plan(self.bindings, path) for path in paths]
        row = {"model": name, "kind": kind, "peer": peer if isinstance(peer, str) else
               "trtexec " + " ".join(f"--{flag.lower()}" for flag in peer),
               "calibrator": "own" if name in CALIBRATE else "cache",
               "achieved": self.achieved.get(paths[0]),
               "built_s": [self.seconds.get(path) for path in paths],
               "plan_bytes": [os.path.getsize(path) for path in paths]}
        expected = numpy.load(f"{self.folder}/{name}.expected.npy").astype(float)
        row["error"] = []
        for plan in plans:
            got = plan.run(feed(name, 8, 8))
            got = got[:, ::8] if got.shape != expected.shape else got
            row["error"].append(float(numpy.sqrt(numpy.mean((got - expected) ** 2) /
                                                 numpy.mean(expected ** 2))))
        row["ms"] = {n: measure(self.bindings.driver, plans, name, n) for n in BATCHES}
        row["ratio"] = {n: round(a / b, 4) for n, (a, b, *_) in row["ms"].items()}
        for (side, what), plan in zip(sides, plans):
            plan.bind(feed(name, 8, 5))
            said = {"layers": plan.layers(), "ms at 8": plan.times_of_layers()}
            with lzma.open(f"{self.folder}/{name}.{what}.{side}.layers.json.xz", "wt") as file:
                json.dump(said, file)
            plan.close()
        return row

    def go(self, cases, done):
        """Each case that is not done and that the time may allow."""
        for case in cases:
            name, kind = case.split(":")
            needed = sum(SLOW.get((side, name), 40) for side, what in self.sides(name, kind)
                         if not os.path.exists(f"{self.folder}/{name}.{what}.{side}.plan"))
            if case in done or left() < 10 + needed:
                say(case, "is done" if case in done else "left out for want of time")
                continue
            write(f"{self.folder}/begun", case.encode())
            self.bindings.logger.lines.clear()
            try:
                row = self.compare(name, kind)
                say(case, "ms", row["ms"], "ratio", row["ratio"], "error", row["error"])
            except Exception as failure:  # of one case: the others go on
                row = {"model": name, "kind": kind, "failed": str(failure)[:600]}
                say(case, row["failed"])
            with open(self.out, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def finished(paths):
    """The cases that have a row already."""
    found = set()
    for path in filter(os.path.exists, paths):
        with open(path, encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        found |= {f"{row['model']}:{row['kind']}" for row in rows}
    return found


def main():
    build, folder, out = sys.argv[1:4]
    done = finished([out, *os.environ.get("PRECISION_DONE", "").split()])
    begun = f"{folder}/begun"
    if os.path.exists(begun):  # the case that an earlier process died in
        with open(begun, encoding="utf-8") as file:
            done.add(file.read())
    bench = Bench(build, folder, out)
    say("TensorRT", bench.bindings.trt.__version__)
    bench.go(os.environ.get("PRECISION_CASES", CASES).split(), done)
    if os.path.exists(begun):
        os.remove(begun)


main()
