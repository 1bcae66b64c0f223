# SPDX-License-Identifier: Apache-2.0
"""What the schemas of ONNX Runtime's own domain say of operators on 8 bits: reals, rounded once."""
import numpy as np

from definitions import define, ends


def ms(*names):
    return define(*("com.microsoft." + name for name in names))


def real(g, index):
    """Input `index`, whose scale and zero point follow it."""
    zero = g.real(index + 2)
    return (g.real(index) - (0 if zero is None else zero)) * g.real(index + 1)


def rounded(g, value, index):
    """As 8 bits by the scale and zero point of inputs `index` and `index` + 1."""
    zero = g.real(index + 1)
    whole = np.rint(value / g.real(index)) + (0 if zero is None else zero)
    return [np.clip(whole, *ends(g.out[0]))]


@ms("QLinearAdd")
def qlinear_add(g):
    return rounded(g, real(g, 0) + real(g, 3), 6)


@ms("QLinearMul")
def qlinear_mul(g):
    return rounded(g, real(g, 0) * real(g, 3), 6)


@ms("QLinearSigmoid")
def qlinear_sigmoid(g):
    return rounded(g, 1 / (1 + np.exp(-real(g, 0))), 3)


@ms("QLinearLeakyRelu")
def qlinear_leaky_relu(g):
    x = real(g, 0)
    return rounded(g, np.where(x < 0, g.attr("alpha", 0.01) * x, x), 3)


@ms("QLinearConcat")
def qlinear_concat(g):
    parts = [real(g, i) for i in range(2, len(g.node.input), 3)]
    return rounded(g, np.concatenate(parts, g.attr("axis")), 0)


@ms("QLinearWhere")
def qlinear_where(g):
    return rounded(g, np.where(g.raw(0), real(g, 1), real(g, 4)), 7)


@ms("QLinearGlobalAveragePool")
def qlinear_global_pool(g):
    x = real(g, 0)
    axes = tuple(range(1, x.ndim - 1) if g.attr("channels_last", 0) else range(2, x.ndim))
    return rounded(g, x.mean(axes, keepdims=True), 3)


@ms("QLinearAveragePool")
def qlinear_pool(g):
    x = real(g, 0)
    x = np.moveaxis(x, -1, 1) if g.attr("channels_last", 0) else x
    kernel, strides, pads = g.attr("kernel_shape"), g.attr("strides"), g.attr("pads")
    n = len(kernel)
    around = [(0, 0), (0, 0)] + [(pads[i], pads[i + n]) for i in range(n)]
    padded = np.pad(x, around)
    inside = np.pad(np.ones(x.shape), around, constant_values=g.attr("count_include_pad", 0))
    size = [(padded.shape[i + 2] - kernel[i]) // strides[i] + 1 for i in range(n)]
    y = np.zeros(x.shape[:2] + tuple(size))
    for place in np.ndindex(*size):
        window = tuple(slice(p * s, p * s + k) for p, s, k in zip(place, strides, kernel))
        axes = tuple(range(2, n + 2))
        y[(slice(None),) * 2 + place] = padded[(slice(None),) * 2 + window].sum(axes) / \
            inside[(slice(None),) * 2 + window].sum(axes)
    return rounded(g, np.moveaxis(y, 1, -1) if g.attr("channels_last", 0) else y, 3)


@ms("QLinearSoftmax")
def qlinear_softmax(g):
    x = real(g, 0)
    e = np.exp(x - x.max(g.attr("axis"), keepdims=True))
    return rounded(g, e / e.sum(g.attr("axis"), keepdims=True), 3)


@ms("QGemm")
def qgemm(g):
    a, b = g.real(0) - g.real(2), g.real(3)
    a, b = a.T if g.attr("transA", 0) else a, b.T if g.attr("transB", 0) else b
    sums = a @ (b - g.real(5))
    sums = sums + (0 if g.raw(6) is None else g.real(6))
    value = g.attr("alpha") * g.real(1) * g.real(4) * sums
    return [value] if g.raw(8) is None else rounded(g, value, 7)


def block_weights(g):
    """The weights of MatMulNBits: a row for each output, and a scale and zero point for each of its
    blocks."""
    bits, size, k = g.attr("bits"), g.attr("block_size"), g.attr("K")
    packed, places = g.raw(1), np.arange(0, 8, bits)
    numbers = (packed[..., None] >> places & (1 << bits) - 1).reshape(len(packed), -1, size)
    zeros = 1 << bits - 1
    if g.raw(3) is not None:
        rows = g.raw(3).reshape(len(packed), -1)
        zeros = (rows[..., None] >> places & (1 << bits) - 1).reshape(len(packed), -1)
        zeros = zeros[:, :numbers.shape[1], None].astype(np.float64)
    scales = g.real(2).reshape(*numbers.shape[:2], 1)
    return ((numbers - zeros) * scales).reshape(len(packed), -1)[:, :k]


@ms("MatMulNBits")
def matmul_nbits(g):
    return [g.real(0) @ block_weights(g).T]
