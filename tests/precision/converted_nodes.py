#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every pass on each of ONNX's node and model tests: what comes out is a model that ONNX's checker
takes, that runs, and that gives what it gave before within the type's tolerance.

    converted_nodes.py LIBKILN LEAST FOLDER...

fp16, int8 and int4 run on ONNX Runtime, bf16 and fp8, of which its CPU provider has no kernels, on
the reference executor. In a second round of each, nodes that a seed chooses stay in float32, int4
has zero points, and int8 weights have seven bits; on an x86 processor without VNNI, where ONNX
Runtime cuts off sums of larger ones (docs/onnxruntime.md), they always have. Fails where fewer than
LEAST cases were compared.
"""
import collections
import ctypes
import os
import random
import sys
import tempfile

import numpy
import onnx
import onnxruntime
from onnx import numpy_helper

from kiln_api import Kiln, Precision, Refused, sums_are_cut_off

EPSILON = {Precision.FP16: 2.0 ** -10, Precision.BF16: 2.0 ** -7, Precision.INT8: 1 / 127,
           Precision.FP8: 2.0 ** -4, Precision.INT4: 1 / 7}
QUANTIZED = ("Conv", "ConvTranspose", "MatMul", "Gemm")
BY_REFERENCE = (Precision.BF16, Precision.FP8)
SEVEN_BITS = 1 / 64
# Results of the node tests go through a few operators, each of which rounds.
ROUNDINGS = 8
UNSUPPORTED = 12
# Near a pole, of strings, integers that a rounding moves, draw numbers, or show a mask of the
# smallest number of float32 as it is.
EXCUSED = ("test_tan", "STRING", "_qk_matmul_bias_3d_mask_causal",
           "_qk_matmul_bias_4d_mask_causal", "dropout", "random",
           "bernoulli", "multinomial", "dynamicquantizelinear")


def read(path):
    """A TensorProto of the test data."""
    tensor = onnx.TensorProto()
    with open(path, "rb") as file:
        tensor.ParseFromString(file.read())
    return numpy_helper.to_array(tensor)


def session(path):
    """ONNX Runtime's, silent."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def differs(before, after, feeds, epsilon):
    """What is wrong with a result, or None. Numbers may be off by roundings of the largest number
    that they can come from: the result's or an input's."""
    if before.dtype != after.dtype or before.shape != after.shape:
        return f"{before.dtype}{before.shape} became {after.dtype}{after.shape}"
    if before.dtype.kind != "f":
        return None if numpy.mean(before != after) <= 0.01 or before.size < 2 else "other integers"
    largest = 1e-3
    for array in [before] + [feed for feed in feeds.values() if feed.dtype.kind == "f"]:
        finite = array[numpy.isfinite(array)]
        largest = max(largest, numpy.abs(finite).max(initial=0))
    finite = numpy.isfinite(before)
    error = numpy.abs(before[finite].astype(float) - after[finite].astype(float)).max(initial=0)
    if not error <= ROUNDINGS * epsilon * largest:
        return f"off by {error:.3g} where the largest number is {largest:.3g}"
    return None


def freeze(path, target, data):
    """Where a product's weights are inputs of the model, as in the node tests, they become
    constants: the path of such a model, or the same."""
    model = onnx.load(path)
    inputs = model.graph.input
    if not any(node.op_type in QUANTIZED for node in model.graph.node) or len(inputs) < 2 or \
            model.ir_version < 4:
        return path
    for index in range(len(inputs) - 1, 0, -1):
        tensor = numpy_helper.from_array(read(os.path.join(data, f"input_{index}.pb")),
                                         inputs[index].name)
        if all(known.name != tensor.name for known in model.graph.initializer):
            model.graph.initializer.append(tensor)
        del inputs[index]
    onnx.save(model, target)
    return target


