# SPDX-License-Identifier: Apache-2.0
"""What the specification says an operator's outputs are, worked out term by term.

A third opinion beside ONNX Runtime and onnx.reference, for the operators that those two do not
agree on, or that neither runs. Reals are computed in double and rounded once, integers wrap. It is
written for clearness, one element after the other, and knows nothing of Kiln's code."""
import math

import ml_dtypes
import numpy as np

from generate import BOOL, FLOAT8, FLOATS, FOUR_BITS, NAMES, numpy_type

DEFINITIONS = {}
REALS = FLOATS | FLOAT8 | {NAMES["float4e2m1"]}
INT4 = NAMES["int4"]
WHOLE = "iub"


def define(*names):
    def register(function):
        for name in names:
            DEFINITIONS[name] = function
        return function
    return register


class Given:
    """The inputs, attributes and types of the case's operator."""

    def __init__(self, case):
        self.case = case
        self.node = next(n for n in case.nodes if n.op_type == case.op.rpartition(".")[2])
        self.op = case.op
        self.opset = case.opset
        self.out = [t for _, t in case.outputs]

    def raw(self, index):
        name = self.node.input[index] if index < len(self.node.input) else ""
        return self.case.inputs.get(name, self.case.constants.get(name)) if name else None

    def dtype(self, index):
        return self.case.types[self.node.input[index]]

    def real(self, index):
        array = self.raw(index)
        return None if array is None else array.astype(np.float64)

    def whole(self, index):
        array = self.raw(index)
        if array is None:
            return None
        return array.astype(np.uint64 if array.dtype == np.uint64 else np.int64)

    def value(self, index):
        return self.real(index) if self.dtype(index) in REALS else self.whole(index)

    def attr(self, name, default=None):
        return self.case.attributes.get(name, default)


def stored(value, dtype):
    """A result as an element of that type. A whole number wraps, a real is cut off first; one that
    64 bits do not hold becomes the type's nearest end, what is no number 0."""
    value = np.asarray(value)
    kind = numpy_type(dtype)
    if dtype in REALS:
        return value.astype(kind)
    if dtype == BOOL:
        return value != 0
    flat = [whole_number(v, *ends(dtype)) for v in value.ravel().tolist()]
    if dtype in FOUR_BITS:
        flat = [(v & 15 ^ 8) - 8 if dtype == INT4 else v & 15 for v in flat]
        return np.array(flat, np.int8).astype(kind).reshape(value.shape)
    flat = [v & (1 << 8 * kind.itemsize) - 1 for v in flat]
    return np.array(flat, dtype=f"u{kind.itemsize}").view(kind).reshape(value.shape)


def ends(dtype):
    """The least and greatest number of an integer type."""
    if dtype in FOUR_BITS:
        return (-8, 7) if dtype == INT4 else (0, 15)
    info = np.iinfo(numpy_type(dtype))
    return int(info.min), int(info.max)


def whole_number(value, least, most):
    if not isinstance(value, float):
        return int(value)
    if math.isnan(value):
        return 0
    room = 2.0 ** 64 if least == 0 else 2.0 ** 63
    return most if value >= room else least if value <= -2.0 ** 63 else int(value)


def unstored(case):
    """Arrays of the outputs as the definition has them, before they take the outputs' types; None
    where there is no definition here."""
    function = DEFINITIONS.get(case.op)
    if function is None:
        return None
    with np.errstate(all="ignore"):
        return function(Given(case))


def outputs_of(case):
    values = unstored(case)
    if values is None:
        return None
    return [None if v is None else stored(v, t) for v, (_, t) in zip(values, case.outputs)]


# --- elements ---


def truncated(a, b):
    """A quotient of integers without what is behind the point; by 0: 0."""
    safe = np.where(b == 0, 1, b)
    quotient = np.abs(a) // np.abs(safe) * np.sign(a) * np.sign(safe) if a.dtype.kind == "i" \
        else a // safe
    return np.where(b == 0, 0, quotient)


