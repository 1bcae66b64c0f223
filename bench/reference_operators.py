"""The reference executor against onnx.reference, operator by operator, in processor time with one
thread each: the fastest of some runs of a model of one node, three times in turns, in shapes as
images and texts have them.

    reference_operators.py BENCH_REFERENCE [WORD...]

WORDs choose the operators whose names contain one. Results lie in memory of their own: where
NumPy's is a view of the input, a copy is part of the time. Fails where one is slower than its peer
that docs/reference.md does not list with the reason.

SPDX-License-Identifier: Apache-2.0
"""

import os
import subprocess
import sys
import tempfile
import time

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import numpy  # noqa: E402
import onnx  # noqa: E402
import onnx.reference  # noqa: E402
from onnx import helper, numpy_helper  # noqa: E402

IMAGE = (1, 64, 56, 56)
TEXT = (8, 128, 512)
OPSET = 17


def weights(*shape, dtype=numpy.float32, low=-1.0, high=1.0):
    return numpy.random.RandomState(len(shape)).uniform(low, high, shape).astype(dtype)


def integers(*values):
    return numpy.array(values, numpy.int64)


# A name, the operator, the shape of the input, more inputs, attributes, the number of outputs.
CASES = [
    ("Softmax, last axis", "Softmax", TEXT, [], {"axis": -1}, 1),
    ("Softmax, a middle axis", "Softmax", IMAGE, [], {"axis": 1}, 1),
    ("Softmax, long rows", "Softmax", (8, 50000), [], {"axis": -1}, 1),
    ("LogSoftmax", "LogSoftmax", TEXT, [], {"axis": -1}, 1),
    ("LRN", "LRN", IMAGE, [], {"size": 5}, 1),
    ("Gemm, one row, transB", "Gemm", (1, 2048), [weights(1000, 2048)], {"transB": 1}, 1),
    ("Gemm, one row", "Gemm", (1, 2048), [weights(2048, 1000), weights(1000)], {}, 1),
    ("Gemm, 16 rows, transB", "Gemm", (16, 1024), [weights(1000, 1024)], {"transB": 1}, 1),
    ("MatMul, one row", "MatMul", (1, 2048), [weights(2048, 1000)], {}, 1),
    ("MatMul", "MatMul", (128, 512), [weights(512, 512)], {}, 1),
    ("MatMul, batched", "MatMul", (8, 128, 64), [weights(8, 64, 128)], {}, 1),
    ("Reshape", "Reshape", IMAGE, [integers(64, -1)], {}, 1),
    ("Flatten", "Flatten", IMAGE, [], {}, 1),
    ("Squeeze", "Squeeze", IMAGE, [integers(0)], {}, 1),
    ("Unsqueeze", "Unsqueeze", IMAGE, [integers(0)], {}, 1),
    ("Identity", "Identity", IMAGE, [], {}, 1),
    ("Transpose, last two", "Transpose", TEXT, [], {"perm": [0, 2, 1]}, 1),
    ("Transpose, NCHW to NHWC", "Transpose", IMAGE, [], {"perm": [0, 2, 3, 1]}, 1),
    ("Transpose, NHWC to NCHW", "Transpose", (1, 56, 56, 64), [], {"perm": [0, 3, 1, 2]}, 1),
    ("Transpose, heads", "Transpose", (1, 128, 8, 64), [], {"perm": [0, 2, 1, 3]}, 1),
    ("Slice", "Slice", IMAGE, [integers(0, 8), integers(64, 48), integers(1, 2)], {}, 1),
    ("Slice, steps", "Slice", IMAGE, [integers(0), integers(56), integers(3), integers(2)], {}, 1),
    ("Concat", "Concat", IMAGE, [weights(*IMAGE)], {"axis": 1}, 1),
    ("Split", "Split", IMAGE, [integers(32, 32)], {"axis": 1}, 2),
    ("Expand", "Expand", (1, 64, 1, 1), [integers(1, 64, 56, 56)], {}, 1),
    ("Tile", "Tile", (1, 64, 28, 28), [integers(1, 1, 2, 2)], {}, 1),
    ("Pad", "Pad", IMAGE, [integers(0, 0, 1, 1, 0, 0, 1, 1)], {}, 1),
    ("Gather", "Gather", (1000, 256), [integers(*range(0, 1000, 7))], {"axis": 0}, 1),
    ("Relu", "Relu", IMAGE, [], {}, 1),
    ("Sigmoid", "Sigmoid", IMAGE, [], {}, 1),
    ("Tanh", "Tanh", IMAGE, [], {}, 1),
    ("Exp", "Exp", IMAGE, [], {}, 1),
    ("Erf", "Erf", (1, 16, 56, 56), [], {}, 1),
    ("Clip", "Clip", IMAGE, [numpy.float32(-0.5), numpy.float32(0.5)], {}, 1),
    ("LeakyRelu", "LeakyRelu", IMAGE, [], {}, 1),
    ("HardSwish", "HardSwish", IMAGE, [], {}, 1),
    ("Add", "Add", IMAGE, [weights(*IMAGE)], {}, 1),
    ("Add, a channel's", "Add", IMAGE, [weights(64, 1, 1)], {}, 1),
    ("Mul, a number", "Mul", IMAGE, [numpy.float32(0.5)], {}, 1),
    ("Div", "Div", IMAGE, [weights(*IMAGE, low=1.0, high=2.0)], {}, 1),
    ("Pow, 2", "Pow", IMAGE, [numpy.float32(2)], {}, 1),
    ("Greater", "Greater", IMAGE, [weights(*IMAGE)], {}, 1),
    ("ReduceMean, last", "ReduceMean", TEXT, [], {"axes": [-1]}, 1),
    ("ReduceMean, H and W", "ReduceMean", IMAGE, [], {"axes": [2, 3]}, 1),
    ("ReduceSum, first", "ReduceSum", TEXT, [integers(0)], {}, 1),
    ("ReduceMax, last", "ReduceMax", TEXT, [], {"axes": [-1]}, 1),
    ("ArgMax", "ArgMax", TEXT, [], {"axis": -1}, 1),
    ("GlobalAveragePool", "GlobalAveragePool", IMAGE, [], {}, 1),
    ("MaxPool", "MaxPool", IMAGE, [], {"kernel_shape": [3, 3], "strides": [2, 2]}, 1),
    ("AveragePool", "AveragePool", IMAGE, [], {"kernel_shape": [2, 2], "strides": [2, 2]}, 1),
    ("LayerNormalization", "LayerNormalization", TEXT, [weights(512), weights(512)], {}, 1),
    ("InstanceNormalization", "InstanceNormalization", IMAGE, [weights(64), weights(64)], {}, 1),
    ("BatchNormalization", "BatchNormalization", IMAGE,
     [weights(64), weights(64), weights(64), weights(64, low=0.5, high=1.0)], {}, 1),
    ("Conv, 3x3", "Conv", (1, 16, 28, 28), [weights(16, 16, 3, 3)], {"pads": [1, 1, 1, 1]}, 1),
    ("Conv, depthwise", "Conv", (1, 32, 28, 28), [weights(32, 1, 3, 3)], {"group": 32}, 1),
    ("Resize, nearest", "Resize", (1, 16, 28, 28),
     [numpy.array([], numpy.float32), numpy.array([1, 1, 2, 2], numpy.float32)], {}, 1),
    ("Cast to float16", "Cast", IMAGE, [], {"to": 10}, 1),
    ("Cast to int64", "Cast", IMAGE, [], {"to": 7}, 1),
    ("Cast to double", "Cast", IMAGE, [], {"to": 11}, 1),
    ("QuantizeLinear", "QuantizeLinear", IMAGE, [numpy.float32(0.01), numpy.uint8(128)], {}, 1),
    ("TopK", "TopK", (64, 1000), [integers(10)], {}, 2),
    ("CumSum", "CumSum", TEXT, [numpy.int64(2)], {}, 1),
    ("Where", "Where", None, [], {}, 1),
    ("Shape", "Shape", IMAGE, [], {}, 1),
    ("DepthToSpace", "DepthToSpace", IMAGE, [], {"blocksize": 2}, 1),
    ("Einsum", "Einsum", (8, 128, 64), [weights(8, 64, 128)],
     {"equation": "bij,bjk->bik"}, 1),
]


