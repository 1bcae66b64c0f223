#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Thresholds against TensorRT's own: `kiln calibrate` on the batches for which the
IInt8EntropyCalibrator2 of TensorRT 10.6 wrote the caches beside this file, on an H200.

    thresholds.py KILN SCRATCH

Each tensor is an input of known distribution, and the Relu of it; NumPy's legacy generator gives
the same numbers everywhere, but for the last bit of a logarithm. So all must have TensorRT's bin,
and nine tenths its very bits.
"""
import os
import struct
import subprocess
import sys
import zlib

import numpy
import onnx
from onnx import TensorProto, helper

HERE = os.path.dirname(os.path.abspath(__file__))


def generator(name):
    return numpy.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)


def outlier(numbers, value):
    numbers = numpy.array(numbers, dtype=float)
    numbers[numbers.size // 3] = value
    return numbers


def softmax(x):
    e = numpy.exp(3 * x - (3 * x).max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def single(n):
    """{name: [one batch]} of n numbers."""
    def r(name):
        return generator(f"{name}{n}")

    i = numpy.arange(n)
    made = {
        "normal": r("normal").standard_normal(n),
        "normal_small": r("normal_small").standard_normal(n) * 1e-6,
        "normal_large": r("normal_large").standard_normal(n) * 1e6,
        "normal_shifted": r("normal_shifted").standard_normal(n) + 3,
        "normal_negative": -numpy.abs(r("normal_negative").standard_normal(n)),
        "uniform": r("uniform").uniform(-1, 1, n),
        "uniform01": r("uniform01").uniform(0, 1, n),
        "laplace": r("laplace").laplace(0, 1, n),
        "exponential": r("exponential").exponential(1, n),
        "student2": r("student2").standard_t(2, n),
        "student3": r("student3").standard_t(3, n),
        "cauchy": r("cauchy").standard_cauchy(n),
        "lognormal": r("lognormal").lognormal(0, 1, n),
        "lognormal2": r("lognormal2").lognormal(0, 2, n),
        "bimodal": numpy.where(r("b0").uniform(0, 1, n) < 0.5, 1, 4)
        + 0.2 * r("b1").standard_normal(n),
        "gamma": r("gamma").gamma(0.5, 2, n),
        "beta": r("beta").beta(2, 5, n),
        "sigmoid": 1 / (1 + numpy.exp(-3 * r("sigmoid").standard_normal(n))),
        "tanh": numpy.tanh(2 * r("tanh").standard_normal(n)),
        "clip6": numpy.clip(3 * r("clip6").standard_normal(n), 0, 6),
        "sparse": numpy.where(r("s0").uniform(0, 1, n) < 0.9, 0, r("s1").standard_normal(n)),
        "sparse99": numpy.where(r("t0").uniform(0, 1, n) < 0.99, 0, r("t1").standard_normal(n)),
        "integers": r("integers").randint(0, 256, n),
        "integers10": r("integers10").randint(0, 10, n),
        "softmax": softmax(r("softmax").standard_normal(n).reshape(-1, 64)).ravel(),
        "outlier10": outlier(r("outlier10").standard_normal(n), 10),
        "outlier100": outlier(r("outlier100").standard_normal(n), 100),
        "outlier1000": outlier(r("outlier1000").standard_normal(n), 1000),
        "outlier_uniform": outlier(r("outlier_uniform").uniform(0, 1, n), 5),
        "ramp": i / n,
        "ramp_closed": (i + 1) / n,
        "steps_centre": (i % 2048 + 0.5) / 2048,
        "zeros": numpy.zeros(n),
        "ones": numpy.ones(n),
        "minus": -2.5 * numpy.ones(n),
        "tiny": 1e-30 * numpy.ones(n),
        "zeros_one": outlier(numpy.zeros(n), 1),
        "half_ones": (i % 2).astype(float),
        "two_values": numpy.where(i % 2, 1.0, 0.3),
        "three_values": numpy.choose(i % 3, [0.1, 0.5, 1.0]),
    }
    return {name: [numbers.astype(numpy.float32)] for name, numbers in made.items()}


def growing(n):
    """{name: four batches}, each times another factor."""
    factors = {
        "same": [1, 1, 1, 1], "double": [1, 2, 4, 8], "half": [8, 4, 2, 1],
        "bit": [1, 1.01, 1.02, 1.03], "third": [1, 3, 9, 27], "once": [1, 1, 1, 3.7],
        "back": [3.7, 1, 1, 1], "odd": [1, 1.5, 1.25, 1.75], "million": [1, 1e6, 1, 1e6],
        "from_zero": [0, 0, 1, 2], "to_zero": [1, 0, 0, 0], "tail": [1, 1, 5, 5],
    }
    found = {}
    for name, each in factors.items():
        for kind in ("normal", "uniform", "laplace", "exponential"):
            r = generator(f"{name}{kind}{n}")
            draw = {"normal": r.standard_normal, "uniform": lambda k, r=r: r.uniform(-1, 1, k),
                    "laplace": lambda k, r=r: r.laplace(0, 1, k),
                    "exponential": lambda k, r=r: r.exponential(1, k)}[kind]
            found[f"{kind}_{name}"] = [(draw(n) * f).astype(numpy.float32) for f in each]
    return found


def jumping(n):
    """{name: four batches} of uniform numbers, the later ones far larger; by exact arithmetic."""
    jumps = (50, 100, 200, 500, 900, 1023, 1100, 1500, 2000, 2047, 2100, 3000, 4095, 4200, 5000,
             10000, 100000)
    found = {}
    for i, jump in enumerate(jumps):
        found[f"jump_{jump}"] = [
            ((splitmix((3800 + 100 * i + batch) * 1000 + 20, n) * 2 - 1).astype(numpy.float32)
             * numpy.float64(factor)).astype(numpy.float32)
            for batch, factor in enumerate((1, jump, jump, 1.5 * jump))]
    return found


def splitmix(seed, n):
    """SplitMix64, from 0 to 1."""
    with numpy.errstate(over="ignore"):
        x = numpy.uint64(seed) + (numpy.arange(1, n + 1, dtype=numpy.uint64)
                                  * numpy.uint64(0x9E3779B97F4A7C15))
        x = (x ^ (x >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        x = x ^ (x >> numpy.uint64(31))
    return (x >> numpy.uint64(11)).astype(numpy.float64) * 2.0 ** -53


def scales(path):
    found = {}
    with open(path, encoding="utf-8") as file:
        for line in file.read().splitlines()[1:]:
            name, digits = line.rsplit(": ", 1)
            found[name] = struct.unpack(">f", bytes.fromhex(digits.zfill(8)))[0]
    return found


def calibrate(kiln, folder, data):
    """The cache that Kiln writes."""
    os.makedirs(folder + "/data", exist_ok=True)
    batches = len(next(iter(data.values())))
    for i in range(batches):
        numpy.savez(f"{folder}/data/{i}.npz", **{name: each[i] for name, each in data.items()})

    def types(prefix):
        return [helper.make_tensor_value_info(prefix + name, TensorProto.FLOAT, [each[0].size])
                for name, each in data.items()]

    nodes = [helper.make_node("Relu", [name], ["relu_" + name]) for name in data]
    graph = helper.make_graph(nodes, "relus", types(""), types("relu_"))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, folder + "/relus.onnx")
    subprocess.run([kiln, "calibrate", folder + "/relus.onnx", "-d", folder + "/data", "-o",
                    folder + "/kiln.cache", "-b", "reference"], check=True)
    return scales(folder + "/kiln.cache")


def main():
    kiln, scratch = sys.argv[1:]
    wrong = 0
    for name, data in (("single", single(4096)), ("growing", growing(16384)),
                       ("jumping", jumping(5000))):
        expected = scales(f"{HERE}/{name}.cache")
        found = calibrate(kiln, f"{scratch}/{name}", data)
        far = [key for key, scale in expected.items()
               if key not in found or abs(found[key] - scale) > 1e-6 * scale]
        same = sum(found.get(key) == scale for key, scale in expected.items())
        print(f"{name}: {len(expected)} tensors, {same} with the same bits, in another bin: {far}")
        wrong += len(far) + (same < 0.9 * len(expected))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
