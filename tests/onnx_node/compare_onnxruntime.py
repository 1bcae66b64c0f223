#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime through Kiln passes each node test that ONNX Runtime passes by itself.

    compare_onnxruntime.py NODE_TEST FOLDER...

A case that only ONNX Runtime's own Python passes must have a stated reason: values that no memory
can be bound to. What draws random numbers without a seed passes by chance, on either side, and is
left out by its operators.
"""
import os
import pathlib
import re
import subprocess
import sys

import numpy
import onnx
import onnxruntime
from onnx import numpy_helper

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "onnx"))
from drawing_operators import drawing_operators_of_file  # pylint: disable=wrong-import-position

EXCUSES = ("is of strings", "is no tensor", "string", "sequence", "optional", "not a tensor",
           "cannot be bound", "a file cannot be read")


def read(path):
    tensor = onnx.TensorProto()
    with open(path, "rb") as file:
        tensor.ParseFromString(file.read())
    return numpy_helper.to_array(tensor)


def same(expected, found):
    if expected.dtype != found.dtype or expected.shape != found.shape:
        return False
    if expected.dtype.kind in "fc":
        bound = 2e-3 if expected.dtype == numpy.float16 else 1e-3
        return numpy.allclose(found, expected, rtol=bound, atol=1e-7, equal_nan=True)
    return numpy.array_equal(expected, found)


def passes(folder):
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(os.path.join(folder, "model.onnx"), options,
                                               providers=["CPUExecutionProvider"])
        data = os.path.join(folder, "test_data_set_0")
        feeds = {value.name: read(os.path.join(data, f"input_{index}.pb"))
                 for index, value in enumerate(session.get_inputs())}
        results = session.run(None, feeds)
        return all(same(read(os.path.join(data, f"output_{index}.pb")), result)
                   for index, result in enumerate(results))
    except Exception:  # whatever it is, ONNX Runtime does not pass by itself
        return False


def main():
    program, folders = sys.argv[1], sys.argv[2:]
    output = subprocess.run([program, "onnxruntime", "-", *folders], capture_output=True,
                            text=True, errors="replace", check=False).stdout
    failures = dict(re.findall(r"^(test_\w+): (.*)$", output, re.M))
    checked, wrong, drawn = 0, [], 0
    for folder in folders:
        for name in sorted(os.listdir(folder)):
            model = os.path.join(folder, name, "model.onnx")
            if name not in failures or not os.path.exists(model):
                continue
            if drawing_operators_of_file(model):
                drawn += 1
                continue
            checked += 1
            excused = any(text in failures[name] for text in EXCUSES)
            if not excused and passes(os.path.join(folder, name)):
                wrong.append(f"{name}: {failures[name]}")
    print("\n".join(wrong))
    print(output.strip().splitlines()[-1])
    print(f"{checked} failures checked, {len(wrong)} of them ONNX Runtime passes by itself; "
          f"{drawn} left out that draw random numbers")
    return 1 if wrong or not re.search(r"onnxruntime: [1-9]\d\d+ passed", output) else 0


if __name__ == "__main__":
    sys.exit(main())
