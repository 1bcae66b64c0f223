#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The builder's layers as ONNX's node models are laid out, with the reference executor's outputs:
for node_models.py, which tells whether a difference on TensorRT is Kiln's or TensorRT's own.

    save_layers FOLDER; write_layers.py FEED FOLDER OUT

FOLDER is what the program tests/network/save_layers wrote; of each layer the oldest operator set is
taken.
"""
import glob
import os
import sys

import kiln_feed
import numpy
import onnx
from onnx import numpy_helper


def values(name, dtype, shape, random):
    """Between -1 and 1; small and not negative where functions or indices want that."""
    if dtype == numpy.bool_:
        return random.random(shape) < 0.5
    if dtype.kind in "iu":
        return random.integers(0, 3, shape).astype(dtype)
    floats = random.random(shape)
    return numpy.asarray(floats if name == "unary" else floats * 2 - 1).astype(dtype)


def write(path, value):
    with open(path, "wb") as file:
        file.write(numpy_helper.from_array(numpy.asarray(value)).SerializeToString())


def convert(kiln, path, name, out, random):
    engine = kiln.build(path)
    feeds = {key: values(name, dtype, shape, random)
             for key, dtype, shape in engine.bindings(True)}
    found = engine.run(feeds)
    engine.release()
    model = onnx.load(path)
    folder = os.path.join(out, f"layer_{name}", "test_data_set_0")
    os.makedirs(folder, exist_ok=True)
    onnx.save(model, os.path.join(out, f"layer_{name}", "model.onnx"))
    known = {i.name for i in model.graph.initializer}
    inputs = [i.name for i in model.graph.input if i.name not in known]
    for index, key in enumerate(inputs):
        write(os.path.join(folder, f"input_{index}.pb"), feeds[key])
    for index, info in enumerate(model.graph.output):
        write(os.path.join(folder, f"output_{index}.pb"), found[info.name])


def main():
    feed, folder, out = sys.argv[1:]
    oldest = {}
    for path in glob.glob(f"{folder}/*.onnx"):
        name, opset = os.path.basename(path).removesuffix(".onnx").rsplit(".", 1)
        oldest[name] = min(oldest.get(name, 99), int(opset))
    kiln = kiln_feed.Kiln(feed, "reference")
    random = numpy.random.default_rng(0)
    for name, opset in sorted(oldest.items()):
        convert(kiln, f"{folder}/{name}.{opset}.onnx", name, out, random)
    print(f"{len(oldest)} layers")
    return 0 if oldest else 1


if __name__ == "__main__":
    sys.exit(main())
