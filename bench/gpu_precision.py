#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Smaller types on TensorRT: Kiln's passes against trtexec's flags, the same models and ranges, in
turns.

    gpu_precision.py BUILD FOLDER TRTEXEC OUT

BUILD is a folder with bin/kiln and src/libkiln.so; models and plans go to FOLDER, the figures to
OUT as JSON, after each of them, and as a table to standard output. Ends before PRECISION_SECONDS
(540). PRECISION_MODELS and PRECISION_BATCHES say which.

A latency is the median of trtexec's GPU compute time of a plan, in a captured graph without
transfers; both sides in turns, the best of the turns. An error is the root of the mean square
difference from PyTorch's float32, by that of PyTorch's results, at batch 8 on new inputs.
"""
import json
import os
import re
import subprocess
import sys
import time

import numpy

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
for place in (os.getcwd(), ROOT):
    sys.path += [os.path.join(place, "bench"), os.path.join(place, "tests", "precision")]
import export_models  # pylint: disable=wrong-import-position
from kiln_api import Kiln  # pylint: disable=wrong-import-position

BEGIN = time.monotonic()
LIMIT = float(os.environ.get("PRECISION_SECONDS", "540"))
MODELS = os.environ.get("PRECISION_MODELS", "resnet50 bert efficientnet vit").split()
BATCHES = [int(n) for n in os.environ.get("PRECISION_BATCHES", "1 8 32").split()]
SHAPES = {"bert": "ids=Nx128 mask=Nx128"}
# What is compared, in the order of importance: its name, Kiln's conversion, trtexec's flags, and
# what it is measured against where trtexec has no such flag.
KINDS = [("fp16", ["-p", "fp16"], ["--fp16"], None),
         ("int8", ["-p", "int8"], ["--int8"], None),
         ("int8+fp16", ["-p", "int8", "--rest", "fp16"], ["--int8", "--fp16"], None),
         ("fp8+fp16", ["-p", "fp8", "--rest", "fp16"], None, "fp16"),
         ("int4+fp16", ["-p", "int4", "--rest", "fp16", "--block", "128"], None, "fp16")]
TURNS = 2


def left():
    """Seconds until the limit."""
    return LIMIT - (time.monotonic() - BEGIN)


class Model:
    """A model, its plans and what is known of them."""

    def __init__(self, build, folder, trtexec, name):
        self.build, self.folder, self.trtexec, self.name = build, folder, trtexec, name
        self.path = f"{folder}/{name}.onnx"
        self.cache = f"{folder}/{name}.cache"
        self.plans = {}
        self.feeds = self.expected = None

    def command(self, what, *words):
        """Runs a program; its output is kept in FOLDER/NAME.WHAT.log."""
        begin = time.monotonic()
        with open(f"{self.folder}/{self.name}.{what}.log", "ab") as log:
            code = subprocess.run(words, stdout=log, stderr=log, check=False,
                                  timeout=max(left(), 1)).returncode
        print(f"  {self.name} {what}: {time.monotonic() - begin:.1f} s"
              f"{'' if code == 0 else f', ended with {code}'}", file=sys.stderr)
        return code == 0

    def prepare(self):
        """The ONNX file, PyTorch's results, and the ranges of its tensors."""
        import torch

        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        export_models.export(self.folder, self.name)
        module, names = export_models.make(self.name)
        module = module.cuda()
        torch.manual_seed(8)
        values = export_models.feed(self.name, 8, "cuda")
        with torch.no_grad():
            result = module(*values)
        self.expected = result.float().cpu().numpy()
        self.feeds = {name: value.cpu().numpy() for name, value in zip(names, values)}
        data = f"{self.folder}/{self.name}.data"
        os.makedirs(data, exist_ok=True)
        for index in range(2):
            torch.manual_seed(100 + index)
            batch = export_models.feed(self.name, 1, "cpu")
            numpy.savez(f"{data}/{index}.npz",
                        **{name: value.numpy() for name, value in zip(names, batch)})
        return self.command("calibrate", f"{self.build}/bin/kiln", "calibrate", self.path, "--data",
                            data, "-o", self.cache, "-b", "reference", "-t", "16")

    def shapes(self, batch):
        """NAME:DIMS of every input, as trtexec has it."""
        text = SHAPES.get(self.name, "x=Nx3x224x224").replace("N", str(batch))
        return ",".join(word.replace("=", ":") for word in text.split())

    def by_kiln(self, kind, words):
        """Converts and builds; the plan, or None."""
        converted = f"{self.folder}/{self.name}.{kind}.onnx"
        plan = f"{self.folder}/{self.name}.{kind}.kiln.plan"
        text = SHAPES.get(self.name, "x=Nx3x224x224")
        profile = re.sub(r"=(\S+)", lambda m: "=" + ":".join(
            m[1].replace("N", str(n)) for n in (1, 8, 32)), text)
        done = self.command(f"{kind}.kiln", f"{self.build}/bin/kiln", "quantize", self.path, "-o",
                            converted, "-r", self.cache, *words) and \
            self.command(f"{kind}.kiln", f"{self.build}/bin/kiln", "build", converted, "-o", plan,
                         "-b", "tensorrt", "-p", profile, "--timing-cache",
                         f"{self.folder}/timing.cache", "--verbosity", "detailed")
        return plan if done else None

    def by_trtexec(self, kind, words):
        """Builds with flags; the plan, or None."""
        plan = f"{self.folder}/{self.name}.{kind}.trtexec.plan"
        calibration = [f"--calib={self.cache}"] if "--int8" in words else []
        done = self.command(f"{kind}.trtexec", self.trtexec, f"--onnx={self.path}",
                            f"--saveEngine={plan}", "--skipInference", *words, *calibration,
                            f"--minShapes={self.shapes(1)}", f"--optShapes={self.shapes(8)}",
                            f"--maxShapes={self.shapes(32)}",
                            f"--timingCacheFile={self.folder}/timing.cache")
        return plan if done else None

    def latency(self, plan, batch):
        """Milliseconds of the GPU, the median."""
        text = subprocess.run([self.trtexec, f"--loadEngine={plan}",
                               f"--shapes={self.shapes(batch)}", "--useCudaGraph",
                               "--noDataTransfers", "--useSpinWait", "--warmUp=200",
                               "--duration=1", "--iterations=20"], capture_output=True, text=True,
                              check=False, timeout=max(left(), 1)).stdout
        found = re.search(r"GPU Compute Time:.*?median = ([\d.]+) ms", text)
        return float(found[1]) if found else None

    def error(self, kiln, plan):
        """Of the plan's results at batch 8."""
        result = kiln.run(plan, self.feeds, ["y"], load=True, backend="tensorrt")[0]
        wrong = result.astype(float) - self.expected
        return float(numpy.sqrt(numpy.mean(wrong ** 2) /
                                numpy.mean(self.expected.astype(float) ** 2)))


