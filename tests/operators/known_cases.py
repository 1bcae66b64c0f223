#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cases whose right result is worked out from the specification, on the reference executor and, but
where a case says why not, on ONNX Runtime; what inference says of their outputs holds.

    known_cases.py OPERATOR_RUN"""
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from executors import Kiln, differences
from generate import BOOL, F, I64, Case
from random_operators import contradiction

ONLY_REFERENCE = {"reference"}


def one_node(op, opset, inputs, expected, constants=None, dtypes=None, **attributes):
    """`inputs`, `constants`: name to array, in the order that the node reads them ("": left
    out)."""
    case = Case(op, opset)
    names = []
    for name, array in {**inputs, **(constants or {})}.items():
        names.append("" if array is None else name)
        if array is not None:
            (case.constants if name in (constants or {}) else case.inputs)[name] = array
            case.types[name] = helper.np_dtype_to_tensor_dtype(array.dtype)
            case.dims[name] = list(array.shape)
    outputs = [f"y{i}" for i in range(len(expected))]
    case.nodes = [helper.make_node(op, names, outputs, **attributes)]
    case.outputs = [(n, helper.np_dtype_to_tensor_dtype(np.asarray(e).dtype))
                    for n, e in zip(outputs, expected)]
    case.expected = [np.asarray(e) for e in expected]
    return case


def floats(*values):
    return np.array(values, np.float32)


def pools():
    """In ceil mode a window that is larger than the padded input still begins inside it."""
    x = floats(1, 2).reshape(1, 1, 2)
    for op, right in (("MaxPool", 2), ("AveragePool", 1.5), ("LpPool", np.sqrt(5))):
        one = np.array([[[right]]], np.float32)
        yield one_node(op, 22, {"x": x}, [one], kernel_shape=[3], strides=[2], ceil_mode=1)
        yield one_node(op, 22, {"x": x}, [np.zeros((1, 1, 0), np.float32)], kernel_shape=[4],
                       strides=[2], ceil_mode=1)
        square = np.arange(1, 5, dtype=np.float32).reshape(1, 1, 2, 2)
        value = {"MaxPool": 4, "AveragePool": 2.5, "LpPool": np.sqrt(30)}[op]
        yield one_node(op, 22, {"x": square}, [np.full((1, 1, 1, 1), value, np.float32)],
                       kernel_shape=[3, 4], strides=[2, 3], ceil_mode=1)


def slices():
    """With a negative step a start below the first element is the first; an end below it is
    before."""
    x = floats(1, 2, 3)
    for start, end, step, right in ((-9, -9, -1, [1]), (-4, -9, -2, [1]), (9, -9, -2, [3, 1]),
                                    (0, -9, -1, [1]), (-9, 9, 1, [1, 2, 3]), (-9, -9, 1, []),
                                    (-9, 0, -1, [])):
        lists = {n: np.array([v], np.int64) for n, v in
                 (("starts", start), ("ends", end), ("axes", 0), ("steps", step))}
        yield one_node("Slice", 13, {"x": x}, [floats(*right)], lists)
        yield one_node("Slice", 13, {"x": x, **lists}, [floats(*right)])
    empty = np.zeros((0, 2), np.float32)
    lists = {n: np.array([v], np.int64) for n, v in
             (("starts", -1), ("ends", -9), ("axes", 0), ("steps", -1))}
    yield one_node("Slice", 13, {"x": empty}, [empty], lists)


def resizes():
    """Where the output has length 1, its coordinate is 0 in pytorch_half_pixel and
    align_corners."""
    x = floats(1, 2, 3, 4).reshape(1, 1, 1, 4)
    right = {"pytorch_half_pixel": {"cubic": 1, "linear": 1, "nearest": 1},
             "align_corners": {"cubic": 1, "linear": 1, "nearest": 1},
             "asymmetric": {"cubic": 1, "linear": 1, "nearest": 1},
             "half_pixel": {"cubic": 2.5, "linear": 2.5, "nearest": 2}}
    for place, modes in right.items():
        for mode, value in modes.items():
            yield one_node("Resize", 13, {"x": x}, [np.full((1, 1, 1, 1), value, np.float32)],
                           {"roi": None, "scales": None, "sizes": np.array([1, 1, 1, 1], np.int64)},
                           mode=mode, coordinate_transformation_mode=place)


def old_resizes():
    """Version 10 takes the element behind where it shrinks, as ONNX's test of it has it."""
    x = np.arange(1, 9, dtype=np.float32).reshape(1, 1, 2, 4)
    yield one_node("Resize", 10, {"x": x}, [floats(1, 3).reshape(1, 1, 1, 2)],
                   {"scales": floats(1, 1, 0.6, 0.6)}, mode="nearest")


