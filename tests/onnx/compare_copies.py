#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every ONNX model below the given folders, read and written by Kiln, must be what it was.

    compare_copies.py <onnx_copy> <scratch folder> <folder or file> ...

The comparison is protobuf's own equality of ModelProto: of the two messages where the weights stay
inside, and after loading the weights back where they went to a file. Ends with 1 when one differs.
"""

import glob
import os
import subprocess
import sys

import onnx
import onnx.external_data_helper


def models(roots):
    for root in roots:
        if os.path.isfile(root):
            yield root
        for folder, _, names in sorted(os.walk(root)):
            for name in sorted(names):
                if name.endswith(".onnx"):
                    yield os.path.join(folder, name)


def load(path):
    model = onnx.load(path, load_external_data=False)
    return model


def tensors(model):
    yield from onnx.external_data_helper._get_all_tensors(model)


def without_places(model, folder):
    """The model with all weights inside, as raw_data, however they were stored."""
    onnx.external_data_helper.load_external_data_for_model(model, folder)
    for tensor in tensors(model):
        if tensor.data_type == onnx.TensorProto.STRING:
            continue
        try:
            array = onnx.numpy_helper.to_array(tensor)
        except Exception:
            continue
        fresh = onnx.numpy_helper.from_array(array)
        for field in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data",
                      "external_data", "data_location"):
            tensor.ClearField(field)
        tensor.raw_data = fresh.raw_data if fresh.HasField("raw_data") else array.tobytes()
    return model


def main():
    program, scratch, roots = sys.argv[1], sys.argv[2], sys.argv[3:]
    os.makedirs(scratch, exist_ok=True)
    paths = list(models(roots))
    failures = 0
    for mode in ("inline", "external"):
        copies = [os.path.join(scratch, f"{mode}.{i}.onnx") for i in range(len(paths))]
        pairs = os.path.join(scratch, "pairs")
        with open(pairs, "w") as file:
            file.writelines(f"{a}\t{b}\n" for a, b in zip(paths, copies))
        answers = subprocess.run([program, mode, pairs], capture_output=True, text=True, check=True)
        lines = answers.stdout.splitlines()
        assert len(lines) == len(paths), (len(lines), len(paths))
        same = refused = 0
        for path, copy, line in zip(paths, copies, lines):
            if line != "ok":
                print(f"{path}: {line}")
                refused += 1
                continue
            before, after = load(path), load(copy)
            if mode == "external" or any(t.data_location for t in tensors(before)):
                before = without_places(before, os.path.dirname(path))
                after = without_places(after, os.path.dirname(copy))
            if before == after:
                same += 1
            else:
                print(f"{path}: {mode}: the copy differs")
                failures += 1
            os.unlink(copy)
            for weights in glob.glob(glob.escape(copy) + ".*.data"):
                os.unlink(weights)
        print(f"{mode}: {len(paths)} models, {same} equal, {refused} refused")
        failures += refused
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
