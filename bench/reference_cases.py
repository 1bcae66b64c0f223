"""Models of one operator each, in shapes as images and texts have them, for reference_operators.py.

SPDX-License-Identifier: Apache-2.0
"""

import numpy
import onnx
import onnx.parser
from onnx import helper, numpy_helper

IMAGE = (1, 64, 56, 56)
TEXT = (8, 128, 512)
OPSET = 17


def weights(*shape, dtype=numpy.float32, low=-1.0, high=1.0):
    return numpy.random.RandomState(len(shape)).uniform(low, high, shape).astype(dtype)


def integers(*values):
    return numpy.array(values, numpy.int64)


# Operators that are younger than OPSET, or are there no more, and the operator set that they are
# taken from.
OTHER_OPSETS = {
    name: opset
    for opset, names in {
        9: "Upsample",
        10: "Scatter",
        18: "BitwiseAnd BitwiseNot BitwiseOr BitwiseXor CenterCropPad Col2Im LpPool Mish ReduceL1 "
            "ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMin ReduceProd ReduceSumSquare",
        19: "DeformConv",
        20: "AffineGrid Gelu GridSample",
        21: "DequantizeLinear GroupNormalization",
        23: "Attention RMSNormalization RotaryEmbedding",
        24: "Swish TensorScatter",
        26: "BitCast CumProd",
        28: "SwiGLU"}.items()
    for name in names.split()}

POSITIVE = (0.5, 2.0)
WINDOW = {"kernel_shape": [3, 3], "strides": [2, 2]}
BYTES = numpy.uint8

