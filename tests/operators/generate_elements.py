# SPDX-License-Identifier: Apache-2.0
"""Operators that take tensors element by element, reductions, and products."""
import numpy as np

from generate import (B16, BOOL, D, F, FLOATS, H, I32, I64, NAMES, Unfit, bit_size, generator,
                      numpy_type)

SMALL_DOMAIN = {"Acos": (-1, 1), "Asin": (-1, 1), "Atanh": (-1, 1), "Acosh": (1, 5),
                "Sqrt": (0, 9), "Log": (0.01, 9), "Cosh": (-4, 4), "Sinh": (-4, 4), "Exp": (-4, 4),
                "Tan": (-1, 1)}


@generator("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Ceil", "Cos",
           "Cosh", "Erf", "Exp", "Floor", "HardSwish", "Identity", "IsNaN", "Log", "Mish", "Neg",
           "Not", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus",
           "Softsign", "Sqrt", "Tan", "Tanh")
def unary(r):
    low, high = SMALL_DOMAIN.get(r.op, (None, None)) if not r.special else (None, None)
    x = r.tensor("x", 0, r.shape(), low=low, high=high)
    return r.finish([x])


@generator("Elu", "Selu", "Celu", "LeakyRelu", "HardSigmoid", "ThresholdedRelu", "Gelu", "Swish",
           "Shrink", "IsInf", "SwiGLU")
def parametric(r):
    shape = r.shape()
    x = r.tensor("x", 0, shape)
    values = {"alpha": float(np.float32(r.random.uniform(0.1, 2))),
              "beta": float(np.float32(r.random.uniform(-1, 1))),
              "gamma": float(np.float32(r.random.uniform(0.1, 2))),
              "lambd": float(np.float32(r.random.uniform(0, 1))),
              "bias": float(np.float32(r.random.uniform(-1, 1))),
              "approximate": r.pick(["none", "tanh"]),
              "detect_negative": r.upto(0, 1), "detect_positive": r.upto(0, 1)}
    names = [x]
    if r.op == "SwiGLU":
        names.append(r.tensor("y", 1, shape, dtype=r.type_of(x)))
    return r.finish(names, **r.maybe(**values))


@generator("Add", "Sub", "Mul", "Div", "And", "Or", "Xor", "Equal", "Greater", "Less",
           "GreaterOrEqual", "LessOrEqual", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "PRelu")
def binary(r):
    shape = r.shape()
    dtype = r.dtype(0)
    other = r.broadcast(shape)
    if r.op == "PRelu":
        other = tuple(d if i == d else 1 for i, d in zip(shape, other[len(other) - len(shape):])) \
            if len(other) >= len(shape) else other
        other = tuple(1 if r.chance(0.4) else d for d in shape[len(shape) - min(len(shape), 2):])
    swap = r.chance(0.3) and r.op != "PRelu"
    low = 1 if r.op == "Div" and dtype not in FLOATS else None
    x = r.tensor("x", 0, other if swap else shape, dtype=dtype)
    y = r.tensor("y", 1, shape if swap else other, dtype=dtype, low=low)
    return r.finish([x, y])


@generator("BitShift")
def shift(r):
    shape = r.shape()
    dtype = r.dtype(0)
    x = r.tensor("x", 0, shape, dtype=dtype)
    y = r.tensor("y", 1, r.broadcast(shape), dtype=dtype, low=0, high=7)
    return r.finish([x, y], direction=r.pick(["LEFT", "RIGHT"]))


@generator("Mod")
def mod(r):
    shape = r.shape()
    dtype = r.dtype(0)
    real = dtype in FLOATS
    x = r.tensor("x", 0, shape, dtype=dtype)
    array = r.array(dtype, r.broadcast(shape))
    array = np.where(array == 0, np.array(3, array.dtype), array)
    y = r.add("y", dtype, array)
    return r.finish([x, y], fmod=1 if real else r.pick([None, 0, 1]))


@generator("Pow")
def power(r):
    shape = r.shape()
    dtype = r.dtype(0)
    x = r.tensor("x", 0, shape, dtype=dtype, low=1 if dtype in FLOATS else None,
                 high=3 if dtype in FLOATS else None)
    other = dtype if r.since < 12 else r.pick([t for t in r.allowed(1)])
    y = r.tensor("y", 1, r.broadcast(shape), dtype=other, low=0, high=3)
    return r.finish([x, y])