def where_model():
    node = helper.make_node("Where", ["c", "x", "b"], ["y0"])
    condition = numpy.random.RandomState(3).randint(0, 2, IMAGE).astype(bool)
    return node, [numpy_helper.from_array(condition, "c"),
                  numpy_helper.from_array(weights(*IMAGE), "b")]


def model_of(case):
    _, operator, shape, more, attributes, outputs = case
    if operator == "Where":
        node, constants = where_model()
        shape = IMAGE
    else:
        names = ["x"] + [f"w{i}" for i in range(len(more))]
        node = helper.make_node(operator, names, [f"y{i}" for i in range(outputs)], **attributes)
        constants = [numpy_helper.from_array(numpy.asarray(w), f"w{i}") for i, w in enumerate(more)]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)
    untyped = [onnx.ValueInfoProto(name=name) for name in node.output]
    graph = helper.make_graph([node], "one", [x], untyped, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made, strict_mode=True)


# Slower here, by docs/reference.md: what takes doubles, half as many at a time as floats.
IN_DOUBLE = ("Exp", "Tanh", "Softmax, a middle axis", "Softmax, long rows", "LRN", "Gemm", "MatMul",
             "Einsum")


def feed_of(made):
    dims = made.graph.input[0].type.tensor_type.shape.dim
    return (numpy.random.RandomState(1).uniform(-1, 1, [d.dim_value for d in dims])
            .astype(numpy.float32))