# A name, the operator, the shape of the input (or NumPy's type and the shape), more inputs,
# attributes, the number of outputs and, where it is not -1 to 1, the range of the input.
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
    ("Where", "Where", IMAGE, [weights(*IMAGE) > 0, weights(*IMAGE)], {}, 1),
    ("Shape", "Shape", IMAGE, [], {}, 1),
    ("DepthToSpace", "DepthToSpace", IMAGE, [], {"blocksize": 2}, 1),
    ("Einsum", "Einsum", (8, 128, 64), [weights(8, 64, 128)],
     {"equation": "bij,bjk->bik"}, 1),
    ("Einsum, transposed", "Einsum", (8, 128, 64), [weights(8, 128, 64)],
     {"equation": "bij,bkj->bik"}, 1),
    ("MatMul, a column", "MatMul", (1000, 2048), [weights(2048, 1)], {}, 1),
    *[(name, name, IMAGE, [], {}, 1) for name in (
        "Acos", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Cos", "Cosh", "Elu", "Floor",
        "Mish", "Round", "Selu", "Sin", "Sinh", "Softplus", "Tan", "HardSigmoid", "Softsign",
        "ThresholdedRelu", "Abs", "Neg", "Sign", "Shrink", "IsNaN", "IsInf", "Gelu", "Swish",
        "Size", "Dropout", "Hardmax", "GlobalMaxPool", "GlobalLpPool", "MeanVarianceNormalization",
        "LpNormalization")],
    ("Acosh", "Acosh", IMAGE, [], {}, 1, (1.0, 4.0)),
    ("Log", "Log", IMAGE, [], {}, 1, POSITIVE),
    ("Sqrt", "Sqrt", IMAGE, [], {}, 1, POSITIVE),
    ("Reciprocal", "Reciprocal", IMAGE, [], {}, 1, POSITIVE),
    ("Pow, of floats", "Pow", IMAGE, [weights(*IMAGE)], {}, 1, POSITIVE),
    *[(name, name, IMAGE, [weights(*IMAGE)], {}, 1) for name in (
        "Equal", "GreaterOrEqual", "Less", "LessOrEqual", "Sub", "PRelu", "Max", "Min", "Mean",
        "Sum")],
    ("Mod", "Mod", IMAGE, [weights(*IMAGE)], {"fmod": 1}, 1),
    *[(name, name, (bool, IMAGE), [weights(*IMAGE) > 0], {}, 1) for name in ("And", "Or", "Xor")],
    ("Not", "Not", (bool, IMAGE), [], {}, 1),
    *[(name, name, (numpy.int32, IMAGE), [weights(*IMAGE, high=100.0).astype(numpy.int32)], {}, 1)
      for name in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")],
    ("BitwiseNot", "BitwiseNot", (numpy.int32, IMAGE), [], {}, 1),
    ("BitShift", "BitShift", (numpy.uint32, IMAGE), [numpy.uint32(3)], {"direction": "LEFT"}, 1),
    ("Add, int64", "Add", (numpy.int64, IMAGE), [numpy.int64(7)], {}, 1),
    ("Mul, int32", "Mul", (numpy.int32, IMAGE), [numpy.int32(7)], {}, 1),
    ("SpaceToDepth", "SpaceToDepth", IMAGE, [], {"blocksize": 2}, 1),
    ("GatherElements", "GatherElements", (1000, 256),
     [numpy.arange(256000).reshape(1000, 256) % 256], {"axis": 0}, 1),
    ("GatherND", "GatherND", (1000, 256), [numpy.arange(500).reshape(500, 1) * 2], {}, 1),
    ("ScatterElements", "ScatterElements", (200, 256),
     [numpy.arange(25600).reshape(100, 256) % 200, weights(100, 256)], {"axis": 0}, 1),
    ("ScatterND", "ScatterND", (1000, 256),
     [numpy.arange(500).reshape(500, 1) * 2, weights(500, 256)], {}, 1),
    ("TensorScatter", "TensorScatter", (2, 8, 128, 64), [weights(2, 8, 16, 64), integers(3, 9)], {},
     1),
    ("OneHot", "OneHot", (numpy.int64, (64, 56)),
     [numpy.int64(100), numpy.array([0, 1], numpy.float32)], {}, 1),
    ("CastLike", "CastLike", IMAGE, [numpy.int32(1)], {}, 1),
    ("BitCast", "BitCast", IMAGE, [], {"to": 6}, 1),
    ("EyeLike", "EyeLike", (512, 512), [], {}, 1),
    ("Trilu", "Trilu", TEXT, [], {}, 1),
    *[(name + ", last", name, TEXT, [integers(-1)], {}, 1) for name in (
        "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp")],
    ("ReduceLogSum, last", "ReduceLogSum", TEXT, [integers(-1)], {}, 1, POSITIVE),
    ("ReduceSum, all", "ReduceSum", TEXT, [], {}, 1),
    *[(name + ", first", name, TEXT, [integers(0)], {}, 1) for name in (
        "ReduceMin", "ReduceProd", "ReduceL2", "ReduceLogSumExp")],
    ("ReduceMax, first", "ReduceMax", TEXT, [], {"axes": [0]}, 1),
    ("ReduceMax, int32", "ReduceMax", (numpy.int32, TEXT), [], {"axes": [-1]}, 1),
    ("ReduceSum, int64", "ReduceSum", (numpy.int64, TEXT), [integers(-1)], {}, 1),
    ("ReduceSum, int64, first", "ReduceSum", (numpy.int64, TEXT), [integers(0)], {}, 1),
    ("ArgMax, first", "ArgMax", TEXT, [], {"axis": 0}, 1),
    ("CumSum, int64", "CumSum", (numpy.int64, TEXT), [numpy.int64(2)], {}, 1),
    ("Hardmax, a middle axis", "Hardmax", IMAGE, [], {"axis": 1}, 1),
    ("LpNormalization, a middle axis", "LpNormalization", IMAGE, [], {"axis": 1}, 1),
    ("Pow, negative numbers", "Pow", IMAGE, [weights(*IMAGE)], {}, 1),
    ("Pow, int64", "Pow", (numpy.int64, IMAGE), [numpy.int64(2)], {}, 1),
    ("Cast to uint8", "Cast", IMAGE, [], {"to": 2}, 1),
    ("Cast to bool", "Cast", IMAGE, [], {"to": 9}, 1),
    ("Cast to bfloat16", "Cast", IMAGE, [], {"to": 16}, 1),
    ("Cast of int64", "Cast", (numpy.int64, IMAGE), [], {"to": 1}, 1),
    ("Cast of uint8", "Cast", (numpy.uint8, IMAGE), [], {"to": 1}, 1),
    ("Gather, last axis", "Gather", TEXT, [integers(*range(0, 512, 3))], {"axis": 2}, 1),
    ("Compress, flat", "Compress", (1000, 256), [numpy.arange(256000) % 3 == 0], {}, 1),
    ("Where, broadcast", "Where", (8, 128, 1), [weights(*TEXT) > 0, numpy.float32(0)], {}, 1),
    ("Sum, broadcast", "Sum", IMAGE, [weights(64, 1, 1)], {}, 1),
    ("Clip, int64", "Clip", (numpy.int64, IMAGE), [numpy.int64(5), numpy.int64(50)], {}, 1),
    ("Add, uint8", "Add", (numpy.uint8, TEXT), [numpy.uint8(7)], {}, 1),
    ("Mod, int64", "Mod", (numpy.int64, TEXT), [numpy.int64(7)], {}, 1),
    *[(name + ", float64", name, (numpy.float64, IMAGE), [], {}, 1) for name in (
        "Floor", "Exp", "Tanh")],
    ("ScatterND, sums", "ScatterND", (1000, 256),
     [numpy.arange(500).reshape(500, 1) * 2, weights(500, 256)], {"reduction": "add"}, 1),
    ("ArgMin", "ArgMin", TEXT, [], {"axis": -1}, 1),
    ("CumProd", "CumProd", TEXT, [numpy.int64(2)], {}, 1),
    ("MatMulInteger", "MatMulInteger", (BYTES, (128, 512)),
     [weights(512, 512, low=0.0, high=9.0).astype(BYTES)], {}, 1),
    ("QLinearMatMul", "QLinearMatMul", (BYTES, (128, 512)),
     [numpy.float32(0.1), BYTES(3), weights(512, 512, low=0.0, high=9.0).astype(BYTES),
      numpy.float32(0.1), BYTES(4), numpy.float32(0.5), BYTES(5)], {}, 1),
    ("ConvInteger", "ConvInteger", (BYTES, (1, 16, 28, 28)),
     [weights(16, 16, 3, 3, low=0.0, high=9.0).astype(BYTES)], {}, 1),
    ("QLinearConv", "QLinearConv", (BYTES, (1, 16, 28, 28)),
     [numpy.float32(0.1), BYTES(3), weights(16, 16, 3, 3, low=0.0, high=9.0).astype(BYTES),
      numpy.float32(0.1), BYTES(4), numpy.float32(0.5), BYTES(5)], {}, 1),
    ("LpPool", "LpPool", (1, 8, 28, 28), [], WINDOW, 1),
    ("MaxUnpool", "MaxUnpool", (1, 8, 14, 14),
     [numpy.arange(1568).reshape(1, 8, 14, 14) * 4], WINDOW, 1),
    ("RMSNormalization", "RMSNormalization", TEXT, [weights(512)], {}, 1),
    ("GroupNormalization", "GroupNormalization", IMAGE, [weights(64), weights(64)],
     {"num_groups": 8}, 1),
    ("DequantizeLinear", "DequantizeLinear", (BYTES, IMAGE), [numpy.float32(0.01), BYTES(128)], {},
     1),
    ("DynamicQuantizeLinear", "DynamicQuantizeLinear", IMAGE, [], {}, 3),
    ("CenterCropPad", "CenterCropPad", IMAGE, [integers(48, 64)], {"axes": [2, 3]}, 1),
    ("ReverseSequence", "ReverseSequence", (128, 8, 512), [integers(*range(100, 108))], {}, 1),
    ("Compress", "Compress", (1000, 256), [numpy.arange(1000) % 3 == 0], {"axis": 0}, 1),
    ("Unique", "Unique", (numpy.int64, (64, 56)), [], {}, 1),
    ("NonZero", "NonZero", IMAGE, [], {}, 1),
    ("NonMaxSuppression", "NonMaxSuppression", (1, 100, 4),
     [weights(1, 3, 100), integers(10), numpy.float32(0.5)], {}, 1),
    ("RNN", "RNN", (16, 4, 64), [weights(1, 64, 64), weights(1, 64, 64)], {"hidden_size": 64}, 2),
    ("GRU", "GRU", (16, 4, 64), [weights(1, 192, 64), weights(1, 192, 64)], {"hidden_size": 64}, 2),
    ("LSTM", "LSTM", (16, 4, 64), [weights(1, 256, 64), weights(1, 256, 64)], {"hidden_size": 64},
     3),
    ("ConvTranspose", "ConvTranspose", (1, 8, 14, 14), [weights(8, 8, 3, 3)], {"strides": [2, 2]},
     1),
    ("Col2Im", "Col2Im", (1, 72, 196), [integers(16, 16), integers(3, 3)], {}, 1),
    ("DeformConv", "DeformConv", (1, 4, 8, 8),
     [weights(4, 4, 3, 3), weights(1, 18, 6, 6), weights(4), weights(1, 9, 6, 6)], {}, 1),
    ("Resize, linear", "Resize", (1, 16, 28, 28),
     [numpy.array([], numpy.float32), numpy.array([1, 1, 2, 2], numpy.float32)],
     {"mode": "linear"}, 1),
    ("Upsample", "Upsample", (1, 16, 28, 28), [numpy.array([1, 1, 2, 2], numpy.float32)], {}, 1),
    ("Scatter", "Scatter", (200, 256),
     [numpy.arange(25600).reshape(100, 256) % 200, weights(100, 256)], {"axis": 0}, 1),
    ("MaxRoiPool", "MaxRoiPool", (1, 4, 16, 16),
     [numpy.array([[0, 1, 2, 9, 12], [0, 0, 0, 15, 15]], numpy.float32)],
     {"pooled_shape": [4, 4]}, 1),
    ("GridSample", "GridSample", (1, 4, 14, 14), [weights(1, 14, 14, 2)], {}, 1),
    ("AffineGrid", "AffineGrid", (2, 2, 3), [integers(2, 3, 28, 28)], {}, 1),
    ("Det", "Det", (64, 8, 8), [], {}, 1),
    ("RoiAlign", "RoiAlign", (1, 4, 16, 16),
     [weights(4, 4, low=0.0, high=15.0), integers(0, 0, 0, 0)],
     {"output_height": 5, "output_width": 5, "sampling_ratio": 2}, 1),
    ("Attention", "Attention", (1, 8, 64, 64), [weights(1, 8, 64, 64), weights(1, 8, 64, 64)], {},
     1),
    ("RotaryEmbedding", "RotaryEmbedding", (1, 8, 128, 64),
     [weights(128, 32), weights(128, 32), numpy.arange(128).reshape(1, 128)], {}, 1),
    ("DFT", "DFT", (4, 256, 1), [], {"axis": 1}, 1),
    ("DFT, 400 points", "DFT", (8, 400, 1), [], {"axis": 1}, 1),
    ("DFT, 4096 points", "DFT", (4, 4096, 1), [], {"axis": 1}, 1),
    ("DFT, a prime", "DFT", (8, 509, 1), [], {"axis": 1}, 1),
    ("STFT", "STFT", (1, 2048, 1), [numpy.int64(64), weights(128), numpy.int64(128)], {}, 1),
    ("NegativeLogLikelihoodLoss", "NegativeLogLikelihoodLoss", (512, 100),
     [numpy.arange(512) % 100], {}, 1),
    ("SoftmaxCrossEntropyLoss", "SoftmaxCrossEntropyLoss", (512, 100), [numpy.arange(512) % 100],
     {}, 1),
    ("TfIdfVectorizer", "TfIdfVectorizer", (numpy.int64, (8, 256)), [],
     {"mode": "TF", "min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 0,
      "ngram_counts": [0, 50], "ngram_indexes": list(range(75)),
      "pool_int64s": list(range(50)) + list(range(50))}, 1),
]