@generator("Max", "Min", "Sum", "Mean")
def variadic(r):
    shape = r.shape()
    dtype = r.dtype(0)
    names = [r.tensor("x0", 0, shape, dtype=dtype)]
    for i in range(1, r.upto(1, 4)):
        other = r.broadcast(shape)[-len(shape):] if shape and r.since >= 8 else shape
        names.append(r.tensor(f"x{i}", 0, other, dtype=dtype))
    return r.finish(names)


@generator("Where")
def where(r):
    shape = r.shape()
    dtype = r.dtype(1)
    return r.finish([r.tensor("c", 0, r.broadcast(shape), dtype=BOOL),
                     r.tensor("x", 1, shape, dtype=dtype),
                     r.tensor("y", 2, r.broadcast(shape), dtype=dtype)])


@generator("Clip")
def clip(r):
    dtype = r.dtype(0)
    x = r.tensor("x", 0, r.shape(), dtype=dtype)
    if r.since < 11:
        return r.finish([x], **r.maybe(min=-1.0, max=1.5))
    low = r.scalar("low", dtype, 1 if np.dtype(numpy_type(dtype)).kind == "u" else -1) \
        if r.chance(0.7) else ""
    high = r.scalar("high", dtype, r.upto(-2,
                                          4) if np.dtype(numpy_type(dtype)).kind != "u" else 3) \
        if r.chance(0.7) else ""
    return r.finish([x, low, high])


@generator("Dropout")
def dropout(r):
    x = r.tensor("x", 0, r.shape())
    inputs = [x]
    if r.since >= 12:
        kind = r.pick([F, D, H])
        inputs += [r.scalar("ratio", kind, 0.5) if r.chance(0.5) else "",
                   r.scalar("train", BOOL, False) if r.chance(0.5) else ""]
        return r.finish(inputs, [r.type_of(x), BOOL][:r.upto(1, 2)], **r.maybe(seed=3))
    if r.since >= 10 and r.chance(0.5):
        return r.finish(inputs, [r.type_of(x), BOOL], **r.maybe(ratio=0.5))
    return r.finish(inputs, **r.maybe(ratio=0.5))


CASTS = [t for t in NAMES.values()]


@generator("Cast", "CastLike")
def cast(r):
    dtype = r.dtype(0)
    low, high = (None, None) if dtype in (BOOL,) else (-6, 6)
    targets = [t for t in r.allowed(0, output=True)]
    to = r.pick(targets)
    if np.dtype(numpy_type(to)).kind == "u" and dtype in FLOATS:
        low = 0
    x = r.tensor("x", 0, r.shape(), dtype=dtype, low=low, high=high)
    more = r.maybe(saturate=r.upto(0, 1))
    if r.op == "CastLike":
        return r.finish([x, r.tensor("like", 1, r.shape(0, 1), dtype=to)], [to], **more)
    return r.finish([x], [to], to=to, **more)


@generator("BitCast")
def bit_cast(r):
    dtype = r.dtype(0)
    to = r.pick([t for t in r.allowed(0, output=True) if bit_size(t) == bit_size(dtype)])
    return r.finish([r.tensor("x", 0, r.shape(), dtype=dtype)], [to], to=to)


# --- reductions ---


@generator("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
           "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare")
def reduction(r):
    shape = r.shape()
    dtype = r.dtype(0)
    low, high = (0.1, 3) if r.op == "ReduceLogSum" else (None, None)
    if r.op in ("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceProd"):
        low, high = (-3, 3)
    x = r.tensor("x", 0, shape, dtype=dtype, low=low, high=high)
    axes = None
    if r.chance(0.75) and shape:
        count = r.upto(0 if r.since >= 13 and "axes" not in r.schema.attributes else 1, len(shape))
        axes = [int(a) for a in r.random.permutation(len(shape))[:count]]
        axes = [a - len(shape) if r.since >= 11 and r.chance(0.3) else a for a in axes]
    more = r.maybe(keepdims=r.upto(0, 1), noop_with_empty_axes=r.upto(0, 1))
    if "axes" in r.schema.attributes:
        return r.finish([x], axes=axes, **more)
    return r.finish([x, r.ints("axes", axes) if axes is not None else ""], **more)


@generator("ArgMax", "ArgMin")
def arg(r):
    shape = r.shape(1)
    axis = r.upto(0, len(shape) - 1)
    if shape[axis] == 0:
        raise Unfit
    if r.since >= 11 and r.chance(0.3):
        axis -= len(shape)
    x = r.tensor("x", 0, shape)
    return r.finish([x], [I64], **r.maybe(axis=axis, keepdims=r.upto(0, 1),
                                          select_last_index=r.upto(0, 1)))


