#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the node tests that the onnx package generates, in the layout of its test data.

    write_cases.py FOLDER

Each case is made at the newest operator set that this version of the package knows.
"""
import os
import sys
import warnings

import numpy
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases


def to_proto(value, kind):
    """A protobuf for a value of TypeProto `kind`, and whether it is a tensor."""
    if isinstance(value, onnx.TensorProto):
        return value
    if kind.HasField("tensor_type") and value is not None:
        return numpy_helper.from_array(numpy.asarray(value))
    return None


def write_case(case, folder):
    model = case.model
    os.makedirs(folder, exist_ok=True)
    onnx.save(model, os.path.join(folder, "model.onnx"))
    for number, (inputs, outputs) in enumerate(case.data_sets):
        data = os.path.join(folder, f"test_data_set_{number}")
        os.makedirs(data, exist_ok=True)
        for name, values, infos in (("input", inputs, model.graph.input),
                                    ("output", outputs, model.graph.output)):
            for index, (value, info) in enumerate(zip(values, infos)):
                proto = to_proto(value, info.type)
                if proto is not None:
                    with open(os.path.join(data, f"{name}_{index}.pb"), "wb") as file:
                        file.write(proto.SerializeToString())


def main():
    warnings.simplefilter("ignore")
    numpy.random.seed(0)
    count = 0
    for case in collect_testcases(None):
        if case.kind == "node" and case.model is not None:
            write_case(case, os.path.join(sys.argv[1], case.name))
            count += 1
    print(f"{count} cases of onnx {onnx.__version__}")
    return 0 if count > 1000 else 1


if __name__ == "__main__":
    sys.exit(main())