FUNCTIONS = ("Asin Asinh Atan Cosh Elu Exp Floor Log Round Sigmoid Sin Sinh Sqrt Tan Tanh").split()
INTEGERS = (numpy.int8, numpy.uint8, numpy.int16, numpy.int32, numpy.int64)


def drawn(kind, *shape):
    return weights(*shape, low=1.0, high=100.0).astype(kind)


def typed_cases():
    """The same in other types than float32."""
    for kind in (numpy.float64, numpy.float16):
        for name in FUNCTIONS:
            yield (f"{name}, {kind.__name__}", name, (kind, IMAGE), [], {}, 1,
                   POSITIVE if name in ("Log", "Sqrt") else (-1.0, 1.0))
    yield "Softmax, float64", "Softmax", (numpy.float64, TEXT), [], {"axis": -1}, 1
    yield "Softmax, the first axis", "Softmax", TEXT, [], {"axis": 0}, 1
    yield "Tile, rows", "Tile", (1, 512), [integers(128, 1)], {}, 1
    yield "Tile, numbers", "Tile", (512, 1), [integers(1, 128)], {}, 1
    for kind in (*INTEGERS, numpy.float64):
        of = kind.__name__
        for name in ("Add", "Sub", "Mul", "Div", "Max", "Equal", "Less"):
            yield f"{name}, {of}", name, (kind, IMAGE), [drawn(kind, *IMAGE)], {}, 1
        yield (f"Mod, {of}", "Mod", (kind, IMAGE), [drawn(kind, *IMAGE)],
               {"fmod": int(kind is numpy.float64)}, 1)
        for name in ("ReduceSum", "ReduceMin", "ReduceProd", "ReduceSumSquare"):
            for place, axis in (("last", -1), ("first", 0)):
                yield f"{name}, {of}, {place}", name, (kind, TEXT), [integers(axis)], {}, 1
        for place, axis in (("last", -1), ("first", 0)):
            yield f"ReduceMean, {of}, {place}", "ReduceMean", (kind, TEXT), [], {"axes": [axis]}, 1
        yield f"ArgMax, {of}", "ArgMax", (kind, TEXT), [], {"axis": -1}, 1
        yield (f"Where, {of}", "Where", (kind, IMAGE), [weights(*IMAGE) > 0, drawn(kind, *IMAGE)],
               {}, 1)
        yield f"Clip, {of}", "Clip", (kind, IMAGE), [kind(5), kind(50)], {}, 1
        yield f"Pow, {of}, 2", "Pow", (kind, IMAGE), [kind(2)], {}, 1
        yield f"TopK, {of}", "TopK", (kind, (64, 1000)), [integers(10)], {}, 2
        yield f"Tile, {of}", "Tile", (kind, (1, 64, 28, 28)), [integers(1, 1, 2, 2)], {}, 1
        for to, wire in (("bool", 9), ("int8", 3), ("int16", 5), ("int32", 6), ("float32", 1)):
            if to != of:
                yield f"Cast {of} to {to}", "Cast", (kind, IMAGE), [], {"to": wire}, 1