def loop_case(trips, declared, expected_shape):
    """A loop that stacks x + i, whose body declares its scan output as `declared`."""
    case = Case("Loop", 17)
    case.inputs = {"n": np.array(trips, np.int64), "x": np.ones((2, 3), np.float32)}
    case.types = {"n": I64, "x": F}
    case.dims = {"n": [], "x": ["rows", 3]}
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["a", "x"],
                                                                           ["b"]),
         helper.make_node("Concat", ["b", "x"], ["each"], axis=0)], "body",
        [helper.make_tensor_value_info("i", I64, []), helper.make_tensor_value_info("go", BOOL, []),
         helper.make_tensor_value_info("a", F, None)],
        [helper.make_tensor_value_info("go_on", BOOL, []), helper.make_tensor_value_info("b", F,
                                                                                         None),
         helper.make_tensor_value_info("each", F, declared)])
    case.nodes = [helper.make_node("Loop", ["n", "", "x"], ["last", "all"], body=body),
                  helper.make_node("ReduceSum", ["all", "axis"], ["sum"], keepdims=0)]
    case.constants = {"axis": np.array([0], np.int64)}
    case.types["axis"] = I64
    case.outputs = [("last", F), ("all", F), ("sum", F)]
    case.expected = [case.inputs["x"], np.zeros((0,) + expected_shape, np.float32),
                     np.zeros(expected_shape, np.float32)]
    return case


def trips():
    """No trip at all: nothing is stacked up, of the type and shape that a trip would give."""
    yield loop_case(0, [4, 3], (4, 3))
    for declared in ([None, 3], ["a", "b"], None):
        case = loop_case(0, declared, (4, 3))
        case.backends = ONLY_REFERENCE  # ONNX Runtime gives 0 for dimensions that are not declared
        yield case
    case = Case("Scan", 17)
    case.inputs = {"s": np.ones(2, np.float32), "x": np.ones((2, 0), np.float32)}
    case.types = {"s": F, "x": F}
    case.dims = {"s": [2], "x": [2, "length"]}
    body = helper.make_graph(
        [helper.make_node("Add", ["a", "e"], ["b"]), helper.make_node("Greater", ["b", "e"],
                                                                      ["t"])],
        "body", [helper.make_tensor_value_info(n, F, None) for n in "ae"],
        [helper.make_tensor_value_info("b", F, None), helper.make_tensor_value_info("t", BOOL,
                                                                                    None)])
    case.nodes = [helper.make_node("Scan", ["s", "x"], ["last", "all"], body=body,
                                   num_scan_inputs=1, scan_input_axes=[1], scan_output_axes=[1])]
    case.outputs = [("last", F), ("all", BOOL)]
    case.expected = [np.ones(2, np.float32), np.zeros((2, 0), bool)]
    case.backends = ONLY_REFERENCE  # ONNX Runtime divides by the length
    yield case


def limits():
    """Clip's limits default to the type's finite ones; the middle of a window is 1 as an
    integer."""
    for dtype, limit in ((np.float32, np.finfo(np.float32).max), (np.float16, 65504)):
        x = np.array([np.inf, -np.inf, 1], dtype)
        yield one_node("Clip", 13, {"x": x}, [np.array([limit, -limit, 1], dtype)])
    yield one_node("BlackmanWindow", 17, {"n": np.array(4, np.int64)},
                   [np.array([0, 0, 1, 0], np.int32)], output_datatype=TensorProto.INT32)
    yield one_node("HannWindow", 17, {"n": np.array(1, np.int64)}, [floats(np.nan)], periodic=0)


def wide_integers():
    """Integers are exact where a double is not, and wrap."""
    a = np.array([[2 ** 40 + 1, 3]], np.int64)
    b = np.array([[2 ** 20 + 1], [-7]], np.int64)
    for case in (one_node("Gemm", 13, {"a": a, "b": b}, [a @ b]),
                 one_node("Gemm", 13, {"a": a, "b": b.T.copy(), "c": np.array([5], np.int64)},
                          [a @ b + 5], transB=1)):
        case.backends = ONLY_REFERENCE  # ONNX Runtime has no Gemm of integers
        yield case