class Case:
    """A folder of the test data."""

    def __init__(self, kiln, folder, scratch):
        self.kiln = kiln
        self.name = os.path.basename(folder)
        data = os.path.join(folder, "test_data_set_0")
        self.path = freeze(os.path.join(folder, "model.onnx"), os.path.join(scratch, "frozen.onnx"),
                           data)
        before = session(self.path)
        self.outputs = [value.name for value in before.get_outputs()]
        self.feeds = {value.name: read(os.path.join(data, f"input_{index}.pb"))
                      for index, value in enumerate(before.get_inputs())}
        self.results = before.run(None, {name: feed.copy() for name, feed in self.feeds.items()})
        self.model = onnx.load(self.path)
        self.ranges = self.find_ranges()
        try:
            onnx.checker.check_model(self.model, full_check=True)
            self.is_sound = True
        except Exception:  # the checker's own kinds of failure
            self.is_sound = False

    def find_ranges(self):
        """Of every tensor that ONNX Runtime can give."""
        ranges = {name: (float(feed.min()), float(feed.max()))
                  for name, feed in self.feeds.items()
                  if feed.dtype.kind == "f" and feed.size and numpy.isfinite(feed).all()}
        if not any(node.op_type in QUANTIZED for node in self.model.graph.node):
            return ranges
        inner = onnx.ModelProto()
        inner.CopyFrom(self.model)
        del inner.graph.output[:]
        inner.graph.output.extend(onnx.ValueInfoProto(name=name) for node in self.model.graph.node
                                  for name in node.output if name)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        run = onnxruntime.InferenceSession(inner.SerializeToString(), options,
                                           providers=["CPUExecutionProvider"])
        for value, array in zip(run.get_outputs(), run.run(None, self.feeds)):
            if isinstance(array, numpy.ndarray) and array.dtype.kind == "f" and array.size and \
                    numpy.isfinite(array).all():
                ranges[value.name] = (float(array.min()), float(array.max()))
        return ranges

    def check(self, target, precision, seed):
        """What is wrong, "" where all is well, None where nothing was converted."""
        nodes = [node.output[0] for node in self.model.graph.node if node.output and node.output[0]]
        kept = [name for name in nodes if seed and random.Random(seed + name).random() < 0.3]
        members = {}
        epsilon = EPSILON[precision]
        if kept:
            members = {"keep_nodes": (ctypes.c_char_p * len(kept))(*[n.encode() for n in kept]),
                       "keep_node_count": len(kept)}
        if precision == Precision.INT4 and seed:
            members["zero_points"] = True
        if precision == Precision.INT8 and (seed or sums_are_cut_off()):
            members["reduce_range"] = True
            epsilon = SEVEN_BITS
        try:
            summary = self.kiln.convert(self.path, target, precision, self.ranges, **members)
        except Refused as refusal:
            return None if refusal.status == UNSUPPORTED else f"refused: {refusal}"
        if summary.converted_count == 0:
            return None
        if self.is_sound:
            onnx.checker.check_model(onnx.load(target), full_check=True)
        if precision not in BY_REFERENCE:
            # ONNX Runtime writes what it learns in training into its inputs.
            feeds = {name: feed.copy() for name, feed in self.feeds.items()}
            results = session(target).run(None, feeds)
        else:
            try:
                results = self.kiln.run(target, self.feeds, self.outputs, backend="reference")
                self.results = self.kiln.run(self.path, self.feeds, self.outputs,
                                             backend="reference")
            except Refused as refusal:
                return None if "type" in str(refusal) else f"reference: {refusal}"
        for before, after in zip(self.results, results):
            wrong = differs(before, after, self.feeds, epsilon)
            if wrong:
                return wrong
        return ""


def main():
    kiln = Kiln(sys.argv[1])
    least = int(sys.argv[2])
    counts = collections.Counter()
    folders = [os.path.join(top, name) for top in sys.argv[3:] for name in sorted(os.listdir(top))]
    with tempfile.TemporaryDirectory() as scratch:
        for folder in folders:
            try:
                case = Case(kiln, folder, scratch)
                if any(not isinstance(result, numpy.ndarray) for result in case.results):
                    raise ValueError("not of tensors alone")
            except Exception:  # what ONNX Runtime does not run says nothing of a pass
                counts["not run"] += 1
                continue
            if any(word in case.name for word in EXCUSED):
                continue
            for precision in EPSILON:
                for seed in ("", "kept"):
                    try:
                        wrong = case.check(os.path.join(scratch, "model.onnx"), precision, seed)
                    except Exception as failure:  # each is a fault of the model that came out
                        wrong = f"{type(failure).__name__}: {failure}"
                    key = "nothing" if wrong is None else "wrong" if wrong else "good"
                    counts[precision.name, key] += 1
                    if wrong:
                        print(f"{case.name} {precision.name} {seed}: {wrong[:300]}")
    for key, count in sorted(counts.items(), key=str):
        print(key, count)
    good = sum(counts[precision.name, "good"] for precision in EPSILON)
    if good < least:
        print(f"{good} cases were compared, {least} are expected")
    return good < least or any(counts[precision.name, "wrong"] for precision in EPSILON)


sys.exit(main())