# Models of several nodes, and of those that no tensor goes into, as onnx.parser reads them.
TEXTS = [
    ("ConstantOfShape, Range", """(float[1] x) => (float[256,256] y, int64[n] z) {
        s = Constant <value_ints = [256, 256]> ()
        y = ConstantOfShape (s)
        a = Constant <value_int = 0> ()
        b = Constant <value_int = 10000> ()
        c = Constant <value_int = 1> ()
        z = Range (a, b, c) }"""),
    ("If", """(float[8,128,512] x) => (float[8,128,512] y) {
        c = Constant <value = bool {1}> ()
        y = If (c) <then_branch = g1 () => (float[8,128,512] t) { t = Neg (x) },
                    else_branch = g2 () => (float[8,128,512] e) { e = Abs (x) }> }"""),
    ("Loop", """(float[64,64] x) => (float[64,64] y) {
        n = Constant <value_int = 20> ()
        c = Constant <value = bool {1}> ()
        y = Loop (n, c, x) <body = g (int64 i, bool g_in, float[64,64] v)
            => (bool g_out, float[64,64] w) { g_out = Identity (g_in) w = Neg (v) }> }"""),
    ("Scan", """(float[50,4096] x) => (float[4096] z, float[50,4096] y) {
        n = Constant <value_ints = [4096]> ()
        zero = ConstantOfShape (n)
        z, y = Scan <num_scan_inputs = 1, body = g (float[4096] sum, float[4096] v)
            => (float[4096] total, float[4096] out) { total = Add (sum, v)
            out = Identity (total) }> (zero, x) }"""),
    ("Sequences", """(float[8,128,512] x) => (float[8,128,512] y, int64 n) {
        one = Constant <value_int = 1> ()
        s = SplitToSequence <axis = 0> (x)
        z = SequenceAt (s, one)
        t = SequenceInsert (s, z)
        u = SequenceErase (t, one)
        n = SequenceLength (u)
        y = ConcatFromSequence <axis = 0> (u) }"""),
    ("SequenceConstruct, SequenceEmpty", """(float[128,512] x) => (float[2,128,512] y) {
        s = SequenceEmpty ()
        t = SequenceInsert (s, x)
        u = SequenceConstruct (x, x)
        y = ConcatFromSequence <axis = 0, new_axis = 1> (u) }"""),
    ("SequenceMap", """(float[64,64,64] x) => (float[64,64,64] y) {
        s = SplitToSequence <axis = 0> (x)
        t = SequenceMap (s) <body = g (float[1,64,64] v) => (float[1,64,64] w) { w = Neg (v) }>
        y = ConcatFromSequence <axis = 0> (t) }"""),
    ("Optional", """(float[8,128,512] x) => (float[8,128,512] y, bool b) {
        o = Optional (x)
        b = OptionalHasElement (o)
        y = OptionalGetElement (o) }"""),
    ("Windows", """(float[1] x) => (float[n] a, float[n] b, float[n] c) {
        n = Constant <value_int = 4096> ()
        a = HannWindow (n)
        b = HammingWindow (n)
        c = BlackmanWindow (n) }"""),
    ("MelWeightMatrix", """(float[1] x) => (float[n,m] y) {
        bins = Constant <value_int = 40> ()
        length = Constant <value_int = 512> ()
        rate = Constant <value_int = 16000> ()
        low = Constant <value_float = 20.0> ()
        high = Constant <value_float = 8000.0> ()
        y = MelWeightMatrix (bins, length, rate, low, high) }"""),
    ("SwiGLU", """(float[1,64,56,56] x) => (float[1,64,56,56] y) { y = SwiGLU (x, x) }"""),
]