def zero_points():
    """Integer convolution takes a zero point for each channel of the weights."""
    draw = np.random.default_rng(0)
    x = draw.integers(-9, 9, (1, 2, 4)).astype(np.int8)
    w = draw.integers(0, 9, (2, 2, 3)).astype(np.uint8)
    points = np.array([1, 3], np.uint8)
    right = np.array([[[((x[0, :, t:t + 3].astype(int) - 2) * (w[o].astype(int) - points[o])).sum()
                        for t in range(2)] for o in range(2)]], np.int32)
    case = one_node("ConvInteger", 10, {"x": x, "w": w, "xz": np.array(2, np.int8), "wz": points},
                    [right])
    case.backends = ONLY_REFERENCE  # ONNX Runtime takes one zero point
    yield case


def bits():
    case = one_node("BitCast", 26, {"x": np.array([1, 15, 8], np.uint8)},
                    [np.array([1, -1, -8], np.int8)], to=TensorProto.INT4)
    case.types["x"] = TensorProto.UINT4
    case.outputs = [("y0", TensorProto.INT4)]
    case.backends = ONLY_REFERENCE  # ONNX Runtime has no operator set 26
    yield case
    windows = np.arange(8, dtype=np.int16).reshape(1, 4, 2)
    case = one_node("Col2Im", 18, {"x": windows}, [np.array([[[[0, 3, 3], [4, 11, 7]]]], np.int16)],
                    {"image": np.array([2, 3], np.int64), "block": np.array([2, 2], np.int64)})
    case.backends = ONLY_REFERENCE  # ONNX Runtime has single precision only
    yield case


def not_finite():
    """NaN and infinities stay where they are a term, and only there."""
    nan, inf = np.nan, np.inf
    yield one_node("Hardmax", 13, {"x": floats(1, nan, 3)}, [floats(0, 1, 0)])
    yield one_node("MaxPool", 22, {"x": floats(1, nan, nan).reshape(1, 1, 3)},
                   [floats(nan).reshape(1, 1, 1), np.array([[[1]]], np.int64)], kernel_shape=[3])
    for mode in ("max", "min"):
        yield one_node("ScatterElements", 18, {"x": floats(nan, 2)}, [floats(nan, nan)],
                       {"i": np.array([0, 1], np.int64), "u": floats(1, nan)}, reduction=mode)
    yield one_node("RMSNormalization", 23, {"x": floats(inf, 1)}, [floats(nan, 0)],
                   {"scale": floats(1, 1)})
    yield one_node("STFT", 17, {"x": floats(1, 1).reshape(1, 2, 1)},
                   [floats(inf, nan, inf, nan).reshape(1, 1, 2, 2)],
                   {"step": np.array(1, np.int64), "window": floats(inf, 1)})
    yield one_node("Resize", 19, {"x": floats(1, 2, inf)}, [floats(1, 1.5, 2, inf, inf)],
                   {"roi": None, "scales": None, "sizes": np.array([5], np.int64)}, mode="linear",
                   coordinate_transformation_mode="align_corners")
    grid = floats(-1, -1).reshape(1, 1, 1, 2)
    yield one_node("GridSample", 20, {"x": floats(1, inf).reshape(1, 1, 1, 2), "g": grid},
                   [floats(1).reshape(1, 1, 1, 1)], mode="linear", align_corners=1)
    yield one_node("DeformConv", 19, {"x": floats(1, inf).reshape(1, 1, 1, 2)},
                   [floats(2, inf).reshape(1, 1, 1, 2)],
                   {"w": floats(2).reshape(1, 1, 1, 1),
                    "o": np.zeros((1, 2, 1, 2), np.float32)})
    yield one_node("ReduceLogSumExp", 13, {"x": floats(-inf, nan, 1)}, [floats(nan)], keepdims=1)
    narrow = np.array([np.iinfo(np.int32).max, np.iinfo(np.int32).min, 0], np.int32)
    yield one_node("Cast", 13, {"x": floats(inf, -inf, nan)}, [narrow], to=TensorProto.INT32)


def longer_windows():
    """SAME padding of a transposed convolution whose windows do not reach its length: the padding
    is negative, and halved."""
    x = floats(1, 2).reshape(1, 1, 2)
    for auto in ("SAME_UPPER", "SAME_LOWER"):
        yield one_node("ConvTranspose", 11, {"x": x}, [floats(0, 5, 0, 0, 10, 0).reshape(1, 1, 6)],
                       {"w": floats(5).reshape(1, 1, 1)}, strides=[3], auto_pad=auto)