@generator("Softmax", "LogSoftmax", "Hardmax")
def softmax(r):
    shape = r.shape(1)
    axis = r.upto(0, len(shape) - 1)
    if r.since >= 11 and r.chance(0.3):
        axis -= len(shape)
    x = r.tensor("x", 0, shape)
    if len(shape) == 1 and r.since < 13:
        return r.finish([x], axis=0)
    return r.finish([x], **r.maybe(axis=axis))


@generator("CumSum", "CumProd")
def cumulate(r):
    shape = r.shape(1)
    x = r.tensor("x", 0, shape, low=-2, high=2)
    axis = r.scalar("axis", r.pick([I64, NAMES["int32"]]), r.upto(-len(shape), len(shape) - 1))
    return r.finish([x, axis], **r.maybe(exclusive=r.upto(0, 1), reverse=r.upto(0, 1)))


@generator("TopK")
def top_k(r):
    shape = r.shape(1)
    axis = r.upto(-len(shape), len(shape) - 1) if r.since >= 11 else r.upto(0, len(shape) - 1)
    k = r.upto(0 if r.since >= 10 else 1, max(1, shape[axis]))
    if k > shape[axis]:
        raise Unfit
    dtype = r.dtype(0)
    x = r.tensor("x", 0, shape, dtype=dtype)
    more = r.maybe(largest=r.upto(0, 1), sorted=1)
    if r.since < 10:
        return r.finish([x], [dtype, I64], axis=axis, k=k)
    return r.finish([x, r.ints("k", [k])], [dtype, I64], axis=axis, **more)


# --- products ---


@generator("MatMul")
def matmul(r):
    m, k, n = r.dim(), r.dim(), r.dim()
    batch = r.shape(0, 2)
    a, b = (m, k), (k, n)
    if r.chance(0.15):
        a = (k,)
    elif r.chance(0.15):
        b = (k,)
    a = batch + a if len(a) == 2 else a
    b = (r.broadcast(batch) if r.chance(0.5) else batch) + b if len(b) == 2 else b
    dtype = r.dtype(0)
    return r.finish([r.tensor("a", 0, a, dtype=dtype), r.tensor("b", 1, b, dtype=dtype)])


@generator("Gemm")
def gemm(r):
    m, k, n = r.dim(), r.dim(), r.dim()
    across, down = r.upto(0, 1), r.upto(0, 1)
    dtype = r.dtype(0)
    a = r.tensor("a", 0, (k, m) if across else (m, k), dtype=dtype)
    b = r.tensor("b", 1, (n, k) if down else (k, n), dtype=dtype)
    c = ""
    if r.since < 11 or r.chance(0.7):
        c = r.tensor("c", 2, r.pick([(m, n), (1, n), (n,), (m, 1), (1, 1), (1,), ()]), dtype=dtype)
    return r.finish([a, b, c], transA=across or None, transB=down or None,
                    **r.maybe(alpha=0.5, beta=float(r.upto(0, 2))))


@generator("MatMulInteger")
def matmul_integer(r):
    m, k, n = r.dim(), r.dim(), r.dim()
    batch = r.shape(0, 1)
    a = r.tensor("a", 0, batch + (m, k))
    b = r.tensor("b", 1, batch + (k, n))
    points = ["", ""]
    if r.chance(0.6):
        points[0] = r.tensor("az", 2, (), dtype=r.type_of(a), low=-3, high=3)
    if r.chance(0.6):
        points[1] = r.tensor("bz", 3, r.pick([(), (n,)]) if not batch else (), dtype=r.type_of(b),
                             low=-3, high=3)
    return r.finish([a, b] + points)


def scale(r, name, shape, dtype=F):
    """Powers of two: a product of scales is exact, whatever the order of its factors."""
    return r.add(name, dtype, r.random.choice([0.125, 0.25, 0.5, 1.0], shape)
                 .astype(numpy_type(dtype)), r.chance(0.5))


@generator("QLinearMatMul")
def qlinear_matmul(r):
    m, k, n = r.dim(), r.dim(), r.dim()
    a_type, b_type, y_type = r.dtype(0), r.dtype(3), r.dtype(7)
    kind = F if r.since < 21 else r.pick([F])
    a = r.tensor("a", 0, (m, k), dtype=a_type)
    b = r.tensor("b", 3, (k, n), dtype=b_type)
    return r.finish([a, scale(r, "as", (), kind), r.tensor("az", 2, (), dtype=a_type, low=-3,
                                                           high=3),
                     b, scale(r, "bs", (), kind), r.tensor("bz", 5, (), dtype=b_type, low=-3,
                                                           high=3),
                     scale(r, "ys", (), kind), r.tensor("yz", 7, (), dtype=y_type, low=-3, high=3)])