@define("Add", "Sub", "Mul", "Div", "PRelu", "Mod", "Pow")
def binary(g):
    a, b = g.value(0), g.value(1)
    if g.op == "PRelu":
        if b.ndim < a.ndim and g.opset < 7:
            return None
        return [np.where(a < 0, a * b, a)]
    if g.op == "Pow":
        if a.dtype.kind in WHOLE and b.dtype.kind in WHOLE:
            powers = [whole_power(int(x), int(y)) for x, y in np.broadcast(a, b)]
            return [np.array(powers, dtype=object).reshape(np.broadcast(a, b).shape)]
        return [np.power(a.astype(np.float64), b.astype(np.float64))]
    if g.op == "Mod":
        if a.dtype.kind in WHOLE:
            return [np.fmod(a, b) if g.attr("fmod", 0) else np.mod(a, b)]
        return [np.fmod(a, b)]
    if g.op == "Div" and a.dtype.kind in WHOLE:
        return [truncated(a, b)]
    return [{"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}[g.op](a, b)]


def whole_power(x, y):
    """Past 64 bits only what wraps is kept, and that it is past them."""
    if y < 0:
        return float(x) ** y if x else math.inf
    return x ** y if y <= 64 or abs(x) < 2 else pow(x, y, 2 ** 64) + 2 ** 64


@define("Erf", "Sign", "Relu", "Shrink", "Reciprocal", "Softsign")
def unary(g):
    x = g.value(0)
    if g.op == "Erf":
        return [np.vectorize(math.erf, otypes=[float])(x.astype(np.float64))]
    if g.op == "Sign":
        return [np.sign(x)]
    if g.op == "Relu":
        return [np.where(np.isnan(x), x, np.maximum(x, 0)) if x.dtype.kind == "f"
                else np.maximum(x, 0)]
    if g.op == "Softsign":
        return [x / (1 + np.abs(x))]
    if g.op == "Reciprocal":
        return [1 / x]
    limit, bias = float(np.float32(g.attr("lambd", 0.5))), float(np.float32(g.attr("bias", 0.0)))
    x = x.astype(np.float64)
    return [np.where(x < -limit, x + bias, np.where(x > limit, x - bias, 0))]


@define("Max", "Min", "Sum", "Mean")
def variadic(g):
    arrays = [g.value(i) for i in range(len(g.node.input))]
    if g.op in ("Max", "Min"):
        total = arrays[0]
        for a in arrays[1:]:
            total = (np.maximum if g.op == "Max" else np.minimum)(total, a)
        return [total]
    total = sum(arrays[1:], arrays[0])
    return [total if g.op == "Sum" else total / len(arrays)]


@define("Clip")
def clip(g):
    x = g.value(0)
    least, most = g.value(1) if g.opset >= 11 and g.raw(1) is not None else None, None
    if g.opset >= 11 and g.raw(2) is not None:
        most = g.value(2)
    if g.opset < 11:
        least, most = g.attr("min"), g.attr("max")
    if x.dtype.kind == "f":
        kind = numpy_type(g.out[0])
        end = float(np.finfo(np.float32).max) if g.opset < 11 else float(
            np.finfo(kind).max if kind.kind == "f" else 3.3895313892515355e38)
        least, most = -end if least is None else least, end if most is None else most
    x = x if least is None else np.maximum(x, least)
    return [x if most is None else np.minimum(x, most)]


@define("HannWindow", "HammingWindow", "BlackmanWindow")
def window(g):
    n = int(g.raw(0))
    count = n if g.attr("periodic", 1) else n - 1
    angle = 2 * np.pi * np.divide(np.arange(n, dtype=np.float64), count)
    terms = {"HannWindow": (0.5, 0.5, 0), "HammingWindow": (25 / 46, 21 / 46, 0),
             "BlackmanWindow": (0.42, 0.5, 0.08)}[g.op]
    y = terms[0] - terms[1] * np.cos(angle) + terms[2] * np.cos(2 * angle)
    return [np.round(y, 12)]  # the middle is 1, whatever the cosines of angles lack


# --- reductions ---


def reduced_axes(g, rank):
    axes = g.attr("axes")
    if axes is None and g.raw(1) is not None:
        axes = g.raw(1).tolist()
    if not axes:
        return () if g.attr("noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted(a % rank for a in axes))


@define("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
        "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare")
def reduction(g):
    x = g.value(0)
    axes, keep = reduced_axes(g, x.ndim), bool(g.attr("keepdims", 1))
    more = {"axis": axes, "keepdims": keep}
    kind = g.op[6:]
    if kind in ("Max", "Min"):
        if x.dtype.kind == "f":
            start = -np.inf if kind == "Max" else np.inf
        elif g.out[0] == 9:
            start = kind == "Min"
        else:
            info = np.iinfo(numpy_type(g.out[0]))
            start = info.min if kind == "Max" else info.max
        return [(np.max if kind == "Max" else np.min)(x, initial=start, **more)]
    if kind == "Prod":
        return [np.prod(x, **more)]
    terms = np.abs(x) if kind == "L1" else x * x if kind == "SumSquare" else x
    if kind == "L2":
        x = x.astype(np.float64)
        return [np.sqrt(np.sum(x * x, **more))]
    if kind == "LogSumExp":
        x = x.astype(np.float64)
        top = np.max(x, initial=-np.inf, axis=axes, keepdims=True)
        top = np.where(np.isfinite(top), top, 0)
        total = np.log(np.sum(np.exp(x - top), axis=axes, keepdims=True)) + top
        return [total if keep else np.squeeze(total, axis=axes)]
    total = np.sum(terms, **more)
    if kind == "LogSum":
        return [np.log(total.astype(np.float64))]
    if kind == "Mean":
        count = int(np.prod([x.shape[a] for a in axes]))
        return [np.divide(total, count) if total.dtype.kind == "f"
                else truncated(total, np.full(total.shape, count, total.dtype))]
    return [total]


@define("ArgMax", "ArgMin")
def arg(g):
    x = g.value(0)
    axis = g.attr("axis", 0) % x.ndim
    if x.shape[axis] == 0:
        return None
    if x.size == 0:
        return [np.zeros([1 if i == axis else d for i, d in enumerate(x.shape)
                          if i != axis or g.attr("keepdims", 1)], np.int64)]
    best = (np.max if g.op == "ArgMax" else np.min)(x, axis=axis, keepdims=True)
    last = g.attr("select_last_index", 0)
    hits = np.moveaxis((x == best) | (x != x), axis, -1)
    place = np.argmax(hits[..., ::-1], -1) if last else np.argmax(hits, -1)
    place = x.shape[axis] - 1 - place if last else place
    return [np.expand_dims(place, axis) if g.attr("keepdims", 1) else place]


@define("CumSum", "CumProd")
def cumulate(g):
    x = g.value(0)
    axis = int(g.raw(1)) % x.ndim
    x = np.flip(x, axis) if g.attr("reverse", 0) else x
    if g.attr("exclusive", 0):
        first = np.full_like(np.take(x, [0], axis) if x.shape[axis] else x, g.op == "CumProd")
        x = np.concatenate([first, np.delete(x, -1, axis)], axis) if x.shape[axis] else x
    x = (np.cumsum if g.op == "CumSum" else np.cumprod)(x, axis)
    return [np.flip(x, axis) if g.attr("reverse", 0) else x]


@define("Softmax", "LogSoftmax", "Hardmax")
def softmax(g):
    x = g.real(0)
    axis = g.attr("axis", -1 if g.opset >= 13 else 1)
    shape = x.shape
    if g.opset < 13:
        axis %= x.ndim
        x = x.reshape(int(np.prod(shape[:axis])), int(np.prod(shape[axis:])))
        axis = 1
    if x.size == 0:
        return [x.reshape(shape)]
    if g.op == "Hardmax":
        place = np.argmax(x, axis)
        return [(np.moveaxis(np.eye(x.shape[axis])[place], -1, axis)).reshape(shape)]
    x = x - np.max(x, axis, keepdims=True)
    total = np.sum(np.exp(x), axis, keepdims=True)
    return [(np.exp(x) / total if g.op == "Softmax" else x - np.log(total)).reshape(shape)]


# --- products ---


@define("MatMul")
def matmul(g):
    return [np.matmul(g.value(0), g.value(1))]


@define("Gemm")
def gemm(g):
    a, b = g.value(0), g.value(1)
    a, b = a.T if g.attr("transA", 0) else a, b.T if g.attr("transB", 0) else b
    alpha, beta = g.attr("alpha", 1.0), g.attr("beta", 1.0)
    total, c = a @ b, None if g.raw(2) is None else g.value(2)
    if alpha != 1 or beta != 1:
        # Whole numbers wrap first; a factor is a real number.
        total, c = total * alpha, None if c is None else c * beta
    total = total if c is None else total + c
    return [total]


@define("Einsum")
def einsum(g):
    arrays = [g.value(i) for i in range(len(g.node.input))]
    return [np.einsum(g.attr("equation").replace(" ", ""), *arrays)]


def point(array, shape_of, axis):
    """A zero point or scale, laid along an axis where it has as many elements."""
    if array is None:
        return 0
    if array.size == 1 and array.ndim < 2:
        return array.reshape(())
    return array.reshape([-1 if i == axis % len(shape_of) else 1 for i in range(len(shape_of))]) \
        if array.ndim == 1 else array


@define("MatMulInteger")
def matmul_integer(g):
    a, b = g.whole(0), g.whole(1)
    return [np.matmul(a - point(g.whole(2), a.shape, -2), b - point(g.whole(3), b.shape, -1))]


NUDGE = 0.0  # added to quotients, to see which ones lie halfway


def requantized(total, scale, zero, dtype):
    """Rounded half to even, moved by the zero point, held by the ends of the type."""
    info = np.iinfo(numpy_type(dtype))
    return np.clip(np.rint(total * scale + NUDGE) + zero, info.min, info.max)


@define("QLinearMatMul")
def qlinear_matmul(g):
    product = np.matmul(g.value(0) - g.value(2), g.value(3) - g.value(5))
    zero = g.value(7)
    if g.out[0] in REALS:
        greatest = float(ml_dtypes.finfo(numpy_type(g.out[0])).max)
        y = product * (g.real(1) * g.real(4) / g.real(6)) + zero
        return [np.clip(y, -greatest, greatest)]
    return [requantized(product, g.real(1) * g.real(4) / g.real(6), zero, g.out[0])]


# --- quantizing ---


def along(array, shape, axis, block):
    """A scale or zero point, laid over the elements."""
    if array is None or array.ndim == 0 or array.size == 1 and array.ndim == 1:
        return array if array is None else array.reshape(())
    if block:
        return np.repeat(array, block, axis).take(range(shape[axis]), axis)
    return point(array, shape, axis)


@define("QuantizeLinear")
def quantize(g):
    x = g.value(0)
    axis, block = g.attr("axis", 1), g.attr("block_size", 0)
    axis = axis % x.ndim if x.ndim else 0
    scale = along(g.real(1), x.shape, axis, block)
    zero = along(g.real(2), x.shape, axis, block)
    ratio = x / scale
    if g.out[0] in REALS:
        return None
    least, most = ends(g.out[0])
    whole = np.rint(ratio) + (0 if zero is None else zero)
    return [np.clip(np.where(np.isnan(whole), 0, whole), least, most)]


@define("DynamicQuantizeLinear")
def dynamic_quantize(g):
    x = g.raw(0)
    least, most = np.minimum(0, np.min(x)), np.maximum(0, np.max(x))
    scale = np.float32((most - least) / np.float32(255))
    zero = np.clip(np.rint(-least / scale), 0, 255)
    if scale == 0 or not np.isfinite(scale):
        return None
    return [np.clip(np.rint(x / scale) + zero, 0, 255), scale, zero]


@define("Cast", "CastLike")
def cast(g):
    return None if g.out[0] in FLOAT8 | {NAMES["float4e2m1"]} else [g.value(0)]