def layer_types(kiln, plan):
    """How many layers of a plan give each type, as its inspector says."""
    return kiln.layer_types(plan)


def compare(model, kiln, kind, words, flags, against):
    """One row for each batch."""
    ours = model.by_kiln(kind, words)
    if flags is not None:
        model.plans[kind] = model.by_trtexec(kind, flags)
    theirs = model.plans.get(kind if flags is not None else against)
    if ours is None or theirs is None:
        return [{"model": model.name, "kind": kind, "failed": "kiln" if ours is None else "peer"}]
    if kind == "fp16":
        model.plans["fp16"] = ours if theirs is None else theirs
    errors = [model.error(kiln, plan) for plan in (ours, theirs)]
    rows = []
    for batch in BATCHES:
        times = ([], [])
        for turn in range(TURNS):
            for side in (0, 1) if turn % 2 == 0 else (1, 0):
                times[side].append(model.latency((ours, theirs)[side], batch))
        best = [min(t for t in side if t is not None) for side in times]
        rows.append({"model": model.name, "kind": kind, "batch": batch, "kiln_ms": best[0],
                     "peer_ms": best[1], "ratio": best[0] / best[1], "kiln_error": errors[0],
                     "peer_error": errors[1], "peer": " ".join(flags or [against])})
        print(f"{model.name:13} {kind:10} {batch:3} {best[0]:9.4f} ms {best[1]:9.4f} ms "
              f"{best[0] / best[1]:6.3f}   error {errors[0]:.3g} {errors[1]:.3g}", flush=True)
    try:
        rows[0]["layer_types"] = layer_types(kiln, ours)
    except Exception as failure:  # a figure more, not the point
        print(f"  {failure}", file=sys.stderr)
    return rows


def main():
    build, folder, trtexec, out = sys.argv[1:5]
    kiln = Kiln(f"{build}/src/libkiln.so")
    models, rows = [], []
    print("model         kind     batch      kiln         peer   ratio")
    for name in MODELS:
        model = Model(build, folder, trtexec, name)
        try:
            if model.prepare():
                models.append(model)
        except Exception as failure:  # of one model: the others go on
            print(f"  {name}: {failure}", file=sys.stderr)
    for kind, words, flags, against in KINDS:
        for model in models:
            if left() < 75:
                print(f"left out for want of time: {model.name} {kind}", flush=True)
                continue
            try:
                rows += compare(model, kiln, kind, words, flags, against)
            except Exception as failure:  # likewise
                print(f"  {model.name} {kind}: {failure}", file=sys.stderr)
                rows.append({"model": model.name, "kind": kind, "failed": str(failure)})
            with open(out, "w", encoding="utf-8") as file:
                json.dump(rows, file, indent=1)
    return 0 if rows else 1


sys.exit(main())