def whole_digits():
    """Elements that are only moved keep all their digits; a factor meets unsigned ones as such."""
    wide = np.array([2 ** 62 + 1, -2 ** 62 - 3], np.int64)
    for op, opset in (("Resize", 10), ("Upsample", 9)):
        yield one_node(op, opset, {"x": wide}, [np.repeat(wide, 2)], {"scales": floats(2)},
                       mode="nearest")
    yield one_node("Gemm", 13, {"a": np.array([[2 ** 63]], np.uint64)},
                   [np.array([[2 ** 62]], np.uint64)], {"b": np.array([[1]], np.uint64)}, alpha=0.5)


def no_points():
    """Of one bin alone an inverse transform gives nothing."""
    yield one_node("DFT", 19, {"x": np.ones((1, 3, 2), np.float32)},
                   [np.ones((0, 3, 1), np.float32)], axis=0, inverse=1, onesided=1)


def quantized_reals():
    """A product that becomes float8 is rounded once, to the nearest element."""
    case = Case("QLinearMatMul", 21)
    eighth = helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT8E5M2)
    point = np.array(0, eighth)
    case.inputs = {"a": np.array([[3, -8]], np.int8)}
    case.constants = {"as": np.array(0.25, np.float32), "az": np.array(0, np.int8),
                      "b": np.array([[1, 0], [0, 1]], np.int8), "bs": np.array(1, np.float32),
                      "bz": np.array(0, np.int8), "ys": np.array(1, np.float32), "yz": point}
    case.types = {n: helper.np_dtype_to_tensor_dtype(a.dtype)
                  for n, a in {**case.inputs, **case.constants}.items()}
    case.dims = {"a": [1, 2]}
    case.nodes = [helper.make_node("QLinearMatMul", ["a", "as", "az", "b", "bs", "bz", "ys", "yz"],
                                   ["y"])]
    case.outputs = [("y", TensorProto.FLOAT8E5M2)]
    case.expected = [np.array([[0.75, -2]], eighth)]
    yield case


# Of these ONNX Runtime has another opinion, or no kernel.
REFERENCE_ALONE = (not_finite, longer_windows, whole_digits, quantized_reals)


def trees():
    """Of two rows each comes to a leaf of its own; a share of a normal distribution."""
    shares = np.array([0.5, 0.975])
    for kind, post, right in ((np.float32, 0, shares), (np.float16, 0, shares),
                              (np.float64, 4, [0.0, 1.959963984540054])):
        case = Case("ai.onnx.ml.TreeEnsemble", 21)
        case.inputs = {"x": np.array([[1, 7], [3, 7]], kind)}
        case.types = {"x": helper.np_dtype_to_tensor_dtype(np.dtype(kind))}
        case.dims = {"x": [2, 2]}
        node = helper.make_node(
            "TreeEnsemble", ["x"], ["y"], domain="ai.onnx.ml", nodes_featureids=[0],
            nodes_modes=numpy_helper.from_array(np.zeros(1, np.uint8)),
            nodes_splits=numpy_helper.from_array(np.array([2], kind)), nodes_truenodeids=[0],
            nodes_trueleafs=[1], nodes_falsenodeids=[1], nodes_falseleafs=[1], tree_roots=[0],
            leaf_targetids=[0, 0], leaf_weights=numpy_helper.from_array(shares.astype(kind)),
            n_targets=1, post_transform=post)
        case.nodes = [node]
        case.outputs = [("y", case.types["x"])]
        case.expected = [np.array(right, kind).reshape(2, 1)]
        if kind != np.float32:
            case.backends = ONLY_REFERENCE  # ONNX Runtime's is found near, and of two types alone
        yield case


def main():
    failures = cases = 0
    kilns = {name: Kiln(sys.argv[1], name) for name in ("reference", "onnxruntime")}
    for group in (pools, slices, resizes, old_resizes, trips, limits, wide_integers,
                  zero_points, bits, not_finite, longer_windows, whole_digits, quantized_reals,
                  no_points, trees):
        for number, case in enumerate(group()):
            if group in REFERENCE_ALONE:
                case.backends = ONLY_REFERENCE
            for name in getattr(case, "backends", kilns):
                answer = kilns[name].run(case)
                cases += 1
                if answer.stage or answer.errors:
                    found = f"stage {answer.stage}: {answer.sentence} {answer.issue}"
                else:
                    apart = differences(case, answer.outputs, case.expected)
                    found = apart[0] if apart else contradiction(case, answer, answer.outputs)
                if found:
                    failures += 1
                    print(f"{group.__name__} {number} ({case.op}) on {name}: {found}")
    for kiln in kilns.values():
        kiln.stop()
    print(f"{cases} cases, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