EQUATIONS = ["ij,jk->ik", "ij->ji", "ii->i", "ii", "i,i", "i,j->ij", "bij,bjk->bik", "...ij->...ji",
             "...ij,...jk->...ik", "ij,j", "ijk->", "bhqd,bhkd->bhqk", "i,i,i->i", "...i->...",
             "ij,kl->ijkl", "a...,a...->...", "iij->ij", "ij->", "... , ...-> ...", "ij, jk",
             "b...i,...i"]


@generator("Einsum")
def einsum(r):
    equation = r.pick(EQUATIONS)
    sizes = {}
    ellipsis = r.shape(0, 2)
    dtype = r.dtype(0)
    names = []
    for i, term in enumerate(equation.split("->")[0].split(",")):
        shape = []
        for letter in term.replace("...", "."):
            if letter == ".":
                shape += ellipsis if i == 0 or r.chance(0.7) else [1] * len(ellipsis)
            elif letter.isalpha():
                shape.append(sizes.setdefault(letter, r.dim()))
        names.append(r.tensor(f"x{i}", 0, tuple(shape), dtype=dtype))
    case = r.finish(names, equation=equation)
    if any(d == 0 for n in names for d in r.shape_of(n)):
        # ONNX Runtime divides by 0 there and takes the process with it.
        arrays = [r.value_of(n).astype(np.float64) for n in names]
        case.expected = [np.einsum(equation, *arrays).astype(numpy_type(dtype))]
    return case


@generator("Det")
def det(r):
    n = r.upto(1, 4)
    return r.finish([r.tensor("x", 0, r.shape(0, 2) + (n, n))])


@generator("QuantizeLinear", "DequantizeLinear")
def quantize(r):
    shape = r.shape(0, 4)
    quantizes = r.op == "QuantizeLinear"
    dtype = r.dtype(0, {F, H, B16} | ({I32} if r.since < 19 else set()) if quantizes else None)
    axis = r.upto(0, len(shape) - 1) if shape and r.since >= 13 else None
    form = r.pick(["tensor", "axis", "block"] if axis is not None else ["tensor"])
    block = None
    scale_shape = ()
    if form == "axis":
        scale_shape = (shape[axis],)
    elif form == "block":
        if "block_size" not in r.schema.attributes:
            raise Unfit
        if 0 in shape:
            raise Unfit  # ONNX Runtime divides by 0 there and takes the process with it
        block = r.upto(1, max(1, shape[axis]))
        scale_shape = tuple(-(-d // block) if i == axis else d for i, d in enumerate(shape))
    x = r.tensor("x", 0, shape, dtype=dtype, low=None if quantizes else -9,
                 high=None if quantizes else 9)
    kind = F
    if quantizes and dtype in (H, B16) and r.since >= 19:
        kind = dtype if r.since < 23 else r.pick([dtype, F])
    if not quantizes and r.since >= 19:
        kind = r.pick([F, H])
    inputs = [x, scale(r, "scale", scale_shape, kind)]
    out = NAMES["uint8"] if quantizes else kind
    more = {}
    if r.chance(0.7):
        if quantizes:
            out = r.dtype(2)
        zero = out if quantizes else dtype
        real = zero not in set(r_int(NAMES))
        array = r.array(zero, scale_shape, 0, 5) if not real else \
            np.zeros(scale_shape, numpy_type(zero))
        if zero == NAMES["int32"]:
            array = np.zeros(scale_shape, np.int32)
        inputs.append(r.add("zero", zero, array, r.chance(0.5)))
    elif "output_dtype" in r.schema.attributes and quantizes and r.chance(0.5):
        out = r.dtype(2)
        more["output_dtype"] = out
    if axis is not None and form != "tensor":
        more["axis"] = axis
    return r.finish(inputs, [out], block_size=block, **more)


def r_int(names):
    return [t for n, t in names.items() if n.startswith(("int", "uint"))]


@generator("DynamicQuantizeLinear")
def dynamic_quantize(r):
    shape = r.shape(0, 3, empty=False)
    return r.finish([r.tensor("x", 0, shape)], [NAMES["uint8"], F, NAMES["uint8"]])