def case_of(name, operator, shape, more, attributes, outputs, limits=(-1.0, 1.0)):
    """Its name, its model, and the range of its input."""
    kind, shape = shape if isinstance(shape[0], type) else (numpy.float32, shape)
    inputs = ["x"] + [f"w{i}" for i in range(len(more))]
    if operator == "Where":
        inputs = ["w0", "x", "w1"]
    node = helper.make_node(operator, inputs, [f"y{i}" for i in range(outputs)], **attributes)
    constants = [numpy_helper.from_array(numpy.asarray(w), f"w{i}") for i, w in enumerate(more)]
    element = helper.np_dtype_to_tensor_dtype(numpy.dtype(kind))
    x = helper.make_tensor_value_info("x", element, shape)
    untyped = [onnx.ValueInfoProto(name=output) for output in node.output]
    if operator == "MeanVarianceNormalization":  # whose function ONNX's own inference refuses
        untyped = [helper.make_tensor_value_info("y0", element, shape)]
    graph = helper.make_graph([node], "one", [x], untyped, constants)
    return name, finished(graph, OTHER_OPSETS.get(operator, OPSET)), limits


def finished(graph, opset):
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)],
                             ir_version=8 if opset == OPSET else 10)
    typed = all(output.HasField("type") for output in graph.output)
    return made if typed else onnx.shape_inference.infer_shapes(made, strict_mode=True)


def text_of(name, text):
    graph = onnx.parser.parse_graph("one " + text)
    return name, finished(graph, OTHER_OPSETS.get(name, OPSET)), (-1.0, 1.0)


def all_cases():
    names = {case[0] for case in CASES}
    typed = [case for case in typed_cases() if case[0] not in names]
    return [case_of(*case) for case in (*CASES, *typed)] + [text_of(*text) for text in TEXTS]
