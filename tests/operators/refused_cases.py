#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Shapes and attributes that an operator cannot have: the check finds an error before a run does,
and none in the same node with what it can have.

    refused_cases.py OPERATOR_RUN"""
import sys

import numpy as np
from onnx import TensorProto, helper

from executors import Kiln

F, I64, U8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8


class Row:
    """An operator, the shapes that it takes, those of which one is wrong, and its attributes; an
    array instead of a shape is a constant."""

    def __init__(self, op, opset, right, wrong, outputs=1, types=None, **attributes):
        self.op, self.opset, self.right, self.wrong = op, opset, right, wrong
        self.outputs, self.types, self.attributes = outputs, types or {}, attributes

    def model(self, inputs, attributes):
        names, infos, constants, feeds = [], [], [], []
        for i, one in enumerate(inputs):
            name = f"i{i}" if one is not None else ""
            names.append(name)
            if isinstance(one, np.ndarray):
                constants.append(helper.make_tensor(
                    name, helper.np_dtype_to_tensor_dtype(one.dtype), one.shape, one.tobytes(),
                    raw=True))
            elif one is not None:
                kind = self.types.get(i, F)
                infos.append(helper.make_tensor_value_info(name, kind, one))
                feeds.append((kind, np.ones(one, helper.tensor_dtype_to_np_dtype(kind))))
        outputs = [f"o{i}" for i in range(self.outputs)]
        node = helper.make_node(self.op, names, outputs, **attributes)
        kind = {"ConvInteger": TensorProto.INT32, "QuantizeLinear": U8}.get(self.op, F)
        graph = helper.make_graph([node], "row", infos, [
            helper.make_tensor_value_info(outputs[0], kind, None)], constants)
        return helper.make_model(graph, ir_version=10, opset_imports=[
            helper.make_opsetid("", self.opset)]).SerializeToString(), feeds


def ints(*values):
    return np.array(values, np.int64)


LSTM = [(2, 3, 4), (1, 20, 4), (1, 20, 5), (1, 40), (3,), (1, 3, 5), (1, 3, 5), (1, 15)]
WIDE = [(1, 2, 5, 5), (2, 1, 2, 2), (1, 8, 4, 4), (2,), (1, 4, 4, 4)]


def replaced(shapes, place, shape):
    return [shape if i == place else s for i, s in enumerate(shapes)]


def rows():
    for place, shape in ((1, (1, 19, 4)), (2, (2, 20, 5)), (3, (1, 39)), (4, (2,)), (5, (1, 3, 4)),
                         (6, (1, 2, 5)), (7, (1, 14))):
        yield Row("LSTM", 14, LSTM, replaced(LSTM, place, shape), types={4: TensorProto.INT32},
                  hidden_size=5)
    yield Row("GRU", 14, [(2, 3, 4), (1, 15, 4), (1, 15, 5), (1, 30)],
              [(2, 3, 4), (1, 15, 4), (1, 15, 5), (1, 31)], hidden_size=5)
    yield Row("RNN", 14, [(2, 3, 4), (1, 5, 4), (1, 5, 5)], [(2, 3, 4), (1, 6, 4), (1, 5, 5)],
              hidden_size=5)
    keys = [(1, 4, 2, 3), (1, 2, 5, 3), (1, 2, 5, 3), (2, 5), (1, 2, 1, 3), (1, 2, 1, 3)]
    keys[3] = (2, 6)
    for place, shape in ((0, (1, 3, 2, 3)), (3, (3, 6)), (3, (2, 7)), (4, (1, 1, 1, 3)),
                         (5, (1, 2, 2, 3)), (5, None)):
        yield Row("Attention", 23, keys, replaced(keys, place, shape))
    angles = [(2, 4, 3, 8), (2, 3, 4), (2, 3, 4)]
    for place, shape in ((1, (2, 3, 3)), (2, (3, 4)), (1, (1, 3, 4))):
        yield Row("RotaryEmbedding", 23, angles, replaced(angles, place, shape))
    for place, shape in ((2, (1, 8, 4, 3)), (2, (1, 7, 4, 4)), (3, (3,)), (4, (1, 3, 4, 4)),
                         (4, (2, 4, 4, 4)), (0, (1, 3, 5, 5))):
        yield Row("DeformConv", 22, WIDE, replaced(WIDE, place, shape), group=2)
    yield Row("Conv", 11, [(1, 2, 5), (4, 1, 2), (4,)], [(1, 2, 5), (4, 1, 2), (3,)], group=2)
    yield Row("ConvTranspose", 11, [(1, 2, 5), (2, 3, 2), (3,)], [(1, 3, 5), (2, 3, 2), (3,)])
    yield Row("ConvTranspose", 11, [(1, 2, 5), (2, 3, 2), (3,)], [(1, 2, 5), (2, 3, 2), (2,)])
    yield Row("ConvTranspose", 11, [(1, 1, 5), (1, 1, 2)], [(1, 1, 1), (1, 1, 2)], pads=[2, 1])
    quantized = {i: U8 for i in range(4)}
    yield Row("ConvInteger", 10, [(1, 2, 5), (3, 2, 2), (), (3,)], [(1, 2, 5), (3, 2, 2), (), (2,)],
              types=quantized)
    yield Row("ConvInteger", 10, [(1, 2, 5), (3, 2, 2), (1,)], [(1, 2, 5), (3, 2, 2), (2,)],
              types=quantized)
    for op, opset in (("LayerNormalization", 17), ("RMSNormalization", 23)):
        yield Row(op, opset, [(2, 3, 4), (3, 4)], [(2, 3, 4), (2, 3, 4)], axis=1)
        yield Row(op, opset, [(2, 3, 4), (3, 4)], [(2, 3, 4), (3, 3)], axis=1)
    yield Row("GroupNormalization", 21, [(2, 4, 3), (4,), (4,)], [(2, 3, 3), (3,), (3,)],
              num_groups=2)
    yield Row("GroupNormalization", 21, [(2, 4, 3), (4,), (4,)], [(2, 4, 3), (2,), (2,)],
              num_groups=2)
    places = {1: I64}
    yield Row("ScatterND", 18, [(4, 3), (2, 1), (2, 3)], [(4, 3), (2, 1), (2, 2)], types=places)
    yield Row("ScatterND", 18, [(4, 3), (2, 1), (2, 3)], [(4, 3), (2, 3), (2,)], types=places)
    yield Row("ScatterElements", 18, [(4, 3), (2, 3), (2, 3)], [(4, 3), (2, 4), (2, 4)],
              types=places)
    yield Row("GatherElements", 13, [(4, 3), (6, 3)], [(4, 3), (6, 4)], types=places)
    yield Row("GatherND", 13, [(4, 3), (4, 1)], [(4, 3), (2, 1)], types=places, batch_dims=1)
    yield Row("Gemm", 13, [(2, 3), (3, 4), (4,)], [(2, 3), (3, 4), (3,)])
    yield Row("PRelu", 16, [(2, 3), (3,)], [(2, 3), (2, 2, 3)])
    yield Row("MaxUnpool", 22, [(1, 1, 2, 2), (1, 1, 2, 2)], [(1, 1, 2, 2), (1, 1, 2, 1)],
              types=places, kernel_shape=[2, 2], strides=[2, 2])
    yield Row("ReverseSequence", 10, [(4, 3), (3,)], [(4, 3), (4,)], types=places)
    yield Row("SpaceToDepth", 13, [(1, 1, 4, 4)], [(1, 1, 4, 3)], blocksize=2)
    yield Row("DepthToSpace", 13, [(1, 4, 2, 2)], [(1, 3, 2, 2)], blocksize=2)
    yield Row("Col2Im", 18, [(1, 4, 4), ints(3, 3), ints(2, 2)],
              [(1, 4, 5), ints(3, 3), ints(2, 2)])
    yield Row("CenterCropPad", 18, [(3, 4), ints(2, 2)], [(3, 4), ints(2, 2, 2)])
    yield Row("Split", 13, [(6,), ints(2, 4)], [(6,), ints(2, 3)], outputs=2)
    yield Row("Resize", 19, [(2, 2), None, None, ints(3, 3)], [(0, 2), None, None, ints(3, 3)])
    yield Row("Resize", 19, [(2, 2), None, None, ints(3, 3)], [(2, 2)])
    yield Row("Slice", 13, [(2, 3), ints(0), ints(1), ints(1)], [(2,), ints(0), ints(1), ints(1)])
    yield Row("Pad", 19, [(2, 1), ints(0, 1, 0, 1)], [(2, 0), ints(0, 1, 0, 1)], mode="edge")
    yield Row("STFT", 17, [(1, 9, 1), ints(2).reshape(()), (4,)],
              [(1, 3, 1), ints(2).reshape(()), (4,)])
    yield Row("STFT", 17, [(1, 9, 1), ints(2).reshape(()), (4,)],
              [(1, 9, 1), ints(2).reshape(())])
    yield Row("DFT", 20, [(1, 4, 2)], [(1, 4, 3)])
    yield Row("AffineGrid", 20, [(2, 2, 3), ints(2, 1, 3, 3)], [(2, 3, 3), ints(2, 1, 3, 3)])
    yield Row("SoftmaxCrossEntropyLoss", 13, [(2, 3, 4), (2, 4)], [(2, 3, 4), (2, 5)],
              types=places)
    yield Row("Clip", 13, [(3,), (), ()], [(3,), (3,), ()])
    yield Row("CumSum", 14, [(3,), ints(0).reshape(())], [(), ints(0).reshape(())])
    yield Row("TopK", 11, [(3,), ints(2)], [(3,), ints(2, 1)], outputs=2)
    for op in ("Max", "Min", "Sum", "Mean"):
        yield Row(op, 13, [(3,), (3,)], [(3,), None, (3,)])
    yield Row("Concat", 13, [(3,), (3,)], [(3,), None, (3,)], axis=0)
    yield Row("LRN", 13, [(1, 2, 3, 3)], {"size": 0}, size=1)
    yield Row("TfIdfVectorizer", 9, [(4,)], {"ngram_counts": [0, 3]}, types={0: I64}, mode="TF",
              max_gram_length=2, min_gram_length=1, max_skip_count=0, ngram_counts=[0, 2],
              ngram_indexes=[0, 1, 2], pool_int64s=[1, 2, 3, 4])
    yield Row("QuantizeLinear", 21, [(4, 6), (4, 3)], [(4, 6), (4, 2)], axis=1, block_size=2)


def ends():
    """On what ONNX Runtime ends the process: names that are left out, dimensions of 0, no heads."""
    yield Row("LayerNormalization", 17, [(2, 3), (3,)], [(2, 3), (3,), None])
    yield Row("DFT", 20, [(1, 4, 2)], [(1, 4, 2), None])
    yield Row("Max", 13, [(3,), (3,)], [(3,), None, (3,)])
    yield Row("LSTM", 14, LSTM[:3], [(0, 3, 4)] + LSTM[1:3], hidden_size=5)
    yield Row("GRU", 14, [(2, 3, 4), (1, 15, 4), (1, 15, 5)],
              [(0, 3, 4), (1, 15, 4), (1, 15, 5)], hidden_size=5)
    yield Row("ConvTranspose", 11, [(1, 2, 3, 3), (2, 1, 2, 2)], [(1, 2, 0, 3), (2, 1, 2, 2)])
    yield Row("Einsum", 12, [(2, 3), (3, 2)], [(2, 0), (0, 2)], equation="ij,jk->ik")
    yield Row("STFT", 17, [(1, 8, 1), ints(2).reshape(()), (4,)],
              [(1, 8, 1), ints(2).reshape(()), (0,)])
    yield Row("Attention", 23, [(1, 2, 4)] * 3, {"kv_num_heads": 0}, q_num_heads=2, kv_num_heads=2)


def unsafe_ends(program):
    """How many of these the check for ONNX Runtime passes, or end the process there."""
    failures = 0
    checker, kiln = Kiln(program, "check:onnxruntime"), Kiln(program, "onnxruntime")
    for row in ends():
        changes = isinstance(row.wrong, dict)
        wrong = row.model(row.right if changes else row.wrong,
                          {**row.attributes, **row.wrong} if changes else row.attributes)
        right = row.model(row.right, row.attributes)
        try:
            answer = kiln.ask(*wrong)
            bad = answer.stage == 0 or kiln.ask(*right).stage
        except RuntimeError:
            bad, kiln = True, Kiln(program, "onnxruntime")
        if bad or not checker.ask(*wrong).errors or checker.ask(*right).errors:
            print(f"{row.op}: {row.wrong} ends the process, is passed, or the right one is refused")
            failures += 1
    kiln.stop()
    checker.stop()
    return failures


def main():
    kiln = Kiln(sys.argv[1], "reference")
    failures = count = 0
    for count, row in enumerate(rows(), 1):
        changes = isinstance(row.wrong, dict)
        right = kiln.ask(*row.model(row.right, row.attributes))
        wrong = kiln.ask(*row.model(row.right if changes else row.wrong,
                                    {**row.attributes, **row.wrong} if changes
                                    else row.attributes))
        if right.errors or right.stage:
            print(f"{count} {row.op}: the right one is refused: {right.issue} {right.sentence}")
        if not wrong.errors:
            print(f"{count} {row.op}: nothing is found in {row.wrong}; {wrong.sentence}")
        failures += bool(right.errors or right.stage or not wrong.errors)
    kiln.stop()
    failures += unsafe_ends(sys.argv[1])
    print(f"{count} rows, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
