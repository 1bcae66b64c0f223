#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every layer that the builder offers, judged by others.

    check_layers.py <save_layers> <scratch folder> <docs/network.md>

Each saved network goes through onnx.checker (full) and strict onnx.shape_inference, then through
ONNX Runtime and ONNX's reference implementation with the same inputs; their outputs must agree
within the bound of the case. The same network of another operator set must agree too, which is what
shows that an operator put together of others does what the one operator does. The page of the
documentation must give each case its bound.
"""

import collections
import os
import re
import subprocess
import sys

import numpy
import onnx
import onnx.reference
import onnxruntime

# What ONNX's reference does not do as the standard says; ONNX Runtime and Kiln's executor agree.
LEFT_OUT = {
    "recurrent_lengths": (None, "it takes no notice of lengths"),
    "lp_windows": ({"LpPool.2", "LpPool.10", "LpPool.18"}, "its LpPool rounds sizes up otherwise"),
}
DTYPES = {1: numpy.float32, 6: numpy.int32, 7: numpy.int64, 9: numpy.bool_}


def inputs_of(model, case):
    numbers = numpy.random.default_rng(7)
    feeds = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = [dim.dim_value for dim in kind.shape.dim]
        dtype = DTYPES[kind.elem_type]
        if dtype == numpy.float32:
            low = 0.01 if case == "unary" else -1
            feeds[value.name] = numbers.uniform(low, 1, shape).astype(dtype)
        else:
            feeds[value.name] = numbers.integers(0, 2 if dtype == numpy.bool_ else 9, shape).astype(
                dtype)
    return feeds


def distance(a, b):
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{a.dtype}{a.shape} and {b.dtype}{b.shape}"
    if a.size == 0:
        return 0.0
    if a.dtype.kind != "f":
        return float(numpy.max(a.astype(numpy.float64) != b.astype(numpy.float64)))
    a, b = a.astype(numpy.float64), b.astype(numpy.float64)
    same = (a == b) | (numpy.isnan(a) & numpy.isnan(b))
    with numpy.errstate(invalid="ignore"):
        return float(numpy.max(numpy.where(same, 0, abs(a - b) / (1 + abs(a)))))


def lrn(x, size, alpha, beta, bias):
    """Its formula: ONNX's reference leaves the last of the `size` channels out."""
    total = numpy.zeros_like(x)
    for c in range(x.shape[1]):
        first, last = max(0, c - (size - 1) // 2), min(x.shape[1], c + size // 2 + 1)
        total[:, c] = (x[:, first:last] ** 2).sum(axis=1)
    return x / (bias + alpha / size * total) ** beta


def run_reference(model, feeds):
    outputs = onnx.reference.ReferenceEvaluator(model).run(None, feeds)
    for i, value in enumerate(model.graph.output):
        if value.name == "lrn":
            outputs[i] = lrn(feeds["x"], 3, 0.1, 0.75, 1.0).astype(numpy.float32)
    return outputs


def run_runtime(path, feeds):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def documented(page):
    """The bound of each case in the table of the page."""
    bounds = {}
    for line in open(page, encoding="utf-8"):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 3 and re.fullmatch(r"[0-9][0-9.e-]*", cells[1]):
            bounds.update((case.strip("` "), float(cells[1])) for case in cells[0].split(","))
    return bounds


def main():
    program, folder = sys.argv[1], sys.argv[2]
    stated = documented(sys.argv[3])
    os.makedirs(folder, exist_ok=True)
    saved = subprocess.run([program, folder], capture_output=True, text=True)
    if saved.returncode != 0:
        print(saved.stderr)
        return 1
    results = collections.defaultdict(dict)
    failures = 0
    worst = collections.defaultdict(float)
    for line in saved.stdout.splitlines():
        path, bound = line.split()
        case, opset, _ = os.path.basename(path).split(".")
        bound = float(bound)
        if stated.get(case) != bound:
            print(f"{case}: its bound is {bound:g}, the documentation says {stated.get(case)}")
            failures += 1
        names, why = LEFT_OUT.get(case, (set(), ""))
        model = onnx.load(path)
        try:
            onnx.checker.check_model(model, full_check=True)
            onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True,
                                              data_prop=True)
            feeds = inputs_of(model, case)
            found = run_runtime(path, feeds)
        except Exception as error:
            print(f"{path}: {error}")
            failures += 1
            continue
        results[case][opset] = found
        others = [(f"operator set {k}", v) for k, v in results[case].items() if k != opset]
        try:
            others.append(("ONNX's reference", run_reference(model, feeds)))
        except Exception as error:  # it lacks operators and forms of them
            print(f"{path}: ONNX's reference cannot run it: {str(error)[:120]}")
        for other, outputs in others:
            for value, a, b in zip(model.graph.output, found, outputs):
                if other == "ONNX's reference" and (names is None or value.name in names):
                    continue
                apart = distance(a, numpy.asarray(b))
                if isinstance(apart, str) or not apart <= bound:
                    print(f"{path}: \"{value.name}\": {apart} from {other}, {bound:g} is allowed")
                    failures += 1
                else:
                    worst[case] = max(worst[case], apart)
    for case, (_, why) in LEFT_OUT.items():
        print(f"{case}: not all compared with ONNX's reference: {why}")
    for case, apart in worst.items():
        print(f"{case}: at most {apart:.2g} apart")
    print(f"{len(saved.stdout.splitlines())} networks, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