def own(output, feed):
    """The output in memory of its own, its elements in their order."""
    shared = numpy.may_share_memory(output, feed)
    return output.copy() if shared else numpy.ascontiguousarray(output)


def time_of_peer(session, feed):
    best, total, runs = float("inf"), 0.0, 0
    while runs < 3 or (total < 0.3 and runs < 200):
        begin = time.thread_time()
        for output in session.run(None, {"x": feed}):
            own(output, feed)
        took = time.thread_time() - begin
        best, total, runs = min(best, took), total + took, runs + 1
    return best * 1e3


def times_of(program, path):
    """Milliseconds of the reference executor and of ONNX Runtime."""
    words = subprocess.run([program, path], capture_output=True, text=True).stdout.split()
    return (float(words[2]), float(words[5])) if len(words) > 5 else (float("nan"),) * 2


def measure(program, path, case):
    """Prints a line; whether it is slower than it should be."""
    made = model_of(case)
    onnx.save(made, path)
    session, feed = onnx.reference.ReferenceEvaluator(made), feed_of(made)
    rounds = [(*times_of(program, path), time_of_peer(session, feed)) for _ in range(3)]
    mine, runtime, peer = (min(column) for column in zip(*rounds))
    slower = not mine <= peer
    known = (case[0] + ",").startswith(tuple(name + "," for name in IN_DOUBLE))
    note = "" if not slower else "   in double" if known else "   slower"
    print(f"{case[0]:26} reference {mine:9.3f} ms   onnx.reference {peer:9.3f} ms   "
          f"ratio {mine / peer:5.2f}   onnxruntime {runtime:8.3f} ms   "
          f"ratio {mine / runtime:6.1f}{note}", flush=True)
    return note


def main():
    program, words = sys.argv[1], sys.argv[2:]
    chosen = [c for c in CASES if not words or any(w.lower() in c[0].lower() for w in words)]
    with tempfile.TemporaryDirectory() as folder:
        notes = [measure(program, os.path.join(folder, "one.onnx"), case) for case in chosen]
    slower = [note for note in notes if note.endswith("slower")]
    print(f"{len(chosen)} operators, {len(chosen) - notes.count('')} slower than onnx.reference, "
          f"{len(slower)} of them without a reason")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
