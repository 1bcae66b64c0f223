#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plans of gpu_precision.py, built one after the other in a process of their own.

    gpu_precision_build.py BUILD FOLDER NAME DEADLINE JOB...

A JOB is SIDE:MODEL:KIND, SIDE kiln, peer or torch; NAME is MODEL_SIDE. FOLDER/timing.NAME.cache
keeps what was timed, also when DEADLINE (seconds as time.time() gives them) stops a build; the next
run begins with what FOLDER/known has of it, of all sides of the model, so that they choose by the
same. FOLDER/builds.jsonl gets a line for each job.
"""
import glob
import json
import os
import struct
import subprocess
import sys
import time

import numpy

import gpu_precision as bench
import export_models  # found where gpu_precision looks
from nvidia_bindings import Bindings

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


def make_monitor(trt, deadline):
    """Stops a build where its time is up; what was timed until then is kept."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self):
            trt.IProgressMonitor.__init__(self)
            self.is_late = False

        def phase_start(self, *_):
            pass

        def phase_finish(self, *_):
            pass

        def step_complete(self, *_):
            self.is_late = time.time() > deadline
            return not self.is_late

    return Monitor()


def read_network(bindings, path, flags):
    """The network of an ONNX file, and TensorRT's parser, which holds its weights."""
    network = bindings.builder.create_network(flags)
    parser = bindings.trt.OnnxParser(network, bindings.logger)
    if not parser.parse_from_file(path):
        bindings.fail("parse")
    return network, parser


def configured(bindings, model, timings):
    """As trtexec has it: one profile, a timing cache."""
    config = bindings.builder.create_builder_config()
    config.profiling_verbosity = bindings.trt.ProfilingVerbosity.DETAILED
    known = b""
    if os.path.exists(timings):
        with open(timings, "rb") as file:
            known = file.read()
    config.set_timing_cache(config.create_timing_cache(known), False)
    profile = bindings.builder.create_optimization_profile()
    for name, *shapes in model.ranges():
        profile.set_shape(name, *shapes)
    config.add_optimization_profile(profile)
    if bench.level_of(model.name):
        config.builder_optimization_level = bench.level_of(model.name)
    return config


def build(bindings, network, config, plan, timings, deadline):
    """Until the deadline at most."""
    config.progress_monitor = watch = make_monitor(bindings.trt, deadline)
    blob = bindings.builder.build_serialized_network(network, config)
    bench.write(timings, bytes(config.get_timing_cache().serialize()))
    if blob is None:
        bindings.fail("stopped" if watch.is_late else "build")
    bench.write(plan, bytes(blob))


def build_peer(bindings, model, flags, plan, timings, deadline):
    """A plan by TensorRT's own flags, as trtexec sets them."""
    trt = bindings.trt
    network, _parser = read_network(bindings, model.path, 0)
    config = configured(bindings, model, timings)
    for flag in flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    lacking = []
    if "INT8" in flags:
        cache = None
        if model.name not in bench.CALIBRATE:
            scales = known_scales(f"{model.folder}/{model.name}.cache")
            lacking = complete(trt, network, scales)
            rows = [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in scales.items()]
            cache = "\n".join(["TRT-100600-EntropyCalibration2", *rows, ""]).encode()
        else:
            config.set_calibration_profile(at_four(bindings, model))
        batches = bench.calibration(model.name) if cache is None else []
        keep = make_calibrator(trt, bindings.driver, batches, cache)
        config.int8_calibrator = keep
    build(bindings, network, config, plan, timings, deadline)
    return {"tensors_without_range": len(lacking), "of_them": lacking[:5]}


def build_export(bindings, model, plan, timings, deadline):
    """A plan of what PyTorch exports in float16."""
    path = f"{model.folder}/{model.name}_fp16.onnx"
    if not os.path.exists(path):
        subprocess.run([sys.executable, export_models.__file__, model.folder,
                        f"{model.name}_fp16"], check=True)
    typed = 1 << int(bindings.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network, _parser = read_network(bindings, path, typed)
    build(bindings, network, configured(bindings, model, timings), plan, timings, deadline)
    return {}


def at_four(bindings, model):
    """The profile of the batches of a calibration."""
    profile = bindings.builder.create_optimization_profile()
    for name, shape in model.inputs.items():
        profile.set_shape(name, *[(4, *shape)] * 3)
    return profile


# --- Kiln ---


def build_kiln(kiln, model, kind, plan, timings, deadline):
    """A plan by Kiln's passes; what was achieved."""
    words = dict(bench.KINDS[kind][0])
    if "int8" in kind or "fp8" in kind:
        words["ranges"] = f"{model.folder}/{model.name}.ranges.json"
    if bench.level_of(model.name):
        words["builder_optimization_level"] = bench.level_of(model.name)
    profile = " ".join(f"{key}=" + ":".join("x".join(map(str, shape)) for shape in shapes)
                       for key, *shapes in model.ranges())
    achieved = kiln.build(model.path, plan + ".new", seconds=deadline - time.time(),
                          backend="tensorrt", profiles=profile, timing_cache=timings,
                          profiling_verbosity="detailed", **words)
    os.replace(plan + ".new", plan)
    return {"achieved": achieved}


def combine(bindings, folder, name, timings):
    """What is known of the model's timings, where the builds of this process begin."""
    config, made = bindings.builder.create_builder_config(), None
    for path in sorted(glob.glob(f"{folder}/known/timing.{name.rsplit('_', 1)[0]}_*.cache")):
        with open(path, "rb") as file:
            known = config.create_timing_cache(file.read())
        made = known if made is None else made
        if made is not known and not made.combine(known, False):
            bindings.fail("timings")
    if made is not None:
        bench.write(timings, bytes(made.serialize()))


def main():
    build, folder, name, deadline, jobs = *sys.argv[1:4], float(sys.argv[4]), sys.argv[5:]
    timings = f"{folder}/timing.{name}.cache"
    bindings, kiln = Bindings(), bench.Kiln(f"{build}/src/libkiln.so")
    combine(bindings, folder, name, timings)
    for job in jobs:
        side, model_name, kind = job.split(":")
        plan = f"{folder}/{model_name}.{kind}.{side}.plan"
        row, begin = {"job": job}, time.time()
        if os.path.exists(plan) or begin > deadline:
            continue
        bindings.logger.lines.clear()
        try:
            model = bench.Model(build, folder, model_name)
            if side == "kiln":
                row.update(build_kiln(kiln, model, kind, plan, timings, deadline))
            elif side == "torch":
                row.update(build_export(bindings, model, plan, timings, deadline))
            else:
                row.update(build_peer(bindings, model, bench.KINDS[kind][1], plan, timings,
                                      deadline))
        except Exception as failure:  # of one plan: the others are built
            row["failed"] = str(failure)[:600]
        row["seconds"] = round(time.time() - begin, 1)
        with open(f"{folder}/builds.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
