#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs models in ONNX Runtime and compares every tensor of the outermost graph with what Kiln
inferred of it: data type, rank, and each dimension that Kiln knows, names bound by the inputs.

    compare_outputs.py INFER_DUMP FOLDER...

What the models declare of computed tensors is taken out before Kiln sees them, so this is a test of
the rules, and of what Kiln knows and the onnx package does not."""
import glob
import json
import os
import re
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime

from compare_onnx import make_bare

WORD = re.compile(r"[^\s()*+,/-][^()*+,/]*")
KNOWN = {"floor": None, "max": None, "min": None}
# Names that the exporter gives to dimensions that are not the same.
LOOSE = {"?"}


def evaluate(expression, names):
    """The number that an expression comes to, or None."""
    def replace(match):
        word = match.group()
        if word in KNOWN or word.isdigit():
            return word
        if word not in names:
            raise KeyError(word)
        return str(names[word])
    if expression in names:
        return names[expression]
    try:
        text = WORD.sub(replace, expression).replace("/", "//")
    except KeyError:
        return None
    return eval(text, {"__builtins__": {}}, {"floor": lambda x: x, "max": max, "min": min})


def size_of(dim, name):
    if dim.HasField("dim_value") and dim.dim_value > 0:
        return dim.dim_value
    # Sizes that the models in use take: images of 32 lines, sound of 512 samples.
    return {0: 1, 1: 576, 2: 32, 3: 320}[name]


def made_inputs(model):
    initializers = {t.name for t in model.graph.initializer}
    feeds = {}
    random = np.random.default_rng(1)
    for v in model.graph.input:
        if v.name in initializers or not v.type.HasField("tensor_type"):
            continue
        shape = [size_of(d, min(i, 3)) for i, d in enumerate(v.type.tensor_type.shape.dim)]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type)
        if v.name == "sr":
            feeds[v.name] = np.array(16000, dtype)
        else:
            feeds[v.name] = (random.random(shape) if dtype.kind == "f"
                             else np.zeros(shape)).astype(dtype)
    return feeds


def read_inputs(model, folder):
    feeds = {}
    for i, v in enumerate(model.graph.input):
        path = os.path.join(folder, "input_%d.pb" % i)
        if not os.path.exists(path) or not v.type.HasField("tensor_type"):
            continue
        with open(path, "rb") as f:
            feeds[v.name] = onnx.numpy_helper.to_array(onnx.TensorProto.FromString(f.read()))
    return feeds


def run_all(model, feeds):
    """Every tensor that the outermost graph computes."""
    outputs = {v.name for v in model.graph.output}
    names = [o for n in model.graph.node for o in n.output if o]
    for name in names:
        if name not in outputs:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options,
                                           providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, feeds)))


def bind(model, feeds):
    names = {}
    for v in model.graph.input:
        if v.name in feeds and v.type.HasField("tensor_type"):
            for d, n in zip(v.type.tensor_type.shape.dim, feeds[v.name].shape):
                if d.dim_param and d.dim_param not in LOOSE:
                    names[d.dim_param] = n
    return names


def check(values, results, names):
    bad, good = [], 0
    for name, value in results.items():
        ours = values.get(name)
        if ours is None or not isinstance(value, np.ndarray) or ours["k"] != 1:
            continue
        if ours["t"] and value.dtype.kind != "O":
            wanted = onnx.helper.tensor_dtype_to_np_dtype(ours["t"])
            if wanted != value.dtype:
                bad.append("%s: %s, Kiln %s" % (name, value.dtype, wanted))
        if "s" not in ours:
            continue
        if len(ours["s"]) != value.ndim:
            bad.append("%s: %s, Kiln %s" % (name, value.shape, ours["s"]))
            continue
        for dim, actual in zip(ours["s"], value.shape):
            known = evaluate(dim, names) if isinstance(dim, str) else dim
            if known is not None and known != actual:
                bad.append("%s: %s, Kiln %s" % (name, value.shape, ours["s"]))
            good += known is not None
    return bad, good


def main():
    tool = sys.argv[1]
    paths = []
    for folder in sys.argv[2:]:
        paths += sorted(glob.glob(os.path.join(folder, "**", "*.onnx"), recursive=True))
    with tempfile.TemporaryDirectory() as scratch:
        bare = dict(zip(make_bare(paths, scratch), paths))
        out = subprocess.run([tool], input="\n".join(bare), capture_output=True, text=True,
                             check=True).stdout
    ran = skipped = dimensions = failures = 0
    for line in out.splitlines():
        ours = json.loads(line)
        ours["path"] = bare[ours["path"]]
        if "error" in ours:
            print("%s: %s" % (ours["path"], ours["error"]))
            failures += 1
            continue
        model = onnx.load(ours["path"])
        folder = os.path.join(os.path.dirname(ours["path"]), "test_data_set_0")
        feeds = read_inputs(model, folder) if os.path.isdir(folder) else made_inputs(model)
        names = bind(model, feeds)
        try:
            results = run_all(model, feeds)
        except Exception:  # an operator or type that ONNX Runtime lacks
            skipped += 1
            continue
        ran += 1
        bad, good = check(ours["graph"]["values"], results, names)
        dimensions += good
        for words in bad:
            failures += 1
            print("%s: %s" % (ours["path"], words))
    print("ONNX Runtime %s: %d models ran, %d did not; %d dimensions compared, %d differ"
          % (onnxruntime.__version__, ran, skipped, dimensions, failures))
    return 1 if failures or ran == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
